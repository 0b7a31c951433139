"""Files that are whole or absent, wherever the power fails."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xscan.errors import StoreError

__all__ = ["named_trouble", "remove_temporaries", "sync_folder", "write_whole"]

_TEMPORARY = ".tmp-"


def write_whole(path: Path, content: Any) -> None:
    """Write a file so that its name never stands for less than all of it.

    Its name may be lost with the power until :func:`sync_folder`; what it names is on disk.

    Parameters
    ----------
    path : Path
        Replaced if it is there.
    content : bytes or other buffer
    """
    handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporaries(folder: Path) -> None:
    """Remove what writers that died left half-written in a folder."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


@contextmanager
def named_trouble(folder: Path) -> Iterator[None]:
    """Turn trouble with the disk into one line: what, where, what next."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise StoreError(
            f"{where}: cannot write results here: {error.strerror or error}; mend that and run the same command "
            f"again (what is finished is kept), or choose another --out"
        ) from None
