"""All that the search of one view works with, in one object that each step is handed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.backends import Counts
from xscan.grid import Grid
from xscan.model import Expectation, Frames, Photons, Voxels
from xscan.sky import TangentPlane

__all__ = ["ViewData"]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ViewData:
    """The photons of one view, what is expected of them, and the voxels that were flagged.

    Attributes
    ----------
    photons : Photons
        All photons of the subset, of any energy and time.
    pi_range : (int, int)
        The view's band, eV, the second exclusive.
    plane : TangentPlane
    grid : Grid
    frames : Frames
    counts : Counts
    images : int64 array, shape (2, ny, nx)
        Counts of the good and of the bad frames.
    disks : bool array, shape (ny, nx)
        Cells covered by listed sources.
    mask : bool array, shape (ny, nx)
        The source mask: listed sources and bright cells.
    expected : Expectation
    voxels : Voxels
    """

    photons: Photons
    pi_range: tuple[int, int]
    plane: TangentPlane
    grid: Grid
    frames: Frames
    counts: Counts
    images: Ints
    disks: Bools
    mask: Bools
    expected: Expectation
    voxels: Voxels

    @property
    def image(self) -> Ints:
        """Counts of all frames that were not rejected, shape (ny, nx)."""
        return np.asarray(self.images.sum(axis=0))

    @property
    def n_events_rejected(self) -> int:
        """Number of events in rejected frames, which are in neither image."""
        return self.counts.n_events() - int(self.images.sum())

    def cell_numbers(self, members: slice | NDArray[np.integer] = np.s_[:]) -> Ints:
        """Return the cell, ``y * nx + x``, of flagged voxels: of those with the given indices, else of all."""
        voxels = self.voxels
        return voxels.y[members].astype(np.int64) * self.grid.box.nx + voxels.x[members]

    def photons_of_cells(self, cells: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the photons of some cells, all energies and times included.

        Parameters
        ----------
        cells : int64 array
            As :meth:`cell_numbers` gives them; photons are returned in this order, those of a cell in order of time.

        Returns
        -------
        index : int64, shape (k,)
            Of each photon in ``photons``.
        which : int64, shape (k,)
            Index in ``cells`` of its cell.
        frame : int64, shape (k,)
            Its frame; -1 if it is outside the band, or before the first frame or after the last.
        """
        y, x = np.divmod(cells, self.grid.box.nx)
        index, which = self.photons.of_cells(y + self.grid.box.y0, x + self.grid.box.x0)
        frame, pi = self.photons.tick[index] // self.grid.dt_ms, self.photons.pi[index]
        inside = (frame >= 0) & (frame < self.grid.nt) & (pi >= self.pi_range[0]) & (pi < self.pi_range[1])
        return index, which, np.where(inside, frame, np.int64(-1))
