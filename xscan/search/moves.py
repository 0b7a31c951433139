"""Tell whether the whole field changed at one moment: a pointing that moves makes transients of steady sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from xscan.backends import Counts
from xscan.grid import Grid
from xscan.model import Expectation, Frames
from xscan.search.regions import EIGHT_NEIGHBOURS

__all__ = ["FRAMES_MIN", "remark_on_moves"]

FRAMES_MIN = 8
"""A view of fewer frames does not tell the moments apart."""

QUARTERS = (2, 4, 6)
EIGHTHS = (1, 3, 5, 7)
"""Moments that are looked at, eighths of the time range: first the quarters; the others if at one of these
:data:`HINT` places turn brighter and as many fainter."""

HINT = 2

COUNTS_MIN = 2.0
"""A cell is judged where so many counts are expected before and after."""

SIGMA = 4.0
"""A cell changed where its counts before and after differ from the expectation by more than this."""

PLACES = 5
"""So many places, touching cells counted once, brighter after a moment and as many fainter: the field changed.

Made-up skies with five transients have 3 of the rarer kind at most and real MOS lists 1. A field of 10 to 30 sources
that moves by 1 to 5 arcmin has 16 or more, one real MOS list whose later half is moved by 2 arcmin 5 to 11."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def remark_on_moves(counts: Counts, expected: Expectation, frames: Frames, grid: Grid) -> str | None:
    """Say when the whole field changed, if it did.

    At each of some moments the counts of every cell before and after are held against the expectation,
    by the root of the likelihood ratio. Transients change a few places one way; where the pointing
    moves, many places turn brighter and as many fainter.

    Parameters
    ----------
    counts : Counts
    expected : Expectation
    frames : Frames
    grid : Grid

    Returns
    -------
    str or None
        A sentence with the moment; None if at no moment :data:`PLACES` places turn brighter and as many
        fainter.
    """
    found: list[tuple[int, int, int, int]] = []
    for moments in (QUARTERS, EIGHTHS):
        firsts = [k * grid.nt // 8 for k in moments]
        part = np.searchsorted(firsts, np.arange(grid.nt), side="right")
        parts = _images(part, len(moments) + 1, counts, frames)
        mu = np.stack([_expected_image(expected, part == number) for number in range(len(moments) + 1)])
        for i, first in enumerate(firsts, start=1):
            changed = _changed(parts[:i].sum(axis=0), parts[i:].sum(axis=0), mu[:i].sum(axis=0), mu[i:].sum(axis=0))
            up, down = _n_places(changed > SIGMA), _n_places(changed < -SIGMA)
            found.append((int(np.count_nonzero(abs(changed) > SIGMA)), up, down, first))
        if max(min(up, down) for _, up, down, _ in found) < HINT:
            return None
    _, up, down, first = max(found)  # where most cells change is nearest to the true moment
    if min(up, down) < PLACES:
        return None
    return (
        f"the pointing or the background moved about {grid.frame_edges()[first]:.0f} s (mission time, "
        f"+- {grid.nt / 8 * grid.dt_s:.0f} s): {up} places turn brighter there and {down} fainter; regions may be "
        f"steady sources that moved"
    )


def _images(part: NDArray[np.intp], n_parts: int, counts: Counts, frames: Frames) -> Ints:
    """Return the counts of each part of the frames, shape (n_parts, ny, nx)."""
    images = []
    for lower in range(0, n_parts, 2):  # two at a time
        kind = np.where(frames.rejected | (part < lower) | (part > lower + 1), -1, part - lower)
        images.append(counts.images(kind.astype(np.int8)))
    return np.concatenate(images)[:n_parts]


def _changed(before: Ints, after: Ints, mu_before: Floats, mu_after: Floats) -> Floats:
    """Return by how many sigma each cell turns brighter at a moment, shape (ny, nx)."""
    known = mu_before + mu_after > 0
    changed = np.zeros(known.shape)
    mu = mu_before[known]
    changed[known] = _change(before[known], (before + after)[known], mu / (mu + mu_after[known]))
    return changed


def _expected_image(expected: Expectation, chosen: NDArray[np.bool_]) -> Floats:
    """Sum the expected counts of some frames, shape (ny, nx)."""
    mu = np.zeros(expected.template.shape[1:])
    for kind in (0, 1):
        mine = chosen & (expected.kind == kind)
        if mine.any():
            mu += (
                expected.template[kind] * expected.rate[mine].sum() + expected.source[kind] * expected.live[mine].sum()
            )
    return mu


def _change(before: Ints, total: Ints, share: Floats) -> Floats:
    """Give by how many sigma each cell turned brighter, its own counts in all given; 0 where there are too few."""
    change = np.zeros(total.shape)
    due = total * share
    judged = np.flatnonzero(np.minimum(due, total - due) >= COUNTS_MIN)
    n, due, total = before[judged], due[judged], total[judged]
    ratio = special.xlogy(n, n / due) + special.xlogy(total - n, (total - n) / (total - due))
    change[judged] = np.sign(due - n) * np.sqrt(np.maximum(2 * ratio, 0))
    return change


def _n_places(changed: NDArray[np.bool_]) -> int:
    if np.count_nonzero(changed) < 2:  # as for most moments: labelling takes longer than all else
        return int(changed.any())
    return int(ndimage.label(changed, EIGHT_NEIGHBOURS)[1])
