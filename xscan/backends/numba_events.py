"""Compiled loops over the events of whole lists: select, drop, count by the second, merge.

Each gives what its NumPy definition gives, to the last bit (tests/test_events.py).

Compiled code is kept on disk and made anew only when this file changes: what other modules define
reaches it as an argument, never as a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xscan import clean
from xscan.clean import PI_MAX, PI_MIN, SELECTED_BY, Cuts, Kept, PixelMask, RawEvents, Span
from xscan.dropouts import N_CELLS, faint_cells
from xscan.grid import Box, cells_of
from xscan.model import CAMERAS, EventList, Photons
from xscan.photons import CUT_BY, Gate, last_tick
from xscan.sky import PLANE_PIXELS

__all__ = ["drop", "merge", "seconds", "select"]

# as the columns stand in every event list of the archive's pipeline
USUAL = {
    "time": ">f8", "rawx": ">i2", "rawy": ">i2", "x": ">i4", "y": ">i4", "pi": ">i2", "flag": ">i4",
    "pattern": "u1", "ccd": "u1",
}  # fmt: skip
LITTLE = {">f8": "<u8", ">i2": "<i2", ">i4": "<i4", "u1": "u1"}  # bytes as they stand, in the machine's order
NO_BITS = np.zeros(1, np.uint8)
SIGN = np.uint64(1 << 63)
TIME_BINS = 2048  # few enough for the ends of all of them to stay in the cache
STEPS = 16  # an event


def select(raw: RawEvents, cuts: Cuts, kept: Kept, at: int) -> tuple[int, NDArray[np.int64], Span]:
    """As :func:`xscan.clean.select`; lists with columns of unusual formats are left to it."""
    # (one row alone has another layout in memory, for which all would be compiled again)
    if len(raw.time) < 2 or any(getattr(raw, name).dtype != kind for name, kind in USUAL.items()):
        return clean.select(raw, cuts, kept, at)
    # the compiled loop swaps the bytes itself: compiled code knows only the machine's order
    columns = tuple(getattr(raw, name).view(LITTLE[kind]) for name, kind in USUAL.items())
    flags = cuts.flags
    removed = np.zeros(len(SELECTED_BY), np.int64)
    above = -(1 << 30) if flags is None or flags.rawy_above is None else flags.rawy_above
    n, low, high = _select(
        columns,
        (PI_MIN, PI_MAX, cuts.mos, cuts.pattern_max, cuts.singles_below_ev),
        (0 if flags is None else flags.mask, above, PixelMask.MARGIN, PixelMask.SIZE, PLANE_PIXELS, *cuts.null),
        cuts.windows,
        cuts.bad_columns,
        cuts.hot is not None,
        NO_BITS if cuts.hot is None else cuts.hot.bits,
        (kept.time.view(np.uint64), *kept.columns()[1:]),
        at,
        removed,
    )
    passed = low <= high
    return n, removed, (_time_of(low), _time_of(high)) if passed else (np.inf, -np.inf)


def _time_of(key: int) -> float:
    """Undo the mapping of times to whole numbers of the same order."""
    bits = key ^ int(SIGN) if key >> 63 else ~key & (2**64 - 1)
    return float(np.uint64(bits).view(np.float64))


def drop(kept: Kept, n: int, own: PixelMask | None) -> tuple[int, int, int]:
    """As :func:`xscan.clean.drop`."""
    left, bad, null = _drop(kept.columns(), n, NO_BITS if own is None else own.bits, own is not None)
    return left, bad, null


def seconds(lists: Sequence[EventList], t0: float, n_bins: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """As :func:`xscan.dropouts.seconds`."""
    image, of_ccd = np.zeros((N_CELLS, N_CELLS), np.int64), np.zeros((len(lists), 256), np.int64)
    cell_of = _cell_of_pixel(N_CELLS)
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


def merge(
    lists: Sequence[EventList], gates: Sequence[Gate], t0: float, t1: float, n_cells: int
) -> tuple[Photons, NDArray[np.int64]]:
    """As :func:`xscan.photons.merge`."""
    n_events = sum(events.time.size for events in lists)
    cell = np.empty(n_events, np.int32)
    key, label = np.empty(n_events, np.uint64), np.empty(n_events, np.uint16)
    removed = np.zeros((len(lists), len(CUT_BY)), np.int64)
    last, cell_of = last_tick(t0, t1), _cell_of_pixel(n_cells)
    n = 0
    for events, gate, cut in zip(lists, gates, removed, strict=True):
        n = _pass_gate(
            events.time, events.x, events.y, events.pi, events.ccd, CAMERAS.index(events.camera),
            gate.first, gate.intervals, gate.working, t0, t1, last, cell_of, n_cells, n, cell, key, label, cut,
        )  # fmt: skip
    counts = np.zeros(n_cells**2, np.int64)
    _count(cell[:n], counts)
    if n:
        y, x = np.divmod(np.flatnonzero(counts), n_cells)
        box = Box.around(x, y)
    else:
        box = Box(0, 1, 0, 1)
    inner = counts.reshape(n_cells, n_cells)[box.y0 : box.y1, box.x0 : box.x1].ravel()
    offsets = np.concatenate([[0], np.cumsum(inner)]).astype(np.int64)
    place = np.zeros((n_cells, n_cells), np.int64)
    place[box.y0 : box.y1, box.x0 : box.x1] = offsets[:-1].reshape(box.ny, box.nx)
    key, label = key[:n], label[:n]
    cells, keys, labels = np.empty(n, np.int32), np.empty(n, np.uint64), np.empty(n, np.uint16)
    _by_time(cell[:n], key, label, last, cells, keys, labels)
    _by_cell(cells, keys, labels, place.ravel(), key, label)
    _within_cells(offsets, key, label, keys, labels)
    # what is done with holds the result: fresh memory would cost as much as a pass over the events
    tick, pi = cells, labels
    x_px, y_px, camera = np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.uint8)
    _unpack(key, label, tick, x_px, y_px, pi, camera)
    return Photons(box, offsets, tick, x_px, y_px, pi, camera), removed


def _cell_of_pixel(n_cells: int) -> NDArray[np.int32]:
    """Tabulate the cell of every pixel, and of every other number a pixel's type can hold."""
    return cells_of(np.arange(1 << 16), n_cells).astype(np.int32)


@njit(cache=True, inline="always")
def _swapped2(value: Any) -> Any:
    """Give the signed number whose two bytes stand in the other order."""
    bits = np.int64(value) & 0xFFFF
    return (((bits & 0xFF) << 8 | bits >> 8) ^ 0x8000) - 0x8000


@njit(cache=True, inline="always")
def _swapped4(value: Any) -> Any:
    """Give the signed number whose four bytes stand in the other order."""
    bits = np.int64(value) & 0xFFFFFFFF
    bits = (bits & 0x00FF00FF) << 8 | (bits >> 8) & 0x00FF00FF
    return (((bits & 0xFFFF) << 16 | bits >> 16) ^ 0x80000000) - 0x80000000


@njit(cache=True, inline="always")
def _swapped8(bits: Any) -> Any:
    """Swap the eight bytes of an unsigned number."""
    bits = (bits & np.uint64(0x00FF00FF00FF00FF)) << np.uint64(8) | (bits >> np.uint64(8)) & np.uint64(
        0x00FF00FF00FF00FF
    )
    bits = (bits & np.uint64(0x0000FFFF0000FFFF)) << np.uint64(16) | (bits >> np.uint64(16)) & np.uint64(
        0x0000FFFF0000FFFF
    )
    return bits << np.uint64(32) | bits >> np.uint64(32)


@njit(cache=True, inline="always")
def _pixel_number(ccd: Any, rawx: Any, rawy: Any, margin: Any, size: Any) -> Any:
    """As :func:`xscan.clean.pixel_number`."""
    x, y = rawx + margin, rawy + margin
    if x > 0 and x < size and y > 0 and y < size:
        return ((ccd & 15) * size + x) * size + y
    return 0


@njit(cache=True)
def _select(
    columns: Any, energies: Any, limits: Any, windows: Any, bad_columns: Any, has_hot: bool, hot: Any,
    out: Any, at: int, removed: Any,
) -> Any:  # fmt: skip
    time, rawx, rawy, x, y, pi, flag, pattern, ccd = columns
    pi_min, pi_max, mos, pattern_max, singles_below = energies
    flag_mask, rawy_above, margin, size, plane_pixels, null_x, null_y = limits
    out_time, out_x, out_y, out_pi, out_ccd, out_pixel = out
    low, high = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)  # first and last time, as whole numbers of the same order
    n_time = n_pi = n_pattern = n_flag = n_detector = n_hot = 0
    k = at
    for i in range(time.size):
        bits = _swapped8(time[i])
        if (bits >> np.uint64(52)) & np.uint64(0x7FF) == np.uint64(0x7FF):
            n_time += 1
            continue
        energy = _swapped2(pi[i])
        if energy < pi_min or energy > pi_max:
            n_pi += 1
            continue
        if pattern[i] > (0 if energy < singles_below else pattern_max):
            n_pattern += 1
            continue
        order = ~bits if bits & SIGN else bits | SIGN
        low, high = min(low, order), max(high, order)
        column, row = _swapped2(rawx[i]), _swapped2(rawy[i])
        if _swapped4(flag[i]) & flag_mask or row <= rawy_above:
            n_flag += 1
            continue
        chip = np.int64(ccd[i]) % 10 if mos else np.int64(ccd[i])
        w = chip & 15
        inside = windows[w, 0] < column and column < windows[w, 1] and windows[w, 2] < row and row < windows[w, 3]
        for b in range(bad_columns.shape[0]):
            inside = inside and not (chip == bad_columns[b, 0] and column == bad_columns[b, 1])
        if not inside:
            n_detector += 1
            continue
        pixel = _pixel_number(chip, column, row, margin, size)
        if has_hot and (hot[pixel >> 3] >> (pixel & 7)) & 1:
            n_hot += 1
            continue
        x_px, y_px = _swapped4(x[i]), _swapped4(y[i])
        placed = x_px >= 1 and x_px <= plane_pixels and y_px >= 1 and y_px <= plane_pixels
        placed = placed and x_px != null_x and y_px != null_y
        out_time[k] = bits
        out_x[k] = x_px if placed else 0
        out_y[k] = y_px if placed else 0
        out_pi[k] = energy
        out_ccd[k] = chip
        out_pixel[k] = pixel
        k += 1
    removed[0], removed[1], removed[2], removed[3], removed[4], removed[5] = (
        n_time,
        n_pi,
        n_pattern,
        n_flag,
        n_detector,
        n_hot,
    )
    return k - at, low, high


@njit(cache=True)
def _drop(columns: Any, n: int, bits: Any, has_own: bool) -> Any:
    time, x, y, pi, ccd, pixel = columns
    k = n_bad = n_null = 0
    for i in range(n):
        p = pixel[i]
        if has_own and (bits[p >> 3] >> (p & 7)) & 1:
            n_bad += 1
        elif x[i] == 0:
            n_null += 1
        else:
            time[k], x[k], y[k], pi[k], ccd[k], pixel[k] = time[i], x[i], y[i], pi[i], ccd[i], p
            k += 1
    return k, n_bad, n_null


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
        if second >= 0 and second < counts.shape[1] and faint[cell_of[y[i]], cell_of[x[i]]]:
            counts[rows[ccd[i]], np.int64(second)] += 1


@njit(cache=True)
def _pass_gate(
    time: Any, x: Any, y: Any, pi: Any, ccd: Any, camera: int,
    first: Any, intervals: Any, working: Any, t0: float, t1: float, last: int, cell_of: Any, n_cells: int, at: int,
    out_cell: Any, out_key: Any, out_label: Any, removed: Any,
) -> Any:  # fmt: skip
    """Write cell, ``tick << 32 | x << 16 | y`` and ``camera << 14 | pi`` of the events that pass, from ``at`` on."""
    here = first[:-1].copy()  # each CCD's last interval: events come nearly in order of time
    start, stop = np.full(256, np.inf), np.full(256, -np.inf)  # its ends
    n_bad = n_idle = n_outside = 0
    k = np.uint64(at)
    for i in range(time.size):
        c, t = ccd[i], time[i]
        if not (start[c] <= t and t <= stop[c]):
            p = here[c]
            while p > first[c] and t < intervals[p, 0]:
                p -= 1
            while p + 1 < first[c + 1] and t >= intervals[p + 1, 0]:
                p += 1
            here[c] = p
            if p < first[c + 1]:
                start[c], stop[c] = intervals[p, 0], intervals[p, 1]
        if not (start[c] <= t and t <= stop[c]):
            n_bad += 1
        elif not working[c]:
            n_idle += 1
        elif t < t0 or t > t1:
            n_outside += 1
        else:
            tick = np.uint64(min(np.floor((t - t0) * 1000), last))
            out_cell[k] = np.int32(cell_of[y[i]]) * n_cells + cell_of[x[i]]
            out_key[k] = tick << np.uint64(32) | np.uint64(x[i]) << np.uint64(16) | np.uint64(y[i])
            out_label[k] = camera << 14 | pi[i]
            k += np.uint64(1)
    removed[0], removed[1], removed[2] = n_bad, n_idle, n_outside
    return k


@njit(cache=True)
def _count(cell: Any, counts: Any) -> None:
    for i in range(cell.size):
        counts[cell[i]] += 1


@njit(cache=True)
def _by_time(cell: Any, key: Any, label: Any, last: int, out_cell: Any, out_key: Any, out_label: Any) -> None:
    """Sort events by coarse time; those of one bin keep their order."""
    shift = 32
    while (last >> (shift - 32)) >= TIME_BINS:
        shift += 1
    start = np.zeros(TIME_BINS + 1, np.int64)
    for one in key:
        start[(one >> np.uint64(shift)) + np.uint64(1)] += 1
    for b in range(TIME_BINS):
        start[b + 1] += start[b]
    for i in range(key.size):
        at = key[i] >> np.uint64(shift)
        j = np.uint64(start[at])
        start[at] += 1
        out_cell[j], out_key[j], out_label[j] = cell[i], key[i], label[i]


@njit(cache=True)
def _by_cell(cell: Any, key: Any, label: Any, place: Any, out_key: Any, out_label: Any) -> None:
    """Sort events by cell; ``place`` says where the next one of each goes. Those of one cell keep their order."""
    for i in range(cell.size):
        c = np.uint32(cell[i])
        j = np.uint64(place[c])
        place[c] += 1
        out_key[j], out_label[j] = key[i], label[i]


@njit(cache=True)
def _within_cells(offsets: Any, keys: Any, labels: Any, spare_keys: Any, spare_labels: Any) -> None:
    """Sort the events of each cell by key, then label.

    They are nearly sorted: insertion does the rest, and in a cell where it would take long, because many
    events share a little time, merging.
    """
    for c in range(offsets.size - 1):
        if not _insert(keys, labels, offsets[c], offsets[c + 1]):
            while _merge_runs(keys, labels, spare_keys, spare_labels, offsets[c], offsets[c + 1]) > 1:
                pass


@njit(cache=True)
def _unpack(key: Any, label: Any, tick: Any, x: Any, y: Any, pi: Any, camera: Any) -> None:
    for i in range(key.size):
        bits = key[i]
        tick[i] = bits >> np.uint64(32)
        x[i], y[i] = bits >> np.uint64(16) & np.uint64(0xFFFF), bits & np.uint64(0xFFFF)
        pi[i], camera[i] = label[i] & 0x3FFF, label[i] >> 14


@njit(cache=True, inline="always")
def _after(keys: Any, labels: Any, i: int, j: int) -> Any:
    """Tell whether event i comes after event j."""
    return keys[i] > keys[j] or (keys[i] == keys[j] and labels[i] > labels[j])


@njit(cache=True)
def _insert(keys: Any, labels: Any, lo: int, hi: int) -> bool:
    """Sort by insertion; give up, and say so, after more steps than merging would take."""
    steps = STEPS * (hi - lo)
    for i in range(lo + 1, hi):
        key, label = keys[i], labels[i]
        j = i
        while j > lo and (keys[j - 1] > key or (keys[j - 1] == key and labels[j - 1] > label)):
            keys[j], labels[j] = keys[j - 1], labels[j - 1]
            j -= 1
        keys[j], labels[j] = key, label
        steps -= i - j
        if steps < 0:
            return False
    return True


@njit(cache=True)
def _merge_runs(keys: Any, labels: Any, spare_keys: Any, spare_labels: Any, lo: int, hi: int) -> int:
    """Merge the first rising run with the second, the third with the fourth, and so on; give the runs left."""
    runs = 0
    first = lo
    while first < hi:
        middle = first + 1
        while middle < hi and not _after(keys, labels, middle - 1, middle):
            middle += 1
        end = middle
        if middle < hi:
            end = middle + 1
            while end < hi and not _after(keys, labels, end - 1, end):
                end += 1
            # the first run steps aside: it is never longer than the place it leaves
            for i in range(first, middle):
                spare_keys[i], spare_labels[i] = keys[i], labels[i]
            i, j, k = first, middle, first
            while i < middle and j < end:
                if keys[j] < spare_keys[i] or (keys[j] == spare_keys[i] and labels[j] < spare_labels[i]):
                    keys[k], labels[k] = keys[j], labels[j]
                    j += 1
                else:
                    keys[k], labels[k] = spare_keys[i], spare_labels[i]
                    i += 1
                k += 1
            while i < middle:
                keys[k], labels[k] = spare_keys[i], spare_labels[i]
                i += 1
                k += 1
        first = end
        runs += 1
    return runs
