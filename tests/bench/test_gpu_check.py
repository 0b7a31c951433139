"""scripts/gpu-check, tried without a GPU: that it runs anywhere, and calls nothing a GPU's that is not."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from helpers.cuda_on_cpu import CpuDevice
from helpers.kernel_net import busy_folder, small_cases
from helpers.window_net import window_cases

from xscan.api import scan_settings
from xscan.backends.cuda.counts import eclipse_possible
from xscan.bayes import thresholds
from xscan.bench import gpu
from xscan.bench.gpu import cube_that_fits, flag_kernel
from xscan.bench.record import from_json
from xscan.bench.targets import target_table
from xscan.errors import DeviceError
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.pipeline.outcome import summarize
from xscan.pipeline.scan import scan_folder

ROOT = Path(__file__).resolve().parents[2]
NOT_NEEDED = ("typer", "rich", "matplotlib", "dask", "distributed", "requests", "pytest", "hypothesis", "skimage")


@pytest.fixture
def script() -> ModuleType:
    return importlib.import_module("soak.gpu")


def run(*arguments: object, without: tuple[str, ...] = (), folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as on a machine that lacks some libraries."""
    for name in without:
        (folder / f"{name}.py").write_text("raise ImportError")
    env = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    command = [ROOT / "scripts" / "gpu-check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)


def test_the_whole_command_with_the_cpu_in_place_of_a_gpu(tmp_path: Path, rng: np.random.Generator) -> None:
    busy_folder(tmp_path / "data" / "deep", rng)
    places = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--work", tmp_path / "work")
    done = run("--on-cpu", *places, without=tuple(set(NOT_NEEDED) - {"dask", "distributed"}), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "all well: 11 of 12, 1 skipped"
    assert "0999999901, exod2: tables" in done.stdout
    assert re.search(r"^a worker +finds the same as a loop with numba", done.stdout, re.MULTILINE)
    (path,) = (tmp_path / "out").glob("*.json")
    held = from_json(path.read_text("utf-8"), path.name)
    assert set(held.backends()) == {"cuda on cpu", "numba"}
    assert "gpu" not in held.machine
    assert all(row[-1].startswith("not measured") for row in target_table([held]).rows)
    assert held.find("flag kernel", "cube", "cuda on cpu", "bandwidth").median > 0
    assert held.find("views", "1000 s", "cuda on cpu", "wall").unit == "ms"
    assert held.find("scan", "1000 s", "numba", "cpu") is not None


def test_without_a_gpu_or_a_library_it_ends_with_one_line(tmp_path: Path) -> None:
    done = run(folder=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)
    assert "CUDA_VISIBLE_DEVICES is '' and hides every device" in done.stderr
    done = run("--on-cpu", "--data", tmp_path / "nowhere", folder=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "nowhere: no event lists" in done.stderr
    done = run(without=("isal", "erfa"), folder=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "pyerfa, isal cannot be imported" in done.stderr


def test_a_comparison_that_fails_is_a_line_and_an_exit_code(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differs(*_: object) -> str:
        raise AssertionError("\nregions\nmore")

    monkeypatch.setattr(script, "same_tables", differs)
    monkeypatch.setattr(script, "measure", lambda *_: iter(()))
    busy_folder(tmp_path, np.random.default_rng(1))
    unwritable = tmp_path / "file"
    unwritable.touch()
    assert script.check(CpuDevice(), script.CPU, True, tmp_path, unwritable, tmp_path, [], []) == 1
    out = capsys.readouterr().out
    assert "FAILED: AssertionError: regions\n" in out
    assert "FAILED: FileExistsError" in out
    assert out.endswith("FAILED: 2 of 5\n")


def test_comparisons_without_pytest(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a real GPU without pytest is held against, on a small case in place of the large one."""
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("helpers.kernel_net.large_case", lambda: next(small_cases()))
    monkeypatch.setattr("helpers.window_net.huge_cell", lambda _: next(window_cases()))
    steps = list(script.tests(CpuDevice(total_bytes=1 << 30), on_cpu=False))
    windows = ["windows of small fields", "windows, up to 3e6 photons"]
    views = ["2e8 voxels, in slabs", "2e8 voxels, whole", "2^31 voxels"]
    assert [step.what for step in steps] == ["small views", *windows, *views]
    assert not any(step.failed for step in steps)
    assert steps[-1].result.startswith("skipped: 1.1 GB are free")
    assert steps[-1].skipped


def test_tests_without_a_device_are_no_success(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pytest is run where it is; of tests that were skipped it says that all is well."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(AssertionError, match="pytest ended with 1"):
        script.run_pytest()
    assert "12 errors in" in capsys.readouterr().err


def test_pytest_needs_nothing_that_a_search_does_not(tmp_path: Path) -> None:
    for name in set(NOT_NEEDED) - {"pytest", "hypothesis"}:
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    options = "-o addopts= -p no:cacheprovider -q -m gpu tests/backends/test_gpu.py"
    command = [sys.executable, "-m", "pytest", *options.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert "12 skipped" in done.stdout, done.stdout


def test_a_device_is_opened_by_another_process_first(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with it comes back as it was said there."""
    monkeypatch.setattr("xscan.backends.cuda.driver.visible_devices", lambda: ("0",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES is '-1' and hides every device"):
        script.try_device()


def test_a_worker_that_finds_nothing_is_no_success(script: ModuleType, tmp_path: Path) -> None:
    _, tables = scan_folder(tmp_path / "0000000001", scan_settings(backend="numpy").scanner())
    with pytest.raises(AssertionError, match="failed: no_folder"):
        script.told(summarize(tables, 0.0))


def test_without_dask_there_is_no_worker(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    (step,) = script.by_others(True, SimpleNamespace(folder=tmp_path), tmp_path)
    assert (step.skipped, step.result) == (True, "skipped: distributed cannot be imported")


def test_where_observations_are_found(script: ModuleType, tmp_path: Path) -> None:
    for name in ("a/pps/P01PNS001PIEVLI0000.FTZ", "b/c/inputs/P02M1S001MIEVLI0000.FTZ", "d/P03EPX000OBSMLI0000.FTZ"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert script.observations(tmp_path) == [tmp_path / "a", tmp_path / "b/c/inputs"]


def test_a_cube_is_as_large_as_two_of_it_fit() -> None:
    device = CpuDevice(total_bytes=(1 << 30) + 8_000_000)
    assert cube_that_fits(device, 2_000_000) == 1_000_000
    assert cube_that_fits(device, 500_000) == 500_000


def test_the_kernel_is_measured_on_the_whole_cube() -> None:
    """On a device that takes a second for whatever: a search reads the cube, a copy reads and writes it."""

    class Steady(CpuDevice):
        def seconds(self, work: Callable[[], None]) -> float:
            work()
            return 20.0  # 20 searches or copies are timed together

    device = Steady()
    taken = {(m.what, m.quantity): m for m in flag_kernel(device, "cuda on cpu", 200_000, 2)}
    assert device.launches.count("flag_voxels") == 2 * (1 + 2 * 20)
    frames = 13  # the least that make 200,000 voxels of 129 x 129 cells; 16 with the padding
    for what in ("flag kernel", "flag kernel, all"):
        share, rate = taken[what, "bandwidth"], taken[what, "rate"]
        assert share.at["voxels"] == 129 * 129 * frames > 200_000
        assert share.samples == (50.0, 50.0)
        assert rate.samples == pytest.approx((129 * 129 * 16 * 4e-9,) * 2)
        assert taken[f"copy beside {what}", "rate"].median == pytest.approx(2 * rate.median)


def test_every_cell_is_looked_at_where_one_frame_is_bright() -> None:
    grid = Grid(0.0, 5000, 13, 129, Box(0, 129, 0, 129), EPIC.sky)
    limits = thresholds(3.0, 10)
    assert not eclipse_possible(gpu._quiet(grid), limits).any()
    assert eclipse_possible(gpu._one_bright_frame(grid), limits).all()
