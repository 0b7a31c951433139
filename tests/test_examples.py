"""The examples in docstrings run, and print what stands there; every public function has one, or a reason for none.

Examples use some names that they do not define: :func:`names` makes them, and says what they are.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.lists import binned
from helpers.views import view_data
from helpers.window_net import fine_grid, timed

import xscan
from xscan.api import scan_settings
from xscan.backends import get_backend
from xscan.bayes import thresholds
from xscan.bench.record import Measurement, Report
from xscan.config import load_config
from xscan.events.cuts import Cuts, RawEvents
from xscan.events.merge import GtiFilter
from xscan.grid import Box, Grid
from xscan.missions.xmm.cuts import make_cuts
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CcdTime, EventList, Expectation, InputFile, Observation, pixel_number
from xscan.pipeline.scan import scan_folder
from xscan.pointsource.exposure import beyond
from xscan.pointsource.fit import Points, Spots
from xscan.results.writer import ResultsWriter
from xscan.schema import EVENTS
from xscan.search.candidates import window_limits
from xscan.search.components import field_of
from xscan.search.frames import bad_intervals, live_time
from xscan.search.subsets import make_subsets
from xscan.search.view import ViewData
from xscan.simulate import simulate_archive
from xscan.simulate.detector import CAMERA
from xscan.simulate.headers import Exposure, Pointing
from xscan.sky import TangentPlane
from xscan.windows import BandModel

OBSID = "0990000001"

WITHOUT = {
    "needs a GPU, or asks whether there is one": ("backends.cuda.driver.*", "backends.cuda.cupy.*", "bench.gpu.*"),
    "the compiled twin of a function in NumPy, which has the example": (
        *("backends.numba.dropouts.*", "backends.numba.events.*"),
        *("backends.numba.livetime.*", "backends.numba.points.*", "backends.numba.ratio.*"),
        "backends.numba.windows.*",
    ),
    "talks to a server": ("archives.download.*", "archives.web.*", "archives.prefetch.*"),
    "starts threads or processes, handles signals, or measures for seconds": (
        *("pipeline.dask_cluster.*", "pipeline.dask_pool.*", "pipeline.worker.*", "pipeline.dispatch.*"),
        *("pipeline.executor.*", "pipeline.local.run", "pipeline.run.*", "pipeline.signals.*"),
        *("pipeline.plan.calibrate.calibrate", "pipeline.release.make.make_release", "bench.child.*"),
        *("bench.growth.*", "bench.gunzip.*", "bench.stages.*", "bench.suite.*"),
    ),
    "sets up this process or this machine, or says what it is": (
        *("pipeline.process.one_heap", "pipeline.threads.one_thread", "pipeline.lossy.lossy_stderr"),
        *("backends.numba.cache.*", "backends.numba.counts.cache_folder", "io.atomic.sync_folder"),
        *("archives.request_limits.real_clock", "bench.machine.*", "bench.workloads.*", "bench.clock.now"),
    ),
    "a step of simulate_observation, on what its other steps have made": ("simulate.files.write_event_list",),
    "draws a picture": ("report.plots.draw*", "bench.plot.*", "pipeline.local.draw_*"),
    "its example would be a whole observation: tests/search/test_windows.py has several": (
        *("search.windows.search_windows", "search.ratios.weigh", "search.dips.dips"),
        "search.events.*",
    ),
    "a command, which docs/operations.md shows": ("cli.*",),
}
"""Public functions without an example, by the reason; names as in :mod:`fnmatch`, after ``xscan.``."""


def modules() -> Iterator[ModuleType]:
    """Every module of xscan but those that need a library for GPUs."""
    for found in pkgutil.walk_packages(xscan.__path__, "xscan."):
        if not found.name.endswith("__main__"):
            try:
                yield importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name != "cupy":
                    raise


MODULES = {module.__name__: module for module in modules()}


def functions() -> Iterator[tuple[str, Any]]:
    """Name and value of every function that stands in the ``__all__`` of its module."""
    for name, module in MODULES.items():
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public)
            if not inspect.isclass(value) and callable(value) and value.__module__ == name:
                yield f"{name.removeprefix('xscan.')}.{public}", value


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What examples use without defining it."""
    folder = tmp_path_factory.mktemp("examples")
    simulate_archive(folder / "data", n=1, exposure_s=1000.0, seed=1)
    data, results = folder / "data" / OBSID, folder / "results"
    observation = xscan.read(data)
    scanner = scan_settings(views=["50:0.2-12"], backend="numpy").scanner()
    obsid, tables = scan_folder(data, scanner)
    with ResultsWriter(results, scanner.provenance(), scanner.settings.by_name()) as writer:
        writer.write(obsid, tables)
    return {
        "xscan": xscan,
        "Path": Path,
        "np": np,
        "EPIC": EPIC,
        "folder": data,  # of an observation of 1000 s, made up
        "observation": observation,
        **prepared(observation),
        "scanner": scanner,  # of one view, 50:0.2-12
        "tables": tables,  # what it found in the observation
        "results": results,  # a folder with these tables
        "held": xscan.open_results(results),
        "one_event": one_event(),
        "raw": raw_events(),
        "cuts": mos_cuts(),
        "events": quiet_list(),
        "data": view_with_burst(),
        "fine": fine_grid(8, 8, 40),  # fine pixels along y and x, and bins
        "flat": one_in_each_cell(),
        "burst": timed([10, 10, 10, 11, 11], y=1, x=1),  # photons: a bin of each, and the fine pixel of all
        "limits": window_limits(1e-4, 5, np.zeros((8, 8), bool)),
        "spots": twenty_photons(),
        "points": Points.of(twenty_photons(), beyond(0.0, 0.0, 45.0, 0)),  # with all that lies beyond 45 arcsec
        "exposure": mos_exposure(),
        "report": report(),
    }


def prepared(observation: Observation) -> dict[str, Any]:
    """Return the subset of an observation of which there is one, and what the search by windows makes of it."""
    loops = get_backend("numpy").events
    (subset,), _ = make_subsets(observation.lists, load_config().rules)
    photons, _ = loops.merge(subset.lists, [GtiFilter.everything()] * len(subset.lists), subset.t0, subset.t1, 129)
    live, bad_time = live_time(subset, loops), bad_intervals(subset, photons, loops)
    field = field_of(subset, photons, live, bad_time, observation.sources, loops)
    return {"subset": subset, "photons": photons, "live": live, "bad_time": bad_time, "field": field}


def one_in_each_cell() -> BandModel:
    """Return an expectation of one count in each cell of 8 x 8 fine pixels, in 40 bins."""
    return BandModel(0, 5, np.zeros(1, np.int8), np.full((1, 8, 8), 1 / 16), np.linspace(0.0, 1.0, 41)[None])


def one_event() -> pa.Table:
    """Return a table of one event, a peak of 30 s and 25 counts."""
    kinds = {pa.string(): "", pa.float64(): 0.0, pa.int32(): 0, pa.int64(): 0, pa.bool_(): False}
    row = {field.name: kinds[field.type] for field in EVENTS}
    facts = {"obsid": OBSID, "event_id": f"{OBSID}_0_w0", "kind": "peak", "counts": 25.0, "llr": 60.0}
    place = {"ra_deg": 150.0, "dec_deg": 2.0, "pos_err_arcsec": 1.0, "t_start_s": 500.0, "t_stop_s": 530.0}
    return pa.Table.from_pylist([row | facts | place], EVENTS)


def raw_events() -> RawEvents:
    """Return three events of MOS1: one that is good, one of 100 eV, and one whose time is not a number."""
    of_all = {"rawx": 30, "rawy": 100, "x": 25_921, "y": 25_921, "flag": 0, "pattern": 0, "ccd": 2}
    columns = {name: np.full(3, value) for name, value in of_all.items()}
    return RawEvents(time=np.array([1.0, 2.0, np.nan]), pi=np.array([500, 100, 500]), **columns)


def mos_cuts() -> Cuts:
    """Return the cuts of MOS1 without any of flags and hot pixels."""
    return make_cuts("m1", "PrimeFullWindow", None, None, (None, None), load_config())


def quiet_list() -> EventList:
    """Return a list of MOS1: 100 s, an event a second in each of CCDs 1 to 4, but none in CCD 4 from 40 to 60 s."""
    ccd, second = (values.ravel() for values in np.meshgrid(np.arange(1, 5), np.arange(100)))
    sent = (ccd < 4) | (second < 40) | (second >= 60)
    ccd, second = ccd[sent], second[sent]
    x, raw = (25_921 + 402 * ccd).astype(np.uint16), np.full(ccd.size, 300)
    good = {number: CcdTime(np.array([[0.0, 100.0]])) for number in range(1, 5)}
    return EventList(
        InputFile(f"P{OBSID}M1S001MIEVLI0000.FTZ", 1, camera="m1", exposure="S001"),
        TangentPlane(150.0, 2.0), 850, 100.0,
        second + 0.5, x, np.full_like(x, 25_921), np.full_like(x, 1000), ccd.astype(np.uint8),
        pixel_number(ccd, raw, raw).astype(np.uint32), (0.5, 99.5), good, EPIC,
    )  # fmt: skip


def view_with_burst() -> ViewData:
    """Return a view of 5 x 5 cells and 8 frames of 50 s: one count in each voxel, but 12 in cell (2, 2), frame 3.

    One count is expected in each voxel.
    """
    y, x, t = (index.ravel() for index in np.indices((5, 5, 8)))
    again = np.where((y == 2) & (x == 2) & (t == 3), 12, 1)
    y, x, t = (np.repeat(index, again) for index in (y, x, t))
    photons = binned(t * 50_000, 62 + x, 62 + y)
    grid = Grid(0.0, 50_000, 8, 129, Box(62, 67, 62, 67), EPIC.sky)
    template = np.full((2, 5, 5), 1 / 25)
    expected = Expectation(template, 0 * template, np.full(8, 25.0), np.ones(8), np.zeros(8, np.uint8))
    nothing = np.zeros(0, np.int32)
    data = view_data(xscan.model.Voxels(*[nothing] * 4, np.zeros(0), np.zeros(0, bool)), photons, expected, grid)
    voxels = data.counts.flag(expected, thresholds(3.0, data.counts.n_max()))
    return view_data(voxels, photons, expected, grid)


def twenty_photons() -> Spots:
    """Return 20 photons of pn round (3, -2) arcsec, four each at 1, 2, 4, 8 and 16 arcsec, without background."""
    apart = np.repeat([1.0, 2.0, 4.0, 8.0, 16.0], 4)
    x, y = 3 + apart * np.tile([1, 0, -1, 0], 5), -2 + apart * np.tile([0, 1, 0, -1], 5)
    camera = np.zeros(20, np.uint8)
    return Spots(x, y, camera, np.full(20, 5.0), np.full(20, 1e-6), EPIC)


def mos_exposure() -> Exposure:
    """Return an exposure of MOS1 of 1000 s, CCD 2 of it, its good time from 100 to 900 s."""
    pointing = Pointing(OBSID, TangentPlane(150.0, 2.0), 0.0, 0.0, 1000.0, 850)
    good = {2: np.array([[100.0, 900.0]])}
    return Exposure(pointing, CAMERA["m1"], "S001", 0.0, 1000.0, good, {2: 790.0}, False, (1, 51_840, 1, 51_840))


def report() -> Report:
    """Return what was measured of observation A with the backend numba: three scans, and the inflating beside each."""
    rows = (("scan", (3.0, 2.0, 2.2)), ("gunzip", (1.5, 1.0, 1.0)))
    taken = tuple(
        Measurement(what, "A", "numba", clock, "s", samples) for what, samples in rows for clock in ("cpu", "wall")
    )
    machine = {"cpu": "Xeon 8480", "cores": 2, "memory_gib": 8.0, "system": "Linux", "load": 0.1}
    versions = {"python": "3.12.3", "numpy": "2.1.0", "numba": "0.60.0", "isal": "1.7.0", "xscan": "0.3.0"}
    size = {"rows": 450_000, "events": 300_000, "compressed_bytes": 9e6, "inflated_bytes": 2e7}
    return Report("2026-01-31", machine, versions | {"commit": "abc", "dirty": False}, {"A": size}, taken)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, names: dict[str, Any], tmp_path: Path) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for number, examples in enumerate(doctest.DocTestFinder().find(MODULES[name], extraglobs=names)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        examples.globs["scratch"] = scratch  # an empty folder
        runner.run(examples)
    assert runner.failures == 0


def test_every_public_function_has_an_example() -> None:
    reasons = [pattern for patterns in WITHOUT.values() for pattern in patterns]
    without = [name for name, value in functions() if ">>> " not in (value.__doc__ or "")]
    assert [name for name in without if not any(fnmatch(name, pattern) for pattern in reasons)] == []
    needed = [
        pattern for pattern in reasons if pattern == "backends.cuda.cupy.*" or any(fnmatch(n, pattern) for n in without)
    ]
    assert needed == reasons
