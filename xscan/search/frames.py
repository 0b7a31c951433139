"""Judge every frame: high particle background, not taking data, or fit for the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrc

from xscan.backends import EventLoops
from xscan.config import Rules
from xscan.events.gti import Floats, intersect
from xscan.grid import Grid
from xscan.model import CcdTime, Frames, Photons
from xscan.search import exod2
from xscan.search.subsets import Subset, good_intervals
from xscan.sky import SkyPixels

__all__ = ["BadTime", "LiveCcd", "LiveTime", "bad_intervals", "judge_frames", "live_time"]

BAD_BIN_MS = 100_000
SQUARE_ARCSEC = 60.0
DISK_ARCSEC = 180.0  # all but 3 % of a source of 5 arcsec core
DISK_SHARE = 0.05  # such a disk's share of the field
CROWDED_P = 1e-4  # Poisson: of the twenty disks of a field, the brightest is by chance as bright in 1 of 500 bins
SOME_S = 1e-3  # a CCD that was live for less was not
LIVE_MIN = (
    0.5  # least live time, in units of the best CCD's: below it a frame is rejected, and a CCD counts as not working
)
BEST_MIN = 0.1  # a frame is rejected where no CCD was live for at least this fraction of it

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LiveCcd:
    """When a CCD that works was taking data.

    Attributes
    ----------
    good : CcdTime
        Within the time searched; silences (:mod:`xscan.events.dropouts`) are removed.
    usual_fraction : float
        Live seconds per second of ``good``: 1 unless there is dead time within the read-out frames.
    n_faint : int
        The CCD's events outside bright cells: its weight in the live fraction of all cameras.
    """

    good: CcdTime
    usual_fraction: float
    n_faint: int


LiveTime = Sequence[Mapping[int, LiveCcd]]
"""For each list of a subset its working CCDs."""


@dataclass(frozen=True, slots=True)
class BadTime:
    """When the particle background was high, in bins of time.

    Attributes
    ----------
    edges_ms : int64, shape (m + 1,)
        Milliseconds since t0.
    bad : bool, shape (m,)
    """

    edges_ms: NDArray[np.int64]
    bad: Bools

    def frames(self, grid: Grid) -> Bools:
        """Return which frames are bad, shape (nt,): those that overlap a bad bin."""
        start = np.arange(grid.nt, dtype=np.int64) * grid.dt_ms
        first = np.searchsorted(self.edges_ms[1:-1], start, side="right")
        last = np.searchsorted(self.edges_ms[1:-1], start + grid.dt_ms, side="left")
        n_bad = np.concatenate([[0], np.cumsum(self.bad)])
        return np.asarray(n_bad[last + 1] > n_bad[first])


def live_time(subset: Subset, loops: EventLoops) -> LiveTime:
    """Find when each CCD was taking data: the good time stated by the list, minus silences that it does not state.

    A CCD without events, or live for less than half as long as the best one of its camera (dead time within read-out
    frames counts as not live), is not working and is left out: judged by it, most frames would be rejected.

    Examples
    --------
    CCDs 1 to 3 send an event each second; CCD 4 sends none from 40 to 60 s, which counts as not live:

    >>> from xscan.backends import get_backend
    >>> (live,) = live_time(Subset(0, (events,), 0.0, 100.0), get_backend("numpy").events)
    >>> live[1].good.gti.tolist(), live[4].good.gti.tolist()
    ([[0.0, 100.0]], [[0.0, 40.0], [60.0, 100.0]])
    """
    quiet = loops.silences(subset.lists, subset.t0, subset.t1)
    live = []
    span = np.array([subset.t0, subset.t1])
    for events, of_list in zip(subset.lists, quiet, strict=True):
        found = {}
        for ccd, silent in of_list.items():
            good = events.good_time.get(ccd) or CcdTime(good_intervals(events))
            intervals = intersect(good.gti, _outside(silent.intervals, span))
            start, stop = loops.livetime_until(span, CcdTime(intervals, good.livetime)).tolist()
            total = stop - start
            if total > SOME_S:
                usual = total / float(np.diff(intervals).sum())
                found[ccd] = total, LiveCcd(CcdTime(intervals, good.livetime), usual, silent.n_faint)
        best = max((total for total, _ in found.values()), default=0.0)
        live.append({ccd: one for ccd, (total, one) in found.items() if total >= LIVE_MIN * best})
    return live


def _outside(intervals: Floats, span: Floats) -> Floats:
    """Return the time of a span outside some intervals that lie in it, shape (m, 2)."""
    gaps = np.concatenate([span[:1], intervals.ravel(), span[1:]]).reshape(-1, 2)
    return gaps[gaps[:, 1] > gaps[:, 0]]


def judge_frames(
    subset: Subset,
    bad_time: BadTime,
    live: LiveTime,
    grids: Sequence[Grid],
    rules: Rules,
    loops: EventLoops,
) -> list[tuple[Frames, dict[str, Floats]]]:
    """Judge the frames of several frame lengths; they are the same for all bands.

    A frame is rejected where a working CCD was live for less than half as long as the best one: the expectation
    of that CCD's part of the field would be too high. A frame that is merely short of live time on all CCDs alike
    is kept if the best CCD was live for at least a tenth of it; the live fraction accounts for the rest.

    Parameters
    ----------
    subset : Subset
    bad_time : BadTime
        From :func:`bad_intervals`.
    live : LiveTime
        From :func:`live_time`.
    grids : sequence of Grid
        One for each frame length.
    rules : Rules
    loops : EventLoops

    Returns
    -------
    list of (Frames, dict of str to float64 array, shape (nt,))
        For each grid its frames, and the live seconds of each camera in each of them.

    Examples
    --------
    CCD 4 of four sends nothing from 40 to 60 s, the third of five frames of 20 s:

    >>> from xscan.backends import get_backend
    >>> loops, subset = get_backend("numpy").events, Subset(0, (events,), 0.0, 100.0)
    >>> never = BadTime(np.array([0, 100_000]), np.array([False]))
    >>> grid = Grid(0.0, 20_000, 5, 129, data.grid.box, EPIC.sky)
    >>> ((frames, seconds),) = judge_frames(subset, never, live_time(subset, loops), [grid], Rules(), loops)
    >>> np.flatnonzero(frames.rejected).tolist(), seconds["m1"].tolist()
    ([2], [20.0, 20.0, 15.0, 20.0, 20.0])
    """
    bad = [
        bad_time.frames(grid) if rules.shared_bad_time else exod2.bad_frames(subset.lists, subset.t1, grid)
        for grid in grids
    ]
    if not rules.live_time_rejection:
        return [exod2.judged(subset.lists, grid, of_grid) for grid, of_grid in zip(grids, bad, strict=True)]
    shares = [_LiveShares.of(grid) for grid in grids]
    # a CCD's live time is worked out once for the frames of all lengths, which have many edges in common
    edges = np.unique(np.concatenate([grid.frame_edges() for grid in grids]))
    indices = [np.searchsorted(edges, grid.frame_edges()) for grid in grids]
    # events in bright cells do not count: a burst in one camera must not change the weight of its live time
    n_faint = [sum(ccd.n_faint for ccd in ccds.values()) for ccds in live]
    weights = np.array(n_faint) / sum(n_faint) if any(n_faint) else np.full(len(n_faint), 1 / len(n_faint))
    for events, ccds, weight in zip(subset.lists, live, weights.tolist(), strict=True):
        for ccd in ccds.values():
            until = loops.livetime_until(edges, ccd.good)
            for share, index in zip(shares, indices, strict=True):
                share.add_ccd(np.diff(until[index]), ccd.usual_fraction)
        for share in shares:
            share.end_list(events.camera, weight)
    return [
        (Frames(of_grid, share.rejected(), share.fraction), share.seconds)
        for share, of_grid in zip(shares, bad, strict=True)
    ]


@dataclass(slots=True)
class _LiveShares:
    """How long the CCDs were live in each frame of one length, while they are gathered one CCD after the other.

    Attributes
    ----------
    dt_s : float
    least, most : float64, shape (nt,)
        Live fraction of the CCD that was least, and of the one that was most live, in units of what is usual for it.
    of_list : list of float64 array, shape (nt,)
        Live seconds of each CCD of the list under way.
    fraction : float64, shape (nt,)
        Live fraction of all cameras.
    seconds : dict of str to float64 array, shape (nt,)
        Live seconds of each camera.
    """

    dt_s: float
    least: Floats
    most: Floats
    of_list: list[Floats]
    fraction: Floats
    seconds: dict[str, Floats]

    @classmethod
    def of(cls, grid: Grid) -> _LiveShares:
        nothing = np.zeros(grid.nt)
        return cls(grid.dt_s, nothing + np.inf, nothing - np.inf, [], nothing, {})

    def add_ccd(self, seconds: Floats, usual_fraction: float) -> None:
        share = seconds / (self.dt_s * usual_fraction)
        np.minimum(self.least, share, out=self.least)
        np.maximum(self.most, share, out=self.most)
        self.of_list.append(seconds)

    def end_list(self, camera: str, weight: float) -> None:
        mean = np.mean(self.of_list, axis=0) if self.of_list else np.zeros(self.fraction.size)
        self.seconds[camera] = self.seconds.get(camera, 0.0) + mean
        self.fraction += mean / self.dt_s * weight
        self.of_list = []

    def rejected(self) -> Bools:
        """Return which frames are rejected: all of them if no CCD works."""
        return np.asarray((self.most < BEST_MIN) | (self.least < LIVE_MIN * self.most))


def bad_intervals(subset: Subset, photons: Photons, loops: EventLoops) -> BadTime:
    """Find when the particle background was high, from the curve of a subset in the particle band, in bins of 100 s.

    The remainder that fills no bin is added to the last one. A background flare covers the whole field. Where the
    counts of a bin concentrate in one position, as those of a hard burst do, only the counts elsewhere are judged,
    scaled to the whole field (:func:`_elsewhere`).

    Returns
    -------
    BadTime
        A bin is bad where the rate per list exceeds the instrument's ``particle_rate_max``.

    Examples
    --------
    Particles of 11 keV from 100 to 200 s, all over the field:

    >>> from dataclasses import replace
    >>> from xscan.backends import get_backend
    >>> from xscan.events.merge import GtiFilter
    >>> loops, n = get_backend("numpy").events, len(events.time)
    >>> time, x, pi = np.linspace(100.0, 199.0, n), np.linspace(5000, 45_000, n).astype(np.uint16), np.full(n, 11_000)
    >>> flare = replace(events, time=time, x=x, pi=pi, good_time={})
    >>> photons, _ = loops.merge([flare], [GtiFilter.everything()], 0.0, 300.0, 129)
    >>> bad_intervals(Subset(0, (flare,), 0.0, 300.0), photons, loops).bad.tolist()
    [False, True, False]
    """
    total = int((subset.t1 - subset.t0) * 1000)
    instrument = photons.instrument
    counts = loops.band_curve(photons, instrument.particle_band, BAD_BIN_MS, total)
    edges = np.append(np.arange(counts.size) * BAD_BIN_MS, total)
    limit = instrument.particle_rate_max * len(subset.lists) * np.diff(edges) / 1000
    bad = counts > limit
    if bad.any():
        bad[bad] = _elsewhere(photons, edges, bad) > limit[bad]
    return BadTime(edges, bad)


def _elsewhere(photons: Photons, edges: NDArray[np.int64], chosen: Bools) -> Floats:
    """Return the particle counts of some bins without those of the brightest position, scaled to the whole field.

    That position is the disk of 3 arcmin around the brightest spot of the bin. It is left out only where it holds
    significantly more than its share of the field; elsewhere a bin keeps its counts.
    """
    lo, hi = photons.instrument.particle_band
    above = photons.pi - np.uint16(lo)  # lower ones wrap to large numbers
    index = np.flatnonzero(above < hi - lo)
    index = index[(photons.tick[index] >= 0) & (photons.tick[index] < edges[-1])]
    bin_of = np.minimum(photons.tick[index] // BAD_BIN_MS, edges.size - 2)  # the last bin also takes the remainder
    mine = chosen[bin_of]
    index, number = index[mine], (np.cumsum(chosen) - 1)[bin_of[mine]]
    n_bins = int(np.count_nonzero(chosen))
    x, y = (pixel[index].astype(np.int64) for pixel in (photons.x_px, photons.y_px))
    sky = photons.instrument.sky
    x_spot, y_spot = _brightest(number, x, y, n_bins, sky)
    reach = DISK_ARCSEC / sky.side_arcsec
    inside = (x - x_spot[number]) ** 2 + (y - y_spot[number]) ** 2 <= reach**2
    n, n_inside = np.bincount(number, minlength=n_bins), np.bincount(number[inside], minlength=n_bins)
    crowded = pdtrc(n_inside - 1, n * DISK_SHARE) < CROWDED_P
    return np.where(crowded, (n - n_inside) / (1 - DISK_SHARE), n)


def _brightest(
    number: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], n_bins: int, sky: SkyPixels
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each bin the sky pixel at the centre of the 1 arcmin square with most events in it and around it.

    The squares around it are its eight neighbours. ``number`` is the bin of each event; of equal squares the first
    is taken.
    """
    square_px = max(round(SQUARE_ARCSEC / sky.side_arcsec), 1)
    side = sky.n // square_px + 3  # with a margin, so that every square has neighbours
    square = (number * side + y // square_px + 1) * side + x // square_px + 1
    image = np.bincount(square, minlength=n_bins * side * side).astype(np.uint32).reshape(n_bins, side, side)
    around = image[:, :-2] + image[:, 1:-1] + image[:, 2:]
    around = around[:, :, :-2] + around[:, :, 1:-1] + around[:, :, 2:]
    row, column = np.divmod(around.reshape(n_bins, -1).argmax(axis=1), side - 2)
    return column * square_px + square_px // 2, row * square_px + square_px // 2
