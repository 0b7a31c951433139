"""Smooth images of counts: narrowly for the templates, widely for the mean around each cell."""

from __future__ import annotations

from dataclasses import dataclass
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


def smooth(images: Floats) -> Floats:
    """Return the mean around each cell, weighted by a 5 x 5 Gaussian of sigma 0.5 cell; shape (..., ny, nx).

    Examples
    --------
    A flat image stays flat to its edges, and a point keeps most of its counts:

    >>> image = np.zeros((5, 5))
    >>> image[2, 2] = 100.0
    >>> smooth(np.ones((5, 5)))[0, 0].round(6).tolist(), smooth(image)[2].round().tolist()
    (1.0, [0.0, 8.0, 62.0, 8.0, 0.0])
    """
    ny, nx = images.shape[-2:]
    return _correlated(images, _narrow_kernel()) / (_part_inside(ny)[:, None] * _part_inside(nx))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Chosen cells of an image, with which local means are computed: Gaussian weights of sigma 3 cells.

    Attributes
    ----------
    chosen : bool array, shape (ny, nx)
    weight : float64 array, shape (ny, nx)
        Sum of the weights of the chosen cells around each cell.
    """

    chosen: Bools
    weight: Floats

    @classmethod
    def of(cls, chosen: Bools, image: NDArray[np.integer]) -> tuple[Surroundings, Floats]:
        """Return the surroundings, and the means of an image (:meth:`mean`), which cost less when computed together."""
        counted = np.where(chosen, image, 0)
        weight, counts_around = _wide(np.stack([chosen, counted]).astype(np.float64))
        around = cls(chosen, weight)
        return around, around._mean(counted, counts_around)

    def mean(self, images: NDArray[np.integer]) -> Floats:
        """Return the mean of the chosen cells around each cell of images of counts.

        Parameters
        ----------
        images : int array, shape (..., ny, nx)

        Returns
        -------
        float64 array, shape (..., ny, nx)
            The mean of a Gamma distribution whose prior is the mean of all chosen cells, with the weight of one
            count: that mean itself far from all chosen cells, or where counts are very few. 0 where there is no count.
        """
        counted = np.where(self.chosen, images, 0)
        return self._mean(counted, _wide(counted.astype(np.float64)))

    def _mean(self, counted: NDArray[np.integer], counts_around: Floats) -> Floats:
        counts = counted.sum(axis=(-2, -1), keepdims=True)
        n_chosen = max(int(np.count_nonzero(self.chosen)), 1)
        prior_cells = OVERALL_COUNTS * n_chosen / np.maximum(counts, 1)
        return np.where(counts > 0, (counts_around + OVERALL_COUNTS) / (self.weight + prior_cells), 0.0)


def _wide(images: Floats) -> Floats:
    return np.maximum(_correlated(images, _wide_kernel()), 0.0)


def _correlated(images: Floats, kernel: Floats) -> Floats:
    """Correlate with a kernel along both axes; of several images at once, since a call costs as much as an image."""
    rows = ndimage.correlate1d(images, kernel, axis=-2, mode="constant")
    return np.asarray(ndimage.correlate1d(rows, kernel, axis=-1, mode="constant"))


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
