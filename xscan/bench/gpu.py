"""Measure what only a device shows: the search compared with copying its memory, and views without the upload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xscan.backends import cpu_backend
from xscan.backends.cuda.counts import CudaBackend, CudaLoaded
from xscan.backends.cuda.device import Device
from xscan.bayes import thresholds
from xscan.bench.clock import Seconds, timed
from xscan.bench.record import Measurement
from xscan.config import ScanConfig
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Observation, Photons
from xscan.search.observation import SubsetSearch, search_observation

__all__ = ["cube_that_fits", "flag_kernel", "views_after_upload"]

SIDE = 129  # cells; the whole field in cells of 20 arcsec
PER_VOXEL = 0.0075  # photons; as in 100 ks with frames of 5 s
LAUNCHES = 20  # in a row, so that each start is hidden behind the launch before
SPARE = 1 << 30  # bytes, for photons, tables and hits beside two cubes
FLAG = "flag_voxels"


def cube_that_fits(device: Device, n_voxels: int) -> int:
    """Return the number of voxels, at most those requested, of which a device can hold two cubes."""
    return max(min(n_voxels, (device.free_bytes() - SPARE) // (2 * 4)), 4 * SIDE**2)


def flag_kernel(device: Device, name: str, n_voxels: int, repeat: int) -> list[Measurement]:
    """Measure the kernel that searches a cube, compared with copying the cube on the device.

    Parameters
    ----------
    device : Device
    name : str
        Name of the backend in the measurements.
    n_voxels : int
        Least number in the cube, if the device can hold two of it.
    repeat : int
        Samples of each, taken alternately.

    Returns
    -------
    list of Measurement
        ``bandwidth``, %: bytes of the cube divided by the kernel's time, relative to the bytes that a copy reads and
        writes in its time. Once for quiet data, in which almost no cell can have an eclipse, and once with the
        expectation of every voxel computed.
    """
    n_voxels = cube_that_fits(device, n_voxels)
    grid = Grid(0.0, 5000, math.ceil(n_voxels / SIDE**2), SIDE, Box(0, SIDE, 0, SIDE), EPIC.sky)
    rng = np.random.default_rng(3)
    remembering: Any = Remembering(device)
    backend = CudaBackend(remembering, cpu_backend(), cube_bytes=4 * SIDE**2 * (grid.nt + 4))
    counts = backend.load(_photons(rng, grid)).bin(grid, 0, 12_000)
    at = {"voxels": float(np.prod(grid.shape))}
    taken: list[Measurement] = []
    copy: Any = None  # one for both: the device may have no room for a third cube
    for what, expected in (("flag kernel", _quiet(grid)), ("flag kernel, all", _one_bright_frame(grid))):
        counts.flag(expected, thresholds(3.0, counts.n_max()))
        launch = remembering.last[FLAG]
        cube = launch[2]
        copy = device.empty(cube.size, cube.dtype) if copy is None else copy
        pairs = [_pair(device, launch, cube, copy) for _ in range(repeat)]
        n_bytes = 4 * cube.size
        kernel = tuple(n_bytes / seconds for seconds, _ in pairs)
        copied = tuple(2 * n_bytes / seconds for _, seconds in pairs)
        share = tuple(100 * a / b for a, b in zip(kernel, copied, strict=True))
        taken.append(Measurement(what, "cube", name, "bandwidth", "%", share, at))
        taken.append(Measurement(what, "cube", name, "rate", "GB/s", _giga(kernel), at))
        taken.append(Measurement(f"copy beside {what}", "cube", name, "rate", "GB/s", _giga(copied), at))
    return taken


def _pair(device: Device, launch: Sequence[Any], cube: Any, copy: Any) -> tuple[float, float]:
    """Return the seconds of one search and of one copy, each the mean of many in a row."""

    def search() -> None:
        for _ in range(LAUNCHES):
            device.launch(FLAG, *launch)

    def duplicate() -> None:
        for _ in range(LAUNCHES):
            device.copy(copy, cube)

    return device.seconds(search) / LAUNCHES, device.seconds(duplicate) / LAUNCHES


def _giga(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(1e-9 * value for value in values)


class Remembering:
    """A device that records the last launch of each kernel; in everything else it is the device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.last: dict[str, Sequence[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(self, kernel: str, *arguments: Any) -> None:
        """Launch a kernel, and record its arguments."""
        self.last[kernel] = arguments
        self._device.launch(kernel, *arguments)


def _photons(rng: np.random.Generator, grid: Grid) -> Photons:
    """Return photons spread over a grid, made in their final order: sorting 7.5 million would take long."""
    span, n_cells = grid.nt * grid.dt_ms, grid.box.ny * grid.box.nx
    n = int(PER_VOXEL * n_cells * grid.nt)
    cell, tick = np.divmod(np.sort(rng.integers(0, n_cells * span, n)), span)
    offsets = np.searchsorted(cell, np.arange(n_cells + 1))
    pixel, camera = np.ones(n, np.uint16), np.zeros(n, np.uint8)
    columns = (tick.astype(np.int32), pixel, pixel, pixel * 1000, camera, pixel.astype(np.uint32))
    return Photons(grid.box, offsets.astype(np.int64), *columns, EPIC)


def _quiet(grid: Grid) -> Expectation:
    """Return an expectation equal to the mean number of photons, the same everywhere."""
    ny, nx, nt = grid.shape
    template = np.full((2, ny, nx), PER_VOXEL)
    return Expectation(template, np.zeros_like(template), np.ones(nt), np.ones(nt), np.zeros(nt, np.uint8))


def _one_bright_frame(grid: Grid) -> Expectation:
    """Return an expectation so large in the first frame that every voxel has to be examined for an eclipse."""
    expected = _quiet(grid)
    expected.background_counts[0] = 100 / PER_VOXEL
    return expected


class Uploading(CudaBackend):
    """A backend that uploads photons when they are loaded, not when they are first needed."""

    def load(self, photons: Photons) -> CudaLoaded:
        """Upload photons, and return them ready for binning."""
        loaded = super().load(photons)
        for name in ("tick", "cell", "pi", "camera"):
            loaded.column(name)
        return loaded


def views_after_upload(
    device: Device, name: str, workload: str, observation: Observation, config: ScanConfig, repeat: int
) -> list[Measurement]:
    """Measure all views of an observation, from photons on the device to regions with position and light curve."""
    backend = Uploading(device, cpu_backend())
    _views(observation, config, backend)  # buffers and caches
    walls = tuple(1000 * _views(observation, config, backend).wall for _ in range(repeat))
    return [Measurement("views", workload, name, "wall", "ms", walls)]


def _views(observation: Observation, config: ScanConfig, backend: Uploading) -> Seconds:
    searches, _ = search_observation(observation, config, backend)
    return sum((timed(subset_views) for subset_views in map(_exhaust, searches)), Seconds())


def _exhaust(subset: SubsetSearch) -> Any:
    """Return a function that searches all views of a subset."""
    return lambda: [None for _ in subset.views]
