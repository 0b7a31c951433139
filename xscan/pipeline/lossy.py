"""Keep a run going where its log cannot be written."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["lossy_stderr"]


class _Lossy(io.FileIO):
    def write(self, data: Any) -> int:
        """Write what can be written, and drop the rest: the disk may be full, or the reader of a pipe gone."""
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written  # None: the reader accepts nothing at the moment


@contextmanager
def lossy_stderr() -> Iterator[None]:
    """Ignore failures to write to standard error in this block.

    Without this, Python keeps what could not be written and tries again later, so that a process might not start, or
    end with a wrong exit code.
    """
    before = sys.stderr
    try:
        raw = _Lossy(before.fileno(), "w", closefd=False)
    except (AttributeError, OSError, ValueError):  # standard error is missing, or not a file
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
