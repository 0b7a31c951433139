"""Define the data of the search by windows of time: photons on a fine grid, what is expected of them, what was found.

The base of all windows is a bin of :data:`BASE_MS`; a fine pixel of the sky is about :data:`FINE_ARCSEC` wide, and a
cell is :data:`CELL` fine pixels wide. Axes of maps are (y, x), those of curves (t,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.sky import SkyPixels

__all__ = [
    "BASE_MS",
    "BASE_S",
    "BRIGHT_N",
    "CELL",
    "LENGTHS",
    "PHASES",
    "BandModel",
    "FineGrid",
    "TimedPhotons",
    "WindowLimits",
    "Windows",
]

BASE_MS = 2500
BASE_S = BASE_MS / 1000

BRIGHT_N = 20_000
"""Windows of more counts pass without a Poisson limit; their probability is computed all the same."""

FINE_ARCSEC = 5.0
CELL = 4
"""Side of a cell, fine pixels."""

PHASES = ((0, 0), (2, 0), (0, 2), (2, 2))
"""Where the cells begin, (y, x) in fine pixels: a source lies near the middle of a cell of one of these grids."""

LENGTHS = tuple(2**k for k in range(1, 12))
"""Lengths of windows in base bins, 5 s to 5120 s. A window begins at a multiple of half its length."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FineGrid:
    """The fine pixels and base bins of a subset.

    Attributes
    ----------
    t0 : float
        Start of the first bin, s, mission time.
    nt : int
        Number of bins.
    pixel : int
        Side of a fine pixel, sky pixels.
    x0, y0 : int
        First fine pixel along each axis: sky pixels X of fine pixel k are those with ``X // pixel == x0 + k``.
    nx, ny : int
        Number of fine pixels along each axis.
    sky : SkyPixels
    """

    t0: float
    nt: int
    pixel: int
    x0: int
    y0: int
    nx: int
    ny: int
    sky: SkyPixels

    @property
    def side_arcsec(self) -> float:
        """True side of a fine pixel."""
        return self.pixel * self.sky.side_arcsec

    def bin_edges(self) -> Floats:
        """Return the edges of the bins, shape (nt + 1,), s, mission time."""
        return np.asarray(self.t0 + np.arange(self.nt + 1) * BASE_S, np.float64)

    def cells(self, phase: tuple[int, int]) -> tuple[int, int]:
        """Return the number of whole cells of a phase along y and along x."""
        return (self.ny - phase[0]) // CELL, (self.nx - phase[1]) // CELL

    def middle(self, phase: tuple[int, int], y: NDArray[np.integer], x: NDArray[np.integer]) -> tuple[Floats, Floats]:
        """Return the sky pixels X and Y at the centres of cells of a phase."""
        half = CELL / 2
        return (
            np.asarray((self.x0 + phase[1] + x * CELL + half) * self.pixel - 0.5, np.float64),
            np.asarray((self.y0 + phase[0] + y * CELL + half) * self.pixel - 0.5, np.float64),
        )


@dataclass(frozen=True, slots=True)
class TimedPhotons:
    """The photons of a subset on the fine grid, in order of time, shape (n,) each.

    Attributes
    ----------
    index : int64
        Of each among the photons of the subset (:class:`xscan.model.Photons`).
    bin : int32
        Base bin, 0 to nt - 1.
    x, y : int16
        Fine pixel, from the corner of the grid.
    band : uint8
        Narrow band.
    group : uint8
        Live group: the CCDs of a list that were live together.
    """

    index: NDArray[np.int64]
    bin: NDArray[np.int32]
    x: NDArray[np.int16]
    y: NDArray[np.int16]
    band: NDArray[np.uint8]
    group: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BandModel:
    """What is expected of one band: a sum of components, each a map times a curve.

    ``mu(cell, a..b) = sum over q of T[q] * (curves[q, b] - curves[q, a])``, where ``T[q]`` is the sum of ``maps[q]``
    over the cell, added in the order of the components.

    Attributes
    ----------
    lo, hi : int
        Narrow bands lo to hi, exclusive.
    kinds : int8, shape (n_components,)
        0 for the background of good time, 1 for that of bad time, 2 for constant sources.
    maps : float64, shape (n_components, ny, nx)
    curves : float64, shape (n_components, nt + 1)
        Cumulative, from 0.
    """

    lo: int
    hi: int
    kinds: NDArray[np.int8]
    maps: Floats
    curves: Floats


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """What decides whether a window is a candidate; see :mod:`xscan.backends.windows`.

    Attributes
    ----------
    mu_peak : float64, shape (k,)
        For each number of counts the Poisson mean below which it is improbable; rising. Larger counts always pass.
    in_mask : bool, shape (ny, nx)
        Fine pixels of the source mask.
    """

    mu_peak: Floats
    in_mask: Bools


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of cells with many counts, shape (k,) each, ordered by (band, phase, y, x, length, start).

    Attributes
    ----------
    band, phase : int16
        Number of the band among those searched, and of the phase in :data:`PHASES`.
    y, x : int32
        Cell of the phase.
    start, stop : int32
        First base bin, and the one after the last.
    n : int32
        Counts.
    mu : float64
        Expected counts, given the cell's counts outside the window.
    shape : float64
        Shape of the Gamma distribution of that expectation: the variance of mu is ``mu**2 / shape``.
    """

    band: NDArray[np.int16]
    phase: NDArray[np.int16]
    y: NDArray[np.int32]
    x: NDArray[np.int32]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    n: NDArray[np.int32]
    mu: Floats
    shape: Floats

    def __len__(self) -> int:
        return len(self.n)
