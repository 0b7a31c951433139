"""One coordinator per folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xscan.errors import StoreError

__all__ = ["locked", "read_lock"]

_NAME = "_lock"
_LONGEST = 300  # bytes: a pid and a host name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process.

    The operating system drops the lock of a process that dies, so that a stale one on this host is
    simply taken over. Not every file system tells other hosts of it: what the file says of another
    host is believed.

    Raises
    ------
    StoreError
        If another process holds it, or one on another host may.
    """
    path = folder / _NAME
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{folder}: another xscan ({_holder(handle) or 'just starting'}) writes here; wait for it, stop it, "
                f"or choose another --out"
            ) from None
        host = socket.gethostname()
        before = _holder(handle)
        if before and not before.endswith(f" on {host}"):
            raise StoreError(
                f"{folder}: another xscan ({before}) may be writing here, this is {host}; if it no longer runs, "
                f"remove {path}"
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {host}".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def read_lock(folder: Path) -> str:
    """Say which process holds the folder, and on which host; empty if none does."""
    path = folder / _NAME
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""


def _holder(handle: int) -> str:
    return os.pread(handle, _LONGEST, 0).decode(errors="replace").strip()
