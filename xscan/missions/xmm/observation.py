"""Read an observation of XMM-Newton EPIC."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from xscan.backends import EventLoops
from xscan.config import ScanConfig
from xscan.errors import DataError, Reason, is_shortage
from xscan.io.fits import read_tables
from xscan.missions.place import Place
from xscan.missions.xmm.event_list import ListError, read_event_list
from xscan.missions.xmm.files import SOURCE_COLUMNS, find
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.model import EventList, InputFile, Observation, Sources

__all__ = ["read", "read_sources", "reading_digest"]

log = logging.getLogger(__name__)


def read(place: Place, config: ScanConfig, hot_pixels: HotPixels, loops: EventLoops) -> Observation:
    """Read and clean all files of one observation.

    Parameters
    ----------
    place : Path or Files
        ``<obsid>/`` or ``<obsid>/pps/``, or the files themselves.
    config : ScanConfig
    hot_pixels : HotPixels
        The user's hot-pixel tables.
    loops : EventLoops

    Raises
    ------
    DataError
        If there is no such folder, or no event list in it. A list that cannot be used is no
        error: it is in ``Observation.skipped`` with its reason.

    Examples
    --------
    >>> from xscan.backends import get_backend
    >>> from xscan.config import load_config
    >>> made = read(folder, load_config(), HotPixels(), get_backend("numpy").events)
    >>> made.obsid, [events.camera for events in made.lists], made.skipped
    ('0990000001', ['m1', 'm2', 'pn'], ())
    """
    found = find(place)
    lists: list[EventList] = []
    skipped = list(found.left_out)
    read_from: dict[tuple[str, ...], Path] = {}
    target = ""
    for one in found.lists:
        path = one.path
        info = InputFile(path.name, path.stat().st_size, camera=one.camera, exposure=one.exposure)
        try:
            if one.same in read_from:
                raise DataError(
                    Reason.DUPLICATE,
                    f"{path}: this exposure was read from {read_from[one.same].name}; to search this file instead, "
                    f"remove the other one",
                )
            events, name = read_event_list(path, info, found.obsid, config, hot_pixels, loops)
        except ListError as error:
            skipped.append(error.info)
        except DataError as error:
            skipped.append(dataclasses.replace(info, reason=error.reason, message=str(error)))
        except Exception as error:  # one damaged list must not stop the others
            if is_shortage(error):
                raise
            log.exception("%s: unforeseen error", path)
            message = f"{path.name}: {type(error).__name__}: {error}"
            skipped.append(dataclasses.replace(info, reason=Reason.ERROR, message=message))
        else:
            read_from[one.same] = path
            lists.append(events)
            target = target or name
    sources, source_file = (None, None) if found.sources is None else _sources(found.sources)
    settings = reading_digest(config, hot_pixels)
    return Observation(found.obsid, tuple(lists), tuple(skipped), sources, source_file, target, settings)


def reading_digest(config: ScanConfig, hot_pixels: HotPixels) -> str:
    """Return a digest of the settings that decide the result of :func:`read`, 16 hexadecimal digits.

    Examples
    --------
    Views do not decide what is read; rules do:

    >>> from xscan.config import View, load_config
    >>> one, other = load_config(), load_config(views=(View.parse("50:2-12"),))
    >>> reading_digest(one, HotPixels()) == reading_digest(other, HotPixels())
    True
    >>> reading_digest(one, HotPixels()) == reading_digest(load_config("exod2"), HotPixels())
    False
    """
    settings = (dataclasses.asdict(config.rules), config.pn_singles_below_kev, hot_pixels.digest())
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


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
        Rows with a position and a likelihood; an extent or rate that is not a number counts as 0.
    date : str
        When the pipeline made the list.

    Raises
    ------
    DataError
        If the file is unreadable, or no table has RA, DEC, EP_DET_ML, EP_EXTENT and EP_TOT.

    Examples
    --------
    Every source of the list has a position in the field, at most 15 arcmin from its centre:

    >>> sources, date = read_sources(next(folder.glob("*OBSMLI*")))
    >>> bool(np.ptp(sources.dec_deg) < 0.5), date
    (True, '2026-01-01T00:00:00')
    """
    tables = read_tables(path)
    table = next((t for t in tables if all(name in t for name in SOURCE_COLUMNS)), None)
    if table is None:
        raise DataError(
            Reason.NO_SOURCE_TABLE,
            f"{path.name}: no table with the columns {', '.join(SOURCE_COLUMNS)}; not an EPIC source list (OBSMLI)",
        )
    ra, dec, likelihood, extent, rate = (table.column(name).astype(np.float64) for name in SOURCE_COLUMNS)
    usable = np.isfinite(ra) & np.isfinite(dec) & np.isfinite(likelihood) & (np.abs(dec) <= 90)
    columns = (ra, dec, likelihood, np.nan_to_num(extent), np.nan_to_num(rate))
    date = tables[0].header.text("PROCDATE") or tables[0].header.text("DATE")
    return Sources(*(values[usable] for values in columns)), date
