"""Define the correct results in plain NumPy, which examines every event and every voxel.

The cube of counts is never whole in memory: one row of cells is made dense at a time, so that a
100 ks observation at 5 s needs megabytes, not gigabytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscan.backends import Counts, EventLoops, PointSourceLoops, WindowLoops
from xscan.backends.windows import passing_windows
from xscan.bayes import Thresholds
from xscan.events.cuts import drop_bad_pixels, select
from xscan.events.dropouts import silences
from xscan.events.gti import cumulative_livetime, livetime_until
from xscan.events.merge import band_curve, merge
from xscan.grid import Grid
from xscan.model import Expectation, Photons, Voxels
from xscan.pointsource.exposure import dark
from xscan.pointsource.fit import curvature, likeliest, pulls, settle, spots_near
from xscan.pointsource.ratio import window_ratio

__all__ = ["MU_MIN", "NumpyBackend"]

MU_MIN = 1e-7
"""Nothing is flagged where fewer counts than this are expected."""


class NumpyEventLoops:
    """The functions of :mod:`xscan.events`."""

    select = staticmethod(select)
    drop_bad_pixels = staticmethod(drop_bad_pixels)
    cumulative_livetime = staticmethod(cumulative_livetime)
    livetime_until = staticmethod(livetime_until)
    silences = staticmethod(silences)
    merge = staticmethod(merge)
    band_curve = staticmethod(band_curve)


class NumpyPointSourceLoops:
    """The functions of :mod:`xscan.pointsource`."""

    spots_near = staticmethod(spots_near)
    dark = staticmethod(dark)
    likeliest = staticmethod(likeliest)
    settle = staticmethod(settle)
    curvature = staticmethod(curvature)
    pulls = staticmethod(pulls)
    window_ratio = staticmethod(window_ratio)


class NumpyWindowLoops:
    """The function of :mod:`xscan.backends.windows`."""

    passing_windows = staticmethod(passing_windows)


class NumpyBackend:
    """Clean, bin and search with NumPy."""

    name: str = "numpy"
    events: EventLoops = NumpyEventLoops()
    pointsource: PointSourceLoops = NumpyPointSourceLoops()
    windows: WindowLoops = NumpyWindowLoops()

    def load(self, photons: Photons) -> NumpyLoaded:
        """Return the photons, which need no preparation for binning."""
        return NumpyLoaded(photons)


class NumpyLoaded:
    """Photons without further preparation."""

    def __init__(self, photons: Photons) -> None:
        self._photons = photons

    def bin(self, grid: Grid, pi_from: int, pi_to: int) -> NumpyCounts:
        """Count the photons with ``pi_from <= PI < pi_to`` (eV) in the voxels of a grid."""
        p, box = self._photons, grid.box
        y, x = p.cells()
        frame = p.tick // grid.dt_ms
        inside = (p.pi >= pi_from) & (p.pi < pi_to) & (frame >= 0) & (frame < grid.nt)
        inside &= box.contains(y, x)
        voxel = ((y[inside] - box.y0) * box.nx + x[inside] - box.x0) * grid.nt + frame[inside]
        return NumpyCounts(grid, voxel, p.camera[inside], len(p.instrument.cameras))


class NumpyCounts(Counts):
    """Counts as a list of occupied voxels, ordered by (y, x, t)."""

    def __init__(self, grid: Grid, event_voxel: NDArray[np.int64], camera: NDArray[np.uint8], n_cameras: int) -> None:
        self.grid, self._n_cameras = grid, n_cameras
        self._event_voxel, self._camera = event_voxel, camera
        self._voxel, n = np.unique(event_voxel, return_counts=True)
        self._n = n.astype(np.int32)
        self._cell, self._frame = np.divmod(self._voxel, grid.nt)

    def n_events(self) -> int:
        return len(self._event_voxel)

    def n_max(self) -> int:
        return int(self._n.max(initial=0))

    def images(self, kind: NDArray[np.int8]) -> NDArray[np.int64]:
        ny, nx, _ = self.grid.shape
        images = np.zeros((2, ny * nx), np.int64)
        for k, image in enumerate(images):
            chosen = kind[self._frame] == k
            np.add.at(image, self._cell[chosen], self._n[chosen])
        return images.reshape(2, ny, nx)

    def counts_per_frame(self, cells: NDArray[np.bool_]) -> NDArray[np.int64]:
        chosen = cells.ravel()[self._cell]
        counts = np.zeros(self.grid.nt, np.int64)
        np.add.at(counts, self._frame[chosen], self._n[chosen])
        return counts

    def dense_row(self, y: int) -> NDArray[np.int32]:
        _, nx, nt = self.grid.shape
        first, end = np.searchsorted(self._cell, [y * nx, (y + 1) * nx])
        row = np.zeros((nx, nt), np.int32)
        row[self._cell[first:end] - y * nx, self._frame[first:end]] = self._n[first:end]
        return row

    def flag(self, expected: Expectation, limits: Thresholds) -> Voxels:
        found: list[tuple[NDArray[Any], ...]] = []
        for y in range(self.grid.box.ny):
            n, mu = self.dense_row(y), expected.row(y)
            peak = mu < limits.mu_peak[n]
            eclipse = mu > limits.mu_eclipse[n]
            x, t = np.nonzero((peak | eclipse) & (mu > MU_MIN))
            found.append((np.full(x.size, y), x, t, n[x, t], eclipse[x, t]))
        y_, x_, t_, n_, low = (np.concatenate(parts) for parts in zip(*found, strict=True))
        y_, x_, t_ = y_.astype(np.int32), x_.astype(np.int32), t_.astype(np.int32)
        return Voxels(x_, y_, t_, n_.astype(np.int32), expected.at(y_, x_, t_), low.astype(bool))

    def by_camera(self, voxels: Voxels) -> NDArray[np.int64]:
        _, nx, nt = self.grid.shape
        wanted = (voxels.y.astype(np.int64) * nx + voxels.x) * nt + voxels.t
        out = np.zeros((len(voxels), self._n_cameras), np.int64)
        if len(voxels) == 0:
            return out
        index = np.minimum(np.searchsorted(wanted, self._event_voxel), len(wanted) - 1)
        hit = wanted[index] == self._event_voxel
        np.add.at(out, (index[hit], self._camera[hit]), 1)
        return out
