"""Build the expectation as EXOD2 does: for the profile ``exod2``, and for comparison."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xscan.backends import Counts
from xscan.config import Rules
from xscan.model import Expectation, Frames

__all__ = ["expectation", "inpaint", "smooth", "source_mask"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

BRIGHT_FACTOR = 3.0  # cells above this many times the 75th percentile are masked
INPAINT_RADIUS = 2  # cells
KERNEL_SIGMA = 0.5  # cells
KERNEL_SIZE = 5  # cells


def expectation(
    images: NDArray[np.int64], counts: Counts, frames: Frames, disks: Bools, rules: Rules
) -> tuple[Expectation, Bools]:
    """Build the expectation of every voxel as EXOD2 does.

    Parameters
    ----------
    images : int64 array, shape (2, ny, nx)
        Counts of the good and of the bad frames, from ``counts.images(frames.kind())``.
    counts : Counts
        The binned events of one view.
    frames : Frames
    disks : bool array, shape (ny, nx)
        Cells covered by listed sources (:func:`source_disks`).
    rules : Rules

    Returns
    -------
    expected : Expectation
    mask : bool array, shape (ny, nx)
        The source mask: listed sources and bright cells.

    Notes
    -----
    Khan et al. (2025): the image of the good (bad) frames, its masked cells in-painted, divided by
    the counts outside the mask and smoothed, is the template of the good (bad) frames; it is
    scaled by each frame's counts outside the mask. What the image has above the template inside
    the mask is a constant source.
    """
    kept = ~frames.rejected
    of_kind = [kept & ~frames.bad, kept & frames.bad]
    mask = source_mask(images[0], disks)
    rate = counts.rate(~mask)
    rate[frames.rejected] = 0
    templates, defined, outside = [], [], []
    for chosen, image in zip(of_kind, images, strict=True):
        total = int(rate[chosen].sum())
        templates.append(_template(image, mask, total, rules.edge_normalised))
        # an empty cell has no template, whatever smoothing or in-painting put there
        defined.append((image > 0) & (total > 0))
        outside.append(total)
    n_bad = np.count_nonzero(frames.bad)
    main = 0 if frames.bad.size - n_bad > n_bad else 1
    source = _source(images[main], templates[main], outside[main], mask & defined[main])
    live_frames = float(frames.live[of_kind[main]].sum())
    source = source / live_frames if live_frames > 0 else np.zeros_like(source)
    counted = (counts.rate(np.ones_like(mask)) > 0) & kept
    return (
        Expectation(
            template=np.where(defined, np.array(templates), 0.0),
            source=np.where(defined, source, 0.0),
            rate=rate.astype(np.float64),
            live=np.where(counted, frames.live, 0.0),
            kind=frames.bad.astype(np.uint8),
        ),
        mask,
    )


def _template(image: NDArray[np.integer], mask: Bools, total: int, normalised: bool) -> Floats:
    if total == 0:
        return np.zeros(image.shape)
    share = inpaint(image.astype(np.float32), mask).astype(np.float64) / total
    # float32 as EXOD2 stores it: part of the definition, so that all backends agree bit for bit
    return smooth(share, normalised).astype(np.float32).astype(np.float64)


def _source(image: NDArray[np.integer], template: Floats, total: int, where: Bools) -> Floats:
    return np.where(where, np.maximum(image - template * total, 0.0), 0.0)


def inpaint(image: NDArray[np.float32], mask: Bools) -> NDArray[np.float32]:
    """Return the image with masked cells filled from their surroundings (Navier-Stokes, radius 2 cells), float32.

    The result depends on the order of the axes; as in EXOD2 it is computed on (x, y).
    """
    holes = np.ascontiguousarray(mask.T, np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(image.T), holes, INPAINT_RADIUS, cv2.INPAINT_NS)
    return np.ascontiguousarray(filled.T, np.float32)


def smooth(image: Floats, normalised: bool) -> Floats:
    """Return the image convolved with a 5 x 5 Gaussian of sigma 0.5 cell.

    Parameters
    ----------
    image : float64 array, shape (ny, nx)
    normalised : bool
        Divide by the part of the kernel that lies inside the image; without it edge cells lose up to 13 %.
    """
    out: Floats = ndimage.convolve(image, _kernel(), mode="constant", cval=0.0)
    return out / _part_inside(image.shape) if normalised else out


def _kernel() -> Floats:
    offset = np.arange(KERNEL_SIZE) - KERNEL_SIZE // 2
    kernel = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * KERNEL_SIGMA**2))
    return kernel / kernel.sum()


@lru_cache(maxsize=8)
def _part_inside(shape: tuple[int, ...]) -> Floats:
    """Return the part of the kernel that lies inside an image, for each cell."""
    part: Floats = ndimage.convolve(np.ones(shape), _kernel(), mode="constant", cval=0.0)
    part.setflags(write=False)
    return part


def source_mask(image_good: NDArray[np.integer], disks: Bools) -> Bools:
    """Return the cells that hold sources: listed ones, and those far brighter than the rest.

    Parameters
    ----------
    image_good : int array, shape (ny, nx)
        Counts of the good frames.
    disks : bool array, shape (ny, nx)
    """
    elsewhere = image_good[~disks]
    if elsewhere.size == 0:
        return disks
    bright: Bools = image_good > BRIGHT_FACTOR * np.percentile(elsewhere, 75)
    return disks | bright
