"""Compiled loops over read-out frames: their live time, and that of the frames of a view.

Each gives what its NumPy definition in :mod:`xscan.events.gti` gives, to the last bit (tests/events/test_gti.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from xscan.events import gti
from xscan.events.gti import Floats
from xscan.model import CcdTime

__all__ = ["cumulative_livetime", "livetime_until"]

NO_CURVE = np.empty((2, 0))


def cumulative_livetime(time: ArrayLike, timedel: ArrayLike, fracexp: ArrayLike) -> Floats | None:
    """As :func:`xscan.events.gti.cumulative_livetime`; rows out of order are left to it."""
    columns = tuple(np.asarray(values, np.float64) for values in (time, timedel, fracexp))
    curve = np.empty((2, 2 * columns[0].size))
    n = _curve(columns, curve)
    if n < 0:
        return gti.cumulative_livetime(*columns)
    if n == 0:
        return None
    return curve if n == curve.shape[1] else np.ascontiguousarray(curve[:, :n])


def livetime_until(time: Floats, good: CcdTime) -> Floats:
    """As :func:`xscan.events.gti.livetime_until`."""
    return np.asarray(_until(time, good.gti, NO_CURVE if good.livetime is None else good.livetime))


@njit(cache=True)
def _curve(columns: Any, curve: Any) -> Any:
    """Fill a curve of live time, and return its number of points; -1 if the rows are out of order."""
    centre, length, fraction = columns
    k = 0
    previous, reach, live = -np.inf, -np.inf, 0.0
    for i in range(centre.size):
        if not (np.isfinite(centre[i] + length[i] + fraction[i]) and length[i] > 0):
            continue
        start, stop = centre[i] - length[i] / 2, centre[i] + length[i] / 2
        if start < previous:
            return -1
        previous = start
        start, reach = max(start, reach), max(stop, reach)
        if stop > start:
            curve[0, k], curve[1, k] = start, live
            live += (stop - start) * min(max(fraction[i], 0.0), 1.0)
            curve[0, k + 1], curve[1, k + 1] = stop, live
            k += 2
    return k


@njit(cache=True, inline="always")
def _live_until(time: Any, curve: Any, j: Any) -> Any:
    """Return the live time until a moment in segment j of a curve, as ``np.interp``; without a curve, the moment."""
    if curve.shape[1] == 0:
        return time
    if j < 0:
        return curve[1, 0]
    if j >= curve.shape[1] - 1 or curve[0, j] == time:
        return curve[1, min(j, curve.shape[1] - 1)]
    slope = (curve[1, j + 1] - curve[1, j]) / (curve[0, j + 1] - curve[0, j])
    return slope * (time - curve[0, j]) + curve[1, j]


@njit(cache=True, inline="always")
def _segment(curve: Any, time: Any, j: Any) -> Any:
    """Return the segment of a moment, at or after segment j: searched in growing steps, then by bisection."""
    step = 1
    while j + step < curve.shape[1] and curve[0, j + step] <= time:
        j += step
        step *= 2
    end = min(j + step, curve.shape[1])
    while end - j > 1:
        middle = (j + end) // 2
        if curve[0, middle] <= time:
            j = middle
        else:
            end = middle
    return j


@njit(cache=True)
def _until(times: Any, intervals: Any, curve: Any) -> Any:
    until = np.zeros(times.size)
    n = intervals.shape[0]
    at_start, before = np.empty(n), np.zeros(n)
    for i in range(n):
        first = np.searchsorted(curve[0], intervals[i, 0], side="right") - 1
        last = np.searchsorted(curve[0], intervals[i, 1], side="right") - 1
        at_start[i] = _live_until(intervals[i, 0], curve, first)
        if i + 1 < n:
            before[i + 1] = before[i] + (_live_until(intervals[i, 1], curve, last) - at_start[i])
    k, j = -1, -1  # interval and segment in which a time lies, or the last before it; times rise
    for e in range(times.size):
        while k + 1 < n and intervals[k + 1, 0] <= times[e]:
            k += 1
        if k >= 0:
            time = min(times[e], intervals[k, 1])
            j = _segment(curve, time, j)
            until[e] = before[k] + (_live_until(time, curve, j) - at_start[k])
    return until
