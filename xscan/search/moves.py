"""Detect that the whole field changed at one moment: a pointing that moves turns steady sources into transients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from xscan.model import Expectation
from xscan.search.view import ViewData

__all__ = ["FRAMES_MIN", "remark_on_moves"]

FRAMES_MIN = 8
"""A view of fewer frames is too coarse to tell the moments apart."""

FIRST = (3, 5)
OTHERS = (1, 2, 4, 6, 7)
"""Moments that are tested, in eighths of the time range: the others only if at one of the first at least :data:`HINT`
places turn brighter and as many fainter."""

HINT = 2

COUNTS_MIN = 2.0
"""A cell is tested where at least this many counts are expected both before and after."""

SIGMA = 4.0
"""A cell has changed where its counts before and after differ from the expectation by more than this."""

PLACES = 5
"""The field changed if at least this many places turn brighter at a moment, and this many fainter.

A place is a group of touching cells. In made-up fields with five transients the rarer of both kinds has at most 3
places, in real MOS lists 1. A field of 10 to 30 sources that moves by 1 to 5 arcmin has 16 or more; a real MOS list
whose later half is moved by 2 arcmin has 5 to 11."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def remark_on_moves(data: ViewData) -> str | None:
    """Return a sentence that says when the whole field changed, or None.

    At each of some moments the counts of every cell before and after are compared with the expectation,
    by the square root of the likelihood ratio. Transients change a few places, brighter or fainter; where the
    pointing moves, many places turn brighter and as many fainter.

    Parameters
    ----------
    data : ViewData

    Returns
    -------
    str or None
        The sentence names the moment. None if at no moment at least :data:`PLACES` places turn brighter and as many
        fainter.

    Examples
    --------
    One burst is no motion of the field:

    >>> print(remark_on_moves(data))
    None
    """
    grid, image = data.grid, data.image
    found: list[tuple[int, int, int, int]] = []
    for moments in (FIRST, OTHERS):
        firsts = [k * grid.nt // 8 for k in moments]
        part = np.searchsorted(firsts, np.arange(grid.nt), side="right")
        parts = _images(part, len(moments), data)
        parts = np.concatenate([parts, [image - parts.sum(axis=0)]])
        mu = np.stack([_expected_image(data.expected, part == number) for number in range(len(moments) + 1)])
        for i, first in enumerate(firsts, start=1):
            changed = _changed(parts[:i].sum(axis=0), parts[i:].sum(axis=0), mu[:i].sum(axis=0), mu[i:].sum(axis=0))
            up, down = _n_places(changed > SIGMA), _n_places(changed < -SIGMA)
            found.append((int(np.count_nonzero(abs(changed) > SIGMA)), up, down, first))
        if max(min(up, down) for _, up, down, _ in found) < HINT:
            return None
    _, up, down, first = max(found)  # the moment at which most cells change is nearest to the true one
    if min(up, down) < PLACES:
        return None
    return (
        f"the pointing or the background moved about {grid.frame_edges()[first]:.0f} s (mission time, "
        f"+- {grid.nt / 8 * grid.dt_s:.0f} s): {up} places turn brighter there and {down} fainter; regions may be "
        f"steady sources that moved"
    )


def _images(part: NDArray[np.intp], n_parts: int, data: ViewData) -> Ints:
    """Return the counts of each part of the frames, shape (n_parts, ny, nx)."""
    images = []
    for lower in range(0, n_parts, 2):  # a backend makes two images at a time
        kind = np.where(data.frames.rejected | (part < lower) | (part > lower + 1), -1, part - lower)
        images.append(data.counts.images(kind.astype(np.int8)))
    return np.concatenate(images)[:n_parts]


def _changed(before: Ints, after: Ints, mu_before: Floats, mu_after: Floats) -> Floats:
    """Return by how many sigma each cell turns brighter at a moment, shape (ny, nx)."""
    known = mu_before + mu_after > 0
    changed = np.zeros(known.shape)
    mu = mu_before[known]
    changed[known] = _change(before[known], (before + after)[known], mu / (mu + mu_after[known]))
    return changed


def _expected_image(expected: Expectation, chosen: NDArray[np.bool_]) -> Floats:
    """Return the expected counts of some frames, shape (ny, nx)."""
    mu = np.zeros(expected.template.shape[1:])
    for kind in (0, 1):
        mine = chosen & (expected.kind == kind)
        if mine.any():
            mu += (
                expected.template[kind] * expected.background_counts[mine].sum()
                + expected.source[kind] * expected.live[mine].sum()
            )
    return mu


def _change(before: Ints, total: Ints, share: Floats) -> Floats:
    """Return by how many sigma each cell turns brighter, given its total counts.

    0 where too few are expected, and where it cannot be more than :data:`SIGMA`.

    ``share`` is the expected fraction of a cell's counts before the moment.
    """
    change = np.zeros(total.shape)
    due = total * share
    # log likelihood ratio <= chi2 = (n - due)**2 * total / due / (total - due): where that is small, nothing changed
    possible = (before - due) ** 2 * total > SIGMA**2 / 2 * due * (total - due)
    judged = np.flatnonzero(possible & (np.minimum(due, total - due) >= COUNTS_MIN))
    n, due, total = before[judged], due[judged], total[judged]
    ratio = special.xlogy(n, n / due) + special.xlogy(total - n, (total - n) / (total - due))
    change[judged] = np.sign(due - n) * np.sqrt(np.maximum(2 * ratio, 0))
    return change


def _n_places(changed: NDArray[np.bool_]) -> int:
    if np.count_nonzero(changed) < 2:  # true for most moments; labelling is the slowest step here
        return int(changed.any())
    return int(ndimage.label(changed, np.ones((3, 3), bool))[1])
