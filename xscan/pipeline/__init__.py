"""Search many observations: in this process, in worker processes, or on a cluster.

Contract: a run can be stopped at any moment and continued by the same command; one observation's trouble is stored as
its outcome and never stops the others; only what would fail for every observation (disk, GPU, open files) ends a run.
Only ``dask_cluster`` and ``dask_pool`` import Dask. ``api``, ``bench`` and ``cli`` may import this package.
"""
