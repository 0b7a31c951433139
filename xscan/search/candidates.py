"""Choose the candidates of the search by windows: windows of cells with improbably many counts, each thing once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from xscan.bayes import log10_negative_binomial_tail
from xscan.windows import BASE_S, BRIGHT_N, PHASES, FineGrid, WindowLimits, Windows

__all__ = ["Candidates", "candidates", "distinct", "probability_of_candidates", "window_limits"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

P_CANDIDATE, P_CANDIDATE_MOST = 1e-6, 1e-4
TRIALS_OF_P = 2e8  # s: with fewer, less improbable windows are weighed, about a hundred in any observation
SAME_ARCSEC, SAME_S = 45.0, 200.0  # what lies within both of a better one belongs to it


@dataclass(frozen=True, slots=True)
class Candidates:
    """Windows that may hold a transient, the least probable first, shape (k,) each.

    Attributes
    ----------
    x_px, y_px : float64
        Centre of the cell, sky pixels.
    start, stop : float64
        s, since the start of the search.
    n : int32
        Counts.
    mu : float64
        Expected counts, given the cell's counts outside the window.
    log10_p : float64
    band : int16
        Number of the band.
    """

    x_px: Floats
    y_px: Floats
    start: Floats
    stop: Floats
    n: NDArray[np.int32]
    mu: Floats
    log10_p: Floats
    band: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.n)


def probability_of_candidates(trials: float) -> float:
    """Return the probability below which a window is a candidate, for so many trials of the search.

    Examples
    --------
    >>> probability_of_candidates(1e9), round(probability_of_candidates(2e7), 8)
    (1e-06, 1e-05)
    """
    return min(max(P_CANDIDATE * TRIALS_OF_P / trials, P_CANDIDATE), P_CANDIDATE_MOST)


def window_limits(p: float, n_most: int, in_mask: Bools) -> WindowLimits:
    """Return what makes a window a candidate: the Poisson means of which n counts have a probability.

    Parameters
    ----------
    p : float
        From :func:`probability_of_candidates`.
    n_most : int
        The largest number of counts of a cell.
    in_mask : bool, shape (ny, nx)
        Fine pixels of the source mask.

    Examples
    --------
    In which mean four counts or more have a probability of 1e-6, and that they do:

    >>> from scipy.stats import poisson
    >>> mean = window_limits(1e-6, 10, np.zeros((8, 8), bool)).mu_peak[4]
    >>> float(mean.round(3)), float(poisson.sf(3, mean).round(9))
    (0.071, 1e-06)
    """
    size = 1 << min(n_most, BRIGHT_N).bit_length()  # few sizes, each worked out once
    return WindowLimits(_mu_peak(p, min(size, BRIGHT_N) + 1), in_mask)


@lru_cache(maxsize=8)
def _mu_peak(p: float, size: int) -> Floats:
    limits = np.zeros(size)
    limits[1:] = gammaincinv(np.arange(1, size), p)
    limits.setflags(write=False)
    return limits


def candidates(windows: Windows, grid: FineGrid, p: float) -> Candidates:
    """Return the windows whose counts have a probability below ``p``, the best of each place and time.

    Examples
    --------
    Of all windows that hold a burst the least probable one is the candidate:

    >>> from xscan.backends.windows import passing_windows
    >>> found = candidates(passing_windows(burst, fine, [flat], limits), fine, 1e-4)
    >>> found.start.tolist(), found.stop.tolist(), found.n.tolist(), found.log10_p.round(1).tolist()
    ([25.0], [30.0], [5], [-8.2])
    """
    log10_p = log10_negative_binomial_tail(windows.n, windows.mu, windows.shape)
    index = np.flatnonzero(log10_p < np.log10(p))
    order = index[np.argsort(log10_p[index], kind="stable")]
    x_px, y_px = np.empty(order.size), np.empty(order.size)
    for number, phase in enumerate(PHASES):
        mine = windows.phase[order] == number
        x_px[mine], y_px[mine] = grid.middle(phase, windows.y[order][mine], windows.x[order][mine])
    start, stop = (np.asarray(edge[order] * BASE_S, np.float64) for edge in (windows.start, windows.stop))
    side = grid.sky.side_arcsec
    kept = distinct(x_px * side, y_px * side, start, stop)
    chosen = order[kept]
    return Candidates(
        x_px[kept], y_px[kept], start[kept], stop[kept], windows.n[chosen], windows.mu[chosen], log10_p[chosen],
        windows.band[chosen],
    )  # fmt: skip


def distinct(x_arcsec: Floats, y_arcsec: Floats, start: Floats, stop: Floats) -> NDArray[np.intp]:
    """Return the indices of windows without those that belong to a better one; the best come first.

    One belongs to a better one within 45 arcsec if no more than 200 s lie between them.

    Examples
    --------
    >>> distinct(np.array([0.0, 30.0, 30.0]), np.zeros(3), np.array([0.0, 100.0, 900.0]), np.array([5.0, 150.0, 910.0]))
    array([0, 2])
    """
    free = np.ones(x_arcsec.size, bool)
    kept = []
    for i in range(x_arcsec.size):
        if free[i]:
            kept.append(i)
            later = np.flatnonzero(free[i:]) + i
            near = (x_arcsec[later] - x_arcsec[i]) ** 2 + (y_arcsec[later] - y_arcsec[i]) ** 2 < SAME_ARCSEC**2
            near &= (start[later] < stop[i] + SAME_S) & (stop[later] > start[i] - SAME_S)
            free[later[near]] = False
    return np.array(kept, np.intp)
