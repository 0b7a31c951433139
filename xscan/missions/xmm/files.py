"""Find the event lists and the source list of an observation, by name or else by header.

A name of the pipeline (PPS) is sufficient (:mod:`xscan.missions.xmm.products`). If a folder has no list with such a
name, for names that only resemble one, and for files that are given one by one, the header is read: an EVENTS extension
whose INSTRUME is EPN, EMOS1 or EMOS2, with EXPIDSTR and OBS_ID.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from xscan.errors import DataError, Reason, first_line, is_shortage
from xscan.io.fits import Header, Table, stream_tables
from xscan.missions.place import Files, Place
from xscan.missions.xmm.products import TIMING, ProductName, parse_name
from xscan.missions.xmm.times import INSTRUMENTS, check_telescope
from xscan.model import InputFile

__all__ = ["SOURCE_COLUMNS", "Found", "ListFile", "files_of", "find", "holds", "observation_name", "places"]

SOURCE_COLUMNS = ("RA", "DEC", "EP_DET_ML", "EP_EXTENT", "EP_TOT")
"""The columns of an EPIC source list that are read."""

_OBSID = re.compile(r"\d{10}")
_RESEMBLES = re.compile(r".*[PMT]IEVLI.*\.(?:FTZ|FITS?)(?:\.GZ)?\s*", re.I | re.S)
_LOOK_BYTES = 1 << 23  # bytes of a file searched for its EVENTS table, which comes first in real files


@dataclass(frozen=True, slots=True)
class ListFile:
    """One event list with its camera and exposure, before it is read.

    Attributes
    ----------
    path : Path
    obsid : str
        Empty if the header does not state it.
    camera, exposure : str
        As in :class:`~xscan.model.InputFile`; the exposure is empty if the header does not state it.
    same : tuple of str
        Equal for two files of one exposure.
    rows : int
        Number of events; 0 if the header was not needed.
    """

    path: Path
    obsid: str
    camera: str
    exposure: str
    same: tuple[str, ...] = field(default=())
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """The files of an observation: its event lists, in the order in which they are tried, and its source list.

    ``left_out`` are entries of the folder that are named like its files, with the reason why they cannot be used.
    """

    obsid: str
    lists: tuple[ListFile, ...]
    sources: Path | None
    left_out: tuple[InputFile, ...] = ()


def find(place: Place) -> Found:
    """Find the files of an observation.

    Raises
    ------
    DataError
        If there is no such folder, no event list, or lists of several observations.

    Examples
    --------
    >>> found = find(folder)
    >>> found.obsid, sorted(one.camera for one in found.lists), found.left_out
    ('0990000001', ['m1', 'm2', 'pn'], ())
    """
    if isinstance(place, Files):
        lists = [_named(path) or _looked_at(path) for path in place.paths]
        return Found(place.obsid, _in_order(lists), place.sources)
    if not place.is_dir():
        what = "is a file" if place.exists() else "no such folder"
        raise DataError(Reason.NO_FOLDER, f"{place}: {what}; an observation is a folder <obsid>/ of its event lists")
    entries = sorted(_entries(place))
    paths = [path for path in entries if path.is_file()]
    called = observation_name(place)
    lists, left_out = _lists(paths)
    if not lists:
        raise DataError(Reason.NO_EVENT_LISTS, _no_list(place, len(paths)))
    obsids = sorted({one.obsid or called for one in lists})
    obsid = called if called in obsids else obsids[0]
    if called not in obsids and (_OBSID.fullmatch(called) or len(obsids) > 1):
        raise DataError(
            Reason.CONTRADICTORY,
            f"{place}: holds files of {', '.join(obsids)}; give each observation a folder of its own name",
        )
    mine = [one for one in lists if (one.obsid or called) == obsid]
    sources = [path for path in paths if (name := _source_list(path)) is not None and name.obsid == obsid]
    left_out += [_left_out(one.path, Reason.CONTRADICTORY, _foreign(one, obsid)) for one in lists if one not in mine]
    left_out += [_left_out(path, Reason.UNREADABLE, _no_file(path)) for path in entries if _is_no_file(path)]
    left_out += [
        _left_out(path, Reason.DUPLICATE, f"{sources[0].name} is the source list that is used; keep one of them")
        for path in sources[1:]
    ]
    return Found(obsid, _in_order(mine), sources[0] if sources else None, tuple(left_out))


def _left_out(path: Path, reason: Reason, why: str) -> InputFile:
    listed = _named(path)
    size = path.stat().st_size if path.is_file() else 0
    camera, exposure = (listed.camera, listed.exposure) if listed is not None else ("", "")
    return InputFile(path.name, size, camera=camera, exposure=exposure, reason=reason, message=f"{path.name}: {why}")


def _foreign(one: ListFile, obsid: str) -> str:
    return f"a list of observation {one.obsid} in the folder of {obsid}; move it to a folder {one.obsid}"


def _is_no_file(path: Path) -> bool:
    """Return whether something that is no file has the name of a product."""
    return not path.is_file() and parse_name(path.name) is not None


def _no_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"a link to {path.readlink()}, which is not there; mount or copy that, or fetch the file again"
    return f"{'a folder' if path.is_dir() else 'no regular file'}, not an event list; put the file itself there"


def _no_list(folder: Path, n_files: int) -> str:
    inner = sum(bool(_OBSID.fullmatch(path.name)) for path in folder.iterdir() if path.is_dir())
    if inner:
        return f"{folder}: no event list, but {inner} folders of observations: search them with xscan archive"
    return (
        f"{folder}: no EPIC event list among {n_files} files, by name (P<obsid>M1...MIEVLI*.FTZ) or by header (table "
        f"EVENTS, INSTRUME EPN, EMOS1 or EMOS2); the pipeline's (PPS) are what xscan fetch gets, or those of SAS's "
        f"emproc and epproc"
    )


def observation_name(place: Place) -> str:
    """Return the name of an observation's folder.

    Raises
    ------
    DataError
        If it is a link that leads to itself, or has no name.

    Examples
    --------
    >>> observation_name(Path("archive/0990000001/pps"))
    '0990000001'
    """
    if isinstance(place, Files):
        return place.obsid
    try:
        resolved = place.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(Reason.NO_FOLDER, f"{place}: leads nowhere ({first_line(error)})") from None
    name = resolved.parent.name if resolved.name.lower() == "pps" else resolved.name
    if not name:
        raise DataError(Reason.NO_FOLDER, f"{place}: no folder of an observation")
    return name


def files_of(place: Place) -> list[Path]:
    """Return the files of an observation on which the result of reading it depends, in order.

    Returns
    -------
    list of Path
        Also links to missing files; empty if there is no event list.

    Raises
    ------
    OSError
        If the folder cannot be read.

    Examples
    --------
    Three event lists, and the source list:

    >>> [path.name[11:13] for path in files_of(folder)]
    ['EP', 'M1', 'M2', 'PN']
    """
    if isinstance(place, Files):
        return [*place.paths, *([place.sources] if place.sources is not None else [])]
    named = [path for path in _entries(place) if path.is_file() or not path.exists()]
    by_name = [path for path in named if _named(path) is not None or _resembles(path)]
    # as in reading: if only links to missing files have PPS names, the other files are judged by their headers
    if any(path.exists() for path in by_name):
        lists = by_name
    else:
        lists = [path for path in named if not path.exists() or _by_header(path) is not None]
    return sorted([*lists, *(path for path in named if _source_list(path) is not None)]) if lists else []


def holds(place: Place) -> bool:
    """Return whether a place is or holds an event list of EPIC; names are looked at first, then headers.

    Examples
    --------
    >>> holds(folder), holds(scratch)
    (True, False)
    """
    paths = place.paths if isinstance(place, Files) else (place,)
    try:
        return any(bool(_named(path) or _by_header(path)) if path.is_file() else bool(files_of(path)) for path in paths)
    except OSError:  # reading it will report what is wrong
        return False


def _entries(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "pps"):
        if place.is_dir():
            yield from place.iterdir()


def _lists(paths: Sequence[Path]) -> tuple[list[ListFile], list[InputFile]]:
    """Return the event lists found by name or, if there are none, by header; and files that only resemble one."""
    named = [one for path in paths if (one := _named(path)) is not None]
    if not named:
        return [one for path in paths if (one := _by_header(path)) is not None], []
    left_out = []
    for path in filter(_resembles, paths):
        try:
            named.append(_looked_at(path))
        except DataError as error:
            left_out.append(InputFile(path.name, path.stat().st_size, reason=error.reason, message=str(error)))
    return named, left_out


def _resembles(path: Path) -> bool:
    """Return whether a name resembles the pipeline's for an event list, without being one: blanks, odd letters."""
    return _named(path) is None and _RESEMBLES.fullmatch(path.name) is not None


def _in_order(lists: Iterable[ListFile]) -> tuple[ListFile, ...]:
    """Return lists in order of preference within an exposure: the pipeline's list first, then the longest ones."""
    return tuple(sorted(lists, key=lambda one: (one.rows > 0, one.same if one.rows else (), -one.rows, one.path)))


def _named(path: Path) -> ListFile | None:
    """Return the list that a PPS name stands for; None for any other name."""
    name = parse_name(path.name)
    if name is None or not name.product.is_event_list:
        return None
    camera = name.product.instrument.lower()
    mode = "TIMING" if name.product in TIMING else "IMAGING"
    return ListFile(path, name.obsid, camera, name.exposure, (camera, name.exposure, mode))


def _source_list(path: Path) -> ProductName | None:
    """Return what the PPS name of a source list says; None for any other name."""
    name = parse_name(path.name)
    return None if name is None or name.product.is_event_list else name


def _by_header(path: Path) -> ListFile | None:
    """Return the list that a file's header describes; None if it is no event list of EPIC."""
    try:
        return _looked_at(path)
    except DataError:
        return None


def _looked_at(path: Path) -> ListFile:
    """Read camera and exposure of an event list from its header.

    Raises
    ------
    DataError
        If it is no event list of EPIC; the message names what it is.
    """
    primary, events = _headers(path)

    def text(keyword: str) -> str:
        return events.header.text(keyword) or primary.text(keyword)

    check_telescope(path.name, events.header, primary)
    camera = INSTRUMENTS.get(text("INSTRUME").upper())
    if camera is None:
        raise DataError(Reason.OTHER_TELESCOPE, f"{path.name}: no INSTRUME says which camera took this list")
    exposure = text("EXPIDSTR").upper()
    which = exposure or text("EXP_ID") or text("DATE-OBS") or path.name
    mode = "TIMING" if text("DATAMODE").upper() == "TIMING" else "IMAGING"
    return ListFile(path, text("OBS_ID"), camera, exposure, (camera, which, mode), events.rows)


def _headers(path: Path) -> tuple[Header, Table]:
    """Read the primary header, and the first EVENTS header, of a file."""
    names: list[str] = []
    primary = None
    passed = 0
    with closing(stream_tables(path)) as streamed_tables:
        for streamed in streamed_tables:
            head = streamed.head
            primary = primary or head.header
            if head.name == "EVENTS":
                return primary, head
            if all(column in head for column in SOURCE_COLUMNS):
                raise DataError(
                    Reason.NO_EVENTS_TABLE, f"{path.name}: this is a source list; give it as --sources {path.name}"
                )
            names.append(head.name or "one without a name")
            passed += streamed.n_bytes
            if passed > _LOOK_BYTES:
                break
    found = ", ".join(names[1:]) or "no extension"
    raise DataError(Reason.NO_EVENTS_TABLE, f"{path.name}: no EVENTS table (found {found}): this is no event list")


def places(paths: Sequence[Path], sources: Path | None = None) -> list[Place]:
    """Group folders and files by observation.

    Parameters
    ----------
    paths : sequence of Path
        Folders of observations, and event lists.
    sources : Path, optional
        A source list, used in place of that of a folder.

    Returns
    -------
    list of Place
        One for each observation, in the order of their first path.

    Raises
    ------
    DataError
        If a folder does not exist or holds no event list, if a file is no event list of EPIC (the message names what
        it is), if ``sources`` is no file, or if there are several observations to which it could belong.

    Examples
    --------
    Two lists of one observation, given one by one:

    >>> (place,) = places([next(folder.glob("*M1S*EVLI*")), next(folder.glob("*PNS*EVLI*"))])
    >>> place.obsid, len(place.paths)
    ('0990000001', 2)
    """
    if sources is not None and not sources.is_file():
        raise DataError(Reason.NO_SOURCE_TABLE, f"{sources}: no such file; --sources names a source list")
    gathered: dict[str, list[Place]] = {}
    for path in paths:
        for obsid in _observation(path):
            gathered.setdefault(obsid, []).append(path)
    if sources is not None and len(gathered) > 1:
        raise DataError(
            Reason.NO_SOURCE_TABLE, f"{sources}: --sources is of one observation, these are {', '.join(gathered)}"
        )
    return [_together(obsid, parts, sources) for obsid, parts in gathered.items()]


def _observation(path: Path) -> list[str]:
    """Return the observations of a folder or an event list."""
    if not path.is_file():
        return [_obsid_or_path(path)]
    named = _named(path)
    if named is not None:
        return [named.obsid]
    _refuse_text(path)
    return [_looked_at(path).obsid or observation_name(path.parent)]


def _obsid_or_path(folder: Path) -> str:
    """Return the obsid of a folder; its path if it holds lists of several, which reading it will report."""
    try:
        return find(folder).obsid
    except DataError as error:
        if error.reason in (Reason.NO_FOLDER, Reason.NO_EVENT_LISTS):
            raise
        return str(folder)


def _together(obsid: str, parts: list[Place], sources: Path | None) -> Place:
    """Return one Place for all folders and files of an observation."""
    if len(parts) == 1 and isinstance(parts[0], Path) and not parts[0].is_file() and sources is None:
        return parts[0]
    paths: dict[Path, None] = {}
    for part in parts:
        if isinstance(part, Path) and part.is_file():
            paths[part] = None
        elif isinstance(part, Path):
            found = find(part)
            paths |= dict.fromkeys(one.path for one in found.lists)
            sources = sources or found.sources
    return Files(obsid, tuple(paths), sources)


def _refuse_text(path: Path) -> None:
    """Raise an error if a file is a text file, with advice for lists of observations.

    Raises
    ------
    DataError
    """
    try:
        with path.open("rb") as stream:
            beginning = stream.read(4000)
    except OSError as error:
        if is_shortage(error):
            raise
        raise DataError(Reason.UNREADABLE, f"{path}: cannot be read: {error.strerror}") from None
    if beginning.startswith(b"SIMPLE") or b"\0" in beginning:
        return
    try:
        text = beginning.decode("utf-8")
    except UnicodeDecodeError:
        return
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    filled = [line for line in lines if line]
    if filled and all(_OBSID.fullmatch(line) for line in filled[:100]):
        raise DataError(
            Reason.UNREADABLE, f"{path}: a list of observations; search them with xscan archive --obslist {path}"
        )
    raise DataError(Reason.UNREADABLE, f"{path}: a text file; xscan scan takes folders and event lists (FITS)")
