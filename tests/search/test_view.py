from __future__ import annotations

import numpy as np
from helpers.lists import binned
from helpers.views import view_data

from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Frames, Voxels

GRID = Grid(0.0, 5000, 4, 129, Box(40, 46, 60, 65), EPIC.sky)
ONES = np.ones((2, 5, 6))
EXPECTED = Expectation(ONES, 0 * ONES, np.ones(4), np.ones(4), np.zeros(4, np.uint8))
TWO = Voxels(np.array([1, 3]), np.array([2, 4]), np.array([0, 3]), np.array([2, 1]), np.ones(2), np.zeros(2, bool))


def test_photons_of_cells_in_and_outside_the_band_and_the_frames() -> None:
    """Cell (2, 1) and cell (4, 3): in frames 0 and 3, too early, too late, and of both energies beside the band."""
    tick, pi = [0, 4999, 20_000, -1, 100, 100, 15_000], [200, 1999, 500, 500, 199, 2000, 500]
    photons = binned(tick, [41] * 6 + [43], [62] * 6 + [64], pi)
    data = view_data(TWO, photons, EXPECTED, GRID, pi_range=(200, 2000))
    cells = data.cell_numbers()
    assert cells.tolist() == [2 * 6 + 1, 4 * 6 + 3]
    assert data.cell_numbers(np.array([1])).tolist() == [4 * 6 + 3]
    index, which, frame = data.photons_of_cells(cells[::-1])
    assert which.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert photons.tick[index].tolist() == [15_000, -1, 0, 100, 100, 4999, 20_000]
    assert frame.tolist() == [3, -1, 0, -1, -1, 0, -1]


def test_events_in_rejected_frames_are_in_no_image() -> None:
    frames = Frames(np.array([False, True, False, False]), np.array([False, False, True, False]), np.ones(4))
    data = view_data(TWO, binned([0, 5000, 10_000, 10_001, 15_000], 41, 62), EXPECTED, GRID, frames=frames)
    assert data.n_events_rejected == 2
    assert data.images[:, 2, 1].tolist() == [2, 1]
    assert data.image[2, 1] == data.image.sum() == 3
