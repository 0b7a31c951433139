"""Find eclipses and dips: windows in which cells of sources have too few counts.

As in the search for too many counts, a cell's counts outside the window are its baseline; what was found to shine for a
while is left out of it, or the rest of the time would be an eclipse. Frames in which a working CCD was dead are not
looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainccinv

from xscan.backends.windows import CellModel, cell_models, conditional
from xscan.search.candidates import distinct
from xscan.search.components import Field
from xscan.windows import BASE_S, CELL, PHASES, BandModel, WindowLimits

__all__ = ["P_DIP_MOST", "Dip", "Shining", "dips"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

P_DIP_MOST = 1e-5  # up to which the number of false eclipses was counted
STEP = 4  # base bins of the shortest half window
LENGTHS = tuple(2**k for k in range(1, 10))  # of windows, in steps: 20 s to 5120 s
DUE_MIN = 16.0  # counts due: with fewer, even none is not that improbable
MASKED_PART = 0.3  # of a cell in the source mask: elsewhere nothing can be eclipsed
SHINING_ARCSEC = 60.0  # around what shone: there its time does not count
SCALED_MOST = 2.0  # times as much may be due as the template says, by the cell's own counts
LONGEST_PART = 0.5  # of the live time


@dataclass(frozen=True, slots=True)
class Shining:
    """Where and when something was found to shine: sky pixels; s, since the start of the search."""

    x_px: float
    y_px: float
    start: float
    stop: float


@dataclass(frozen=True, slots=True)
class Dip:
    """A window with too few counts.

    Attributes
    ----------
    x_px, y_px : float
        Centre of the cell, sky pixels.
    start, stop : float
        s, since the start of the search.
    n : int
    mu : float
        Expected counts, given the cell's counts outside the window.
    log10_p : float
    """

    x_px: float
    y_px: float
    start: float
    stop: float
    n: int
    mu: float
    log10_p: float


def dips(
    field: Field, full_band: BandModel, limits: WindowLimits, rejected: Bools, shone: Sequence[Shining], p_most: float
) -> list[Dip]:
    """Return the windows with improbably few counts, each thing once, the least probable first.

    Parameters
    ----------
    field : Field
    full_band : BandModel
    limits : WindowLimits
    rejected : bool, shape (nt,)
        Base bins that are not looked at.
    shone : sequence of Shining
    p_most : float
        Probability below which a window is a dip.
    """
    grid = field.grid
    n_steps = grid.nt // STEP
    alive = ~rejected & (field.groups.live.max(axis=0, initial=0.0) > 0)
    live_s = float(np.count_nonzero(alive) * BASE_S)
    found: list[tuple[NDArray[Any], ...]] = []
    for model in cell_models(grid, [full_band], limits):
        corner = PHASES[model.phase]
        cells = _worth_it(model, limits, live_s)
        if cells.size == 0 or n_steps < LENGTHS[0]:
            continue
        n, mu = _curves(field, model, cells, alive, n_steps)
        y, x = np.divmod(cells, model.nx)
        x_px, y_px = grid.middle(corner, y, x)
        kept = _kept(x_px, y_px, shone, n_steps, grid.sky.side_arcsec)
        n, mu = n * kept, mu * kept
        for k, start, stop, n_in, mean, log10_p in _too_few(n, mu, model.a0[cells], live_s, p_most):
            found.append((x_px[k], y_px[k], start, stop, n_in, mean, log10_p))
    if not found:
        return []
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    order = np.argsort(columns[-1], kind="stable")
    columns = [column[order] for column in columns]
    side = grid.sky.side_arcsec
    kept_ones = distinct(columns[0] * side, columns[1] * side, columns[2], columns[3])
    return [
        Dip(x, y, start, stop, int(n_in), mean, p)
        for x, y, start, stop, n_in, mean, p in zip(*(column[kept_ones].tolist() for column in columns), strict=True)
    ]


def _worth_it(model: CellModel, limits: WindowLimits, live_s: float) -> NDArray[np.int64]:
    """Return the cells of sources in which enough counts are due in the longest window."""
    corner = PHASES[model.phase]
    part = limits.in_mask[corner[0] : corner[0] + model.ny * CELL, corner[1] : corner[1] + model.nx * CELL]
    masked = part.reshape(model.ny, CELL, model.nx, CELL).sum(axis=(1, 3)).ravel() > MASKED_PART * CELL**2
    longest = min(LENGTHS[-1] * STEP * BASE_S, LONGEST_PART * live_s)
    due = model.total * longest / max(live_s, 1e-9)
    return np.flatnonzero(masked & (due > DUE_MIN / 2))


def _curves(
    field: Field, model: CellModel, cells: NDArray[np.int64], alive: Bools, n_steps: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return counts and expected counts of some cells in each step, shape (n_cells, n_steps)."""
    p, (oy, ox) = field.photons, PHASES[model.phase]
    number = np.full(model.ny * model.nx, -1)
    number[cells] = np.arange(cells.size)
    y, x = (p.y.astype(np.int64) - oy) // CELL, (p.x.astype(np.int64) - ox) // CELL
    inside = (y >= 0) & (y < model.ny) & (x >= 0) & (x < model.nx) & alive[p.bin] & (p.bin < n_steps * STEP)
    k, step = number[y[inside] * model.nx + x[inside]], p.bin[inside] // STEP
    n = np.bincount(k[k >= 0] * n_steps + step[k >= 0], minlength=cells.size * n_steps).reshape(cells.size, n_steps)
    mu = np.zeros((cells.size, n_steps))
    for q, curve in enumerate(model.curves):
        per_bin = np.diff(curve)[: n_steps * STEP] * alive[: n_steps * STEP]
        mu += model.weights[cells, q, None] * per_bin.reshape(n_steps, STEP).sum(axis=1)
    return n, mu


def _kept(x_px: Floats, y_px: Floats, shone: Sequence[Shining], n_steps: int, side_arcsec: float) -> Bools:
    """Return which steps of which cells count, shape (n_cells, n_steps)."""
    kept = np.ones((x_px.size, n_steps), bool)
    for one in shone:
        near = np.hypot(x_px - one.x_px, y_px - one.y_px) * side_arcsec < SHINING_ARCSEC
        first = max(int(one.start / (STEP * BASE_S)) - 1, 0)
        kept[near, first : int(one.stop / (STEP * BASE_S)) + 2] = False
    return kept


def _too_few(
    n: NDArray[np.int64], mu: Floats, a0: Floats, live_s: float, p_most: float
) -> list[tuple[NDArray[Any], ...]]:
    """Return cell, start, stop (s), counts, expected counts and log10 p of the windows of each length."""
    n_cell, total = n.sum(axis=1), mu.sum(axis=1)
    n_until, mu_until = (np.concatenate([np.zeros((len(v), 1)), np.cumsum(v, axis=1)], axis=1) for v in (n, mu))
    due = gammainccinv(np.arange(int(n_cell.max(initial=0)) + 1) + 1, p_most)
    found: list[tuple[NDArray[Any], ...]] = []
    for length in LENGTHS:
        if length > n.shape[1] or length * STEP * BASE_S > LONGEST_PART * live_s:
            break
        start = np.arange(0, n.shape[1] - length + 1, length // 2)
        mu_in = mu_until[:, start + length] - mu_until[:, start]
        row = np.flatnonzero(mu_in.max(axis=1) * SCALED_MOST > due[0])  # elsewhere not even no count is too few
        n_in = (n_until[row[:, None], start + length] - n_until[row[:, None], start]).astype(np.int64)
        mean, shape = conditional(mu_in[row], n_in, n_cell[row, None], a0[row, None], total[row, None])
        k, j = np.nonzero(mean > due[n_in])
        n_in, mean, shape = n_in[k, j], mean[k, j], shape[k, j]
        p = betainc(shape, n_in + 1, shape / (shape + mean))  # P(n or less), of a negative binomial distribution
        few = p < p_most
        log10_p = np.log10(np.maximum(p[few], 1e-300))
        begin = start[j[few]] * (STEP * BASE_S)
        found.append((row[k[few]], begin, begin + length * STEP * BASE_S, n_in[few], mean[few], log10_p))
    return found
