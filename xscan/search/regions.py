"""Gather flagged voxels into regions: voxels that touch on the sky and belong to one event in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.bayes import poisson_tail
from xscan.grid import Box, Grid
from xscan.model import Voxels
from xscan.search import exod2
from xscan.search.view import ViewData

__all__ = ["Region", "regions"]

ENDED_P = 1e-3
"""Counts are compatible with a hypothesis (the event ended, or it goes on) if their Poisson tail is at least this."""

STILL = 0.25
"""An event goes on while its strength may be at least this fraction of that in its flagged frames."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Region:
    """Flagged voxels that belong together.

    Attributes
    ----------
    label : int
        From 0, in order of x, then y, then t, of the first voxel.
    box : Box
        Bounding box, cells of the whole plane.
    area : int
        Number of cells.
    x, y : float
        Count-weighted centroid in cells of the plane; k is the centre of cell k.
    members : int array, shape (k,)
        Indices of the region's voxels in :class:`~xscan.model.Voxels`.
    """

    label: int
    box: Box
    area: int
    x: float
    y: float
    members: NDArray[np.intp]


def regions(data: ViewData, in_time: bool = True) -> list[Region]:
    """Gather flagged voxels into regions.

    Two voxels belong together if both have too many counts or both too few, their cells touch (eight
    neighbours, or the same cell), and the event goes on from the one to the other: no searched frame
    lies in between, or the counts of the two cells in those frames do not show that the event ended.
    They show it if they are compatible with the expectation there, and not with an event of
    :data:`STILL` times its strength in the weaker of the two voxels; compatible means a Poisson tail
    of at least :data:`ENDED_P`. So a long flare that is flagged now and then is one region, and two bursts
    at one position with a quiet time in between are two. Rejected frames are ignored.

    Parameters
    ----------
    data : ViewData
    in_time : bool
        False to make touching cells one region, whatever the time (EXOD2).

    Returns
    -------
    list of Region
        In order of label.

    Examples
    --------
    A burst in one voxel:

    >>> (burst,) = regions(data)
    >>> burst.box, burst.area, data.voxels.n[burst.members].tolist()
    (Box(x0=64, x1=65, y0=64, y1=65), 1, [12])
    """
    if len(data.voxels) == 0:
        return []
    of_voxel = _labels_in_time(data) if in_time else exod2.labels_of_cells(data.voxels, data.grid)
    order = np.argsort(of_voxel, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(of_voxel[order])) + 1)
    image = data.image
    return [_region(label, members, data, image) for label, members in enumerate(groups)]


def _region(label: int, members: NDArray[np.intp], data: ViewData, image: NDArray[np.integer]) -> Region:
    corner = data.grid.box
    cells = np.unique(data.cell_numbers(members))
    y, x = np.divmod(cells, corner.nx)
    weight = image[y, x].astype(np.float64)
    if weight.sum() == 0:  # an eclipse may cover cells without any count
        weight[:] = 1.0
    box = Box.around(x + corner.x0, y + corner.y0)
    x_mean = float((x * weight).sum() / weight.sum()) + corner.x0
    y_mean = float((y * weight).sum() / weight.sum()) + corner.y0
    return Region(label, box, cells.size, x_mean, y_mean, members)


def _labels_in_time(data: ViewData) -> NDArray[np.intp]:
    """Return a label for each voxel, from 0: that of its group of voxels that touch on the sky and go on in time."""
    voxels = data.voxels
    first, then = _successors(voxels, data.grid)
    searched = np.concatenate([[0], np.cumsum(~data.frames.rejected)])
    adjacent = searched[voxels.t[then]] - searched[voxels.t[first]] <= 1
    apart = np.flatnonzero(~adjacent)
    joined = adjacent.copy()
    if apart.size:
        joined[apart] = _Gaps(data).show_no_end(first[apart], then[apart])
    order = np.lexsort((voxels.t, voxels.y, voxels.x))  # groups are numbered by their first voxel, x slowest
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    firsts = _first_of_group(rank[first[joined]], rank[then[joined]], len(order))
    return np.asarray(np.unique(firsts, return_inverse=True)[1][rank], np.intp)


def _first_of_group(one: Ints, other: Ints, k: int) -> NDArray[np.intp]:
    """Return for each of k members the first member of its group; ``one`` and ``other`` are pairs that belong together.

    The firsts of two groups that a pair joins are hooked to one another, then every member is taken to the end of its
    chain; the number of rounds grows with the logarithm of the size of a group.
    """
    leader = np.arange(k)
    while True:
        a, b = leader[one], leader[other]
        if np.array_equal(a, b):
            return leader
        np.minimum.at(leader, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(leader, leader[leader]):
            leader = leader[leader]


def _successors(voxels: Voxels, grid: Grid) -> tuple[Ints, Ints]:
    """Pair each voxel with the next one of its kind (peak or eclipse) in its own cell and in each touching cell.

    The next one in a touching cell is the first that is not earlier; in its own cell, the first that is later. Where
    the own cell's next voxel comes no later than a touching cell's, the latter pair is left out: it is made from that
    voxel.
    """
    ny, nx, nt = grid.shape
    # an empty row and column on each side, so that every cell has eight neighbours; peaks before eclipses
    cell = (voxels.y.astype(np.int64) + 1) * (nx + 2) + voxels.x + 1 + voxels.eclipse * np.int64((ny + 2) * (nx + 2))
    key = cell * nt + voxels.t
    order = np.argsort(key, kind="stable")
    in_order, cell_in_order = key[order], cell[order]
    steps = np.array([0, *(dy * (nx + 2) + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))])[
        :, None
    ]
    at = np.searchsorted(in_order, key + steps * nt + (steps == 0))
    there = np.minimum(at, len(order) - 1)
    found = (at < len(order)) & (cell_in_order[there] == cell + steps)
    then = order[there]
    t_own = np.where(found[0], voxels.t[then[0]], nt)  # frame of the own cell's next voxel
    found[1:] &= voxels.t[then[1:]] < t_own
    return np.nonzero(found)[1], then[found]


class _Gaps:
    """Counts and expected counts of the flagged cells between two flagged voxels."""

    def __init__(self, data: ViewData) -> None:
        expected = data.expected
        self._voxels, self._nt = data.voxels, data.grid.nt
        cells, self._cell = np.unique(data.cell_numbers(), return_inverse=True)
        y, x = np.divmod(cells, data.grid.box.nx)
        self._template, self._source = expected.template[:, y, x], expected.source[:, y, x]
        known = ~data.frames.rejected & (expected.background_counts + expected.live > 0)
        kinds = (expected.kind == np.arange(2)[:, None]) & known
        self._rate, self._live, self._frames = (
            np.concatenate([np.zeros((2, 1)), np.cumsum(kinds * values, axis=1)], axis=1)
            for values in (expected.background_counts, expected.live, 1.0)
        )
        _, of_photon, frame = data.photons_of_cells(cells)
        of_photon, frame = of_photon[frame >= 0], frame[frame >= 0]
        counts = known[frame] & (self._template[expected.kind[frame], of_photon] > 0)
        self._key = of_photon[counts] * self._nt + frame[counts]

    def show_no_end(self, first: Ints, then: Ints) -> Bools:
        """Return whether the event may go on from each voxel of ``first`` to its pair in ``then``, bool, shape (k,)."""
        voxels = self._voxels
        one, other = self._cell[first], self._cell[then]
        n, mu, n_frames = self._between(one, voxels.t[first], voxels.t[then])
        n2, mu2, n_frames2 = self._between(other, voxels.t[first], voxels.t[then])
        n, mu, n_frames = n + n2 * (other != one), mu + mu2 * (other != one), np.maximum(n_frames, n_frames2)
        # peak: counts a frame above the expectation; eclipse: the fraction of the expectation that is missing
        strength = np.where(voxels.eclipse, 1 - (voxels.n + 1) / voxels.mu, voxels.n - voxels.mu)
        still = STILL * np.minimum(strength[first], strength[then])
        level = np.where(voxels.eclipse[first], mu * (1 - still), mu + n_frames * still)
        searched = np.flatnonzero(mu > 0)
        n, mu, level, eclipse = n[searched], mu[searched], level[searched], voxels.eclipse[first][searched]
        goes_on = np.ones(first.size, bool)
        goes_on[searched] = (poisson_tail(n, mu, eclipse) < ENDED_P) | (poisson_tail(n, level, ~eclipse) >= ENDED_P)
        return goes_on

    def _between(
        self, cell: Ints, t_first: NDArray[np.int32], t_then: NDArray[np.int32]
    ) -> tuple[Ints, Floats, Floats]:
        """Return counts, expected counts and the number of frames of a cell strictly between two frames."""
        low, high = np.searchsorted(self._key, [cell * self._nt + t_first + 1, cell * self._nt + t_then])
        mu, n_frames = np.zeros(cell.size), np.zeros(cell.size)
        for kind in (0, 1):
            rate, live, frames = (
                total[kind, t_then] - total[kind, t_first + 1] for total in (self._rate, self._live, self._frames)
            )
            mu += self._template[kind, cell] * rate + self._source[kind, cell] * live
            n_frames += frames * (self._template[kind, cell] > 0)
        return high - low, mu, n_frames
