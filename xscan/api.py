"""The Python interface: read an observation, scan it, open results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from xscan.backends import cpu_backend
from xscan.backends.device import DeviceLost
from xscan.config import View, load_config
from xscan.errors import ConfigError, DeviceError
from xscan.missions import xmm
from xscan.missions.hotpixels import HotPixels
from xscan.model import Observation
from xscan.runner import LOST_REMEDY
from xscan.scanner import Order, Recipe
from xscan.search import search_observation
from xscan.store import Results
from xscan.store import open_results as _open_results
from xscan.tables import Tables, tabulate

__all__ = ["open_results", "order", "read", "recipe", "scan"]


def order(
    profile: str = "default",
    config: Path | str | None = None,
    views: Sequence[View | str] = (),
    hot_pixels: Path | str | None = None,
    backend: str = "auto",
) -> Order:
    """Gather everything that decides a scan, wherever it is done; parameters as in :func:`scan`."""
    parsed = tuple(view if isinstance(view, View) else View.parse(view) for view in views)
    settings = load_config(profile, Path(config) if config else None, parsed)
    hot = HotPixels.load(Path(hot_pixels)) if hot_pixels else HotPixels()
    return Order(settings, profile, hot, backend)


def recipe(
    profile: str = "default",
    config: Path | str | None = None,
    views: Sequence[View | str] = (),
    hot_pixels: Path | str | None = None,
    backend: str = "auto",
) -> Recipe:
    """Gather everything that decides a scan, for this process; parameters as in :func:`scan`."""
    return order(profile, config, views, hot_pixels, backend).recipe()


def read(
    folder: Path | str,
    *,
    profile: str = "default",
    config: Path | str | None = None,
    hot_pixels: Path | str | None = None,
) -> Observation:
    """Read and clean the event lists and the source list of one observation.

    Parameters
    ----------
    folder : path
        ``<obsid>/`` or ``<obsid>/pps/`` with the PPS files of one XMM-Newton observation.
    profile, config, hot_pixels
        As in :func:`scan`; they decide the cuts.

    Returns
    -------
    Observation
        ``lists`` holds one :class:`~xscan.model.EventList` per usable exposure: ``time`` (s, mission
        time), ``x`` and ``y`` (sky pixels of 0.05 arcsec), ``pi`` (eV), ``ccd``, shape (n,) each;
        ``skipped`` the others, with their reasons.

    Raises
    ------
    DataError
        If there is no such folder or no event list in it.
    ConfigError
        If the profile, the configuration or the hot-pixel tables are wrong.
    """
    settings = recipe(profile, config, hot_pixels=hot_pixels, backend="numpy")
    return xmm.read(Path(folder), settings.config, settings.hot_pixels, cpu_backend())  # no device reads files


def scan(
    observation: Observation | Path | str,
    *,
    views: Sequence[View | str] = (),
    profile: str = "default",
    config: Path | str | None = None,
    hot_pixels: Path | str | None = None,
    backend: str = "auto",
) -> Tables:
    """Search one observation for bursts and eclipses.

    Parameters
    ----------
    observation : Observation or path
        From :func:`read` with the same profile, config and hot_pixels, or a folder.
    views : sequence of View or str
        Frame length and band, as ``"5:0.2-12"`` (s, keV); default: the profile's nine.
    profile : str
        ``default``, or ``exod2`` for comparison.
    config : path, optional
        TOML file whose settings override the profile's.
    hot_pixels : path, optional
        Folder of hot-pixel tables.
    backend : str
        ``auto`` (the fastest that works here), ``cuda``, ``numba`` or ``numpy``; all give the same results.

    Returns
    -------
    Tables
        ``runs``, ``inputs``, ``regions``, ``voxels`` and ``lightcurves``, pyarrow tables with unit and
        description on every column. ``runs`` has one column more than it has in a folder of results: ``inputs``,
        the files of each row.

    Raises
    ------
    DataError
        If a folder is given and cannot be read as an observation.
    ConfigError
        If a setting is wrong, or the observation was read with others.
    DeviceError
        If the backend does not work here, or the GPU stops answering.

    Notes
    -----
    The method is EXOD2's (Khan et al. 2025, A&A 697, A50) with the differences that docs/parity.md
    lists; each formula stands with its source in :mod:`xscan.bayes` and :mod:`xscan.background`.
    """
    settings = recipe(profile, config, views, hot_pixels, backend)
    started = time.perf_counter()
    if not isinstance(observation, Observation):
        observation = xmm.read(Path(observation), settings.config, settings.hot_pixels, settings.backend)
    elif observation.settings != xmm.reading_digest(settings.config, settings.hot_pixels):
        raise ConfigError(
            f"{observation.obsid} was read with other settings; give read() and scan() the same profile, "
            f"config and hot_pixels, or give scan() the folder"
        )
    seconds_read = time.perf_counter() - started
    try:
        searches, skipped = search_observation(observation, settings.config, settings.backend)
        return tabulate(observation, searches, skipped, settings.provenance(), seconds_read)
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
        ``.table("regions")`` gives a :class:`pyarrow.Table`; likewise ``runs``, ``inputs``, ``voxels`` and
        ``lightcurves``, and ``.table("regions", obsid="0001730201")`` those of one observation.
        ``.observations()`` lists the obsids.

    Raises
    ------
    StoreError
        If the folder holds no results, or of another format.
    """
    return _open_results(folder)
