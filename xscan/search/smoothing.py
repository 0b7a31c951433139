"""Smooth images of counts: narrowly for the templates, widely for the mean around each cell."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Surroundings", "smooth"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

KERNEL_SIGMA = 0.5  # cells
KERNEL_SIZE = 5  # cells
LOCAL_SIGMA = 3.0  # cells; chosen for cells of 20 arcsec: 1 arcmin, narrower than a CCD
LOCAL_RADIUS = 8  # cells
OVERALL_COUNTS = 1.0  # weight of the whole image's mean in a local mean, counts


def smooth(image: Floats) -> Floats:
    """Return the mean around each cell, weighted by a 5 x 5 Gaussian of sigma 0.5 cell; shape (ny, nx)."""
    out = _correlated(image, _narrow_kernel())
    return out / (_part_inside(image.shape[0])[:, None] * _part_inside(image.shape[1]))


class Surroundings:
    """Chosen cells of an image, with which local means are computed: Gaussian weights of sigma 3 cells.

    Attributes
    ----------
    chosen : bool array, shape (ny, nx)
    """

    def __init__(self, chosen: Bools) -> None:
        self.chosen = chosen
        self._n = np.count_nonzero(chosen)
        self._weight = _wide(chosen.astype(np.float64))

    def mean(self, image: NDArray[np.integer]) -> Floats:
        """Return the mean of the chosen cells around each cell of an image of counts.

        Parameters
        ----------
        image : int array, shape (ny, nx)

        Returns
        -------
        float64 array, shape (ny, nx)
            The mean of a Gamma distribution whose prior is the mean of all chosen cells, with the weight of one
            count: that mean itself far from all chosen cells, or where counts are very few. 0 where there is no count.
        """
        counted = np.where(self.chosen, image, 0)
        counts = int(counted.sum())
        if counts == 0:
            return np.zeros(image.shape)
        prior_cells = OVERALL_COUNTS * self._n / counts
        return (_wide(counted.astype(np.float64)) + OVERALL_COUNTS) / (self._weight + prior_cells)


def _wide(image: Floats) -> Floats:
    return np.maximum(_correlated(image, _wide_kernel()), 0.0)


def _correlated(image: Floats, kernel: Floats) -> Floats:
    rows = ndimage.correlate1d(image, kernel, axis=0, mode="constant")
    return np.asarray(ndimage.correlate1d(rows, kernel, axis=1, mode="constant"))


@lru_cache(maxsize=1)
def _wide_kernel() -> Floats:
    offset = np.arange(-LOCAL_RADIUS, LOCAL_RADIUS + 1)
    kernel: Floats = np.exp(-(offset**2) / (2 * LOCAL_SIGMA**2))
    kernel.setflags(write=False)
    return kernel


@lru_cache(maxsize=1)
def _narrow_kernel() -> Floats:
    """Return the kernel along one axis, its sum 1."""
    offset = np.arange(KERNEL_SIZE) - KERNEL_SIZE // 2
    kernel: Floats = np.exp(-(offset**2) / (2 * KERNEL_SIGMA**2))
    kernel /= kernel.sum()
    kernel.setflags(write=False)
    return kernel


@lru_cache(maxsize=8)
def _part_inside(n: int) -> Floats:
    """Return the part of the narrow kernel that lies inside a row of cells, for each cell."""
    part: Floats = ndimage.correlate1d(np.ones(n), _narrow_kernel(), mode="constant")
    part.setflags(write=False)
    return part
