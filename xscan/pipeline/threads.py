"""Threads that libraries start unasked."""

from __future__ import annotations

import os

__all__ = ["ONE_THREAD", "one_thread"]

ONE_THREAD = {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1}
"""What libraries of linear algebra read from the environment of a process in which they are to start no threads."""


def one_thread() -> None:
    """Have libraries of linear algebra start no threads in this process, unless the environment says otherwise.

    A search has nothing for them to do: they would only be started, one for each core, and wait.
    To be called before numpy is imported.
    """
    for name, number in ONE_THREAD.items():
        os.environ.setdefault(name, str(number))
