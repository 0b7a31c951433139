"""What every backend must give: counts, sums and flags, against slow and obvious ways."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.cuda_on_cpu import make_backend
from helpers.lists import binned, chosen
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xscan.backends import Backend, get_backend
from xscan.bayes import Thresholds, thresholds
from xscan.errors import ConfigError
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Photons, Voxels

GRID = Grid(t0=0.0, dt_ms=5000, nt=7, n_cells=129, box=Box(40, 46, 60, 65), sky=EPIC.sky)


def photons(rng: np.random.Generator, n: int) -> Photons:
    return binned(
        tick=rng.integers(-8000, 50_000, n),
        x=rng.integers(38, 48, n),
        y=rng.integers(58, 67, n),
        pi=rng.integers(200, 3000, n),
        camera=rng.integers(0, 3, n),
    )


def slow_cube(p: Photons, grid: Grid, lo: int, hi: int, camera: int | None = None) -> NDArray[np.int64]:
    cube = np.zeros(grid.shape, np.int64)
    for tick, y, x, pi, cam in zip(p.tick, *p.cells(), p.pi, p.camera, strict=True):
        t, column, row = int(tick) // grid.dt_ms, int(x) - grid.box.x0, int(y) - grid.box.y0
        inside = 0 <= t < grid.nt and 0 <= column < grid.box.nx and 0 <= row < grid.box.ny
        if inside and lo <= pi < hi and camera in (None, int(cam)):
            cube[row, column, t] += 1
    return cube


def dense_mu(e: Expectation) -> NDArray[np.float64]:
    """The cube that is never stored: mu in METHOD's order of operations."""
    ny, nx = e.template.shape[1:]
    mu = np.empty((ny, nx, len(e.background_counts)))
    for t, k in enumerate(e.kind):
        background = e.template[k] * e.background_counts[t]
        constant = e.source[k] * e.live[t]
        mu[:, :, t] = background + constant
    return mu


def some_expectation(rng: np.random.Generator, grid: Grid) -> Expectation:
    ny, nx, nt = grid.shape
    template = rng.gamma(1.0, 0.05, (2, ny, nx)) * (rng.random((2, ny, nx)) > 0.1)
    source = np.where(template > 0, rng.gamma(0.3, 20.0, (2, ny, nx)), 0.0)
    rate = rng.poisson(3.0, nt).astype(float)
    live = np.where(rate > 0, rng.uniform(0.5, 1, nt), 0.0)
    return Expectation(template, source, rate, live, rng.integers(0, 2, nt).astype(np.uint8))


def test_binning_against_a_loop(backend: Backend, rng: np.random.Generator) -> None:
    p = photons(rng, 3000)
    loaded = backend.load(p)
    for lo, hi in ((200, 2000), (2000, 12_000), (200, 12_000)):
        cube = slow_cube(p, GRID, lo, hi)
        counts = loaded.bin(GRID, lo, hi)
        for _ in range(2):  # the first time, and when other sums are known already
            kind = rng.integers(-1, 2, GRID.nt).astype(np.int8)
            for k, image in enumerate(counts.images(kind)):
                np.testing.assert_array_equal(image, cube[:, :, kind == k].sum(axis=2))
        assert (counts.n_events(), counts.n_max()) == (cube.sum(), cube.max())
        for part in (0.3, 0.7, 2.0):
            cells = rng.random(cube.shape[:2]) < part
            np.testing.assert_array_equal(counts.counts_per_frame(cells), cube[cells].sum(axis=0))
        np.testing.assert_array_equal(counts.box(Box(1, 4, 2, 5)), cube[2:5, 1:4].sum(axis=(0, 1)))


def test_edges_by_hand(backend: Backend) -> None:
    p = binned([0, 10_000, 34_999, 35_000, -1, 4_999], 41, 62)
    counts = backend.load(p).bin(GRID, 500, 501)
    assert counts.box(Box(1, 2, 2, 3)).tolist() == [2, 0, 1, 0, 0, 0, 1]
    assert backend.load(p).bin(GRID, 501, 900).n_events() == 0


def test_order_of_events_is_irrelevant(backend: Backend, rng: np.random.Generator) -> None:
    p = photons(rng, 2000)
    shuffle = rng.permutation(2000)
    q = chosen(p, shuffle)
    a, b = (backend.load(made).bin(GRID, 200, 3000) for made in (p, q))
    expected = some_expectation(rng, GRID)
    limits = thresholds(3, a.n_max())
    assert_same(a.flag(expected, limits), b.flag(expected, limits))


def assert_same(a: Voxels, b: Voxels) -> None:
    for name in ("x", "y", "t", "n", "mu", "eclipse"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)


def slow_flags(cube: NDArray[np.int64], mu: NDArray[np.float64], limits: Thresholds) -> list[tuple[int, ...]]:
    out = []
    for (y, x, t), n in np.ndenumerate(cube):
        m = mu[y, x, t]
        if m > 1e-7 and (m < limits.mu_peak[n] or m > limits.mu_eclipse[n]):
            out.append((y, x, t, int(n), bool(m > limits.mu_eclipse[n])))
    return out


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 4000))
def test_flags_against_a_dense_cube(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    p = photons(rng, n)
    expected, limits = some_expectation(rng, GRID), thresholds(3, 4000)
    cube, mu = slow_cube(p, GRID, 200, 3000), dense_mu(expected)
    every = []
    for name in ("numpy", "numba", "cuda", "cuda in slabs"):
        voxels = make_backend(name).load(p).bin(GRID, 200, 3000).flag(expected, limits)
        found = list(zip(voxels.y, voxels.x, voxels.t, voxels.n, voxels.eclipse, strict=True))
        assert found == slow_flags(cube, mu, limits), name
        np.testing.assert_array_equal(voxels.mu, mu[voxels.y, voxels.x, voxels.t])  # to the last bit
        every.append(voxels)
    for other in every[1:]:
        assert_same(every[0], other)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 2000), orderly=st.booleans())
def test_any_limits_will_do(seed: int, n: int, orderly: bool) -> None:
    """Another rule is another table: limits that cross, or do not rise with n, are obeyed as they stand."""
    rng = np.random.default_rng(seed)
    p, expected = photons(rng, n), some_expectation(rng, GRID)
    limits = [rng.gamma(0.5, 10.0, 2001) for _ in range(2)]
    if orderly:
        limits = [np.sort(values) for values in limits]
    limits[0][:2] = 0.0  # fewer than two counts are never too many
    table = Thresholds(*limits, 3.0)
    cube, mu = slow_cube(p, GRID, 200, 3000), dense_mu(expected)
    for name in ("numpy", "numba", "cuda"):
        voxels = make_backend(name).load(p).bin(GRID, 200, 3000).flag(expected, table)
        found = list(zip(voxels.y, voxels.x, voxels.t, voxels.n, voxels.eclipse, strict=True))
        assert found == slow_flags(cube, mu, table), name


@pytest.mark.parametrize("name", ["numba", "cuda"])
def test_what_compiled_code_would_misread_is_refused(name: str, rng: np.random.Generator) -> None:
    counts = make_backend(name).load(photons(rng, 500)).bin(GRID, 200, 3000)
    with pytest.raises(ValueError, match="shape"):
        counts.images(np.zeros(GRID.nt - 1, np.int8))
    with pytest.raises(ValueError, match="shape"):
        counts.counts_per_frame(np.ones((2, 2), bool))
    expected, limits = some_expectation(rng, GRID), thresholds(3, 100)
    short = Thresholds(limits.mu_peak[: counts.n_max()], limits.mu_eclipse, 3.0)
    with pytest.raises(ValueError, match="the limits reach to"):
        counts.flag(expected, short)
    with pytest.raises(ValueError, match="shape"):
        counts.flag(dataclasses.replace(expected, background_counts=expected.background_counts[1:]), limits)


def test_numba_says_that_it_looks_for_two_counts_or_more(rng: np.random.Generator) -> None:
    counts = get_backend("numba").load(photons(rng, 500)).bin(GRID, 200, 3000)
    one_is_many = Thresholds(np.linspace(0, 1, 500), np.linspace(9, 99, 500), 3.0)
    with pytest.raises(ValueError, match="fewer than two counts"):
        counts.flag(some_expectation(rng, GRID), one_is_many)


def test_two_counts_are_enough_where_almost_none_is_expected(backend: Backend) -> None:
    """The first and the last millisecond of a frame belong together; those of neighbours do not."""
    template = np.full((2, GRID.box.ny, GRID.box.nx), 1.1e-6)
    e = Expectation(template, template * 0, np.ones(7), np.ones(7), np.zeros(7, np.uint8))
    for ticks, flagged in (([5000, 9999], [1]), ([4999, 5000], []), ([9999, 10_000], []), ([0, 4999, 5000], [0])):
        voxels = backend.load(binned(ticks, 41, 62)).bin(GRID, 200, 3000).flag(e, thresholds(3, 5))
        assert voxels.t.tolist() == flagged


def test_the_separable_expectation_is_the_dense_one(rng: np.random.Generator) -> None:
    expected = some_expectation(rng, GRID)
    mu = dense_mu(expected)
    for y in range(GRID.box.ny):
        np.testing.assert_array_equal(expected.row(y), mu[y])
    y, x, t = (rng.integers(0, size, 50) for size in GRID.shape)
    np.testing.assert_array_equal(expected.at(y, x, t), mu[y, x, t])


def test_limits_are_strict(backend: Backend) -> None:
    """A voxel whose mu is exactly on a limit is ordinary; one step beyond it is flagged."""
    limits = thresholds(3, 40)
    for n, limit, eclipse in ((6, limits.mu_peak[6], False), (3, limits.mu_eclipse[3], True)):
        beyond = np.nextafter(limit, np.inf if eclipse else 0.0)
        for mu, flagged in ((limit, False), (beyond, True)):
            template = np.zeros((2, GRID.box.ny, GRID.box.nx))
            template[0, 2, 1] = mu
            e = Expectation(template, template * 0, np.ones(7), np.ones(7), np.zeros(7, np.uint8))
            p = binned(np.full(n, 12_000), 41, 62)
            voxels = backend.load(p).bin(GRID, 200, 3000).flag(e, limits)
            here = [(int(v), bool(low)) for v, low in zip(voxels.t, voxels.eclipse, strict=True) if v == 2]
            assert here == ([(2, eclipse)] if flagged else [])


def test_nothing_is_flagged_where_nothing_is_expected(backend: Backend) -> None:
    zero = np.zeros((2, GRID.box.ny, GRID.box.nx))
    for level in (0.0, 1e-7):
        e = Expectation(zero + level, zero, np.ones(7), np.ones(7), np.zeros(7, np.uint8))
        p = binned(np.zeros(9), 41, 62)
        assert len(backend.load(p).bin(GRID, 200, 3000).flag(e, thresholds(3, 20))) == 0


def test_counts_by_camera(backend: Backend, rng: np.random.Generator) -> None:
    p = photons(rng, 3000)
    counts = backend.load(p).bin(GRID, 200, 3000)
    y, x, t = (rng.integers(0, size, 30).astype(np.int32) for size in GRID.shape)
    order = np.unique(np.ravel_multi_index((y, x, t), GRID.shape))
    y, x, t = (values.astype(np.int32) for values in np.unravel_index(order, GRID.shape))
    voxels = Voxels(x, y, t, t, t.astype(float), t > 0)
    cubes = [slow_cube(p, GRID, 200, 3000, camera) for camera in range(3)]
    np.testing.assert_array_equal(counts.by_camera(voxels), np.column_stack([cube[y, x, t] for cube in cubes]))


def test_unknown_backend() -> None:
    with pytest.raises(ConfigError, match="known: auto, numpy, numba"):
        get_backend("abacus")
