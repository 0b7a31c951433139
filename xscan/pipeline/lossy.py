"""A log that is lost where it cannot be written, rather than the run."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["lossy_stderr"]


class _Lossy(io.FileIO):
    def write(self, data: Any) -> int:
        """Write what can be written: the disk may be full, or nobody read any more."""
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written  # None: nobody reads at the moment


@contextmanager
def lossy_stderr() -> Iterator[None]:
    """Have nothing fail in this block for what it says on standard error.

    Python keeps what could not be written and tries again, so that later a process would not start, or
    the exit code be another.
    """
    before = sys.stderr
    try:
        raw = _Lossy(before.fileno(), "w", closefd=False)
    except (AttributeError, OSError, ValueError):  # none, or no file
        yield
        return
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), before.encoding, "backslashreplace", line_buffering=True, write_through=True
    )
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
