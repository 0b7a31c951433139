"""The compiled loop that places a source; it gives what :func:`xscan.pointfit.settle` gives, to the last bit.

tests/test_position.py holds that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xscan import pointfit
from xscan.model import CAMERAS
from xscan.pointfit import Points, Settled
from xscan.psf import KING_SLOPE

__all__ = ["settle"]


def settle(points: Points, start: tuple[float, float]) -> Settled | None:
    """As :func:`xscan.pointfit.settle`."""
    strength = np.zeros(len(CAMERAS))
    limits = (pointfit.ITERATIONS, pointfit.SETTLED, pointfit.LEAP, pointfit.PHOTONS_MIN / 2, pointfit.HIDDEN_MAX)
    widths = (pointfit.WIDER, pointfit.WIDER_SPREAD, pointfit.WIDTH_MIN)
    shape = (*widths, pointfit.CORE_FACTOR, 2 * KING_SLOPE, pointfit.DENSITY_MIN)
    columns = (
        points.x, points.y, points.core2, points.group, points.area, points.event, points.background,
    )  # fmt: skip
    px, py, width = _settle(columns, float(start[0]), float(start[1]), limits, shape, strength)
    return (px, py, width, strength) if width > 0 else None


@njit(cache=True)
def _settle(columns: Any, px: Any, py: Any, limits: Any, shape: Any, strength: Any) -> Any:
    """Give place and width, and fill the strengths; width 0 if the photons do not say."""
    x, y, core2, group, area, event, background = columns
    iterations, settled, leap, photons_min, hidden_max = limits
    wider, wider_spread, width_min, core_factor, slopes, density_min = shape
    n, cameras = x.size, strength.size
    width = wider
    for i in range(n):
        if group[i] < cameras:
            strength[group[i]] += 0.5
    member, sums, seen = np.empty(n), np.empty(2 * cameras), np.ones(2 * cameras)
    for _ in range(iterations):
        sums[:] = 0
        for i in range(n):
            dx, dy, wide2 = x[i] - px, y[i] - py, width * width * core2[i]
            apart2 = (dx * dx + dy * dy) + wide2
            f = core_factor * math.sqrt(wide2) / (apart2 * math.sqrt(apart2))
            source = strength[group[i] % cameras] * f
            member[i] = source * area[i] / (source * event[i] + background[i])
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
        weights = sum_x = sum_y = sum_r2 = 0.0
        for i in range(n):
            dx, dy, wide2 = x[i] - px, y[i] - py, width * width * core2[i]
            r2 = dx * dx + dy * dy
            weight = member[i] * seen[group[i]] / (r2 + wide2)
            weights += weight
            sum_x += weight * x[i]
            sum_y += weight * y[i]
            sum_r2 += weight * r2
        pull = (width / wider - wider / width) / 2 / (wider_spread * wider_spread)
        growth = math.sqrt(max((slopes * sum_r2 - pull) / (2 * total), 0.25))
        step_x, step_y = leap * (sum_x / weights - px), leap * (sum_y / weights - py)
        wide = max(width * (1 + leap * (growth - 1)), width_min)
        moved = max(abs(step_x), abs(step_y), abs(wide - width))
        px, py, width = px + step_x, py + step_y, wide
        if moved < settled:
            return px, py, width
    return px, py, 0.0
