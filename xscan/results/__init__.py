"""Store result tables on disk, complete and consistent at every moment.

``DIR/staging/<obsid>.arrow`` holds the tables of one finished observation, written by the process that searched it.
One coordinator moves them into Parquet files of some hundred observations (``DIR/<table>/part-<digest>.parquet``)
and lists the valid ones in ``DIR/_manifest.json``. ``DIR/_xscan.json`` holds the configuration of the results
(docs/operations.md).

Contract: a process killed at any moment loses no finished observation, and readers see either the state before a
change or the state after it. Only :class:`~xscan.results.writer.ResultsWriter` changes the tables of a folder;
any worker may stage an observation. ``report``, ``pipeline``, ``api``, ``bench`` and ``cli`` may import it.
"""
