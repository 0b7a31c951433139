"""Map where a camera sees nothing: bad pixels, and the gaps between its CCDs and around them.

The position of each CCD on the sky is derived from the events, each of which has a raw pixel and a sky position.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xscan.model import Camera, EventList, PixelMask

__all__ = ["CameraMap", "CcdMap", "Holes", "beyond", "dark"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Number = TypeVar("Number", float, Floats)

FINE_ARCSEC = 24.0
SAMPLE = 20_000  # events of a list from which its maps are derived
CCD_EVENTS_MIN = 10
EDGE_EVENTS = 30.0  # where so many events are due beyond the outermost, the CCD ends there
NEIGHBOURS_DUE = 10.0

RING_GROWTH, RINGS = 2.0, 6
COS15, COS45, COS75 = 0.9659258262890683, 0.7071067811865476, 0.25881904510252074
RING_X = np.array([COS15, COS45, COS75, -COS75, -COS45, -COS15, -COS15, -COS45, -COS75, COS75, COS45, COS15])
RING_Y = np.roll(RING_X, 3)  # twelve points of a circle


@dataclass(frozen=True, slots=True)
class Holes:
    """Points that represent areas where a camera sees nothing, shape (k,) each.

    Attributes
    ----------
    x, y : float64
        arcsec on the tangent plane, from its reference point.
    area : float64
        Area that each point represents, arcsec^2.
    camera : uint8
        Number of the camera among the instrument's.
    """

    x: Floats
    y: Floats
    area: Floats
    camera: NDArray[np.uint8]

    @classmethod
    def joined(cls, parts: list[Holes]) -> Holes:
        """Return the holes of all parts, of which there is at least one."""
        names = cls.__slots__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def every(self, step: int) -> Holes:
        """Return every ``step``-th hole, with ``step`` times its area."""
        if step == 1:
            return self
        return Holes(self.x[::step], self.y[::step], self.area[::step] * step, self.camera[::step])


@dataclass(frozen=True, slots=True)
class CcdMap:
    """Position of one CCD on the tangent plane.

    Attributes
    ----------
    number : int
    middle : (float, float, float, float)
        A raw position (RAWX, RAWY) on the CCD and its sky position (x, y), arcsec.
    to_raw : (float, float, float, float)
        Matrix from (x, y) to (RAWX, RAWY), row after row.
    limits : (int, int, int, int)
        First and last RAWX, first and last RAWY with events.
    residual_arcsec : float
        rms distance along an axis between events and the mapped positions of their pixels.
    """

    number: int
    middle: tuple[float, float, float, float]
    to_raw: tuple[float, float, float, float]
    limits: tuple[int, int, int, int]
    residual_arcsec: float

    def raw(self, x: Number, y: Number) -> tuple[Number, Number]:
        """Return RAWX and RAWY, fractions allowed, of positions on the tangent plane."""
        dx, dy = x - self.middle[2], y - self.middle[3]
        a, b, c, d = self.to_raw
        return self.middle[0] + a * dx + b * dy, self.middle[1] + c * dx + d * dy


Dark = Callable[["CameraMap", Floats, Floats], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class CameraMap:
    """One camera's CCDs on the tangent plane, and their bad pixels.

    Attributes
    ----------
    number : int
        Of the camera, among the instrument's.
    camera : Camera
    ccds : tuple of CcdMap
        Those that sent events.
    bad : PixelMask
    bad_reach : int
        1 if the pixels beside bad ones have no events either (a stricter flag cut), else 0.
    """

    number: int
    camera: Camera
    ccds: tuple[CcdMap, ...]
    bad: PixelMask
    bad_reach: int
    _asked: dict[tuple[float, float, float], Holes] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, events: EventList) -> CameraMap | None:
        """Derive the positions of the CCDs from a list; None if its raw pixels do not determine them."""
        step = max(events.pixel.size // SAMPLE, 1)
        pixel, ccd = events.pixel[::step].astype(np.int64), events.ccd[::step]
        order = np.argsort(ccd, kind="stable")
        order = order[pixel[order] > 0]
        x, y = events.x[::step].astype(np.int64), events.y[::step].astype(np.int64)
        camera, sky = events.instrument.camera(events.camera), events.instrument.sky
        on_sky = events.plane.crpix, sky.side_arcsec
        maps = _fit_maps(camera, ccd[order], pixel[order], x[order], y[order], *on_sky)
        if not maps or any(made.residual_arcsec > camera.pixel_arcsec for made in maps):
            return None
        bad = PixelMask()
        for mask in events.bad_pixels:
            bad.bits |= mask.bits
        if camera.bad_columns:
            number, rawx = np.array(camera.bad_columns).T
            bad.add(number, rawx, rawx * 0 + 1, rawx * 0 + camera.rows)
        number_of_camera = events.instrument.number(events.camera)
        return cls(number_of_camera, camera, tuple(maps), bad, _bad_reach(bad, pixel, camera))

    def holes(self, x: float, y: float, radius: float, dark: Dark) -> Holes:
        """Return the holes within a radius of a position, arcsec; results are stored for later calls.

        ``dark`` is :func:`dark`, or a backend's.
        """
        if (x, y, radius) not in self._asked:
            self._asked[x, y, radius] = self._holes(x, y, radius, dark)
        return self._asked[x, y, radius]

    def _holes(self, x: float, y: float, radius: float, dark: Dark) -> Holes:
        step = self.camera.step_arcsec
        near = min(radius, FINE_ARCSEC)
        points = [_ring_of_points(0.0, near, step), _ring_of_points(near, radius, 2 * step)]
        px, py = (at + np.concatenate(columns) for at, columns in zip((x, y), zip(*points, strict=True), strict=True))
        unseen, n = dark(self, px, py), points[0][0].size
        close, far = np.flatnonzero(unseen[:n]), n + np.flatnonzero(unseen[n:])
        far_x, far_y, far_area = _merged(px[far], py[far], 4 * step * step, 4 * step)
        area = np.concatenate([np.full(close.size, step * step), far_area])
        hx, hy = np.concatenate([px[close], far_x]), np.concatenate([py[close], far_y])
        return Holes(hx, hy, area, np.full(area.size, self.number, np.uint8))


def dark(camera: CameraMap, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Return at which positions on the tangent plane, arcsec, a camera sees nothing; shape (n,) each.

    Examples
    --------
    A CCD whose pixel (32, 100) is bad and lies at (0, 0); a pixel is 4 arcsec wide, and the CCD ends at column 64:

    >>> bad = PixelMask()
    >>> bad.add(1, np.array([32]), np.array([100]))
    >>> ccd = CcdMap(1, (32.0, 100.0, 0.0, 0.0), (0.25, 0.0, 0.0, 0.25), (1, 64, 1, 200), 0.0)
    >>> dark(CameraMap(0, EPIC.camera("pn"), (ccd,), bad, 0), np.array([0.0, 4.0, 132.0]), np.zeros(3)).tolist()
    [True, False, True]
    """
    unseen = np.ones(x.size, bool)
    for ccd in camera.ccds:
        rawx, rawy = (np.rint(raw).astype(np.int64) for raw in ccd.raw(x, y))
        x0, x1, y0, y1 = ccd.limits
        where = np.flatnonzero((rawx >= x0) & (rawx <= x1) & (rawy >= y0) & (rawy <= y1))
        number = ((ccd.number % 16) * PixelMask.SIZE + rawx[where] + PixelMask.MARGIN) * PixelMask.SIZE
        unseen[where] &= _is_bad(camera.bad, number + rawy[where] + PixelMask.MARGIN, camera.bad_reach)
    return unseen


def beyond(x: float, y: float, radius: float, camera: int) -> Holes:
    """Return the area farther than a radius from a position, arcsec, as rings of points out to almost the whole plane.

    The radius of a ring is that at which a King profile of slope 1.5, times the ring's area, equals its integral over
    the ring.

    Examples
    --------
    The first ring lies between 45 and 90 arcsec, at the geometric mean of both:

    >>> holes = beyond(0.0, 0.0, 45.0, 0)
    >>> len(holes.x), float(np.hypot(holes.x, holes.y).min().round(1))
    (72, 63.6)
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
    """Merge points that share a square of some size: return their mean position and their total area."""
    if x.size == 0:
        return x, y, x
    column, row = (np.floor((at - at.min()) / size).astype(np.int64) for at in (x, y))
    square = row * (int(column.max()) + 1) + column
    n = np.bincount(square)
    some = n > 0
    n = n[some]
    middle_x, middle_y = (np.bincount(square, at)[some] / n for at in (x, y))
    return middle_x, middle_y, np.asarray(n * area, np.float64)


def _fit_maps(
    camera: Camera, ccd: NDArray[np.uint8], pixel: Ints, x: Ints, y: Ints, crpix: float, side_arcsec: float
) -> list[CcdMap]:
    """Fit the sky position as a linear function of the raw one, for each CCD; events sorted by CCD.

    Empty if the events of any CCD do not determine the fit.
    """
    if ccd.size == 0:
        return []
    u = pixel // PixelMask.SIZE % PixelMask.SIZE - PixelMask.MARGIN
    v = pixel % PixelMask.SIZE - PixelMask.MARGIN
    # whole numbers whose sums stay far below 2**53: exact in any order
    columns = np.stack([u, v, x, y]).astype(np.float64)
    first = [0, *(np.flatnonzero(np.diff(ccd)) + 1).tolist(), ccd.size]
    maps = []
    for start, stop in itertools.pairwise(first):
        n, mine = stop - start, columns[:, start:stop]
        if n < CCD_EVENTS_MIN:
            continue
        products = np.einsum("in,jn->ij", mine, mine)
        sums = {name: int(total) for name, total in zip("uvxy", mine.sum(axis=1), strict=True)}
        sums |= {a + b: int(products[i, j]) for i, a in enumerate("uvxy") for j, b in enumerate("uvxy")}
        made = _fit_map(sums, n, crpix, side_arcsec)
        if made is None:
            return []
        middle, to_raw, residual = made
        (x0, x1), (y0, y1) = (
            _ends(int(raw.min()), int(raw.max()), n, camera.first, last)
            for raw, last in zip(mine[:2], (camera.columns, camera.rows), strict=True)
        )
        maps.append(CcdMap(int(ccd[start]), middle, to_raw, (x0, x1, y0, y1), residual))
    return maps


Four = tuple[float, float, float, float]


def _fit_map(sums: dict[str, int], n: int, crpix: float, side_arcsec: float) -> tuple[Four, Four, float] | None:
    """Fit one CCD's map from sums over n events; return its middle, matrix and residual, None if they do not fix it."""

    def product(a: str, b: str) -> int:  # whole numbers: n**2 times the covariance, exactly
        return n * sums[a + b] - sums[a] * sums[b]

    uu, vv, uv = product("u", "u"), product("v", "v"), product("u", "v")
    determinant = uu * vv - uv * uv
    if determinant <= 0:
        return None
    slopes, misfit = [], 0.0  # arcsec per pixel
    for axis in "xy":
        ua, va = product("u", axis), product("v", axis)
        by_u, by_v = (ua * vv - va * uv) / determinant, (va * uu - ua * uv) / determinant
        misfit += product(axis, axis) - by_u * ua - by_v * va
        slopes += [by_u * side_arcsec, by_v * side_arcsec]
    a, b, c, d = slopes
    area = a * d - b * c
    if area == 0:
        return None
    sky = [(sums[axis] / n - crpix) * side_arcsec for axis in "xy"]
    residual = side_arcsec * math.sqrt(max(misfit, 0.0) / 2) / n
    return (sums["u"] / n, sums["v"] / n, sky[0], sky[1]), (d / area, -b / area, -c / area, a / area), residual


def _ends(first_seen: int, last_seen: int, n: int, first: int, last: int) -> tuple[int, int]:
    """Return the first and last row or column with events: the CCD's own, unless many events are missing there."""
    per_row = n / max(last_seen - first_seen, 1)
    low = first_seen if (first_seen - first) * per_row > EDGE_EVENTS else min(first_seen, first)
    high = last_seen if (last - last_seen) * per_row > EDGE_EVENTS else max(last_seen, last)
    return low, high


def _is_bad(mask: PixelMask, number: Ints, reach: int) -> NDArray[np.bool_]:
    bad = mask.marked(number)
    for step in () if reach == 0 else (1, -1, PixelMask.SIZE, -PixelMask.SIZE):
        bad |= mask.marked(np.clip(number + step, 0, 8 * mask.bits.size - 1))
    return bad


def _bad_reach(mask: PixelMask, pixel: Ints, camera: Camera) -> int:
    """Find out whether events beside bad pixels were cut too: then there are none, though many are due."""
    eights = mask.bits.view(np.uint64)
    n_bad = int(np.unpackbits(eights[eights > 0].view(np.uint8)).sum())
    due = pixel.size * n_bad / (camera.columns * camera.rows * camera.n_ccds)
    if due <= NEIGHBOURS_DUE:
        return 0
    return int(np.count_nonzero(_is_bad(mask, pixel[pixel > 0], 1)) < due / 10)
