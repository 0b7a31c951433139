"""Measure what needs a process of its own: peak memory, and the time of a fresh start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xscan.api import scan_settings
from xscan.bench.clock import Seconds
from xscan.bench.machine import child_environment
from xscan.errors import BenchError
from xscan.pipeline.local import run
from xscan.pipeline.outcome import ObservationSummary
from xscan.pipeline.process import peak_bytes
from xscan.pipeline.scan import Scanner
from xscan.pipeline.task import Task
from xscan.results.writer import ResultsWriter

__all__ = ["fresh_scan", "peak_mib", "scan_and_store"]

FRESH = "from xscan.cli.app import main; main()"
# as the command does, before the libraries are loaded
PEAK = (
    "from xscan.pipeline.process import one_heap; one_heap(); from xscan.bench.child import report_peak; report_peak()"
)


def fresh_scan(folder: Path, backend: str, work: Path, numba_cache: Path | None = None) -> Seconds:
    """Run ``xscan scan`` in a new process; return its time from start to exit.

    Parameters
    ----------
    folder : Path
        The observation.
    backend : str
    work : Path
        Folder for results, which are removed afterwards.
    numba_cache : Path, optional
        Folder for compiled code; with an empty one, the time includes compiling.
    """
    extra = {} if numba_cache is None else {"NUMBA_CACHE_DIR": str(numba_cache)}
    with tempfile.TemporaryDirectory(dir=work) as out:
        seconds, _ = _run(FRESH, ["scan", str(folder), "--out", out, "--backend", backend], extra)
    return seconds


def peak_mib(folder: Path, backend: str, work: Path, scans: int) -> float:
    """Scan an observation several times in one new process; return its peak memory, MiB."""
    _, said = _run(PEAK, [str(folder), backend, str(work), str(scans)], {})
    return float(json.loads(said))


def _run(code: str, arguments: list[str], extra: dict[str, str]) -> tuple[Seconds, str]:
    """Run Python code in a new process; return its time (CPU of all threads, and wall), and what it printed."""
    command = [sys.executable, "-c", code, *arguments]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as trouble:
        with subprocess.Popen(command, stdout=said, stderr=trouble, env=child_environment(**extra)) as process:
            # wait4 is for this child alone; getrusage(RUSAGE_CHILDREN) sums all children
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:  # interrupted: it must not go on writing into a folder that is being removed
                process.kill()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        said.seek(0)
        trouble.seek(0)
        if process.returncode != 0:
            last = (trouble.read().strip().splitlines() or ["no message"])[-1]
            raise BenchError(f"a scan in a process of its own ended with exit code {process.returncode}: {last}")
        return Seconds(usage.ru_utime + usage.ru_stime, wall), said.read()


def scan_and_store(folder: Path, scanner: Scanner, writer: ResultsWriter) -> None:
    """Scan an observation and store it, as ``xscan scan`` does.

    Raises
    ------
    BenchError
        If nothing in it could be searched.
    """
    heard: list[ObservationSummary] = []
    with writer:
        run([Task(None, folder)], scanner, writer, heard.append)
    outcome = heard[0].outcome
    if outcome.state != "done":
        raise BenchError(f"{folder}: not searched, so not measured: {outcome.message}")


def report_peak() -> None:
    """Do in the child what :func:`peak_mib` asks for, and print the peak."""
    folder, backend, work, scans = sys.argv[1:]
    scanner = scan_settings("views", backend=backend).scanner()
    for _ in range(int(scans)):
        with tempfile.TemporaryDirectory(dir=work) as out:
            writer = ResultsWriter(Path(out), scanner.provenance(), scanner.settings.by_name())
            scan_and_store(Path(folder), scanner, writer)
    print(json.dumps((peak_bytes(os.getpid()) or 0) / 2**20))
