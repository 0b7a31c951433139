"""Find when a CCD fell silent though its good-time table says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xscan.goodtime import Floats, union
from xscan.grid import cells_of
from xscan.model import EventList

__all__ = ["EXPECTED_MIN", "N_CELLS", "faint_cells", "seconds", "silences", "silent_together"]

EXPECTED_MIN = 16.0
"""Counts a CCD should have sent while it sent none: by chance once in exp(16) = 9e6. A long
observation has about as many chances, and a false silence costs the frames it covers."""

N_CELLS = 129
STRETCH_S = 100


def silences(lists: Sequence[EventList], t0: float, t1: float) -> dict[tuple[int, int], Floats]:
    """Find runs of seconds in which a CCD sent nothing while the others were counting.

    What a CCD should have sent is its share of all counts times what the other CCDs of all
    cameras sent meanwhile, so that flares of the background do not matter. Bright cells are left
    out of this count: an eclipse or a burst of a source is no trouble of its CCD. Where all were
    silent together, each is held against the usual (median) rate of them all.

    Parameters
    ----------
    lists : sequence of EventList
    t0, t1 : float
        Time range, s.

    Returns
    -------
    dict of (int, int) to float64 array, shape (k, 2)
        By (place of the list, CCD), for each CCD that sent something: start and stop of each silence, s.
    """
    names, counts = seconds(lists, t0, max(int(t1 - t0), 1))
    everything = counts.sum(axis=0)
    so_far = np.concatenate([[0], np.cumsum(everything)])
    together = silent_together(everything)
    found = {}
    for name, mine in zip(names.tolist(), counts, strict=True):
        total = int(mine.sum())
        others = int(so_far[-1]) - total
        alone = _runs(mine == 0) if total > 0 and others > 0 else np.empty((0, 2), np.int64)
        # in its silence the others sent everything
        meanwhile = so_far[alone[:, 1]] - so_far[alone[:, 0]]
        alone = alone[meanwhile * total >= EXPECTED_MIN * others]
        both = np.concatenate([alone, together])
        found[divmod(name, 256)] = t0 + union(both[:, 0], both[:, 1])
    return found


def seconds(lists: Sequence[EventList], t0: float, n_bins: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Count the events outside bright cells second by second.

    Parameters
    ----------
    lists : sequence of EventList
    t0 : float
        Start of the first second, s.
    n_bins : int

    Returns
    -------
    names : int64, shape (k,)
        256 * place of the list + CCD, of the CCDs with events in bright cells or elsewhere, rising.
    counts : int32, shape (k, n_bins)
    """
    keys, cells, bins = [], [], []
    for i, events in enumerate(lists):
        second = np.floor(events.time - t0).astype(np.int64)
        inside = (second >= 0) & (second < n_bins)
        x, y = (cells_of(v[inside], N_CELLS).astype(np.int64) for v in (events.x, events.y))
        keys.append(256 * i + events.ccd[inside].astype(np.int64))
        cells.append(y * N_CELLS + x)
        bins.append(second[inside])
    key, cell, second = np.concatenate(keys), np.concatenate(cells), np.concatenate(bins)
    keep = faint_cells(np.bincount(cell, minlength=N_CELLS**2))[cell]
    names, row = np.unique(key, return_inverse=True)
    counts = np.bincount((row * n_bins + second)[keep], minlength=names.size * n_bins)
    return names, counts.reshape(names.size, n_bins).astype(np.int32)


def faint_cells(image: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell which cells of an image are not bright: at most three times the 75th percentile of the occupied ones."""
    occupied = image[image > 0]
    return np.asarray(image <= 3 * np.percentile(occupied, 75) if occupied.size else image > 0)


def silent_together(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Find the runs of seconds in which no CCD sent anything and all should have: first and end, shape (k, 2)."""
    runs = _runs(counts == 0)
    return runs[np.diff(runs, axis=1)[:, 0] * _usual_rate(counts) >= EXPECTED_MIN]


def _usual_rate(counts: NDArray[np.integer]) -> float:
    """Median rate (ct/s) of stretches of 100 s; of all together where there are fewer than three."""
    whole = counts[: len(counts) // STRETCH_S * STRETCH_S].reshape(-1, STRETCH_S).sum(axis=1)
    if len(whole) < 3:
        return float(counts.mean())
    return float(np.median(whole)) / STRETCH_S


def _runs(silent: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give first and end of each run, shape (k, 2)."""
    padded = np.concatenate([[False], silent, [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
