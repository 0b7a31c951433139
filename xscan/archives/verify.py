"""Check that a FITS file is complete."""

from __future__ import annotations

from pathlib import Path

from xscan.errors import DataError, Reason
from xscan.io.fits import stream_tables

__all__ = ["check_fits"]


def check_fits(path: Path) -> None:
    """Read a file to its end, checking the gzip checksum, every header, and the length of every table.

    Memory use is small, whatever the file's size.

    Raises
    ------
    DataError
        ``unreadable``; the message says what is wrong.
    """
    n_extensions = sum(1 for _ in stream_tables(path)) - 1
    if n_extensions < 1:
        raise DataError(Reason.UNREADABLE, f"{path.name}: holds no table, only a primary header")
