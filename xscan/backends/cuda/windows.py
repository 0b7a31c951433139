"""Find windows of cells with many counts on a GPU; results as :mod:`xscan.backends.windows`, bit for bit.

Photons are uploaded once. For each phase of each band they are sorted there by cell, and one kernel looks at all
windows; only those that pass are copied back. The kernels, and the reasons for them, are described in
kernels/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xscan.backends.arguments import checked
from xscan.backends.cuda.memory import Workspace, cutting_smaller
from xscan.backends.windows import CellModel, cell_models, gathered
from xscan.windows import LENGTHS, PHASES, BandModel, FineGrid, TimedPhotons, WindowLimits, Windows

__all__ = ["CudaWindows"]

CHUNK = 512  # photons that one thread puts in their places; more where the table of chunks would be too large
TABLE_MOST = 256 << 20  # bytes of the table of chunks

Part = tuple[CellModel, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


class CudaWindows:
    """The loops over windows of time, on a device.

    Parameters
    ----------
    workspace : Workspace
        The table by which photons are sorted lies in the memory of its cube.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def passing_windows(
        self, photons: TimedPhotons, grid: FineGrid, bands: Sequence[BandModel], limits: WindowLimits
    ) -> Windows:
        """As :func:`xscan.backends.windows.passing_windows`."""
        self._workspace.renew()
        return self._passing(photons, grid, bands, limits)

    @cutting_smaller
    def _passing(
        self, photons: TimedPhotons, grid: FineGrid, bands: Sequence[BandModel], limits: WindowLimits
    ) -> Windows:
        put = self._workspace.memory.put
        columns = {
            name: put(f"timed_{name}", checked(getattr(photons, name), photons.bin.shape, dtype))
            for name, dtype in (("y", np.int16), ("x", np.int16), ("band", np.uint8), ("bin", np.int32))
        }
        mu_peak = put("window_limits", limits.mu_peak)
        parts = []
        for number, models in groupby(cell_models(grid, bands, limits), lambda model: model.band):
            curves = put("curves", bands[number].curves.T)
            for model in models:
                ordered = self._by_cell(columns, photons.bin.size, model, bands[number])
                if ordered.n_cell.max() >= 2:
                    parts.append(self._of_model(model, ordered, curves, mu_peak, grid.nt))
        return gathered(parts)

    def _by_cell(self, columns: dict[str, Any], n: int, model: CellModel, band: BandModel) -> _Ordered:
        """Sort the photons of a band by cell of a phase, those of a cell by time."""
        workspace, n_cells = self._workspace, model.ny * model.nx
        memory = workspace.memory
        most = max(min(workspace.cube_bytes, TABLE_MOST) // (4 * n_cells), 1)
        size = max(CHUNK, -(-n // most))
        n_chunks = -(-n // size)
        table = memory.zeros("cube", n_chunks * n_cells, np.uint32)
        cells = memory.put("cells", np.array([*PHASES[model.phase], model.ny, model.nx, band.lo, band.hi], np.int32))
        place = columns["y"], columns["x"], columns["band"]
        workspace.launch_over(n, "count_photons", *place, np.uint64(n), cells, np.uint64(size), table)
        n_cell = memory.take("n_cell", n_cells, np.uint32)
        workspace.launch_over(n_cells, "add_chunks", table, np.uint64(n_chunks), np.uint64(n_cells), n_cell)
        counts = workspace.device.get(n_cell)
        offsets = memory.put("offsets", np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)]))
        cell, bins = (memory.take(name, n, np.int32) for name in ("sorted_cell", "sorted_bin"))
        workspace.launch_over(
            n_chunks, "sort_photons", *place, columns["bin"], np.uint64(n), cells, np.uint64(size),
            np.uint64(n_chunks), table, offsets, cell, bins,
        )  # fmt: skip
        return _Ordered(cell, bins, offsets, counts.astype(np.int64))

    def _of_model(self, model: CellModel, ordered: _Ordered, curves: Any, mu_peak: Any, nt: int) -> Part:
        """Return the windows of the cells of one phase in one band that pass, in any order."""
        device, memory = self._workspace.device, self._workspace.memory
        n = int(ordered.n_cell.sum())
        expected = (
            memory.put("weights", model.weights), curves, np.int32(model.weights.shape[1]),
            memory.put("total", model.total), memory.put("a0", model.a0),
        )  # fmt: skip
        rule = mu_peak, np.uint32(mu_peak.size), np.int32(sum(length <= nt for length in LENGTHS)), np.int32(nt)
        while True:
            capacity = self._workspace.hits
            hits = [
                memory.take("window_cell", capacity, np.int32),
                memory.take("window_level", capacity, np.int32),
                memory.take("window_start", capacity, np.int32),
                memory.take("window_n", capacity, np.uint32),
                memory.take("window_mu", capacity, np.float64),
            ]
            n_hits = memory.zeros("n_hits", 1, np.uint64)
            self._workspace.launch_over(
                n, "pass_windows", ordered.cell, ordered.bins, np.uint64(n), ordered.offsets, *expected, *rule,
                *hits, np.uint64(capacity), n_hits,
            )  # fmt: skip
            (found,) = device.get(n_hits).tolist()
            if found <= capacity:
                cell, level, start, counts, mu = (device.get(column[:found]) for column in hits)
                return model, cell, level, start, counts.astype(np.int64), mu, ordered.n_cell[cell]
            del hits  # otherwise they would stay in memory beside the larger ones
            self._workspace.hits = found  # the windows that did not fit were only counted: repeat with room for all


class _Ordered(NamedTuple):
    """The photons of a band by cell of a phase; all but the counts on the device."""

    cell: Any
    bins: Any
    offsets: Any
    n_cell: NDArray[np.int64]
