from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from xscan.config import Rules
from xscan.detect import locate, regions
from xscan.grid import Box, Grid
from xscan.model import Voxels
from xscan.sky import TangentPlane, separation_arcsec

GRID = Grid(0.0, 5000, 10, 129, Box(20, 32, 40, 50))
PLANE = TangentPlane(150.0, 2.0)


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


def test_place_is_the_centre_of_the_cell() -> None:
    (found,) = regions(voxels([(4, 6, 0)]), np.ones((10, 12), np.int64), GRID)
    place = locate(found, 100, GRID, PLANE, Rules())
    x, y = GRID.to_pixel(26), GRID.to_pixel(44)
    assert (place.x_px, place.y_px) == (x, y)
    # gnomonic, small angles: 0.05 arcsec a pixel
    assert (place.dec_deg - 2.0) * 3600 == pytest.approx((float(y) - 25_921) * 0.05, abs=0.5)
    assert place.error_arcsec == pytest.approx(np.hypot(6 / 10, 20.093 / np.sqrt(12)), abs=1e-3)


def test_exod2s_place_lies_north_west_of_the_corner() -> None:
    (found,) = regions(voxels([(4, 6, 0)]), np.ones((10, 12), np.int64), GRID)
    ours = locate(found, 100, GRID, PLANE, Rules())
    theirs = locate(found, 100, GRID, PLANE, Rules(cell_centres=False))
    assert float(separation_arcsec(ours.ra_deg, ours.dec_deg, theirs.ra_deg, theirs.dec_deg)) > 3


def test_more_photons_and_more_cells_give_smaller_errors() -> None:
    image = np.ones((10, 12), np.int64)
    (one,) = regions(voxels([(4, 6, 0)]), image, GRID)
    (two,) = regions(voxels([(4, 6, 0), (4, 7, 0)]), image, GRID)
    assert locate(one, 10, GRID, PLANE, Rules()).error_arcsec > locate(one, 90, GRID, PLANE, Rules()).error_arcsec
    assert locate(two, 10, GRID, PLANE, Rules()).error_arcsec < locate(one, 10, GRID, PLANE, Rules()).error_arcsec
