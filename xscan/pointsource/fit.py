"""Fit position, width and strength of a point source to photons, allowing for areas without exposure.

Backends may have faster versions of these loops, with the same result to the last bit. Therefore every
sum is made in order, and only sums, products, quotients and roots are used, which every processor rounds alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.grid import Box, Grid
from xscan.model import Expectation, Instrument, Photons
from xscan.pointsource.exposure import Holes
from xscan.pointsource.psf import KING_SLOPE, cores_arcsec

__all__ = [
    "DENSITY_MIN", "HIDDEN_MAX", "PHOTONS_MIN", "WIDER", "WIDER_SPREAD", "Curvature", "Fitted", "Points", "Settled",
    "Spots", "curvature", "density", "likeliest", "pulls", "settle", "spots_near",
]  # fmt: skip

Floats = NDArray[np.float64]

WIDER = 1.2
WIDER_SPREAD = 0.4
"""Prior of the width: images are this much wider than published on axis, with this spread of the logarithm."""

HIDDEN_MAX = 4.0
"""Limit on the photons lost in holes, in units of the photons seen: a source behind a hole could have any strength."""

PHOTONS_MIN = 3.0
ITERATIONS = 400
WIDTH_MIN = 0.4  # a narrower source could hide at one of the points that represent holes
LEAP = 1.6  # steps of expectation maximisation are short, and multiplied by this
SETTLED = 3e-3  # convergence: arcsec for the position, and the same number for the width
DENSITY_MIN = 1e-6  # 1/arcsec^2: assumed background where none is expected

AT_ONCE = 500  # factors of a product

HOLES_WITHIN_ARCSEC = 45.0
"""At larger distances the edges of holes do not affect a position."""

CORE_FACTOR = (KING_SLOPE - 1) / math.pi


@dataclass(frozen=True, slots=True)
class Spots:
    """Events near a source, shape (n,) each.

    Attributes
    ----------
    x, y : float64
        arcsec on the tangent plane, from its reference point.
    camera : uint8
        Number of the camera among the instrument's.
    core : float64
        Core of the published profile of slope 1.5, arcsec.
    background : float64
        Density of this camera's events expected without the source, 1/arcsec^2, > 0.
    instrument : Instrument
    """

    x: Floats
    y: Floats
    camera: NDArray[np.uint8]
    core: Floats
    background: Floats
    instrument: Instrument

    def chosen(self, index: slice | NDArray[np.bool_] | NDArray[np.integer]) -> Spots:
        """Return some of them."""
        x, y, core, background = (column[index] for column in (self.x, self.y, self.core, self.background))
        return Spots(x, y, self.camera[index], core, background, self.instrument)

    def within(self, x: float, y: float, radius: float) -> Spots:
        """Return the spots within a radius of a position."""
        near = (self.x - x) ** 2 + (self.y - y) ** 2 < radius**2
        return self.chosen(near)

    def every(self, step: int) -> Spots:
        """Return one of so many."""
        return self if step == 1 else self.chosen(slice(None, None, step))


@dataclass(frozen=True, slots=True)
class Points:
    """Events, followed by holes (points without exposure), shape (n + k,) each.

    Attributes
    ----------
    x, y : float64
    core2 : float64
        Square of the published core, arcsec^2; for holes the mean of their camera's events.
    group : int64
        Number of the camera, plus the number of cameras for holes.
    area : float64
        1 for events; of holes, arcsec^2.
    event : float64
        1 for events, 0 for holes.
    background : float64
        Of events; 1 for holes.
    n_cameras : int
    """

    x: Floats
    y: Floats
    core2: Floats
    group: NDArray[np.int64]
    area: Floats
    event: Floats
    background: Floats
    n_cameras: int

    @classmethod
    def of(cls, spots: Spots, holes: Holes) -> Points:
        """Join events and holes."""
        n, n_cameras = len(spots.x), len(spots.instrument.cameras)
        core2 = spots.core**2
        counts = np.maximum(np.bincount(spots.camera, minlength=n_cameras), 1)
        mean = np.bincount(spots.camera, core2, n_cameras) / counts
        mean[mean == 0] = 1.0  # a camera without events: its holes count for nothing
        both: list[tuple[Floats | float, Floats | float]] = [
            (spots.x, holes.x),
            (spots.y, holes.y),
            (core2, mean[holes.camera]),
            (1.0, holes.area),
            (1.0, 0.0),
            (spots.background, 1.0),
        ]
        floats = np.empty((len(both), n + len(holes.x)))
        for column, (of_spots, of_holes) in zip(floats, both, strict=True):
            column[:n], column[n:] = of_spots, of_holes
        group = np.empty(floats.shape[1], np.int64)
        group[:n] = spots.camera
        np.add(holes.camera, n_cameras, out=group[n:])
        x, y, core2, area, event, background = floats
        return cls(x, y, core2, group, area, event, background, n_cameras)

    def members(self, strength: Floats, density: Floats) -> Floats:
        """Return the probability that each event is the source's, and the source's photons expected in each hole."""
        source = np.tile(strength, 2)[self.group] * density
        return np.asarray(source * self.area / (source * self.event + self.background))


def density(r2: Floats, wide2: Floats) -> Floats:
    """Return a source's density, 1/arcsec^2, from the squares of distance and core (King profile).

    Examples
    --------
    At a distance of sqrt(3) cores an eighth of that in the middle:

    >>> middle, outside = density(np.array([0.0, 3.0]), np.array([1.0, 1.0]))
    >>> float(middle.round(3)), float((outside / middle).round(3))
    (0.159, 0.125)
    """
    apart2 = r2 + wide2
    return np.asarray(CORE_FACTOR * np.sqrt(wide2) / (apart2 * np.sqrt(apart2)))


Settled = tuple[float, float, float, Floats]
Fitted = tuple[float, float, float]
"""Position, arcsec, and width."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """Sums over events and holes at the fitted position, from which its error is computed.

    Attributes
    ----------
    observed, expected : float64, shape (3, 3)
        Information on x, y and log width at fixed strengths, except that which all expected events contain: from
        these photons, and minus the expectation for the holes.
    at_position : float64, shape (n_cameras,)
        By camera: times a constant, the information on x and y that all expected events contain.
    live, missed : float64, shape (n_cameras,)
        By camera: photons of the source among the events, and those expected in the holes.
    own : float64, shape (n_cameras,)
        By camera: information on the log strength.
    cross, in_holes : float64, shape (3, n_cameras)
        Information shared by x, y or log width and each camera's log strength, and that of the holes alone.
    """

    observed: Floats
    expected: Floats
    at_position: Floats
    live: Floats
    missed: Floats
    own: Floats
    cross: Floats
    in_holes: Floats


def spots_near(
    photons: Photons,
    box: Box,
    pi_range: tuple[int, int],
    expected: Expectation,
    chosen: NDArray[np.bool_],
    grid: Grid,
    crpix: float,
    off_axis_arcmin: float,
    hidden: NDArray[np.int64] | None,
) -> Spots:
    """Return the events of a box of cells in chosen frames.

    Parameters
    ----------
    photons : Photons
    box : Box
        Within the grid's.
    pi_range : (int, int)
        The view's band, eV, the second exclusive.
    expected : Expectation
    chosen : bool, shape (nt,)
    grid : Grid
    crpix : float
        Sky pixel of the tangent plane's reference point.
    off_axis_arcmin : float
    hidden : int64 array or None
        Cells (y * nx + x, rising) of a source that is eclipsed: there only the background is expected, so that
        its own photons determine the position; its neighbours are expected where they are.

    Notes
    -----
    Each camera is taken to send the share of the expected events that it sends of all events in the box.

    Examples
    --------
    The photons of one frame of 5 x 5 cells: one a cell, and 12 in the middle:

    >>> chosen = np.arange(data.grid.nt) == 3
    >>> args = data.photons, data.grid.box, data.pi_range, data.expected, chosen, data.grid, data.plane.crpix, 0.0, None
    >>> spots = spots_near(*args)
    >>> len(spots.x), int(np.count_nonzero(np.hypot(spots.x - spots.x[12], spots.y - spots.y[12]) < 1))
    (36, 12)
    """
    whole, instrument = grid.box, photons.instrument
    index, y, x = photons.within(box)
    in_band = (photons.pi[index] >= pi_range[0]) & (photons.pi[index] < pi_range[1])
    sent = np.bincount(photons.camera[index[in_band]], minlength=len(instrument.cameras))
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
    columns, side = (photons.x_px, photons.y_px), grid.sky.side_arcsec
    px, py = ((column[index].astype(float) - crpix) * side for column in columns)
    cores = cores_arcsec(camera, photons.pi[index], off_axis_arcmin, instrument)
    return Spots(px, py, camera, cores, background, instrument)


def likeliest(points: Points, strength: Floats, positions: Floats) -> int:
    """Return the index of the most likely position of a source; the first of equals.

    Parameters
    ----------
    points : Points
    strength : float64, shape (n_cameras,)
        Photons of the source that each camera has seen.
    positions : float64, shape (k, 2)
        arcsec.

    Examples
    --------
    Twenty photons round (3, -2) arcsec:

    >>> n_cameras = points.n_cameras
    >>> likeliest(points, np.full(n_cameras, 10.0), np.array([[0.0, 0.0], [3.0, -2.0], [6.0, -2.0]]))
    1
    """
    n_cameras, n = points.n_cameras, int(points.event.sum())
    core2 = WIDER * WIDER * points.core2
    f = density((points.x[:, None] - positions[:, 0]) ** 2 + (points.y[:, None] - positions[:, 1]) ** 2, core2[:, None])
    sent = np.empty((n_cameras, len(positions)))
    for camera in range(n_cameras):  # what falls into holes must be sent too
        mine = points.group == camera + n_cameras
        missed = np.add.reduce(f[mine] * points.area[mine, None], axis=0)
        sent[camera] = strength[camera] / np.maximum(1 - missed, 1 / (1 + HIDDEN_MAX))
    light = sent[points.group[:n]] * f[:n] + points.background[:n, None]
    # a product instead of a sum of logarithms: it is the same number on every processor
    mantissa, exponent = np.frexp(light)
    product, exponents = np.ones(len(positions)), exponent.sum(axis=0, dtype=np.int64)
    for first in range(0, n, AT_ONCE):  # each mantissa is at least 1/2: more of them at once may underflow
        factors = np.concatenate([product[None], mantissa[first : first + AT_ONCE]])
        product, more = np.frexp(np.multiply.reduce(factors, axis=0))
        exponents += more
    return max(range(len(positions)), key=lambda i: (exponents[i], product[i]))


def settle(points: Points, start: tuple[float, float]) -> Settled | None:
    """Fit the position that explains the photons best.

    Parameters
    ----------
    points : Points
    start : (float, float)
        A first guess, arcsec.

    Returns
    -------
    (x, y, width, strength) or None
        Position, arcsec; factor on the published cores; photons sent by the source to each camera, including those
        lost in holes. None if the photons do not determine the position.

    Notes
    -----
    Maximum of the extended likelihood, over position, width and one strength s for each camera, of
    ``sum log(s f(r_i) + b_i) - s (1 - integral of f over the holes)``, by expectation maximisation: f is a
    two-dimensional t distribution, for which each step is a weighted mean, and the photons that fell into
    holes are added where they are expected. The width is one factor on all published cores; its prior is
    about normal in the logarithm, written without one.

    Examples
    --------
    Twenty photons round (3, -2) arcsec, all of the source; some more fell outside the circle in which they were sought:

    >>> x, y, width, strength = settle(points, (0.0, 0.0))
    >>> round(x, 1), round(y, 1), int(strength[0])
    (3.0, -2.0, 21)
    """
    n_cameras, n = points.n_cameras, int(points.event.sum())
    (px, py), width = start, WIDER
    strength = np.bincount(points.group[:n], minlength=n_cameras) / 2
    for _ in range(ITERATIONS):
        dx, dy = points.x - px, points.y - py
        r2, wide2 = dx * dx + dy * dy, width * width * points.core2
        member = points.members(strength, density(r2, wide2))
        sums = np.bincount(points.group, member, 2 * n_cameras)
        sent, missed = sums[:n_cameras], sums[n_cameras:]
        if float(sent.sum()) < PHOTONS_MIN / 2:
            return None
        seen = np.minimum(1.0, HIDDEN_MAX * sent / np.maximum(missed, DENSITY_MIN))
        member[n:] *= seen[points.group[n:] - n_cameras]
        strength = sent + seen * missed
        weight = member / (r2 + wide2)
        weights = _in_order(weight)
        qx, qy = _in_order(weight * points.x) / weights, _in_order(weight * points.y) / weights
        pull = (width / WIDER - WIDER / width) / 2 / (WIDER_SPREAD * WIDER_SPREAD)
        spread = 2 * KING_SLOPE * _in_order(weight * r2) - pull
        growth = math.sqrt(max(spread / (2 * float(strength.sum())), 0.25))
        step_x, step_y, wider = LEAP * (qx - px), LEAP * (qy - py), width * (1 + LEAP * (growth - 1))
        wider = max(wider, WIDTH_MIN)
        moved = max(abs(step_x), abs(step_y), abs(wider - width))
        px, py, width = px + step_x, py + step_y, wider
        if moved < SETTLED:
            return px, py, width, strength
    return None


def curvature(points: Points, fitted: Fitted, strength: Floats) -> Curvature:
    """Return the sums over events and holes from which the error of a position is computed.

    Parameters
    ----------
    points : Points
    fitted : (float, float, float)
        Position, arcsec, and width, from :func:`settle`.
    strength : float64, shape (n_cameras,)

    Examples
    --------
    Twenty photons in a cross round (3, -2) arcsec: all are the source's, and x and y do not depend on each other:

    >>> sums = curvature(points, (3.0, -2.0, 1.2), np.full(points.n_cameras, 22.0))
    >>> round(float(sums.live[0])), abs(round(float(sums.observed[0, 1]), 2))
    (20, 0.0)
    """
    n_cameras, event = points.n_cameras, points.event
    f, slopes, bends = _derivatives(points, fitted)
    member = points.members(strength, f)
    seen, unseen = member * member * event, member * (1 - event)

    def by_camera(values: Floats) -> tuple[Floats, Floats]:
        """Return the sums over events and over holes."""
        sums = np.asarray(np.bincount(points.group, values, 2 * n_cameras), float)
        return sums[:n_cameras], sums[n_cameras:]

    live, missed = by_camera(member)
    observed, expected = np.empty((3, 3)), np.empty((3, 3))
    cross, in_holes = np.empty((3, n_cameras)), np.empty((3, n_cameras))
    for i in range(3):
        for j in range(i + 1):
            product = slopes[i] * slopes[j]
            observed[i, j] = observed[j, i] = _in_order(seen * product - member * bends[i][j])
            expected[i, j] = expected[j, i] = -_in_order(unseen * product)
        of_events, of_holes = by_camera(member * slopes[i])
        in_holes[i] = -of_holes
        cross[i] = in_holes[i] + by_camera(seen * slopes[i])[0] - of_events
    at_position = by_camera(member / points.core2)[0]
    return Curvature(observed, expected, at_position, live, missed, by_camera(seen)[0], cross, in_holes)


def pulls(
    points: Points, fitted: Fitted, strength: Floats, freed: Floats, by_width: tuple[float, float], told: Fitted
) -> tuple[float, Floats]:
    """Return the scatter of the events' contributions to the position, and the photons expected in nearby holes.

    Parameters
    ----------
    points : Points
    fitted : (float, float, float)
    strength : float64, shape (n_cameras,)
    freed : float64, shape (3, n_cameras)
        For x, y and log width: the part of an event's gradient that each camera's strength absorbs.
    by_width : (float, float)
        The part of the gradient in x, and of that in y, that the width absorbs.
    told : (float, float, float)
        Variance of x, of y, and covariance, arcsec^2.

    Returns
    -------
    scatter : float
        Sum over the events of the squared steps by which each moves the position, arcsec^2.
    near : float64, shape (n_cameras,)
        By camera: photons expected in holes within :data:`HOLES_WITHIN_ARCSEC` of the position, over the core,
        1/arcsec.

    Examples
    --------
    Where the variances are twice as large, events move the position twice as far:

    >>> strength, freed = np.full(points.n_cameras, 22.0), np.zeros((3, points.n_cameras))
    >>> of_source = points, (3.0, -2.0, 1.2), strength, freed, (0.0, 0.0)
    >>> (one, _), (two, _) = pulls(*of_source, (1.0, 1.0, 0.0)), pulls(*of_source, (2.0, 2.0, 0.0))
    >>> round(two / one, 6)
    4.0
    """
    (px, py, _), n_cameras = fitted, points.n_cameras
    f, slopes, _ = _derivatives(points, fitted)
    member = points.members(strength, f)
    camera = points.group % n_cameras
    pull = [member * points.event * (slope - free[camera]) for slope, free in zip(slopes, freed, strict=True)]
    pull_x, pull_y = pull[0] - by_width[0] * pull[2], pull[1] - by_width[1] * pull[2]
    xx, yy, xy = told
    moves_x, moves_y = xx * pull_x + xy * pull_y, xy * pull_x + yy * pull_y
    dx, dy = points.x - px, points.y - py
    near = (points.event == 0) & (dx * dx + dy * dy < HOLES_WITHIN_ARCSEC * HOLES_WITHIN_ARCSEC)
    over_core = np.bincount(camera[near], member[near] / np.sqrt(points.core2[near]), n_cameras)
    return _in_order(moves_x * moves_x + moves_y * moves_y), np.asarray(over_core, float)


def _derivatives(points: Points, fitted: Fitted) -> tuple[Floats, list[Floats], list[list[Floats]]]:
    """Return f, and its first and second derivatives by x, y and log width over f."""
    px, py, width = fitted
    dx, dy, wide2 = points.x - px, points.y - py, width * width * points.core2
    r2 = dx * dx + dy * dy
    outside = r2 / (r2 + wide2)  # 0 at the position, 1 far away
    rise = 2 * KING_SLOPE / (r2 + wide2)
    bend = rise * (2 * (KING_SLOPE + 1) / (r2 + wide2))
    wide = 2 * KING_SLOPE * outside - 2
    turn = wide - 2 * (1 - outside)
    xx, yy, xy = bend * dx * dx - rise, bend * dy * dy - rise, bend * dx * dy
    xw, yw, ww = rise * dx * turn, rise * dy * turn, wide * wide - 4 * KING_SLOPE * outside * (1 - outside)
    return density(r2, wide2), [rise * dx, rise * dy, wide], [[xx, xy, xw], [xy, yy, yw], [xw, yw, ww]]


def _in_order(values: Floats) -> float:
    """Return the sum, adding one value after the other, as a loop does."""
    return float(np.add.accumulate(values)[-1])
