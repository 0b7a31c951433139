"""Merge the event lists of a subset on the integer grid that all its views share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.grid import Box, cells_of, ticks_of
from xscan.model import CcdTime, EventList, Instrument, Photons

__all__ = ["CUT_BY", "GtiFilter", "band_curve", "last_tick", "merge", "sort_photons"]

CUT_BY = ("good_time", "ccd_not_working", "common_time")
"""The cuts of :func:`merge`, in order."""

ALWAYS = np.array([[-np.inf, np.inf]])


@dataclass(frozen=True, slots=True)
class GtiFilter:
    """Decides which events of a list are kept, by CCD and time.

    Attributes
    ----------
    first : int64, shape (257,)
        The good time of a CCD is intervals ``first[ccd]`` to ``first[ccd + 1]``, exclusive.
    intervals : float64, shape (k, 2)
        Start and stop, s, both ends in; sorted and disjoint for each CCD.
    working : bool, shape (256,)
        CCDs whose events count.
    """

    first: NDArray[np.int64]
    intervals: NDArray[np.float64]
    working: NDArray[np.bool_]

    @classmethod
    def everything(cls) -> GtiFilter:
        """Return a filter that keeps every event."""
        return cls.of({}, None)

    @classmethod
    def of(cls, good_time: dict[int, CcdTime], working: Sequence[int] | None) -> GtiFilter:
        """Return a filter that keeps the events in the good time of their CCD and of CCDs that work.

        A CCD without stated good time is kept at any time. ``working`` is None if all CCDs work.
        """
        spans = [good_time[ccd].gti if ccd in good_time else ALWAYS for ccd in range(256)]
        first = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
        works = np.ones(256, bool) if working is None else np.isin(np.arange(256), working)
        return cls(first.astype(np.int64), np.concatenate(spans), works)


def last_tick(t0: float, t1: float) -> int:
    """Return the last millisecond that begins before t1, counted from t0: that of events exactly at the end.

    Examples
    --------
    >>> last_tick(100.0, 100.5)
    499
    """
    return math.ceil((t1 - t0) * 1000) - 1


def merge(
    lists: Sequence[EventList], filters: Sequence[GtiFilter], t0: float, t1: float, n_cells: int
) -> tuple[Photons, NDArray[np.int64]]:
    """Merge lists, without events that a filter rejects or that lie outside ``t0 <= TIME <= t1``.

    Parameters
    ----------
    lists : sequence of EventList
        At least one; all of one instrument.
    filters : sequence of GtiFilter
        One for each list.
    t0, t1 : float
        s.
    n_cells : int
        Cells along a side of the plane.

    Returns
    -------
    photons : Photons
    removed : int64, shape (len(lists), 3)
        Events removed by each of :data:`CUT_BY`.

    Examples
    --------
    A list with an event a second in each of its CCDs; CCD 1 has good time until 50 s, and CCD 3 does not work:

    >>> keep = GtiFilter.of({1: CcdTime(np.array([[0.0, 50.0]]))}, working=[1, 2, 4])
    >>> photons, removed = merge([events], [keep], 0.0, 100.0, 129)
    >>> len(photons.tick), dict(zip(CUT_BY, removed[0].tolist(), strict=True))
    (230, {'good_time': 50, 'ccd_not_working': 100, 'common_time': 0})
    """
    instrument = lists[0].instrument
    parts: list[tuple[NDArray[np.generic], ...]] = []
    removed = np.zeros((len(lists), len(CUT_BY)), np.int64)
    for i, (events, gti_filter) in enumerate(zip(lists, filters, strict=True)):
        good = _in_good_time(events, gti_filter)
        works = gti_filter.working[events.ccd]
        common = (events.time >= t0) & (events.time <= t1)
        removed[i] = [np.count_nonzero(cut) for cut in (~good, good & ~works, good & works & ~common)]
        keep = good & works & common
        time_s = events.time[keep]
        tick = np.minimum(ticks_of(time_s, t0), last_tick(t0, t1))  # the range is closed
        camera = np.full(tick.size, instrument.number(events.camera), np.uint8)
        parts.append((tick, events.x[keep], events.y[keep], events.pi[keep], camera, events.pixel[keep]))
    tick, x_px, y_px, pi, camera, pixel = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    x, y = (cells_of(pixels, n_cells, instrument.sky.n) for pixels in (x_px, y_px))
    return sort_photons(tick, x, y, x_px, y_px, pi, camera, pixel, instrument), removed


def band_curve(photons: Photons, pi_range: tuple[int, int], bin_ms: int, end_ms: int) -> NDArray[np.int64]:
    """Count the photons of a band in bins of time; the remainder of the range belongs to the last bin.

    Parameters
    ----------
    photons : Photons
    pi_range : (int, int)
        eV, from 0 to 65,535, the second exclusive.
    bin_ms : int
        Length of a bin.
    end_ms : int
        Ticks from 0 to this one, exclusive, are counted.

    Returns
    -------
    int64, shape (max(end_ms // bin_ms, 1),)

    Examples
    --------
    Four photons of 1 keV a second, three from 40 to 60 s:

    >>> photons, _ = merge([events], [GtiFilter.everything()], 0.0, 100.0, 129)
    >>> band_curve(photons, (200, 2000), 20_000, 100_000).tolist()
    [80, 80, 60, 80, 80]
    """
    n_bins = max(end_ms // bin_ms, 1)
    tick = photons.tick[(photons.pi >= pi_range[0]) & (photons.pi < pi_range[1])]
    tick = tick[(tick >= 0) & (tick < end_ms)]
    return np.bincount(np.minimum(tick // bin_ms, n_bins - 1), minlength=n_bins).astype(np.int64)


def _in_good_time(events: EventList, gti_filter: GtiFilter) -> NDArray[np.bool_]:
    inside = np.zeros(events.time.size, bool)
    for ccd in np.unique(events.ccd).tolist():
        mine = np.flatnonzero(events.ccd == ccd)
        start, stop = gti_filter.intervals[gti_filter.first[ccd] : gti_filter.first[ccd + 1]].T
        if start.size:
            time = events.time[mine]
            k = np.searchsorted(start, time, side="right") - 1
            inside[mine] = (k >= 0) & (time <= stop[np.maximum(k, 0)])
    return inside


def sort_photons(
    tick: NDArray[np.int32],
    x: NDArray[np.int16],
    y: NDArray[np.int16],
    x_px: NDArray[np.uint16],
    y_px: NDArray[np.uint16],
    pi: NDArray[np.uint16],
    camera: NDArray[np.uint8],
    pixel: NDArray[np.uint32],
    instrument: Instrument,
) -> Photons:
    """Sort events by cell (x, y: cells of the plane), and by time within a cell, shape (n,) each.

    Ties are broken by sky pixel, camera, energy and raw pixel, so that the order of the lists never matters.

    Examples
    --------
    Two photons in cell 5 and one in cell 4 of a row:

    >>> one = np.ones(3, int)
    >>> photons = sort_photons(np.array([30, 10, 20]), np.array([5, 5, 4]), one, one, one, one, one, one, EPIC)
    >>> photons.box.x0, photons.offsets.tolist(), photons.tick.tolist()
    (4, [0, 1, 3], [20, 10, 30])
    """
    box = Box.around(x, y) if x.size else Box(0, 1, 0, 1)
    cell = (y.astype(np.int64) - box.y0) * box.nx + (x.astype(np.int64) - box.x0)
    order = np.lexsort((pixel, pi, camera, y_px, x_px, tick, cell))
    offsets = np.searchsorted(cell[order], np.arange(box.nx * box.ny + 1))
    return Photons(
        box,
        offsets.astype(np.int64),
        tick[order],
        x_px[order],
        y_px[order],
        pi[order],
        camera[order],
        pixel[order],
        instrument,
    )
