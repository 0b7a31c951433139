"""Select events by energy, pattern, flags, position on the detector and bad pixels.

Which cuts are made for a list is a fact of its mission, which fills in :class:`Cuts`. They are made in two steps,
because a list's own bad pixels may stand behind its events in the file: :func:`select` while the events are read,
:func:`drop_bad_pixels` once the file has been read. Both are written here in NumPy, the definition; a backend may have
faster versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from xscan.model import PixelMask, pixel_number

__all__ = [
    "Cuts",
    "EventBuffer",
    "FlagCut",
    "RawEvents",
    "Selection",
    "Span",
    "drop_bad_pixels",
    "select",
    "select_all",
]

FIRST_CAPACITY = 1 << 22  # events: longer lists are rare, and their buffers grow

SELECTED_BY = ("time", "pi", "pattern", "flag", "detector", "hot_pixel")
"""The cuts of :func:`select`, in order."""

Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RawEvents:
    """Columns of an event list as they are in the file, shape (n,) each (any byte order)."""

    time: NDArray[np.floating]
    rawx: Ints
    rawy: Ints
    x: Ints
    y: Ints
    pi: Ints
    flag: Ints
    pattern: Ints
    ccd: Ints  # perhaps with the node: node x 10 + CCD


@dataclass(frozen=True, slots=True)
class FlagCut:
    """The flags of bad events: an event is kept if ``flag & mask == 0`` and ``rawy > rawy_above``."""

    mask: int
    rawy_above: int | None = None


@dataclass(frozen=True, slots=True)
class Cuts:
    """The cuts for one event list.

    Attributes
    ----------
    ccd_is_last_digit : bool
        The column of the CCD holds the node too.
    pattern_max : int
    singles_below_ev : int
        Only PATTERN 0 counts below this energy, eV.
    flags : FlagCut or None
        None for no flag cut.
    windows : int32, shape (16, 4)
        By CCD: events must have ``w[0] < RAWX < w[1]`` and ``w[2] < RAWY < w[3]``.
    bad_columns : int32, shape (k, 2)
        CCD and RAWX of columns that are left out.
    hot : PixelMask or None
        The user's hot pixels.
    null : (int, int)
        TNULL of X and Y; 0 where there is none.
    pi_range : (int, int)
        eV, both ends in.
    n_pixels : int
        Sky pixels X and Y run from 1 to this.
    """

    ccd_is_last_digit: bool
    pattern_max: int
    singles_below_ev: int
    flags: FlagCut | None
    windows: NDArray[np.int32]
    bad_columns: NDArray[np.int32]
    hot: PixelMask | None
    null: tuple[int, int]
    pi_range: tuple[int, int]
    n_pixels: int

    def names(self) -> list[str]:
        """The cuts of :data:`SELECTED_BY` that are applied."""
        absent = {"flag": self.flags is None, "hot_pixel": self.hot is None}
        return [name for name in SELECTED_BY if not absent.get(name)]


@dataclass(frozen=True, slots=True)
class EventBuffer:
    """Buffers for the events that are kept, shape (capacity,) each; only the first n elements are filled.

    Attributes
    ----------
    time : float64
        s, mission time.
    x, y : uint16
        Sky pixels, from 1; 0 both if the event has no position.
    pi : uint16
        Energy, eV.
    ccd : uint8
        CCD, from 1.
    pixel : uint32
        As :func:`pixel_number`.
    """

    time: NDArray[np.float64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    pi: NDArray[np.uint16]
    ccd: NDArray[np.uint8]
    pixel: NDArray[np.uint32]

    @classmethod
    def empty(cls, capacity: int) -> EventBuffer:
        """Return empty buffers; the system provides memory as they are filled."""
        return cls(
            np.empty(capacity, np.float64),
            np.empty(capacity, np.uint16),
            np.empty(capacity, np.uint16),
            np.empty(capacity, np.uint16),
            np.empty(capacity, np.uint8),
            np.empty(capacity, np.uint32),
        )

    def columns(self) -> tuple[NDArray[np.number], ...]:
        """Return all buffers."""
        return tuple(getattr(self, column.name) for column in fields(self))

    def only(self, index: slice | Bools) -> EventBuffer:
        """Return the chosen events."""
        return EventBuffer(
            self.time[index], self.x[index], self.y[index], self.pi[index], self.ccd[index], self.pixel[index]
        )

    def grown(self, capacity: int, n: int) -> EventBuffer:
        """Return larger buffers that hold the first n events."""
        larger = EventBuffer.empty(capacity)
        for new, old in zip(larger.columns(), self.columns(), strict=True):
            new[:n] = old[:n]
        return larger


Span = tuple[float, float]
Select = Callable[[RawEvents, Cuts, EventBuffer, int], tuple[int, NDArray[np.int64], Span]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The result of :func:`select` for a whole list.

    Attributes
    ----------
    kept : EventBuffer
    n : int
        Number of events.
    cuts : dict of str to int
        Events removed by each cut, in order.
    span : (float, float) or None
        First and last TIME after the cuts in TIME, PI and PATTERN; None if nothing was left.
    """

    kept: EventBuffer
    n: int
    cuts: dict[str, int]
    span: Span | None


def select_all(parts: Iterable[RawEvents], rows: int, cuts: Cuts, select: Select) -> Selection:
    """Select the events of a list that is read in parts; ``rows`` is the number of rows of all parts.

    Examples
    --------
    A list in two parts, each with one good event, one of 100 eV, and one whose time is not a number:

    >>> selection = select_all([raw, raw], 6, cuts, select)
    >>> selection.n, selection.cuts["time"], selection.cuts["pi"]
    (2, 2, 2)
    """
    kept = EventBuffer.empty(min(rows, FIRST_CAPACITY))
    n, tally, first, last = 0, np.zeros(len(SELECTED_BY), np.int64), np.inf, -np.inf
    for raw in parts:
        if n + len(raw.time) > len(kept.time):
            kept = kept.grown(max(2 * len(kept.time), n + len(raw.time)), n)
        added, removed, span = select(raw, cuts, kept, n)
        n, tally = n + added, tally + removed
        first, last = min(first, span[0]), max(last, span[1])
    counted = dict(zip(SELECTED_BY, tally.tolist(), strict=True))
    span_or_none = (first, last) if first <= last else None
    return Selection(kept, n, {name: counted[name] for name in cuts.names()}, span_or_none)


def select(raw: RawEvents, cuts: Cuts, kept: EventBuffer, at: int) -> tuple[int, NDArray[np.int64], Span]:
    """Apply the cuts of :data:`SELECTED_BY` one after the other.

    Parameters
    ----------
    raw : RawEvents
    cuts : Cuts
    kept : EventBuffer
        Receives the remaining events, in the order of the file.
    at : int
        Index in ``kept`` of the first of them.

    Returns
    -------
    n : int
        Number of events kept.
    removed : int64, shape (6,)
        Events removed by each cut.
    span : (float, float)
        First and last TIME after the cuts in TIME, PI and PATTERN, s; (inf, -inf) if nothing was left.

    Examples
    --------
    Of three events the second has 100 eV, and the time of the third is not a number:

    >>> n, removed, span = select(raw, cuts, EventBuffer.empty(3), 0)
    >>> n, removed.tolist(), span
    (1, [1, 1, 0, 0, 0, 0], (1.0, 1.0))
    """
    removed = np.zeros(len(SELECTED_BY), np.int64)
    index = np.arange(len(raw.time))

    def cut(number: int, keep: Bools) -> None:
        nonlocal index
        removed[number] = keep.size - np.count_nonzero(keep)
        index = index[keep]

    def values(column: Ints) -> NDArray[np.int64]:
        return np.asarray(column[index]).astype(np.int64)

    def ccds() -> NDArray[np.int64]:
        return values(raw.ccd) % 10 if cuts.ccd_is_last_digit else values(raw.ccd)

    cut(0, np.isfinite(raw.time))
    pi = values(raw.pi)
    cut(1, (pi >= cuts.pi_range[0]) & (pi <= cuts.pi_range[1]))
    largest = np.where(values(raw.pi) < cuts.singles_below_ev, 0, cuts.pattern_max)
    cut(2, values(raw.pattern) <= largest)
    times = raw.time[index]
    span = (float(times.min()), float(times.max())) if times.size else (np.inf, -np.inf)
    if cuts.flags is not None:
        keep = (values(raw.flag) & cuts.flags.mask) == 0
        if cuts.flags.rawy_above is not None:
            keep &= values(raw.rawy) > cuts.flags.rawy_above
        cut(3, keep)
    ccd, rawx, rawy = ccds(), values(raw.rawx), values(raw.rawy)
    window = cuts.windows[ccd % 16].T
    keep = (rawx > window[0]) & (rawx < window[1]) & (rawy > window[2]) & (rawy < window[3])
    for bad_ccd, bad_rawx in cuts.bad_columns:
        keep &= (ccd != bad_ccd) | (rawx != bad_rawx)
    cut(4, keep)
    if cuts.hot is not None:
        cut(5, ~cuts.hot.marked(pixel_number(ccds(), values(raw.rawx), values(raw.rawy))))

    x, y = values(raw.x), values(raw.y)
    placed = (x >= 1) & (x <= cuts.n_pixels) & (y >= 1) & (y <= cuts.n_pixels)
    placed &= (x != cuts.null[0]) & (y != cuts.null[1])
    here = np.s_[at : at + index.size]
    kept.time[here] = raw.time[index]
    kept.x[here], kept.y[here] = np.where(placed, x, 0), np.where(placed, y, 0)
    kept.pi[here], kept.ccd[here] = values(raw.pi), ccds()
    kept.pixel[here] = pixel_number(ccds(), values(raw.rawx), values(raw.rawy))
    return index.size, removed, span


def drop_bad_pixels(kept: EventBuffer, n: int, own: PixelMask | None) -> tuple[int, int, int]:
    """Remove the events of bad pixels, then those without a position; the others are moved to the front.

    Parameters
    ----------
    kept : EventBuffer
    n : int
        Number of events in ``kept``.
    own : PixelMask or None
        The list's own bad pixels.

    Returns
    -------
    n : int
        Number of events left.
    bad_pixel, null_xy : int
        Number of events removed by each.

    Examples
    --------
    Three events, the first in a bad pixel, the last without a position:

    >>> pixel = pixel_number(np.ones(3), np.array([30, 31, 32]), np.full(3, 100))
    >>> x, same = np.array([700, 800, 0]), np.full(3, 500)
    >>> kept = EventBuffer(np.array([1.0, 2.0, 3.0]), x, x, same, same, pixel)
    >>> own = PixelMask()
    >>> own.add(1, np.array([30]), np.array([100]))
    >>> drop_bad_pixels(kept, 3, own), kept.x[:1].tolist()
    ((1, 1, 1), [800])
    """
    bad = np.zeros(n, bool) if own is None else own.marked(kept.pixel[:n])
    null = ~bad & (kept.x[:n] == 0)
    keep = ~(bad | null)
    left = int(np.count_nonzero(keep))
    for column in kept.columns():
        column[:left] = column[:n][keep]
    return left, int(np.count_nonzero(bad)), int(np.count_nonzero(null))
