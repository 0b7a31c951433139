"""Find windows of cells with many counts: what all backends are given, and the search in NumPy, which defines it.

A window of a cell holds n of the cell's N counts. Of mu counts expected in it and B in the whole time, the cell's own
counts outside the window say how far to trust them: given those, the expectation is Gamma distributed with

    shape a = a0 + N - n        mean mu' = mu a / (a0 + B - mu)

where a0 is the shape that the template alone gives. So an event does not feed its own expectation, a source in no list
is expected all the same, and the uncertainty of the template is part of the probability of n counts or more, the tail
of a negative binomial distribution. A Poisson distribution of mean mu' has less of a tail; so windows are passed on
whose mu' is below the Poisson limit of n, without a division:

    mu (a + m_n) < m_n (a0 + B)        m_n: mean of which n counts or more have the probability asked for

and the tail itself is computed of these few. Products and sums are rounded one by one, in the order written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscan.windows import CELL, LENGTHS, PHASES, BandModel, FineGrid, TimedPhotons, WindowLimits, Windows

__all__ = ["CellModel", "cell_models", "conditional", "gathered", "passing_windows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPREAD = 0.1  # relative variance of a cell's true expectation about the template's
SMOOTHED = 3.2  # counts of the surroundings in a cell's template, per count of its own
FEW = 0.05  # counts: less is not known of a cell
MASKED_SHAPE = 3.0  # largest a0 in the source mask, where the template is a guess
MASKED_PART = 0.3  # of a cell in the mask, from which on it counts as masked


@dataclass(frozen=True, slots=True)
class CellModel:
    """What is expected of the cells of one phase in one band.

    Attributes
    ----------
    band, phase : int
        Numbers.
    ny, nx : int
        Cells along each axis.
    weights : float64, shape (ny * nx, n_components)
        T: by cell the sum of each map.
    curves : float64, shape (n_components, nt + 1)
    total : float64, shape (ny * nx,)
        B: expected counts in the whole time.
    a0 : float64, shape (ny * nx,)
        Shape of the distribution that the template gives to the expectation.
    """

    band: int
    phase: int
    ny: int
    nx: int
    weights: Floats
    curves: Floats
    total: Floats
    a0: Floats


def cell_models(grid: FineGrid, bands: Sequence[BandModel], limits: WindowLimits) -> Iterator[CellModel]:
    """Return what is expected of the cells, band by band and phase by phase.

    Examples
    --------
    One count is expected in each cell; the phase that begins at the corner has four cells, the last one a single cell:

    >>> models = list(cell_models(fine, [flat], limits))
    >>> [model.ny * model.nx for model in models], models[0].total.tolist()
    ([4, 2, 2, 1], [1.0, 1.0, 1.0, 1.0])
    """
    for number, band in enumerate(bands):
        for phase, corner in enumerate(PHASES):
            ny, nx = grid.cells(corner)
            if ny < 1 or nx < 1:
                continue
            weights = np.empty((ny * nx, len(band.maps)))
            for q, one in enumerate(band.maps):
                weights[:, q] = _summed(one, corner, ny, nx)
            total = np.zeros(ny * nx)
            for q, curve in enumerate(band.curves):
                total += weights[:, q] * curve[-1]
            a0 = 1 / (SPREAD + 1 / (SMOOTHED * np.maximum(total, FEW)))
            masked = _summed(limits.in_mask.astype(np.float64), corner, ny, nx) > MASKED_PART * CELL**2
            a0 = np.where(masked, np.minimum(a0, MASKED_SHAPE), a0)
            yield CellModel(number, phase, ny, nx, weights, band.curves, total, a0)


def _summed(values: Floats, corner: tuple[int, int], ny: int, nx: int) -> Floats:
    """Return the sums over the cells of a phase, shape (ny * nx,)."""
    inside = values[corner[0] : corner[0] + ny * CELL, corner[1] : corner[1] + nx * CELL]
    rows = inside.reshape(ny, CELL, nx * CELL)
    columns = (((rows[:, 0] + rows[:, 1]) + rows[:, 2]) + rows[:, 3]).reshape(ny, nx, CELL)
    return np.asarray((((columns[..., 0] + columns[..., 1]) + columns[..., 2]) + columns[..., 3]).ravel())


def conditional(
    mu: Floats, n: NDArray[np.integer], n_cell: NDArray[np.integer], a0: Floats, total: Floats
) -> tuple[Floats, Floats]:
    """Return mean mu' and shape a of the expectation of windows, given the cell's counts outside them.

    Parameters
    ----------
    mu : float64, shape (k,)
        What the template expects in the window.
    n, n_cell : int, shape (k,)
        Counts in the window, and in the whole time.
    a0, total : float64, shape (k,)
        Of the cell, as in :class:`CellModel`.

    Examples
    --------
    A cell in which 10 counts are expected over the whole time, 1 in the window, has 10 elsewhere:

    >>> mean, shape = conditional(np.array([1.0]), np.array([5]), np.array([15]), np.array([4.0]), np.array([10.0]))
    >>> shape.tolist(), mean.round(3).tolist()
    ([14.0], [1.077])
    """
    shape = a0 + (n_cell - n)
    return np.asarray(mu * shape / (a0 + total - mu)), np.asarray(shape)


Part = tuple[CellModel, Ints, Ints, Ints, Ints, Floats, Ints]
"""What was found in a phase of a band: its cell model and, shape (k,) each, the cell, the number of the length, the
start, n, mu, and the counts of the cell in all."""


def gathered(parts: Sequence[Part]) -> Windows:
    """Make windows of what was found, in any order.

    Examples
    --------
    >>> model = next(cell_models(fine, [flat], limits))
    >>> cell, length, start, n, n_cell = (np.array([value]) for value in (3, 0, 10, 5, 6))
    >>> windows = gathered([(model, cell, length, start, n, np.array([0.05]), n_cell)])
    >>> windows.y.tolist(), windows.x.tolist(), windows.start.tolist(), windows.stop.tolist()
    ([1], [1], [10], [12])
    """
    columns: list[list[NDArray[Any]]] = [[] for _ in range(10)]
    for model, cell, length, start, n, mu, n_cell in parts:
        mean, shape = conditional(mu, n, n_cell, model.a0[cell], model.total[cell])
        stop = start + np.array(LENGTHS)[length]
        y, x = np.divmod(cell, model.nx)
        numbers = np.full(cell.size, model.band), np.full(cell.size, model.phase)
        for column, values in zip(columns, (*numbers, y, x, start, stop, n, mean, shape, length), strict=True):
            column.append(values)
    joined = [np.concatenate([np.empty(0), *column]) for column in columns]
    band, phase, y, x, start, _, _, _, _, length = joined
    order = np.lexsort((start, length, x, y, phase, band))
    kinds = (np.int16, np.int16, np.int32, np.int32, np.int32, np.int32, np.int32, np.float64, np.float64)
    return Windows(*(column[order].astype(kind) for column, kind in zip(joined, kinds, strict=False)))


def passing_windows(photons: TimedPhotons, grid: FineGrid, bands: Sequence[BandModel], limits: WindowLimits) -> Windows:
    """Return all windows of at least two counts that the Poisson limit passes.

    Parameters
    ----------
    photons : TimedPhotons
    grid : FineGrid
    bands : sequence of BandModel
    limits : WindowLimits

    Examples
    --------
    Five photons in bins 10 and 11, where one is expected in 40 bins; windows of up to 16 bins hold them all:

    >>> windows = passing_windows(burst, fine, [flat], limits)
    >>> list(zip(windows.start.tolist(), windows.stop.tolist(), windows.n.tolist(), strict=True))
    [(9, 11, 3), (10, 12, 5), (8, 12, 5), (10, 14, 5), (4, 12, 5), (8, 16, 5), (0, 16, 5), (8, 24, 5)]
    """
    parts: list[Part] = []
    for model in cell_models(grid, bands, limits):
        band = bands[model.band]
        oy, ox = PHASES[model.phase]
        y, x = (photons.y - oy) // CELL, (photons.x - ox) // CELL
        inside = (photons.band >= band.lo) & (photons.band < band.hi)
        inside &= (y >= 0) & (y < model.ny) & (x >= 0) & (x < model.nx)
        cell = y[inside].astype(np.int64) * model.nx + x[inside]
        n_cell = np.bincount(cell, minlength=model.ny * model.nx)
        for level, length in enumerate(LENGTHS):
            if length <= grid.nt:
                found = _of_length(cell, photons.bin[inside], length, n_cell, grid.nt, model, limits.mu_peak)
                parts.append((model, found[0], np.full(found[0].size, level), *found[1:]))
    return gathered(parts)


def _of_length(
    cell: Ints, bins: NDArray[np.int32], length: int, n_cell: Ints, nt: int, model: CellModel, mu_peak: Floats
) -> tuple[Ints, Ints, Ints, Floats, Ints]:
    """Return cell, start, n, mu and the cell's counts of the windows of one length that pass."""
    half, n_halves = length // 2, nt // (length // 2) + 2
    occupied, counts = np.unique(
        cell * n_halves + bins // half + 1, return_counts=True
    )  # from 1: 0 is before the first
    window, index = np.unique(np.concatenate([occupied, occupied - 1]), return_inverse=True)  # by their first half
    n = np.bincount(index, np.concatenate([counts, counts])).astype(np.int64)
    cells, first = np.divmod(window, n_halves)
    start = (first - 1) * half
    able = (n >= 2) & (start >= 0) & (start + length <= nt)
    cells, start, n = cells[able], start[able], n[able]
    mu = np.zeros(cells.size)
    for q, curve in enumerate(model.curves):
        mu = mu + model.weights[cells, q] * (curve[start + length] - curve[start])
    m = mu_peak[np.minimum(n, mu_peak.size - 1)]
    a0, shape = model.a0[cells], model.a0[cells] + (n_cell[cells] - n)
    passed = (mu > 0) & ((n >= mu_peak.size) | (mu * (shape + m) < m * (a0 + model.total[cells])))
    return cells[passed], start[passed], n[passed], mu[passed], n_cell[cells][passed]
