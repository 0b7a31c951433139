"""Weigh candidates by the likelihood ratio of a point source: gather the photons around each, and what they face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.backends import PointSourceLoops
from xscan.model import Photons
from xscan.pointsource.psf import cores_arcsec
from xscan.pointsource.ratio import REACH_ARCSEC, Nearby, WindowRatio, inside
from xscan.search.candidates import Candidates, distinct
from xscan.search.components import Densities, Field
from xscan.sky import TangentPlane

__all__ = ["LLR_MIN", "Surroundings", "Weighed", "weigh"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GATHERED_ARCSEC = 55.0  # around a candidate: the reach of a source, and how far its place may move
BLOCK = 8  # side of the squares by which photons are found, fine pixels
LLR_MIN = 13.0
"""Candidates with a smaller ratio are given up: a constant source only makes it smaller."""

PAD_PART, PAD_S, PAD_MOST_S = 1.5, 30.0, 2500.0  # before and after a candidate's window: there a better one may lie
WING_CORE_ARCSEC = 6.0
WING_STEPS = 17  # along each axis, for the part of an image within a circle
WINGS = 2.0  # times as much as the profile says may lie in the wings: slopes and cores differ
LONGEST_PART = 0.5  # of the live time: beyond, too little is left outside to know the constant source


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The photons of a subset, to be gathered around places.

    Attributes
    ----------
    field : Field
    photons : Photons
    plane : TangentPlane
    x, y : float64, shape (n,)
        arcsec from the reference point of the plane, in the order of ``field.photons``.
    time : float64, shape (n,)
        s, since the start of the search.
    own, everything, diffuse : float64, shape (n,)
        Density at each photon, 1/arcsec^2/s: in its narrow band, in all bands, and the latter without sources.
    order : int64, shape (n,)
        Photons by block, in order of time in each.
    offsets : int64
        ``offsets[b]`` to ``offsets[b + 1]`` of these are of block b.
    """

    field: Field
    photons: Photons
    plane: TangentPlane
    x: Floats
    y: Floats
    time: Floats
    own: Floats
    everything: Floats
    diffuse: Floats
    order: Ints
    offsets: Ints

    @classmethod
    def of(cls, field: Field, photons: Photons, plane: TangentPlane, density: Densities) -> Surroundings:
        """Prepare the photons of a subset."""
        timed, side = field.photons, photons.instrument.sky.side_arcsec
        columns = photons.x_px, photons.y_px
        x, y = (np.asarray((column[timed.index] - plane.crpix) * side, np.float64) for column in columns)
        n_x, n_y = field.grid.nx // BLOCK, field.grid.ny // BLOCK
        block = (timed.y // BLOCK).astype(np.int64) * n_x + timed.x // BLOCK
        order = np.argsort(block.astype(np.uint16) if n_x * n_y < 1 << 16 else block, kind="stable")  # 16 bits: quickly
        offsets = np.searchsorted(block[order], np.arange(n_x * n_y + 1))
        time = photons.tick[timed.index] / 1000
        return cls(field, photons, plane, x, y, time, *density.at(timed), order, offsets)

    def around(self, x: float, y: float, radius_arcsec: float) -> Ints:
        """Return the photons within a radius of a place (arcsec), indices of ``field.photons`` in order of time."""
        grid, n_x = self.field.grid, self.field.grid.nx // BLOCK
        reach = radius_arcsec / grid.side_arcsec
        axes = (x, grid.x0, grid.nx), (y, grid.y0, grid.ny)
        (x_from, x_to), (y_from, y_to) = (
            (max(int((middle - reach) // BLOCK), 0), min(int((middle + reach) // BLOCK) + 1, n // BLOCK))
            for middle, n in (
                ((self.plane.crpix + v / grid.sky.side_arcsec) / grid.pixel - first, n) for v, first, n in axes
            )
        )
        parts = [
            self.order[self.offsets[row * n_x + x_from] : self.offsets[row * n_x + x_to]]
            for row in range(y_from, y_to)
            if x_to > x_from
        ]
        index = np.concatenate([np.empty(0, np.int64), *parts])
        near = (self.x[index] - x) ** 2 + (self.y[index] - y) ** 2 < radius_arcsec**2
        return np.sort(index[near])

    def nearby(self, x: float, y: float) -> Nearby:
        """Return what is to be known of the photons near a place (arcsec)."""
        index = self.around(x, y, GATHERED_ARCSEC)
        timed = self.field.photons
        of, instrument = timed.index[index], self.photons.instrument
        core = cores_arcsec(self.photons.camera[of], self.photons.pi[of], math.hypot(x, y) / 60, instrument)
        band = timed.band[index].astype(np.int64)
        return Nearby(
            self.x[index], self.y[index], self.time[index], band, core * core, self.own[index], self.everything[index]
        )


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate that was weighed: its number, and its best window."""

    candidate: int
    best: WindowRatio


def weigh(found: Candidates, around: Surroundings, loops: PointSourceLoops) -> list[Weighed]:
    """Weigh candidates; return each thing once, the largest ratio first.

    Left out are those with a ratio of less than :data:`LLR_MIN`, windows of more than half of the live time, and what
    lies in the wings of something brighter.
    """
    side, crpix, live_s = around.field.grid.sky.side_arcsec, around.plane.crpix, around.field.live_s
    weighed = []
    for number in range(len(found)):
        x, y = (float((column[number] - crpix) * side) for column in (found.x_px, found.y_px))
        start, stop = float(found.start[number]), float(found.stop[number])
        near = around.nearby(x, y)
        if near.time.size < 2:
            continue
        pad = min(PAD_PART * (stop - start) + PAD_S, PAD_MOST_S)
        known = (x, y), (start, stop), (start - pad, stop + pad), live_s, inside(float(near.core2.mean()))
        best = loops.window_ratio(near, *known, False)
        if best is None or best.llr < LLR_MIN:
            continue
        best = loops.window_ratio(near, *known, True)
        if best is not None and best.llr >= LLR_MIN and best.stop - best.start < LONGEST_PART * live_s:
            weighed.append(Weighed(number, best))
    weighed.sort(key=lambda one: (-one.best.llr, one.candidate))
    columns = (np.array([getattr(one.best, name) for one in weighed]) for name in ("x", "y", "start", "stop"))
    return _not_in_wings([weighed[k] for k in distinct(*columns)])


def _in_reach(dx: float, dy: float) -> float:
    """Return the part of a point source's image that lies within reach of a place so far from it, arcsec."""
    steps = np.linspace(-REACH_ARCSEC, REACH_ARCSEC, WING_STEPS)
    x, y = steps[:, None], steps
    r2 = (x + dx) ** 2 + (y + dy) ** 2
    near = 1 + r2 / WING_CORE_ARCSEC**2
    density = 0.5 / (math.pi * WING_CORE_ARCSEC**2) / (near * np.sqrt(near))
    inside = x * x + y * y <= REACH_ARCSEC**2
    return float(density[inside].mean() * math.pi * REACH_ARCSEC**2)


def _not_in_wings(weighed: Sequence[Weighed]) -> list[Weighed]:
    """Leave out what the wings of something brighter at the same time explain; the largest ratios come first."""
    kept: list[Weighed] = []
    for one in weighed:
        mine = one.best
        due = 0.0
        for other in kept:
            best = other.best
            shared = min(mine.stop, best.stop) - max(mine.start, best.start)
            if shared > 0:
                due += best.counts * shared / (best.stop - best.start) * _in_reach(mine.x - best.x, mine.y - best.y)
        if mine.counts > WINGS * due:
            kept.append(one)
    return kept
