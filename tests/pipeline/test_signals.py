"""Runs that are stopped, by a signal or by kill -9."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from helpers.running import MAIN, archive, data, left, start, undisturbed, wait_until

import xscan

__all__ = ["data", "undisturbed"]  # fixtures

# Dask leaves a socket now and then to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


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
    archive(data, out)
    assert xscan.open_results(out).content_digest() == undisturbed


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
    assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_while_workers_start(data: Path, tmp_path: Path, undisturbed: str, number: int) -> None:
    """They do not come up, for that reason alone."""
    code = f"""
import os, threading, distributed
from xscan.pipeline import dask_cluster
def start(**options):
    threading.Timer(0.8, os.killpg, (0, {int(number)})).start()
    return distributed.LocalCluster(**options)
dask_cluster.LocalCluster = start
"""
    process = start(data, tmp_path / "out", "--workers", 2, main=f"{code}\n{MAIN}")
    _, said = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1].startswith(f"xscan: stopped by {signal.Signals(number).name}; what is finished is")
    assert "Traceback" not in said
    assert not left(process)
    archive(data, tmp_path / "out")
    assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed


def test_a_second_interrupt_ends_a_run_whose_workers_do_not_start(data: Path, tmp_path: Path) -> None:
    code = """
import time
from xscan.pipeline import dask_cluster
def start(**options):
    print("starting", flush=True)
    time.sleep(60)
dask_cluster.LocalCluster = start
"""
    process = start(data, tmp_path / "out", "--workers", 2, main=code + MAIN)
    assert process.stdout is not None
    assert process.stdout.readline() == "starting\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert process.wait(20) == 130
    _, said = process.communicate()
    assert said.splitlines()[-1].startswith("xscan: ended at once by a second SIGINT; what is finished is kept")


def test_an_interrupt_before_a_run_has_begun_is_told(data: Path, tmp_path: Path) -> None:
    """While libraries are loaded."""
    code = """
import os, signal, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "xscan.cli.archive":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Watch())
"""
    process = start(data, tmp_path / "out", main=code + MAIN)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "xscan: stopped by SIGINT\n")
    assert not (tmp_path / "out").exists()


def test_a_second_interrupt_after_a_run_is_told(data: Path, tmp_path: Path) -> None:
    """While the interpreter goes; nothing else is said."""
    code = """
import atexit, os, signal
from xscan.pipeline import local
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
search = local.search_reading
def stopped(*args):
    os.kill(os.getpid(), signal.SIGINT)
    return search(*args)
local.search_reading = stopped
"""
    process = start(data, tmp_path / "out", main=code + MAIN)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    told = [line.partition(";")[0] for line in said.splitlines()[-2:]]
    assert told == ["xscan: stopped by SIGINT", "xscan: ended at once by a second SIGINT"]


def test_a_signal_after_the_last_observation_stops_nothing(data: Path, tmp_path: Path, undisturbed: str) -> None:
    """It comes while parts are written, after the last observation."""
    code = """
import os, signal
from xscan.results import writer
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
    assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed


def test_nothing_outlives_a_coordinator_that_was_killed(data: Path, tmp_path: Path, undisturbed: str) -> None:
    out = tmp_path / "out"
    process = start(data, out, "--workers", 2)
    wait_until(lambda: (out / "staging").is_dir() and any((out / "staging").glob("*.arrow")))
    process.kill()
    process.wait()
    assert not left(process)
    process.communicate()
    archive(data, out)
    assert xscan.open_results(out).content_digest() == undisturbed
