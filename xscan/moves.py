"""Tell whether the whole field changed at one moment: a pointing that moves makes transients of steady sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from xscan.detect import EIGHT_NEIGHBOURS
from xscan.grid import Grid
from xscan.model import Expectation, Frames, Photons

__all__ = ["remark_on_moves"]

PARTS = 8
"""Parts of the time range; the moment is looked for between them."""

CELL_MIN_ARCSEC = 4.0
"""Smaller cells hold too few counts each to be judged."""

COUNTS_MIN = 2.0
"""A cell is judged where so many counts are expected before and after."""

SIGMA = 4.0
"""A cell changed where its counts before and after differ from the expectation by more than this."""

PLACES = 5
"""So many places, touching cells counted once, brighter after a moment and as many fainter: the field changed.

Made-up skies with five transients have 3 of the rarer kind at most and real MOS lists 1; a field of 10 to 30 sources
that moves by 1 to 5 arcmin has 16 or more, and one real MOS list whose later half is moved by 2 arcmin 7 (for the
least counts) and more."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def remark_on_moves(
    photons: Photons, pi_range: tuple[int, int], expected: Expectation, frames: Frames, grid: Grid
) -> str | None:
    """Say when the whole field changed, if it did.

    At each of some moments the counts of every cell before and after are held against the expectation,
    by the root of the likelihood ratio. Transients change a few places one way; where the pointing
    moves, many places turn brighter and as many fainter.

    Parameters
    ----------
    photons : Photons
    pi_range : (int, int)
        The view's band, eV, the second exclusive.
    expected : Expectation
    frames : Frames
    grid : Grid

    Returns
    -------
    str or None
        A sentence with the moment; None if at no moment :data:`PLACES` places turn brighter and as many
        fainter.
    """
    if grid.cell_arcsec < CELL_MIN_ARCSEC:
        return None
    per_part = -(-grid.nt // PARTS)
    mu = _expected_images(expected, grid, per_part)
    known = mu.sum(axis=0) > 0
    n = np.cumsum(_images(photons, pi_range, frames, grid, per_part)[:, known], axis=0)
    mu = np.cumsum(mu[:, known], axis=0)
    changed = np.zeros(known.shape)
    best = 0, 0, 0, 0  # the moment at which most cells change is nearest to the true one
    for k in range(1, len(n)):
        changed[known] = _change(n[k - 1], n[-1], mu[k - 1] / mu[-1])
        n_changed = int(np.count_nonzero(abs(changed) > SIGMA))
        if n_changed >= max(2 * PLACES, best[0]):
            up, down = _n_places(changed > SIGMA), _n_places(changed < -SIGMA)
            if min(up, down) >= PLACES:
                best = n_changed, up, down, k
    n_cells, up, down, k = best
    if n_cells == 0:
        return None
    moment = grid.frame_edges()[k * per_part]
    return (
        f"the pointing or the background moved about {moment:.0f} s (mission time, +- {per_part * grid.dt_s:.0f} s): "
        f"{up} places turn brighter there and {down} fainter; regions may be steady sources that moved"
    )


def _images(photons: Photons, pi_range: tuple[int, int], frames: Frames, grid: Grid, per_part: int) -> Ints:
    """Count the photons of each part of the time, shape (parts, ny, nx)."""
    whole, box = photons.box, grid.box
    n_cells = whole.ny * whole.nx
    index = np.flatnonzero((photons.pi >= pi_range[0]) & (photons.pi < pi_range[1]))
    cell = np.repeat(np.arange(n_cells), np.diff(photons.offsets))[index]
    frame = photons.tick[index] // grid.dt_ms
    inside = (frame >= 0) & (frame < grid.nt)
    inside &= ~frames.rejected[np.where(inside, frame, 0)]
    n_parts = -(-grid.nt // per_part)
    n = np.bincount((frame // per_part * n_cells + cell)[inside], minlength=n_parts * n_cells)
    n = n.reshape(n_parts, whole.ny, whole.nx)
    return np.asarray(n[:, box.y0 - whole.y0 : box.y1 - whole.y0, box.x0 - whole.x0 : box.x1 - whole.x0])


def _expected_images(expected: Expectation, grid: Grid, per_part: int) -> Floats:
    """Sum the expected counts of each part of the time, shape (parts, ny, nx)."""
    first = np.arange(0, grid.nt, per_part)
    mu = np.zeros((first.size, *grid.shape[:2]))
    for kind in (0, 1):
        chosen = expected.kind == kind
        if chosen.any():
            rate, live = (np.add.reduceat(values * chosen, first) for values in (expected.rate, expected.live))
            mu += expected.template[kind] * rate[:, None, None] + expected.source[kind] * live[:, None, None]
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
    return int(ndimage.label(changed, EIGHT_NEIGHBOURS)[1])
