"""Select, drop and merge events in compiled loops over whole lists.

Each gives what its NumPy definition gives, to the last bit (tests/events/test_events.py).

Compiled code is stored on disk and compiled again only when this file changes: so what other modules define
is passed as an argument, never used as a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xscan.backends.numba.division import cell_division, division
from xscan.errors import ConfigError
from xscan.events import cuts as definition
from xscan.events.cuts import SELECTED_BY, Cuts, EventBuffer, RawEvents, Span
from xscan.events.merge import CUT_BY, GtiFilter, last_tick
from xscan.grid import Box
from xscan.model import EventList, Photons, PixelMask

__all__ = ["band_curve", "drop_bad_pixels", "merge", "one_comparison", "select"]

# formats of the columns in every event list of the archive's pipeline
USUAL = {
    "time": ">f8", "rawx": ">i2", "rawy": ">i2", "x": ">i4", "y": ">i4", "pi": ">i2", "flag": ">i4",
    "pattern": "u1", "ccd": "u1",
}  # fmt: skip
LITTLE = {">f8": "<u8", ">i2": "<i2", ">i4": "<i4", "u1": "u1"}  # the bytes as they are, in the machine's order
NO_BITS = np.zeros(1, np.uint8)
SIGN = np.uint64(1 << 63)
TIME_BITS = 11  # bins of time: few enough for the ends of all of them to stay in the cache
STEPS = 16  # an event
CAMERA_AT = 39  # bit of a record's second word: below it stand 23 of the raw pixel and 16 of the energy


def select(raw: RawEvents, cuts: Cuts, kept: EventBuffer, at: int) -> tuple[int, NDArray[np.int64], Span]:
    """As :func:`xscan.events.cuts.select`, which is called itself for lists with columns of unusual formats."""
    # (one row alone has another layout in memory, for which all would be compiled again)
    if len(raw.time) < 2 or any(getattr(raw, name).dtype != kind for name, kind in USUAL.items()):
        return definition.select(raw, cuts, kept, at)
    # the compiled loop swaps the bytes itself: compiled code knows only the machine's order
    columns = tuple(getattr(raw, name).view(LITTLE[kind]) for name, kind in USUAL.items())
    flags = cuts.flags
    removed = np.zeros(len(SELECTED_BY), np.int64)
    above = -(1 << 30) if flags is None or flags.rawy_above is None else flags.rawy_above
    n, low, high = _select(
        columns,
        (*cuts.pi_range, cuts.ccd_is_last_digit, cuts.pattern_max, cuts.singles_below_ev),
        (0 if flags is None else flags.mask, above, PixelMask.MARGIN, PixelMask.SIZE, cuts.n_pixels, *cuts.null),
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
    """Return the time from its whole number, which has the same order as the times."""
    bits = key ^ int(SIGN) if key >> 63 else ~key & (2**64 - 1)
    return float(np.uint64(bits).view(np.float64))


def drop_bad_pixels(kept: EventBuffer, n: int, own: PixelMask | None) -> tuple[int, int, int]:
    """As :func:`xscan.events.cuts.drop_bad_pixels`."""
    left, bad, null = _drop(kept.columns(), n, NO_BITS if own is None else own.bits, own is not None)
    return left, bad, null


def merge(
    lists: Sequence[EventList], filters: Sequence[GtiFilter], t0: float, t1: float, n_cells: int
) -> tuple[Photons, NDArray[np.int64]]:
    """As :func:`xscan.events.merge.merge`."""
    instrument = lists[0].instrument
    removed = np.zeros((len(lists), len(CUT_BY)), np.int64)
    last = last_tick(t0, t1)
    # two passes, by coarse time and by cell; before each, the counts that say where every event goes
    span = t0, t1, last, max(last.bit_length() - TIME_BITS, 0)
    starts = np.zeros((1 << TIME_BITS) + 1, np.int64)
    for events in lists:
        _count_times(events.time, span, starts[1:])
    np.cumsum(starts, out=starts)
    cell_at = _cell_at(len(instrument.cameras), n_cells)
    room = int(starts[-1])
    records = np.empty((room, 2), np.uint64)
    to_cell = cell_division(n_cells, instrument.sky.n)
    counts, ends = np.zeros(n_cells**2, np.int64), starts.copy()
    for events, gti_filter, cut in zip(lists, filters, removed, strict=True):
        _pass_filter(
            events.time, events.x, events.y, events.pi, events.ccd, events.pixel,
            instrument.number(events.camera),
            gti_filter.first, gti_filter.intervals, gti_filter.working,
            span, to_cell, cell_at, counts, ends, records, cut,
        )  # fmt: skip
    n = int(counts.sum())
    if n:
        y, x = np.divmod(np.flatnonzero(counts), n_cells)
        box = Box.around(x, y)
    else:
        box = Box(0, 1, 0, 1)
    inner = counts.reshape(n_cells, n_cells)[box.y0 : box.y1, box.x0 : box.x1].ravel()
    offsets = np.concatenate([[0], np.cumsum(inner)]).astype(np.int64)
    next_of_cell = np.zeros((n_cells, n_cells), np.int64)
    next_of_cell[box.y0 : box.y1, box.x0 : box.x1] = offsets[:-1].reshape(box.ny, box.nx)
    in_order = np.empty((n, 2), np.uint64)
    _by_cell(starts, ends, records, cell_at, next_of_cell.ravel(), in_order)
    # what is done with holds the result: fresh memory would cost as much as a pass over the events
    columns = _columns(records, n)
    _within_cells(offsets, in_order, np.empty((counts.max(), 2), np.uint64), cell_at, *columns)
    tick, x_px, y_px, pi, camera, pixel = columns
    return Photons(box, offsets, tick, x_px, y_px, pi, camera, pixel, instrument), removed


def _cell_at(n_cameras: int, n_cells: int) -> int:
    """Return the bit at which the cell begins in the second word of a record: the cameras have what they need below it.

    Raises
    ------
    ConfigError
        If cells, cameras, energies and raw pixels do not fit in 64 bits.
    """
    cell_at = CAMERA_AT + (n_cameras - 1).bit_length()
    if cell_at + (n_cells**2 - 1).bit_length() > 64:
        raise ConfigError(
            f"{n_cells} x {n_cells} cells are too many for {n_cameras} cameras; set search.cell_arcsec larger, or use "
            f"the numpy backend"
        )
    return cell_at


def _columns(memory: NDArray[np.uint64], n: int) -> list[NDArray[Any]]:
    """Lay out the columns of n photons, one after the other, where there is memory for n records."""
    loose = memory.reshape(-1).view(np.uint8)
    columns, at = {}, 0
    kinds = {"tick": np.int32, "pixel": np.uint32, "x": np.uint16, "y": np.uint16, "pi": np.uint16, "camera": np.uint8}
    for name, kind in kinds.items():  # the wide ones first, so that all are aligned
        end = at + n * np.dtype(kind).itemsize
        columns[name] = loose[at:end].view(kind)
        at = end
    return [columns[name] for name in ("tick", "x", "y", "pi", "camera", "pixel")]


def band_curve(photons: Photons, pi_range: tuple[int, int], bin_ms: int, end_ms: int) -> NDArray[np.int64]:
    """As :func:`xscan.events.merge.band_curve`."""
    counts = np.zeros(max(end_ms // bin_ms, 1), np.int64)
    _band_curve(photons.tick, photons.pi, *one_comparison(*pi_range), end_ms, *division(bin_ms), counts)
    return counts


def one_comparison(pi_from: int, pi_to: int) -> tuple[np.uint16, np.uint16]:
    """Return a and b with ``pi_from <= pi < pi_to`` where ``uint16(pi - a) < b``: lower values wrap around.

    OverflowError unless ``0 <= pi_from <= pi_to < 2**16``.

    Examples
    --------
    >>> a, b = one_comparison(500, 2000)
    >>> (np.array([499, 500, 1999, 2000], np.uint16) - a < b).tolist()
    [False, True, True, False]
    """
    return np.uint16(pi_from), np.uint16(pi_to - pi_from)


@njit(cache=True, inline="always")
def _swapped2(value: Any) -> Any:
    """Return the signed number whose two bytes are in reverse order."""
    bits = np.int64(value) & 0xFFFF
    return (((bits & 0xFF) << 8 | bits >> 8) ^ 0x8000) - 0x8000


@njit(cache=True, inline="always")
def _swapped4(value: Any) -> Any:
    """Return the signed number whose four bytes are in reverse order."""
    bits = np.int64(value) & 0xFFFFFFFF
    bits = (bits & 0x00FF00FF) << 8 | (bits >> 8) & 0x00FF00FF
    return (((bits & 0xFFFF) << 16 | bits >> 16) ^ 0x80000000) - 0x80000000


@njit(cache=True, inline="always")
def _swapped8(bits: Any) -> Any:
    """Return an unsigned number with its eight bytes in reverse order."""
    bits = (bits & np.uint64(0x00FF00FF00FF00FF)) << np.uint64(8) | (bits >> np.uint64(8)) & np.uint64(
        0x00FF00FF00FF00FF
    )
    bits = (bits & np.uint64(0x0000FFFF0000FFFF)) << np.uint64(16) | (bits >> np.uint64(16)) & np.uint64(
        0x0000FFFF0000FFFF
    )
    return bits << np.uint64(32) | bits >> np.uint64(32)


@njit(cache=True, inline="always")
def _pixel_number(ccd: Any, rawx: Any, rawy: Any, margin: Any, size: Any) -> Any:
    """As :func:`xscan.model.pixel_number`."""
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
    pi_min, pi_max, last_digit, pattern_max, singles_below = energies
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
        chip = np.int64(ccd[i]) % 10 if last_digit else np.int64(ccd[i])
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


@njit(cache=True, inline="always")
def _tick(time: Any, t0: Any, last: Any) -> Any:
    return np.uint64(np.int64(min((time - t0) * 1000, last)))


@njit(cache=True, inline="always")
def _cell(pixel: Any, to_cell: Any) -> Any:
    """As :func:`xscan.grid.cells_of`; ``to_cell`` is from :func:`~xscan.backends.numba.division.cell_division`."""
    n_cells, m, s = to_cell
    return min(np.uint64(pixel) * np.uint64(n_cells) * np.uint64(m) >> np.uint64(s), np.uint64(n_cells - 1))


@njit(cache=True)
def _count_times(time: Any, span: Any, counts: Any) -> None:
    """Count the events in each bin of coarse time."""
    t0, t1, last, shift = span
    here, n = np.uint64(0), 0  # events are nearly in order of time: most go to the same bin as the one before
    for t in time:
        if t >= t0 and t <= t1:
            bin_of_time = _tick(t, t0, last) >> np.uint64(shift)
            if bin_of_time != here:
                counts[here] += n
                here, n = bin_of_time, 0
            n += 1
    counts[here] += n


@njit(cache=True)
def _pass_filter(
    time: Any, x: Any, y: Any, pi: Any, ccd: Any, pixel: Any, camera: Any,
    first: Any, intervals: Any, working: Any, span: Any, to_cell: Any, cell_at: Any,
    counts: Any, ends: Any, records: Any, removed: Any,
) -> None:  # fmt: skip
    """Write the events that pass, by coarse time; ``ends`` holds the position of the next one of each bin.

    A record is ``tick << 32 | x << 16 | y`` and ``cell << cell_at | camera << 39 | pi << 23 | pixel``: events of
    a cell are in order when their records are. ``counts`` are those of the cells.
    """
    t0, t1, last, shift = span
    n_cells, cell_at, label = np.uint64(to_cell[0]), np.uint64(cell_at), np.uint64(camera) << np.uint64(CAMERA_AT)
    here = first[:-1].copy()  # each CCD's last interval: events come nearly in order of time
    start, stop = np.full(256, np.inf), np.full(256, -np.inf)  # its ends
    n_bad = n_idle = n_outside = 0
    bin_of_time, k = np.uint64(0), np.uint64(ends[0])
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
            tick = _tick(t, t0, last)
            cell = _cell(y[i], to_cell) * n_cells + _cell(x[i], to_cell)
            if tick >> np.uint64(shift) != bin_of_time:  # rarely: events come nearly in order of time
                ends[bin_of_time] = k
                bin_of_time = tick >> np.uint64(shift)
                k = np.uint64(ends[bin_of_time])
            counts[cell] += 1
            records[k, 0] = tick << np.uint64(32) | np.uint64(x[i]) << np.uint64(16) | np.uint64(y[i])
            records[k, 1] = cell << cell_at | label | np.uint64(pi[i]) << np.uint64(23) | np.uint64(pixel[i])
            k += np.uint64(1)
    ends[bin_of_time] = k
    removed[0], removed[1], removed[2] = n_bad, n_idle, n_outside


@njit(cache=True)
def _band_curve(tick: Any, pi: Any, pi_from: Any, width: Any, end_ms: int, m: int, s: int, counts: Any) -> None:
    last = np.uint64(counts.size - 1)
    for i in range(tick.size):
        if np.uint16(pi[i] - pi_from) < width and tick[i] >= 0 and tick[i] < end_ms:
            counts[min(np.uint64(tick[i]) * np.uint64(m) >> np.uint64(s), last)] += 1


@njit(cache=True)
def _by_cell(starts: Any, ends: Any, records: Any, cell_at: int, next_of_cell: Any, out: Any) -> None:
    """Sort the events of bins of time by cell; ``next_of_cell`` says where the next one of each goes."""
    for b in range(ends.size):
        for i in range(starts[b], ends[b]):
            c = records[i, 1] >> np.uint64(cell_at)
            j = np.uint64(next_of_cell[c])
            next_of_cell[c] += 1
            out[j, 0], out[j, 1] = records[i, 0], records[i, 1]


@njit(cache=True)
def _within_cells(
    offsets: Any, records: Any, spare: Any, cell_at: int,
    tick: Any, x: Any, y: Any, pi: Any, camera: Any, pixel: Any,
) -> None:  # fmt: skip
    """Sort the events of each cell, and unpack them.

    They are nearly sorted, so insertion is enough, except in cells in which it would take long because many
    events lie in a short time: these are sorted by merging.
    """
    cameras = (np.uint64(1) << np.uint64(cell_at - CAMERA_AT)) - np.uint64(1)
    for c in range(offsets.size - 1):
        mine = records[offsets[c] : offsets[c + 1]]
        if not _insert(mine):
            while _merge_runs(mine, spare) > 1:
                pass
        for i in range(mine.shape[0]):
            j = offsets[c] + i
            key, label = mine[i, 0], mine[i, 1]
            tick[j] = key >> np.uint64(32)
            x[j], y[j] = key >> np.uint64(16) & np.uint64(0xFFFF), key & np.uint64(0xFFFF)
            pixel[j] = label & np.uint64(0x7FFFFF)
            pi[j], camera[j] = label >> np.uint64(23) & np.uint64(0xFFFF), label >> np.uint64(CAMERA_AT) & cameras


@njit(cache=True, inline="always")
def _after(a0: Any, a1: Any, b0: Any, b1: Any) -> Any:
    """Return whether record a comes after record b."""
    return a0 > b0 or (a0 == b0 and a1 > b1)


@njit(cache=True)
def _insert(records: Any) -> bool:
    """Sort by insertion; return False after more steps than merging would take."""
    steps = STEPS * records.shape[0]
    for i in range(1, records.shape[0]):
        key, label = records[i, 0], records[i, 1]
        j = i
        while j > 0 and _after(records[j - 1, 0], records[j - 1, 1], key, label):
            records[j, 0], records[j, 1] = records[j - 1, 0], records[j - 1, 1]
            j -= 1
        records[j, 0], records[j, 1] = key, label
        steps -= i - j
        if steps < 0:
            return False
    return True


@njit(cache=True)
def _merge_runs(records: Any, spare: Any) -> int:
    """Merge the first rising run with the second, the third with the fourth, and so on; return the number left."""
    runs = first = 0
    while first < records.shape[0]:
        middle = _run_end(records, first)
        end = middle
        if middle < records.shape[0]:
            end = _run_end(records, middle)
            # the first run is copied aside: it is never longer than the space it leaves
            for i in range(first, middle):
                spare[i, 0], spare[i, 1] = records[i, 0], records[i, 1]
            i, j, k = first, middle, first
            while i < middle and j < end:
                if _after(spare[i, 0], spare[i, 1], records[j, 0], records[j, 1]):
                    records[k, 0], records[k, 1] = records[j, 0], records[j, 1]
                    j += 1
                else:
                    records[k, 0], records[k, 1] = spare[i, 0], spare[i, 1]
                    i += 1
                k += 1
            while i < middle:
                records[k, 0], records[k, 1] = spare[i, 0], spare[i, 1]
                i += 1
                k += 1
        first = end
        runs += 1
    return runs


@njit(cache=True)
def _run_end(records: Any, first: int) -> int:
    """Return the end of the rising run that begins at ``first``."""
    end = first + 1
    while end < records.shape[0] and not _after(
        records[end - 1, 0], records[end - 1, 1], records[end, 0], records[end, 1]
    ):
        end += 1
    return end
