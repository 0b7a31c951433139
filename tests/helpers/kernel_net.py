"""What any device must give: one comparison with NumPy, and the cases it is made on.

The same net is held under the CUDA backend on the CPU, under kernels with a planted defect (it must
catch them) and under a real GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.lists import OBSID, binned, quiet_list, with_burst, write_list
from xscan import api
from xscan.backends import Counts, get_backend
from xscan.backends.cuda.counts import CudaBackend
from xscan.backends.cuda.device import Device
from xscan.backends.cuda.memory import HITS
from xscan.backends.numpy import MU_MIN, NumpyBackend
from xscan.bayes import Thresholds, thresholds
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Photons, Voxels
from xscan.pipeline.scan import scan_folder

BAND = (400, 2000)


def cuda(device: Device, cube_bytes: int | None = None) -> CudaBackend:
    return CudaBackend(device, NumpyBackend(), cube_bytes)


@dataclass(frozen=True)
class Case:
    """A view of some photons, and what is expected; ``cube_bytes`` cuts it into slabs."""

    name: str
    photons: Photons
    grid: Grid
    expected: Expectation
    limits: Thresholds
    cube_bytes: int | None = None


def grid_of(ny: int, nx: int, nt: int, dt_ms: int = 5000) -> Grid:
    return Grid(t0=0.0, dt_ms=dt_ms, nt=nt, n_cells=129, box=Box(17, 17 + nx, 23, 23 + ny), sky=EPIC.sky)


def photons_round(rng: np.random.Generator, grid: Grid, n: int) -> Photons:
    """Photons in and around a grid: before, behind and beside it, and on both ends of the band."""
    box, end = grid.box, grid.nt * grid.dt_ms
    tick = rng.integers(-end // 8 - 3, end + end // 8 + 3, n)
    tick[: n // 8] = rng.choice([-grid.dt_ms, -1, 0, 1, grid.dt_ms - 1, grid.dt_ms, end - 1, end], n // 8)
    pi = np.where(rng.random(n) < 0.1, rng.choice([BAND[0] - 1, BAND[0], BAND[1] - 1, BAND[1]], n), 1000)
    x, y = rng.integers(box.x0 - 1, box.x1 + 1, n), rng.integers(box.y0 - 1, box.y1 + 1, n)
    return binned(tick, x, y, pi, rng.integers(0, 3, n))


def expectation_on(rng: np.random.Generator, grid: Grid, bright: float = 0.1) -> Expectation:
    """Factors of all sizes; ``bright`` is the share of cells with so bright a source that it can be eclipsed."""
    ny, nx, nt = grid.shape
    template = rng.gamma(1.0, 0.05, (2, ny, nx)) * (rng.random((2, ny, nx)) > 0.1)
    faint = rng.gamma(1.0, 0.1, (2, ny, nx)) * (rng.random((2, ny, nx)) < 0.3)
    source = np.where(rng.random((2, ny, nx)) < bright, rng.gamma(2.0, 20.0, (2, ny, nx)), faint)
    rate = rng.poisson(3.0, nt).astype(float)
    live = np.where(rate > 0, rng.uniform(0.5, 1, nt), 0.0)
    return Expectation(template, source, rate, live, rng.integers(0, 2, nt).astype(np.uint8))


def limits_that_occur(rng: np.random.Generator, grid: Grid, expected: Expectation, size: int) -> Thresholds:
    """Limits that are exactly some voxel's mu, in no order, so that many a voxel passes both or neither."""
    at = [rng.integers(0, n, (4, size)) for n in grid.shape]
    mu = np.sort(np.where(expected.at(*at) > 0, expected.at(*at), 0.3), axis=0)
    peak, eclipse = mu[1].copy(), mu[2].copy()
    crossed = rng.random(size) < 0.3
    peak[crossed], eclipse[crossed] = eclipse[crossed], peak[crossed]
    return Thresholds(peak, eclipse, 3.0)


def uniform(grid: Grid, mu: float) -> Expectation:
    ny, nx, nt = grid.shape
    template = np.full((2, ny, nx), mu)
    return Expectation(template, template * 0, np.ones(nt), np.ones(nt), np.zeros(nt, np.uint8))


def small_cases() -> Iterator[Case]:
    """From the smallest to larger ones: a kernel that strays is caught before it strays far."""
    rng = np.random.default_rng(7)
    table = thresholds(3, 100_000)
    for shape in ((5, 6, 7), (3, 7, 8), (1, 1, 1), (1, 9, 21), (6, 1, 3)):
        grid = grid_of(*shape)
        photons, expected = photons_round(rng, grid, 900), expectation_on(rng, grid)
        yield Case(f"random {shape}", photons, grid, expected, table)
        yield Case(f"on the limits {shape}", photons, grid, expected, limits_that_occur(rng, grid, expected, 1000))
        nothing = replace(expected, background_counts=expected.background_counts * 0, live=expected.live * 0)
        yield Case(f"all frames rejected {shape}", photons, grid, nothing, table)
    grid = grid_of(5, 6, 7)
    photons = photons_round(rng, grid, 900)
    for mu in (MU_MIN, np.nextafter(MU_MIN, 1), table.mu_peak[3], table.mu_eclipse[0], table.mu_eclipse[2]):
        yield Case(f"mu = {mu} everywhere", photons, grid, uniform(grid, mu), table)
    nowhere = expectation_on(rng, grid)
    nowhere.template[:, 2:, 1], nowhere.source[:, 1, 4] = np.nan, np.nan
    yield Case("factors that are no numbers", photons, grid, nowhere, table)
    yield Case("no photon", binned([], 0, 0), grid, expectation_on(rng, grid), table)
    yield Case("no photon inside", binned([-1, 0, 0], [20, 16, 20], [25, 25, 22]), grid, uniform(grid, 40.0), table)
    crowd = binned(np.full(70_000, 12_000), 18, 24)
    yield Case("70,000 counts in a voxel", crowd, grid, uniform(grid, 200.0), table)
    for frames in (1, 2):
        # slabs of 4 and 8 frames of 23, the last with 3 or 7
        grid = grid_of(4, 5, 23)
        photons, expected = photons_round(rng, grid, 3000), expectation_on(rng, grid, 0.3)
        size = frames * 4 * 4 * 5 * 4 + 15
        yield Case(f"slabs of {4 * frames} frames", photons, grid, expected, table, size)
    grid = grid_of(2, 2, (HITS + 300) // 4 + 1)
    yield Case("more hits than there is room for", photons_round(rng, grid, 500), grid, uniform(grid, 40.0), table)
    grid = grid_of(30, 31, 101)
    photons, expected = photons_round(rng, grid, 40_000), expectation_on(rng, grid)
    yield Case("more than a grid of threads", photons, grid, expected, table)
    yield Case("the same on the limits", photons, grid, expected, limits_that_occur(rng, grid, expected, 1000))


def snapped(rng: np.random.Generator, limits: Thresholds, grid: Grid, expected: Expectation) -> Thresholds:
    """Move each limit to the next larger mu that occurs."""
    at = [rng.integers(0, n, 100_000) for n in grid.shape]
    mu = np.unique(expected.at(*at))
    snap = lambda values: np.where(values > 0, mu[np.minimum(np.searchsorted(mu, values), mu.size - 1)], 0.0)  # noqa: E731
    return Thresholds(snap(limits.mu_peak), snap(limits.mu_eclipse), limits.sigma)


def large_case(nt: int = 20_003) -> Case:
    """2e8 voxels unless told, 3 million photons, crowded and empty cells, limits on mu that occur; four slabs."""
    rng = np.random.default_rng(8)
    grid = grid_of(100, 100, nt)
    n, end = 3_000_000, nt * grid.dt_ms
    place = rng.integers(0, 100, (2, n))
    tick = rng.integers(-20_000, end + 20_000, n)
    crowded, burst = slice(0, n // 10), slice(n // 10, n // 10 + 5000)
    place[:, crowded] = rng.integers(40, 43, (2, n // 10))
    place[:, burst], tick[burst] = 99, end - 1
    pi, camera = rng.integers(300, 2100, n), rng.integers(0, 3, n)
    photons = binned(tick, grid.box.x0 + place[0], grid.box.y0 + place[1], pi, camera)
    expected = expectation_on(rng, grid, bright=0.001)
    expected = replace(expected, template=np.round(expected.template, 2), live=np.round(expected.live, 1))
    return Case(f"{nt} frames", photons, grid, expected, snapped(rng, thresholds(3, 6000), grid, expected), 12_600 * nt)


def assert_same_voxels(ours: Voxels, theirs: Voxels) -> None:
    for name in Voxels.__slots__:
        left, right = getattr(ours, name), getattr(theirs, name)
        assert left.dtype == right.dtype, name
        np.testing.assert_array_equal(left, right, err_msg=name)


def compare(device: Device, case: Case) -> int:
    """Hold everything a backend gives against NumPy, to the last bit; give the number of flagged voxels."""
    ours = cuda(device, case.cube_bytes).load(case.photons).bin(case.grid, *BAND)
    theirs = NumpyBackend().load(case.photons).bin(case.grid, *BAND)
    assert (ours.n_events(), ours.n_max()) == (theirs.n_events(), theirs.n_max()), case.name
    assert_same_sums(ours, theirs, case.grid)
    found = theirs.flag(case.expected, case.limits)
    assert_same_voxels(ours.flag(case.expected, case.limits), found)
    some = chosen_voxels(found)
    np.testing.assert_array_equal(ours.by_camera(some), theirs.by_camera(some), err_msg=case.name)
    for y in {0, case.grid.box.ny // 2, case.grid.box.ny - 1}:
        np.testing.assert_array_equal(ours.dense_row(y), theirs.dense_row(y), err_msg=case.name)
    return len(found)


def compare_beyond_32_bits(device: Device) -> int:
    """More than 2^31 voxels in one cube of 8.7 GB; against the Numba backend, which keeps no cube."""
    rng = np.random.default_rng(12)
    grid = grid_of(129, 129, 130_001)
    assert np.prod(grid.shape) > 2**31
    p, expected, limits = photons_round(rng, grid, 2_000_000), expectation_on(rng, grid, 0.0), thresholds(3, 2_000_000)
    ours = cuda(device, 9 << 30).load(p).bin(grid, *BAND)
    theirs = get_backend("numba").load(p).bin(grid, *BAND)
    assert (ours.n_events(), ours.n_max()) == (theirs.n_events(), theirs.n_max())
    assert_same_sums(ours, theirs, grid)
    found = theirs.flag(expected, limits)
    assert_same_voxels(ours.flag(expected, limits), found)
    return len(found)


def assert_same_sums(ours: Counts, theirs: Counts, grid: Grid) -> None:
    rng = np.random.default_rng(9)
    ny, nx, nt = grid.shape
    for share in (0.0, 0.5, 1.0):
        kind, cells = rng.choice([-1, 0, 1], nt).astype(np.int8), rng.random((ny, nx)) < share
        same_array(ours.images(kind), theirs.images(kind))
        same_array(ours.counts_per_frame(cells), theirs.counts_per_frame(cells))
    box = Box(nx // 2, nx, 0, ny // 2 + 1)
    same_array(ours.box(box), theirs.box(box))


def same_array(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> None:
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_array_equal(ours, theirs)


def chosen_voxels(voxels: Voxels, most: int = 2000) -> Voxels:
    """At most so many of the voxels, in order."""
    index = np.unique(np.linspace(0, len(voxels) - 1, most).astype(int)) if len(voxels) else np.zeros(0, int)
    return Voxels(*(getattr(voxels, name)[index] for name in Voxels.__slots__))


def busy_folder(folder: Path, rng: np.random.Generator) -> Path:
    lists = [quiet_list(rng, camera, 2000.0) for camera in ("pn", "m1", "m2")]
    lists[0] = with_burst(lists[0], rng, 25, 700.0, 4.0, 27_000, 25_000)
    for fake in lists:
        write_list(folder / OBSID, fake)
    return folder / OBSID


def assert_same_tables(device: Device, folder: Path, backend: str = "numpy", **options: object) -> int:
    """Scan with a CPU's backend and with CUDA, whole and in slabs; give the number of events and regions."""
    scanner = api.scan_settings(backend=backend, **options).scanner()
    _, theirs = scan_folder(folder, scanner)
    for cube_bytes in (None, 4 << 20):
        _, ours = scan_folder(folder, replace(scanner, backend=cuda(device, cube_bytes)))
        for name in ("events", "regions", "voxels", "lightcurves"):
            assert ours.table(name).equals(theirs.table(name)), name
        clock = ["seconds_spent", "seconds_read", "finished_utc", "backend"]
        assert ours.runs.drop_columns(clock).equals(theirs.runs.drop_columns(clock))
        assert set(ours.runs["backend"].to_pylist()) == {"cuda"}
    return theirs.events.num_rows + theirs.regions.num_rows
