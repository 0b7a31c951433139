from __future__ import annotations

import numpy as np
import pytest
from fake import binned, joined
from numpy.typing import NDArray
from scipy import optimize, stats

from xscan.config import Rules
from xscan.detect import Region
from xscan.grid import Box, Grid
from xscan.model import Expectation, Frames, Photons, Voxels
from xscan.position import KING_CORE_ARCSEC, KING_SLOPE, _king, fit_place, locate, locate_cells
from xscan.sky import TangentPlane, separation_arcsec

Floats = NDArray[np.float64]
PLANE = TangentPlane(150.0, 2.0)
GRID = Grid(0.0, 5000, 10, 129, Box(50, 80, 50, 80))
CORES = np.array(list(KING_CORE_ARCSEC.values()))
HALF = 50.0


def draw(
    rng: np.random.Generator, counts: float, background: float, x: float = 0.0, y: float = 0.0
) -> tuple[Floats, Floats, NDArray[np.uint8], Floats]:
    """Photons of a source and of a flat background in a square of 100 arcsec."""
    n, m = rng.poisson(counts), rng.poisson(background)
    camera = rng.choice(3, n + m, p=[0.58, 0.21, 0.21]).astype(np.uint8)
    radius = CORES[camera[:n]] * np.sqrt(rng.random(n) ** (1 / (1 - KING_SLOPE)) - 1)
    angle = rng.uniform(0, 2 * np.pi, n)
    px = np.concatenate([x + radius * np.cos(angle), rng.uniform(-HALF, HALF, m)])
    py = np.concatenate([y + radius * np.sin(angle), rng.uniform(-HALF, HALF, m)])
    inside = (abs(px) < HALF) & (abs(py) < HALF)
    density = np.full(inside.sum(), max(background, 0.1) / (2 * HALF) ** 2)
    return px[inside], py[inside], camera[inside], density


def test_the_point_spread_function_is_king_s_and_its_integral_1() -> None:
    core = 6.6
    r = np.linspace(0, 2000 * core, 2_000_001)
    near = 1 + (r / core) ** 2
    density = _king(near, np.array(core**2))
    np.testing.assert_allclose(density * core**2 * np.pi / (KING_SLOPE - 1), near**-KING_SLOPE, rtol=1e-14)
    enclosed = np.trapezoid(2 * np.pi * r * density, r)
    assert enclosed == pytest.approx(1 - near[-1] ** (1 - KING_SLOPE), abs=1e-6)


@pytest.mark.parametrize(("counts", "background"), [(10, 1), (20, 10), (60, 5)])
def test_offsets_over_errors_are_rayleigh(rng: np.random.Generator, counts: float, background: float) -> None:
    ratios = []
    for _ in range(300):
        x, y = rng.uniform(-8, 8, 2)
        fit = fit_place(*draw(rng, counts, background, x, y), start=(0.0, 0.0))
        assert fit is not None
        ratios.append(np.hypot(fit[0] - x, fit[1] - y) / fit[2])
    assert 0.95 < np.median(ratios) < 1.35  # a Rayleigh's median is 1.18
    assert np.mean(np.array(ratios) > 3.5) < 0.03
    if counts >= 20:
        assert stats.kstest(ratios, "rayleigh").pvalue > 0.01


def test_the_fit_is_the_maximum_of_the_likelihood(rng: np.random.Generator) -> None:
    x, y, camera, density = draw(rng, 40, 20, 3.0, -4.0)
    core = CORES[camera]

    def minus_log_likelihood(p: Floats) -> float:
        r2 = ((x - p[0]) ** 2 + (y - p[1]) ** 2) / core**2
        king = (KING_SLOPE - 1) / (np.pi * core**2) * (1 + r2) ** -KING_SLOPE
        return float(p[2] - np.log(p[2] * king + density).sum())

    best = optimize.minimize(minus_log_likelihood, [2.0, -2.0, 30.0], method="Nelder-Mead", options={"xatol": 1e-6})
    fit = fit_place(x, y, camera, density, (0.0, 0.0))
    assert fit is not None
    assert fit[:2] == pytest.approx(best.x[:2], abs=0.02)


def test_few_photons_say_nothing(rng: np.random.Generator) -> None:
    one = np.array([1.0])
    assert fit_place(one, one, np.zeros(1, np.uint8), one * 1e-6, (0.0, 0.0)) is None
    x, y, camera, density = draw(rng, 0.001, 30)
    fit = fit_place(x, y, camera, density, (0.0, 0.0))
    assert fit is None or fit[2] > 2


def test_order_of_photons_is_irrelevant(rng: np.random.Generator) -> None:
    x, y, camera, density = draw(rng, 15, 5)
    order = rng.permutation(x.size)
    first = fit_place(x, y, camera, density, (0.0, 0.0))
    second = fit_place(x[order], y[order], camera[order], density[order], (0.0, 0.0))
    assert first == pytest.approx(second, abs=1e-6)


def flat(mu: float, source: float = 0.0, cell: tuple[int, int] = (14, 14)) -> Expectation:
    template = np.full((2, 30, 30), mu)
    constant = np.zeros((2, 30, 30))
    constant[:, cell[1], cell[0]] = source
    return Expectation(template, constant, np.ones(10), np.ones(10), np.zeros(10, np.uint8))


FRAMES = Frames(np.zeros(10, bool), np.zeros(10, bool), np.ones(10))


def region(cells: list[tuple[int, int]], t: int, eclipse: bool = False) -> tuple[Region, Voxels]:
    x, y = np.array(cells, np.int32).T
    box = Box.around(x + 50, y + 50)
    k = len(cells)
    voxels = Voxels(x, y, np.full(k, t, np.int32), np.full(k, 9, np.int32), np.full(k, 0.1), np.full(k, eclipse))
    return Region(0, box, k, float(x.mean()) + 50, float(y.mean()) + 50, np.arange(k)), voxels


def sky_photons(rng: np.random.Generator, place: tuple[float, float], frames: list[int], per_frame: int) -> Photons:
    """Photons of a point source at a pixel of the plane, in given frames."""
    n = per_frame * len(frames)
    core = KING_CORE_ARCSEC["pn"] / 0.05
    radius = core * np.sqrt(rng.random(n) ** (1 / (1 - KING_SLOPE)) - 1)
    angle = rng.uniform(0, 2 * np.pi, n)
    x, y = place[0] + radius * np.cos(angle), place[1] + radius * np.sin(angle)
    inside = (x > 51) & (x < 51_000) & (y > 51) & (y < 51_000)
    x, y = x[inside].astype(int), y[inside].astype(int)
    tick = np.repeat(frames, per_frame)[inside] * 5000 + 100
    return binned(tick, x * 129 // 51_840, y * 129 // 51_840, x_px=x, y_px=y)


def test_a_peak_lies_where_its_photons_are(rng: np.random.Generator) -> None:
    true = (25_990.0, 25_850.0)  # not the middle of its cell
    photons = sky_photons(rng, true, [3], 60)
    found, voxels = region([(14, 14)], t=3)
    place = locate(found, voxels, photons, (200, 2000), flat(0.01), FRAMES, GRID, PLANE, Rules())
    offset = np.hypot(place.x_px - true[0], place.y_px - true[1]) * 0.05
    assert offset < 3 * place.error_arcsec
    assert place.error_arcsec < 1.5
    ra, dec = PLANE.to_icrs(place.x_px, place.y_px)
    assert (place.ra_deg, place.dec_deg) == pytest.approx((float(ra), float(dec)))


def test_other_frames_and_bands_take_no_part(rng: np.random.Generator) -> None:
    photons = sky_photons(rng, (25_990.0, 25_850.0), [3], 60)
    other = sky_photons(rng, (26_300.0, 26_300.0), [7], 600)
    both = joined(photons, other)
    found, voxels = region([(14, 14)], t=3)
    alone = locate(found, voxels, photons, (200, 2000), flat(0.01), FRAMES, GRID, PLANE, Rules())
    beside = locate(found, voxels, both, (200, 2000), flat(0.01), FRAMES, GRID, PLANE, Rules())
    assert alone == beside
    nothing = locate(found, voxels, photons, (600, 2000), flat(0.01), FRAMES, GRID, PLANE, Rules())
    assert nothing == locate_cells(found, GRID, PLANE)


def test_an_eclipse_lies_where_the_source_shines_otherwise(rng: np.random.Generator) -> None:
    true = (25_990.0, 25_850.0)
    photons = sky_photons(rng, true, [0, 1, 2, 3, 4, 6, 7, 8, 9], 40)
    found, voxels = region([(14, 14)], t=5, eclipse=True)
    place = locate(found, voxels, photons, (200, 2000), flat(0.01, source=40.0), FRAMES, GRID, PLANE, Rules())
    assert np.hypot(place.x_px - true[0], place.y_px - true[1]) * 0.05 < 3 * place.error_arcsec
    assert place.error_arcsec < 1.2


@pytest.mark.parametrize("neighbour", [40, 160])
def test_an_eclipse_is_not_placed_on_a_neighbour(rng: np.random.Generator, neighbour: int) -> None:
    true = (25_990.0, 25_850.0)
    lit = [0, 1, 2, 3, 4, 6, 7, 8, 9]
    own = sky_photons(rng, true, lit, 40)
    other = sky_photons(rng, (true[0] + 900.0, true[1]), list(range(10)), neighbour)  # 45 arcsec away
    both = joined(own, other)
    found, voxels = region([(14, 14)], t=5, eclipse=True)
    expected = flat(0.01, source=30.0)
    y, x = both.cells()
    inside = (x >= 50) & (x < 80) & (y >= 50) & (y < 80)
    cell = (y[inside] - 50) * 30 + x[inside] - 50
    cells = np.bincount(cell, minlength=900).reshape(30, 30) / 10
    expected.source[:] = cells
    place = locate(found, voxels, both, (200, 2000), expected, FRAMES, GRID, PLANE, Rules())
    assert np.hypot(place.x_px - true[0], place.y_px - true[1]) * 0.05 < 3 * place.error_arcsec


def test_the_centroid_of_cells() -> None:
    found, _ = region([(14, 14)], t=3)
    place = locate_cells(found, GRID, PLANE)
    assert (place.x_px, place.y_px) == (GRID.to_pixel(64), GRID.to_pixel(64))
    # gnomonic, small angles: 0.05 arcsec a pixel
    assert (place.dec_deg - 2.0) * 3600 == pytest.approx((place.y_px - 25_921) * 0.05, abs=0.5)
    assert place.error_arcsec == pytest.approx(20.093 / np.sqrt(12), abs=1e-3)
    two, _ = region([(14, 14), (15, 14)], t=3)
    assert locate_cells(two, GRID, PLANE).error_arcsec < place.error_arcsec


def test_exod2s_place_lies_north_west_of_the_corner() -> None:
    found, voxels = region([(14, 14)], t=3)
    ours = locate_cells(found, GRID, PLANE)
    nothing = binned([0], 0, 0)
    theirs = locate(found, voxels, nothing, (200, 900), flat(1.0), FRAMES, GRID, PLANE, Rules(fitted_places=False))
    # EXOD2's bias: the corner lies 10.05 arcsec south and east of the centre, its pixels count one of 4
    # arcsec too many, the shift goes 10 arcsec north and west: 5.6 arcsec north-west in all
    apart = float(separation_arcsec(ours.ra_deg, ours.dec_deg, theirs.ra_deg, theirs.dec_deg))
    assert apart == pytest.approx(5.6, abs=0.1)
    assert theirs.ra_deg < ours.ra_deg
    assert theirs.dec_deg > ours.dec_deg
