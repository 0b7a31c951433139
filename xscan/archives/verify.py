"""Tell a whole FITS file from one that is not."""

from __future__ import annotations

from pathlib import Path

from xscan.errors import DataError, Reason
from xscan.io.fits import stream_tables

__all__ = ["check_fits"]


def check_fits(path: Path) -> None:
    """Read a file to its end: gzip checksum, every header, the length of every table.

    Takes little memory, whatever its size.

    Raises
    ------
    DataError
        ``unreadable``: what is wrong with it.
    """
    n_extensions = sum(1 for _ in stream_tables(path)) - 1
    if n_extensions < 1:
        raise DataError(Reason.UNREADABLE, f"{path.name}: holds no table, only a primary header")
