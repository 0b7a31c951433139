"""Compiled loops that find silent CCDs.

:func:`silences` gives what its NumPy definition in :mod:`xscan.dropouts` gives, to the last bit (tests/test_events.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xscan.backends.numba_events import cell_of_pixel
from xscan.dropouts import EXPECTED_MIN, N_CELLS, faint_cells, silent_together
from xscan.goodtime import Floats, union
from xscan.model import EventList

__all__ = ["seconds", "silences"]


def silences(lists: Sequence[EventList], t0: float, t1: float) -> dict[tuple[int, int], Floats]:
    """As :func:`xscan.dropouts.silences`."""
    names, counts = seconds(lists, t0, max(int(t1 - t0), 1))
    everything, totals = _sums(counts)
    so_far = np.concatenate([[0], np.cumsum(everything)])
    together = silent_together(everything)
    others = so_far[-1] - totals
    judged = (totals > 0) & (others > 0)
    enough = np.full(totals.size, so_far[-1] + 1)
    # rounded down: what is found is looked at again
    enough[judged] = np.maximum(EXPECTED_MIN * others[judged] // totals[judged], 1)
    row, first, end = _runs(counts, so_far, enough)
    due = (so_far[end] - so_far[first]) * totals[row] >= EXPECTED_MIN * others[row]
    row, first, end = row[due], first[due], end[due]
    found = {}
    for number, name in enumerate(names.tolist()):
        mine = np.flatnonzero(row == number)
        start, stop = np.append(first[mine], together[:, 0]), np.append(end[mine], together[:, 1])
        found[divmod(name, 256)] = t0 + union(start, stop)
    return found


def seconds(lists: Sequence[EventList], t0: float, n_bins: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """As :func:`xscan.dropouts.seconds`."""
    image, of_ccd = np.zeros((N_CELLS, N_CELLS), np.int64), np.zeros((len(lists), 256), np.int64)
    cell_of = cell_of_pixel(N_CELLS)
    for events, ccds in zip(lists, of_ccd, strict=True):
        _count_cells(events.time, events.x, events.y, events.ccd, t0, n_bins, cell_of, image, ccds)
    faint = faint_cells(image)
    names = np.flatnonzero(of_ccd)
    row = np.full(of_ccd.size, -1)
    row[names] = np.arange(names.size)
    counts = np.zeros((names.size, n_bins), np.int32)
    for events, rows in zip(lists, row.reshape(of_ccd.shape), strict=True):
        _count_seconds(events.time, events.x, events.y, events.ccd, t0, cell_of, faint, rows, counts)
    return names, counts


@njit(cache=True)
def _count_cells(
    time: Any, x: Any, y: Any, ccd: Any, t0: float, n_bins: int, cell_of: Any, image: Any, of_ccd: Any
) -> None:
    for i in range(time.size):
        second = time[i] - t0
        if second >= 0 and second < n_bins:
            image[cell_of[y[i]], cell_of[x[i]]] += 1
            of_ccd[ccd[i]] += 1


@njit(cache=True)
def _count_seconds(
    time: Any, x: Any, y: Any, ccd: Any, t0: float, cell_of: Any, faint: Any, rows: Any, counts: Any
) -> None:
    for i in range(time.size):
        second = time[i] - t0
        if second >= 0 and second < counts.shape[1]:
            counts[rows[ccd[i]], np.uint64(np.int64(second))] += faint[cell_of[y[i]], cell_of[x[i]]]


@njit(cache=True)
def _sums(counts: Any) -> Any:
    everything, totals = np.zeros(counts.shape[1], np.int64), np.zeros(counts.shape[0], np.int64)
    for r in range(counts.shape[0]):
        for second in range(counts.shape[1]):
            everything[second] += counts[r, second]
            totals[r] += counts[r, second]
    return everything, totals


@njit(cache=True)
def _runs(counts: Any, so_far: Any, enough: Any) -> Any:
    """Find row, first and end of the runs of seconds without counts in which all sent enough, by row."""
    rows = [np.int64(0) for _ in range(0)]
    firsts = [np.int64(0) for _ in range(0)]
    ends = [np.int64(0) for _ in range(0)]
    n = counts.shape[1]
    for r in range(enough.size):
        mine = counts[r]
        before, end = np.int64(0), 0
        for second in range(n):  # without a branch but where a run is found: seconds with and without counts alternate
            before = max(before, so_far[second + 1] & -np.int64(mine[second] > 0))
            if so_far[second + 1] - before >= enough[r] and second >= end:
                first, end = second, second + 1
                while first > 0 and mine[first - 1] == 0:
                    first -= 1
                while end < n and mine[end] == 0:
                    end += 1
                rows.append(np.int64(r))
                firsts.append(np.int64(first))
                ends.append(np.int64(end))
    return np.array(rows, np.int64), np.array(firsts, np.int64), np.array(ends, np.int64)
