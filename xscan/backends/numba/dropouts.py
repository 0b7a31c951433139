"""Compiled loops that find silent CCDs.

:func:`silences` gives what its NumPy definition in :mod:`xscan.events.dropouts` gives, to the last bit
(tests/events/test_events.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xscan.backends.numba.division import cell_division
from xscan.events.dropouts import EXPECTED_MIN, N_CELLS, CcdSilences, faint_cells, kept_silences, silent_together
from xscan.events.gti import union
from xscan.model import EventList

__all__ = ["seconds", "silences"]

LANES = 16  # CCDs processed at once by vector instructions; the table's width is a multiple of this


def silences(lists: Sequence[EventList], t0: float, t1: float) -> tuple[dict[int, CcdSilences], ...]:
    """As :func:`xscan.events.dropouts.silences`."""
    names, counts, everything, totals = seconds(lists, t0, max(int(t1 - t0), 1))
    so_far = np.concatenate([[0], np.cumsum(everything)])
    together = silent_together(everything)
    others = so_far[-1] - totals
    judged = (totals > 0) & (others > 0)
    enough = np.full(totals.size, so_far[-1] + 1)
    # rounded down: each silence found is checked again
    enough[judged] = np.clip(EXPECTED_MIN * others[judged] // totals[judged], 1, so_far[-1] + 1)
    # int32 is enough for events that fit into memory
    column, first, end = _runs(counts, so_far.astype(np.int32), enough.astype(np.int32))
    due = (so_far[end] - so_far[first]) * totals[column] >= EXPECTED_MIN * others[column]
    column, first, end = column[due], first[due], end[due]
    found: tuple[dict[int, CcdSilences], ...] = tuple({} for _ in lists)
    for number, name in enumerate(names.tolist()):
        mine = np.flatnonzero(column == number)
        alone = kept_silences(np.column_stack([first[mine], end[mine]]), number, names, counts, totals)
        start, stop = np.append(alone[:, 0], together[:, 0]), np.append(alone[:, 1], together[:, 1])
        number_of_list, ccd = divmod(name, 256)
        found[number_of_list][ccd] = CcdSilences(t0 + union(start, stop), int(totals[number]))
    return found


def seconds(
    lists: Sequence[EventList], t0: float, n_bins: int
) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger[Any]], NDArray[np.int64], NDArray[np.int64]]:
    """As :func:`xscan.events.dropouts.seconds`, with the table transposed: the CCDs of a second are adjacent.

    Returns
    -------
    names : int64, shape (k,)
    counts : uint16 or uint32, shape (n_bins, w)
        w is k rounded up to lanes; the columns after the k-th are 0.
    everything : int64, shape (n_bins,)
        Sums over the CCDs.
    totals : int64, shape (w,)
        Sums over the seconds.
    """
    image, of_ccd = np.zeros((N_CELLS, N_CELLS), np.int64), np.zeros((len(lists), 256), np.int64)
    to_cell = cell_division(N_CELLS, lists[0].instrument.sky.n)
    for events, ccds in zip(lists, of_ccd, strict=True):
        _count_cells(events.time, events.x, events.y, events.ccd, t0, n_bins, to_cell, image, ccds)
    faint = faint_cells(image)
    names = np.flatnonzero(of_ccd)
    column = np.zeros(of_ccd.size, np.uint64)
    column[names] = np.arange(names.size)
    width = -(-names.size // LANES) * LANES
    for dtype in (np.uint16, np.uint32):  # a table half as large is faster, and nearly always large enough
        counts = np.zeros((n_bins, width), dtype)
        for events, columns in zip(lists, column.reshape(of_ccd.shape), strict=True):
            _count_seconds(events.time, events.x, events.y, events.ccd, t0, to_cell, faint, columns, counts)
        everything, totals = _sums(counts)
        if everything.sum() == image[faint].sum():  # each count that wrapped around would lack 65,536
            break
    return names, counts, everything, totals


@njit(cache=True, inline="always")
def _cell(pixel: Any, to_cell: Any) -> Any:
    """Copy of the function in :mod:`xscan.backends.numba.events`: inlined code of another file would not be updated."""
    n_cells, m, s = to_cell
    return min(np.uint64(pixel) * np.uint64(n_cells) * np.uint64(m) >> np.uint64(s), np.uint64(n_cells - 1))


@njit(cache=True)
def _count_cells(
    time: Any, x: Any, y: Any, ccd: Any, t0: float, n_bins: int, to_cell: Any, image: Any, of_ccd: Any
) -> None:
    for i in range(time.size):
        second = time[i] - t0
        if second >= 0 and second < n_bins:
            image[_cell(y[i], to_cell), _cell(x[i], to_cell)] += 1
            of_ccd[ccd[i]] += 1


@njit(cache=True)
def _count_seconds(
    time: Any, x: Any, y: Any, ccd: Any, t0: float, to_cell: Any, faint: Any, columns: Any, counts: Any
) -> None:
    for i in range(time.size):
        second = time[i] - t0
        if second >= 0 and second < counts.shape[0]:
            one = faint[_cell(y[i], to_cell), _cell(x[i], to_cell)]
            counts[np.uint64(np.int64(second)), columns[ccd[i]]] += one


@njit(cache=True)
def _sums(counts: Any) -> Any:
    """Return the counts of each second, and of each CCD."""
    everything, totals = np.zeros(counts.shape[0], np.int64), np.zeros(counts.shape[1], np.int64)
    for second in range(counts.shape[0]):
        total = 0
        for column in range(counts.shape[1]):
            total += counts[second, column]
            totals[column] += counts[second, column]
        everything[second] = total
    return everything, totals


@njit(cache=True)
def _runs(counts: Any, so_far: Any, enough: Any) -> Any:
    """Return CCD, first and end of the runs of seconds in which a CCD sent nothing and all together sent enough.

    All CCDs of a second are processed together, without a branch except where a run is found.
    """
    columns = [np.int64(0) for _ in range(0)]
    firsts = [np.int64(0) for _ in range(0)]
    ends = [np.int64(0) for _ in range(0)]
    n, width = counts.shape
    before = np.zeros(width, np.int32)  # counts of all CCDs until each CCD's last event
    done = np.zeros(width, np.int64)
    for second in range(n):
        now = so_far[second + 1]
        found = False
        for column in range(width):
            # now where it sent something, else 0
            before[column] = max(before[column], now & -np.int32(counts[second, column] > 0))
            found |= now - before[column] >= enough[column]
        if not found:
            continue
        for column in range(width):
            if now - before[column] >= enough[column] and second >= done[column]:
                first, end = second, second + 1
                while first > 0 and counts[first - 1, column] == 0:
                    first -= 1
                while end < n and counts[end, column] == 0:
                    end += 1
                columns.append(np.int64(column))
                firsts.append(np.int64(first))
                ends.append(np.int64(end))
                done[column] = end
    return np.array(columns, np.int64), np.array(firsts, np.int64), np.array(ends, np.int64)
