"""Search voxels on a GPU: photons are uploaded once and binned into a cube of counts, of which each is examined.

The photons of a view are binned on the device and the cube is searched there by one kernel; only flagged voxels
are copied back. Images and rates are summed over the photons, which are far fewer bytes than the cube. The
kernels, and the reasons for them, are described in kernels/README.md.

A backend serves one thread: its buffers are shared by all photons it loads, and each result fills them again
if another result has used them since.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xscan.backends import Backend, Counts, WindowLoops
from xscan.backends.arguments import check_limits, checked
from xscan.backends.cuda.device import Device
from xscan.backends.cuda.memory import Workspace, cutting_smaller
from xscan.backends.cuda.windows import CudaWindows
from xscan.backends.numpy import MU_MIN
from xscan.bayes import Thresholds
from xscan.errors import DataError, Reason
from xscan.grid import Grid
from xscan.model import Expectation, Photons, Voxels

__all__ = ["CudaBackend"]

QUAD = 4  # frames that a thread of flag_voxels loads at once, 16 bytes
CELLS = 4  # cells that a thread has in flight
QUAD_THREADS = 128  # a block
QUAD_BLOCKS = 32  # approximate blocks per multiprocessor: a few times the number that run at once


class CudaBackend:
    """Bin and search on a device; clean and merge on the host.

    Parameters
    ----------
    device : Device
    host : Backend
        Its loops over events and around point sources are used: event lists are read from disk by the CPU anyway, and
        point sources are few.
    cube_bytes : int, optional
        Largest memory for the cube of counts; default: half of the free memory, at most 8 GiB. A view
        whose cube is larger is cut along time.
    """

    name: str = "cuda"

    def __init__(self, device: Device, host: Backend, cube_bytes: int | None = None) -> None:
        self.events, self.pointsource = host.events, host.pointsource
        self._workspace = Workspace(device, cube_bytes)
        self.windows: WindowLoops = CudaWindows(self._workspace)

    def load(self, photons: Photons) -> CudaLoaded:
        """Return the photons of a subset; they are uploaded when first needed."""
        self._workspace.renew()
        return CudaLoaded(self._workspace, photons)


class CudaLoaded:
    """Photons of a subset, uploaded column by column when first needed."""

    def __init__(self, workspace: Workspace, photons: Photons) -> None:
        self._workspace, self._photons = workspace, photons
        self.box, self.n_cameras = photons.box, len(photons.instrument.cameras)
        self._key = object()

    def bin(self, grid: Grid, pi_from: int, pi_to: int) -> CudaCounts:
        """Count the photons with ``pi_from <= PI < pi_to`` (eV) in the voxels of a grid."""
        counts = CudaCounts(self, self._workspace, grid, pi_from, pi_to)
        counts.n_events()  # bins them now, so that time and errors belong to this call
        return counts

    def n_photons(self) -> np.uint64:
        """Number of photons, as kernels take it."""
        return np.uint64(self._photons.tick.size)

    def column(self, name: str) -> Any:
        """Return a column of the photons on the device, uploaded unless it is there."""
        memory = self._workspace.memory
        column = memory.held(name, self._key)
        if column is None:
            column = memory.put(name, self._cell() if name == "cell" else getattr(self._photons, name))
            memory.mark(name, self._key)
        return column

    def _cell(self) -> NDArray[np.int32]:
        """Return the cell of each photon, numbered in the photons' box."""
        offsets = self._photons.offsets
        return np.repeat(np.arange(offsets.size - 1, dtype=np.int32), np.diff(offsets))


class Slab(NamedTuple):
    """Frames ``t_from <= t < t_to`` of a view; cells are ``pitch`` counts apart in the cube."""

    t_from: int
    t_to: int

    @property
    def quads(self) -> int:
        """Groups of four frames, the last one perhaps not full."""
        return -(-(self.t_to - self.t_from) // QUAD)

    @property
    def pitch(self) -> int:
        """Counts of a cell, padded so that each quad is aligned to 16 bytes."""
        return self.quads * QUAD


class CudaCounts(Counts):
    """Counts of one view; they stay in the device's cube until another view needs it."""

    def __init__(self, loaded: CudaLoaded, workspace: Workspace, grid: Grid, pi_from: int, pi_to: int) -> None:
        self._loaded, self._workspace, self.grid = loaded, workspace, grid
        self._band = (pi_from, pi_to)
        self._key = object()
        self._totals: tuple[int, int] | None = None

    def n_events(self) -> int:
        return self._bin_all()[0]

    def n_max(self) -> int:
        return self._bin_all()[1]

    @cutting_smaller
    def images(self, kind: NDArray[np.int8]) -> NDArray[np.int64]:
        ny, nx, nt = self.grid.shape
        return self._sum("sum_images", checked(kind, (nt,), np.int8), 2 * ny * nx).reshape(2, ny, nx)

    @cutting_smaller
    def counts_per_frame(self, cells: NDArray[np.bool_]) -> NDArray[np.int64]:
        ny, nx, nt = self.grid.shape
        return self._sum("sum_rate", checked(cells, (ny, nx), bool).astype(np.uint8), nt)

    @cutting_smaller
    def by_camera(self, voxels: Voxels) -> NDArray[np.int64]:
        _, nx, nt = self.grid.shape
        n_cameras = self._loaded.n_cameras
        memory, device = self._workspace.memory, self._workspace.device
        wanted = (voxels.y.astype(np.uint64) * np.uint64(nx) + voxels.x.astype(np.uint64)) * np.uint64(nt)
        wanted += voxels.t.astype(np.uint64)
        sums = memory.zeros("by_camera", wanted.size * n_cameras, np.uint32)
        tick, cell, pi, n_photons, view = self._photons_of_view()
        self._launch_over_photons(
            "sum_by_camera", tick, cell, pi, self._loaded.column("camera"), n_photons, view,
            memory.put("wanted", wanted), np.uint64(wanted.size), np.int32(n_cameras), sums,
        )  # fmt: skip
        return device.get(sums).reshape(-1, n_cameras).astype(np.int64)

    @cutting_smaller
    def flag(self, expected: Expectation, limits: Thresholds) -> Voxels:
        used = slice(self.n_max() + 1)
        check_limits(limits, self.n_max())
        limits = Thresholds(limits.mu_peak[used], limits.mu_eclipse[used], limits.sigma)
        cells, frames, rule = self._upload(expected, limits)
        # backwards: after binning, the cube contains the last slab
        found = [self._flag_slab(slab, cells, frames, rule) for slab in reversed(self._slabs())]
        voxel, mu, n, eclipse = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(voxel)
        cell, t = np.divmod(voxel[order].astype(np.int64), self.grid.nt)
        y, x = np.divmod(cell, self.grid.box.nx)
        x, y, t = (values.astype(np.int32) for values in (x, y, t))
        return Voxels(x, y, t, n[order].astype(np.int32), mu[order], eclipse[order].astype(bool))

    @cutting_smaller
    def dense_row(self, y: int) -> NDArray[np.int32]:
        _, nx, nt = self.grid.shape
        row = np.empty((nx, nt), np.int32)
        for slab in self._slabs():
            part = self._cube(slab)[y * nx * slab.pitch : (y + 1) * nx * slab.pitch]
            counts = self._workspace.device.get(part).reshape(nx, slab.pitch)
            row[:, slab.t_from : slab.t_to] = counts[:, : slab.t_to - slab.t_from]
        return row

    def _slabs(self) -> list[Slab]:
        """Cut the view along time into pieces that the cube can hold."""
        ny, nx, nt = self.grid.shape
        frames = self._workspace.cube_bytes // (4 * ny * nx) // QUAD * QUAD
        if frames == 0:
            raise DataError(
                Reason.DEVICE_MEMORY,
                f"{self._workspace.device.name}: four frames of {ny} x {nx} cells need {16 * ny * nx} bytes, "
                f"{self._workspace.cube_bytes} are there for the cube; stop what else uses the device, "
                f"or use larger cells or another backend",
            )
        return [Slab(t, min(t + frames, nt)) for t in range(0, nt, frames)]

    @cutting_smaller
    def _bin_all(self) -> tuple[int, int]:
        """Return the number of events and the largest count, computed once; the last slab stays in the cube."""
        if self._totals is None:
            totals = [self._bin(slab) for slab in self._slabs()]
            self._totals = sum(events for events, _ in totals), max(most for _, most in totals)
        return self._totals

    def _cube(self, slab: Slab) -> Any:
        """Return the cube with the counts of a slab."""
        cube = self._workspace.memory.held("cube", (self._key, slab))
        if cube is None:
            self._bin(slab)
            cube = self._workspace.memory.held("cube", (self._key, slab))
        return cube

    def _bin(self, slab: Slab) -> tuple[int, int]:
        """Count the photons of a slab into the cube; return their number and the largest count."""
        memory, box = self._workspace.memory, self.grid.box
        cube = memory.zeros("cube", box.ny * box.nx * slab.pitch, np.uint32)
        totals = memory.zeros("totals", 2, np.uint64)
        frames = (np.int32(slab.t_from), np.int32(slab.t_to), np.uint64(slab.pitch))
        self._launch_over_photons("bin_events", *self._photons_of_view(), *frames, cube, totals)
        memory.mark("cube", (self._key, slab))
        n_events, n_max = self._workspace.device.get(totals).tolist()
        return n_events, n_max

    def _upload(self, expected: Expectation, limits: Thresholds) -> tuple[list[Any], list[Any], list[Any]]:
        """Return flag_voxels' arguments that depend on the cell, on the frame, and on the count."""
        ny, nx, nt = self.grid.shape
        put = self._workspace.memory.put
        background = put("background", checked(expected.template, (2, ny, nx), np.float64))
        source = put("source", checked(expected.source, (2, ny, nx), np.float64))
        end = (0, -nt % QUAD)  # 0 after the last frame: nothing is expected and nothing flagged there
        frames = [
            put("rate", np.pad(checked(expected.background_counts, (nt,), np.float64), end)),
            put("live", np.pad(checked(expected.live, (nt,), np.float64), end)),
            put("kind", np.pad(checked(expected.kind, (nt,), np.uint8), end)),
        ]
        possible = eclipse_possible(expected, limits).ravel()
        reachable = np.pad(possible, (0, -possible.size % CELLS)).astype(np.uint8).view(np.uint32)
        rule = [
            put("mu_peak", limits.mu_peak),
            put("mu_eclipse", limits.mu_eclipse),
            np.float64(MU_MIN),
            np.uint32(least_peak(limits)),
        ]
        return [put("reachable", reachable), background, source], frames, rule

    def _flag_slab(self, slab: Slab, cells: list[Any], frames: list[Any], rule: list[Any]) -> list[NDArray[Any]]:
        """Return voxel number, mu, n and kind of the flagged voxels of a slab, in any order."""
        device, memory = self._workspace.device, self._workspace.memory
        ny, nx, nt = self.grid.shape
        n_cells = ny * nx
        blocks = -(-slab.quads // QUAD_THREADS)
        groups = min(-(-n_cells // CELLS), max(device.multiprocessors * QUAD_BLOCKS // blocks, 1))
        shape = (np.uint64(slab.quads), np.int32(slab.quads), np.int32(n_cells))
        series = [values[slab.t_from : slab.t_from + slab.pitch] for values in frames]
        while True:
            capacity = self._workspace.hits
            hits = [
                memory.take("hit_voxel", capacity, np.uint64),
                memory.take("hit_mu", capacity, np.float64),
                memory.take("hit_n", capacity, np.uint32),
                memory.take("hit_eclipse", capacity, np.uint8),
            ]
            n_hits = memory.zeros("n_hits", 1, np.uint64)
            device.launch(
                "flag_voxels", (blocks, groups), (QUAD_THREADS,), self._cube(slab), *shape, *cells, *series, *rule,
                np.int32(slab.t_from), np.int32(nt), *hits, np.uint64(capacity), n_hits,
            )  # fmt: skip
            (found,) = device.get(n_hits).tolist()
            if found <= capacity:
                return [device.get(column[:found]) for column in hits]
            del hits  # otherwise they would stay in memory beside the larger ones
            self._workspace.hits = found  # the hits that did not fit were only counted: repeat with room for all

    def _sum(self, kernel: str, chosen: NDArray[Any], size: int) -> NDArray[np.int64]:
        """Return the number of photons by frame or cell; ``chosen`` holds a byte for each cell or frame."""
        memory = self._workspace.memory
        sums = memory.zeros("sums", size, np.uint32)
        self._launch_over_photons(kernel, *self._photons_of_view(), memory.put(kernel, chosen), sums)
        return self._workspace.device.get(sums).astype(np.int64)

    def _photons_of_view(self) -> tuple[Any, ...]:
        """Return the first arguments of every kernel that loops over photons."""
        grid, box, photons = self.grid, self.grid.box, self._loaded.box
        corner = (box.x0 - photons.x0, box.y0 - photons.y0)
        view = np.array([photons.nx, *corner, box.nx, box.ny, grid.dt_ms, grid.nt, *self._band], np.int32)
        columns = (self._loaded.column(name) for name in ("tick", "cell", "pi"))
        return *columns, self._loaded.n_photons(), self._workspace.memory.put("view", view)

    def _launch_over_photons(self, kernel: str, *arguments: Any) -> None:
        self._workspace.launch_over(int(self._loaded.n_photons()), kernel, *arguments)


def least_peak(limits: Thresholds) -> int:
    """Return the least count that can be a peak: below it the limit is nowhere above MU_MIN."""
    possible = limits.mu_peak > MU_MIN
    return int(np.argmax(possible)) if possible.any() else possible.size


def eclipse_possible(expected: Expectation, limits: Thresholds) -> NDArray[np.bool_]:
    """Return for each cell whether its largest mu passes the least limit of an eclipse; shape (ny, nx).

    The bound takes, for good and for bad frames, the largest rate and the largest live fraction.
    Factors are not negative, and rounded products and sums of such floats are monotone: no mu of the
    cell exceeds the bound, to the last bit. Where the bound is no number, the cell is possible.
    """
    least = limits.mu_eclipse.min()
    possible = np.zeros(expected.template.shape[1:], bool)
    for kind in (0, 1):
        rate, live = (
            values[expected.kind == kind].max(initial=0.0) for values in (expected.background_counts, expected.live)
        )
        with np.errstate(invalid="ignore", over="ignore"):
            most = expected.template[kind] * rate + expected.source[kind] * live
        possible |= ~(most <= least)
    return possible
