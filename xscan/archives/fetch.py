"""Fetch one observation from an archive into its folder, completely or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from xscan.archives.answer import CancelledError
from xscan.archives.marker import MARKER, Marker, are_in, read_marker, write_marker
from xscan.archives.offer import Offer, SavedFile
from xscan.archives.partial import is_partial
from xscan.errors import ArchiveError, ConfigError, Reason, is_shortage
from xscan.io.atomic import remove_temporaries, sync_folder
from xscan.missions.xmm.products import PRODUCTS, product_of

if TYPE_CHECKING:
    from xscan.archives import Archive

__all__ = ["JOURNAL", "WORK", "Fetched", "Fetcher"]

log = logging.getLogger(__name__)

WORK = "_fetching"
"""Folder, beside those of the observations, of observations that are not complete yet."""

JOURNAL = "_fetch.jsonl"
"""File, beside the observations, with one line for each attempt to fetch an observation."""

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}

_NOTHING = {
    Reason.NO_PRODUCTS: ("absent", "has no EPIC imaging event list of it"),
    Reason.NOT_PUBLIC: ("failed", "keeps it for its owner"),
    Reason.NO_SUCH_OBSERVATION: ("failed", "does not know it"),
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of fetching one observation.

    Attributes
    ----------
    obsid : str
    state : str
        ``fetched`` now, ``present`` before, ``absent`` (the archive has no event list of it) or ``failed``.
    folder : Path or None
        Where its files are; None unless fetched or present.
    reason : Reason or None
        Why there is no folder.
    message : str
        A sentence on that reason, or a remark on the files.
    n_files, n_bytes : int
        Of the files that were fetched, now or before.
    seconds : float
        Duration, s.
    """

    obsid: str
    state: str
    folder: Path | None = None
    reason: Reason | None = None
    message: str = ""
    n_files: int = 0
    n_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches observations from one archive into one folder; threads may share it.

    Attributes
    ----------
    archive : Archive
    data : Path
        Folder in which each observation gets a folder.
    refresh : bool
        Ask for observations that were fetched before whether the archive has changed them.
    """

    archive: Archive
    data: Path
    refresh: bool = False

    def fetch(self, obsid: str) -> Fetched:
        """Fetch an observation, unless it is on disk.

        ``<data>/<obsid>`` appears by one renaming, when all its files are verified and on disk. Until
        then they are collected in ``<data>/_fetching/<obsid>``, where the next attempt continues. Files that
        were not fetched by xscan are left as they are.

        Parameters
        ----------
        obsid : str
            Ten digits.

        Returns
        -------
        Fetched
            Also for an observation that cannot be fetched. Requests to the archive are recorded in the journal too.

        Raises
        ------
        ArchiveError
            ``disk``: nothing more can be written.
        ConfigError
            If the archive cannot be used at all.
        CancelledError
            If the run was asked to stop.
        """
        started = time.perf_counter()
        try:
            outcome = self._present(obsid)
            if outcome is None or (self.refresh and read_marker(self.data / obsid) is not None):
                outcome = self._bring(obsid)
        except ArchiveError as error:
            outcome = Fetched(obsid, "failed", None, error.reason, str(error))
        except OSError as error:
            outcome = self._in_the_way(obsid, error)
        except (CancelledError, ConfigError):
            raise
        except Exception as error:  # one observation's error must not stop the others
            log.exception("%s: unforeseen error", obsid)
            outcome = Fetched(obsid, "failed", None, Reason.ERROR, f"{obsid}: {type(error).__name__}: {error}")
        outcome = replace(outcome, seconds=time.perf_counter() - started)
        if outcome.state != "present":
            self._record(outcome)
        return outcome

    def here(self, obsid: str) -> Fetched | None:
        """Return an observation that is on disk; None if :meth:`fetch` would have to fetch or report anything."""
        try:
            found = self._present(obsid)
        except OSError:
            return None
        return found if found is not None and found.state == "present" else None

    def _in_the_way(self, obsid: str, error: OSError) -> Fetched:
        """Return the failure if the observation's own folder is in the way; raise if any other would fail too."""
        what = error.strerror or str(error)
        where = str(error.filename or "")
        own = where.startswith(str(self.data / obsid))
        own |= where == str(work := self.data / WORK / obsid) and os.path.lexists(work) and not work.is_dir()
        if not own or error.errno in _DISK_TROUBLE or is_shortage(error):
            raise ArchiveError(
                Reason.DISK,
                f"{obsid}: {error.filename or self.data}: cannot be written: {what}; make room, or give another "
                f"--data; the same command goes on from there",
            ) from None
        return Fetched(obsid, "failed", None, Reason.NO_FOLDER, f"{where}: {what}; move it away, or mend that")

    def _present(self, obsid: str) -> Fetched | None:
        """Return what is on disk already; None if the observation has to be fetched."""
        folder = self.data / obsid
        if not folder.is_dir() and os.path.lexists(folder):
            what = "is a file" if folder.exists() else "is a link that leads nowhere"
            return Fetched(obsid, "failed", None, Reason.NO_FOLDER, f"{folder}: {what}; move it away")
        marker = read_marker(folder)
        if marker is not None and marker.obsid == obsid:
            if marker.holds(folder):
                return _here(folder, marker, "present")
            return _behind_link(folder, obsid) if folder.is_symlink() else None
        if not folder.exists():
            return None
        if not any(folder.iterdir()):
            return _behind_link(folder, obsid) if folder.is_symlink() else None
        places = [place for place in (folder, folder / "pps") if place.is_dir()]
        kinds = [product_of(path.name, obsid) for place in places for path in place.iterdir()]
        if any(kind is not None and kind.is_event_list for kind in kinds):
            return Fetched(obsid, "present", folder, message="files of your own: taken as they are")
        return Fetched(
            obsid,
            "failed",
            None,
            Reason.NO_EVENT_LISTS,
            f"{folder}: holds files that xscan did not fetch, and no event list; move it away, or give another --data",
        )

    def _bring(self, obsid: str) -> Fetched:
        work = self.data / WORK / obsid
        work.mkdir(parents=True, exist_ok=True)
        with _locked(work, obsid):
            here = self._present(obsid)
            if here and not self.refresh:  # fetched by another process a moment ago
                shutil.rmtree(work)
                return here
            marker, anything = self._take_all(obsid, work)
            before = read_marker(self.data / obsid)
            if here and before and not anything and marker.absent == before.absent:
                shutil.rmtree(work)
                return here
            if any(product.key not in marker.absent for product in PRODUCTS if product.is_event_list):
                return self._publish(work, marker)
            reason = self.archive.why_nothing(obsid)
            shutil.rmtree(work)
        state, what = _NOTHING[reason]
        return Fetched(obsid, state, None, reason, f"{obsid}: the archive {self.archive.where} {what}")

    def _take_all(self, obsid: str, work: Path) -> tuple[Marker, bool]:
        """Take the offered files that are not on disk yet; record each in the marker when it has been taken.

        Return the marker, and whether any file is not in the observation's folder yet.
        """
        anything = False
        marker = Marker(obsid, self.archive.name, self.archive.where)
        before = self._noted(work) or marker
        published = self._noted(self.data / obsid) or marker
        marker = replace(marker, remarks=before.remarks)
        have = set()
        for offer in self.archive.offers(obsid):
            files = before.taken.get(offer.key, ())
            if files and are_in(work, files):
                anything = True  # from an earlier attempt
            else:
                files = self._still(offer, published.taken.get(offer.key, ()), work)
            if not files:
                delivery = self.archive.take(offer, work)
                files = delivery.files
                anything |= bool(files)
                marker = replace(marker, remarks=tuple(dict.fromkeys((*marker.remarks, *delivery.remarks))))
            marker = replace(marker, taken={**marker.taken, offer.key: files})
            write_marker(work, marker)
            have |= {offer.product.key} if files else set()
        return replace(marker, absent=tuple(product.key for product in PRODUCTS if product.key not in have)), anything

    def _noted(self, folder: Path) -> Marker | None:
        """Read the marker in a folder; None if it is of another archive."""
        marker = read_marker(folder)
        return marker if marker and (marker.archive, marker.where) == (self.archive.name, self.archive.where) else None

    def _still(self, offer: Offer, files: tuple[SavedFile, ...], work: Path) -> tuple[SavedFile, ...]:
        """Link files from the observation's folder if the archive still offers the same; return the files linked."""
        folder = self.data / offer.obsid
        if not files or not are_in(folder, files) or not self.archive.unchanged(offer, files):
            return ()
        for file in files:
            (work / file.name).unlink(missing_ok=True)
            os.link(folder / file.name, work / file.name, follow_symlinks=False)
        return files

    def _publish(self, work: Path, marker: Marker) -> Fetched:
        """Rename a complete folder to its final name."""
        marker = replace(marker, complete=True, date_utc=datetime.now(UTC).isoformat(timespec="seconds"))
        names = {file.name for file in marker.files}
        for path in work.iterdir():
            superseded = product_of(path.name, marker.obsid) and path.name not in names
            if superseded or is_partial(path):  # files that the archive has renamed since
                path.unlink()
        remove_temporaries(work)
        folder = self.data / marker.obsid
        replaced = work.with_name(f"{marker.obsid}.replaced")
        if read_marker(folder):  # fetched by xscan, with a file missing or changed
            os.rename(folder, replaced)
        if old := read_marker(replaced):  # it may remain from a crash
            _move_other_files(replaced, work, old)
        write_marker(work, marker)
        sync_folder(work)
        os.rename(work, folder)
        sync_folder(self.data)
        shutil.rmtree(replaced, ignore_errors=True)
        return _here(folder, marker, "fetched")

    def _record(self, outcome: Fetched) -> None:
        """Append a line to the journal, in one call, because threads and processes may do so at the same time."""
        facts = {
            "date_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "obsid": outcome.obsid,
            "state": outcome.state,
            "reason": outcome.reason,
            "message": outcome.message,
            "source": self.archive.name,
            "files": outcome.n_files,
            "bytes": outcome.n_bytes,
            "seconds": round(outcome.seconds, 3),
        }
        try:
            with (self.data / JOURNAL).open("ab", buffering=0) as stream:
                stream.write(json.dumps(facts).encode() + b"\n")
        except OSError as error:  # the files and their marker are on disk anyway
            log.warning("%s: cannot be written: %s", self.data / JOURNAL, error.strerror)


def _here(folder: Path, marker: Marker, state: str) -> Fetched:
    absent = f"the archive has no {', '.join(marker.absent)}" if marker.absent else ""
    message = "; ".join(filter(None, [absent, *marker.remarks]))
    n_bytes = sum(file.bytes for file in marker.files)
    return Fetched(marker.obsid, state, folder, None, message, len(marker.files), n_bytes)


def _behind_link(folder: Path, obsid: str) -> Fetched:
    """Return the failure where a link is in the place of a folder, which cannot be replaced by renaming."""
    what = "is a link to a folder that is empty, or misses what was fetched; fill that, or move the link away"
    return Fetched(obsid, "failed", None, Reason.NO_FOLDER, f"{folder}: {what}")


def _move_other_files(folder: Path, to: Path, marker: Marker) -> None:
    """Move files that were not fetched by xscan to another folder."""
    ours = {MARKER, *(file.name for file in marker.files)}
    for path in folder.iterdir():
        if path.name not in ours:
            os.rename(path, to / path.name)


@contextmanager
def _locked(work: Path, obsid: str) -> Iterator[None]:
    """Lock a folder for this thread; the operating system releases the locks of a process that dies."""
    busy = ArchiveError(
        Reason.BUSY, f"{obsid}: another xscan is fetching it; run the same command again when that is done"
    )
    try:
        handle = os.open(work, os.O_RDONLY)
    except FileNotFoundError:  # another process has just finished it
        raise busy from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        if not work.exists() or not os.path.samestat(os.fstat(handle), work.stat()):
            raise busy
        yield
    finally:
        os.close(handle)
