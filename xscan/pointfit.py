"""Fit place, width and strength of a point source to photons, with places where there could be none.

The loop is behind the door: a backend may have a faster one, with the same result to the last bit. So every
sum is made in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.exposure import Holes
from xscan.model import CAMERAS
from xscan.psf import KING_SLOPE

__all__ = [
    "DENSITY_MIN", "HIDDEN_MAX", "PHOTONS_MIN", "WIDER", "WIDER_SPREAD", "Points", "Settle", "Settled", "Spots",
    "density", "settle",
]  # fmt: skip

Floats = NDArray[np.float64]

WIDER = 1.2
WIDER_SPREAD = 0.4
"""How much wider images are than published on axis, and the spread of that, before the photons are asked."""

HIDDEN_MAX = 4.0
"""So many times the photons seen may be lost in holes: else a source behind one could be of any strength."""

PHOTONS_MIN = 3.0
ITERATIONS = 400
WIDTH_MIN = 0.4  # narrower, a source could hide in one of the points that stand for holes
LEAP = 1.6  # steps of expectation maximisation are short: so many at once
SETTLED = 3e-3  # arcsec, and of the width
DENSITY_MIN = 1e-6  # 1/arcsec^2: background where none is expected

CORE_FACTOR = (KING_SLOPE - 1) / math.pi


@dataclass(frozen=True, slots=True)
class Spots:
    """Events near a source, shape (n,) each.

    Attributes
    ----------
    x, y : float64
        arcsec on the tangent plane, from its reference point.
    camera : uint8
        Index into :data:`~xscan.model.CAMERAS`.
    core : float64
        Core of the published profile of slope 1.5, arcsec.
    background : float64
        Density of this camera's events expected without the source, 1/arcsec^2, > 0.
    """

    x: Floats
    y: Floats
    camera: NDArray[np.uint8]
    core: Floats
    background: Floats

    def within(self, x: float, y: float, radius: float) -> Spots:
        """Give those within a radius of a place."""
        near = (self.x - x) ** 2 + (self.y - y) ** 2 < radius**2
        return Spots(*(getattr(self, name)[near] for name in self.__slots__))

    def every(self, step: int) -> Spots:
        """Give one of so many."""
        return Spots(*(getattr(self, name)[::step] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Points:
    """Events, then places without events, shape (n + k,) each.

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
    """

    x: Floats
    y: Floats
    core2: Floats
    group: NDArray[np.int64]
    area: Floats
    event: Floats
    background: Floats

    @classmethod
    def of(cls, spots: Spots, holes: Holes) -> Points:
        """Put them together."""
        n, n_cameras = len(spots.x), len(CAMERAS)
        core2 = spots.core**2
        counts = np.maximum(np.bincount(spots.camera, minlength=n_cameras), 1)
        mean = np.bincount(spots.camera, core2, n_cameras) / counts
        mean[mean == 0] = 1.0  # a camera without events: its holes count for nothing
        none, one = np.zeros(len(holes.x)), np.ones(n)
        return cls(
            np.concatenate([spots.x, holes.x]),
            np.concatenate([spots.y, holes.y]),
            np.concatenate([core2, mean[holes.camera]]),
            np.concatenate([spots.camera.astype(np.int64), holes.camera.astype(np.int64) + n_cameras]),
            np.concatenate([one, holes.area]),
            np.concatenate([one, none]),
            np.concatenate([spots.background, none + 1]),
        )

    def members(self, strength: Floats, density: Floats) -> Floats:
        """Give the probability that an event is the source's, and the source's photons expected in each hole."""
        source = np.tile(strength, 2)[self.group] * density
        return np.asarray(source * self.area / (source * self.event + self.background))


def density(r2: Floats, wide2: Floats) -> Floats:
    """Give a source's density, 1/arcsec^2, for squares of distance and of core; as :func:`xscan.psf.king`."""
    apart2 = r2 + wide2
    return np.asarray(CORE_FACTOR * np.sqrt(wide2) / (apart2 * np.sqrt(apart2)))


Settled = tuple[float, float, float, Floats]
Settle = Callable[[Points, tuple[float, float]], Settled | None]


def settle(points: Points, start: tuple[float, float]) -> Settled | None:
    """Find the place that explains the photons best.

    Parameters
    ----------
    points : Points
    start : (float, float)
        A first guess, arcsec.

    Returns
    -------
    (x, y, width, strength) or None
        Place, arcsec; factor on the published cores; photons sent by the source for each camera, those lost
        in holes included. None if the photons do not say.

    Notes
    -----
    Maximum of the extended likelihood, over place, width and one strength s for each camera, of
    ``sum log(s f(r_i) + b_i) - s (1 - integral of f over the holes)``, by expectation maximisation: f is a
    two-dimensional t distribution, for which each step is a weighted mean, and the photons that fell into
    holes are added where they are expected. The width is one factor on all published cores; its prior is
    about normal in the logarithm, written without one.
    """
    n_cameras, n = len(CAMERAS), int(points.event.sum())
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


def _in_order(values: Floats) -> float:
    """Add up one after the other, as a loop does."""
    return float(np.add.accumulate(values)[-1])
