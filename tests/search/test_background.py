from __future__ import annotations

import numpy as np
import pytest
from helpers.lists import binned, chosen, joined
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from xscan.backends import get_backend
from xscan.config import Rules
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Frames, Photons, Sources, Voxels
from xscan.search import exod2
from xscan.search.background import (
    _third_quartile,
    constant_sources,
    expectation,
    on_detector,
    source_disks,
    source_mask,
    without_flagged,
)
from xscan.search.exod2 import inpaint
from xscan.search.smoothing import Surroundings, smooth
from xscan.sky import TangentPlane

OURS = Rules()
LEGACY = Rules(**dict.fromkeys(Rules.__dataclass_fields__, False))
PLANE = TangentPlane(150.0, 2.0)
GRID = Grid(0.0, 10_000, 40, 129, Box(50, 80, 52, 77), EPIC.sky)


def test_smoothing_by_hand() -> None:
    image = np.zeros((7, 7))
    image[3, 3] = 1.0
    kernel = exod2.smooth(image, normalised=False)
    side, corner = np.exp(-2.0), np.exp(-4.0)
    assert kernel.sum() == pytest.approx(1)
    assert kernel[3, 4] / kernel[3, 3] == pytest.approx(side)
    assert kernel[4, 4] / kernel[3, 3] == pytest.approx(corner)
    assert kernel[3, 5] / kernel[3, 3] == pytest.approx(np.exp(-8.0))
    flat = np.ones((9, 9))
    assert exod2.smooth(flat, normalised=False)[0, 4] < 0.9  # EXOD2 loses up to 13 % at the edge
    rough = np.random.default_rng(5).poisson(3.0, (12, 9)).astype(float)
    for ones in (smooth(flat), exod2.smooth(flat, normalised=True)):
        np.testing.assert_allclose(ones, 1.0, rtol=1e-14)
    np.testing.assert_allclose(smooth(rough), exod2.smooth(rough, normalised=True), rtol=1e-13)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_the_third_quartile_is_numpys(counts: list[int]) -> None:
    assert _third_quartile(np.array(counts)) == np.percentile(counts, 75)


def test_exod2s_source_mask_counts_empty_cells() -> None:
    source_mask = exod2.source_mask
    image = np.zeros((4, 4), np.int64)
    image[0] = [1, 4, 3, 9]
    disks = np.zeros((4, 4), bool)
    disks[3, 3] = True
    # eleven of the 15 cells outside the disk are empty: the 75th percentile is half way from 0 to 1
    assert np.flatnonzero(source_mask(image, disks)[0]).tolist() == [1, 2, 3]
    image[1:] = 1
    image[0, 2] = 3
    mask = source_mask(image, disks)  # 75th percentile 1: above 3 is bright, 3 is not
    assert np.argwhere(mask).tolist() == [[0, 1], [0, 3], [3, 3]]
    everything = np.ones((4, 4), bool)
    np.testing.assert_array_equal(source_mask(image, everything), everything)


def sources(offsets_arcsec: list[tuple[float, float]], rate: float = 0.05, extent: float = 0.0) -> Sources:
    x, y = (25_921 + np.array(axis) / 0.05 for axis in zip(*offsets_arcsec, strict=True))
    ra, dec = PLANE.to_icrs(x, y)
    n = len(ra)
    return Sources(ra, dec, np.full(n, 20.0), np.full(n, extent), np.full(n, rate))


@pytest.mark.parametrize(
    ("rate", "extent", "radius"), [(0.1, 0, 20), (0.11, 0, 40), (1.0, 0, 40), (1.1, 0, 80), (0.05, 65, 65)]
)
def test_source_disks_against_distances_on_the_sky(rate: float, extent: float, radius: float) -> None:
    offset = (13.0, -41.0)
    mask = source_disks(sources([offset], rate, extent), PLANE, GRID, OURS)
    y, x = np.mgrid[: GRID.box.ny, : GRID.box.nx]
    x_arcsec = (GRID.to_pixel(x + GRID.box.x0) - 25_921) * 0.05
    y_arcsec = (GRID.to_pixel(y + GRID.box.y0) - 25_921) * 0.05
    np.testing.assert_array_equal(mask, np.hypot(x_arcsec - offset[0], y_arcsec - offset[1]) <= radius)


def test_unlikely_sources_and_sources_outside_mask_nothing() -> None:
    faint = sources([(0.0, 0.0)])
    faint = Sources(faint.ra_deg, faint.dec_deg, np.array([8.0]), faint.extent_arcsec, faint.rate)
    assert not source_disks(faint, PLANE, GRID, OURS).any()
    far = sources([(5000.0, 0.0), (0.0, -5000.0)])
    for rules in (OURS, LEGACY):
        assert not source_disks(far, PLANE, GRID, rules).any()
    behind = Sources(*(np.array([v]) for v in (330.0, -2.0, 20.0, 0.0, 1.0)))
    assert not source_disks(behind, PLANE, GRID, OURS).any()
    assert not source_disks(None, PLANE, GRID, OURS).any()


def test_a_source_at_the_edge_masks_what_is_inside() -> None:
    edge = (GRID.to_pixel(GRID.box.x0 - 1) - 25_921) * 0.05
    mask = source_disks(sources([(float(edge), 0.0)], rate=0.5), PLANE, GRID, OURS)
    assert mask.any()
    assert not source_disks(sources([(float(edge), 0.0)], rate=0.5), PLANE, GRID, LEGACY).any()


def steady(rng: np.random.Generator, source_rate: float = 0.0) -> Photons:
    """A flat field of 2 counts a cell and frame, with a constant source in one cell."""
    n = 2 * GRID.box.nx * GRID.box.ny * GRID.nt
    extra = rng.poisson(source_rate * GRID.nt)
    x = np.concatenate([rng.integers(50, 80, n), np.full(extra, 60)])
    y = np.concatenate([rng.integers(52, 77, n), np.full(extra, 70)])
    tick = rng.integers(0, GRID.nt * GRID.dt_ms, n + extra)
    return binned(tick, x, y)


def frames(bad: list[int] | None = None, rejected: list[int] | None = None) -> Frames:
    flags = [np.isin(np.arange(GRID.nt), chosen or []) for chosen in (bad, rejected)]
    return Frames(flags[0], flags[1], np.ones(GRID.nt))


def test_expectation_recovers_a_flat_sky_and_a_source(rng: np.random.Generator) -> None:
    counts = get_backend("numpy").load(steady(rng, source_rate=200.0)).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    expected, mask = expectation(counts.images(frames().kind()), counts, frames(), none, OURS)
    assert np.argwhere(mask).tolist() == [[70 - 52, 60 - 50]]
    source = expected.source[0][mask][0]
    assert source == pytest.approx(200, rel=0.05)
    mu = expected.row(18)
    assert mu[10].mean() == pytest.approx(202, rel=0.05)
    assert np.delete(mu, 10, axis=0).mean() == pytest.approx(2, rel=0.05)
    # raised by a count at most, where it lies below the usual rate
    assert (
        (expected.background_counts >= counts.counts_per_frame(~mask))
        & (expected.background_counts <= counts.counts_per_frame(~mask) + 1)
    ).all()


def test_every_expected_count_was_counted(rng: np.random.Generator) -> None:
    """Summed over everything outside the mask, mu is the counts, whatever the frames."""
    counts = get_backend("numpy").load(steady(rng)).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    made = frames(bad=[3, 4, 5, 30], rejected=[7, 31])
    expected, mask = expectation(counts.images(made.kind()), counts, made, none, OURS)
    mu = np.stack([expected.row(y) for y in range(GRID.box.ny)])
    assert mu[~mask].sum() == pytest.approx(counts.images(made.kind()).sum(axis=0)[~mask].sum(), rel=2e-3)
    assert (mu[:, :, made.rejected] == 0).all()
    assert (mu[:, :, 3] > 0).all()


def test_exod2s_cells_without_a_template_are_undefined(rng: np.random.Generator) -> None:
    p = steady(rng)
    y, x = p.cells()
    keep = ~((x == 55) & (y == 60) & (p.tick < 30 * GRID.dt_ms))
    p = chosen(p, keep)
    counts = get_backend("numpy").load(p).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    made = frames(bad=list(range(30, 40)))
    expected, _ = expectation(counts.images(made.kind()), counts, made, none, LEGACY)
    cell = expected.row(8)[5]
    assert (cell[:30] == 0).all()  # never a count in good frames
    assert (cell[30:] > 0).all()


def test_no_good_frame_and_no_frame_at_all(rng: np.random.Generator) -> None:
    counts = get_backend("numpy").load(steady(rng)).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    every = list(range(GRID.nt))
    expected, _ = expectation(counts.images(frames(bad=every).kind()), counts, frames(bad=every), none, OURS)
    assert np.isfinite(expected.template).all()
    assert expected.row(3).mean() == pytest.approx(2, rel=0.1)
    expected, _ = expectation(counts.images(frames(rejected=every).kind()), counts, frames(rejected=every), none, OURS)
    assert not np.any([expected.row(y) for y in range(GRID.box.ny)])


def test_inpainting_fills_from_the_surroundings() -> None:
    image = np.full((12, 15), 7, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[4:6, 5:8] = True
    image[mask] = 900
    np.testing.assert_allclose(inpaint(image, mask), 7, rtol=1e-5)


def test_local_means_by_hand() -> None:
    image = np.zeros((5, 5), np.int64)
    image[2, 2], image[2, 3] = 3, 5
    chosen = np.zeros(image.shape, bool)
    chosen[2, 2:4] = True
    near = np.exp(-1 / 18)  # one cell away, with a sigma of three
    expected = (3 + 5 * near + 1) / (1 + near + 2 / 8)  # and one count of the mean, 4
    around, mean = Surroundings.of(chosen, image)
    assert mean[2, 2] == pytest.approx(expected)
    of_each = around.mean(np.stack([image * 0, image, image * 2]))
    np.testing.assert_array_equal(of_each[:2], [image * 0, mean])
    assert of_each[2, 2, 2] == pytest.approx((2 * (3 + 5 * near) + 1) / (1 + near + 1 / 8))
    np.testing.assert_array_equal(Surroundings.of(chosen & False, image)[1], 0)
    far = np.zeros((40, 40), np.int64)
    far[0, 0] = 7
    assert Surroundings.of(far > 0, far)[1][30, 30] == pytest.approx(7)


@pytest.mark.parametrize("mean", [0.02, 0.15, 1.0, 8.0, 100.0])
def test_a_mask_of_a_quiet_sky_is_nearly_empty_and_holds_what_is_bright(mean: float, rng: np.random.Generator) -> None:
    """Also where three cells in four are empty, so that the 75th percentile is 0."""
    image = rng.poisson(mean, (90, 90))
    none = np.zeros(image.shape, bool)
    assert source_mask(image, none).sum() <= 8
    bright = int(max(3.2 * (mean + 5 * np.sqrt(mean / 50)), poisson.isf(1e-6, mean + 0.1))) + 2
    for place in ((45, 45), (0, 89), (20, 3)):
        image[place] = bright
        assert source_mask(image, none)[place]
    assert source_mask(image, ~none).all()
    np.testing.assert_array_equal(source_mask(image * 0, none), none)


def test_the_mask_follows_a_slope() -> None:
    """A smooth hill is no source, however far it rises above the rest of the field."""
    y, x = np.mgrid[:80, :80]
    hill = np.round(20 + 60 * np.exp(-((y - 40) ** 2 + (x - 40) ** 2) / (2 * 15**2))).astype(np.int64)
    assert not source_mask(hill, np.zeros(hill.shape, bool)).any()


def few(rng: np.random.Generator, n: int, source: int = 0, until: int = GRID.nt) -> Photons:
    """A few background photons, and those of a steady source, in the first frames."""
    tick = rng.integers(0, until * GRID.dt_ms, n + source)
    x = np.concatenate([rng.integers(50, 80, n), np.full(source, 60)])
    y = np.concatenate([rng.integers(52, 77, n), np.full(source, 70)])
    return binned(tick, x, y)


def expect(p: Photons, made: Frames, rules: Rules = OURS) -> tuple[Expectation, np.ndarray, np.ndarray]:
    counts = get_backend("numpy").load(p).bin(GRID, 200, 900)
    images = counts.images(made.kind())
    expected, mask = expectation(images, counts, made, np.zeros((GRID.box.ny, GRID.box.nx), bool), rules)
    return expected, mask, images


def cube(expected: Expectation) -> np.ndarray:
    return np.stack([expected.row(y) for y in range(GRID.box.ny)])


@pytest.mark.parametrize("bad", [[], [0, 1, 2], list(range(30)), list(range(40))])
@pytest.mark.parametrize("n", [100, 300])
def test_a_steady_source_is_expected_however_few_the_counts_and_whatever_the_frames(
    bad: list[int], n: int, rng: np.random.Generator
) -> None:
    expected, mask, _ = expect(few(rng, n, source=200), frames(bad))
    assert np.argwhere(mask).tolist() == [[18, 10]]
    np.testing.assert_allclose(cube(expected)[18, 10], 5, rtol=0.1)


@pytest.mark.parametrize("n", [0, 1, 3, 30])
def test_nothing_is_expected_to_be_less_than_its_surroundings_know(n: int, rng: np.random.Generator) -> None:
    """Where there is a count, or beside it, a cell expects a fair part of the mean of the field."""
    expected, _, images = expect(few(rng, n, source=40), frames([0, 1, 2]))
    cells = on_detector(images.sum(axis=0))
    mu = cube(expected)[cells]
    assert np.isfinite(mu).all()
    usual = n / np.count_nonzero(cells) / GRID.nt
    assert (mu.mean(axis=1) >= 0.1 * usual).all()


def test_the_rarer_frames_borrow_the_template_of_the_others(rng: np.random.Generator) -> None:
    """A burst in little bad time must not be held against itself; much bad time keeps what is its own."""
    for n_bad, most in ((2, 0.15), (20, 0.75)):
        bad = list(range(n_bad))
        sky = few(rng, 20_000)
        burst = binned(rng.integers(0, 2 * GRID.dt_ms, 12), np.full(12, 60), np.full(12, 70))
        with_burst, _, images = expect(joined(sky, burst), frames(bad))
        without, _, _ = expect(sky, frames(bad))
        own = images[1][18, 10] / images[1].sum()
        borrowed = without.template[0][18, 10]
        share = (with_burst.template[1][18, 10] - borrowed) / (own - borrowed)
        assert 0 <= share < most
    one, _, _ = expect(few(rng, 1000, until=30), frames(list(range(30, 40))))
    np.testing.assert_array_equal(one.template[0], one.template[1])  # no count in bad time: nothing of its own


def test_a_long_bad_time_keeps_its_own_template(rng: np.random.Generator) -> None:
    """The good sky is flat, the bad one has twice as many counts on one side: 400 counts a cell."""
    n = 300_000
    x = np.concatenate([rng.integers(50, 80, n), rng.integers(50, 65, n)])
    tick = np.concatenate([rng.integers(0, 40 * GRID.dt_ms, n), rng.integers(0, 19 * GRID.dt_ms, n)])
    expected, _, images = expect(binned(tick, x, rng.integers(52, 77, 2 * n)), frames(list(range(19))))
    own = images[1] / images[1].sum()
    assert np.median(np.abs(expected.template[1] / own - 1)) < 0.03
    assert expected.template[1][:, :15].mean() / expected.template[1][:, 15:].mean() > 2.9


@given(
    n=st.tuples(st.integers(0, 400), st.integers(0, 4000)),
    background=st.tuples(st.floats(0, 50), st.floats(0, 500)),
    live=st.tuples(st.floats(0, 30), st.floats(0, 30)),
)
def test_one_strength_is_the_most_likely_one(
    n: tuple[int, int], background: tuple[float, float], live: tuple[float, float]
) -> None:
    mu = np.array(live) > 0.01
    live_k, counts, b = np.where(mu, live, 0.0), np.where(mu, n, 0), np.where(mu, background, 0.0)
    template = np.array(b).reshape(2, 1, 1)
    kind = np.array([0, 1], np.uint8)
    expected = Expectation(template, template * 0, np.ones(2), live_k, kind)
    fitted = constant_sources(expected, counts.reshape(2, 1, 1), np.ones((1, 1), bool))
    assert fitted[0] == fitted[1]
    strength = float(fitted[0, 0, 0])
    assert strength >= 0

    def likelihood(s: float) -> float:
        total = b + s * live_k
        return float(sum(k * np.log(m) - m for k, m in zip(counts, total, strict=True) if m > 0 or k > 0))

    if mu.any() and (b + strength * live_k + (counts == 0) > 0).all():
        tolerance = 1e-7 * (1 + counts.sum() + b.sum())
        for other in (strength * 0.99, strength * 1.01 + 1e-9, strength + 0.1):
            if (b + other * live_k + (counts == 0) > 0).all():
                assert likelihood(strength) >= likelihood(other) - tolerance


def test_a_burst_is_no_constant_source_and_no_eclipse_of_all_other_time(rng: np.random.Generator) -> None:
    """2000 counts in one frame of 40 are 50 counts a frame: every other frame would be an eclipse."""
    burst = binned(rng.integers(7 * GRID.dt_ms, 8 * GRID.dt_ms, 2000), np.full(2000, 60), np.full(2000, 70))
    expected, mask, images = expect(joined(few(rng, 3000), burst), frames([1]))
    mu = cube(expected)[18, 10]
    assert mu[20] > 40
    one = np.ones(1, np.int32)
    found = Voxels(10 * one, 18 * one, 7 * one, 2000 * one, mu[[7]], np.zeros(1, bool))
    again = without_flagged(expected, images, mask, found)
    assert (cube(again)[18, 10] < 1).all()
    hidden = np.flatnonzero(np.arange(GRID.nt) != 7).astype(np.int32)
    both = Voxels(
        np.full(40, 10, np.int32), np.full(40, 18, np.int32), np.append(7, hidden).astype(np.int32),
        np.append(2000, 0 * hidden).astype(np.int32), mu[np.append(7, hidden)], np.arange(40) > 0,
    )  # fmt: skip
    np.testing.assert_array_equal(without_flagged(expected, images, mask, both).source, again.source)
    elsewhere = Voxels(one, one, one, one, mu[[1]], np.zeros(1, bool))
    assert without_flagged(expected, images, mask, elsewhere) is expected
