"""What the search of one view works with, made by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xscan.backends.numpy import NumpyBackend
from xscan.grid import Grid
from xscan.model import Expectation, Frames, Photons, Voxels
from xscan.search.view import ViewData
from xscan.sky import TangentPlane

PLANE = TangentPlane(150.0, 2.0)


def view_data(
    voxels: Voxels,
    photons: Photons,
    expected: Expectation,
    grid: Grid,
    pi_range: tuple[int, int] = (200, 2000),
    frames: Frames | None = None,
    image: NDArray[np.integer] | None = None,
) -> ViewData:
    """Without ``frames`` all are good and live; without an ``image`` it is that of the photons."""
    frames = frames or Frames(np.zeros(grid.nt, bool), np.zeros(grid.nt, bool), np.ones(grid.nt))
    counts = NumpyBackend().load(photons).bin(grid, *pi_range)
    images = counts.images(frames.kind()) if image is None else np.stack([image, 0 * image])
    nothing = np.zeros((grid.box.ny, grid.box.nx), bool)
    return ViewData(photons, pi_range, PLANE, grid, frames, counts, images, nothing, nothing, expected, voxels)
