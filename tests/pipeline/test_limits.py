"""Limits of a machine: disk, memory, open files."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
from helpers.running import BROKEN, MISSING, OBSIDS, POISON, POISONED, archive, data, start, states, undisturbed

import xscan
from xscan import api
from xscan.errors import MachineError
from xscan.pipeline.scan import scan_folder

__all__ = ["data", "undisturbed"]  # fixtures

# Dask leaves a socket now and then to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("options", [("--workers", 1), ()])
def test_what_cannot_be_stored_costs_itself(data: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """A table that Arrow refuses is no reason to stop the others."""
    poison = {"XSCAN_POISON": f"{OBSIDS[2]}=odd", "DASK_DISTRIBUTED__WORKER__PRELOAD": str(POISON)}
    process = start(data, tmp_path / "out", *options, env=poison, main=POISONED)
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
    assert xscan.open_results(tmp_path / "out").content_digest() == undisturbed


def test_a_log_that_cannot_be_written_stops_nothing(data: Path, tmp_path: Path, undisturbed: str) -> None:
    def full() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)

    def nobody_reads() -> None:
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(read)

    cases = [(full, ()), (nobody_reads, ("--log-format", "json")), (nobody_reads, ("--workers", "1"))]
    for number, (log, options) in enumerate(cases):
        out = tmp_path / f"{number}"
        # as most have it: a buffer keeps what could not be written
        code, said = archive(data, out, *options, preexec_fn=log, env={"PYTHONUNBUFFERED": ""})
        assert (code, said) == (1, "")
        assert xscan.open_results(out).content_digest() == undisturbed


def test_open_files_run_out(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is at fault, so none is on record as damaged."""

    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    scanner = api.scan_settings(backend="numpy").scanner()
    scanner.provenance()  # reads the code, once in a process
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MachineError, match=r"Too many open files.*ulimit -n.*goes on from here"):
        scan_folder(data / OBSIDS[0], scanner, OBSIDS[0])


def test_too_few_open_files_for_workers(data: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    process = start(data, tmp_path / "out", "--workers", 2, preexec_fn=limit)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "xscan: 2 workers need 168 open files, and this process may have 60; raise the limit" in said
    assert archive(data, tmp_path / "out")[0] == 1


def test_memory_runs_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("xscan.missions.xmm.observation.read_event_list", refuse)
    _, tables = scan_folder(data / OBSIDS[0], api.scan_settings(backend="numpy").scanner(), OBSIDS[0])
    (row,) = tables.runs.to_pylist()
    assert (row["state"], row["reason"]) == ("failed", "memory_limit")
