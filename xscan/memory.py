"""How much memory a process has taken at most."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

__all__ = ["peak_bytes"]


def peak_bytes(pid: int) -> int | None:
    """Give the peak resident memory of a process, bytes; None if the system does not say.

    Linux says it in VmHWM. Its ru_maxrss would not do: a child starts with its parent's. Other
    systems only tell a process of itself.
    """
    status = Path(f"/proc/{pid}/status")
    try:
        line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # no such file, or a process that has just ended
        return _own_bytes() if pid == os.getpid() else None
    return int(line.split()[1]) * 1024


def _own_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
