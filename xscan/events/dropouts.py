"""Find when a CCD sent nothing although its good-time table says that it was taking data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.events.gti import Floats, union
from xscan.grid import cells_of
from xscan.model import EventList

__all__ = [
    "EXPECTED_MIN",
    "N_CELLS",
    "CcdSilences",
    "faint_cells",
    "kept_silences",
    "seconds",
    "silences",
    "silent_together",
]

EXPECTED_MIN = 16.0
"""Least number of counts expected from a CCD while it sent none: this happens by chance once in exp(16) = 9e6. A long
observation has about as many chances, and a false silence costs the frames it covers."""

N_CELLS = 129
STRETCH_S = 100

MEDIAN_OF = 3
"""Least number of CCDs of a camera whose median a single position on the sky cannot change."""


FLARE_MOST = 10.0
"""A flare of the background is assumed to raise the rate of a CCD by at most this factor."""


@dataclass(frozen=True, slots=True)
class CcdSilences:
    """The silences of one CCD.

    Attributes
    ----------
    intervals : float64, shape (k, 2)
        Start and stop of each silence, s.
    n_faint : int
        Its events outside bright cells, in the time range.
    """

    intervals: Floats
    n_faint: int


def silences(lists: Sequence[EventList], t0: float, t1: float) -> tuple[dict[int, CcdSilences], ...]:
    """Find runs of seconds in which a CCD sent nothing although the others did.

    The counts expected of a CCD are its share of all counts times the counts of the other CCDs of all
    cameras in that time, so that flares of the background do not matter. Bright cells are left
    out of these counts: an eclipse or a burst of a source is no failure of its CCD. A burst's wings
    reach beyond the bright cells, so the median of the other CCDs of a camera must agree
    (:func:`kept_silences`). Where all CCDs were silent together, the expectation is the usual (median)
    rate of all of them.

    Parameters
    ----------
    lists : sequence of EventList
    t0, t1 : float
        Time range, s.

    Returns
    -------
    tuple of dict of int to CcdSilences
        For each list, by CCD, rising: each CCD with events.

    Examples
    --------
    The CCDs of a list send an event each second, but CCD 4 sends none from 40 to 60 s:

    >>> (found,) = silences([events], 0.0, 100.0)
    >>> {ccd: silence.intervals.tolist() for ccd, silence in found.items()}
    {1: [], 2: [], 3: [], 4: [[40.0, 60.0]]}
    """
    names, counts = seconds(lists, t0, max(int(t1 - t0), 1))
    everything = counts.sum(axis=0)
    so_far = np.concatenate([[0], np.cumsum(everything)])
    together = silent_together(everything)
    totals = counts.sum(axis=1)
    found: tuple[dict[int, CcdSilences], ...] = tuple({} for _ in lists)
    for i, (name, mine) in enumerate(zip(names.tolist(), counts, strict=True)):
        total = int(totals[i])
        others = int(so_far[-1]) - total
        alone = _runs(mine == 0) if total > 0 and others > 0 else np.empty((0, 2), np.int64)
        # the others sent all of these counts during its silence
        meanwhile = so_far[alone[:, 1]] - so_far[alone[:, 0]]
        alone = kept_silences(alone[meanwhile * total >= EXPECTED_MIN * others], i, names, counts.T, totals)
        both = np.concatenate([alone, together])
        number_of_list, ccd = divmod(name, 256)
        found[number_of_list][ccd] = CcdSilences(t0 + union(both[:, 0], both[:, 1]), total)
    return found


def kept_silences(
    runs: NDArray[np.int64],
    mine: int,
    names: NDArray[np.int64],
    counts: NDArray[np.integer],
    totals: NDArray[np.integer],
) -> NDArray[np.int64]:
    """Return the silences of a CCD that no single source on the sky can imitate.

    From each other CCD follows how much this one should have sent: the other's counts in that time, scaled by the
    ratio of both CCDs' total counts. For a camera with three or more other CCDs the median of these is used, which
    a burst on one CCD, and its wings, do not change; of two cameras the larger, because all CCDs of one may be
    silent together. The expectation is limited to ten times the CCD's own usual rate: flares of the background are
    rarely brighter, while bursts in the middle of the field are, for a second or two. If no camera has three other
    CCDs, the smallest expectation from any CCD is used, limited to the usual rate.

    Parameters
    ----------
    runs : int64, shape (k, 2)
        First and end second of each silence.
    mine : int
        Index of the CCD in ``names``.
    names : int64, shape (m,)
        256 * index of the list + CCD.
    counts : int array, shape (n_bins, m or more)
        Counts of each second and CCD.
    totals : int array, shape (m or more,)
        Their sums over the seconds.

    Returns
    -------
    int64, shape (j, 2)
        Those of ``runs`` in which :data:`EXPECTED_MIN` counts were expected by this rule too.

    Examples
    --------
    Four CCDs with a count each second; the last is silent for 30 s, in which so many are due, and for one second:

    >>> names, counts = np.array([1, 2, 3, 4]), np.ones((100, 4), int)
    >>> counts[40:70, 3] = counts[80, 3] = 0
    >>> kept_silences(np.array([[40, 70], [80, 81]]), 3, names, counts, counts.sum(axis=0)).tolist()
    [[40, 70]]
    """
    if len(runs) == 0:
        return runs
    m = names.size
    other = (totals[:m] > 0) & (np.arange(m) != mine)
    groups = [np.flatnonzero(other & (names // 256 == i)) for i in np.unique(names // 256)]
    robust = [group for group in groups if group.size >= MEDIAN_OF]
    usual = _usual_rate(counts[:, mine])
    kept = []
    for first, end in runs.tolist():
        due = counts[first:end, :m].sum(axis=0, dtype=np.int64) * (float(totals[mine]) / np.maximum(totals[:m], 1))
        if robust:
            expected = max(float(np.median(due[group])) for group in robust)
            expected = min(expected, FLARE_MOST * usual * (end - first))
        else:
            expected = min(float(due[other].min()), usual * (end - first))
        kept.append(expected >= EXPECTED_MIN)
    return runs[kept]


def seconds(lists: Sequence[EventList], t0: float, n_bins: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Count the events outside bright cells for each CCD and second.

    Parameters
    ----------
    lists : sequence of EventList
    t0 : float
        Start of the first second, s.
    n_bins : int

    Returns
    -------
    names : int64, shape (k,)
        256 * index of the list + CCD, of the CCDs with events in bright cells or elsewhere, rising.
    counts : int32, shape (k, n_bins)

    Examples
    --------
    Counts of CCDs 1 to 4 of the first list, from 38 to 42 s; CCD 4 falls silent at 40 s:

    >>> names, counts = seconds([events], 38.0, 4)
    >>> names.tolist(), counts[3].tolist()
    ([1, 2, 3, 4], [1, 1, 0, 0])
    """
    keys, cells, bins = [], [], []
    for i, events in enumerate(lists):
        second = np.floor(events.time - t0).astype(np.int64)
        inside = (second >= 0) & (second < n_bins)
        x, y = (cells_of(v[inside], N_CELLS, events.instrument.sky.n).astype(np.int64) for v in (events.x, events.y))
        keys.append(256 * i + events.ccd[inside].astype(np.int64))
        cells.append(y * N_CELLS + x)
        bins.append(second[inside])
    key, cell, second = np.concatenate(keys), np.concatenate(cells), np.concatenate(bins)
    keep = faint_cells(np.bincount(cell, minlength=N_CELLS**2))[cell]
    names, row = np.unique(key, return_inverse=True)
    counts = np.bincount((row * n_bins + second)[keep], minlength=names.size * n_bins)
    return names, counts.reshape(names.size, n_bins).astype(np.int32)


def faint_cells(image: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which cells of an image are not bright: at most three times the 75th percentile of the occupied ones.

    Examples
    --------
    >>> faint_cells(np.array([0, 2, 2, 2, 2, 9])).tolist()
    [True, True, True, True, True, False]
    """
    occupied = image[image > 0]
    return np.asarray(image <= 3 * np.percentile(occupied, 75) if occupied.size else image > 0)


def silent_together(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the runs of seconds in which no CCD sent anything though all should have: first and end, shape (k, 2).

    Examples
    --------
    At two counts a second, 10 s without any are no chance, and one second is:

    >>> counts = np.full(300, 2)
    >>> counts[100:110] = counts[200] = 0
    >>> silent_together(counts).tolist()
    [[100, 110]]
    """
    runs = _runs(counts == 0)
    return runs[np.diff(runs, axis=1)[:, 0] * _usual_rate(counts) >= EXPECTED_MIN]


def _usual_rate(counts: NDArray[np.integer]) -> float:
    """Return the median rate (ct/s) of stretches of 100 s; the mean rate if there are fewer than three."""
    whole = counts[: len(counts) // STRETCH_S * STRETCH_S].reshape(-1, STRETCH_S).sum(axis=1)
    if len(whole) < 3:
        return float(counts.mean())
    return float(np.median(whole)) / STRETCH_S


def _runs(silent: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return first and end of each run of True, shape (k, 2)."""
    padded = np.concatenate([[False], silent, [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
