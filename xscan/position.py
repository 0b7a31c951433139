"""Where a transient is: the place that explains its photons best.

A region's cells are 20 arcsec wide; its photons know better. The place of a peak is fitted to the
events in the region's flagged time: point spread function plus the expectation as background. The
place of an eclipse is that of the source which is hidden, fitted to the events of all other time.
A place outside the region and its neighbouring cells is not believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.config import Rules
from xscan.detect import Region
from xscan.grid import Box, Grid
from xscan.model import CAMERAS, Expectation, Frames, Photons, Voxels
from xscan.sky import SKY_PIXEL_ARCSEC, TangentPlane

__all__ = ["KING_CORE_ARCSEC", "KING_SLOPE", "Place", "fit_place", "locate"]

Floats = NDArray[np.float64]

KING_CORE_ARCSEC = {"pn": 6.6, "m1": 4.9, "m2": 4.9}
KING_SLOPE = 1.5  # the power of _king is written for it
"""King profile ``(1 + (r / core)**2)**-slope``: round numbers of the right order, not read from a calibration file."""

PHOTONS_MIN = 3.0
FEW_PHOTONS = 2.0
HIDDEN_ERROR_ARCSEC = 1.0  # of a bright source: with thousands of photons, profile and chip gaps decide
ITERATIONS = 200
SETTLED_ARCSEC = 1e-3
STARTS = 40
GUESSED_WITH = 2000  # photons: the start need not be exact
MARGIN_CELLS = 2  # events this far from the region's box take part
DENSITY_MIN = 1e-6  # 1/arcsec^2: background where none is expected


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
    x, y, camera, density = _events_near(region, photons, pi_range, expected, chosen, grid, hidden)
    start = ((cells.x_px - plane.crpix) * SKY_PIXEL_ARCSEC, (cells.y_px - plane.crpix) * SKY_PIXEL_ARCSEC)
    x_arcsec, y_arcsec = ((pixel - plane.crpix) * SKY_PIXEL_ARCSEC for pixel in (x, y))
    fit = fit_place(x_arcsec, y_arcsec, camera, density, start)
    if fit is None:
        return cells
    x_px, y_px = plane.crpix + fit[0] / SKY_PIXEL_ARCSEC, plane.crpix + fit[1] / SKY_PIXEL_ARCSEC
    low_x, high_x = grid.to_pixel([region.box.x0 - 1.5, region.box.x1 + 0.5])
    low_y, high_y = grid.to_pixel([region.box.y0 - 1.5, region.box.y1 + 0.5])
    if not (low_x <= x_px <= high_x and low_y <= y_px <= high_y):
        return cells  # the photons of something else nearby
    ra, dec = plane.to_icrs(x_px, y_px)
    error = float(np.hypot(fit[2], HIDDEN_ERROR_ARCSEC)) if eclipse else fit[2]
    return Place(x_px, y_px, float(ra), float(dec), error)


def _events_near(
    region: Region,
    photons: Photons,
    pi_range: tuple[int, int],
    expected: Expectation,
    chosen: NDArray[np.bool_],
    grid: Grid,
    hidden: NDArray[np.int64] | None,
) -> tuple[Floats, Floats, NDArray[np.uint8], Floats]:
    """Give sky pixels, camera and expected density (1/arcsec^2) of the events near a region.

    ``hidden`` are the cells (y * nx + x) of a source that is eclipsed: there only the background is
    expected, so that its own photons place it; its neighbours' are expected where they fall.
    """
    box, whole = region.box, grid.box
    margin = Box(
        max(box.x0 - MARGIN_CELLS, whole.x0),
        min(box.x1 + MARGIN_CELLS, whole.x1),
        max(box.y0 - MARGIN_CELLS, whole.y0),
        min(box.y1 + MARGIN_CELLS, whole.y1),
    )
    index, y, x = photons.within(margin)
    frame = photons.tick[index] // grid.dt_ms
    keep = (frame >= 0) & (frame < grid.nt)
    keep &= chosen[np.where(keep, frame, 0)] & (photons.pi[index] >= pi_range[0]) & (photons.pi[index] < pi_range[1])
    index, frame, y, x = index[keep], frame[keep], y[keep] - whole.y0, x[keep] - whole.x0
    mu = expected.at(y, x, frame)
    if hidden is not None:
        its_own = np.isin(y * np.int64(grid.box.nx) + x, hidden)
        mu = np.where(its_own, expected.without_sources().at(y, x, frame), mu)
    density = np.maximum(mu / grid.cell_arcsec**2, DENSITY_MIN)
    return photons.x_px[index].astype(float), photons.y_px[index].astype(float), photons.camera[index], density


def fit_place(
    x: Floats, y: Floats, camera: NDArray[np.uint8], background: Floats, start: tuple[float, float]
) -> tuple[float, float, float] | None:
    """Fit the place of a point source to photons.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Places of the events, arcsec on the tangent plane.
    camera : uint8, shape (n,)
        Index into :data:`~xscan.model.CAMERAS`.
    background : float64, shape (n,)
        Density of events expected without the source at each event's place, 1/arcsec^2, > 0.
    start : (float, float)
        A first guess, arcsec.

    Returns
    -------
    (x, y, error) or None
        Place, arcsec, and 1-sigma error along each axis; None if the photons do not say.

    Notes
    -----
    Maximum of the extended likelihood ``sum log(s f(r_i) + b_i) - s`` over place and strength s, by
    expectation maximisation: f is a two-dimensional t distribution, for which each step is a weighted
    mean. Steps start from the guess and from the most likely of the events. The error comes
    from the curvature of the likelihood at its maximum, averaged with what is expected of so many
    photons: a handful may happen to lie close together. Its variance is raised by
    ``1 + FEW_PHOTONS / s``, chosen so that offsets over errors of made-up sources are Rayleigh-distributed;
    tests/test_position.py holds that from 20 photons on, and their median and tail for 10.
    """
    n = len(x)
    if n < PHOTONS_MIN:
        return None
    core2 = np.array([KING_CORE_ARCSEC[name] ** 2 for name in CAMERAS])[camera]
    step = max(n // STARTS, 1)
    guesses = [start, *zip(x[::step].tolist(), y[::step].tolist(), strict=True)]
    strength = max(n - 1.0, 1.0) / 2
    some = slice(None, None, 1 + n // GUESSED_WITH)
    likelihoods = _log_likelihoods(x[some], y[some], core2[some], background[some], np.array(guesses), strength)
    px, py = guesses[int(np.argmax(likelihoods))]
    moved = np.inf
    for _ in range(ITERATIONS):
        near = 1 + ((x - px) ** 2 + (y - py) ** 2) / core2
        source = strength * _king(near, core2)
        member = source / (source + background)
        weight = member / (near * core2)
        strength = float(member.sum())
        if strength < PHOTONS_MIN / 2:
            return None
        total = weight.sum()  # not a dot product: BLAS would start threads for it
        qx, qy = float((weight * x).sum() / total), float((weight * y).sum() / total)
        moved = float(np.hypot(qx - px, qy - py))
        px, py = qx, qy
        if moved < SETTLED_ARCSEC:
            break
    if moved >= SETTLED_ARCSEC:
        return None
    error = _error(x - px, y - py, core2, background, strength)
    return None if error is None else (px, py, error)


def _king(near: Floats, core2: Floats) -> Floats:
    """Density, 1/arcsec^2, where ``1 + (r / core)**2`` is ``near``; its integral is 1.

    The power of 3/2 is made of a product and a root, which every processor rounds alike; ``**`` need not be.
    """
    return np.asarray((KING_SLOPE - 1) / (np.pi * core2) / (near * np.sqrt(near)))


def _log_likelihoods(x: Floats, y: Floats, core2: Floats, b: Floats, places: Floats, strength: float) -> Floats:
    """Give the log likelihood of a source at each of some places, shape (m, 2), up to a constant."""
    near = 1 + ((x - places[:, :1]) ** 2 + (y - places[:, 1:]) ** 2) / core2
    return np.asarray(np.log(strength * _king(near, core2) + b).sum(axis=1))


def _error(dx: Floats, dy: Floats, core2: Floats, b: Floats, strength: float) -> float | None:
    """Give the error along each axis from the curvature of the likelihood in (x, y, strength)."""
    near = 1 + (dx**2 + dy**2) / core2
    f = _king(near, core2)
    total = strength * f + b
    # first and second derivatives of f by place
    slope = 2 * KING_SLOPE / (near * core2)
    fx, fy = f * slope * dx, f * slope * dy
    bend = slope * (2 * (KING_SLOPE + 1) / (near * core2))
    fxx, fyy, fxy = f * (bend * dx * dx - slope), f * (bend * dy * dy - slope), f * bend * dx * dy

    def term(second: Floats, one: Floats, two: Floats) -> float:
        return float((second / total - one * two / total**2).sum())

    s = strength
    xx, yy = term(s * fxx, s * fx, s * fx), term(s * fyy, s * fy, s * fy)
    xy, xs, ys = term(s * fxy, s * fx, s * fy), term(fx, s * fx, f), term(fy, s * fy, f)
    hessian = -np.array([[xx, xy, xs], [xy, yy, ys], [xs, ys, term(0 * f, f, f)]])
    if np.linalg.eigvalsh(hessian)[0] <= 0:
        return None
    variance = np.linalg.inv(hessian)
    observed = 2 / (variance[0, 0] + variance[1, 1])
    expected = 2 * KING_SLOPE * (KING_SLOPE - 1) / (KING_SLOPE + 1) * strength * float(np.mean(1 / core2))
    return float(np.sqrt(2 / (observed + expected) * (1 + FEW_PHOTONS / strength)))


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
