"""Keep libraries from starting threads that a search does not need."""

from __future__ import annotations

import os

__all__ = ["ONE_THREAD", "one_thread"]

ONE_THREAD = {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1}
"""Environment variables with which libraries of linear algebra start no threads in a process."""


def one_thread() -> None:
    """Make libraries of linear algebra start no threads in this process, unless the environment already says otherwise.

    A search has no work for these threads: one for each core would be started, only to wait.
    Must be called before numpy is imported.
    """
    for name, number in ONE_THREAD.items():
        os.environ.setdefault(name, str(number))
