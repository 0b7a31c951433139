"""Gather flagged voxels into regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xscan.grid import Box, Grid
from xscan.model import Voxels

__all__ = ["Region", "regions"]

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True)
class Region:
    """Touching cells with at least one flagged voxel each.

    Attributes
    ----------
    label : int
        From 0, in order of x, then y, of the first cell.
    box : Box
        Bounding box, cells of the whole plane.
    area : int
        Number of cells.
    x, y : float
        Count-weighted centroid in cells of the plane; k is the centre of cell k.
    members : int array, shape (k,)
        Places of the region's voxels in :class:`~xscan.model.Voxels`.
    """

    label: int
    box: Box
    area: int
    x: float
    y: float
    members: NDArray[np.intp]


def regions(voxels: Voxels, image: NDArray[np.integer], grid: Grid) -> list[Region]:
    """Label the cells that hold flagged voxels, eight neighbours each.

    Parameters
    ----------
    voxels : Voxels
    image : int array, shape (ny, nx)
        Counts of all frames that were not rejected: the weights of the centroid.
    grid : Grid

    Returns
    -------
    list of Region
        In order of label.
    """
    ny, nx, _ = grid.shape
    flagged = np.zeros((ny, nx), bool)
    flagged[voxels.y, voxels.x] = True
    # labels run with x slowest, as in EXOD2, whose arrays are (x, y)
    labels, n_regions = ndimage.label(flagged.T, structure=EIGHT_NEIGHBOURS)
    labels = labels.T
    of_voxel = labels[voxels.y, voxels.x]
    found = []
    for label in range(1, n_regions + 1):
        y, x = np.nonzero(labels == label)
        weight = image[y, x].astype(np.float64)
        if weight.sum() == 0:  # an eclipse may cover cells that never saw a count
            weight[:] = 1.0
        box = Box.around(x + grid.box.x0, y + grid.box.y0)
        x_mean = float((x * weight).sum() / weight.sum()) + grid.box.x0
        y_mean = float((y * weight).sum() / weight.sum()) + grid.box.y0
        members = np.flatnonzero(of_voxel == label)
        found.append(Region(label - 1, box, x.size, x_mean, y_mean, members))
    return found
