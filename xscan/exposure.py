"""Where a camera sees nothing: bad pixels, and the gaps between its CCDs and around them.

Where each CCD lies on the sky is learnt from the events, which carry both their raw pixel and their place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xscan.clean import PN_BAD_COLUMNS, PixelMask
from xscan.model import CAMERAS, EventList
from xscan.sky import SKY_PIXEL_ARCSEC

__all__ = ["PIXEL_ARCSEC", "CameraMap", "CcdMap", "Holes", "beyond"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Number = TypeVar("Number", float, Floats)

COLUMNS_ROWS = {"pn": (64, 200), "m1": (600, 600), "m2": (600, 600)}
FIRST = {"pn": 1, "m1": 2, "m2": 2}  # column and row that give events: the first of MOS give none in real lists
PIXEL_ARCSEC = {"pn": 4.1, "m1": 1.1, "m2": 1.1}
STEP_ARCSEC = {
    "pn": 2.05,
    "m1": 1.1,
    "m2": 1.1,
}  # of the points tried near the middle; farther out twice that, and four are one
FINE_ARCSEC = 24.0
SAMPLE = 20_000  # events of a list from which its maps are learnt
CCD_EVENTS_MIN = 10
EDGE_EVENTS = 30.0  # where so many events are due beyond the outermost, the CCD ends there
NEIGHBOURS_DUE = 10.0

RING_GROWTH, RINGS = 2.0, 6
COS15, COS45, COS75 = 0.9659258262890683, 0.7071067811865476, 0.25881904510252074
RING_X = np.array([COS15, COS45, COS75, -COS75, -COS45, -COS15, -COS15, -COS45, -COS75, COS75, COS45, COS15])
RING_Y = np.roll(RING_X, 3)  # twelve points of a circle


@dataclass(frozen=True, slots=True)
class Holes:
    """Places where a camera sees nothing, shape (k,) each.

    Attributes
    ----------
    x, y : float64
        arcsec on the tangent plane, from its reference point.
    area : float64
        What each stands for, arcsec^2.
    camera : uint8
        Index into :data:`~xscan.model.CAMERAS`.
    """

    x: Floats
    y: Floats
    area: Floats
    camera: NDArray[np.uint8]

    @classmethod
    def joined(cls, parts: list[Holes]) -> Holes:
        """Give all of several, at least one."""
        names = cls.__slots__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def every(self, step: int) -> Holes:
        """Give one of so many, and their areas so many times."""
        return Holes(self.x[::step], self.y[::step], self.area[::step] * step, self.camera[::step])


@dataclass(frozen=True, slots=True)
class CcdMap:
    """Where one CCD lies on the tangent plane.

    Attributes
    ----------
    number : int
    middle : (float, float, float, float)
        A raw place (RAWX, RAWY) on the CCD and its sky place (x, y), arcsec.
    to_raw : (float, float, float, float)
        Matrix from (x, y) to (RAWX, RAWY), row after row.
    limits : (int, int, int, int)
        First and last RAWX, first and last RAWY that give events.
    residual_arcsec : float
        rms distance along an axis of the events from where the map puts their pixels.
    """

    number: int
    middle: tuple[float, float, float, float]
    to_raw: tuple[float, float, float, float]
    limits: tuple[int, int, int, int]
    residual_arcsec: float

    def raw(self, x: Number, y: Number) -> tuple[Number, Number]:
        """Give RAWX and RAWY, fractions allowed, of places on the tangent plane."""
        dx, dy = x - self.middle[2], y - self.middle[3]
        a, b, c, d = self.to_raw
        return self.middle[0] + a * dx + b * dy, self.middle[1] + c * dx + d * dy


@dataclass(frozen=True, slots=True)
class CameraMap:
    """One camera's CCDs on the tangent plane, and their bad pixels.

    Attributes
    ----------
    camera : str
    ccds : tuple of CcdMap
        Those that sent events.
    bad : tuple of PixelMask
    bad_reach : int
        1 if the pixels beside bad ones give no events either (a stricter flag cut), else 0.
    """

    camera: str
    ccds: tuple[CcdMap, ...]
    bad: tuple[PixelMask, ...]
    bad_reach: int
    _asked: dict[tuple[float, float, float], Holes] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, events: EventList) -> CameraMap | None:
        """Learn from a list where its CCDs lie; None if its raw pixels do not tell."""
        step = max(events.pixel.size // SAMPLE, 1)
        pixel, ccd = events.pixel[::step].astype(np.int64), events.ccd[::step]
        x, y = events.x[::step].astype(np.int64), events.y[::step].astype(np.int64)
        maps = []
        for number in np.unique(ccd).tolist():
            mine = (ccd == number) & (pixel > 0)
            if np.count_nonzero(mine) < CCD_EVENTS_MIN:
                continue
            made = _fit_map(number, events.camera, pixel[mine], x[mine], y[mine], events.plane.crpix)
            if made is None or made.residual_arcsec > PIXEL_ARCSEC[events.camera]:
                return None
            maps.append(made)
        bad = events.bad_pixels
        if events.camera == "pn":
            columns = PixelMask()
            number, rawx = np.array(PN_BAD_COLUMNS).T
            columns.add(number, rawx, rawx * 0 + 1, rawx * 0 + COLUMNS_ROWS["pn"][1])
            bad = (*bad, columns)
        return cls(events.camera, tuple(maps), bad, _bad_reach(bad, pixel, events.camera)) if maps else None

    def holes(self, x: float, y: float, radius: float) -> Holes:
        """Find what is not seen within a radius of a place, arcsec; what was found once is kept."""
        if (x, y, radius) not in self._asked:
            self._asked[x, y, radius] = self._holes(x, y, radius)
        return self._asked[x, y, radius]

    def _holes(self, x: float, y: float, radius: float) -> Holes:
        step = STEP_ARCSEC[self.camera]
        near = min(radius, FINE_ARCSEC)
        close, far = self._dark(x, y, 0.0, near, step), self._dark(x, y, near, radius, 2 * step)
        parts = [(*close, np.full(close[0].size, step * step)), _merged(*far, 4 * step * step, 4 * step)]
        px, py, area = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return Holes(px, py, area, np.full(px.size, CAMERAS.index(self.camera), np.uint8))

    def _dark(self, x: float, y: float, inner: float, outer: float, step: float) -> tuple[Floats, Floats]:
        """Find the points of a grid in a ring around a place that are not seen."""
        dx, dy = _ring_of_points(inner, outer, step)
        px, py = x + dx, y + dy
        dark = np.ones(px.size, bool)
        for ccd in self.ccds:
            if _reaches(ccd, x, y, outer):
                dark &= ~self._seen(ccd, px, py)
        return px[dark], py[dark]

    def _seen(self, ccd: CcdMap, x: Floats, y: Floats) -> NDArray[np.bool_]:
        rawx, rawy = (np.rint(raw).astype(np.int64) for raw in ccd.raw(x, y))
        x0, x1, y0, y1 = ccd.limits
        seen = (rawx >= x0) & (rawx <= x1) & (rawy >= y0) & (rawy <= y1)
        where = np.flatnonzero(seen)
        number = ((ccd.number % 16) * PixelMask.SIZE + rawx[where] + PixelMask.MARGIN) * PixelMask.SIZE
        seen[where] = ~_is_bad(self.bad, number + rawy[where] + PixelMask.MARGIN, self.bad_reach)
        return seen


def beyond(x: float, y: float, radius: float, camera: int) -> Holes:
    """Give what lies farther than a radius from a place, to almost the whole plane, as rings of points, arcsec.

    A ring stands where a King profile of slope 1.5 has, times its area, as many photons as in the whole ring.
    """
    dx, dy, area = _rings(radius)
    return Holes(x + dx, y + dy, area, np.full(area.size, camera, np.uint8))


@cache
def _rings(radius: float) -> tuple[Floats, Floats, Floats]:
    inner = radius * np.cumprod([1.0, *[RING_GROWTH] * (RINGS - 1)])
    outer = inner * RING_GROWTH
    middle = np.sqrt(inner * outer)
    area = 2 * np.pi * (outer - inner) * middle / RING_X.size
    return (middle[:, None] * RING_X).ravel(), (middle[:, None] * RING_Y).ravel(), np.repeat(area, RING_X.size)


@cache
def _ring_of_points(inner: float, outer: float, step: float) -> tuple[Floats, Floats]:
    side = np.asarray(np.arange(-int(outer / step), int(outer / step) + 1) * step, np.float64)
    r2 = side * side + (side * side)[:, None]
    row, column = np.nonzero((r2 < outer * outer) & (r2 >= inner * inner))
    return side[column], side[row]


def _merged(x: Floats, y: Floats, area: float, size: float) -> tuple[Floats, Floats, Floats]:
    """Put points that share a square of some size together: their middle, and their area."""
    if x.size == 0:
        return x, y, x
    column, row = (np.floor((at - at.min()) / size).astype(np.int64) for at in (x, y))
    square = row * (int(column.max()) + 1) + column
    n = np.bincount(square)
    some = n > 0
    n = n[some]
    middle_x, middle_y = (np.bincount(square, at)[some] / n for at in (x, y))
    return middle_x, middle_y, np.asarray(n * area, np.float64)


def _fit_map(number: int, camera: str, pixel: Ints, x: Ints, y: Ints, crpix: float) -> CcdMap | None:
    """Fit the sky place as a linear function of the raw one; None if the events do not fix it."""
    rawx = pixel // PixelMask.SIZE % PixelMask.SIZE - PixelMask.MARGIN
    rawy = pixel % PixelMask.SIZE - PixelMask.MARGIN
    n = pixel.size
    sums = {name: int(values.sum()) for name, values in {"u": rawx, "v": rawy, "x": x, "y": y}.items()}
    columns = {"u": rawx, "v": rawy, "x": x, "y": y}

    def product(a: str, b: str) -> int:  # whole numbers: n**2 times the covariance, exactly
        return n * int((columns[a] * columns[b]).sum()) - sums[a] * sums[b]

    uu, vv, uv = product("u", "u"), product("v", "v"), product("u", "v")
    determinant = uu * vv - uv * uv
    if determinant <= 0:
        return None
    slopes, misfit = [], 0.0  # arcsec per pixel
    for axis in "xy":
        ua, va = product("u", axis), product("v", axis)
        by_u, by_v = (ua * vv - va * uv) / determinant, (va * uu - ua * uv) / determinant
        misfit += product(axis, axis) - by_u * ua - by_v * va
        slopes += [by_u * SKY_PIXEL_ARCSEC, by_v * SKY_PIXEL_ARCSEC]
    a, b, c, d = slopes
    area = a * d - b * c
    if area == 0:
        return None
    sky = [(sums[axis] / n - crpix) * SKY_PIXEL_ARCSEC for axis in "xy"]
    columns_rows, first = COLUMNS_ROWS[camera], FIRST[camera]
    limits = (*_ends(rawx, first, columns_rows[0]), *_ends(rawy, first, columns_rows[1]))
    residual = SKY_PIXEL_ARCSEC * math.sqrt(max(misfit, 0.0) / 2) / n
    middle = (sums["u"] / n, sums["v"] / n, sky[0], sky[1])
    return CcdMap(number, middle, (d / area, -b / area, -c / area, a / area), limits, residual)


def _ends(raw: Ints, first: int, last: int) -> tuple[int, int]:
    """Give the first and last row or column that gives events: a CCD's own, unless many are missing there."""
    first_seen, last_seen = int(raw.min()), int(raw.max())
    per_row = raw.size / max(last_seen - first_seen, 1)
    low = first_seen if (first_seen - first) * per_row > EDGE_EVENTS else min(first_seen, first)
    high = last_seen if (last - last_seen) * per_row > EDGE_EVENTS else max(last_seen, last)
    return low, high


def _reaches(ccd: CcdMap, x: float, y: float, radius: float) -> bool:
    """Tell whether a CCD may come within a radius of a place."""
    rawx, rawy = ccd.raw(x, y)
    a, b, c, d = ccd.to_raw
    reach = radius * max(abs(a) + abs(b), abs(c) + abs(d))
    x0, x1, y0, y1 = ccd.limits
    return x0 - reach <= rawx <= x1 + reach and y0 - reach <= rawy <= y1 + reach


def _is_bad(masks: tuple[PixelMask, ...], number: Ints, reach: int) -> NDArray[np.bool_]:
    bad = np.zeros(number.size, bool)
    for mask in masks:
        for step in (0,) if reach == 0 else (0, 1, -1, PixelMask.SIZE, -PixelMask.SIZE):
            bad |= mask.marked(np.clip(number + step, 0, 8 * mask.bits.size - 1))
    return bad


def _bad_reach(masks: tuple[PixelMask, ...], pixel: Ints, camera: str) -> int:
    """Find out whether events beside bad pixels were cut too: then there are none, though many are due."""
    n_bad = sum(int(np.unpackbits(mask.bits[mask.bits > 0]).sum()) for mask in masks)
    columns, rows = COLUMNS_ROWS[camera]
    due = pixel.size * n_bad / (columns * rows * (12 if camera == "pn" else 7))
    beside = _is_bad(masks, pixel[pixel > 0], 1)
    return int(due > NEIGHBOURS_DUE and np.count_nonzero(beside) < due / 10)
