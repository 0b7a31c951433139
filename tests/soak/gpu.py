"""Everything that only a machine with a GPU can show, in one command.

    scripts/gpu-check [--data DIR] [--out DIR] [--work DIR] [--repeat N] [--on-cpu]

1. Tests: `pytest -m gpu`, or the same comparisons without pytest: whatever the device gives is held
   against NumPy, to the last bit.
2. A worker process with a device of its own (dask-cuda's where it works) against a plain loop on the CPU.
3. Tables of whole scans, cuda against a CPU's backend: simulated observations, and those in DIR
   (<obsid>/ folders at any depth; ../shared unless told).
4. Speed: the kernel that searches a cube of 1e9 voxels beside a copy of that cube, the nine views of
   a long observation after upload, and files to Parquet beside numba and gunzip.

What was measured goes to OUT/<date>-<device>.json (benchmarks/results unless told), from which
scripts/performance-doc writes its page. --on-cpu tries this script itself: the kernels run on the
CPU, everything is small, and nothing is called a GPU's. Nothing is installed and no network used.

Exit status: 0 all well, 1 a comparison failed, 2 a library is missing, 3 no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from xscan.errors import DeviceError

if TYPE_CHECKING:
    from helpers.kernel_net import Case
    from helpers.window_net import WindowCase

    from xscan.backends.cuda.device import Device
    from xscan.bench.record import Measurement, Report
    from xscan.bench.workloads import Workload
    from xscan.pipeline.outcome import ObservationSummary

    Measurements = list[Measurement]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
RESULTS = ROOT / "benchmarks" / "results"
NEEDED = {
    "numpy": "numpy", "scipy": "scipy", "numba": "numba", "pyarrow": "pyarrow", "cv2": "opencv-python-headless",
    "erfa": "pyerfa", "astropy": "astropy", "isal": "isal",
}  # fmt: skip
"""Modules and the packages that hold them; isal reads event lists and packs simulated ones."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    backend: str  # what measurements call it
    n_voxels: int
    repeat: int
    exposures_s: tuple[float, ...]  # of simulated observations; none: A and L


GPU = Scale("cuda", 1_000_000_000, 7, ())
CPU = Scale("cuda on cpu", 300_000, 2, (1000.0,))


@dataclass(frozen=True)
class Step:
    """One line of the table that is printed last."""

    what: str
    result: str
    failed: bool = False
    skipped: bool = False


def say(line: str) -> None:
    """Tell of progress."""
    print(line, file=sys.stderr, flush=True)


class NoRoomError(Exception):
    """The device is too small, or too full, for a step."""


def skip(what: str, why: str) -> Step:
    """Say why a step is not taken."""
    return Step(what, f"skipped: {why}", skipped=True)


def attempt(what: str, work: Callable[..., str], *arguments: object) -> Step:
    """Do it; a comparison that fails is a line of the table, not the end."""
    say(f"{what} ...")
    start = time.perf_counter()
    try:
        result = work(*arguments)
    except NoRoomError as error:
        return skip(what, str(error))
    except Exception as error:  # a device can fail in any way; the rest is still worth knowing
        say(str(error))
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        return Step(what, f"FAILED: {type(error).__name__}: {first}", failed=True)
    return Step(what, f"{result} ({time.perf_counter() - start:.0f} s)")


# ---- correctness, by other processes: a device may serve no two at once, so this one has not opened it yet


def by_others(on_cpu: bool, held: Workload, work: Path) -> Iterator[Step]:
    """Run the tests, where pytest is, and a worker process."""
    if not on_cpu and pytest_is_here():
        yield attempt("pytest -m gpu", run_pytest)
    if lacking := missing({"dask": "dask", "distributed": "distributed"}):
        yield skip("a worker", f"{' and '.join(lacking)} cannot be imported")
        return
    yield attempt("a worker", same_by_a_worker, on_cpu, held.folder, work)
    if importlib.util.find_spec("dask_cuda") is None:
        yield skip("Dask-CUDA", "dask-cuda is not installed; workers are placed without it")
    elif not on_cpu:
        yield attempt("Dask-CUDA", by_dask_cuda)


def pytest_is_here() -> bool:
    """Say whether the tests can be run as tests."""
    return all(importlib.util.find_spec(name) for name in ("pytest", "hypothesis"))


def run_pytest() -> str:
    """Run the tests marked gpu; give pytest's last line."""
    options = "-o addopts= -p no:cacheprovider -q -rs -m gpu tests/backends/test_gpu.py"
    command = [sys.executable, "-m", "pytest", *options.split()]
    env = os.environ | {"XSCAN_GPU": "required"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    say(done.stdout + done.stderr)
    if done.returncode != 0:
        raise AssertionError(f"pytest ended with {done.returncode}; see above")
    return done.stdout.strip().splitlines()[-1]


def same_by_a_worker(on_cpu: bool, folder: Path, work: Path) -> str:
    """Search an observation by a worker, with a device of its own, and in a plain loop; both must find the same."""
    from xscan import open_results
    from xscan.api import scan_settings
    from xscan.backends import cpu_backend
    from xscan.pipeline.executor import ExecutorOptions
    from xscan.pipeline.signals import interruptible
    from xscan.pipeline.task import Task
    from xscan.results.writer import ResultsWriter

    cpu = cpu_backend().name
    hashes = []
    with tempfile.TemporaryDirectory(dir=work) as place:
        by_worker = ExecutorOptions(workers=1) if on_cpu else ExecutorOptions(gpus="1")
        for options, backend in ((by_worker, "auto"), (ExecutorOptions(), cpu)):
            executor = options.resolve(scan_settings(backend=backend))
            out = Path(place) / ("loop" if options.in_this_process() else "worker")
            with (
                interruptible() as stop_signal,
                ResultsWriter(out, executor.settings.provenance(), executor.settings.by_name()) as writer,
            ):
                executor.run([Task(None, folder)], folder.parent, writer, told, None, say, stop_signal)
            hashes.append(open_results(out).content_digest())
    if hashes[0] != hashes[1]:
        raise AssertionError(f"a worker finds other than a loop with {cpu}")
    return f"finds the same as a loop with {cpu}"


def by_dask_cuda() -> str:
    """See that dask-cuda is what places workers where it is installed."""
    from xscan.backends.cuda.driver import visible_devices
    from xscan.pipeline.dask_cluster import on_devices

    with on_devices(visible_devices()[:1], None) as client:
        kind = type(client.cluster)
    if kind.__module__.partition(".")[0] != "dask_cuda":
        raise AssertionError(f"it does not work, see above; {kind.__name__} placed the worker")
    return f"its {kind.__name__} placed the worker"


def told(summary: ObservationSummary) -> None:
    """Raise if an observation was not searched."""
    if summary.outcome.state != "done":
        raise AssertionError(f"{summary.outcome.state}: {summary.outcome.reason}: {summary.outcome.message}")


def try_device() -> None:
    """Have another process open the device; raise what it met."""
    from xscan.backends.cuda.driver import visible_devices

    visible_devices()
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        try:
            say(f"{other.submit(device_name).result()} ...")
        except BrokenProcessPool:
            raise DeviceError("the process that was to open the device died; see nvidia-smi") from None


def device_name() -> str:
    """Open the device and name it."""
    return open_the_device(False).name


# ---- correctness, here


def tests(device: Device, on_cpu: bool) -> Iterator[Step]:
    """Hold the device against NumPy without pytest, by calling what the tests call."""
    if not on_cpu and pytest_is_here():
        return
    from helpers import kernel_net, window_net

    yield attempt("small views", compare_all, device, list(kernel_net.small_cases()))
    yield attempt("windows of small fields", compare_all_windows, device, list(window_net.window_cases()))
    if on_cpu:
        return
    fields = [window_net.more_than_room(), window_net.huge_cell(3_000_000)]
    yield attempt("windows, up to 3e6 photons", compare_all_windows, device, fields, "numba")
    large = kernel_net.large_case()
    yield attempt("2e8 voxels, in slabs", compare_all, device, [large])
    yield attempt("2e8 voxels, whole", compare_all, device, [replace(large, cube_bytes=None)])
    yield attempt("2^31 voxels", compare_many, device)


def compare_all(device: Device, cases: list[Case]) -> str:
    """Compare the device with NumPy on each case."""
    from helpers.kernel_net import compare

    return f"{sum(compare(device, case) for case in cases)} voxels of {len(cases)} views identical"


def compare_all_windows(device: Device, cases: list[WindowCase], host: str = "numpy") -> str:
    """Compare the windows that the device finds with those of a CPU's backend."""
    from helpers.window_net import compare_windows

    found = sum(compare_windows(device, case, host=host) for case in cases)
    return f"{found} windows in {len(cases)} fields identical"


def compare_many(device: Device) -> str:
    """Compare the device with NumPy beyond 2^31 voxels, where there is room for them."""
    from helpers.kernel_net import compare_beyond_32_bits

    free = device.free_bytes()
    if free < 10e9:
        raise NoRoomError(f"{free / 1e9:.1f} GB are free, 10 are needed")
    return f"{compare_beyond_32_bits(device)} voxels identical"


def observations(data: Path) -> list[Path]:
    """Give the folders under a folder that hold event lists."""
    found = {path.parent for path in data.rglob("P*IEVLI*") if path.is_file()}
    return sorted(folder.parent if folder.name == "pps" else folder for folder in found)


def same_tables(device: Device, folder: Path, profile: str) -> str:
    """Scan with the device and with a CPU's backend; the tables must be equal."""
    from helpers.kernel_net import assert_same_tables

    from xscan.backends import cpu_backend

    found = assert_same_tables(device, folder, cpu_backend().name, profile=profile)
    return f"{found} events and regions, all tables identical"


# ---- speed


def measure(device: Device, workloads: list[Workload], scale: Scale, work: Path) -> Iterator[tuple[Step, Measurements]]:
    """Measure the kernel, the views, and whole scans."""
    from xscan.api import scan_settings
    from xscan.backends import cpu_backend
    from xscan.backends.cuda.counts import CudaBackend
    from xscan.bench.gpu import flag_kernel, views_after_upload
    from xscan.bench.suite import scans

    scanner = scan_settings("views", backend="numpy").scanner()
    yield measured(f"{scale.n_voxels:.3g} voxels", flag_kernel, device, scale.backend, scale.n_voxels, scale.repeat)
    for held in workloads:
        observed = (held.name, held.observation, scanner.settings.config, scale.repeat)
        yield measured(f"{held.name}: views", views_after_upload, device, scale.backend, *observed)
    cuda = CudaBackend(device, cpu_backend())
    cuda.name = scale.backend
    for held in workloads:
        for backend in (cuda, cpu_backend()):
            label = f"{held.name}: files to Parquet, {backend.name}"
            yield measured(label, scans, held, replace(scanner, backend=backend), scale.repeat, work, say)


def measured(what: str, take: Callable[..., Measurements], *arguments: object) -> tuple[Step, Measurements]:
    """Take some measurements; give a line about them, and all of them."""
    taken: Measurements = []

    def work() -> str:
        taken.extend(take(*arguments))
        return "; ".join(filter(None, map(short, taken)))

    return attempt(what, work), taken


def short(m: Measurement) -> str:
    """Say what matters in the table; nothing of the rest."""
    if m.quantity == "bandwidth":
        return f"{m.what} {m.median:.0f} % of copy"
    if m.what.startswith("copy"):
        return f"copy {m.median:.0f} GB/s"
    if m.what == "views":
        return f"{m.median:.1f} ms"
    if m.what in ("scan", "gunzip") and m.quantity == "wall":
        return f"{m.what} {m.median:.3f} s"
    return ""


# ---- what is here


def missing(needed: dict[str, str]) -> list[str]:
    """Name the packages, given by module, that cannot be imported."""
    found = []
    for module, package in needed.items():
        try:
            importlib.import_module(module)
        except ImportError:
            found.append(package)
    return found


def open_the_device(on_cpu: bool) -> Device:
    """Give the GPU, or the CPU in its place."""
    if on_cpu:
        from helpers.cuda_on_cpu import CpuDevice

        return CpuDevice()
    from xscan.backends.cuda.driver import open_device

    return open_device()


def describe(device: Device, on_cpu: bool) -> tuple[dict[str, object], dict[str, object]]:
    """Describe machine and versions; a GPU only if there is one."""
    from xscan.backends.cuda.driver import cupy_builds, dotted, find_driver
    from xscan.bench.machine import describe_machine, describe_versions

    machine, versions = describe_machine(), describe_versions()
    driver = find_driver()
    if not on_cpu and driver is not None:
        machine |= {"gpu": device.name, "gpu_free_gib": round(device.free_bytes() / 2**30, 1)}
        versions |= {"cuda driver": dotted(driver.version), **cupy_builds()}
    return machine, versions


def simulated(scale: Scale, work: Path) -> list[Workload]:
    """Make the observations that are measured."""
    work.mkdir(parents=True, exist_ok=True)
    from xscan.bench.workloads import LIKE_A, LIKE_L, Simulation, made

    small = [Simulation(f"{exposure_s:g} s", exposure_s, 1.0) for exposure_s in scale.exposures_s]
    return [made(like, work, say) for like in small or (LIKE_A, LIKE_L)]


def main() -> int:
    """Do all of it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="observations, at any depth (default: ../shared)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the JSON (default: benchmarks/results)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps simulated observations (default: ~/.cache)")
    parser.add_argument("--repeat", type=int, metavar="N", help="samples of each measurement (default: 7)")
    parser.add_argument("--on-cpu", action="store_true", help="try this script: the CPU in place of the GPU")
    options = parser.parse_args()
    if needed := missing(NEEDED):
        say(f"gpu-check: {', '.join(needed)} cannot be imported; pip install them, or put their wheels on PYTHONPATH")
        return 2
    scale = CPU if options.on_cpu else GPU
    scale = replace(scale, repeat=options.repeat or scale.repeat)
    if options.data is not None and not observations(options.data):
        say(f"gpu-check: --data {options.data}: no event lists (P*IEVLI*) are in there, at any depth")
        return 2
    data = options.data or (None if options.on_cpu else SHARED)
    out = options.out or (None if options.on_cpu else RESULTS)
    from xscan.bench.workloads import default_work

    work = options.work or default_work()
    try:
        if not options.on_cpu:
            try_device()
        try:
            workloads = simulated(scale, work)
        except OSError as error:
            say(f"gpu-check: {error}; --work names a folder that can be written")
            return 2
        steps = list(by_others(options.on_cpu, workloads[0], work))
        device = open_the_device(options.on_cpu)
    except DeviceError as error:
        say(f"gpu-check: {error}")
        return 3
    return check(device, scale, options.on_cpu, data, out, work, workloads, steps)


def check(
    device: Device,
    scale: Scale,
    on_cpu: bool,
    data: Path | None,
    out: Path | None,
    work: Path,
    workloads: list[Workload],
    steps: list[Step],
) -> int:
    """Compare, measure, print and write; ``steps`` are those that were taken before."""
    from xscan.bench.record import Report
    from xscan.bench.targets import target_table

    machine, versions = describe(device, on_cpu)
    steps = [*steps, *tests(device, on_cpu)]
    for held in workloads:
        steps.append(attempt(f"{held.name}: tables", same_tables, device, held.folder, "default"))
    real = observations(data) if data is not None else []
    if not real:
        steps.append(skip("real data: tables", "none is here; --data names a folder of observations"))
    for folder in real:
        for profile in ("default", "exod2"):
            name = f"{folder.name if folder.name != 'inputs' else folder.parent.name}, {profile}: tables"
            steps.append(attempt(name, same_tables, device, folder, profile))
    taken: Measurements = []
    for step, some in measure(device, workloads, scale, work):
        steps.append(step)
        taken += some
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    report = Report(date, machine, versions, {held.name: held.size() for held in workloads}, tuple(taken))
    if out is not None:
        steps.append(attempt("all samples", write, report, out))
    if not on_cpu:
        print(f"{target_table([report]).markdown()}\n")
    print(f"{device.name}, {date}, xscan {versions['xscan']} {versions['commit'] or ''}".rstrip())
    width = max(len(step.what) for step in steps) + 2
    for step in steps:
        print(f"{step.what:{width}}{step.result}")
    failed, skipped = (sum(getattr(step, name) for step in steps) for name in ("failed", "skipped"))
    well = len(steps) - failed - skipped
    aside = f", {skipped} skipped" if skipped else ""
    print(f"{'FAILED' if failed else 'all well'}: {well} of {len(steps)}{aside}")
    return 1 if failed else 0


def write(report: Report, out: Path) -> str:
    """Write what was measured as JSON; say where."""
    from xscan.bench.record import file_name, to_json

    out.mkdir(parents=True, exist_ok=True)
    path = out / file_name(report)
    path.write_text(to_json(report), "utf-8")
    return f"in {os.path.relpath(path)}"


if __name__ == "__main__":
    sys.exit(main())
