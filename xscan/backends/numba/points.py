"""Fit the position of a source in compiled loops; results as :mod:`xscan.pointsource.fit`, to the last bit.

Loops that only fill an array are apart from those that add up: the first run several events at once, the
second must keep their order. tests/search/test_position.py holds them to the others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xscan.grid import Box, Grid
from xscan.model import Expectation, Instrument, Photons, PixelMask
from xscan.pointsource import fit
from xscan.pointsource.exposure import CameraMap
from xscan.pointsource.fit import Curvature, Fitted, Points, Settled, Spots
from xscan.pointsource.psf import ENERGY_MAX_KEV, KING_SLOPE, OFF_AXIS_MAX_ARCMIN, information

__all__ = ["curvature", "dark", "likeliest", "pulls", "settle", "spots_near"]

Floats = NDArray[np.float64]

BIG = 2.0**500


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
    """As :func:`xscan.pointsource.fit.spots_near`."""
    mine, whole, both = photons.box, grid.box, box.intersect(photons.box)
    inside = (both.x0, both.x1, both.y0, both.y1)
    corners = (mine.x0, mine.y0, mine.nx, whole.x0, whole.y0)
    columns = (photons.offsets, photons.tick, photons.x_px, photons.y_px, photons.pi, photons.camera)
    factors = (expected.template, expected.source, expected.background_counts, expected.live, expected.kind)
    its_own = np.empty(0, np.int64) if hidden is None else hidden
    frames = (grid.dt_ms, grid.nt, whole.nx)
    scales = (float(crpix), grid.sky.side_arcsec, grid.cell_arcsec**2, fit.DENSITY_MIN)
    theta = min(off_axis_arcmin, OFF_AXIS_MAX_ARCMIN)
    profile = (_profiles(photons.instrument), theta, ENERGY_MAX_KEV, float(information(KING_SLOPE)))
    found = _near(columns, factors, inside, corners, frames, pi_range, chosen, its_own, scales, profile)
    x, y, camera, core, background = found
    return Spots(x, y, camera, core, background, photons.instrument)


def _profiles(instrument: Instrument) -> Floats:
    """Return the coefficients of all cameras' profiles, shape (n_cameras, 8): of the core, and of the slope."""
    return np.array([[*camera.core, *camera.slope] for camera in instrument.cameras])


@njit(cache=True, error_model="numpy")
def _near(
    columns: Any, factors: Any, inside: Any, corners: Any, frames: Any, pi_range: Any, chosen: Any, its_own: Any,
    scales: Any, profile: Any,
) -> Any:  # fmt: skip
    offsets, tick, x_px, y_px, pi, camera = columns
    template, source, rate, live, kind = factors
    x0, x1, y0, y1 = inside
    px0, py0, pnx, gx0, gy0 = corners
    dt_ms, nt, gnx = frames
    crpix, pixel_arcsec, cell2, density_min = scales
    coefficients, theta, energy_max, one_slope = profile
    sent = np.zeros(len(coefficients), np.int64)
    n = 0
    for y in range(y0, y1):
        first = offsets[(y - py0) * pnx + x0 - px0]
        end = offsets[(y - py0) * pnx + x1 - px0] if x1 > x0 else first
        for i in range(first, end):
            if pi_range[0] <= pi[i] < pi_range[1]:
                sent[camera[i]] += 1
                t = tick[i] // dt_ms
                if 0 <= t < nt and chosen[t]:
                    n += 1
    share = sent / max(sent.sum(), 1)
    out_x, out_y, out_camera, core, background = (
        np.empty(n), np.empty(n), np.empty(n, np.uint8), np.empty(n), np.empty(n),
    )  # fmt: skip
    k = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            cell = (y - py0) * pnx + x - px0
            number = (y - gy0) * gnx + x - gx0
            index = np.searchsorted(its_own, number)
            own = index < its_own.size and its_own[index] == number
            for i in range(offsets[cell], offsets[cell + 1]):
                t = tick[i] // dt_ms
                if not (pi_range[0] <= pi[i] < pi_range[1] and 0 <= t < nt and chosen[t]):
                    continue
                which = kind[t]
                mu = template[which, y - gy0, x - gx0] * rate[t]
                if not own:
                    mu += source[which, y - gy0, x - gx0] * live[t]
                c = camera[i]
                out_x[k], out_y[k] = (float(x_px[i]) - crpix) * pixel_arcsec, (float(y_px[i]) - crpix) * pixel_arcsec
                out_camera[k] = c
                background[k] = max(mu * share[c] / cell2, density_min)
                a = coefficients[c]
                energy = min(pi[i] / 1000, energy_max)
                wide = a[0] + a[1] * energy + a[2] * theta + a[3] * energy * theta
                slope = a[4] + a[5] * energy + a[6] * theta + a[7] * energy * theta
                core[k] = wide * math.sqrt(one_slope / (2 * slope * (slope - 1) / (slope + 1)))
                k += 1
    return out_x, out_y, out_camera, core, background


def dark(camera: CameraMap, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """As :func:`xscan.pointsource.exposure.dark`."""
    ccds = np.array([(*ccd.middle, *ccd.to_raw, *ccd.limits, ccd.number % 16) for ccd in camera.ccds])
    numbering = (PixelMask.SIZE, PixelMask.MARGIN)
    unseen: NDArray[np.bool_] = _dark(ccds, camera.bad.bits, camera.bad_reach, x, y, numbering)
    return unseen


@njit(cache=True, error_model="numpy")
def _dark(ccds: Any, bits: Any, reach: Any, x: Any, y: Any, numbering: Any) -> Any:
    size, margin = numbering
    unseen = np.ones(x.size, np.bool_)
    for ccd in ccds:
        number = int(ccd[12])
        for i in range(x.size):
            dx, dy = x[i] - ccd[2], y[i] - ccd[3]
            rawx, rawy = np.rint(ccd[0] + ccd[4] * dx + ccd[5] * dy), np.rint(ccd[1] + ccd[6] * dx + ccd[7] * dy)
            if ccd[8] <= rawx <= ccd[9] and ccd[10] <= rawy <= ccd[11]:
                pixel = (number * size + int(rawx) + margin) * size + int(rawy) + margin
                bad = _marked(bits, pixel)
                if reach > 0 and not bad:
                    last = 8 * bits.size - 1
                    for step in (1, -1, size, -size):
                        bad |= _marked(bits, min(max(pixel + step, 0), last))
                unseen[i] &= bad
    return unseen


@njit(cache=True)
def _marked(bits: Any, pixel: Any) -> Any:
    return (bits[pixel >> 3] >> (pixel & 7)) & 1 == 1


def likeliest(points: Points, strength: Floats, positions: Floats) -> int:
    """As :func:`xscan.pointsource.fit.likeliest`."""
    shape = (fit.WIDER * fit.WIDER, fit.CORE_FACTOR, 1 / (1 + fit.HIDDEN_MAX))
    return int(_likeliest(_columns(points), np.asarray(strength, float), positions, shape))


def _columns(points: Points) -> Any:
    return points.x, points.y, points.core2, points.group, points.area, points.event, points.background


@njit(cache=True, error_model="numpy")
def _likeliest(columns: Any, strength: Any, positions: Any, shape: Any) -> Any:
    x, y, core2, group, area, _, background = columns
    wider2, core_factor, least = shape
    n, cameras = x.size, strength.size
    f, missed, sent = np.empty(n), np.empty(cameras), np.empty(cameras)
    root, wide2 = np.empty(n), np.empty(n)
    for i in range(n):
        wide2[i] = wider2 * core2[i]
        root[i] = core_factor * math.sqrt(wide2[i])
    best, best_exponent, best_mantissa = 0, 0, 0.0
    for k in range(len(positions)):
        px, py = positions[k, 0], positions[k, 1]
        for i in range(n):
            dx, dy = x[i] - px, y[i] - py
            apart2 = (dx * dx + dy * dy) + wide2[i]
            f[i] = root[i] / (apart2 * math.sqrt(apart2))
        missed[:] = 0
        for i in range(n):
            if group[i] >= cameras:
                missed[group[i] - cameras] += f[i] * area[i]
        for c in range(cameras):
            sent[c] = strength[c] / max(1 - missed[c], least)
        product, exponent = 1.0, 0
        for i in range(n):
            if group[i] < cameras:
                product *= sent[group[i]] * f[i] + background[i]
                while BIG < product < np.inf:
                    product /= BIG
                    exponent += 500
                while 0 < product < 1 / BIG:
                    product *= BIG
                    exponent -= 500
        mantissa, more = math.frexp(product)
        exponent += more
        if k == 0 or exponent > best_exponent or (exponent == best_exponent and mantissa > best_mantissa):
            best, best_exponent, best_mantissa = k, exponent, mantissa
    return best


def settle(points: Points, start: tuple[float, float]) -> Settled | None:
    """As :func:`xscan.pointsource.fit.settle`."""
    strength = np.zeros(points.n_cameras)
    limits = (fit.ITERATIONS, fit.SETTLED, fit.LEAP, fit.PHOTONS_MIN / 2, fit.HIDDEN_MAX)
    widths = (fit.WIDER, fit.WIDER_SPREAD, fit.WIDTH_MIN)
    shape = (*widths, fit.CORE_FACTOR, 2 * KING_SLOPE, fit.DENSITY_MIN)
    px, py, width = _settle(_columns(points), float(start[0]), float(start[1]), limits, shape, strength)
    return (px, py, width, strength) if width > 0 else None


@njit(cache=True, error_model="numpy")
def _settle(columns: Any, px: Any, py: Any, limits: Any, shape: Any, strength: Any) -> Any:
    """Return position and width, and fill the strengths; width 0 if the photons do not determine the position."""
    x, y, core2, group, area, event, background = columns
    iterations, settled, leap, photons_min, hidden_max = limits
    wider, wider_spread, width_min, core_factor, slopes, density_min = shape
    n, cameras = x.size, strength.size
    width = wider
    for i in range(n):
        if group[i] < cameras:
            strength[group[i]] += 0.5
    member, near2, both = np.empty(n), np.empty(n), np.empty(2 * cameras)
    sums, seen = np.empty(2 * cameras), np.ones(2 * cameras)
    for _ in range(iterations):
        both[:cameras] = strength
        both[cameras:] = strength
        width2 = width * width
        for i in range(n):
            dx, dy, wide2 = x[i] - px, y[i] - py, width2 * core2[i]
            apart2 = (dx * dx + dy * dy) + wide2
            f = core_factor * math.sqrt(wide2) / (apart2 * math.sqrt(apart2))
            source = both[group[i]] * f
            member[i] = source * area[i] / (source * event[i] + background[i])
            near2[i] = apart2
        sums[:] = 0
        for i in range(n):
            sums[group[i]] += member[i]
        sent = 0.0
        for c in range(cameras):
            sent += sums[c]
        if sent < photons_min:
            return px, py, 0.0
        total = 0.0
        for c in range(cameras):
            hidden = max(sums[cameras + c], density_min)
            seen[cameras + c] = min(1.0, hidden_max * sums[c] / hidden)
            strength[c] = sums[c] + seen[cameras + c] * sums[cameras + c]
            total += strength[c]
        for i in range(n):
            near2[i] = member[i] * seen[group[i]] / near2[i]
        weights = sum_x = sum_y = sum_r2 = 0.0
        for i in range(n):
            dx, dy = x[i] - px, y[i] - py
            weight = near2[i]
            weights += weight
            sum_x += weight * x[i]
            sum_y += weight * y[i]
            sum_r2 += weight * (dx * dx + dy * dy)
        pull = (width / wider - wider / width) / 2 / (wider_spread * wider_spread)
        growth = math.sqrt(max((slopes * sum_r2 - pull) / (2 * total), 0.25))
        step_x, step_y = leap * (sum_x / weights - px), leap * (sum_y / weights - py)
        wide = max(width * (1 + leap * (growth - 1)), width_min)
        moved = max(abs(step_x), abs(step_y), abs(wide - width))
        px, py, width = px + step_x, py + step_y, wide
        if moved < settled:
            return px, py, width
    return px, py, 0.0


def curvature(points: Points, fitted: Fitted, strength: Floats) -> Curvature:
    """As :func:`xscan.pointsource.fit.curvature`."""
    return Curvature(*_curvature(_columns(points), fitted, strength, (KING_SLOPE, fit.CORE_FACTOR)))


@njit(cache=True, error_model="numpy")
def _derivatives(dx: Any, dy: Any, wide2: Any, king_slope: Any) -> Any:
    r2 = dx * dx + dy * dy
    apart2 = r2 + wide2
    outside = r2 / apart2
    rise = 2 * king_slope / apart2
    bend = rise * (2 * (king_slope + 1) / apart2)
    wide = 2 * king_slope * outside - 2
    return apart2, outside, rise, bend, wide, wide - 2 * (1 - outside)


@njit(cache=True, error_model="numpy")
def _curvature(columns: Any, fitted: Any, strength: Any, shape: Any) -> Any:
    x, y, core2, group, area, event, background = columns
    (px, py, width), (king_slope, core_factor), cameras = fitted, shape, strength.size
    observed, expected, product = np.zeros((3, 3)), np.zeros((3, 3)), np.empty((3, 3))
    pulled, seen_pulled = np.zeros((3, 2 * cameras)), np.zeros((3, cameras))
    members, at_position, own = np.zeros(2 * cameras), np.zeros(cameras), np.zeros(cameras)
    slope, bends = np.empty(3), np.empty((3, 3))
    for i in range(x.size):
        dx, dy, wide2 = x[i] - px, y[i] - py, width * width * core2[i]
        apart2, outside, rise, bend, wide, turn = _derivatives(dx, dy, wide2, king_slope)
        f = core_factor * math.sqrt(wide2) / (apart2 * math.sqrt(apart2))
        source = strength[group[i] % cameras] * f
        member = source * area[i] / (source * event[i] + background[i])
        slope[0], slope[1], slope[2] = rise * dx, rise * dy, wide
        bends[0, 0], bends[1, 1], bends[1, 0] = bend * dx * dx - rise, bend * dy * dy - rise, bend * dx * dy
        bends[2, 0], bends[2, 1] = rise * dx * turn, rise * dy * turn
        bends[2, 2] = wide * wide - 4 * king_slope * outside * (1 - outside)
        seen, unseen = member * member * event[i], member * (1 - event[i])
        g = group[i]
        members[g] += member
        for a in range(3):
            for b in range(a + 1):
                product[a, b] = slope[a] * slope[b]
                observed[a, b] += seen * product[a, b] - member * bends[a, b]
                expected[a, b] += unseen * product[a, b]
            pulled[a, g] += member * slope[a]
        if g < cameras:
            own[g] += seen
            at_position[g] += member / core2[i]
            for a in range(3):
                seen_pulled[a, g] += seen * slope[a]
    cross, in_holes = np.empty((3, cameras)), np.empty((3, cameras))
    for a in range(3):
        for b in range(a + 1):
            observed[b, a] = observed[a, b]
            expected[a, b] = -expected[a, b]
            expected[b, a] = expected[a, b]
        for c in range(cameras):
            in_holes[a, c] = -pulled[a, cameras + c]
            cross[a, c] = in_holes[a, c] + seen_pulled[a, c] - pulled[a, c]
    return observed, expected, at_position, members[:cameras], members[cameras:], own, cross, in_holes


def pulls(
    points: Points,
    fitted: Fitted,
    strength: Floats,
    freed: Floats,
    by_width: tuple[float, float],
    told: tuple[float, float, float],
) -> tuple[float, Floats]:
    """As :func:`xscan.pointsource.fit.pulls`."""
    shape = (KING_SLOPE, fit.CORE_FACTOR, fit.HOLES_WITHIN_ARCSEC * fit.HOLES_WITHIN_ARCSEC)
    scatter, over_core = _pulls(_columns(points), fitted, strength, freed, by_width, told, shape)
    return scatter, over_core


@njit(cache=True, error_model="numpy")
def _pulls(
    columns: Any, fitted: Any, strength: Any, freed: Any, by_width: Any, told: Any, shape: Any
) -> Any:  # fmt: skip
    x, y, core2, group, area, event, background = columns
    (px, py, width), (xx, yy, xy), (king_slope, core_factor, within2) = fitted, told, shape
    cameras = strength.size
    scatter, over_core = 0.0, np.zeros(cameras)
    for i in range(x.size):
        dx, dy, wide2 = x[i] - px, y[i] - py, width * width * core2[i]
        apart2, _, rise, _, wide, _ = _derivatives(dx, dy, wide2, king_slope)
        f = core_factor * math.sqrt(wide2) / (apart2 * math.sqrt(apart2))
        c = group[i] % cameras
        source = strength[c] * f
        member = source * area[i] / (source * event[i] + background[i])
        of_width = member * event[i] * (wide - freed[2, c])
        pull_x = member * event[i] * (rise * dx - freed[0, c]) - by_width[0] * of_width
        pull_y = member * event[i] * (rise * dy - freed[1, c]) - by_width[1] * of_width
        move_x, move_y = xx * pull_x + xy * pull_y, xy * pull_x + yy * pull_y
        scatter += move_x * move_x + move_y * move_y
        if event[i] == 0 and dx * dx + dy * dy < within2:
            over_core[c] += member / math.sqrt(core2[i])
    return scatter, over_core
