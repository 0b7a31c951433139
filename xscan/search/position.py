"""Find the sky position of each region: the one that explains its photons best.

A region's cells are 20 arcsec wide; its photons allow a better position. The position of a peak is fitted to the
events in the region's flagged frames, with the point spread function for the source and the expectation for the
background. The position of an eclipse is that of the source which disappears, fitted to the events of all other
frames. A fitted position outside the region's cells and their neighbours is discarded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xscan.backends import PointSourceLoops
from xscan.grid import Box, Grid
from xscan.model import Instrument
from xscan.pointsource.exposure import CameraMap, Holes, beyond
from xscan.pointsource.fit import DENSITY_MIN, PHOTONS_MIN, WIDER, WIDER_SPREAD, Fitted, Points, Spots
from xscan.pointsource.psf import KING_SLOPE
from xscan.search.regions import Region
from xscan.search.view import ViewData
from xscan.sky import Position, TangentPlane

__all__ = ["RADIUS_ARCSEC", "find_source", "fit_point_source", "region_centroids", "region_positions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.uint8]
Bounds = tuple[float, float, float, float]

RADIUS_ARCSEC = 45.0
"""Events within this distance of the first guess take part in the fit."""

FEW_PHOTONS = 4.0
MISFIT_PHOTONS = 150.0
HOLE_ERROR = 0.14
EDGE_ARCSEC = 2.0  # precision with which the edge of a CCD is known from its events
HIDDEN_ERROR_ARCSEC = 0.3  # added for eclipses: with thousands of photons, errors of profile and neighbours dominate
STARTS = 25
GRID_ARCSEC = (-16.0, -8.0, 0.0, 8.0, 16.0)
GUESSED_WITH = 300  # number of events, and of holes, used for the starting point, which need not be exact
MIDDLES_ARCSEC = 8.0
RECENTRED_ARCSEC = 20.0


def region_centroids(regions: Sequence[Region], grid: Grid, plane: TangentPlane) -> list[Position]:
    """Return the position of each region's count-weighted centroid of cells.

    Its error is that of rounding an event to the centre of its cell, divided by the square root of the number of cells.

    Examples
    --------
    The centre of the one cell of a burst, with the error of a coordinate anywhere in 20.09 arcsec:

    >>> from xscan.search.regions import regions
    >>> (centroid,) = region_centroids(regions(data), data.grid, data.plane)
    >>> round(centroid.x_px), round(centroid.error_arcsec, 1)
    (25920, 5.8)
    """
    x, y = (grid.to_pixel([getattr(region, axis) for region in regions]) for axis in "xy")
    errors = [grid.cell_arcsec / math.sqrt(12 * region.area) for region in regions]
    return _positions(x.tolist(), y.tolist(), errors, plane)


def _positions(x: Sequence[float], y: Sequence[float], errors: Sequence[float], plane: TangentPlane) -> list[Position]:
    ra, dec = plane.to_icrs(x, y)
    return [Position(*values) for values in zip(x, y, ra.tolist(), dec.tolist(), errors, strict=True)]


def region_positions(
    regions: Sequence[Region],
    centroids: Sequence[Position],
    data: ViewData,
    maps: Sequence[CameraMap],
    loops: PointSourceLoops,
) -> list[Position]:
    """Return the sky position of each region of a view, fitted to its photons.

    Parameters
    ----------
    regions : sequence of Region
    centroids : sequence of Position
        From :func:`region_centroids`.
    data : ViewData
    maps : sequence of CameraMap
        Where each camera sees nothing; a camera without a map is taken to have no blind spots.
    loops : PointSourceLoops

    Returns
    -------
    list of Position
        The centroid of the cells where a fit does not determine the position.

    Examples
    --------
    A burst of 12 photons in one cell, of which the centroid alone has an error of 5.8 arcsec along each axis:

    >>> from xscan.backends import get_backend
    >>> from xscan.search.regions import regions
    >>> burst = regions(data)
    >>> centroids = region_centroids(burst, data.grid, data.plane)
    >>> (place,) = region_positions(burst, centroids, data, [], get_backend("numpy").pointsource)
    >>> round(centroids[0].error_arcsec, 1), round(place.error_arcsec, 1)
    (5.8, 0.6)
    """
    grid, plane = data.grid, data.plane
    fits: dict[int, tuple[float, float, float]] = {}
    for i, (region, cell) in enumerate(zip(regions, centroids, strict=True)):
        guess = ((cell.x_px - plane.crpix) * grid.sky.side_arcsec, (cell.y_px - plane.crpix) * grid.sky.side_arcsec)
        eclipse = bool(data.voxels.eclipse[region.members].all())
        spots = _spots(region, eclipse, guess, data, loops)
        fit = find_source(spots, guess, _believed(region.box, grid, plane), maps, loops)
        if fit is not None:
            fits[i] = (*fit[:2], math.hypot(fit[2], HIDDEN_ERROR_ARCSEC) if eclipse else fit[2])
    if not fits:
        return list(centroids)
    x, y, errors = zip(*fits.values(), strict=True)
    x_px, y_px = ([plane.crpix + value / grid.sky.side_arcsec for value in values] for values in (x, y))
    fitted = dict(zip(fits, _positions(x_px, y_px, errors, plane), strict=True))
    return [fitted.get(i, cell) for i, cell in enumerate(centroids)]


def _believed(box: Box, grid: Grid, plane: TangentPlane) -> Bounds:
    """Return the least and largest x, then y, of a region's cells and their neighbours, arcsec."""
    edges = grid.to_pixel([box.x0 - 1.5, box.x1 + 0.5, box.y0 - 1.5, box.y1 + 0.5])
    x0, x1, y0, y1 = ((edge - plane.crpix) * grid.sky.side_arcsec for edge in edges.tolist())
    return x0, x1, y0, y1


def _spots(
    region: Region, eclipse: bool, middle: tuple[float, float], data: ViewData, loops: PointSourceLoops
) -> Spots:
    """Return the events near a region: those of its flagged frames or, for an eclipse, of all other searched frames."""
    grid, members = data.grid, region.members
    flagged = np.zeros(grid.nt, bool)
    flagged[data.voxels.t[members]] = True
    chosen = ~flagged & ~data.frames.rejected if eclipse else flagged
    hidden = data.cell_numbers(members) if eclipse else None
    margin = int(RADIUS_ARCSEC / grid.cell_arcsec) + 1
    around = region.box.grown(margin).intersect(grid.box)
    off_axis_arcmin = math.hypot(*middle) / 60  # REF?CRVL is RA_PNT, DEC_PNT in the archive's lists
    return loops.spots_near(
        data.photons, around, data.pi_range, data.expected, chosen, grid, data.plane.crpix, off_axis_arcmin, hidden
    )  # fmt: skip


def find_source(
    spots: Spots,
    guess: tuple[float, float],
    believed: Bounds,
    maps: Sequence[CameraMap],
    loops: PointSourceLoops,
) -> tuple[float, float, float] | None:
    """Find the most likely position of a source among events: choose a start, then fit (:func:`fit_point_source`).

    Parameters
    ----------
    spots : Spots
    guess : (float, float)
        arcsec.
    believed : (float, float, float, float)
        Smallest and largest x, smallest and largest y of an acceptable position, arcsec.
    maps : sequence of CameraMap
    loops : PointSourceLoops

    Returns
    -------
    (x, y, error) or None
        As :func:`fit_point_source`; None also where the fit leads outside ``believed``, to some other source.

    Examples
    --------
    Twenty photons round (3, -2) arcsec; they are no source of the cells to the north of it:

    >>> from xscan.backends import get_backend
    >>> loops = get_backend("numpy").pointsource
    >>> x, y, error = find_source(spots, (0.0, 0.0), (-30.0, 30.0, -30.0, 30.0), [], loops)
    >>> round(x, 1), round(y, 1)
    (3.0, -2.0)
    >>> print(find_source(spots, (0.0, 20.0), (-30.0, 30.0, 10.0, 50.0), [], loops))
    None
    """
    if len(spots.x) < PHOTONS_MIN:
        return None
    middle = _rounded(guess)  # views that find the same source then ask for the same holes
    holes = _holes_around(middle, spots, maps, loops)
    start = _likeliest(spots, holes, guess, believed, loops)
    if (start[0] - middle[0]) ** 2 + (start[1] - middle[1]) ** 2 > RECENTRED_ARCSEC**2:
        middle = _rounded(start)
        holes = _holes_around(middle, spots, maps, loops)
    near = spots.within(*middle, RADIUS_ARCSEC)
    fit = fit_point_source(near, holes, start, loops)
    return fit if fit is not None and _inside(*fit[:2], believed) else None


def _rounded(position: tuple[float, float]) -> tuple[float, float]:
    x, y = position
    return MIDDLES_ARCSEC * round(x / MIDDLES_ARCSEC), MIDDLES_ARCSEC * round(y / MIDDLES_ARCSEC)


def _inside(x: float, y: float, bounds: Bounds) -> bool:
    return bounds[0] <= x <= bounds[1] and bounds[2] <= y <= bounds[3]


def _holes_around(
    middle: tuple[float, float], spots: Spots, maps: Sequence[CameraMap], loops: PointSourceLoops
) -> Holes:
    """Return where the cameras that recorded the spots have no events.

    These are the holes within the circle of :data:`RADIUS_ARCSEC`, and everything beyond the circle.
    """
    cameras = np.flatnonzero(np.bincount(spots.camera)).tolist()
    parts = [beyond(*middle, RADIUS_ARCSEC, number) for number in cameras]
    parts += [one.holes(*middle, RADIUS_ARCSEC, loops.dark) for one in maps if one.number in cameras]
    return Holes.joined(parts)


def _likeliest(
    spots: Spots, holes: Holes, guess: tuple[float, float], believed: Bounds, loops: PointSourceLoops
) -> tuple[float, float]:
    """Return the most likely of the guess and, within bounds, a grid around it and the positions of some events."""
    x0, x1, y0, y1 = believed
    inside = np.flatnonzero((spots.x >= x0) & (spots.x <= x1) & (spots.y >= y0) & (spots.y <= y1))
    inside = inside[:: 1 + inside.size // STARTS]
    around = [(guess[0] + dx, guess[1] + dy) for dx in GRID_ARCSEC for dy in GRID_ARCSEC]
    around = [position for position in around if _inside(*position, believed)]
    positions = np.concatenate([[guess, *around], np.stack([spots.x[inside], spots.y[inside]], axis=1)])
    points = Points.of(
        spots.every(1 + len(spots.x) // GUESSED_WITH), holes.every(1 + len(holes.x) // GUESSED_WITH)
    )  # fmt: skip
    strength = np.bincount(spots.camera, minlength=points.n_cameras) / 2
    best = positions[loops.likeliest(points, strength, positions)]
    return float(best[0]), float(best[1])


def fit_point_source(
    spots: Spots, holes: Holes, start: tuple[float, float], loops: PointSourceLoops
) -> tuple[float, float, float] | None:
    """Fit the position of a point source to photons.

    Parameters
    ----------
    spots : Spots
    holes : Holes
        Where no event could be recorded, including everything beyond the circle of the events.
    start : (float, float)
        A first guess, arcsec.
    loops : PointSourceLoops

    Returns
    -------
    (x, y, error) or None
        Position, arcsec, and 1-sigma error along each axis; None if the photons do not determine them.

    Notes
    -----
    The error comes from the curvature of the likelihood at its maximum, averaged with what is expected of
    so many photons and these holes: a handful may happen to lie close together. Its variance is multiplied by
    how much more the photons pull the position about than the profile lets them (the sandwich estimator over
    the curvature), held to 1 by ``MISFIT_PHOTONS`` photons, and by ``1 + FEW_PHOTONS / s``. These
    were chosen so that offsets over errors of made-up sources are Rayleigh-distributed, whatever their width
    (scripts/positions, tests/search/test_position.py).

    Examples
    --------
    Twenty photons round (3, -2) arcsec, a core of 5 arcsec, nothing seen beyond 45 arcsec:

    >>> from xscan.backends import get_backend
    >>> x, y, error = fit_point_source(spots, beyond(0.0, 0.0, 45.0, 0), (0.0, 0.0), get_backend("numpy").pointsource)
    >>> round(x, 1), round(y, 1), round(error, 1)
    (3.0, -2.0, 0.9)
    """
    if len(spots.x) < PHOTONS_MIN:
        return None
    points = Points.of(spots, holes)
    settled = loops.settle(points, start)
    if settled is None:
        return None
    px, py, width, strength = settled
    error = _error(points, (px, py, width), strength, spots.instrument, loops)
    return None if error is None else (px, py, error)


def _error(
    points: Points, fitted: Fitted, strength: Floats, instrument: Instrument, loops: PointSourceLoops
) -> float | None:
    """Return the error along each axis from the information on x, y, log width and the log strengths."""
    sums, width = loops.curvature(points, fitted, strength), fitted[2]
    observed, expected = sums.observed.copy(), sums.expected.copy()
    at_position = 2 * KING_SLOPE * (KING_SLOPE - 1) / (KING_SLOPE + 1) / (width * width)
    whole = at_position * float((strength * sums.at_position / np.maximum(sums.live, DENSITY_MIN)).sum())
    expected[0, 0] += whole
    expected[1, 1] += whole
    expected[2, 2] += 4 * (KING_SLOPE - 1) / (KING_SLOPE + 1) * float(strength.sum())
    present = np.flatnonzero(sums.live > DENSITY_MIN)
    prior = (width / WIDER + WIDER / width) / 2 / WIDER_SPREAD**2
    both = ((observed, sums.cross, sums.own), (expected, sums.in_holes, strength - sums.missed))
    for information, cross, of_strength in both:
        information[2, 2] += prior
        for camera in present.tolist():
            information -= cross[:, camera, None] * cross[:, camera] / of_strength[camera]
    told, due = _variances(observed), _variances(expected)
    if told is None or due is None:
        return None
    # each event's contribution to the gradient in x and y, without the part that strength and width absorb
    freed = np.zeros_like(sums.cross)
    freed[:, present] = sums.cross[:, present] / sums.own[present]
    by_width = float(observed[0, 2] / observed[2, 2]), float(observed[1, 2] / observed[2, 2])
    scatter, in_holes = loops.pulls(points, fitted, strength, freed, by_width, told)
    xx, yy, _ = told
    n = float(sums.live.sum())
    misfit = (n * scatter / (xx + yy) + MISFIT_PHOTONS) / (n + MISFIT_PHOTONS)
    variance = 2 / (2 / (xx + yy) + 2 / (due[0] + due[1]))
    # What holes add because their edges, and an event's position within its pixel, are not known: the profile is
    # fitted as if they were; the mistake is of the order of the square of what is not known over the core, and
    # holes leave it unbalanced. It is noticed with thousands of photons, most with pn's large pixels.
    blur2 = np.array([camera.pixel_arcsec**2 + EDGE_ARCSEC**2 for camera in instrument.cameras])
    hole_error = HOLE_ERROR * float((blur2 * in_holes).sum()) / width / n
    return math.sqrt(variance * misfit * (1 + FEW_PHOTONS / n) + hole_error**2)


def _variances(information: Floats) -> tuple[float, float, float] | None:
    """Return variance of x, of y, and covariance from the information on x, y and width; None if it is singular."""
    (xx, xy, xw), (_, yy, yw), (_, _, ww) = information.tolist()
    if ww <= 0:
        return None
    xx, yy, xy = xx - xw * xw / ww, yy - yw * yw / ww, xy - xw * yw / ww
    determinant = xx * yy - xy * xy
    return (yy / determinant, xx / determinant, -xy / determinant) if xx > 0 and determinant > 0 else None
