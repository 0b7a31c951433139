"""Make a release on a Slurm cluster: workers are jobs that dask-jobqueue submits, this is the coordinator.

    sbatch scripts/schedules/xscan.slurm          or, on a login node,
    python scripts/schedules/slurm_reprocess.py --jobs 20 --memory 4GB --walltime 12:00:00

Needs dask-jobqueue (pip install dask-jobqueue) and the folders of reprocess.sh on a file system that all
nodes see. A worker that Slurm takes away costs nothing but what it was searching, and is replaced.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster

REPROCESS = Path(__file__).with_name("reprocess.sh")


def main() -> int:
    """Start a cluster, make the release on it, and give its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20, help="workers, each a Slurm job of one core (20)")
    parser.add_argument("--memory", default="4GB", help="of a worker (4GB)")
    parser.add_argument("--walltime", default="12:00:00", help="of a job; ended ones are replaced (12:00:00)")
    parser.add_argument("--partition", help="of Slurm")
    parser.add_argument("--account", help="of Slurm")
    parser.add_argument("--gpu", action="store_true", help="a GPU for every worker")
    parser.add_argument("--interface", help="network interface that the nodes share, as ib0")
    chosen = parser.parse_args()
    with SLURMCluster(
        job_name="xscan",
        cores=1,
        processes=1,
        memory=chosen.memory,
        walltime=chosen.walltime,
        queue=chosen.partition,
        account=chosen.account,
        interface=chosen.interface,
        job_extra_directives=["--gres=gpu:1"] if chosen.gpu else [],
        # one observation is searched while the next is read
        worker_extra_args=["--nthreads", "2", "--no-dashboard"],
    ) as cluster:
        cluster.adapt(minimum_jobs=chosen.jobs, maximum_jobs=chosen.jobs)  # replaces those that end
        options = f"{os.environ.get('XSCAN_OPTIONS', '')} --scheduler {cluster.scheduler_address}"
        with subprocess.Popen(["bash", REPROCESS], env=os.environ | {"XSCAN_OPTIONS": options}) as reprocess:
            # told to stop, it stops what it started, and workers last; a terminal tells both of SIGINT
            signal.signal(signal.SIGTERM, lambda number, _: reprocess.send_signal(number))
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return reprocess.wait()


if __name__ == "__main__":
    sys.exit(main())
