"""One coordinator per folder."""

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
    """Hold the folder for this process.

    The operating system drops the lock of a process that dies, so that a stale one on this host is
    simply taken over. Not every file system tells other hosts of it: what the file says of another
    host is believed. On a file system that has no such locks, files that name processes stand for them.

    Raises
    ------
    StoreError
        If another process holds it, or one on another host may.
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
        os.fsync(handle)  # for those on other hosts
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        if claim is not None:
            claim.unlink(missing_ok=True)
        os.close(handle)


def read_lock(folder: Path) -> str:
    """Return which process holds the folder, and on which host; one that was killed leaves its name. Empty if none."""
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
    """Claim a folder with a file whose name is this process's alone, and see that there is no other claim.

    Whoever claims looks at the others afterwards: of two at once at least one sees the other and gives way. A claim
    of a process of this host that is gone is removed, and nobody ever makes it again.

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
    """Say when a process started, in ticks since the machine did; 0 if nobody can say, -1 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return -1 if Path("/proc/self/stat").exists() else 0
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])  # behind the name, which may hold anything


def _runs(pid: int, started: int) -> bool:
    """Return whether a process that started then is there: its number may be another's by now."""
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
