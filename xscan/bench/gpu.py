"""What only a device can show: the search beside a copy of the same memory, and views without the upload."""

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
from xscan.model import Expectation, Observation, Photons
from xscan.search.observation import SubsetSearch, search_observation

__all__ = ["cube_that_fits", "flag_kernel", "views_after_upload"]

SIDE = 129  # cells; the whole field in cells of 20 arcsec
PER_VOXEL = 0.0075  # photons; as in 100 ks in frames of 5 s
LAUNCHES = 20  # in a row, so that what starting one costs is hidden behind the one before
SPARE = 1 << 30  # bytes, for photons, tables and hits beside two cubes
FLAG = "flag_voxels"


def cube_that_fits(device: Device, n_voxels: int) -> int:
    """Return the number of voxels, at most those asked for, of which a device holds two cubes."""
    return max(min(n_voxels, (device.free_bytes() - SPARE) // (2 * 4)), 4 * SIDE**2)


def flag_kernel(device: Device, name: str, n_voxels: int, repeat: int) -> list[Measurement]:
    """Measure the kernel that searches a cube beside a copy of the cube on the device.

    Parameters
    ----------
    device : Device
    name : str
        What the measurements call the backend.
    n_voxels : int
        In the cube, at least, if the device holds two of it.
    repeat : int
        Samples of each, taken in turn.

    Returns
    -------
    list of Measurement
        ``bandwidth``, %: bytes of the cube over the kernel's time, in the bytes that a copy reads and
        writes in its time. Once as in quiet data, where almost no cell can be eclipsed, and once with every
        voxel's expectation worked out.
    """
    n_voxels = cube_that_fits(device, n_voxels)
    grid = Grid(0.0, 5000, math.ceil(n_voxels / SIDE**2), SIDE, Box(0, SIDE, 0, SIDE))
    rng = np.random.default_rng(3)
    remembering: Any = Remembering(device)
    backend = CudaBackend(remembering, cpu_backend(), cube_bytes=4 * SIDE**2 * (grid.nt + 4))
    counts = backend.load(_photons(rng, grid)).bin(grid, 0, 12_000)
    at = {"voxels": float(np.prod(grid.shape))}
    taken: list[Measurement] = []
    copy: Any = None  # one for both: the device may have room for no third cube
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
    """A device that remembers the last launch of each kernel; in everything else it is the device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.last: dict[str, Sequence[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(self, kernel: str, *arguments: Any) -> None:
        """Launch, and remember with what."""
        self.last[kernel] = arguments
        self._device.launch(kernel, *arguments)


def _photons(rng: np.random.Generator, grid: Grid) -> Photons:
    """Spread photons over a grid, made in the order in which they must be: sorting 7.5 million takes long."""
    span, n_cells = grid.nt * grid.dt_ms, grid.box.ny * grid.box.nx
    n = int(PER_VOXEL * n_cells * grid.nt)
    cell, tick = np.divmod(np.sort(rng.integers(0, n_cells * span, n)), span)
    offsets = np.searchsorted(cell, np.arange(n_cells + 1))
    pixel, camera = np.ones(n, np.uint16), np.zeros(n, np.uint8)
    columns = (tick.astype(np.int32), pixel, pixel, pixel * 1000, camera, pixel.astype(np.uint32))
    return Photons(grid.box, offsets.astype(np.int64), *columns)


def _quiet(grid: Grid) -> Expectation:
    """Expect as many photons as there are, everywhere alike."""
    ny, nx, nt = grid.shape
    template = np.full((2, ny, nx), PER_VOXEL)
    return Expectation(template, np.zeros_like(template), np.ones(nt), np.ones(nt), np.zeros(nt, np.uint8))


def _one_bright_frame(grid: Grid) -> Expectation:
    """Expect so many in the first frame that each cell could have an eclipse, and is looked at in every frame."""
    expected = _quiet(grid)
    expected.rate[0] = 100 / PER_VOXEL
    return expected


class Uploading(CudaBackend):
    """Uploads photons when they are loaded, not when they are first needed."""

    def load(self, photons: Photons) -> CudaLoaded:
        """Prepare photons for binning."""
        loaded = super().load(photons)
        for name in ("tick", "cell", "pi", "camera"):
            loaded.column(name)
        return loaded


def views_after_upload(
    device: Device, name: str, workload: str, observation: Observation, config: ScanConfig, repeat: int
) -> list[Measurement]:
    """Measure all views of an observation, from photons on the device to regions with place and light curve."""
    backend = Uploading(device, cpu_backend())
    _views(observation, config, backend)  # buffers and caches
    walls = tuple(1000 * _views(observation, config, backend).wall for _ in range(repeat))
    return [Measurement("views", workload, name, "wall", "ms", walls)]


def _views(observation: Observation, config: ScanConfig, backend: Uploading) -> Seconds:
    searches, _ = search_observation(observation, config, backend)
    return sum((timed(subset_views) for subset_views in map(_exhaust, searches)), Seconds())


def _exhaust(subset: SubsetSearch) -> Any:
    """Give what searches all views of a subset when it is called."""
    return lambda: [None for _ in subset.views]
