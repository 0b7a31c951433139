"""The Python interface: read an observation, scan it, open results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from xscan.backends import cpu_backend
from xscan.backends.cuda.device import DeviceLost
from xscan.config import View, load_config
from xscan.errors import ConfigError, DeviceError
from xscan.missions import MISSIONS, HotPixels, Place, mission_of
from xscan.model import Observation
from xscan.pipeline.local import LOST_REMEDY
from xscan.pipeline.scan import ScanSettings, search_to_tables
from xscan.results.reader import Results
from xscan.results.reader import open_results as _open_results
from xscan.results.tables import Tables

__all__ = ["open_results", "read", "scan", "scan_settings"]


def scan_settings(
    profile: str = "default",
    config: Path | str | None = None,
    views: Sequence[View | str] = (),
    hot_pixels: Path | str | None = None,
    backend: str = "auto",
    far: float | None = None,
) -> ScanSettings:
    """Return all settings of a scan, for use anywhere; parameters as in :func:`scan`.

    Examples
    --------
    >>> settings = scan_settings(profile="exod2", views=["50:2-12"], backend="numpy")
    >>> settings.by_name()["search.views"], settings.by_name()["rules.flag_cut"]
    ('50.0:2.0-12.0', 'false')
    """
    parsed = tuple(view if isinstance(view, View) else View.parse(view) for view in views)
    search = load_config(profile, Path(config) if config else None, parsed, far)
    hot = HotPixels.load(Path(hot_pixels)) if hot_pixels else HotPixels()
    return ScanSettings(search, profile, hot, backend)


Paths = Path | str | Sequence[Path | str]
"""The folder of an observation, one event list, or several of them."""


def read(
    folder: Paths,
    *,
    sources: Path | str | None = None,
    profile: str = "default",
    config: Path | str | None = None,
    hot_pixels: Path | str | None = None,
) -> Observation:
    """Read and clean the event lists and the source list of one observation.

    Parameters
    ----------
    folder : path or sequence of path
        ``<obsid>/`` or ``<obsid>/pps/`` with the event lists of one XMM-Newton observation; or one event list, or
        several.
    sources : path, optional
        Source list (OBSMLI) to use in place of the folder's.
    profile, config, hot_pixels
        As in :func:`scan`; they decide the cuts.

    Returns
    -------
    Observation
        ``lists`` holds one :class:`~xscan.model.EventList` per usable exposure: ``time`` (s, mission
        time), ``x`` and ``y`` (sky pixels of 0.05 arcsec), ``pi`` (eV), ``ccd``, shape (n,) each;
        ``skipped`` holds the others, with their reasons.

    Raises
    ------
    DataError
        If there is no such folder or no event list in it, or files are of several observations.
    ConfigError
        If the profile, the configuration or the hot-pixel tables are wrong.

    Examples
    --------
    >>> observation = read(folder)  # of an observation with pn and both MOS
    >>> [(events.camera, len(events.time) > 0) for events in observation.lists]
    [('m1', True), ('m2', True), ('pn', True)]
    """
    settings = scan_settings(profile, config, hot_pixels=hot_pixels)
    place = _one_place(folder, sources)
    # only the CPU reads files
    return mission_of(place).read(place, settings.config, settings.hot_pixels, cpu_backend().events)


def _one_place(paths: Paths, sources: Path | str | None) -> Place:
    several = [paths] if isinstance(paths, (Path, str)) else list(paths)
    if not several:
        raise ConfigError("no file to read: give a folder, or event lists")
    given = [Path(path) for path in several]
    found = mission_of(given[0]).places(given, Path(sources) if sources is not None else None)
    if len(found) > 1:
        names = ", ".join(place.name for place in found)
        raise ConfigError(f"these are {len(found)} observations ({names}); give those of one")
    return found[0]


def scan(
    observation: Observation | Paths,
    *,
    sources: Path | str | None = None,
    views: Sequence[View | str] = (),
    profile: str = "default",
    config: Path | str | None = None,
    hot_pixels: Path | str | None = None,
    backend: str = "auto",
    far: float | None = None,
) -> Tables:
    """Search one observation for bursts, flares and eclipses.

    Parameters
    ----------
    observation : Observation, path or sequence of path
        From :func:`read` with the same profile, config and hot_pixels; or a folder or event lists, as there.
    sources : path, optional
        Source list (OBSMLI) to use in place of the folder's; only with a folder or event lists.
    views : sequence of View or str
        Frame length and band, as ``"5:0.2-12"`` (s, keV); if given, these are searched in place of what the profile
        searches for.
    profile : str
        ``default`` (windows of every length of time), ``views`` (frames of one length), or ``exod2`` for comparison.
    config : path, optional
        TOML file whose settings override the profile's.
    hot_pixels : path, optional
        Folder of hot-pixel tables.
    backend : str
        ``auto`` (the fastest that works here), ``cuda``, ``numba`` or ``numpy``; all give the same results.
    far : float, optional
        False events to expect in an observation, of the search by windows; default: the configured rate, 0.1.

    Returns
    -------
    Tables
        ``runs``, ``inputs``, ``events``, ``regions``, ``voxels``, ``lightcurves`` and ``images``, pyarrow tables with
        unit and description on every column. ``events`` holds what the search by windows found, ``regions`` and
        ``voxels`` what was found in views. ``runs`` has one column more than in a folder of results: ``inputs``,
        the files of each row.

    Raises
    ------
    DataError
        If a folder is given and cannot be read as an observation.
    ConfigError
        If a setting is wrong, or the observation was read with other settings.
    DeviceError
        If the backend does not work here, or the GPU stops answering.

    Notes
    -----
    The search by windows is described in docs/depth.md. That of views is EXOD2's (Khan et al. 2025, A&A 697, A50) with
    the differences listed in docs/parity.md; each formula has its source beside it in :mod:`xscan.bayes` and
    :mod:`xscan.search.background`.

    Examples
    --------
    >>> tables = scan(folder, views=["50:0.2-12"])
    >>> tables.runs.select(["obsid", "dt_s", "state"]).to_pylist()
    [{'obsid': '0990000001', 'dt_s': 50.0, 'state': 'done'}]
    """
    settings = scan_settings(profile, config, views, hot_pixels, backend, far)
    scanner = settings.scanner()
    started = time.perf_counter()
    if not isinstance(observation, Observation):
        place = _one_place(observation, sources)
        observation = mission_of(place).read(place, settings.config, settings.hot_pixels, scanner.backend.events)
    elif sources is not None:
        raise ConfigError(f"{observation.obsid} was read already; give sources to read()")
    elif observation.settings not in [
        mission.reading_digest(settings.config, settings.hot_pixels) for mission in MISSIONS.values()
    ]:
        raise ConfigError(
            f"{observation.obsid} was read with other settings; give read() and scan() the same profile, "
            f"config and hot_pixels, or give scan() the folder"
        )
    seconds_read = time.perf_counter() - started
    try:
        return search_to_tables(observation, scanner, scanner.provenance(), seconds_read)
    except DeviceLost as error:
        raise DeviceError(f"{observation.obsid}: the GPU answers no more ({error}); {LOST_REMEDY}") from None


def open_results(folder: Path | str) -> Results:
    """Open a folder that ``xscan scan`` or ``xscan archive`` wrote.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Results
        ``.table("events")`` returns a :class:`pyarrow.Table`; likewise ``runs``, ``inputs``, ``regions``, ``voxels``,
        ``lightcurves`` and ``images``, and ``.table("events", obsid="0001730201")`` those of one observation.
        ``.observations()`` lists the obsids.

    Raises
    ------
    StoreError
        If the folder holds no results, or results of another format.

    Examples
    --------
    >>> held = open_results(results)
    >>> held.observations()
    ['0990000001']
    >>> held.table("events").schema.field("pos_err_arcsec").metadata[b"unit"]
    b'arcsec'
    """
    return _open_results(folder)
