"""Find windows of cells with many counts in compiled loops; results as :mod:`xscan.backends.windows`, bit for bit.

The half windows of one length are pairs of those of the length before, so that a cell's list of occupied ones is
halved from length to length, and never longer than its photons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from xscan.backends.windows import cell_models, gathered
from xscan.windows import CELL, LENGTHS, PHASES, BandModel, FineGrid, TimedPhotons, WindowLimits, Windows

__all__ = ["passing_windows"]

FIRST_ROOM = 4096


def passing_windows(photons: TimedPhotons, grid: FineGrid, bands: Sequence[BandModel], limits: WindowLimits) -> Windows:
    """As :func:`xscan.backends.windows.passing_windows`."""
    parts = []
    orders: dict[int, Any] = {}
    for model in cell_models(grid, bands, limits):
        band = bands[model.band]
        if model.phase not in orders:
            corner = PHASES[model.phase]
            columns = photons.x, photons.y, photons.bin, photons.band
            orders[model.phase] = _by_cell(*columns, CELL, *corner, model.ny, model.nx)
        offsets, bins, bands_of = orders[model.phase]
        room = FIRST_ROOM
        while True:
            found = _passing(
                offsets, bins, bands_of, (band.lo, band.hi), model.weights, np.ascontiguousarray(model.curves.T),
                model.total, model.a0, limits.mu_peak, np.array(LENGTHS), room,
            )  # fmt: skip
            if found[0] <= room:
                break
            room = found[0]
        k, integers, mu = found
        cell, length, start, n, n_cell = integers[:k].T
        parts.append((model, cell, length, start, n, mu[:k], n_cell))
    return gathered(parts)


@njit(cache=True, error_model="numpy")
def _by_cell(x: Any, y: Any, bins: Any, band: Any, side: int, oy: int, ox: int, ny: int, nx: int) -> Any:
    """Return offsets by cell of a phase, and the bin and band of the photons by cell and time."""
    cell = np.empty(x.size, np.int64)
    offsets = np.zeros(ny * nx + 1, np.int64)
    for i in range(x.size):
        cy, cx = (y[i] - oy) // side, (x[i] - ox) // side
        inside = cy >= 0 and cy < ny and cx >= 0 and cx < nx
        cell[i] = cy * nx + cx if inside else -1
        if inside:
            offsets[cell[i] + 1] += 1
    for c in range(ny * nx):
        offsets[c + 1] += offsets[c]
    at = offsets[:-1].copy()
    of_bin, of_band = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.uint8)
    for i in range(x.size):
        c = cell[i]
        if c >= 0:
            of_bin[at[c]], of_band[at[c]] = bins[i], band[i]
            at[c] += 1
    return offsets, of_bin, of_band


@njit(cache=True, error_model="numpy")
def _passing(
    offsets: Any, bins: Any, band: Any, wanted: Any, weights: Any, curves: Any, total: Any, a0: Any, mu_peak: Any,
    lengths: Any, room: int,
) -> Any:  # fmt: skip
    """Return how many windows pass, and of as many as there is room for: cell, length, start, n and N; and mu."""
    n_cells, n_components = weights.shape
    nt = curves.shape[0] - 1
    integers, mus = np.empty((room, 5), np.int64), np.empty(room)
    room_for = 0
    for c in range(n_cells):
        room_for = max(room_for, offsets[c + 1] - offsets[c])
    half, count = np.empty(room_for + 1, np.int64), np.empty(room_for + 1, np.int64)
    used = np.empty(n_components, np.int64)
    found = 0
    for c in range(n_cells):
        n_cell, m = 0, 0
        for i in range(offsets[c], offsets[c + 1]):
            if wanted[0] <= band[i] < wanted[1]:
                n_cell += 1
                if m > 0 and half[m - 1] == bins[i]:
                    count[m - 1] += 1
                else:
                    half[m], count[m] = bins[i], 1
                    m += 1
        if n_cell < 2:
            continue
        n_used = 0
        for q in range(n_components):  # a component without weight adds 0, which changes nothing
            if weights[c, q] != 0:
                used[n_used] = q
                n_used += 1
        if n_used == 0:
            continue
        b = total[c] + a0[c]
        for level in range(lengths.size):
            length = lengths[level]
            step = length // 2
            if length > nt:
                break
            if level > 0:  # two halves of the length before are one of this length
                k = 0
                for j in range(m):
                    h = half[j] >> 1
                    if k > 0 and half[k - 1] == h:
                        count[k - 1] += count[j]
                    else:
                        half[k], count[k] = h, count[j]
                        k += 1
                m = k
            for j in range(m):
                for back in range(2):  # the window that begins with the half before this one, then with this one
                    if back == 0:
                        if half[j] == 0 or (j > 0 and half[j - 1] == half[j] - 1):
                            continue  # the latter is looked at from the half before
                        n, start = count[j], (half[j] - 1) * step
                    else:
                        n, start = count[j], half[j] * step
                        if j + 1 < m and half[j + 1] == half[j] + 1:
                            n += count[j + 1]
                    stop = start + length
                    if n < 2 or stop > nt:
                        continue
                    limit = mu_peak[n] if n < mu_peak.size else np.inf
                    most, factor = limit * b, a0[c] + (n_cell - n) + limit
                    mu, passes = 0.0, True
                    for k in range(n_used):  # mu only grows from component to component
                        q = used[k]
                        mu += weights[c, q] * (curves[stop, q] - curves[start, q])
                        if n < mu_peak.size and not mu * factor < most:
                            passes = False
                            break
                    if not passes or mu <= 0:
                        continue
                    if found < room:
                        integers[found, 0], integers[found, 1], integers[found, 2] = c, level, start
                        integers[found, 3], integers[found, 4] = n, n_cell
                        mus[found] = mu
                    found += 1
    return found, integers, mus
