"""Many workers, as a user has them: the command, and processes that are killed."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from distributed import LocalCluster
from fake import CENTRE, quiet_list, with_burst, write_list

import xscan
from xscan import api
from xscan.backends.nvidia import Driver, Gpu
from xscan.cluster import DaskPool, on_devices, on_processes
from xscan.crew import Crew
from xscan.errors import ConfigError, DeviceError, MachineError
from xscan.memory import HEAP
from xscan.scanner import scan_folder
from xscan.store import ResultsWriter
from xscan.worker import Post

# Dask leaves a socket now and then to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")

VIEWS = ("--view", "5:0.2-12", "--view", "50:0.2-12", "--backend", "numpy")
OBSIDS = [f"{number:010d}" for number in range(1, 9)]
MISSING, BROKEN = OBSIDS[5], OBSIDS[6]
MAIN = "from xscan.cli import main; main()"
POISON = Path(__file__).parent / "poison.py"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight observations, all but two with a burst: one of those is missing, one damaged."""
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(8)
    for obsid in OBSIDS:
        burst = with_burst(quiet_list(rng, "m1", 300.0), rng, 30, 100.0, 4.0, CENTRE, CENTRE)
        path = write_list(root / obsid, burst, obsid)
        if obsid == BROKEN:
            path.write_bytes(path.read_bytes()[:3000])
        if obsid == MISSING:
            path.unlink()
            path.parent.rmdir()
    return root


def start(
    data: Path,
    out: Path,
    *options: object,
    obsids: list[str] = OBSIDS,
    env: dict[str, str] | None = None,
    preexec_fn: Callable[[], None] | None = None,
    main: str = MAIN,
) -> subprocess.Popen[str]:
    listed = out.parent / f"{out.name}.txt"
    listed.write_text("\n".join(obsids))
    command = [
        sys.executable,
        "-c",
        main,
        "archive",
        "--offline",
        "--obslist",
        listed,
        "--data",
        data,
        "--out",
        out,
        *VIEWS,
    ]
    return subprocess.Popen(
        [*map(str, command), *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1", "TERM": "dumb"} | (env or {}),
        start_new_session=True,
        preexec_fn=preexec_fn,
    )


def archive(data: Path, out: Path, *options: object, **more: object) -> tuple[int, str]:
    """Run to the end; give the exit code and what was said."""
    process = start(data, out, *options, **more)  # type: ignore[arg-type]
    _, said = process.communicate(timeout=100)
    assert "Traceback" not in said, said
    assert not left(process)
    return process.returncode, said


def left(process: subprocess.Popen[str]) -> list[int]:
    """Processes of a command that has ended, after a moment to follow it."""
    for _ in range(50):
        alive = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if in_session(pid, process.pid)]
        if not alive:
            return []
        time.sleep(0.1)
    return alive


def in_session(pid: int, session: int) -> bool:
    try:
        state, _, _, of = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(of) == session and state != "Z"


def states(out: Path) -> dict[str, str]:
    runs = xscan.open_results(out).table("runs", columns=["obsid", "state", "reason"]).to_pylist()
    return {row["obsid"]: row["reason"] or row["state"] for row in runs}


@pytest.fixture(scope="session")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of a plain loop's results."""
    out = tmp_path_factory.mktemp("plain") / "out"
    code, said = archive(data, out)
    assert (code, "Dask" in said) == (1, False)
    assert states(out) == dict.fromkeys(OBSIDS, "done") | {MISSING: "no_folder", BROKEN: "unreadable"}
    return xscan.open_results(out).content_hash()


@pytest.mark.parametrize("n", [1, 2])
def test_workers_find_the_same_in_any_order(data: Path, tmp_path: Path, undisturbed: str, n: int) -> None:
    shuffled = random.Random(n).sample(OBSIDS, len(OBSIDS))
    code, said = archive(data, tmp_path / "out", "--workers", n, "--plot", obsids=shuffled)
    assert code == 1
    assert said.count("Dask dashboard: http://127.0.0.1:") == 1
    assert f"{MISSING}: failed (no_folder" in said
    assert xscan.open_results(tmp_path / "out").content_hash() == undisturbed
    assert {path.name for path in (tmp_path / "out" / "plots").iterdir()} >= set(OBSIDS) - {MISSING, BROKEN}


def test_a_poisoned_observation_costs_itself(data: Path, tmp_path: Path, undisturbed: str) -> None:
    harm = {OBSIDS[1]: "exit", OBSIDS[2]: "lost", OBSIDS[3]: "hang", OBSIDS[4]: "memory"}
    poison = {
        "XSCAN_POISON": ",".join(f"{obsid}={what}" for obsid, what in harm.items()),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(POISON),
    }
    limits = ("--time-limit", 6, "--memory-limit", "700MB")
    code, said = archive(data, tmp_path / "out", "--workers", 2, *limits, env=poison)
    assert code == 1
    expected = {OBSIDS[1]: "worker_died", OBSIDS[2]: "device_lost", OBSIDS[3]: "time_limit", OBSIDS[4]: "memory_limit"}
    others = dict.fromkeys(OBSIDS, "done") | {MISSING: "no_folder", BROKEN: "unreadable"}
    assert states(tmp_path / "out") == others | expected
    assert "give it more with --time-limit" in said
    assert f"{OBSIDS[2]}: the GPU answers no more (cudaErrorIllegalAddress): this worker process ends" in said
    assert "distributed" not in said  # Dask's own account of it
    code, said = archive(data, tmp_path / "out", "--workers", 1, "--retry-failed")
    assert xscan.open_results(tmp_path / "out").content_hash() == undisturbed


def test_a_gpu_that_is_lost_stops_a_loop_that_goes_on_after_it(data: Path, tmp_path: Path, undisturbed: str) -> None:
    """No observation after it is searched by a process that has no device, and none is tried for ever."""
    main = f"import sys; sys.path.insert(0, {str(POISON.parent)!r}); import poison; {MAIN}"
    poison = {"XSCAN_POISON": f"{OBSIDS[2]}=lost"}
    code, said = archive(data, tmp_path / "out", main=main, env=poison)
    assert code == 3
    assert f"xscan: {OBSIDS[2]}: the GPU answers no more (cudaErrorIllegalAddress); see nvidia-smi" in said
    lost = {OBSIDS[2]: "device_lost"}
    assert states(tmp_path / "out") == dict.fromkeys(OBSIDS[:2], "done") | lost
    code, _ = archive(data, tmp_path / "out", "--retry-failed", main=main, env=poison)
    assert code == 3
    others = dict.fromkeys(OBSIDS, "done") | {MISSING: "no_folder", BROKEN: "unreadable"}
    assert states(tmp_path / "out") == others | lost
    archive(data, tmp_path / "out", "--retry-failed")
    assert xscan.open_results(tmp_path / "out").content_hash() == undisturbed


def test_gpus_that_are_lost_whatever_they_search_stop_the_workers(data: Path, tmp_path: Path) -> None:
    poison = {
        "XSCAN_POISON": ",".join(f"{obsid}=lost" for obsid in OBSIDS[1:]),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(POISON),
    }
    code, said = archive(data, tmp_path / "out", "--workers", 1, obsids=OBSIDS[:5], env=poison)
    assert code == 3
    assert "xscan: GPUs stop answering whatever they search, as with" in said
    assert states(tmp_path / "out") == {OBSIDS[0]: "done"} | dict.fromkeys(OBSIDS[1:4], "device_lost")


@pytest.mark.parametrize("crew", [("--workers", 1), ()])
def test_what_cannot_be_stored_costs_itself(data: Path, tmp_path: Path, crew: tuple[str, ...]) -> None:
    """A table that Arrow refuses is no reason to stop the others."""
    code = f"import sys; sys.path.insert(0, {str(POISON.parent)!r}); import poison; {MAIN}"
    poison = {"XSCAN_POISON": f"{OBSIDS[2]}=odd", "DASK_DISTRIBUTED__WORKER__PRELOAD": str(POISON)}
    process = start(data, tmp_path / "out", *crew, env=poison, main=code)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    expected = {MISSING: "no_folder", BROKEN: "unreadable", OBSIDS[2]: "error"}
    assert states(tmp_path / "out") == dict.fromkeys(OBSIDS, "done") | expected
    assert "failed (error: ValueError: not to be stored)" in said


def test_a_full_disk_stops_a_run_that_goes_on_later(data: Path, tmp_path: Path, undisturbed: str) -> None:
    poison = {"XSCAN_POISON": f"{OBSIDS[2]}=full", "DASK_DISTRIBUTED__WORKER__PRELOAD": str(POISON)}
    code, said = archive(data, tmp_path / "out", "--workers", 1, env=poison)
    assert code == 2
    (line,) = [line for line in said.splitlines() if line.startswith("xscan: ")]
    assert "cannot write results here: No space left on device; mend that and run the same command again" in line
    archive(data, tmp_path / "out", "--workers", 1)
    assert xscan.open_results(tmp_path / "out").content_hash() == undisturbed


def test_open_files_run_out(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is at fault, so none is on record as damaged."""

    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    recipe = api.recipe(backend="numpy")
    recipe.provenance()  # reads the code, once in a process
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MachineError, match=r"Too many open files.*ulimit -n.*goes on from here"):
        scan_folder(data / OBSIDS[0], recipe, OBSIDS[0])


def test_too_few_open_files_for_workers(data: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    process = start(data, tmp_path / "out", "--workers", 2, preexec_fn=limit)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "xscan: 2 workers need 168 open files, and this process may have 60; raise the limit" in said
    assert archive(data, tmp_path / "out", "--workers", 2)[0] == 1


def test_memory_runs_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("xscan.missions.xmm.read_event_list", refuse)
    _, tables = scan_folder(data / OBSIDS[0], api.recipe(backend="numpy"), OBSIDS[0])
    (row,) = tables.runs.to_pylist()
    assert (row["state"], row["reason"]) == ("failed", "memory_limit")


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


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("in vain")


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ("--workers", "1")), (signal.SIGINT, ("--workers", "2"))],
)
def test_a_signal_stops_a_run_that_goes_on_later(
    data: Path, tmp_path: Path, undisturbed: str, number: int, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    process = start(data, out, *options)
    wait_until(lambda: (out / "staging").is_dir() and any((out / "staging").glob("*.arrow")))
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert not left(process)
    if process.returncode != 1:  # else it was done before the signal came
        assert process.returncode == 128 + number
        assert said.splitlines()[-1].startswith(f"xscan: stopped by {signal.Signals(number).name}; what is finished is")
        assert "the same command goes on" in said
    assert "Traceback" not in said
    assert not list((out / "staging").iterdir())  # compacted
    archive(data, out, *options)
    assert xscan.open_results(out).content_hash() == undisturbed


def test_a_signal_that_comes_while_dask_lets_go_of_something(data: Path, tmp_path: Path, undisturbed: str) -> None:
    """Python swallows what is raised there."""
    code = """
import os, signal, sys
from distributed import Future
release, once = Future.release, [signal.SIGTERM]
def signalled(self, *args, **kwargs):
    if once and sys._getframe(1).f_code.co_name == "__del__":
        os.kill(os.getpid(), once.pop())
    return release(self, *args, **kwargs)
Future.release = signalled
"""
    process = start(data, tmp_path / "out", "--workers", 1, main=code + MAIN)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 143
    assert "Traceback" not in said
    assert "stopped by SIGTERM" in said
    archive(data, tmp_path / "out")
    assert xscan.open_results(tmp_path / "out").content_hash() == undisturbed


def test_a_signal_after_the_last_observation_stops_nothing(data: Path, tmp_path: Path, undisturbed: str) -> None:
    """It comes while parts are written, after the last observation."""
    code = """
import os, signal
from xscan.store import writer
gather = writer.compact
def compact(folder, *args):
    if any((folder / "staging").iterdir()):
        os.kill(os.getpid(), signal.SIGTERM)
    gather(folder, *args)
writer.compact = compact
"""
    process = start(data, tmp_path / "out", main=code + MAIN)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1  # some observations failed: nothing was left to stop
    assert "stopped" not in said
    assert not list((tmp_path / "out" / "staging").iterdir())
    assert xscan.open_results(tmp_path / "out").content_hash() == undisturbed


def test_nothing_outlives_a_coordinator_that_was_killed(data: Path, tmp_path: Path, undisturbed: str) -> None:
    out = tmp_path / "out"
    process = start(data, out, "--workers", 2)
    wait_until(lambda: (out / "staging").is_dir() and any((out / "staging").glob("*.arrow")))
    process.kill()
    process.wait()
    assert not left(process)
    process.communicate()
    archive(data, out, "--workers", 2)
    assert xscan.open_results(out).content_hash() == undisturbed


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
        assert xscan.open_results(tmp_path / "out").content_hash() == undisturbed


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
def test_what_cannot_be_had_is_one_line(data: Path, tmp_path: Path, options: list[str], code: int, says: str) -> None:
    backend = ("--backend", "cuda") if "--gpus" in options else ()
    found, said = archive(data, tmp_path / "out", *options, *backend, env={"CUDA_VISIBLE_DEVICES": "0,1"})
    assert found == code
    (line,) = [line for line in said.splitlines() if line.startswith("xscan: ")]
    assert says in line


@pytest.fixture
def post(data: Path, tmp_path: Path) -> Iterator[Post]:
    """An order for workers, with its folder open."""
    order = api.order(views=["5:0.2-12"], backend="numpy")
    with ResultsWriter(tmp_path / "out", order.provenance(), order.settings()):
        yield Post(order, data, tmp_path / "out", None)


def first_look(pool: DaskPool) -> frozenset[str]:
    while not (ready := pool.workers()):
        pool.wait(0.1)
    return ready


def heap() -> dict[str, int]:
    return {name: int(os.environ[name]) for name in HEAP}


def test_workers_that_cannot_be_used_are_refused(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would search with another method, or leave their results elsewhere."""
    with on_processes(1, None) as client:
        assert len(first_look(DaskPool(client, post, local=True))) == 1
        assert list(client.run(heap).values()) == [HEAP]
        with pytest.raises(
            MachineError, match=r"worker tcp://.*does not see .*nowhere; --data must be on a file system"
        ):
            first_look(DaskPool(client, replace(post, data=tmp_path / "nowhere"), local=False))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "_lock").write_text("process 1 on a host")
        monkeypatch.setattr("xscan.cluster.read_lock", lambda folder: "process 2 on this host")
        with pytest.raises(MachineError, match=r"does not see .*elsewhere; --out must be on a file system"):
            first_look(DaskPool(client, replace(post, out=elsewhere), local=False))
        monkeypatch.undo()
        with pytest.raises(DeviceError, match=r"worker tcp://.*the cuda backend does not work"):
            first_look(DaskPool(client, replace(post, order=replace(post.order, backend="cuda")), local=True))
        monkeypatch.setattr("xscan.cluster.__version__", "0.0.1")
        with pytest.raises(MachineError, match=rf"has xscan {xscan.__version__}, here is 0\.0\.1; install the same"):
            first_look(DaskPool(client, post, local=False))


def test_each_device_has_one_worker(post: Post) -> None:
    """Devices that are not there: nothing looks at them before a search."""
    with on_devices(["GPU-7", "GPU-3"], 2 * 10**9) as client:
        pool = DaskPool(client, post, local=True)
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
    (record,) = [record for record in caplog.records if record.name == "xscan.cluster"]
    assert record.message.startswith("dask-cuda does not work here (")
    assert "\n" not in record.message


def test_devices_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("H200", 10**11)
    monkeypatch.setattr("xscan.backends.nvidia.find_driver", lambda: Driver((12, 4), (gpu, gpu), 0))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Crew(gpus="all").devices() == ("0", "1")
    assert Crew(gpus="1").devices() == ("0",)
    with pytest.raises(DeviceError, match="--gpus 3: this machine shows 2") as caught:
        Crew(gpus="3").devices()
    assert caught.value.exit_code == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert Crew(gpus="2").devices() == ("GPU-a", "GPU-b")
    assert Crew(gpus="2").equip(api.order()).provenance().backend == "cuda"
    with pytest.raises(ConfigError, match="--gpus means --backend cuda, not numba"):
        Crew(gpus="2").equip(api.order(backend="numba"))
    assert Crew(workers=2).equip(api.order()).provenance().backend == "numba"  # whatever devices there are
