"""Search on the CPU: photons are sorted by cell once, and only voxels that can be flagged are examined.

A peak needs at least two counts, so that only occupied voxels are tested; an eclipse needs an
expectation above the first limit, so that only cells whose largest mu passes it are. Both rules are
exact: products and sums of floats are monotone, and the results are those of the NumPy backend
to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xscan.backends import Counts, EventLoops, PointSourceLoops, WindowLoops
from xscan.backends.arguments import check_limits, checked
from xscan.backends.numba import dropouts, events, livetime, points, ratio, windows
from xscan.backends.numba.division import division
from xscan.backends.numpy import MU_MIN
from xscan.bayes import Thresholds
from xscan.grid import Box, Grid
from xscan.model import Expectation, Photons, Voxels

__all__ = ["NumbaBackend", "cache_folder"]


class NumbaEventLoops:
    """The compiled loops of ``events``, ``livetime`` and ``dropouts``."""

    select = staticmethod(events.select)
    drop_bad_pixels = staticmethod(events.drop_bad_pixels)
    cumulative_livetime = staticmethod(livetime.cumulative_livetime)
    livetime_until = staticmethod(livetime.livetime_until)
    silences = staticmethod(dropouts.silences)
    merge = staticmethod(events.merge)
    band_curve = staticmethod(events.band_curve)


class NumbaPointSourceLoops:
    """The compiled loops of ``points`` and ``ratio``."""

    spots_near = staticmethod(points.spots_near)
    dark = staticmethod(points.dark)
    likeliest = staticmethod(points.likeliest)
    settle = staticmethod(points.settle)
    curvature = staticmethod(points.curvature)
    pulls = staticmethod(points.pulls)
    window_ratio = staticmethod(ratio.window_ratio)


class NumbaWindowLoops:
    """The compiled loop of ``windows``."""

    passing_windows = staticmethod(windows.passing_windows)


class NumbaBackend:
    """Clean, bin and search with compiled loops over the photons; no cube."""

    name: str = "numba"
    events: EventLoops = NumbaEventLoops()
    pointsource: PointSourceLoops = NumbaPointSourceLoops()
    windows: WindowLoops = NumbaWindowLoops()

    def load(self, photons: Photons) -> NumbaLoaded:
        """Return the photons, which are sorted already and need no preparation."""
        return NumbaLoaded(photons)


def cache_folder() -> Path:
    """Return the folder in which compiled code is stored for the next process."""
    return Path(_flag.stats.cache_path or ".")


class NumbaLoaded:
    """Photons, with the ticks of the photons in each band requested so far."""

    def __init__(self, photons: Photons) -> None:
        self._photons = photons
        self._bands: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int32]]] = {}

    def bin(self, grid: Grid, pi_from: int, pi_to: int) -> NumbaCounts:
        """Count the photons with ``pi_from <= PI < pi_to`` (eV) in the voxels of a grid."""
        band = (pi_from, pi_to)
        photons = self._photons
        if band not in self._bands:
            self._bands[band] = _band(photons.offsets, photons.tick, photons.pi, *events.one_comparison(pi_from, pi_to))
        offsets, tick = self._bands[band]
        cells = _cells(photons.box, grid.box)
        first = np.where(cells < 0, 0, offsets[cells])
        end = np.where(cells < 0, 0, offsets[cells + 1])
        return NumbaCounts(grid, first, end, tick, photons, cells, band)


def _cells(outer: Box, inner: Box) -> NDArray[np.int64]:
    """Return the numbers that the cells of one box have in another, shape (ny * nx,); -1 outside it."""
    y, x = np.divmod(np.arange(inner.ny * inner.nx), inner.nx)
    y, x = y + inner.y0, x + inner.x0
    return np.where(outer.contains(y, x), (y - outer.y0) * outer.nx + x - outer.x0, -1)


class NumbaCounts(Counts):
    """The photons of one view, by cell and time; frames are computed when needed."""

    def __init__(
        self,
        grid: Grid,
        first: NDArray[np.int64],
        end: NDArray[np.int64],
        tick: NDArray[np.int32],
        photons: Photons,
        cells: NDArray[np.int64],
        band: tuple[int, int],
    ) -> None:
        self.grid, self._band = grid, band
        self._photons, self._cells = photons, cells
        self._tick, self._first = tick, first
        self._end = _ends(first, end, tick, grid.dt_ms * grid.nt)
        self._division = division(grid.dt_ms)
        self._seen: tuple[NDArray[np.int64], int] | None = None

    def n_events(self) -> int:
        return int((self._end - self._first).sum())

    def n_max(self) -> int:
        return self._rate_and_n_max()[1]

    def images(self, kind: NDArray[np.int8]) -> NDArray[np.int64]:
        ny, nx, nt = self.grid.shape
        kind = checked(kind, (nt,), np.int8)
        where = self._first, self._end, self._tick, kind, *self._division
        images = self._look(kind)[0] if self._seen is None else np.asarray(_images(*where))
        return images.reshape(2, ny, nx)

    def _look(self, kind: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return images, rate of all cells and largest count; the last two are the same for all kinds, and are kept."""
        images, rate, n_max = _survey(self._first, self._end, self._tick, kind, *self._division)
        self._seen = rate, int(n_max)
        return images, *self._seen

    def _rate_and_n_max(self) -> tuple[NDArray[np.int64], int]:
        return self._seen or self._look(np.zeros(self.grid.nt, np.int8))[1:]

    def counts_per_frame(self, cells: NDArray[np.bool_]) -> NDArray[np.int64]:
        chosen = checked(cells, (self.grid.box.ny, self.grid.box.nx), bool).ravel()
        most = np.count_nonzero(chosen) > chosen.size // 2
        rate = np.zeros(self.grid.nt, np.int64)
        _add_rate(self._first, self._end, self._tick, ~chosen if most else chosen, rate, *self._division)
        return self._rate_and_n_max()[0] - rate if most else rate

    def flag(self, expected: Expectation, limits: Thresholds) -> Voxels:
        ny, nx, nt = self.grid.shape
        check_limits(limits, self.n_max())
        if (limits.mu_peak[:2] > MU_MIN).any():
            raise ValueError(
                "fewer than two counts are too many by these limits: the numba backend does not look there"
            )
        of_frames = (
            checked(expected.background_counts, (nt,), np.float64),
            checked(expected.live, (nt,), np.float64),
            checked(expected.kind, (nt,), np.uint8),
        )
        cell, t, n, mu, eclipse = _flag(
            self._first,
            self._end,
            self._tick,
            checked(expected.template, (2, ny, nx), np.float64).reshape(2, ny * nx),
            checked(expected.source, (2, ny, nx), np.float64).reshape(2, ny * nx),
            *of_frames,
            _extremes(*of_frames),
            limits.mu_peak,
            np.maximum.accumulate(limits.mu_peak),
            limits.mu_eclipse,
            np.minimum.accumulate(limits.mu_eclipse[::-1])[::-1],
            MU_MIN,
            self.grid.dt_ms,
            nt,
            *self._division,
        )
        order = np.argsort(cell * nt + t)  # a cell's eclipses were appended after its peaks
        y, x = np.divmod(cell[order], nx)
        return Voxels(x.astype(np.int32), y.astype(np.int32), t[order], n[order], mu[order], eclipse[order])

    def by_camera(self, voxels: Voxels) -> NDArray[np.int64]:
        photons, dt_ms = self._photons, self.grid.dt_ms
        cell = self._cells[voxels.y.astype(np.int64) * self.grid.box.nx + voxels.x]
        out = np.zeros((len(voxels), len(photons.instrument.cameras)), np.int64)
        start = voxels.t.astype(np.int64) * dt_ms
        columns = photons.offsets, photons.tick, photons.pi, photons.camera
        _by_camera(*columns, cell, start, start + dt_ms, *self._band, out)
        return out

    def dense_row(self, y: int) -> NDArray[np.int32]:
        _, nx, nt = self.grid.shape
        row = np.zeros((nx, nt), np.int32)
        for x in range(nx):
            ticks = self._tick[self._first[y * nx + x] : self._end[y * nx + x]]
            row[x] = np.bincount(ticks // self.grid.dt_ms, minlength=nt)
        return row


@njit(cache=True)
def _extremes(rate: Any, live: Any, kind: Any) -> Any:
    """Return least and greatest rate, least and greatest live fraction in the frames of each kind, shape (2, 4).

    Frames in which nothing is expected anywhere are left out. Where no frame is left, all are NaN and no voxel of
    the kind is examined.
    """
    extremes = np.full((2, 4), np.nan)
    for t in range(rate.size):
        if rate[t] > 0 or live[t] > 0:
            one = extremes[kind[t]]
            # written so that the first value takes the place of NaN
            one[0] = one[0] if one[0] <= rate[t] else rate[t]
            one[1] = one[1] if one[1] >= rate[t] else rate[t]
            one[2] = one[2] if one[2] <= live[t] else live[t]
            one[3] = one[3] if one[3] >= live[t] else live[t]
    return extremes


@njit(cache=True)
def _band(offsets: Any, tick: Any, pi: Any, pi_from: Any, width: Any) -> Any:
    """Return offsets and ticks of the photons in a band, without those before the first frame."""
    out = np.empty_like(tick)
    inner = np.zeros_like(offsets)
    k = np.uint64(0)
    for c in range(offsets.size - 1):
        ticks, energies = tick[offsets[c] : offsets[c + 1]], pi[offsets[c] : offsets[c + 1]]
        for i in range(ticks.size):
            out[k] = ticks[i]
            k += np.uint64((np.uint16(energies[i] - pi_from) < width) & (ticks[i] >= 0))
        inner[c + 1] = k
    return inner, out[:k]  # the rest was never written, and so takes no memory


@njit(cache=True, inline="always")
def _frame(tick: Any, m: int, s: int) -> Any:
    """Return the frame of a tick; unsigned, because a signed index might be taken to count from the end."""
    return np.uint64(tick) * np.uint64(m) >> np.uint64(s)


@njit(cache=True)
def _ends(first: Any, end: Any, tick: Any, stop: int) -> Any:
    """Return the end of each cell's photons, without those after the last frame."""
    ends = end.copy()
    for c in range(first.size):
        while ends[c] > first[c] and tick[ends[c] - 1] >= stop:
            ends[c] -= 1
    return ends


@njit(cache=True)
def _codes(kind: Any) -> Any:
    """Return what a photon in each frame adds to a word that counts both kinds: bad frames below, rejected above."""
    code = np.empty(kind.size, np.uint64)
    for f in range(kind.size):
        code[f] = np.uint64(kind[f] == 1) | np.uint64(kind[f] < 0) << np.uint64(32)
    return code


@njit(cache=True)
def _images(first: Any, end: Any, tick: Any, kind: Any, m: int, s: int) -> Any:
    """Return the images of both kinds of frames alone; as :func:`_survey`."""
    images = np.zeros((2, first.size), np.int64)
    code = _codes(kind)
    for c in range(first.size):
        both = np.uint64(0)
        for one in tick[first[c] : end[c]]:
            both += code[_frame(one, m, s)]
        bad, rejected = np.int64(both & np.uint64(0xFFFFFFFF)), np.int64(both >> np.uint64(32))
        images[0, c], images[1, c] = end[c] - first[c] - bad - rejected, bad
    return images


@njit(cache=True)
def _survey(first: Any, end: Any, tick: Any, kind: Any, m: int, s: int) -> Any:
    """Return the images of both kinds of frames, the rate and the largest count."""
    images = np.zeros((2, first.size), np.int64)
    rate = np.zeros(kind.size, np.int32)  # int64 would take too much of the cache
    n_max = 0
    code = _codes(kind)
    for c in range(first.size):
        both = np.uint64(0)
        last, run = np.uint64(kind.size), 0
        for one in tick[first[c] : end[c]]:
            t = _frame(one, m, s)
            rate[t] += 1
            run = run + 1 if t == last else 1
            n_max = max(n_max, run)
            last = t
            both += code[t]
        bad, rejected = np.int64(both & np.uint64(0xFFFFFFFF)), np.int64(both >> np.uint64(32))
        images[0, c], images[1, c] = end[c] - first[c] - bad - rejected, bad
    return images, rate.astype(np.int64), n_max


@njit(cache=True)
def _add_rate(first: Any, end: Any, tick: Any, cells: Any, rate: Any, m: int, s: int) -> None:
    for c in range(cells.size):
        if cells[c]:
            for one in tick[first[c] : end[c]]:
                rate[_frame(one, m, s)] += 1


@njit(cache=True)
def _by_camera(
    offsets: Any, tick: Any, pi: Any, camera: Any, cell: Any, start: Any, stop: Any, pi_from: int, pi_to: int, out: Any
) -> None:
    for v in range(cell.size):
        if cell[v] >= 0:
            i, end = offsets[cell[v]], offsets[cell[v] + 1]
            i += np.searchsorted(tick[i:end], start[v])
            while i < end and tick[i] < stop[v]:
                if pi_from <= pi[i] and pi[i] < pi_to:
                    out[v, camera[i]] += 1
                i += 1


@njit(cache=True)
def _any_within(early: Any, late: Any, dt_ms: int) -> Any:
    """Return whether any pair of ticks lies within a frame's length; without a branch, for vector instructions."""
    near = 0
    for i in range(late.size):
        near += late[i] - early[i] < dt_ms
    return near > 0


@njit(cache=True)
def _flag(
    first: Any, end: Any, tick: Any, template: Any, source: Any, rate: Any, live: Any, kind: Any, extremes: Any,
    mu_peak: Any, highest_peak: Any, mu_eclipse: Any, lowest_eclipse: Any,
    mu_min: float, dt_ms: int, nt: int, m: int, s: int,
) -> Any:  # fmt: skip
    cells = [np.int64(0) for _ in range(0)]
    frames = [np.int32(0) for _ in range(0)]
    counts = [np.int32(0) for _ in range(0)]
    mus = [0.0 for _ in range(0)]
    eclipses = [False for _ in range(0)]
    dense = np.zeros(nt, np.int32)
    for c in range(first.size):
        least, greatest = np.inf, 0.0
        for k in range(2):
            if (template[k, c] > 0 or source[k, c] > 0) and extremes[k, 0] >= 0:
                least = min(least, template[k, c] * extremes[k, 0] + source[k, c] * extremes[k, 2])
                greatest = max(greatest, template[k, c] * extremes[k, 1] + source[k, c] * extremes[k, 3])
        if not greatest > mu_min:
            continue
        # peaks: fewer counts than this are not too many even where least is expected
        few: Any = max(np.searchsorted(highest_peak, max(least, mu_min), side="right"), 2)
        mine = tick[first[c] : end[c]]
        i = 0 if _any_within(mine[: -few + 1], mine[few - 1 :], dt_ms) else mine.size
        while i + few <= mine.size:
            t = _frame(mine[i], m, s)
            if _frame(mine[i + few - 1], m, s) != t:
                i += 1
                continue
            n = few
            while i + n < mine.size and _frame(mine[i + n], m, s) == t:
                n += 1
            k = kind[t]
            mu = template[k, c] * rate[t] + source[k, c] * live[t]
            if mu > mu_min and mu < mu_peak[n] and not mu > mu_eclipse[n]:
                cells.append(np.int64(c))
                frames.append(np.int32(t))
                counts.append(np.int32(n))
                mus.append(mu)
                eclipses.append(False)
            i += n
        # eclipses: more counts than this are not too few even where most is expected
        if not greatest > lowest_eclipse[0]:
            continue
        many = np.searchsorted(lowest_eclipse, greatest)
        for one in mine:
            dense[_frame(one, m, s)] += 1
        for t in range(nt):
            n = dense[t]
            if n < many:
                k = kind[t]
                mu = template[k, c] * rate[t] + source[k, c] * live[t]
                if mu > mu_min and mu > mu_eclipse[n]:
                    cells.append(np.int64(c))
                    frames.append(np.int32(t))
                    counts.append(np.int32(n))
                    mus.append(mu)
                    eclipses.append(True)
            dense[t] = 0
    return (
        np.array(cells, np.int64),
        np.array(frames, np.int32),
        np.array(counts, np.int32),
        np.array(mus, np.float64),
        np.array(eclipses, np.bool_),
    )
