"""Lock a folder of results, so that only one coordinator writes to it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xscan.errors import StoreError
from xscan.io.atomic import sync_folder

__all__ = ["locked", "read_lock"]

log = logging.getLogger(__name__)

_NAME = "_lock"
_LONGEST = 300  # bytes: a pid and a host name
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_CLAIM = re.compile(r"_lock-(\d+)-(\d+)-(.+)")  # process, when it started, host


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder for this process.

    The operating system releases the lock of a process that dies, so a stale lock of this host is simply taken over.
    Not every file system shares locks between hosts, so if the lock file names a process on another host, that process
    is assumed to be alive. On a file system without locks, a file named after the process replaces the lock.

    Raises
    ------
    StoreError
        If another process has the lock, or one on another host may have it.

    Examples
    --------
    A second writer of the same folder is refused:

    >>> with locked(scratch), locked(scratch):
    ...     print("never")
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: ...: another xscan (process ...) writes here; wait for it, ...
    """
    path = folder / _NAME
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    claim: Path | None = None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(folder, _holder(handle)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            claim = _claimed(folder)
            log.warning("%s: no locks on this file system (%s); %s stands for one", folder, error.strerror, claim.name)
        host = socket.gethostname()
        before = _holder(handle)
        if before and not before.endswith(f" on {host}"):
            raise StoreError(
                f"{folder}: another xscan ({before}) may be writing here, this is {host}; if it no longer runs, "
                f"remove {path}"
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {host}".encode(), 0)
        os.fsync(handle)  # so that other hosts see it
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        if claim is not None:
            claim.unlink(missing_ok=True)
        os.close(handle)


def read_lock(folder: Path) -> str:
    """Return which process has locked the folder, and on which host; empty if none.

    A process that was killed leaves its name.

    Examples
    --------
    >>> with locked(scratch):
    ...     read_lock(scratch) == f"process {os.getpid()} on {socket.gethostname()}"
    True
    >>> read_lock(scratch)
    ''
    """
    path = folder / _NAME
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""


def _holder(handle: int) -> str:
    return os.pread(handle, _LONGEST, 0).decode(errors="replace").strip()


def _held(folder: Path, holder: str) -> StoreError:
    return StoreError(
        f"{folder}: another xscan ({holder or 'just starting'}) writes here; wait for it, stop it, or choose another "
        f"--out"
    )


def _claimed(folder: Path) -> Path:
    """Create a file named after this process to claim the folder, and check that no other process has one.

    Each claimant looks for other claims after making its own: of two at the same time at least one sees the other
    and gives way. The claim of a process of this host that no longer runs is removed; its name can never be reused,
    because it contains the start time of the process.

    Raises
    ------
    StoreError
        If another process claims the folder.
    """
    host = socket.gethostname()
    mine = folder / f"_lock-{os.getpid()}-{_started(os.getpid())}-{host}"
    mine.touch()
    try:
        handle = os.open(mine, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(folder)
        for other in folder.glob(f"{_NAME}-*"):
            match = _CLAIM.fullmatch(other.name)
            if match is None or other == mine:
                continue
            pid, started, place = int(match[1]), int(match[2]), match[3]
            if place != host:
                raise StoreError(
                    f"{folder}: another xscan (process {pid} on {place}) may be writing here, this is {host}; if it no "
                    f"longer runs, remove {other} and {folder / _NAME}"
                )
            if _runs(pid, started):
                raise _held(folder, f"process {pid} on {place}")
            other.unlink(missing_ok=True)
    except BaseException:
        mine.unlink(missing_ok=True)
        raise
    return mine


def _started(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 if that is unknown, -1 if it does not exist."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return -1 if Path("/proc/self/stat").exists() else 0
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])  # after the process name, which may contain anything


def _runs(pid: int, started: int) -> bool:
    """Return whether the process with this start time still runs; its number alone may belong to another one by now."""
    now = _started(pid)
    if now != 0:
        return now == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
