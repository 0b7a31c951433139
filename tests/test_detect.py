from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from xscan.detect import regions
from xscan.grid import Box, Grid
from xscan.model import Voxels

GRID = Grid(0.0, 5000, 10, 129, Box(20, 32, 40, 50))


def voxels(cells: list[tuple[int, int, int]]) -> Voxels:
    """From (y, x, t)."""
    y, x, t = np.array(sorted(cells), np.int32).reshape(-1, 3).T
    return Voxels(x, y, t, t + 5, np.full(t.size, 0.1), np.zeros(t.size, bool))


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 11), st.integers(0, 9)), min_size=1, max_size=40))
def test_regions_against_skimage(cells: set[tuple[int, int, int]]) -> None:
    """Labels, boxes and centroids as scikit-image gives them on EXOD2's (x, y) arrays."""
    found_voxels = voxels(list(cells))
    image = np.random.default_rng(len(cells)).integers(0, 9, (10, 12))
    image[found_voxels.y, found_voxels.x] += 1
    flat = np.zeros((12, 10), bool)
    flat[found_voxels.x, found_voxels.y] = True
    theirs = regionprops(label(flat, connectivity=2), intensity_image=image.T)
    ours = regions(found_voxels, image, GRID)
    assert [r.label for r in ours] == list(range(len(theirs)))
    for mine, other in zip(ours, theirs, strict=True):
        x0, y0, x1, y1 = other.bbox
        assert mine.box == Box(x0 + 20, x1 + 20, y0 + 40, y1 + 40)
        assert mine.area == other.area
        assert (mine.x - 20, mine.y - 40) == pytest.approx(other.centroid_weighted)
    members = np.concatenate([r.members for r in ours])
    assert sorted(members) == list(range(len(found_voxels)))


def test_diagonal_neighbours_are_one_region() -> None:
    image = np.ones((10, 12), np.int64)
    assert len(regions(voxels([(1, 1, 0), (2, 2, 5), (3, 1, 9)]), image, GRID)) == 1
    assert len(regions(voxels([(1, 1, 0), (1, 3, 0)]), image, GRID)) == 2


def test_a_region_without_counts_has_a_place() -> None:
    (found,) = regions(voxels([(1, 1, 0), (1, 2, 0)]), np.zeros((10, 12), np.int64), GRID)
    assert (found.x, found.y) == (21.5, 41.0)
