"""Tell whether the whole field changed at one moment: a pointing that moves makes transients of steady sources."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from xscan.detect import EIGHT_NEIGHBOURS
from xscan.grid import Grid
from xscan.model import Expectation, Frames, Photons

__all__ = ["remark_on_moves"]

PARTS = 16
"""Parts of the time range; the moment is looked for between them."""

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
    per_part = -(-grid.nt // PARTS)
    n = np.array(list(_images(photons, pi_range, frames, grid, per_part)))
    mu = np.array(list(_expected_images(expected, grid, per_part)))
    n *= mu.sum(axis=0) > 0
    best = 0, 0, 0, 0  # the moment at which most cells change is nearest to the true one
    for k in range(1, len(n)):
        change = _change(n[:k].sum(axis=0), n[k:].sum(axis=0), mu[:k].sum(axis=0), mu[k:].sum(axis=0))
        up, down = _n_places(change > SIGMA), _n_places(change < -SIGMA)
        if min(up, down) >= PLACES:
            best = max(best, (int(np.count_nonzero(abs(change) > SIGMA)), up, down, k))
    n_cells, up, down, k = best
    if n_cells == 0:
        return None
    moment = grid.frame_edges()[k * per_part]
    return (
        f"the pointing or the background moved about {moment:.0f} s (mission time, +- {per_part * grid.dt_s:.0f} s): "
        f"{up} places turn brighter there and {down} fainter; regions of this view may be steady sources that moved"
    )


def _images(photons: Photons, pi_range: tuple[int, int], frames: Frames, grid: Grid, per_part: int) -> Iterator[Ints]:
    """Count the photons of each part of the time, shape (ny, nx) each."""
    ny, nx, nt = grid.shape
    y, x = photons.cells()
    frame = photons.tick // grid.dt_ms
    inside = (photons.pi >= pi_range[0]) & (photons.pi < pi_range[1]) & (frame >= 0) & (frame < nt)
    inside &= (x >= grid.box.x0) & (x < grid.box.x1) & (y >= grid.box.y0) & (y < grid.box.y1)
    inside &= ~frames.rejected[np.where(inside, frame, 0)]
    cell = (y[inside] - grid.box.y0) * nx + x[inside] - grid.box.x0
    part = frame[inside] // per_part
    for k in range(-(-nt // per_part)):
        yield np.bincount(cell[part == k], minlength=ny * nx).reshape(ny, nx)


def _expected_images(expected: Expectation, grid: Grid, per_part: int) -> Iterator[Floats]:
    """Sum the expected counts of each part of the time, shape (ny, nx) each."""
    for first in range(0, grid.nt, per_part):
        part = slice(first, first + per_part)
        mu = np.zeros(grid.shape[:2])
        for kind in (0, 1):
            chosen = expected.kind[part] == kind
            mu += expected.template[kind] * expected.rate[part][chosen].sum()
            mu += expected.source[kind] * expected.live[part][chosen].sum()
        yield mu


def _change(before: Ints, after: Ints, mu_before: Floats, mu_after: Floats) -> Floats:
    """Give by how many sigma each cell turned brighter, its own counts in all given; 0 where there are too few."""
    share = (before + after) / np.maximum(mu_before + mu_after, 1e-9)
    due_before, due_after = mu_before * share, mu_after * share
    judged = np.minimum(due_before, due_after) >= COUNTS_MIN
    ratio = np.zeros(before.shape)
    for n, due in ((before, due_before), (after, due_after)):
        ratio[judged] += 2 * special.xlogy(n[judged], n[judged] / due[judged])
    return np.asarray(np.sign(after - due_after) * np.sqrt(np.maximum(ratio, 0)))


def _n_places(changed: NDArray[np.bool_]) -> int:
    return int(ndimage.label(changed, EIGHT_NEIGHBOURS)[1])
