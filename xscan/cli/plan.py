"""``xscan plan``."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import typer

from xscan.archives import RequestLimits
from xscan.cli.archive import NOT_HERE
from xscan.errors import ConfigError
from xscan.missions.xmm.products import PRODUCTS
from xscan.pipeline.executor import Executor, ExecutorOptions
from xscan.pipeline.obslist import Obslist
from xscan.pipeline.plan.calibrate import LEAST_S, LIMIT_S, calibrate, sample_size
from xscan.pipeline.plan.estimate import Measured, estimate
from xscan.pipeline.plan.forecast import Plan, to_json, to_lines
from xscan.pipeline.plan.sample import choose, stock
from xscan.pipeline.scan import ScanSettings
from xscan.pipeline.signals import Interrupted, StopSignal, interruptible
from xscan.pipeline.task import Task, unfinished
from xscan.results.folder import holds_results
from xscan.results.ledger import read_ledger
from xscan.results.reader import open_results
from xscan.simulate import simulate_archive

__all__ = ["plan"]

_TYPICAL_BYTES = 60_000_000
"""Assumed size of an observation's event lists if none is on disk, bytes; only the order of magnitude matters."""

_STAND_INS_S = (10_000.0, 15_000.0, 20_000.0, 30_000.0, 40_000.0)
"""Exposure times of the observations that are simulated if none is on disk, s."""


def plan(
    obslist: Obslist,
    data: Path,
    out: Path,
    settings: ScanSettings,
    options: ExecutorOptions,
    sample: int | None,
    retry_failed: bool,
    json: bool,
) -> int:
    """Print what a run will take; return the exit code."""
    data, out = data.absolute(), out.absolute()
    executor = options.resolve(settings)
    tasks = [Task(obsid, data / obsid) for obsid in obslist.obsids]
    held = {}
    if holds_results(out, executor.settings.provenance(), executor.settings.by_name()):
        held = read_ledger(open_results(out))
    todo = [task.name for task in unfinished(tasks, held, retry_failed, NOT_HERE)[0]]
    listed = stock(data, obslist.obsids)
    here = {obsid: listed[obsid] for obsid in todo if obsid in listed}
    n_missing = len(todo) - len(here)
    mean_bytes = round(sum(listed.values()) / len(listed)) if listed else _TYPICAL_BYTES
    planned = Plan(
        n_listed=len(obslist.obsids),
        n_searched=len(obslist.obsids) - len(todo),
        n_here=len(here),
        n_missing=n_missing,
        here_bytes=sum(here.values()),
        fetch_bytes=n_missing * mean_bytes,
        mean_bytes=mean_bytes,
        mean_is_known=bool(listed),
        fetch_s_min=n_missing * len(PRODUCTS) / RequestLimits().requests_per_s,
        free_bytes=shutil.disk_usage(_nearest(out)).free,
    )
    loading_s = time.process_time()  # a run spends the same time on loading libraries and reading the list
    if todo:
        try:
            with interruptible() as stop_signal, _workplace(out) as work:
                begun_s = time.perf_counter()
                measured = _measure(here or listed, data, work, executor, sample, stop_signal)
        except Interrupted as signal:
            _note(f"xscan: stopped by {signal}")
            return signal.exit_code
        expected = estimate(measured, [*here.values(), *[mean_bytes] * n_missing])
        start_s = loading_s + expected.start_s
        planned = replace(
            planned,
            n_sample=len(measured.stored),
            sample_is_made_up=not listed,
            calibration_s=time.perf_counter() - begun_s,
            n_workers=measured.n_workers,
            start_s=start_s,
            search_s=expected.search_s,
            hours=(start_s + expected.search_s) / 3600,
            result_bytes=expected.result_bytes,
            worker_memory_bytes=expected.worker_memory_bytes,
        )
    typer.echo(to_json(planned) if json else "\n".join(to_lines(planned)))
    return 0


def _measure(
    sizes: dict[str, int],
    data: Path,
    work: Path,
    executor: Executor,
    sample: int | None,
    stop_signal: StopSignal,
) -> Measured:
    """Search some observations on disk, or simulated ones if there are none; their results go into ``work``."""
    if not sizes:
        data = work / "data"
        _note("none of these observations is on disk: some are simulated to measure on")
        _stand_ins(data)
        sizes = stock(data, [path.name for path in data.iterdir() if path.is_dir()])
    tasks = [Task(obsid, data / obsid) for obsid in choose(sizes, sample or sample_size(executor.options.n_workers()))]
    return calibrate(tasks, sizes, executor, data, work / "results", LEAST_S, LIMIT_S, _note, stop_signal)


def _nearest(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Make a folder beside the results, with the same disk and visible to workers; remove it at the end."""
    try:
        work = tempfile.TemporaryDirectory(prefix=".xscan-plan-", dir=_nearest(out.parent), ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be written beside: {error.strerror}; give an --out that can be made"
        ) from None
    with work as folder:
        yield Path(folder)


def _stand_ins(data: Path) -> None:
    """Simulate some observations in a process of its own, so that its memory is not counted as the search's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(simulate_archive, data, len(_STAND_INS_S), 1, _STAND_INS_S).result()


def _note(line: str) -> None:
    typer.echo(line, err=True)
