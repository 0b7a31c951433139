from __future__ import annotations

import numpy as np
import pytest
from helpers.lists import binned, joined
from helpers.views import PLANE, view_data
from numpy.typing import NDArray
from scipy import optimize, stats
from soak import positions

from xscan.backends import Backend, cpu_backend, get_backend
from xscan.backends.numpy import NumpyPointSourceLoops
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CAMERAS, Expectation, Photons, Voxels
from xscan.pointsource.exposure import Holes, beyond
from xscan.pointsource.fit import HIDDEN_MAX, WIDER, WIDER_SPREAD, Points, Spots, density
from xscan.pointsource.psf import KING_SLOPE, cores_arcsec
from xscan.search import exod2
from xscan.search.position import RADIUS_ARCSEC, find_source, fit_point_source, region_centroids, region_positions
from xscan.search.regions import Region
from xscan.sky import Position, separation_arcsec

Floats = NDArray[np.float64]
GRID = Grid(0.0, 5000, 10, 129, Box(50, 80, 50, 80), EPIC.sky)
SHARE = np.array([0.58, 0.21, 0.21])
HALF = 60.0


def draw(
    rng: np.random.Generator, counts: float, background: float, x: float = 0.0, y: float = 0.0, core: float = 6.0
) -> Spots:
    """Photons of a source and of a flat background, so many in a square of 100 arcsec."""
    n, m = rng.poisson(counts), rng.poisson(background * (2 * HALF / 100) ** 2)
    camera = rng.choice(3, n + m, p=SHARE).astype(np.uint8)
    slope = rng.uniform(1.4, 1.6)
    radius = core * np.sqrt(rng.random(n) ** (1 / (1 - slope)) - 1)
    angle = rng.uniform(0, 2 * np.pi, n)
    px = np.concatenate([x + radius * np.cos(angle), rng.uniform(-HALF, HALF, m)])
    py = np.concatenate([y + radius * np.sin(angle), rng.uniform(-HALF, HALF, m)])
    expected = np.maximum(background, 0.1) / 100**2 * SHARE[camera]
    return Spots(px, py, camera, cores_arcsec(camera, np.full(n + m, 1200), 3.0, EPIC), expected, EPIC)


def place(spots: Spots, guess: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float, float] | None:
    bounds = (guess[0] - 30, guess[0] + 30, guess[1] - 30, guess[1] + 30)
    return find_source(spots, guess, bounds, (), cpu_backend().pointsource)


@pytest.mark.parametrize("counts", [10, 20, 60, 400, 2700])
def test_offsets_over_errors_are_rayleigh_whatever_the_width(rng: np.random.Generator, counts: int) -> None:
    ratios = []
    for _ in range(250):
        x, y = rng.uniform(-8, 8, 2)
        fit = place(draw(rng, counts, 8, x, y, core=rng.uniform(4, 9)))
        if fit is not None:
            ratios.append(np.hypot(fit[0] - x, fit[1] - y) / fit[2])
    assert len(ratios) >= 245
    assert 0.95 < np.median(ratios) < 1.35  # a Rayleigh's median is 1.18
    assert np.mean(np.array(ratios) > 3.5) < 0.05
    if counts >= 20:
        assert stats.kstest(ratios, "rayleigh").pvalue > 0.01


@pytest.mark.parametrize("core", [4.0, 9.0])
def test_a_wider_image_has_a_larger_error(rng: np.random.Generator, core: float) -> None:
    errors = [fit[2] for fit in (place(draw(rng, 400, 5, core=core)) for _ in range(10)) if fit]
    assert np.median(errors) == pytest.approx(core / np.sqrt(0.6 * 400), rel=0.15)


@pytest.mark.parametrize(("where", "cameras", "counts"), [
    ("gap", "m1", 60), ("gap", "pn", 400), ("gap", "all", 2000), ("column", "m2", 400), ("column", "pn", 60),
])  # fmt: skip
def test_beside_holes_too(where: str, cameras: str, counts: int) -> None:
    rng = np.random.default_rng(414)
    fields = {name: positions.make_field(rng, name) for name in CAMERAS}
    names = CAMERAS if cameras == "all" else (cameras,)
    offset, error, lost = positions.measure(rng, 200, counts, where, names, fields)
    assert lost <= 4
    assert stats.kstest(offset / error, "rayleigh").pvalue > 0.01
    if where == "gap" and cameras == "m1":  # and it is the holes that make it so
        offset, error, _ = positions.measure(rng, 100, counts, "blind", names, fields)
        assert np.median(offset / error) > 1.6


def test_the_fit_is_the_maximum_of_the_likelihood(rng: np.random.Generator) -> None:
    spots = draw(rng, 40, 20, 3.0, -4.0).within(0.0, 0.0, RADIUS_ARCSEC)
    gap = np.arange(-40.0, 41.0, 2.0)  # a strip that no camera sees
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(7.0, 17.0, 2.0), gap))
    seen = (spots.x < 6) | (spots.x > 16)
    spots = spots.chosen(seen)
    strip = [Holes(x, y, np.full(x.size, 4.0), np.full(x.size, camera, np.uint8)) for camera in range(3)]
    holes = Holes.joined([*strip, *(beyond(0.0, 0.0, RADIUS_ARCSEC, camera) for camera in range(3))])
    mean2 = np.array([np.mean(spots.core[spots.camera == camera] ** 2) for camera in range(3)])[holes.camera]

    def minus_log_likelihood(p: Floats) -> float:
        width, strength = np.exp(p[2]), np.exp(p[3:])
        f = [
            density((at.x - p[0]) ** 2 + (at.y - p[1]) ** 2, width**2 * core2)
            for at, core2 in ((spots, spots.core**2), (holes, mean2))
        ]
        seen = strength.sum() - (strength[holes.camera] * f[1] * holes.area).sum()
        prior = ((width / WIDER) + (WIDER / width)) / 2 / WIDER_SPREAD**2
        return float(seen + prior - np.log(strength[spots.camera] * f[0] + spots.background).sum())

    start = np.array([3.0, -4.0, 0.0, *np.log(40 * SHARE)])
    best = optimize.minimize(
        minus_log_likelihood, start, method="Nelder-Mead", options={"maxiter": 9000, "xatol": 1e-5}
    )
    fit = fit_point_source(spots, holes, (0.0, 0.0), get_backend("numpy").pointsource)
    assert fit is not None
    assert fit[:2] == pytest.approx(best.x[:2], abs=0.02)


class Pulled(NumpyPointSourceLoops):
    """What was asked of the backend on the way to the error, and the scatter that it gave."""

    def pulls(self, points: Points, fitted: Floats, strength: Floats, *absorbed: object) -> tuple[float, Floats]:
        self.settled = np.array([*fitted[:2], np.log(fitted[2]), *np.log(strength)])
        self.told = absorbed[-1]
        self.scatter, near = super().pulls(points, fitted, strength, *absorbed)
        return self.scatter, near


def test_the_error_is_of_the_curvature_of_the_likelihood(rng: np.random.Generator) -> None:
    """Held against differences of the likelihood itself, and of each photon's part: its whole matrix, inverted."""
    spots = draw(rng, 400, 20, 3.0, -4.0).within(0.0, 0.0, RADIUS_ARCSEC)
    gap = np.arange(-40.0, 41.0, 2.0)  # a strip that no camera sees
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(7.0, 17.0, 2.0), gap))
    spots = spots.chosen((spots.x < 6) | (spots.x > 16))
    strip = [Holes(x, y, np.full(x.size, 4.0), np.full(x.size, camera, np.uint8)) for camera in range(3)]
    holes = Holes.joined([*strip, *(beyond(0.0, 0.0, RADIUS_ARCSEC, camera) for camera in range(3))])
    backend = Pulled()
    assert fit_point_source(spots, holes, (0.0, 0.0), backend) is not None
    mean2 = np.array([np.mean(spots.core[spots.camera == camera] ** 2) for camera in range(3)])[holes.camera]

    def log_likelihood(p: Floats) -> Floats:
        """One of each photon, and last what is expected of all."""
        width, strength = np.exp(p[2]), np.exp(p[3:])
        f = [
            density((at.x - p[0]) ** 2 + (at.y - p[1]) ** 2, width**2 * core2)
            for at, core2 in ((spots, spots.core**2), (holes, mean2))
        ]
        seen = strength.sum() - (strength[holes.camera] * f[1] * holes.area).sum()
        prior = ((width / WIDER) + (WIDER / width)) / 2 / WIDER_SPREAD**2
        return np.append(np.log(strength[spots.camera] * f[0] + spots.background), -float(seen + prior))

    steps = 1e-3 * np.eye(6)
    best = backend.settled
    gradient = np.array([log_likelihood(best + h) - log_likelihood(best - h) for h in steps]) / 2e-3
    curvature = -np.array([
        [sum(a * b * log_likelihood(best + a * h + b * g).sum() for a in (-1, 1) for b in (-1, 1)) for h in steps]
        for g in steps
    ]) / 4e-6  # fmt: skip
    covariance = np.linalg.inv(curvature)
    np.testing.assert_allclose(
        backend.told, [covariance[0, 0], covariance[1, 1], covariance[0, 1]], rtol=0.02, atol=1e-4
    )
    moves = (covariance @ gradient[:, :-1])[:2]  # how far each photon moves the place
    assert backend.scatter == pytest.approx(float((moves**2).sum()), rel=0.02)


def with_gap(rng: np.random.Generator, counts: int) -> tuple[Spots, Holes]:
    spots = draw(rng, counts, 10).within(0.0, 0.0, RADIUS_ARCSEC)
    strip = np.arange(-30.0, 30.0, 2.0)
    gap = [Holes(strip * 0 + 5, strip, strip * 0 + 30, np.full(strip.size, c, np.uint8)) for c in range(3)]
    return spots, Holes.joined([*gap, *(beyond(0.0, 0.0, RADIUS_ARCSEC, c) for c in range(3))])


def same(one: object, other: object) -> None:
    """Hold two results against each other, to the last bit."""
    if isinstance(one, tuple):
        assert isinstance(other, tuple)
        for first, second in zip(one, other, strict=True):
            same(first, second)
    elif hasattr(one, "__slots__"):
        same(tuple(getattr(one, name) for name in one.__slots__), tuple(getattr(other, name) for name in one.__slots__))
    else:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("counts", [3, 20, 400, 5000])
def test_every_backend_fits_the_same_place(backend: Backend, rng: np.random.Generator, counts: int) -> None:
    numpy, loops = get_backend("numpy").pointsource, backend.pointsource
    for _ in range(5):
        spots, holes = with_gap(rng, counts)
        points = Points.of(spots, holes)
        seen = np.bincount(spots.camera, minlength=3) / 2
        places = rng.uniform(-20, 20, (30, 2))
        some = Points.of(spots.every(1 + len(spots.x) // 300), holes)
        assert numpy.likeliest(some, seen, places) == loops.likeliest(some, seen, places)
        one, other = numpy.settle(points, (2.0, 3.0)), loops.settle(points, (2.0, 3.0))
        assert (one is None) == (other is None)
        if one is None:
            continue
        same(one, other)
        fitted, strength = one[:3], one[3]
        same(numpy.curvature(points, fitted, strength), loops.curvature(points, fitted, strength))
        freed, by_width, told = rng.uniform(-1, 1, (3, 3)), (0.1, -0.2), (1.5, 1.7, -0.3)
        assert fit_point_source(spots, holes, (2.0, 3.0), numpy) == fit_point_source(spots, holes, (2.0, 3.0), loops)
        same(
            numpy.pulls(points, fitted, strength, freed, by_width, told),
            loops.pulls(points, fitted, strength, freed, by_width, told),
        )


def test_thousands_of_factors_do_not_underflow(backend: Backend, rng: np.random.Generator) -> None:
    spots, holes = with_gap(rng, 3000)
    points, strength = Points.of(spots, holes), np.bincount(spots.camera, minlength=3) / 2
    places = rng.uniform(-0.7, 0.7, (20, 2))
    log_likelihoods = [
        np.log(strength[spots.camera] * density((spots.x - x) ** 2 + (spots.y - y) ** 2, WIDER**2 * spots.core**2)
               + spots.background).sum()
        for x, y in places
    ]  # fmt: skip
    nothing = Points.of(spots, Holes(*(np.empty(0) for _ in range(3)), np.empty(0, np.uint8)))
    loops, numpy = backend.pointsource, get_backend("numpy").pointsource
    assert loops.likeliest(nothing, strength, places) == np.argmax(log_likelihoods)
    assert loops.likeliest(points, strength, places) == numpy.likeliest(points, strength, places)


def test_the_likeliest_place_has_the_largest_likelihood(backend: Backend, rng: np.random.Generator) -> None:
    spots, holes = with_gap(rng, 200)
    points, n = Points.of(spots, holes), spots.x.size
    places = rng.uniform(-15, 15, (40, 2))
    strength = np.bincount(spots.camera, minlength=3) / 2
    log_likelihoods = []
    for x, y in places:
        f = density((points.x - x) ** 2 + (points.y - y) ** 2, WIDER**2 * points.core2)
        missed = np.array([(f * points.area)[points.group == camera + 3].sum() for camera in range(3)])
        sent = strength / np.maximum(1 - missed, 1 / (1 + HIDDEN_MAX))
        log_likelihoods.append(np.log(sent[spots.camera] * f[:n] + spots.background).sum())
    assert backend.pointsource.likeliest(points, strength, places) == np.argmax(log_likelihoods)


def test_every_backend_gathers_the_same_events(backend: Backend, rng: np.random.Generator) -> None:
    n = 3000
    photons = binned(
        rng.integers(-2000, 60_000, n), rng.integers(55, 75, n), rng.integers(55, 75, n),
        x_px=rng.integers(25_000, 27_000, n), y_px=rng.integers(25_000, 27_000, n), pi=rng.integers(100, 12_000, n),
        camera=rng.integers(0, 3, n),
    )  # fmt: skip
    rate, live = rng.uniform(0, 3, 10), rng.uniform(0, 1, 10)
    template, source = rng.uniform(0, 0.1, (2, 30, 30)), rng.uniform(0, 0.1, (2, 30, 30))
    expected = Expectation(template, source, rate, live, rng.integers(0, 2, 10).astype(np.uint8))
    chosen = np.append(rng.random(10) < 0.6, np.ones(4, bool))[:10]  # who reads beyond its end finds frames chosen
    hidden = np.array([8 * 30 + 9, 8 * 30 + 9, 9 * 30 + 10])
    for box in (Box(57, 70, 58, 66), Box(50, 80, 50, 80), Box(50, 53, 50, 53)):
        for cells in (None, hidden):
            given = (photons, box, (200, 7000), expected, chosen, GRID, 25_921.0, 14.0, cells)
            one, other = get_backend("numpy").pointsource.spots_near(*given), backend.pointsource.spots_near(*given)
            assert (len(one.x) > 0) == (box.x1 > 53)
            same(one, other)


def test_few_photons_say_nothing(rng: np.random.Generator) -> None:
    one = np.array([1.0])
    assert place(Spots(one, one, np.zeros(1, np.uint8), one * 6, one * 1e-6, EPIC)) is None
    errors = [fit[2] for fit in (place(draw(rng, 0.001, 30)) for _ in range(20)) if fit]
    assert errors  # some thirty events of the background happen to have a place,
    assert min(errors) > 2  # which is not believed


@pytest.mark.parametrize(("n", "is_placed"), [(2, False), (3, True)])
def test_three_photons_have_a_place(n: int, is_placed: bool) -> None:
    x, y = np.array([0.0, 2.0, 1.0])[:n], np.array([0.0, 0.0, 2.0])[:n]
    spots = Spots(x, y, np.zeros(n, np.uint8), np.full(n, 6.0), np.full(n, 1e-6), EPIC)
    holes = beyond(0.0, 0.0, RADIUS_ARCSEC, 0)
    for fit in (place(spots), fit_point_source(spots, holes, (0.0, 0.0), cpu_backend().pointsource)):
        assert (fit is not None) is is_placed
        if fit is not None:
            assert fit[:2] == pytest.approx((1.0, 2 / 3), abs=0.1)
            assert 2 < fit[2] < 10


class Asked(NumpyPointSourceLoops):
    """What was asked of the backend: how many events, how many holes, and the places to begin at."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, Floats]] = []

    def likeliest(self, points: Points, strength: Floats, places: Floats) -> int:
        n = int(np.count_nonzero(points.group < points.n_cameras))
        self.asked.append((n, len(points.group) - n, places))
        return super().likeliest(points, strength, places)


@pytest.mark.parametrize(("n", "starts", "weighed"), [
    (24, 24, 24), (25, 13, 25), (49, 25, 49), (50, 17, 50), (299, 25, 299), (300, 24, 150), (601, 25, 201),
])  # fmt: skip
def test_the_fit_begins_at_the_guess_around_it_or_at_an_event(n: int, starts: int, weighed: int) -> None:
    """At most 25 of the events are tried, on at most 300 of them."""
    angle = np.arange(n)
    spots = Spots(
        np.cos(angle), np.sin(angle), np.zeros(n, np.uint8), np.full(n, 6.0), np.full(n, 1e-6), EPIC
    )  # fmt: skip
    backend = Asked()
    assert find_source(spots, (1.0, 2.0), (-16.0, 31.0, -30.0, 19.0), (), backend) is not None
    ((n_weighed, _, places),) = backend.asked
    assert n_weighed == weighed
    # of the 5 by 5 places 8 arcsec apart those within the bounds: x from -15 to 17, y from -14 to 18
    assert places[0].tolist() == [1.0, 2.0]
    grid = [[1.0 + dx, 2.0 + dy] for dx in range(-16, 17, 8) for dy in range(-16, 17, 8)]
    assert places[1:26].tolist() == grid
    assert len(places) == 26 + starts
    step = 1 + n // 25
    np.testing.assert_array_equal(places[26:], np.stack([spots.x, spots.y], axis=1)[::step])


def test_order_of_photons_is_irrelevant(rng: np.random.Generator) -> None:
    spots = draw(rng, 15, 5)
    order = rng.permutation(spots.x.size)
    first = place(spots)
    second = place(spots.chosen(order))
    assert first == pytest.approx(second, abs=1e-3)


def flat(mu: float, source: float = 0.0, cell: tuple[int, int] = (14, 14)) -> Expectation:
    template = np.full((2, 30, 30), mu)
    constant = np.zeros((2, 30, 30))
    constant[:, cell[1], cell[0]] = source
    return Expectation(template, constant, np.ones(10), np.ones(10), np.zeros(10, np.uint8))


def locate_one(
    found: Region, voxels: Voxels, photons: Photons, pi_range: tuple[int, int], expected: Expectation
) -> Position:
    data = view_data(voxels, photons, expected, GRID, pi_range)
    centroids = region_centroids([found], GRID, PLANE)
    (position,) = region_positions([found], centroids, data, (), cpu_backend().pointsource)
    return position


def region(cells: list[tuple[int, int]], t: int, eclipse: bool = False) -> tuple[Region, Voxels]:
    x, y = np.array(cells, np.int32).T
    box = Box.around(x + 50, y + 50)
    k = len(cells)
    voxels = Voxels(x, y, np.full(k, t, np.int32), np.full(k, 9, np.int32), np.full(k, 0.1), np.full(k, eclipse))
    return Region(0, box, k, float(x.mean()) + 50, float(y.mean()) + 50, np.arange(k)), voxels


def sky_photons(rng: np.random.Generator, place: tuple[float, float], frames: list[int], per_frame: int) -> Photons:
    """Photons of a point source at a pixel of the plane, in given frames."""
    n = per_frame * len(frames)
    core = 6.6 / 0.05
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
    place = locate_one(found, voxels, photons, (200, 2000), flat(0.01))
    offset = np.hypot(place.x_px - true[0], place.y_px - true[1]) * 0.05
    assert offset < 3 * place.error_arcsec
    assert place.error_arcsec < 1.8
    ra, dec = PLANE.to_icrs(place.x_px, place.y_px)
    assert (place.ra_deg, place.dec_deg) == pytest.approx((float(ra), float(dec)))


def test_other_frames_and_bands_take_no_part(rng: np.random.Generator) -> None:
    photons = sky_photons(rng, (25_990.0, 25_850.0), [3], 60)
    other = sky_photons(rng, (26_300.0, 26_300.0), [7], 600)
    both = joined(photons, other)
    found, voxels = region([(14, 14)], t=3)
    alone = locate_one(found, voxels, photons, (200, 2000), flat(0.01))
    beside = locate_one(found, voxels, both, (200, 2000), flat(0.01))
    assert alone == beside
    nothing = locate_one(found, voxels, photons, (600, 2000), flat(0.01))
    assert nothing == region_centroids([found], GRID, PLANE)[0]


def test_an_eclipse_lies_where_the_source_shines_otherwise(rng: np.random.Generator) -> None:
    true = (25_990.0, 25_850.0)
    photons = sky_photons(rng, true, [0, 1, 2, 3, 4, 6, 7, 8, 9], 40)
    found, voxels = region([(14, 14)], t=5, eclipse=True)
    place = locate_one(found, voxels, photons, (200, 2000), flat(0.01, source=40.0))
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
    place = locate_one(found, voxels, both, (200, 2000), expected)
    assert np.hypot(place.x_px - true[0], place.y_px - true[1]) * 0.05 < 3 * place.error_arcsec


def test_the_centroid_of_cells() -> None:
    found, _ = region([(14, 14)], t=3)
    place = region_centroids([found], GRID, PLANE)[0]
    assert (place.x_px, place.y_px) == (GRID.to_pixel(64), GRID.to_pixel(64))
    # gnomonic, small angles: 0.05 arcsec a pixel
    assert (place.dec_deg - 2.0) * 3600 == pytest.approx((place.y_px - 25_921) * 0.05, abs=0.5)
    assert place.error_arcsec == pytest.approx(20.093 / np.sqrt(12), abs=1e-3)
    two, _ = region([(14, 14), (15, 14)], t=3)
    assert region_centroids([two], GRID, PLANE)[0].error_arcsec < place.error_arcsec


def test_exod2s_place_lies_north_west_of_the_corner() -> None:
    found, _ = region([(14, 14)], t=3)
    ours = region_centroids([found], GRID, PLANE)[0]
    theirs = exod2.position(found.x, found.y, found.area, GRID, PLANE)
    # EXOD2's bias: the corner lies 10.05 arcsec south and east of the centre, its pixels count one of 4
    # arcsec too many, the shift goes 10 arcsec north and west: 5.6 arcsec north-west in all
    apart = float(separation_arcsec(ours.ra_deg, ours.dec_deg, theirs.ra_deg, theirs.dec_deg))
    assert apart == pytest.approx(5.6, abs=0.1)
    assert theirs.ra_deg < ours.ra_deg
    assert theirs.dec_deg > ours.dec_deg
