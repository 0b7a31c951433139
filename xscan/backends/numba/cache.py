"""Find a folder for compiled code where Numba's own cannot be written."""

from __future__ import annotations

import importlib
import os
import stat
import tempfile
from pathlib import Path
from types import ModuleType

__all__ = ["SPARE", "can_be_written", "load_numba", "spare_cache"]

SPARE = "xscan-{library}-"
"""Beginning of the name of a spare folder."""


def can_be_written(folder: Path) -> bool:
    """Return whether files can be put into a folder, or the folder can be made."""
    # os.path.exists: a path that may not be examined counts as absent
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path())
    return os.access(there, os.W_OK)


def spare_cache(library: str) -> Path:
    """Return a folder for a library's compiled code, shared by all processes of this user; nobody else writes to it."""
    begins = SPARE.format(library=library)
    folder = Path(tempfile.gettempdir(), f"{begins}{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    held = folder.lstat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.getuid() or held.st_mode & 0o022:
        return Path(tempfile.mkdtemp(prefix=begins))  # the folder belongs to another user
    return folder


def load_numba() -> ModuleType:
    """Import :mod:`xscan.backends.numba.counts`.

    Numba refuses to compile if it can store code neither beside the source nor in the home folder. Then it is given a
    folder of this user, and so are the processes that this one starts.
    """
    name = "xscan.backends.numba.counts"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
    numba = importlib.import_module("numba")
    os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(spare_cache("numba"))
    return importlib.import_module(name)
