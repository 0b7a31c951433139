"""Gather flagged voxels into regions, and say where on the sky each region is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xscan.config import Rules
from xscan.grid import Box, Grid
from xscan.model import Voxels
from xscan.sky import SKY_PIXEL_ARCSEC, TangentPlane

__all__ = ["Place", "Region", "locate", "regions"]

PSF_SIGMA_ARCSEC = 6.0
"""Rms radius per axis of EPIC's point spread function's core, smeared by the pn pixels."""

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


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the sky.

    Attributes
    ----------
    x_px, y_px : float
        Sky pixel of 0.05 arcsec.
    ra_deg, dec_deg : float
        deg, ICRS (FK5 with EXOD2's positions).
    error_arcsec : float
        1-sigma error along each axis, arcsec.
    """

    x_px: float
    y_px: float
    ra_deg: float
    dec_deg: float
    error_arcsec: float


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


def locate(region: Region, counts: int, grid: Grid, plane: TangentPlane, rules: Rules) -> Place:
    """Give a region's place on the sky.

    Parameters
    ----------
    region : Region
    counts : int
        Counts of the region in all frames not rejected.
    grid : Grid
    plane : TangentPlane
    rules : Rules

    Notes
    -----
    The error is that of a mean of ``counts`` photons spread by the point spread function, and of
    rounding each of them to the centre of a cell: a uniform error of one cell's width, which
    averages out over the cells that the region has.
    """
    rounding = grid.cell_arcsec / np.sqrt(12 * region.area)
    error = float(np.hypot(PSF_SIGMA_ARCSEC / np.sqrt(max(counts, 1)), rounding))
    if not rules.cell_centres:
        return _locate_exod2(region, error, grid, plane)
    x, y = float(grid.to_pixel(region.x)), float(grid.to_pixel(region.y))
    ra, dec = plane.to_icrs(x, y)
    return Place(x, y, float(ra), float(dec), error)


def _locate_exod2(region: Region, error: float, grid: Grid, plane: TangentPlane) -> Place:
    """EXOD2: left edges of cells, then a shift of sqrt(2) x 10 arcsec toward position angle 315 deg."""
    side = grid.cell_arcsec / SKY_PIXEL_ARCSEC
    x, y = region.x * side, region.y * side
    # its image has pixels of 80 x 80, counted from 0, whose reference is CRPIX / 80
    corner_ra, corner_dec = plane.to_fk5(x + 80, y + 80)
    ra, dec = _offset(float(corner_ra), float(corner_dec), position_angle_deg=315.0, distance_arcsec=np.sqrt(2) * 10)
    return Place(x, y, ra, dec, error)


def _offset(ra: float, dec: float, position_angle_deg: float, distance_arcsec: float) -> tuple[float, float]:
    """Go a distance along a great circle; deg."""
    angle, distance = np.radians(position_angle_deg), np.radians(distance_arcsec / 3600)
    dec0 = np.radians(dec)
    sin_dec = np.sin(dec0) * np.cos(distance) + np.cos(dec0) * np.sin(distance) * np.cos(angle)
    east = np.sin(angle) * np.sin(distance) * np.cos(dec0)
    north = np.cos(distance) - np.sin(dec0) * sin_dec
    return float((ra + np.degrees(np.arctan2(east, north))) % 360), float(np.degrees(np.arcsin(sin_dec)))
