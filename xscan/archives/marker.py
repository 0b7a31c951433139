"""Read and write the note in an observation's folder that records what was fetched, from where, and when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xscan import __version__
from xscan.archives.offer import SavedFile
from xscan.io.atomic import write_whole

__all__ = ["MARKER", "Marker", "are_in", "read_marker", "write_marker"]

MARKER = "_fetched.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Marker:
    """Record of what was requested of an archive, and what it delivered.

    Attributes
    ----------
    obsid : str
    archive, where : str
        Name of the archive, and its address.
    date_utc : str
        When it was written, ISO 8601.
    complete : bool
        Whether all that the archive offers has been taken.
    taken : dict of str to tuple of SavedFile
        By key of the offer; no files where the archive has none.
    absent : tuple of str
        Products that the archive does not have; filled when complete.
    remarks : tuple of str
        Irregularities in the delivery.
    xscan : str
        Version that wrote it.
    """

    obsid: str
    archive: str
    where: str
    date_utc: str = ""
    complete: bool = False
    taken: Mapping[str, tuple[SavedFile, ...]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    xscan: str = __version__

    @property
    def files(self) -> tuple[SavedFile, ...]:
        """All files."""
        return tuple(file for files in self.taken.values() for file in files)

    def holds(self, folder: Path) -> bool:
        """Return whether everything was taken, and all files are in a folder, with their recorded sizes."""
        return self.complete and are_in(folder, self.files)


def are_in(folder: Path, files: Iterable[SavedFile]) -> bool:
    """Return whether files are in a folder, with their recorded sizes.

    Examples
    --------
    >>> n = (scratch / "list.FTZ").write_bytes(bytes(2880))
    >>> are_in(scratch, [SavedFile("list.FTZ", n)]), are_in(scratch, [SavedFile("list.FTZ", 5760)])
    (True, False)
    """
    try:
        return all((folder / file.name).stat().st_size == file.bytes for file in files)
    except OSError:
        return False


def is_whole(folder: Path) -> bool:
    """Return whether all that was fetched into a folder is there; True for a folder of the user's own files."""
    marker = read_marker(folder)
    return marker is None or marker.holds(folder)


def write_marker(folder: Path, marker: Marker) -> None:
    """Write the marker of a folder, completely or not at all.

    Examples
    --------
    >>> write_marker(scratch, Marker("0990000001", "nxsa", "https://nxsa.esac.esa.int", absent=("sources",)))
    >>> read_marker(scratch).absent
    ('sources',)
    """
    facts = asdict(marker)
    facts = {"format": _FORMAT, "obsid": facts.pop("obsid"), "source": facts.pop("archive"), **facts}
    write_whole(folder / MARKER, json.dumps(facts, indent=1).encode())


def read_marker(folder: Path) -> Marker | None:
    """Read the marker of a folder; None if there is none, or it cannot be read.

    Examples
    --------
    >>> print(read_marker(scratch))
    None
    >>> write_marker(scratch, Marker("0990000001", "nxsa", "https://nxsa.esac.esa.int", complete=True))
    >>> read_marker(scratch).complete
    True
    """
    try:
        held = json.loads((folder / MARKER).read_bytes())
        if held.pop("format") != _FORMAT:
            return None
        taken = {key: tuple(SavedFile(**file) for file in files) for key, files in held.pop("taken").items()}
        absent, remarks = tuple(held.pop("absent")), tuple(held.pop("remarks"))
        return Marker(archive=held.pop("source"), taken=taken, absent=absent, remarks=remarks, **held)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
