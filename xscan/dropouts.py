"""Find when a CCD fell silent though its good-time table says otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xscan.goodtime import Floats, union
from xscan.grid import cells_of
from xscan.subsets import Subset

__all__ = ["silences"]

BIN_S = 1.0
EXPECTED_MIN = 16.0
"""Counts a CCD should have sent while it sent none: by chance once in exp(16) = 9e6. A long
observation has about as many chances, and a false silence costs the frames it covers."""

N_CELLS = 129


def silences(subset: Subset) -> dict[tuple[int, int], Floats]:
    """Find runs of seconds in which a CCD sent nothing while the others were counting.

    What a CCD should have sent is its share of all counts times what the other CCDs of all
    cameras sent meanwhile, so that flares of the background do not matter. Bright cells are left
    out of this count: an eclipse or a burst of a source is no trouble of its CCD. Where all were
    silent together, each is held against the usual (median) rate of them all.

    Returns
    -------
    dict of (int, int) to float64 array, shape (k, 2)
        By (place of the list in the subset, CCD): start and stop of each silence, s.
    """
    keys, frames, n_bins = _binned(subset)
    if n_bins == 0 or keys.size == 0:
        return {}
    names = np.unique(keys)
    row = np.searchsorted(names, keys)
    counts = np.bincount(row * n_bins + frames, minlength=names.size * n_bins).reshape(names.size, n_bins)
    everything = counts.sum(axis=0)
    usual = np.full(n_bins, _usual_rate(everything) * BIN_S)
    together = _silent_runs(everything == 0, usual)
    found = {}
    for name, mine in zip(names.tolist(), counts, strict=True):
        others = everything - mine
        alone = np.empty((0, 2))
        if others.sum() > 0 and mine.sum() > 0:
            alone = _silent_runs(mine == 0, others * (mine.sum() / others.sum()))
        both = np.concatenate([alone, together])
        runs = union(both[:, 0], both[:, 1])
        if len(runs):
            found[divmod(name, 16)] = subset.t0 + runs * BIN_S
    return found


def _binned(subset: Subset) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Give list and CCD (16 * list + ccd) and bin of the events outside bright cells."""
    n_bins = int((subset.t1 - subset.t0) / BIN_S)
    keys, cells, frames = [], [], []
    for i, events in enumerate(subset.lists):
        frame = np.floor((events.time - subset.t0) / BIN_S).astype(np.int64)
        inside = (frame >= 0) & (frame < n_bins)
        x, y = (cells_of(v[inside], N_CELLS).astype(np.int64) for v in (events.x, events.y))
        keys.append(16 * i + events.ccd[inside].astype(np.int64))
        cells.append(y * N_CELLS + x)
        frames.append(frame[inside])
    key, cell, frame = np.concatenate(keys), np.concatenate(cells), np.concatenate(frames)
    image = np.bincount(cell, minlength=N_CELLS**2)
    occupied = image[image > 0]
    faint = image <= 3 * np.percentile(occupied, 75) if occupied.size else image > 0
    keep = faint[cell]
    return key[keep], frame[keep], n_bins


def _usual_rate(counts: NDArray[np.integer]) -> float:
    """Median rate (ct/s) of stretches of 100 s; of all together where there are fewer than three."""
    stretch = max(int(100 / BIN_S), 1)
    whole = counts[: len(counts) // stretch * stretch].reshape(-1, stretch).sum(axis=1)
    if len(whole) < 3:
        return float(counts.mean()) / BIN_S
    return float(np.median(whole)) / (stretch * BIN_S)


def _silent_runs(silent: NDArray[np.bool_], expected: Floats) -> Floats:
    """Give first and end bin, shape (k, 2), of silent runs with enough counts expected."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
    first, end = change[0::2], change[1::2]
    total = np.concatenate([[0.0], np.cumsum(expected)])
    enough = total[end] - total[first] >= EXPECTED_MIN
    return np.column_stack([first[enough], end[enough]]).astype(np.float64)
