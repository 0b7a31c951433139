"""Many workers, as a user has them: the command, and workers that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from distributed import LocalCluster
from helpers.command import run as command
from helpers.fake_gpu import Machine, machine
from helpers.running import (
    BROKEN,
    MISSING,
    OBSIDS,
    POISON,
    POISONED,
    archive,
    data,
    states,
    undisturbed,
    wait_until,
)

import xscan
from xscan import api
from xscan.backends.cuda.driver import Driver, Gpu
from xscan.errors import ConfigError, DeviceError, MachineError, Reason
from xscan.pipeline.dask_cluster import on_devices, on_processes
from xscan.pipeline.dask_pool import DaskPool
from xscan.pipeline.executor import ExecutorOptions
from xscan.pipeline.process import ARROW, HEAP
from xscan.pipeline.signals import Interrupted
from xscan.pipeline.task import Task
from xscan.pipeline.worker import WorkerSetup
from xscan.results.writer import ResultsWriter

__all__ = ["data", "machine", "undisturbed"]  # fixtures

# Dask leaves a socket now and then to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


def test_workers_find_the_same_in_any_order(data: Path, tmp_path: Path, undisturbed: str) -> None:
    """Two of them; one does so wherever a run with --workers 1 goes on here and in test_limits.py."""
    shuffled = random.Random(2).sample(OBSIDS, len(OBSIDS))
    code, said = archive(data, tmp_path / "out", "--workers", 2, "--plot", obsids=shuffled)
    assert code == 1
    assert said.count("Dask dashboard: http://127.0.0.1:") == 1
    assert f"{MISSING}: failed (no_folder" in said
    assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed
    assert {path.name for path in (tmp_path / "out" / "plots").iterdir()} >= set(OBSIDS) - {MISSING, BROKEN}


def test_a_poisoned_observation_costs_itself(data: Path, tmp_path: Path, undisturbed: str) -> None:
    harm = {OBSIDS[1]: "exit", OBSIDS[2]: "lost", OBSIDS[3]: "hang", OBSIDS[4]: "memory"}
    poison = {
        "XSCAN_POISON": ",".join(f"{obsid}={what}" for obsid, what in harm.items()),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(POISON),
    }
    # long enough for a worker to fill its memory on a machine that has more to do
    limits = ("--time-limit", 20, "--memory-limit", "700MB")
    code, said = archive(data, tmp_path / "out", "--workers", 2, *limits, env=poison)
    assert code == 1
    expected = {OBSIDS[1]: "worker_died", OBSIDS[2]: "device_lost", OBSIDS[3]: "time_limit", OBSIDS[4]: "memory_limit"}
    others = dict.fromkeys(OBSIDS, "done") | {MISSING: "no_folder", BROKEN: "unreadable"}
    assert states(tmp_path / "out") == others | expected
    assert "give it more with --time-limit" in said
    assert f"{OBSIDS[2]}: the GPU answers no more (cudaErrorIllegalAddress): this worker process ends" in said
    assert "distributed" not in said  # Dask's own account of it
    code, said = archive(data, tmp_path / "out", "--workers", 1, "--retry-failed")
    assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed


def test_a_gpu_that_is_lost_stops_a_loop_that_goes_on_after_it(data: Path, tmp_path: Path, undisturbed: str) -> None:
    """No observation after it is searched by a process that has no device, and none is tried for ever."""
    poison = {"XSCAN_POISON": f"{OBSIDS[2]}=lost"}
    code, said = archive(data, tmp_path / "out", main=POISONED, env=poison)
    assert code == 3
    assert f"xscan: {OBSIDS[2]}: the GPU answers no more (cudaErrorIllegalAddress); see nvidia-smi" in said
    lost = {OBSIDS[2]: "device_lost"}
    assert states(tmp_path / "out") == dict.fromkeys(OBSIDS[:2], "done") | lost
    code, _ = archive(data, tmp_path / "out", "--retry-failed", main=POISONED, env=poison)
    assert code == 3
    others = dict.fromkeys(OBSIDS, "done") | {MISSING: "no_folder", BROKEN: "unreadable"}
    assert states(tmp_path / "out") == others | lost
    archive(data, tmp_path / "out", "--retry-failed")
    assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed


def test_gpus_that_are_lost_whatever_they_search_stop_the_workers(data: Path, tmp_path: Path) -> None:
    poison = {
        "XSCAN_POISON": ",".join(f"{obsid}=lost" for obsid in OBSIDS[1:]),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(POISON),
    }
    code, said = archive(data, tmp_path / "out", "--workers", 1, obsids=OBSIDS[:5], env=poison)
    assert code == 3
    assert "xscan: GPUs stop answering whatever they search, as with" in said
    assert states(tmp_path / "out") == {OBSIDS[0]: "done"} | dict.fromkeys(OBSIDS[1:4], "device_lost")


def test_json_lines(data: Path, tmp_path: Path) -> None:
    _, said = archive(data, tmp_path / "out", "--log-format", "json")
    lines = [json.loads(line) for line in said.splitlines()]
    found = {line["obsid"]: line["reason"] or line["state"] for line in lines if line["event"] == "observation"}
    assert found == states(tmp_path / "out")
    assert all(line["time"] and line["message"] for line in lines)
    code, said = archive(data, tmp_path / "out", "--log-format", "json", "--profile", "exod2")
    last = json.loads(said.splitlines()[-1])
    assert (last["event"], last["exit_code"], code) == ("error", 2, 2)
    assert "holds results of another configuration" in last["message"]


@contextmanager
def by_hand(n_workers: int, folder: Path, *options: str) -> Iterator[str]:
    """A scheduler and workers, started as docs/operations.md says; it takes a port of its own choice."""
    there = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", there, "--no-dashboard"]
    worker = [*dask, "worker", "--scheduler-file", there, "--nthreads", "2", "--no-dashboard", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(scheduler, **quiet)]
    try:
        wait_until(lambda: there.is_file() and there.read_text().rstrip().endswith("}"))
        processes += [subprocess.Popen(worker, **quiet) for _ in range(n_workers)]
        yield json.loads(there.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def test_a_cluster_started_by_hand(data: Path, tmp_path: Path, undisturbed: str) -> None:
    with by_hand(2, tmp_path) as address:
        code, _ = archive(data, tmp_path / "out", "--scheduler", address)
        assert code == 1
        assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--gpus", "2"], 3, "no NVIDIA driver"),
        (["--gpus", "0"], 2, "give a number of devices, or all"),
        (["--workers", "1", "--scheduler", "tcp://127.0.0.1:1"], 2, "--workers and --scheduler cannot go together"),
        (["--scheduler", "tcp://127.0.0.1:1"], 2, "no Dask scheduler answers"),
        (["--time-limit", "5"], 2, "add --workers 1"),
        (["--workers", "1", "--memory-limit", "much"], 2, "--memory-limit much: no size; write it as"),
        (["--workers", "1", "--memory-limit", "0"], 2, "--memory-limit 0: a worker needs some"),
        (["--scheduler", "tcp://127.0.0.1:1", "--memory-limit", "4GB"], 2, "give it to `dask worker`"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    data: Path,
    tmp_path: Path,
    options: list[str],
    code: int,
    says: str,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("xscan.pipeline.dask_cluster._ANSWER_S", 1.0)
    (tmp_path / "list.txt").write_text("\n".join(OBSIDS))
    where = ("--offline", "--obslist", tmp_path / "list.txt", "--data", data, "--out", tmp_path / "out")
    backend = "cuda" if "--gpus" in options else "numpy"
    done = command("archive", *where, "--backend", backend, *options)
    assert done.returncode == code
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("xscan: ")]
    assert says in line


@pytest.fixture
def setup(data: Path, tmp_path: Path) -> Iterator[WorkerSetup]:
    """What workers need, with its folder open."""
    settings = api.scan_settings(views=["5:0.2-12"], backend="numpy")
    with ResultsWriter(tmp_path / "out", settings.provenance(), settings.by_name()):
        yield WorkerSetup(settings, data, tmp_path / "out", None)


def first_look(pool: DaskPool) -> frozenset[str]:
    while not (ready := pool.workers()):
        pool.wait(0.1)
    return ready


def heap() -> dict[str, str]:
    return {name: os.environ[name] for name in HEAP | ARROW}


def test_workers_that_cannot_be_used_are_refused(
    setup: WorkerSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would search with another method, or leave their results elsewhere."""
    with on_processes(1, None) as client:
        assert len(first_look(DaskPool(client, setup, local=True))) == 1
        assert list(client.run(heap).values()) == [{name: str(value) for name, value in (HEAP | ARROW).items()}]
        with pytest.raises(
            MachineError, match=r"worker tcp://.*does not see .*nowhere; --data must be on a file system"
        ):
            first_look(DaskPool(client, replace(setup, data=tmp_path / "nowhere"), local=False))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "_lock").write_text("process 1 on a host")
        monkeypatch.setattr("xscan.pipeline.dask_pool.read_lock", lambda folder: "process 2 on this host")
        with pytest.raises(MachineError, match=r"does not see .*elsewhere; --out must be on a file system"):
            first_look(DaskPool(client, replace(setup, out=elsewhere), local=False))
        monkeypatch.undo()
        with pytest.raises(DeviceError, match=r"worker tcp://.*the cuda backend does not work"):
            first_look(DaskPool(client, replace(setup, settings=replace(setup.settings, backend="cuda")), local=True))
        monkeypatch.setattr("xscan.pipeline.dask_pool.__version__", "0.0.1")
        with pytest.raises(MachineError, match=rf"has xscan {xscan.__version__}, here is 0\.0\.1; install the same"):
            first_look(DaskPool(client, setup, local=False))


def test_a_worker_that_took_the_address_of_another_is_registered_anew(setup: WorkerSetup) -> None:
    """As after ``dask worker --worker-port``: what was sent to the one before is lost, whoever is there."""
    with on_processes(1, None) as client:
        pool, other = (DaskPool(client, setup, local=True) for _ in range(2))
        (worker,) = first_look(other)
        event = {"worker": worker.partition(" ")[0]}
        client.log_event("worker-restart-memory", event)  # of one before
        pool._ready[worker] = "numpy"  # as if it had been registered; it knows only the other
        pool.send(7, Task(OBSIDS[0], setup.data / OBSIDS[0]), worker)
        while not (ended := pool.wait(1.0)):
            pass
        assert [(one.number, one.summary) for one in ended] == [(7, None)]
        assert pool.workers() == frozenset()
        assert first_look(pool) == {worker}
        pool.send(8, Task(OBSIDS[0], setup.data / OBSIDS[0]), worker)
        while not (ended := pool.wait(1.0)):
            pass
        assert ended[0].summary is not None
        assert pool.why_lost(worker) == Reason.WORKER_DIED
        client.log_event("worker-restart-memory", event)
        assert pool.why_lost(worker) == Reason.MEMORY_LIMIT
        lives = pool._there()
        client.restart()
        assert not lives & pool._there()


def test_a_signal_comes_before_what_it_did_to_workers(setup: WorkerSetup) -> None:
    """One that reaches all processes of a service ends workers too: none of their observations is at fault."""

    def look() -> None:
        raise Interrupted(signal.SIGTERM)

    pool = DaskPool(None, setup, local=True, check_signals=look)
    for ask in (pool.workers, lambda: pool.wait(0.0)):
        with pytest.raises(Interrupted):
            ask()


def test_each_device_has_one_worker(setup: WorkerSetup) -> None:
    """Devices that are not there: nothing looks at them before a search."""
    with on_devices(["GPU-7", "GPU-3"], 2 * 10**9) as client:
        pool = DaskPool(client, setup, local=True)
        while len(pool.workers()) < 2:
            pool.wait(0.1)
        seen = client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
        assert sorted(seen.values()) == ["GPU-3", "GPU-7"]
        held = client.scheduler_info()["workers"].values()
        assert [worker["resources"] for worker in held] == [{"GPU": 1}] * 2
        pool.restart(next(iter(seen)))  # its successor has the same device
        while not (len(again := client.nthreads()) == 2 and set(again) != set(seen)):
            time.sleep(0.1)
        assert sorted(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == ["GPU-3", "GPU-7"]


def test_dask_cuda_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake(LocalCluster):
        def __init__(self, CUDA_VISIBLE_DEVICES: list[str], **options: object) -> None:  # noqa: N803
            assert CUDA_VISIBLE_DEVICES == ["0", "1"]
            assert options.pop("resources") == {"GPU": 1}
            super().__init__(n_workers=0, **options)

    module = ModuleType("dask_cuda")
    module.__spec__ = ModuleSpec("dask_cuda", None)
    module.LocalCUDACluster = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_cuda", module)
    with on_devices(["0", "1"], None) as client:
        assert isinstance(client.cluster, Fake)


@pytest.mark.parametrize("trouble", [None, ValueError("NVML: not supported\nmore")])
def test_a_dask_cuda_that_does_not_work_is_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: Exception | None
) -> None:
    """It cannot be imported whole, or cannot ask the driver."""

    def fails(**_: object) -> None:
        raise trouble

    module = ModuleType("dask_cuda")
    module.__spec__ = ModuleSpec("dask_cuda", None)
    if trouble is not None:
        module.LocalCUDACluster = fails  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_cuda", module)
    with on_devices(["0"], None) as client:
        assert set(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == {"0"}
    (record,) = [record for record in caplog.records if record.name == "xscan.pipeline.dask_cluster"]
    assert record.message.startswith("dask-cuda does not work here (")
    assert "\n" not in record.message


def test_devices_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("H200", 10**11)
    monkeypatch.setattr("xscan.backends.cuda.driver.find_driver", lambda: Driver((12, 4), (gpu, gpu), 0))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert ExecutorOptions(gpus="all").devices() == ("0", "1")
    assert ExecutorOptions(gpus="1").devices() == ("0",)
    with pytest.raises(DeviceError, match="--gpus 3: this machine shows 2") as caught:
        ExecutorOptions(gpus="3").devices()
    assert caught.value.exit_code == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert ExecutorOptions(gpus="2").devices() == ("GPU-a", "GPU-b")
    assert ExecutorOptions(gpus="2").resolve(api.scan_settings()).settings.provenance().backend == "cuda"
    with pytest.raises(ConfigError, match="--gpus means --backend cuda, not numba"):
        ExecutorOptions(gpus="2").resolve(api.scan_settings(backend="numba"))
    assert (
        ExecutorOptions(workers=2).resolve(api.scan_settings()).settings.provenance().backend == "numba"
    )  # whatever devices there are
