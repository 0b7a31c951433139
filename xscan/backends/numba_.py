"""The CPU's fast path: photons sorted by cell once, and only voxels that can matter looked at.

A peak needs at least two counts, so that only occupied voxels are tested; an eclipse needs an
expectation above the first limit, so that only cells whose largest mu passes it are. Both rules are
exact: products and sums of floats are monotone, and the results are those of the NumPy backend
to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xscan.backends.numpy_ import MU_MIN
from xscan.bayes import Thresholds
from xscan.grid import Box, Grid
from xscan.model import CAMERAS, Expectation, Photons, Voxels

__all__ = ["NumbaBackend"]

TIME_BIN_SHIFT = 12  # first sort: ticks >> 12, bins of 4.096 s


class NumbaBackend:
    """Bin and search with compiled loops over the photons; no cube."""

    name = "numba"

    def load(self, photons: Photons) -> NumbaLoaded:
        """Sort photons by cell, and by time within a cell."""
        return NumbaLoaded(photons)


class NumbaLoaded:
    """Photons sorted by cell of the smallest box that holds them all, and by time within a cell."""

    def __init__(self, photons: Photons) -> None:
        if photons.tick.size:
            self._box = Box.around(photons.x, photons.y)
        else:
            self._box = Box(0, 1, 0, 1)
        cell = (photons.y.astype(np.int32) - self._box.y0) * self._box.nx + (photons.x - self._box.x0)
        order, self._offsets = _sorted_order(cell.astype(np.int32), photons.tick, self._box.nx * self._box.ny)
        self._tick, self._pi = photons.tick[order], photons.pi[order]
        self._camera = photons.camera[order]
        self._frames: dict[int, NDArray[np.int32]] = {}

    def bin(self, grid: Grid, pi_from: int, pi_to: int) -> NumbaCounts:
        """Count the photons with ``pi_from <= PI < pi_to`` (eV) in the voxels of a grid."""
        if grid.dt_ms not in self._frames:
            self._frames = {grid.dt_ms: self._tick // np.int32(grid.dt_ms)}  # views of one dt follow each other
        inner = grid.box
        first = np.zeros((grid.box.ny, grid.box.nx), np.int64)
        end = np.zeros_like(first)
        x0, x1 = max(inner.x0, self._box.x0), min(inner.x1, self._box.x1)
        y0, y1 = max(inner.y0, self._box.y0), min(inner.y1, self._box.y1)
        if x0 < x1 and y0 < y1:
            cells = np.arange(y0 - self._box.y0, y1 - self._box.y0)[:, None] * self._box.nx
            cells = cells + np.arange(x0 - self._box.x0, x1 - self._box.x0)
            window = np.s_[y0 - inner.y0 : y1 - inner.y0, x0 - inner.x0 : x1 - inner.x0]
            first[window], end[window] = self._offsets[cells], self._offsets[cells + 1]
        return NumbaCounts(
            grid, first.ravel(), end.ravel(), self._frames[grid.dt_ms], self._pi, self._camera, pi_from, pi_to
        )


class NumbaCounts:
    """Occupied voxels of one view, by cell and frame."""

    def __init__(
        self,
        grid: Grid,
        first: NDArray[np.int64],
        end: NDArray[np.int64],
        frame: NDArray[np.int32],
        pi: NDArray[np.uint16],
        camera: NDArray[np.uint8],
        pi_from: int,
        pi_to: int,
    ) -> None:
        self._grid = grid
        self._first, self._end, self._event_frame, self._pi, self._camera = first, end, frame, pi, camera
        self._band = (pi_from, pi_to)
        self._offsets, self._frame, self._n = _occupied(first, end, frame, pi, grid.nt, pi_from, pi_to)

    def n_events(self) -> int:
        """Number of events in the voxels of the grid."""
        return int(self._n.sum(dtype=np.int64))

    def n_max(self) -> int:
        """Largest count of a voxel."""
        return int(self._n.max(initial=0))

    def image(self, frames: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Counts summed over the chosen frames (bool, shape (nt,)); shape (ny, nx)."""
        ny, nx, _ = self._grid.shape
        return np.asarray(_image(self._offsets, self._frame, self._n, frames)).reshape(ny, nx)

    def rate(self, cells: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Counts summed over the chosen cells (bool, shape (ny, nx)); shape (nt,)."""
        return np.asarray(_rate(self._offsets, self._frame, self._n, cells.ravel(), self._grid.nt))

    def flag(self, expected: Expectation, limits: Thresholds) -> Voxels:
        """Voxels with too many or too few counts; ``limits`` reach at least to ``n_max()``."""
        ny, nx, nt = self._grid.shape
        factors = (
            expected.template.reshape(2, ny * nx),
            expected.source.reshape(2, ny * nx),
            expected.rate,
            expected.live,
            expected.kind,
        )
        found = _flag(self._offsets, self._frame, self._n, *factors, limits.mu_peak, limits.mu_eclipse, MU_MIN, nt)
        cell, t, n, mu, eclipse = found
        y, x = np.divmod(cell, nx)
        return Voxels(x.astype(np.int32), y.astype(np.int32), t, n, mu, eclipse)

    def box(self, box: Box) -> NDArray[np.int64]:
        """Light curve of a rectangle, in cells counted from the grid's corner; shape (nt,)."""
        cells = np.zeros((self._grid.box.ny, self._grid.box.nx), bool)
        cells[box.y0 : box.y1, box.x0 : box.x1] = True
        return self.rate(cells)

    def by_camera(self, voxels: Voxels) -> NDArray[np.int64]:
        """Counts of each camera (pn, m1, m2) in the given voxels; shape (k, 3)."""
        cell = voxels.y.astype(np.int64) * self._grid.box.nx + voxels.x
        out = np.zeros((len(voxels), len(CAMERAS)), np.int64)
        _by_camera(self._first, self._end, self._event_frame, self._pi, self._camera, cell, voxels.t, *self._band, out)
        return out

    def dense_row(self, y: int) -> NDArray[np.int32]:
        """Counts of one row of cells, shape (nx, nt)."""
        _, nx, nt = self._grid.shape
        row = np.zeros((nx, nt), np.int32)
        for x in range(nx):
            part = slice(self._offsets[y * nx + x], self._offsets[y * nx + x + 1])
            row[x, self._frame[part]] = self._n[part]
        return row


@njit(cache=True)
def _sorted_order(cell: Any, tick: Any, n_cells: int) -> Any:
    """Order events by cell, and by tick within a cell; give order and offsets of the cells.

    Two stable counting sorts, by coarse time and by cell, and an insertion sort within each cell,
    which by then is nearly sorted. Linear in the number of events unless thousands of them lie in one
    cell within four seconds.
    """
    n = cell.size
    order = np.empty(n, np.int64)
    offsets = np.zeros(n_cells + 1, np.int64)
    if n == 0:
        return order, offsets
    low = tick.min() >> TIME_BIN_SHIFT
    bins = (tick.max() >> TIME_BIN_SHIFT) - low + 1
    start = np.zeros(bins + 1, np.int64)
    for i in range(n):
        start[(tick[i] >> TIME_BIN_SHIFT) - low + 1] += 1
    for b in range(bins):
        start[b + 1] += start[b]
    by_time = np.empty(n, np.int64)
    for i in range(n):
        b = (tick[i] >> TIME_BIN_SHIFT) - low
        by_time[start[b]] = i
        start[b] += 1
    for i in range(n):
        offsets[cell[i] + 1] += 1
    for c in range(n_cells):
        offsets[c + 1] += offsets[c]
    place = offsets[:-1].copy()
    for j in range(n):
        i = by_time[j]
        order[place[cell[i]]] = i
        place[cell[i]] += 1
    for c in range(n_cells):
        for j in range(offsets[c] + 1, offsets[c + 1]):
            i = order[j]
            k = j - 1
            while k >= offsets[c] and tick[order[k]] > tick[i]:
                order[k + 1] = order[k]
                k -= 1
            order[k + 1] = i
    return order, offsets


@njit(cache=True)
def _occupied(first: Any, end: Any, frame: Any, pi: Any, nt: int, pi_from: int, pi_to: int) -> Any:
    """Count events by cell and frame; give offsets of the cells, and frame and count of occupied voxels."""
    total = 0
    for c in range(first.size):
        total += end[c] - first[c]
    offsets = np.zeros(first.size + 1, np.int64)
    frames, counts = np.empty(total, np.int32), np.empty(total, np.int32)
    k = 0
    for c in range(first.size):
        start = k
        for i in range(first[c], end[c]):
            t = frame[i]
            if 0 <= t < nt and pi_from <= pi[i] < pi_to:
                if k > start and frames[k - 1] == t:
                    counts[k - 1] += 1
                else:
                    frames[k], counts[k] = t, 1
                    k += 1
        offsets[c + 1] = k
    return offsets, frames[:k].copy(), counts[:k].copy()


@njit(cache=True)
def _image(offsets: Any, frame: Any, n: Any, frames: Any) -> Any:
    image = np.zeros(offsets.size - 1, np.int64)
    for c in range(image.size):
        for k in range(offsets[c], offsets[c + 1]):
            if frames[frame[k]]:
                image[c] += n[k]
    return image


@njit(cache=True)
def _rate(offsets: Any, frame: Any, n: Any, cells: Any, nt: int) -> Any:
    rate = np.zeros(nt, np.int64)
    for c in range(cells.size):
        if cells[c]:
            for k in range(offsets[c], offsets[c + 1]):
                rate[frame[k]] += n[k]
    return rate


@njit(cache=True)
def _by_camera(
    first: Any, end: Any, frame: Any, pi: Any, camera: Any, cell: Any, t: Any, pi_from: int, pi_to: int, out: Any
) -> None:
    for v in range(cell.size):
        c = cell[v]
        i = first[c] + np.searchsorted(frame[first[c] : end[c]], t[v])  # sorted by time within a cell
        while i < end[c] and frame[i] == t[v]:
            if pi_from <= pi[i] < pi_to:
                out[v, camera[i]] += 1
            i += 1


@njit(cache=True)
def _flag(
    offsets: Any,
    frame: Any,
    n: Any,
    template: Any,
    source: Any,
    rate: Any,
    live: Any,
    kind: Any,
    mu_peak: Any,
    mu_eclipse: Any,
    mu_min: float,
    nt: int,
) -> Any:
    """Flag voxels: occupied ones for peaks, all of a cell where an eclipse is possible."""
    most_rate, most_live = np.zeros(2), np.zeros(2)
    for t in range(nt):
        k = kind[t]
        most_rate[k] = max(most_rate[k], rate[t])
        most_live[k] = max(most_live[k], live[t])
    cells, frames, counts = [0], [np.int32(0)], [np.int32(0)]
    mus, eclipses = [0.0], [False]
    dense = np.zeros(nt, np.int32)
    for c in range(offsets.size - 1):
        most = 0.0
        for k in range(2):
            most = max(most, template[k, c] * most_rate[k] + source[k, c] * most_live[k])
        if most > mu_eclipse[0]:
            for j in range(offsets[c], offsets[c + 1]):
                dense[frame[j]] = n[j]
            for t in range(nt):
                k = kind[t]
                mu = template[k, c] * rate[t] + source[k, c] * live[t]
                eclipse = mu > mu_eclipse[dense[t]]
                if mu > mu_min and (eclipse or mu < mu_peak[dense[t]]):
                    cells.append(c)
                    frames.append(np.int32(t))
                    counts.append(dense[t])
                    mus.append(mu)
                    eclipses.append(eclipse)
            for j in range(offsets[c], offsets[c + 1]):
                dense[frame[j]] = 0
        else:
            for j in range(offsets[c], offsets[c + 1]):
                if n[j] < 2:  # mu_peak[0] = mu_peak[1] = 0: one count is never too many
                    continue
                t = frame[j]
                k = kind[t]
                mu = template[k, c] * rate[t] + source[k, c] * live[t]
                if mu_min < mu < mu_peak[n[j]]:
                    cells.append(c)
                    frames.append(t)
                    counts.append(n[j])
                    mus.append(mu)
                    eclipses.append(False)
    return (
        np.array(cells[1:], np.int64),
        np.array(frames[1:], np.int32),
        np.array(counts[1:], np.int32),
        np.array(mus[1:], np.float64),
        np.array(eclipses[1:], np.bool_),
    )
