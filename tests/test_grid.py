from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from xscan.grid import Box, Grid, cells_across, cells_of, ticks_of
from xscan.missions.xmm.instrument import EPIC
from xscan.sky import TangentPlane, separation_arcsec

GRID = Grid(t0=1000.0, dt_ms=5000, nt=4, n_cells=129, box=Box(10, 20, 30, 35), sky=EPIC.sky)


def test_cells_of_the_papers_size() -> None:
    assert cells_across(20.0, EPIC.sky) == 129
    assert GRID.cell_arcsec == pytest.approx(20.093, abs=1e-3)


@given(st.integers(1, 51_840), st.sampled_from([20.0, 10.0, 7.5, 60.0]))
def test_a_pixel_lies_in_its_cell(pixel: int, cell_arcsec: float) -> None:
    n = cells_across(cell_arcsec, EPIC.sky)
    cell = int(cells_of(np.array([pixel]), n, 51_840)[0])
    side = 51_840 / n
    assert 0 <= cell < n
    assert cell * side <= pixel
    assert pixel < (cell + 1) * side or pixel == 51_840


def test_edges_belong_to_the_later_frame() -> None:
    ticks = ticks_of(1000.0 + np.array([0, 4.9995, 5, 10, 19.999, 20, -0.0001]), 1000.0)
    assert (ticks // 5000).tolist() == [0, 0, 1, 2, 3, 4, -1]
    np.testing.assert_array_equal(GRID.frame_edges(), [1000, 1005, 1010, 1015, 1020])


@given(st.floats(0, 2e5), st.sampled_from([5, 50, 200, 7.5, 0.1]))
def test_ticks_agree_with_exact_arithmetic(seconds: float, dt: float) -> None:
    from fractions import Fraction

    t0 = 130_002_747.97168797
    time = t0 + seconds
    exact = (Fraction(time) - Fraction(t0)) / Fraction(str(dt))
    assert int(ticks_of(np.array([time]), t0)[0]) // round(dt * 1000) == exact.__floor__()


def test_centre_of_a_cell() -> None:
    pixels = np.arange(1, 51_840)
    of_cell = pixels[cells_of(pixels, 129, 51_840) == 64]
    # pixel X covers X - 0.5 .. X + 0.5: the cell's middle is that of its pixels
    assert float(GRID.to_pixel(64)) == pytest.approx((of_cell[0] - 0.5 + of_cell[-1] + 0.5) / 2, abs=1)
    assert float(GRID.to_pixel(64)) == pytest.approx(25_919.5)


def test_box_around_cells() -> None:
    box = Box.around(np.array([3, 5]), np.array([7, 7]))
    assert (box, box.nx, box.ny) == (Box(3, 6, 7, 8), 3, 1)


@pytest.mark.parametrize(("ra", "dec"), [(263.6579, -32.556), (0.001, 0.0), (10.0, 89.5), (150.1, 2.2)])
def test_tangent_plane_against_astropy(ra: float, dec: float, rng: np.random.Generator) -> None:
    plane = TangentPlane(ra, dec)
    wcs = WCS(naxis=2)
    wcs.wcs.crpix = [25_921, 25_921]
    wcs.wcs.cdelt = [-0.05 / 3600, 0.05 / 3600]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 2000.0
    x, y = rng.uniform(1, 51_840, (2, 200))
    theirs = wcs.pixel_to_world(x - 1, y - 1).icrs
    ours = SkyCoord(*plane.to_icrs(x, y), unit="deg")
    assert ours.separation(theirs).arcsec.max() < 1e-6
    back_x, back_y = plane.from_icrs(ours.ra.deg, ours.dec.deg)
    np.testing.assert_allclose([back_x, back_y], [x, y], atol=1e-5)


def test_behind_the_plane_there_is_no_pixel() -> None:
    assert np.isnan(TangentPlane(0.0, 0.0).from_icrs([180.0], [0.0])).all()


def test_separation() -> None:
    assert float(separation_arcsec(359.9999, 0, 0.0001, 0)) == pytest.approx(0.72)


def test_boxes_meet_grow_and_are_counted_from_a_corner() -> None:
    box, other = Box(3, 9, 5, 7), Box(0, 5, 6, 20)
    assert box.intersect(other) == other.intersect(box) == Box(3, 5, 6, 7)
    assert box.intersect(Box(20, 30, 0, 9)).nx < 0
    assert box.grown(2) == Box(1, 11, 3, 9)
    assert box.relative_to(Box(1, 50, 2, 50)) == Box(2, 8, 3, 5)
    y, x = np.divmod(np.arange(400), 20)
    inside = box.contains(y, x)
    assert inside.sum() == box.nx * box.ny
    assert Box.around(x[inside], y[inside]) == box
