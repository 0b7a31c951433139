"""What any device must give for windows of cells: one comparison with NumPy, and the fields it is made on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from helpers.kernel_net import cuda
from xscan.backends import WindowLoops, get_backend
from xscan.backends.cuda.device import Device
from xscan.missions.xmm.instrument import EPIC
from xscan.windows import BandModel, FineGrid, TimedPhotons, WindowLimits, Windows

BANDS = ((0, 5), (0, 2), (1, 4))


@dataclass(frozen=True)
class WindowCase:
    """Photons on a fine grid, and what is expected of them."""

    name: str
    photons: TimedPhotons
    grid: FineGrid
    bands: tuple[BandModel, ...]
    limits: WindowLimits


def fine_grid(ny: int, nx: int, nt: int) -> FineGrid:
    return FineGrid(t0=100.0, nt=nt, pixel=100, x0=7, y0=9, nx=nx, ny=ny, sky=EPIC.sky)


def timed(bins: object, y: object, x: object, band: object = 0) -> TimedPhotons:
    """Photons in order of time."""
    bins = np.asarray(bins, np.int32)
    order = np.argsort(bins, kind="stable")
    y, x, band = (np.broadcast_to(values, bins.shape)[order] for values in (y, x, band))
    index = np.arange(bins.size, dtype=np.int64)
    kinds = x.astype(np.int16), y.astype(np.int16), band.astype(np.uint8), np.zeros(bins.size, np.uint8)
    return TimedPhotons(index, bins[order], *kinds)


def photons_on(rng: np.random.Generator, grid: FineGrid, n: int, crowd: float = 0.1) -> TimedPhotons:
    """Photons everywhere; a share ``crowd`` in one cell at all times, as many in another within a few bins."""
    y, x, bins = (rng.integers(0, size, n) for size in (grid.ny, grid.nx, grid.nt))
    many = int(crowd * n)
    y[:many], x[:many] = grid.ny // 2, grid.nx // 2
    y[many : 2 * many], x[many : 2 * many] = grid.ny - 1, 1 % grid.nx
    bins[many : 2 * many] = np.minimum(grid.nt // 3 + rng.integers(0, 3, bins[many : 2 * many].size), grid.nt - 1)
    return timed(bins, y, x, rng.integers(0, 6, n))


def bands_on(rng: np.random.Generator, grid: FineGrid, n: int, n_components: int = 3) -> tuple[BandModel, ...]:
    """Expectations of about n photons: maps with holes, curves with gaps, and components that nothing has."""
    bands = []
    for lo, hi in BANDS:
        maps = rng.gamma(1.0, 1.0, (n_components, grid.ny, grid.nx)) * (rng.random((n_components, 1, 1)) < 0.8)
        maps *= rng.random(maps.shape) < 0.5
        maps[:, : grid.ny // 4, : grid.nx // 2] = 0  # cells of which nothing is expected
        rates = rng.gamma(1.0, 1.0, (n_components, grid.nt)) * (rng.random((n_components, grid.nt)) < 0.9)
        rates[:, grid.nt // 2 : grid.nt // 2 + 3] = 0
        curves = np.concatenate([np.zeros((n_components, 1)), np.cumsum(rates, axis=1)], axis=1)
        scale = (n + 1) * (hi - lo) / 5 / max((maps.sum((1, 2)) * curves[:, -1]).sum(), 1.0)
        bands.append(BandModel(lo, hi, np.zeros(n_components, np.int8), maps * scale, curves))
    return tuple(bands)


def limits_on(rng: np.random.Generator, grid: FineGrid, size: int, p: float) -> WindowLimits:
    mu_peak = np.concatenate([[0.0], gammaincinv(np.arange(1, size), p)])
    return WindowLimits(mu_peak, rng.random((grid.ny, grid.nx)) < 0.3)


def any_field(
    rng: np.random.Generator, shape: tuple[int, int, int], n: int, size: int = 40, p: float = 0.1, crowd: float = 0.1
) -> WindowCase:
    """A field of shape (ny, nx, nt) fine pixels and bins; limits reach to less than ``size`` counts."""
    grid = fine_grid(*shape)
    name = f"{n} photons on {shape}, limits {size} at {p}"
    return WindowCase(
        name, photons_on(rng, grid, n, crowd), grid, bands_on(rng, grid, n), limits_on(rng, grid, size, p)
    )


def on_its_limit() -> WindowCase:
    """All 5 counts of a cell, in a window as long as the time, whose mean is exactly the limit of 5: it does not pass.

    With mu = B = m and n = N, mu (a0 + m) and m (a0 + B) are the same numbers.
    """
    grid = fine_grid(4, 4, 8)
    maps, curves = np.full((1, 4, 4), 1 / 16), np.linspace(0, 3.0, 9)[None]
    limits = WindowLimits(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 3.0]), np.zeros((4, 4), bool))
    band = BandModel(0, 1, np.zeros(1, np.int8), maps, curves)
    return WindowCase("on its limit", timed([0, 1, 3, 5, 7], 1, 2), grid, (band,), limits)


def window_cases() -> Iterator[WindowCase]:
    """From the smallest to larger ones."""
    rng = np.random.default_rng(17)
    yield on_its_limit()
    for n in (0, 1, 2):
        yield any_field(rng, (4, 4, 9), n, p=0.9)
    for shape in ((3, 9, 20), (4, 5, 1), (5, 4, 2), (9, 7, 3), (6, 6, 4), (13, 10, 33)):
        yield any_field(rng, shape, 60, p=0.5)
        yield any_field(rng, shape, 600)
    yield any_field(rng, (11, 14, 2501), 3000)
    yield any_field(rng, (22, 19, 701), 5000, 20_000, crowd=0.4)
    yield any_field(rng, (8, 8, 4100), 700, crowd=0.5)


def more_than_room() -> WindowCase:
    """More windows in some phases of some bands than a device first has room for."""
    return any_field(np.random.default_rng(18), (20, 20, 5000), 60_000, p=0.9)


def huge_cell(n: int = 1_200_000) -> WindowCase:
    """100 ks of the whole field, most of its photons in one cell."""
    return any_field(np.random.default_rng(19), (360, 360, 40_001), n, 20_001, 1e-6, crowd=0.4)


def assert_same_windows(ours: Windows, theirs: Windows, name: str) -> None:
    for column in Windows.__slots__:
        left, right = getattr(ours, column), getattr(theirs, column)
        assert left.dtype == right.dtype, column
        np.testing.assert_array_equal(bits(left), bits(right), err_msg=f"{name}: {column}")


def bits(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values.view(np.int64) if values.dtype == np.float64 else values


def windows_of(loops: WindowLoops, case: WindowCase) -> Windows:
    return loops.passing_windows(case.photons, case.grid, case.bands, case.limits)


def compare_windows(device: Device, case: WindowCase, cube_bytes: int | None = None, host: str = "numpy") -> int:
    """Hold the windows that a device finds against those of another backend, to the last bit; give their number."""
    theirs = windows_of(get_backend(host).windows, case)
    assert_same_windows(windows_of(cuda(device, cube_bytes).windows, case), theirs, case.name)
    return len(theirs)
