"""Assign photons to voxels: cells on the sky and frames in time.

Both conversions are integer arithmetic, so every backend on every machine gets the same result:
the time since t0 is converted to whole milliseconds once, and a frame is a whole number of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscan.errors import ConfigError
from xscan.sky import SkyPixels

__all__ = ["Box", "Grid", "cells_across", "cells_of", "ticks_of"]


def cells_across(cell_arcsec: float, sky: SkyPixels) -> int:
    """Number of cells along a side of the plane, for a nominal cell side in arcsec.

    Raises
    ------
    ConfigError
        If there is no cell, or there are more than 16-bit numbers can tell apart.

    Examples
    --------
    >>> cells_across(20.0, SkyPixels(51_840, 0.05))
    129
    """
    n_cells = int(sky.n / (cell_arcsec / sky.side_arcsec))
    if not 1 <= n_cells <= np.iinfo(np.int16).max:
        raise ConfigError(
            f"cells of {cell_arcsec:g} arcsec make {n_cells} along a plane of {sky.n * sky.side_arcsec:g} arcsec; "
            f"set search.cell_arcsec so that there are 1 to {np.iinfo(np.int16).max}"
        )
    return n_cells


def cells_of(pixels: NDArray[np.integer], n_cells: int, n_pixels: int) -> NDArray[np.int16]:
    """Return the cell (int16) of each sky pixel (integer, 1..n_pixels).

    The last pixel of the plane would begin a cell of its own; it is added to the last cell.

    Examples
    --------
    >>> cells_of(np.array([1, 401, 402, 51_840]), 129, 51_840).tolist()
    [0, 0, 1, 128]
    """
    cells = pixels.astype(np.int64) * n_cells // n_pixels
    return np.minimum(cells, n_cells - 1).astype(np.int16)


def ticks_of(time_s: NDArray[np.float64], t0: float) -> NDArray[np.int32]:
    """Return whole milliseconds (int32) since t0, rounded down, of times in s.

    Times more than 24 days away, which no exposure reaches, are clipped to the limits of int32.

    Examples
    --------
    >>> ticks_of(np.array([99.9995, 100.0, 102.5]), 100.0).tolist()
    [-1, 0, 2500]
    """
    limits = np.iinfo(np.int32)
    return np.clip(np.floor((time_s - t0) * 1000), limits.min, limits.max).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of cells of the plane, ``x0 <= x < x1`` and ``y0 <= y < y1``."""

    x0: int
    x1: int
    y0: int
    y1: int

    @property
    def nx(self) -> int:
        """Number of cells along x."""
        return self.x1 - self.x0

    @property
    def ny(self) -> int:
        """Number of cells along y."""
        return self.y1 - self.y0

    def intersect(self, other: Box) -> Box:
        """Return the cells that lie in both boxes; without any, ``nx`` or ``ny`` is not positive."""
        return Box(max(self.x0, other.x0), min(self.x1, other.x1), max(self.y0, other.y0), min(self.y1, other.y1))

    def grown(self, margin: int) -> Box:
        """Return the box with so many cells more on each side."""
        return Box(self.x0 - margin, self.x1 + margin, self.y0 - margin, self.y1 + margin)

    def relative_to(self, other: Box) -> Box:
        """Return the same cells, counted from the corner of another box."""
        return Box(self.x0 - other.x0, self.x1 - other.x0, self.y0 - other.y0, self.y1 - other.y0)

    def contains(self, y: NDArray[np.integer], x: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return which cells of the plane lie in the box."""
        return np.asarray((y >= self.y0) & (y < self.y1) & (x >= self.x0) & (x < self.x1))

    @classmethod
    def around(cls, x: NDArray[np.integer], y: NDArray[np.integer]) -> Box:
        """Return the smallest box that contains the cells x, y (at least one)."""
        return cls(int(x.min()), int(x.max()) + 1, int(y.min()), int(y.max()) + 1)


@dataclass(frozen=True, slots=True)
class Grid:
    """The voxels of one view; arrays over it have axes (y, x, t).

    Cell k of an axis covers sky pixels ``k * sky.n / n_cells <= X < (k + 1) * sky.n / n_cells``;
    frame k covers ``t0 + k * dt <= TIME < t0 + (k + 1) * dt``.

    Attributes
    ----------
    t0 : float
        Start of the first frame, s, mission time.
    dt_ms : int
        Length of a frame, ms.
    nt : int
        Number of frames.
    n_cells : int
        Cells along a side of the whole plane.
    box : Box
        The cells searched.
    sky : SkyPixels
        What cells are made of.
    """

    t0: float
    dt_ms: int
    nt: int
    n_cells: int
    box: Box
    sky: SkyPixels

    @property
    def dt_s(self) -> float:
        """Length of a frame, s."""
        return self.dt_ms / 1000

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (y, x, t)."""
        return self.box.ny, self.box.nx, self.nt

    @property
    def cell_arcsec(self) -> float:
        """True side of a cell, arcsec."""
        return self.sky.n / self.n_cells * self.sky.side_arcsec

    def frame_edges(self) -> NDArray[np.float64]:
        """Return the edges of the frames, shape (nt + 1,), s, mission time.

        Examples
        --------
        >>> grid = Grid(100.0, 50_000, 3, 129, Box(0, 129, 0, 129), SkyPixels(51_840, 0.05))
        >>> grid.frame_edges().tolist()
        [100.0, 150.0, 200.0, 250.0]
        """
        return np.asarray(self.t0 + np.arange(self.nt + 1) * self.dt_s, np.float64)

    def to_pixel(self, cell: ArrayLike) -> NDArray[np.floating]:
        """Return the sky pixel at the centre of a cell of the plane (either axis, fractions allowed).

        The half pixel is added only here in the whole package: pixel X covers ``X - 0.5 .. X + 0.5``.
        """
        middle: NDArray[np.float64] = np.asarray(cell, np.float64) + 0.5
        return middle * (self.sky.n / self.n_cells) - 0.5
