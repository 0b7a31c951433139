"""Find which regions are caused by a brighter one.

A bright source affects other regions in two ways. Its photons reach beyond its own cells and make peaks around it.
And they raise the expectation of its own cells, so that a quiet time there looks like an eclipse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xscan.bayes import poisson_tail
from xscan.pointsource.psf import cores_arcsec, king
from xscan.search.regions import Region
from xscan.search.view import ViewData
from xscan.sky import Position

__all__ = ["parents"]

WINGS = 2.0
"""Factor by which wings may exceed the profile: core radii of 5 and 8 arcsec differ by 1.6 in the wings, slopes
of 1.5 and 1.4 by 1.7."""

USUAL_EV = 1500
"""Energy for which the core radius of the wings' profile is taken."""

EXPLAINED_P = 1e-4
"""Counts are explained if their Poisson tail is at least this."""

OWN_MIN = 0.25
"""Least fraction of a source's photons taken to fall in its flagged cells, however wrong its position."""

FINE = 5  # points along a side of a cell, at which the profile is evaluated

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class _Source:
    """A region as a point source: counts above (or below) the expectation, scaled to the whole profile, by frame."""

    def __init__(
        self, region: Region, position: Position, data: ViewData, signed: Floats, by_camera: NDArray[np.int64]
    ) -> None:
        self.region, self.frames = region, set(data.voxels.t[region.members].tolist())
        self._position, self._data, self._signed, self._by_camera = position, data, signed, by_camera

    @cached_property
    def strength(self) -> Floats:
        """Photons of the whole source in each frame, shape (nt,); 0 in frames in which it is not flagged."""
        members, grid = self.region.members, self._data.grid
        cells, which = np.unique(self._data.cell_numbers(members), return_inverse=True)
        t = self._data.voxels.t[members]
        own, strength = np.zeros(grid.nt), np.zeros(grid.nt)
        np.add.at(own, t, self.fractions(*np.divmod(cells, grid.box.nx))[which])
        np.add.at(strength, t, self._signed[members])
        strength[t] /= np.maximum(own[t], OWN_MIN)
        return strength

    @cached_property
    def _profile(self) -> tuple[Floats, Floats]:
        """Square of the core, and share of the photons, of each camera."""
        counts = self._by_camera[self.region.members].sum(axis=0) + 1e-6  # alike where an eclipse left none
        instrument = self._data.photons.instrument
        n = len(instrument.cameras)
        on_axis = cores_arcsec(np.arange(n, dtype=np.uint8), np.full(n, USUAL_EV), 0.0, instrument)
        return on_axis**2, counts / counts.sum()

    def fractions(self, y: Ints, x: Ints) -> Floats:
        """Return the fraction of the source's photons in each cell; y and x count from the corner of the grid's box."""
        grid, (core2, shares) = self._data.grid, self._profile
        step = (np.arange(FINE) + 0.5) / FINE - 0.5
        px = (grid.to_pixel(x[:, None] + grid.box.x0 + step) - self._position.x_px) * grid.sky.side_arcsec
        py = (grid.to_pixel(y[:, None] + grid.box.y0 + step) - self._position.y_px) * grid.sky.side_arcsec
        near = 1 + (px[:, None, :, None] ** 2 + py[:, :, None, None] ** 2) / core2
        return np.asarray((king(near, core2) * shares).sum(axis=3).mean(axis=(1, 2)) * grid.cell_arcsec**2)


def parents(
    regions: Sequence[Region], positions: Sequence[Position], data: ViewData, by_camera: NDArray[np.int64]
) -> list[int | None]:
    """Return for each region of a view the label of the brighter region that causes it, or None.

    A region lies in the wings of others if it is flagged only in frames in which these are flagged, and if their
    wings explain its counts: those of each flagged voxel, and those of its cells in all these frames together.
    The wings are a King profile at the other region's position, normalised to its counts above the expectation in
    its flagged cells and multiplied by :data:`WINGS`. The parent is the region that contributes most.

    An eclipse is caused by peaks in its own cells if each of its voxels is explained by the counts of these cells
    outside the time of the peaks. The parent is the peak with most counts above the expectation.

    Parameters
    ----------
    regions : sequence of Region
    positions : sequence of Position
        One for each region.
    data : ViewData
    by_camera : int array, shape (k, n_cameras)
        Counts of each camera in each flagged voxel.

    Returns
    -------
    list of int or None
        Label of the parent of each region; None for a region that no other explains.

    Examples
    --------
    A burst that nothing outshines has no parent:

    >>> from xscan.search.position import region_centroids
    >>> from xscan.search.regions import regions
    >>> found = regions(data)
    >>> parents(found, region_centroids(found, data.grid, data.plane), data, data.counts.by_camera(data.voxels))
    [None]
    """
    voxels = data.voxels
    found: list[int | None] = [None] * len(regions)
    signed = np.where(voxels.eclipse, voxels.mu - voxels.n, voxels.n - voxels.mu)
    sources: dict[bool, list[_Source]] = {False: [], True: []}
    totals = [float(signed[region.members].sum()) for region in regions]
    kinds = [set(voxels.eclipse[region.members].tolist()) for region in regions]
    one_kind = [i for i, kind in enumerate(kinds) if len(kind) == 1]  # EXOD2's regions may hold peaks and eclipses
    # peaks first, then by decreasing strength: the brightest lies in no wings
    for i in sorted(one_kind, key=lambda i: (True in kinds[i], -totals[i], i)):
        eclipse = True in kinds[i]
        if eclipse:
            peaks = [source.region for source in sources[False]]
            found[i] = _shadowing(regions[i], peaks, data)
        if found[i] is None:
            found[i] = _brighter(regions[i], sources[eclipse], data)
        if found[i] is None:
            sources[eclipse].append(_Source(regions[i], positions[i], data, signed, by_camera))
    return found


def _brighter(region: Region, sources: Sequence[_Source], data: ViewData) -> int | None:
    """Return the label of the source that contributes most to a region, or None if all wings do not explain it."""
    members, voxels = region.members, data.voxels
    frames = set(voxels.t[members].tolist())
    at_work = [source for source in sources if not frames.isdisjoint(source.frames)]
    if not frames <= set().union(*(source.frames for source in at_work)):
        return None  # in some frame no other source is flagged that could cause it
    lit = np.array(sorted(frames))
    cells, which = np.unique(data.cell_numbers(members), return_inverse=True)
    y, x = np.divmod(cells, data.grid.box.nx)
    several = [source.strength * source.fractions(y, x)[:, None] for source in at_work]
    wings = np.sum(several, axis=0)
    t = np.arange(lit[0], lit[-1] + 1)
    t = t[wings[0, t] > 0]
    sign = -WINGS if voxels.eclipse[members[0]] else WINGS
    n, mu = _counts(cells, t, data)
    mu += sign * float(wings[:, t].sum())
    mu_voxels = voxels.mu[members] + sign * wings[which, voxels.t[members]]
    tail = poisson_tail(
        np.append(voxels.n[members], n),
        np.maximum(np.append(mu_voxels, mu), 1e-9),
        voxels.eclipse[members[0]],
    )
    if tail.min() < EXPLAINED_P:
        return None
    return at_work[int(np.argmax([part[:, lit].sum() for part in several]))].region.label


def _shadowing(region: Region, peaks: Sequence[Region], data: ViewData) -> int | None:
    """Return the label of the brightest peak in an eclipse's cells, or None if they do not explain it."""
    members, voxels = region.members, data.voxels
    cell = data.cell_numbers()
    cells = np.unique(cell[members])
    quiet = np.ones(data.grid.nt, bool)
    excess = {}
    in_cells = np.isin(cell, cells)
    for peak in peaks:
        here = peak.members[in_cells[peak.members]]
        if here.size:
            t = voxels.t[peak.members]
            quiet[t.min() : t.max() + 1] = False
            excess[peak.label] = float((voxels.n[here] - voxels.mu[here]).sum())
    if not excess:
        return None
    n, mu = _counts(cells, np.flatnonzero(quiet), data)
    without = voxels.mu[members] * n / max(mu, 1e-9)
    if poisson_tail(voxels.n[members], np.maximum(without, 1e-9), True).min() < EXPLAINED_P:
        return None
    return max(excess, key=lambda label: (excess[label], -label))


def _counts(cells: Ints, t: NDArray[np.integer], data: ViewData) -> tuple[int, float]:
    """Return counts and expected counts of some cells, summed over those of the given frames with an expectation."""
    expected = data.expected
    y, x = np.divmod(cells, data.grid.box.nx)
    _, _, frame = data.photons_of_cells(cells)
    t = t[expected.background_counts[t] + expected.live[t] > 0]
    mu = sum(
        float(expected.row(int(row), int(column), int(column) + 1)[0, t].sum())
        for row, column in zip(y, x, strict=True)
    )
    return int(np.isin(frame, t).sum()), mu
