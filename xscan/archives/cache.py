"""Keep the folder of fetched observations below a size limit."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xscan.archives.fetch import WORK
from xscan.archives.marker import MARKER, Marker, read_marker

__all__ = ["make_room", "size_on_disk"]

_OBSID = re.compile(r"\d{10}", re.A)
_EVICTED = ".evicted"


@dataclass(frozen=True, slots=True)
class _Held:
    """An observation that was fetched by xscan, and may be deleted."""

    folder: Path
    marker: Marker
    bytes: int


def size_on_disk(data: Path) -> int:
    """Return the total size of all files under a folder, bytes; a link counts its own size, not its target's.

    Examples
    --------
    >>> (scratch / "0990000001").mkdir()
    >>> n = (scratch / "0990000001" / "list.FTZ").write_bytes(bytes(2880))
    >>> size_on_disk(scratch)
    2880
    """
    total = 0
    for where, _, names in os.walk(data):
        for name in names:
            with suppress(FileNotFoundError):  # a file being fetched may be renamed at any moment
                total += (Path(where) / name).lstat().st_size
    return total


def make_room(data: Path, limit_bytes: int, done: Collection[str]) -> list[str]:
    """Delete fetched observations that are no longer needed, the oldest first, until a limit holds.

    Only folders are deleted that xscan fetched and to which nobody has added: those with a marker and exactly the files
    that it names. A folder is renamed first, so that what is left of it after a crash is not taken for an
    observation.

    Parameters
    ----------
    data : Path
        Folder of observations.
    limit_bytes : int
        For all files in the folder, bytes, including others.
    done : collection of str
        Observations that may be deleted; all others are in use.

    Returns
    -------
    list of str
        The observations deleted, in order. The limit may still be exceeded by observations in use, and by files
        that xscan did not fetch.

    Examples
    --------
    Of two fetched observations the one that is searched is deleted, to hold the folder below 3000 bytes:

    >>> from xscan.archives.marker import write_marker
    >>> from xscan.archives.offer import SavedFile
    >>> for obsid in ("0990000001", "0990000002"):
    ...     (scratch / obsid).mkdir()
    ...     taken = {"pn": (SavedFile("list.FTZ", (scratch / obsid / "list.FTZ").write_bytes(bytes(2500))),)}
    ...     write_marker(scratch / obsid, Marker(obsid, "nxsa", "https://nxsa.org", complete=True, taken=taken))
    >>> make_room(scratch, 3000, done=["0990000001"])
    ['0990000001']
    """
    _finish_deleting(data)
    total = size_on_disk(data)
    deleted = []
    candidates = sorted(_held(data, done), key=lambda held: (held.marker.date_utc, held.marker.obsid))
    for held in candidates:
        if total <= limit_bytes:
            break
        gone = data / WORK / f"{held.marker.obsid}{_EVICTED}"
        gone.parent.mkdir(exist_ok=True)
        os.rename(held.folder, gone)
        shutil.rmtree(gone)
        total -= held.bytes
        deleted.append(held.marker.obsid)
    return deleted


def _held(data: Path, done: Collection[str]) -> Iterator[_Held]:
    for obsid in done:
        folder = data / obsid
        marker = read_marker(folder) if _OBSID.fullmatch(obsid) and not folder.is_symlink() else None
        if marker is None or not marker.complete or marker.obsid != obsid:
            continue
        if {path.name for path in folder.iterdir()} == {MARKER, *(file.name for file in marker.files)}:
            yield _Held(folder, marker, size_on_disk(folder))


def _finish_deleting(data: Path) -> None:
    for gone in (data / WORK).glob(f"*{_EVICTED}"):
        shutil.rmtree(gone)
