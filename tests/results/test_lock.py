"""One coordinator per folder, also on a file system without flock."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from xscan.errors import StoreError
from xscan.results import lock
from xscan.results.lock import locked, read_lock

HOLD = """
import errno, fcntl, sys
from pathlib import Path
def none(handle, operation):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = none
from xscan.errors import StoreError
from xscan.results.lock import locked
print("ready", flush=True)
sys.stdin.readline()
try:
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except StoreError as error:
    print("refused", error, flush=True)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that takes the lock, without flock, when it is sent a line; and gives it back at the next."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    """Let it go on to its end."""
    process.communicate("\n")


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, operation: int) -> None:
        raise OSError(getattr(errno, request.param), os.strerror(getattr(errno, request.param)))

    monkeypatch.setattr(fcntl, "flock", none)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_stands_for_the_lock(tmp_path: Path, no_flock: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        assert read_lock(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
        assert len(left(tmp_path)) == 2
    assert "no locks on this file system" in caplog.text
    assert left(tmp_path) == ["_lock"]
    assert read_lock(tmp_path) == ""
    with locked(tmp_path):
        pass


def test_other_trouble_with_the_lock_stays_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(handle: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path):
        pass


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path)
    tell(first)
    assert answer(first) == "held"
    tell(second)
    said = answer(second)
    assert said.startswith("refused")
    assert f"process {first.pid} on " in said
    end(first)
    end(second)
    assert (first.returncode, second.returncode) == (0, 0)
    assert left(tmp_path) == ["_lock"]


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    first = start(tmp_path)
    tell(first)
    assert answer(first) == "held"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert len(left(tmp_path)) == 2
    second = start(tmp_path)
    tell(second)
    assert answer(second) == "held"
    end(second)
    assert second.returncode == 0
    assert left(tmp_path) == ["_lock"]


def test_of_several_at_once_one_holds_it_at_most(tmp_path: Path) -> None:
    for _ in range(2):
        dead = tmp_path / f"_lock-999999999-1-{socket.gethostname()}"
        dead.touch()  # to be removed by all of them
        processes = [start(tmp_path) for _ in range(4)]
        for process in processes:
            tell(process)
        said = [answer(process).partition(" ")[0] for process in processes]
        assert said.count("held") <= 1
        assert set(said) <= {"held", "refused"}
        for process in processes:
            end(process)
        assert left(tmp_path) == ["_lock"]


def test_a_number_that_another_process_has_now(tmp_path: Path, no_flock: None) -> None:
    (tmp_path / f"_lock-{os.getppid()}-1-{socket.gethostname()}").touch()  # it started at another time
    with locked(tmp_path):
        pass
    mine = f"_lock-{os.getppid()}-{lock._started(os.getppid())}-{socket.gethostname()}"
    (tmp_path / mine).touch()
    with pytest.raises(StoreError, match=f"process {os.getppid()} on"), locked(tmp_path):
        pass


def test_another_host_is_believed(tmp_path: Path, no_flock: None) -> None:
    theirs = tmp_path / "_lock-12-345-elsewhere.example"
    theirs.touch()
    with (
        pytest.raises(StoreError, match=rf"process 12 on elsewhere.*remove {theirs} and {tmp_path}/_lock"),
        locked(tmp_path),
    ):
        pass
    assert left(tmp_path) == ["_lock", theirs.name]
    theirs.unlink()
    (tmp_path / "_lock").write_text("process 12 on elsewhere.example")
    with pytest.raises(StoreError, match=r"elsewhere.*remove"), locked(tmp_path):
        pass
    assert left(tmp_path) == ["_lock"]


def test_without_proc(tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_started", lambda pid: 0)
    (tmp_path / f"_lock-999999999-0-{socket.gethostname()}").touch()
    with locked(tmp_path):
        pass
    (tmp_path / f"_lock-{os.getppid()}-0-{socket.gethostname()}").touch()
    with pytest.raises(StoreError, match="writes here"), locked(tmp_path):
        pass
