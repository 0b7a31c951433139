"""Run the measurements of ``xscan bench`` one after the other."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from xscan.api import scan_settings
from xscan.backends import BACKENDS, get_backend
from xscan.backends.cuda.driver import device_is_there
from xscan.bench.child import fresh_scan, peak_mib, scan_and_store
from xscan.bench.clock import Seconds, measured, rounds, timed
from xscan.bench.growth import consume, grow
from xscan.bench.gunzip import inflater
from xscan.bench.machine import describe_machine, describe_versions
from xscan.bench.record import Measurement, Report
from xscan.bench.stages import Stopwatch, watching
from xscan.bench.workloads import LIKE_A, LIKE_L, Workload, made, opened
from xscan.config import View, load_config
from xscan.errors import BenchError, DeviceError
from xscan.pipeline.scan import Scanner
from xscan.results.writer import ResultsWriter

__all__ = ["bench", "present", "scans"]

THREE_BANDS = tuple(View(5.0, *band) for band in ((0.2, 2.0), (2.0, 12.0), (0.2, 12.0)))
SCANS_IN_A_PROCESS = 5
BUDGET_S = 40.0
BUSY = 0.25  # load average per core
QUICK_ROUNDS = 3

Say = Callable[[str], None]


def bench(folder: Path | None, backends: Sequence[str], repeat: int, quick: bool, work: Path, say: Say) -> Report:
    """Take all measurements of ``xscan bench``.

    Parameters
    ----------
    folder : Path or None
        An observation of the user's, or None for the simulated ones.
    backends : sequence of str
        Names; empty for all that work here.
    repeat : int
        Rounds of each measurement; fewer where they take more than 40 s together.
    quick : bool
        Only the short observation, three rounds at most, and no growth.
    work : Path
        Folder in which simulated observations are kept; results are written there and removed.
    say : callable
        Called with a line for each step, for progress.

    Raises
    ------
    BenchError
        If an observation cannot be made or searched.
    DataError
        If the folder is no observation.
    DeviceError, ConfigError
        If a backend asked for does not work here or is unknown.
    """
    machine, versions = describe_machine(), describe_versions()  # first, before the machine is busy
    names = present(backends, say)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"{work}: cannot be made: {error.strerror}; give --work another folder") from None
    if folder is not None:
        workloads = [opened(folder)]
    else:
        workloads = [made(simulated, work, say) for simulated in ((LIKE_A,) if quick else (LIKE_A, LIKE_L))]
    if machine["load"] > BUSY * machine["cores"]:
        say(f"this machine is busy (load {machine['load']} on {machine['cores']} cores): expect times too long")
    repeat = min(repeat, QUICK_ROUNDS) if quick else repeat
    taken: list[Measurement] = []
    for workload in workloads:
        for name in names:
            taken += scans(workload, scan_settings("views", backend=name).scanner(), repeat, work, say)
            taken += _peak(workload, name, work, say)
            if workload is workloads[0]:
                taken += _starts(workload, name, repeat, work, say)
    if folder is None and not quick:
        for name in names:
            taken += grow(workloads[-1].observation, get_backend(name), say)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    sizes = {workload.name: workload.size() for workload in workloads}
    return Report(date, machine, versions, sizes, tuple(taken))


def present(asked: Sequence[str], say: Say) -> list[str]:
    """Return the names of the backends to measure: the requested ones, or all that work here."""
    if asked:
        return list(dict.fromkeys(get_backend(name).name for name in asked))
    names = []
    for name in reversed(BACKENDS):  # the fastest first
        if name == "auto" or (name == "cuda" and not device_is_there()):
            continue
        try:
            names.append(get_backend(name).name)
        except DeviceError as error:
            say(f"without {name}: {error}")
    return names


def scans(workload: Workload, scanner: Scanner, repeat: int, work: Path, say: Say) -> list[Measurement]:
    """Measure in turn: inflating, nine views from files to tables by stages, three bands and windows after reading.

    The search by windows, the default, is also measured from files to tables.
    """
    backend = scanner.backend.name
    bands, windows = load_config(views=THREE_BANDS), load_config()
    settings = dataclasses.replace(scanner.settings, config=windows, profile="default")
    by_windows = dataclasses.replace(scanner, settings=settings)

    def search_bands() -> None:
        consume(workload.observation, bands, scanner.backend)

    def search_windows() -> None:
        consume(workload.observation, windows, scanner.backend)

    def scan_windows() -> None:
        with tempfile.TemporaryDirectory(dir=work) as out:
            writer = ResultsWriter(Path(out), by_windows.provenance(), by_windows.settings.by_name())
            scan_and_store(workload.folder, by_windows, writer)

    say(f"{workload.name}: {backend}, whole scans beside gunzip")
    _staged(workload, scanner, work)  # compiles, and fills the caches
    search_bands()
    scan_windows()
    inflated, by_stage, searched, of_windows, scanned = [], [], [], [], []
    with inflater(workload.files) as inflate:
        for _ in rounds(repeat, BUDGET_S):
            inflated.append(inflate())
            by_stage.append(_staged(workload, scanner, work))
            searched.append(timed(search_bands))
            of_windows.append(timed(search_windows))
            scanned.append(timed(scan_windows))
    as_whole, in_pieces = zip(*inflated, strict=True)
    taken = measured("gunzip", workload.name, backend, as_whole)
    taken += measured("gunzip, streamed", workload.name, backend, in_pieces)
    taken += measured("scan", workload.name, backend, [sum(s.values(), Seconds()) for s in by_stage])
    taken += measured("bands", workload.name, backend, searched)
    taken += measured("windows", workload.name, backend, of_windows)
    taken += measured("scan by windows", workload.name, backend, scanned)
    for stage in by_stage[0]:
        taken += measured(f"stage: {stage}", workload.name, backend, [spent[stage] for spent in by_stage])
    return taken


def _staged(workload: Workload, scanner: Scanner, work: Path) -> dict[str, Seconds]:
    """Scan from files to Parquet; return the time of each stage, which add up to the whole."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        writer = ResultsWriter(Path(out), scanner.provenance(), scanner.settings.by_name())
        stopwatch = Stopwatch()
        with watching(scanner, stopwatch) as watched:
            scan_and_store(workload.folder, watched, writer)
        return stopwatch.stop()


def _peak(workload: Workload, backend: str, work: Path, say: Say) -> list[Measurement]:
    """Measure the peak memory of some scans in one process."""
    say(f"{workload.name}: {backend}, peak memory")
    peak = peak_mib(workload.folder, backend, work, SCANS_IN_A_PROCESS)
    return [Measurement("peak memory", workload.name, backend, "memory", "MiB", (peak,))]


def _starts(workload: Workload, backend: str, repeat: int, work: Path, say: Say) -> list[Measurement]:
    """Measure whole commands: with an empty cache of compiled code, and with a filled one."""
    say(f"{workload.name}: {backend}, fresh processes")
    with tempfile.TemporaryDirectory(dir=work) as empty:
        cold = fresh_scan(workload.folder, backend, work, Path(empty))
    fresh = [fresh_scan(workload.folder, backend, work) for _ in rounds(repeat, BUDGET_S)]
    taken = measured("first process", workload.name, backend, [cold])
    return taken + measured("fresh process", workload.name, backend, fresh)
