"""Search observations one after the other in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from xscan.backends.cuda.device import DeviceLost
from xscan.errors import DeviceError, XscanError
from xscan.pipeline.outcome import ObservationSummary, summarize
from xscan.pipeline.scan import Reading, Scanner, failure, read_folder, search_reading
from xscan.pipeline.task import Task
from xscan.results.reader import open_results
from xscan.results.tables import Tables
from xscan.results.writer import ResultsWriter
from xscan.schema import SCHEMAS

__all__ = [
    "LOST_REMEDY",
    "OnEnded",
    "draw_missing",
    "draw_pictures",
    "run",
    "store",
]

log = logging.getLogger(__name__)

LOST_REMEDY = "see nvidia-smi and dmesg, then run the same command again"
"""What to do when a GPU stops answering."""

OnEnded = Callable[[ObservationSummary], None]
"""Called with the summary of each observation when it has ended."""


def run(
    tasks: Iterable[Task | None], scanner: Scanner, writer: ResultsWriter, on_ended: OnEnded, plots: Path | None = None
) -> None:
    """Scan observations one after the other in this process, and store each when it is done.

    While one is searched, a thread reads the next, so two are in memory.

    Parameters
    ----------
    tasks : iterable of Task or None
        Taken one at a time, when needed; None if there is none at the moment.
    scanner : Scanner
    writer : ResultsWriter
    on_ended : callable
    plots : Path, optional
        Folder for pictures. They are drawn after the results are stored; errors in drawing are only logged.

    Raises
    ------
    StoreError
        If results cannot be stored.
    MachineError
        If the machine lacks what any observation needs.
    DeviceError
        If the GPU no longer answers.
    """
    for reading in _read_ahead(tasks, scanner):
        started = time.perf_counter()
        try:
            tables = search_reading(reading, scanner)
        except DeviceLost as error:
            _put_on_record(error, reading, writer, on_ended, started)
            raise DeviceError(f"{reading.obsid}: the GPU answers no more ({error}); {LOST_REMEDY}") from None
        tables = store(writer.write, reading, tables)
        draw_pictures(plots, reading.obsid, tables)
        on_ended(summarize(tables, reading.seconds + time.perf_counter() - started))


def _put_on_record(
    error: DeviceLost, reading: Reading, writer: ResultsWriter, on_ended: OnEnded, started: float
) -> None:
    """Store the observation as failed, because it may have cost the device: the next run would lose it there again."""
    seconds = time.perf_counter() - started
    tables = store(writer.write, reading, failure(reading, error, seconds))
    on_ended(summarize(tables, reading.seconds + seconds))


def _read_ahead(tasks: Iterable[Task | None], scanner: Scanner) -> Iterator[Reading]:
    """Read each observation while the one before it is being searched."""
    with ThreadPoolExecutor(1, "xscan-read") as reader:
        ahead: Future[Reading] | None = None
        for task in tasks:
            before, ahead = ahead, None
            if task is not None:
                ahead = reader.submit(read_folder, task.place, scanner, task.obsid)
            if before is not None:
                yield before.result()
        if ahead is not None:
            yield ahead.result()


def store(write: Callable[[str, Tables], None], reading: Reading, tables: Tables) -> Tables:
    """Store the tables of an observation. If they cannot be stored for a reason of its own, store it as failed.

    Parameters
    ----------
    write : callable
        Takes obsid and tables.
    reading : Reading
    tables : Tables

    Returns
    -------
    Tables
        What was stored.

    Raises
    ------
    StoreError
        If the disk rejects it: it would reject any other observation too.
    MachineError
        If the machine lacks what any observation needs.

    Examples
    --------
    What cannot be stored for a reason of its own is stored as failed, with the reason:

    >>> def write(obsid, tables):
    ...     if tables.regions.num_rows:
    ...         raise ValueError("a name that no text column holds")
    >>> reading = read_folder(folder, scanner)
    >>> store(write, reading, tables).runs.select(["state", "message"]).to_pylist()
    [{'state': 'failed', 'message': 'ValueError: a name that no text column holds'}]
    """
    started = time.perf_counter()
    try:
        write(reading.obsid, tables)
    except XscanError:
        raise
    except Exception as error:
        tables = failure(reading, error, time.perf_counter() - started)
        write(reading.obsid, tables)
    return tables


def draw_pictures(plots: Path | None, obsid: str, tables: Tables) -> None:
    """Draw an observation into its folder below ``plots``, if that is given; errors are only logged."""
    if plots is None:
        return
    from xscan.report.plots import draw  # loads matplotlib

    try:
        draw(plots / obsid, obsid, tables)
    except Exception as error:  # the results are stored: a missing picture must not end the run
        log.warning("%s: no pictures in %s: %s: %s", obsid, plots / obsid, type(error).__name__, error)


def draw_missing(plots: Path, out: Path, obsids: Collection[str], say: Callable[[str], None]) -> None:
    """Draw those of some stored observations of which a picture is missing, as where a run with pictures was stopped.

    Parameters
    ----------
    plots : Path
        Folder for pictures.
    out : Path
        Folder of results.
    obsids : collection of str
    say : callable
        Called with a line if there is anything to draw.
    """
    from xscan.report.plots import without_pictures

    results = open_results(out)
    missing = [obsid for obsid in without_pictures(results, plots) if obsid in obsids]
    if missing:
        say(f"drawing the pictures that are missing of {len(missing)} observation{'s' * (len(missing) != 1)}")
    for obsid in missing:
        draw_pictures(plots, obsid, Tables(*(results.table(name, obsid) for name in SCHEMAS)))
