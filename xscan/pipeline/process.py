"""The memory of a process: how much it has taken at most, and how it keeps what it will need again."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

__all__ = ["ARROW", "HEAP", "one_heap", "peak_bytes"]

HEAP = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 128 << 20}
"""What glibc's malloc reads from the environment of a process that is to have :func:`one_heap`; bytes, numbers.

No array is mapped by itself (MMAP_MAX 0). Else glibc maps those above 32 MiB, which arrays of more than 2.1 million
events are, and no threshold can be set higher: the system hands out each of their pages anew, and cleared, in every
observation. Merging 2.4 million events took 219 ms in place of 58.
"""

ARROW = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""What Arrow reads when it is loaded: it takes memory from that heap too.

Its own allocator gives all back after each observation, and what the search has freed is of no use to it.
"""

_PARAMETERS = {"MALLOC_ARENA_MAX": -8, "MALLOC_MMAP_MAX_": -4, "MALLOC_TRIM_THRESHOLD_": -1}  # malloc.h


def peak_bytes(pid: int) -> int | None:
    """Return the peak resident memory of a process, bytes; None if the system does not say.

    Linux says it in VmHWM. Its ru_maxrss would not do: a child starts with its parent's. Other
    systems only tell a process of itself.
    """
    status = Path(f"/proc/{pid}/status")
    try:
        line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # no such file, or a process that has just ended
        return _own_bytes() if pid == os.getpid() else None
    return int(line.split()[1]) * 1024


def one_heap() -> bool:
    """Have one heap for all threads of this process, which keeps what is freed; tell whether the C library can.

    One observation is like the next. Where memory goes back to the system in between, each page of it must be
    fetched and cleared again; where each thread has a heap of its own, one cannot use what the other keeps.
    To be called before Arrow, and the libraries that make threads, are imported.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library than glibc
        return False
    os.environ.update(ARROW)
    return all(mallopt(_PARAMETERS[name], value) for name, value in HEAP.items())


def _own_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
