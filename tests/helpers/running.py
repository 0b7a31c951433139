"""The archive command as a user has it, on eight small observations."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xscan
from helpers.lists import CENTRE, quiet_list, with_burst, write_list

BACKEND = ("--backend", "numpy")
OBSIDS = [f"{number:010d}" for number in range(1, 9)]
MISSING, BROKEN = OBSIDS[5], OBSIDS[6]
MAIN = "from xscan.cli.app import main; main()"
POISON = Path(__file__).parent / "poison.py"
POISONED = f"import sys; sys.path.insert(0, {str(POISON.parent)!r}); import poison; {MAIN}"


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
        *BACKEND,
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
    return xscan.open_results(out).content_digest()


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("in vain")
