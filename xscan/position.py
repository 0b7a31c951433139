"""Where a transient is: the place that explains its photons best.

A region's cells are 20 arcsec wide; its photons know better. The place of a peak is fitted to the
events in the region's flagged time: point spread function plus the expectation as background. The
place of an eclipse is that of the source which is hidden, fitted to the events of all other time.
A place outside the region and its neighbouring cells is not believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.config import Rules
from xscan.detect import Region
from xscan.exposure import PIXEL_ARCSEC, CameraMap, Holes, beyond
from xscan.grid import Box, Grid
from xscan.model import CAMERAS, Expectation, Frames, Photons, Voxels
from xscan.pointfit import (
    DENSITY_MIN,
    HIDDEN_MAX,
    PHOTONS_MIN,
    WIDER,
    WIDER_SPREAD,
    Points,
    Settle,
    Spots,
    density,
    settle,
)
from xscan.psf import KING_SLOPE, cores_arcsec
from xscan.sky import SKY_PIXEL_ARCSEC, TangentPlane

__all__ = ["RADIUS_ARCSEC", "Place", "fit_place", "locate", "locate_cells", "place_source"]

Floats = NDArray[np.float64]
Ints = NDArray[np.uint8]
Bounds = tuple[float, float, float, float]

RADIUS_ARCSEC = 45.0
"""Events this far from the first guess take part."""

FEW_PHOTONS = 4.0
MISFIT_PHOTONS = 150.0
HOLE_ERROR = 0.14
EDGE_ARCSEC = 2.0  # so well is the edge of a CCD known from its events
HIDDEN_ERROR_ARCSEC = 0.3  # of a bright source: with thousands of photons, profile and neighbours decide
STARTS = 25
GRID_ARCSEC = (-16.0, -8.0, 0.0, 8.0, 16.0)
GUESSED_WITH = 300  # events, and holes: the start need not be exact
MIDDLES_ARCSEC = 8.0
RECENTRED_ARCSEC = 20.0


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
        1-sigma error along each axis, arcsec, without the error of the attitude.
    """

    x_px: float
    y_px: float
    ra_deg: float
    dec_deg: float
    error_arcsec: float


def locate_cells(region: Region, grid: Grid, plane: TangentPlane) -> Place:
    """Give the place of a region's count-weighted centroid of cells.

    Its error is that of rounding to the centre of a cell, which averages out over the region's cells.
    """
    x, y = float(grid.to_pixel(region.x)), float(grid.to_pixel(region.y))
    ra, dec = plane.to_icrs(x, y)
    return Place(x, y, float(ra), float(dec), grid.cell_arcsec / float(np.sqrt(12 * region.area)))


def locate(
    region: Region,
    voxels: Voxels,
    photons: Photons,
    pi_range: tuple[int, int],
    expected: Expectation,
    frames: Frames,
    grid: Grid,
    plane: TangentPlane,
    rules: Rules,
    maps: Sequence[CameraMap] = (),
    settle: Settle = settle,
) -> Place:
    """Give a region's place on the sky, fitted to its photons.

    Parameters
    ----------
    region : Region
    voxels : Voxels
        All flagged voxels of the view.
    photons : Photons
    pi_range : (int, int)
        The view's band, eV, the second exclusive.
    expected : Expectation
    frames : Frames
    grid : Grid
    plane : TangentPlane
    rules : Rules
    maps : sequence of CameraMap
        Where each camera sees nothing; a camera that is not among them is taken to see everything.
    settle : callable
        :func:`xscan.pointfit.settle`, or a backend's.

    Returns
    -------
    Place
        That of the cells where the photons do not say.
    """
    if not rules.fitted_places:
        return _locate_exod2(region, grid, plane)
    cells = locate_cells(region, grid, plane)
    eclipse = bool(voxels.eclipse[region.members].all())
    flagged = np.zeros(grid.nt, bool)
    flagged[voxels.t[region.members]] = True
    chosen = ~flagged & ~frames.rejected if eclipse else flagged
    hidden = voxels.y[region.members] * np.int64(grid.box.nx) + voxels.x[region.members] if eclipse else None
    spots = _spots_near(region, photons, pi_range, expected, chosen, grid, plane, hidden)
    start = ((cells.x_px - plane.crpix) * SKY_PIXEL_ARCSEC, (cells.y_px - plane.crpix) * SKY_PIXEL_ARCSEC)
    low_x, high_x = grid.to_pixel([region.box.x0 - 1.5, region.box.x1 + 0.5])
    low_y, high_y = grid.to_pixel([region.box.y0 - 1.5, region.box.y1 + 0.5])
    x0, x1, y0, y1 = ((float(edge) - plane.crpix) * SKY_PIXEL_ARCSEC for edge in (low_x, high_x, low_y, high_y))
    fit = place_source(spots, start, (x0, x1, y0, y1), maps, settle)
    if fit is None:
        return cells
    x_px, y_px = plane.crpix + fit[0] / SKY_PIXEL_ARCSEC, plane.crpix + fit[1] / SKY_PIXEL_ARCSEC
    ra, dec = plane.to_icrs(x_px, y_px)
    error = float(np.hypot(fit[2], HIDDEN_ERROR_ARCSEC)) if eclipse else fit[2]
    return Place(x_px, y_px, float(ra), float(dec), error)


def _spots_near(
    region: Region,
    photons: Photons,
    pi_range: tuple[int, int],
    expected: Expectation,
    chosen: NDArray[np.bool_],
    grid: Grid,
    plane: TangentPlane,
    hidden: NDArray[np.int64] | None,
) -> Spots:
    """Give the events near a region in the frames chosen.

    ``hidden`` are the cells (y * nx + x) of a source that is eclipsed: there only the background is
    expected, so that its own photons place it; its neighbours' are expected where they fall. Each camera
    is taken to send the share of the expected events that it sends of all events here.
    """
    box, whole = region.box, grid.box
    cells = int(RADIUS_ARCSEC / grid.cell_arcsec) + 1
    margin = Box(
        max(box.x0 - cells, whole.x0),
        min(box.x1 + cells, whole.x1),
        max(box.y0 - cells, whole.y0),
        min(box.y1 + cells, whole.y1),
    )
    index, y, x = photons.within(margin)
    in_band = (photons.pi[index] >= pi_range[0]) & (photons.pi[index] < pi_range[1])
    sent = np.bincount(photons.camera[index[in_band]], minlength=len(CAMERAS))
    share = sent / max(int(sent.sum()), 1)
    frame = photons.tick[index] // grid.dt_ms
    keep = in_band & (frame >= 0) & (frame < grid.nt)
    keep &= chosen[np.where(keep, frame, 0)]
    index, frame, y, x = index[keep], frame[keep], y[keep] - whole.y0, x[keep] - whole.x0
    mu = expected.at(y, x, frame)
    if hidden is not None:
        its_own = np.isin(y * np.int64(grid.box.nx) + x, hidden)
        mu = np.where(its_own, expected.without_sources().at(y, x, frame), mu)
    camera = photons.camera[index]
    background = np.maximum(mu * share[camera] / grid.cell_arcsec**2, DENSITY_MIN)
    px, py = ((column[index].astype(float) - plane.crpix) * SKY_PIXEL_ARCSEC for column in (photons.x_px, photons.y_px))
    middle = [(float(grid.to_pixel(centre)) - plane.crpix) * SKY_PIXEL_ARCSEC for centre in (region.x, region.y)]
    off_axis_arcmin = math.hypot(*middle) / 60  # REF?CRVL is RA_PNT, DEC_PNT in the archive's lists
    return Spots(px, py, camera, cores_arcsec(camera, photons.pi[index], off_axis_arcmin), background)


def place_source(
    spots: Spots,
    guess: tuple[float, float],
    believed: Bounds,
    maps: Sequence[CameraMap],
    settle: Settle = settle,
) -> tuple[float, float, float] | None:
    """Find the most likely place of a source among events: a start, then :func:`fit_place` on a circle of events.

    Parameters
    ----------
    spots : Spots
    guess : (float, float)
        arcsec.
    believed : (float, float, float, float)
        Smallest and largest x, smallest and largest y of a place that is believed, arcsec.
    maps : sequence of CameraMap
    settle : callable

    Returns
    -------
    (x, y, error) or None
        As :func:`fit_place`; None also for the place of something else nearby.
    """
    if len(spots.x) < PHOTONS_MIN:
        return None
    middle = _rounded(guess)  # views that find the same source ask for the same holes
    holes = _holes_around(middle, spots, maps)
    start = _likeliest(spots, holes, guess, believed)
    if (start[0] - middle[0]) ** 2 + (start[1] - middle[1]) ** 2 > RECENTRED_ARCSEC**2:
        middle = _rounded(start)
        holes = _holes_around(middle, spots, maps)
    fit = fit_place(spots.within(*middle, RADIUS_ARCSEC), holes, start, settle)
    return fit if fit is not None and _inside(*fit[:2], believed) else None


def _rounded(place: tuple[float, float]) -> tuple[float, float]:
    return MIDDLES_ARCSEC * round(place[0] / MIDDLES_ARCSEC), MIDDLES_ARCSEC * round(place[1] / MIDDLES_ARCSEC)


def _inside(x: float, y: float, bounds: Bounds) -> bool:
    return bounds[0] <= x <= bounds[1] and bounds[2] <= y <= bounds[3]


def _holes_around(middle: tuple[float, float], spots: Spots, maps: Sequence[CameraMap]) -> Holes:
    """Give all places without events of the cameras that sent some: within the circle, and all beyond it."""
    cameras = np.unique(spots.camera).tolist()
    parts = [beyond(*middle, RADIUS_ARCSEC, number) for number in cameras]
    parts += [one.holes(*middle, RADIUS_ARCSEC) for one in maps if CAMERAS.index(one.camera) in cameras]
    return Holes.joined(parts)


def _likeliest(spots: Spots, holes: Holes, guess: tuple[float, float], believed: Bounds) -> tuple[float, float]:
    """Choose the most likely of a guess and, where they are believed, places around it and those of some events."""
    n_cameras = len(CAMERAS)
    x0, x1, y0, y1 = believed
    inside = np.flatnonzero((spots.x >= x0) & (spots.x <= x1) & (spots.y >= y0) & (spots.y <= y1))
    inside = inside[:: 1 + inside.size // STARTS]
    around = [(guess[0] + dx, guess[1] + dy) for dx in GRID_ARCSEC for dy in GRID_ARCSEC]
    around = [place for place in around if _inside(*place, believed)]
    places = np.concatenate([[guess, *around], np.stack([spots.x[inside], spots.y[inside]], axis=1)])
    some, few = 1 + len(spots.x) // GUESSED_WITH, 1 + len(holes.x) // GUESSED_WITH
    points = Points.of(spots.every(some), holes.every(few))
    x, y = places[:, :1], places[:, 1:]
    f = density((points.x - x) ** 2 + (points.y - y) ** 2, WIDER * WIDER * points.core2)
    strength = np.tile(np.bincount(spots.camera, minlength=n_cameras) / 2, (len(places), 1))
    for camera in range(n_cameras):  # what falls into holes must be sent too
        mine = points.group == camera + n_cameras
        missed = (f[:, mine] * points.area[mine]).sum(axis=1)
        strength[:, camera] /= np.maximum(1 - missed, 1 / (1 + HIDDEN_MAX))
    mine = points.group < n_cameras
    light = strength[:, points.group[mine]] * f[:, mine] + points.background[mine]
    best = places[int(np.argmax(np.log(light).sum(axis=1)))]
    return float(best[0]), float(best[1])


def fit_place(
    spots: Spots, holes: Holes, start: tuple[float, float], settle: Settle = settle
) -> tuple[float, float, float] | None:
    """Fit the place of a point source to photons.

    Parameters
    ----------
    spots : Spots
    holes : Holes
        Where there could be no event, with what lies beyond the events' circle.
    start : (float, float)
        A first guess, arcsec.
    settle : callable
        :func:`xscan.pointfit.settle`, or a backend's.

    Returns
    -------
    (x, y, error) or None
        Place, arcsec, and 1-sigma error along each axis; None if the photons do not say.

    Notes
    -----
    The error comes from the curvature of the likelihood at its maximum, averaged with what is expected of
    so many photons and these holes: a handful may happen to lie close together. Its variance is multiplied by
    how much more the photons pull the place about than the profile lets them (the sandwich estimator over
    the curvature), held to 1 by ``MISFIT_PHOTONS`` photons, and by ``1 + FEW_PHOTONS / s``. These
    were chosen so that offsets over errors of made-up sources are Rayleigh-distributed, whatever their width
    (scripts/positions, tests/test_position.py).
    """
    if len(spots.x) < PHOTONS_MIN:
        return None
    points = Points.of(spots, holes)
    settled = settle(points, start)
    if settled is None:
        return None
    px, py, width, strength = settled
    error = _error(points, (px, py, width), strength)
    return None if error is None else (px, py, error)


def _error(points: Points, fitted: tuple[float, float, float], strength: Floats) -> float | None:
    """Give the error along each axis from the information on x, y, log width and the log strengths."""
    n_cameras, width = len(CAMERAS), fitted[2]
    f, slopes, bends = _derivatives(points, fitted)
    member = points.members(strength, f)
    event = points.event

    def by_camera(values: Floats) -> tuple[Floats, Floats]:
        """Sums over events and over holes."""
        sums = np.asarray(np.bincount(points.group, values, 2 * n_cameras), float)
        return sums[:n_cameras], sums[n_cameras:]

    live, missed = by_camera(member)
    observed, expected = np.empty((3, 3)), np.empty((3, 3))
    seen, unseen = member * member * event, member * (1 - event)
    for i in range(3):
        for j in range(i + 1):
            product = slopes[i] * slopes[j]
            observed[i, j] = observed[j, i] = (seen * product - member * bends[i][j]).sum()
            expected[i, j] = expected[j, i] = -(unseen * product).sum()
    at_place = 2 * KING_SLOPE * (KING_SLOPE - 1) / (KING_SLOPE + 1) / (width * width)
    whole = at_place * float((strength * by_camera(member / points.core2)[0] / np.maximum(live, DENSITY_MIN)).sum())
    expected[0, 0] += whole
    expected[1, 1] += whole
    expected[2, 2] += 4 * (KING_SLOPE - 1) / (KING_SLOPE + 1) * float(strength.sum())
    both = [by_camera(member * slope) for slope in slopes]
    in_holes = -np.array([holes for _, holes in both])
    with_strength = in_holes + np.array([by_camera(seen * slope)[0] for slope in slopes])
    with_strength -= np.array([events for events, _ in both])
    own = by_camera(seen)[0]
    present = np.flatnonzero(live > DENSITY_MIN)
    prior = (width / WIDER + WIDER / width) / 2 / WIDER_SPREAD**2
    for information, cross, of_strength in ((observed, with_strength, own), (expected, in_holes, strength - missed)):
        information[2, 2] += prior
        for camera in present.tolist():
            information -= cross[:, camera, None] * cross[:, camera] / of_strength[camera]
    told, due = _variances(observed), _variances(expected)
    if told is None or due is None:
        return None
    # each event's pull on the place, free of what strength and width take up
    freed = np.zeros_like(in_holes)
    freed[:, present] = with_strength[:, present] / own[present]
    freed = np.concatenate([freed, freed], axis=1)
    pulls = [member * event * (slope - free[points.group]) for slope, free in zip(slopes, freed, strict=True)]
    pull_x, pull_y = (pulls[i] - observed[i, 2] / observed[2, 2] * pulls[2] for i in range(2))
    xx, yy, xy = told
    moves_x, moves_y = xx * pull_x + xy * pull_y, xy * pull_x + yy * pull_y
    scatter = float((moves_x * moves_x + moves_y * moves_y).sum()) / (xx + yy)
    n = float(live.sum())
    misfit = (n * scatter + MISFIT_PHOTONS) / (n + MISFIT_PHOTONS)
    variance = 2 / (2 / (xx + yy) + 2 / (due[0] + due[1]))
    return math.sqrt(variance * misfit * (1 + FEW_PHOTONS / n) + _hole_error(points, fitted, member) ** 2)


def _hole_error(points: Points, fitted: tuple[float, float, float], member: Floats) -> float:
    """Give what holes add because their edges, and an event's place within its pixel, are not known, arcsec.

    The profile is fitted as if they were; the mistake is of the order of the square of what is not known over
    the core, and holes leave it unbalanced. It is noticed with thousands of photons, most with pn's large pixels.
    """
    px, py, width = fitted
    near = (points.event == 0) & ((points.x - px) ** 2 + (points.y - py) ** 2 < RADIUS_ARCSEC**2)
    blur2 = np.array([PIXEL_ARCSEC[camera] ** 2 + EDGE_ARCSEC**2 for camera in CAMERAS])
    blur2 = blur2[points.group[near] % len(CAMERAS)]
    lost = float((member[near] * blur2 / np.sqrt(points.core2[near])).sum()) / width
    return HOLE_ERROR * lost / float((member * points.event).sum())


def _derivatives(points: Points, fitted: tuple[float, float, float]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
    """Give f, and its first and second derivatives by x, y and log width over f."""
    px, py, width = fitted
    dx, dy, wide2 = points.x - px, points.y - py, width * width * points.core2
    r2 = dx * dx + dy * dy
    outside = r2 / (r2 + wide2)  # 0 at the place, 1 far away
    rise = 2 * KING_SLOPE / (r2 + wide2)
    bend = rise * (2 * (KING_SLOPE + 1) / (r2 + wide2))
    wide = 2 * KING_SLOPE * outside - 2
    turn = wide - 2 * (1 - outside)
    xx, yy, xy = bend * dx * dx - rise, bend * dy * dy - rise, bend * dx * dy
    xw, yw, ww = rise * dx * turn, rise * dy * turn, wide * wide - 4 * KING_SLOPE * outside * (1 - outside)
    return density(r2, wide2), [rise * dx, rise * dy, wide], [[xx, xy, xw], [xy, yy, yw], [xw, yw, ww]]


def _variances(information: Floats) -> tuple[float, float, float] | None:
    """Give variance of x, of y, and covariance from the information on x, y and width; None if they are not fixed."""
    (xx, xy, xw), (_, yy, yw), (_, _, ww) = information.tolist()
    if ww <= 0:
        return None
    xx, yy, xy = xx - xw * xw / ww, yy - yw * yw / ww, xy - xw * yw / ww
    determinant = xx * yy - xy * xy
    return (yy / determinant, xx / determinant, -xy / determinant) if xx > 0 and determinant > 0 else None


def _locate_exod2(region: Region, grid: Grid, plane: TangentPlane) -> Place:
    """EXOD2: left edges of cells, then a shift of sqrt(2) x 10 arcsec toward position angle 315 deg."""
    side = grid.cell_arcsec / SKY_PIXEL_ARCSEC
    x, y = region.x * side, region.y * side
    # its image has pixels of 80 x 80, counted from 0, whose reference is CRPIX / 80
    corner_ra, corner_dec = plane.to_fk5(x + 80, y + 80)
    ra, dec = _offset(float(corner_ra), float(corner_dec), position_angle_deg=315.0, distance_arcsec=np.sqrt(2) * 10)
    return Place(x, y, ra, dec, grid.cell_arcsec / float(np.sqrt(12 * region.area)))


def _offset(ra: float, dec: float, position_angle_deg: float, distance_arcsec: float) -> tuple[float, float]:
    """Go a distance along a great circle; deg."""
    angle, distance = np.radians(position_angle_deg), np.radians(distance_arcsec / 3600)
    dec0 = np.radians(dec)
    sin_dec = np.sin(dec0) * np.cos(distance) + np.cos(dec0) * np.sin(distance) * np.cos(angle)
    east = np.sin(angle) * np.sin(distance) * np.cos(dec0)
    north = np.cos(distance) - np.sin(dec0) * sin_dec
    return float((ra + np.degrees(np.arctan2(east, north))) % 360), float(np.degrees(np.arcsin(sin_dec)))
