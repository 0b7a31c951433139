"""Find when a CCD fell silent though its good-time table says otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xscan.goodtime import Floats
from xscan.sky import PLANE_PIXELS
from xscan.subsets import Subset

__all__ = ["silences"]

BIN_S = 10.0
EXPECTED_MIN = 25.0
"""Counts a CCD should have sent while it sent none; by chance once in exp(25) = 7e10 runs."""

_COARSE_CELLS = 128


def silences(subset: Subset) -> dict[tuple[int, int], Floats]:
    """Find runs of 10 s bins in which a CCD sent nothing while the others were counting.

    What a CCD should have sent is its share of all counts times what the other CCDs of all
    cameras sent meanwhile, so that flares of the background do not matter. Bright cells are left
    out of this count: an eclipse or a burst of a source is no trouble of its CCD.

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
    found = {}
    for name, mine in zip(names.tolist(), counts, strict=True):
        others = everything - mine
        if others.sum() == 0 or mine.sum() == 0:
            continue
        expected = others * (mine.sum() / others.sum())
        runs = _silent_runs(mine == 0, expected)
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
        x, y = (v[inside].astype(np.int64) * _COARSE_CELLS // (PLANE_PIXELS + 1) for v in (events.x, events.y))
        keys.append(16 * i + events.ccd[inside].astype(np.int64))
        cells.append(y * _COARSE_CELLS + x)
        frames.append(frame[inside])
    key, cell, frame = np.concatenate(keys), np.concatenate(cells), np.concatenate(frames)
    image = np.bincount(cell, minlength=_COARSE_CELLS**2)
    occupied = image[image > 0]
    faint = image <= 3 * np.percentile(occupied, 75) if occupied.size else image > 0
    keep = faint[cell]
    return key[keep], frame[keep], n_bins


def _silent_runs(silent: NDArray[np.bool_], expected: Floats) -> Floats:
    """Give first and end bin, shape (k, 2), of silent runs with enough counts expected."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
    first, end = change[0::2], change[1::2]
    total = np.concatenate([[0.0], np.cumsum(expected)])
    enough = total[end] - total[first] >= EXPECTED_MIN
    return np.column_stack([first[enough], end[enough]]).astype(np.float64)
