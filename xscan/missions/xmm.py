"""XMM-Newton EPIC: from a folder of pipeline (PPS) files to an Observation.

One observation is a folder ``<obsid>/`` or ``<obsid>/pps/`` of files such as
``P0001730201M1S002MIEVLI0000.FTZ``: observation, camera, exposure, content, number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from xscan.backends import Backend
from xscan.config import ScanConfig
from xscan.errors import DataError, Reason, first_line, is_shortage
from xscan.missions.fitsfile import read_tables
from xscan.missions.hotpixels import HotPixels
from xscan.missions.xmm_list import ListError, read_event_list
from xscan.model import EventList, InputFile, Observation, Sources

__all__ = ["files_of", "observation_name", "read", "read_sources", "reading_digest"]

log = logging.getLogger(__name__)

_EVENTS = re.compile(r"P(\d{10})(PN|M1|M2)([SUX]\d{3})(PI|MI|TI)EVLI(\d{4})?\.(FTZ|FIT|FITS|FITS\.GZ)", re.I)
_SOURCES = re.compile(r"P(\d{10})EP.{4}OBSMLI.*\.(FTZ|FIT|FITS|FITS\.GZ)", re.I)
_OBSID = re.compile(r"\d{10}")


def read(folder: Path, config: ScanConfig, hot_pixels: HotPixels, backend: Backend) -> Observation:
    """Read and clean everything of one observation.

    Parameters
    ----------
    folder : Path
        ``<obsid>/`` or ``<obsid>/pps/``.
    config : ScanConfig
    hot_pixels : HotPixels
        The user's hot-pixel tables.
    backend : Backend

    Raises
    ------
    DataError
        If there is no such folder, or no event list in it. A list that cannot be used is no
        error: it stands in ``Observation.skipped`` with its reason.
    """
    obsid, event_paths, source_path = _find(Path(folder))
    lists: list[EventList] = []
    skipped: list[InputFile] = []
    read_from: dict[tuple[str, ...], Path] = {}
    target = ""
    for path in event_paths:
        info = _file_info(path)
        key = _content(path)
        try:
            if key in read_from:
                raise DataError(
                    Reason.DUPLICATE, f"{path}: this exposure was read from {read_from[key]}; remove one of them"
                )
            events, name = read_event_list(path, info, obsid, config, hot_pixels, backend)
        except ListError as error:
            skipped.append(error.info)
        except DataError as error:
            skipped.append(dataclasses.replace(info, reason=error.reason, message=str(error)))
        except Exception as error:  # one damaged list must not cost the others
            if is_shortage(error):
                raise
            log.exception("%s: unforeseen error", path)
            message = f"{path.name}: {type(error).__name__}: {error}"
            skipped.append(dataclasses.replace(info, reason=Reason.ERROR, message=message))
        else:
            read_from[key] = path
            lists.append(events)
            target = target or name
    sources, source_file = (None, None) if source_path is None else _sources(source_path)
    settings = reading_digest(config, hot_pixels)
    return Observation(obsid, tuple(lists), tuple(skipped), sources, source_file, target, settings)


def reading_digest(config: ScanConfig, hot_pixels: HotPixels) -> str:
    """Fingerprint of the settings that decide what :func:`read` gives."""
    settings = (dataclasses.asdict(config.rules), config.pn_singles_below_kev, hot_pixels.digest())
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _find(folder: Path) -> tuple[str, list[Path], Path | None]:
    """Give the obsid, its event lists and its source list."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DataError(Reason.NO_FOLDER, f"{folder}: {what}; an observation is a folder <obsid>/ of its PPS files")
    paths = _files(folder)
    obsids = sorted({match[1] for path in paths if (match := _EVENTS.fullmatch(path.name))})
    if not obsids:
        inner = sum(bool(_OBSID.fullmatch(path.name)) for path in folder.iterdir() if path.is_dir())
        if inner:
            raise DataError(
                Reason.NO_EVENT_LISTS,
                f"{folder}: no event list, but {inner} folders of observations: search them with xscan archive",
            )
        raise DataError(
            Reason.NO_EVENT_LISTS,
            f"{folder}: no EPIC event list (P<obsid>PN...PIEVLI*.FTZ, P<obsid>M1...MIEVLI*.FTZ) "
            f"among {len(paths)} files; download the PPS products of this observation",
        )
    called = observation_name(folder)
    obsid = called if called in obsids else obsids[0]
    if called not in obsids and (_OBSID.fullmatch(called) or len(obsids) > 1):
        raise DataError(
            Reason.CONTRADICTORY,
            f"{folder}: holds files of {', '.join(obsids)}; give each observation a folder of its own name",
        )
    mine = [path for path in paths if (match := _EVENTS.fullmatch(path.name)) and match[1] == obsid]
    sources = [path for path in paths if (match := _SOURCES.fullmatch(path.name)) and match[1] == obsid]
    return obsid, mine, sources[0] if sources else None


def observation_name(folder: Path) -> str:
    """Give what an observation's folder is called after.

    Raises
    ------
    DataError
        If it is a link that leads to itself, or nothing that has a name.
    """
    try:
        resolved = folder.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(Reason.NO_FOLDER, f"{folder}: leads nowhere ({first_line(error)})") from None
    name = resolved.parent.name if resolved.name.lower() == "pps" else resolved.name
    if not name:
        raise DataError(Reason.NO_FOLDER, f"{folder}: no folder of an observation")
    return name


def files_of(folder: Path) -> list[Path]:
    """Give the files in the folder of an observation on which the result of reading it depends, in order.

    Returns
    -------
    list of Path
        Links that lead nowhere are among them; none where there is no event list.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    named = [path for path in _entries(folder) if path.is_file() or not path.exists()]
    lists = [path for path in named if _EVENTS.fullmatch(path.name)]
    return sorted([*lists, *(path for path in named if _SOURCES.fullmatch(path.name))]) if lists else []


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if path.is_file())


def _entries(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "pps"):
        if place.is_dir():
            yield from place.iterdir()


def _file_info(path: Path) -> InputFile:
    match = _EVENTS.fullmatch(path.name)
    camera, exposure = (match[2].lower(), match[3].upper()) if match else ("", "")
    return InputFile(path.name, path.stat().st_size, camera=camera, exposure=exposure)


def _content(path: Path) -> tuple[str, ...]:
    """Camera, exposure and kind of list: what makes two files the same."""
    match = _EVENTS.fullmatch(path.name)
    return tuple(part.upper() for part in match.groups()[1:4]) if match else (path.name,)


def _sources(path: Path) -> tuple[Sources | None, InputFile]:
    info = InputFile(path.name, path.stat().st_size)
    try:
        sources, date = read_sources(path)
    except DataError as error:
        return None, dataclasses.replace(info, reason=error.reason, message=str(error))
    return sources, dataclasses.replace(info, date=date, n_rows=len(sources.rate))


def read_sources(path: Path) -> tuple[Sources, str]:
    """Read an EPIC source list (OBSMLI).

    Returns
    -------
    sources : Sources
        Rows with a place and a likelihood; an extent or rate that is no number counts as 0.
    date : str
        When the pipeline made the list.

    Raises
    ------
    DataError
        If the file is unreadable, or no table has RA, DEC, EP_DET_ML, EP_EXTENT and EP_TOT.
    """
    needed = ("RA", "DEC", "EP_DET_ML", "EP_EXTENT", "EP_TOT")
    tables = read_tables(path)
    table = next((t for t in tables if all(name in t for name in needed)), None)
    if table is None:
        raise DataError(
            Reason.NO_SOURCE_TABLE,
            f"{path.name}: no table with the columns {', '.join(needed)}; not an EPIC source list",
        )
    ra, dec, likelihood, extent, rate = (table.column(name).astype(np.float64) for name in needed)
    usable = np.isfinite(ra) & np.isfinite(dec) & np.isfinite(likelihood) & (np.abs(dec) <= 90)
    columns = (ra, dec, likelihood, np.nan_to_num(extent), np.nan_to_num(rate))
    date = tables[0].header.text("PROCDATE") or tables[0].header.text("DATE")
    return Sources(*(values[usable] for values in columns)), date
