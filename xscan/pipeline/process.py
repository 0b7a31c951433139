"""Measure the memory of a process, and make it keep memory that it will need again."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

__all__ = ["ARROW", "HEAP", "one_heap", "peak_bytes"]

HEAP = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 128 << 20}
"""Environment variables of glibc's malloc with which a process starts as :func:`one_heap` would set it; numbers, bytes.

Nothing is mapped separately (MMAP_MAX 0). Otherwise glibc maps arrays above 32 MiB, which those of more than 2.1
million events are, and no threshold can be set higher: for every observation the system would provide and clear each
of their pages again.
"""

ARROW = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Environment variable, read when Arrow is loaded, that makes Arrow use this heap too.

Arrow's own allocator returns all memory after each observation, and cannot use what the search has freed.
"""

_PARAMETERS = {"MALLOC_ARENA_MAX": -8, "MALLOC_MMAP_MAX_": -4, "MALLOC_TRIM_THRESHOLD_": -1}  # malloc.h


def peak_bytes(pid: int) -> int | None:
    """Return the peak resident memory of a process, bytes; None if the system does not say.

    On Linux it is VmHWM. ru_maxrss is not used there, because a child's value starts with its parent's. Other
    systems report it only for the own process.

    Examples
    --------
    This process has used more than an array that it has filled; one that does not exist, nothing:

    >>> filled = bytes(8 << 20)
    >>> peak_bytes(os.getpid()) > len(filled), peak_bytes(-1)
    (True, None)
    """
    status = Path(f"/proc/{pid}/status")
    try:
        line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # no such file, or the process has just ended
        return _own_bytes() if pid == os.getpid() else None
    return int(line.split()[1]) * 1024


def one_heap() -> bool:
    """Use one heap for all threads of this process, which keeps freed memory; return whether the C library can.

    Each observation needs about as much memory as the one before. If memory is returned to the system in between,
    each page must be provided and cleared again; if each thread has its own heap, it cannot use what another keeps.
    Must be called before Arrow, and libraries that start threads, are imported.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # a C library other than glibc
        return False
    os.environ.update(ARROW)
    return all(mallopt(_PARAMETERS[name], value) for name, value in HEAP.items())


def _own_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
