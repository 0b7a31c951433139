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

    Examples
    --------
    A whole file, and the first half of it:

    >>> whole = next(folder.glob("*OBSMLI*"))
    >>> check_fits(whole)
    >>> half = scratch / "half.FTZ"
    >>> n = half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    >>> check_fits(half)
    Traceback (most recent call last):
    ...
    xscan.errors.DataError: half.FTZ: the gzip stream is cut short; copy it again, or fetch it again
    """
    n_extensions = sum(1 for _ in stream_tables(path)) - 1
    if n_extensions < 1:
        raise DataError(Reason.UNREADABLE, f"{path.name}: holds no table, only a primary header")
