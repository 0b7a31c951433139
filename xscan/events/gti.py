"""Compute when a detector was taking data: intervals, read-out frames, and the live time between two moments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscan.model import CcdTime

__all__ = ["cumulative_livetime", "intersect", "livetime_until", "union"]

Floats = NDArray[np.float64]


def union(start: ArrayLike, stop: ArrayLike) -> Floats:
    """Merge intervals.

    Parameters
    ----------
    start, stop : array of float, shape (k,)
        In any order; empty, reversed and non-finite ones are left out.

    Returns
    -------
    float64, shape (m, 2)
        Sorted and disjoint; intervals that touch are joined.

    Examples
    --------
    >>> union([0.0, 5.0, 20.0], [10.0, 12.0, 30.0]).tolist()
    [[0.0, 12.0], [20.0, 30.0]]
    """
    a, b = np.asarray(start, np.float64), np.asarray(stop, np.float64)
    real = np.isfinite(a) & np.isfinite(b) & (b > a)
    order = np.argsort(a[real], kind="stable")
    a, b = a[real][order], b[real][order]
    if a.size == 0:
        return np.empty((0, 2))
    reach = np.maximum.accumulate(b)
    first = np.concatenate([[True], a[1:] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.column_stack([a[first], reach[last]])


def intersect(one: Floats, other: Floats) -> Floats:
    """Return the time that lies in both of two sets of sorted, disjoint intervals, shape (m, 2).

    Examples
    --------
    >>> intersect(np.array([[0.0, 10.0], [20.0, 30.0]]), np.array([[5.0, 25.0]])).tolist()
    [[5.0, 10.0], [20.0, 25.0]]
    """
    first = np.searchsorted(other[:, 1], one[:, 0], side="right")  # of those that end after it starts
    end = np.searchsorted(other[:, 0], one[:, 1])  # of those that start before it ends
    n = np.maximum(end - first, 0)
    i = np.repeat(np.arange(len(one)), n)
    j = np.arange(n.sum()) + np.repeat(first - np.cumsum(n) + n, n)
    start, stop = np.maximum(one[i, 0], other[j, 0]), np.minimum(one[i, 1], other[j, 1])
    return np.column_stack([start, stop])


def cumulative_livetime(time: ArrayLike, timedel: ArrayLike, fracexp: ArrayLike) -> Floats | None:
    """Return the cumulative live time from EXPOSUnn rows (TIME, TIMEDEL, FRACEXP), a rising curve.

    Rows of neighbouring frames overlap by rounding: then a frame starts where the ones before it
    end, so that no moment counts twice. Rows that are not finite or have no length are left out.

    Returns
    -------
    float64, shape (2, m), or None
        Times, s, and the live time until each, s; linear in between. None if no row is left, because the table then
        contains no information.

    Examples
    --------
    Two read-out frames of 2 s around 1 and 5 s, the second live for half of it:

    >>> cumulative_livetime([1.0, 5.0], [2.0, 2.0], [1.0, 0.5]).tolist()
    [[0.0, 2.0, 4.0, 6.0], [0.0, 2.0, 2.0, 3.0]]
    """
    centre, length, fraction = (np.asarray(values, np.float64) for values in (time, timedel, fracexp))
    real = np.isfinite(centre + length + fraction) & (length > 0)
    if not real.all():
        centre, length, fraction = centre[real], length[real], fraction[real]
    start, stop = centre - length / 2, centre + length / 2
    if np.any(start[1:] < start[:-1]):
        order = np.argsort(start, kind="stable")
        start, stop, fraction = start[order], stop[order], fraction[order]
    start[1:] = np.maximum(start[1:], np.maximum.accumulate(stop)[:-1])
    length = stop - start
    kept = length > 0
    if not kept.any():
        return None
    if not kept.all():
        start, stop, length, fraction = start[kept], stop[kept], length[kept], fraction[kept]
    curve = np.empty((2, 2 * start.size))
    curve[0, 0::2], curve[0, 1::2] = start, stop
    curve[1, 1::2] = np.cumsum(length * np.clip(fraction, 0, 1))
    curve[1, 0], curve[1, 2::2] = 0.0, curve[1, 1:-1:2]
    return curve


def livetime_until(time: Floats, good: CcdTime) -> Floats:
    """Return the live time of one CCD from some moment before its good time until each of some times.

    Parameters
    ----------
    time : float64, shape (n,)
        Rising, s; for frames, their edges.
    good : CcdTime

    Returns
    -------
    float64, shape (n,)
        Seconds: good time times the live fraction of its read-out frames. Each is computed independently of the
        others, so that frames of several lengths can share their edges.

    Examples
    --------
    Live seconds of frames of 5 s, of which the good time begins at 2 s:

    >>> np.diff(livetime_until(np.array([0.0, 5.0, 10.0]), CcdTime(np.array([[2.0, 9.0]])))).tolist()
    [3.0, 4.0]
    """
    start, stop = good.gti.T
    if start.size == 0:
        return np.zeros(len(time))
    at_start = _live_until(start, good.livetime)
    before = np.concatenate([[0.0], np.cumsum(_live_until(stop, good.livetime) - at_start)])
    k = np.searchsorted(start, time, side="right") - 1
    last = np.maximum(k, 0)
    within = _live_until(np.minimum(time, stop[last]), good.livetime) - at_start[last]
    return np.where(k < 0, 0.0, before[last] + within)


def _live_until(time: Floats, exposures: Floats | None) -> Floats:
    """Return the live time from some moment before all of ``time`` until each, s, piecewise linear."""
    return time if exposures is None else np.interp(time, *exposures)
