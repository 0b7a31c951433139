"""Write files so that they are complete or absent, even if the power fails."""

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
    """Write a file so that no reader ever sees part of it under its name.

    The content is on disk when this returns; the name is safe from a loss of power only after :func:`sync_folder`.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    content : bytes or other buffer

    Examples
    --------
    >>> write_whole(scratch / "note.txt", b"first")
    >>> write_whole(scratch / "note.txt", b"second")
    >>> {path.name: path.read_bytes() for path in scratch.iterdir()}
    {'note.txt': b'second'}
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
    """Write the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporaries(folder: Path) -> None:
    """Remove half-written files that interrupted writers left in a folder.

    Examples
    --------
    >>> (scratch / ".tmp-k3x9").touch()
    >>> (scratch / "note.txt").touch()
    >>> remove_temporaries(scratch)
    >>> [path.name for path in scratch.iterdir()]
    ['note.txt']
    """
    for path in folder.glob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


@contextmanager
def named_trouble(folder: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError of one line: what happened, where, and what to do next.

    Examples
    --------
    >>> with named_trouble(Path("results")):
    ...     raise OSError(28, "No space left on device", "results/runs")
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: results/runs: cannot write results here: No space left on device; mend that and ...
    """
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise StoreError(
            f"{where}: cannot write results here: {error.strerror or error}; mend that and run the same command "
            f"again (what is finished is kept), or choose another --out"
        ) from None
