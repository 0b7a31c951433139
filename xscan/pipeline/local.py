"""Find which observations are left to do, and search them one after the other in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from xscan.backends.cuda.device import DeviceLost
from xscan.errors import DeviceError, Reason, XscanError
from xscan.missions.xmm.files import Files, Place
from xscan.pipeline.digests import inputs_digest, other_files
from xscan.pipeline.outcome import ObservationSummary, summarize
from xscan.pipeline.scan import Reading, Scanner, failure, read_folder, search_reading
from xscan.results.ledger import Outcome
from xscan.results.tables import Tables
from xscan.results.writer import ResultsWriter

__all__ = [
    "LOST_REMEDY",
    "OnEnded",
    "Task",
    "draw_pictures",
    "files_now",
    "name_of",
    "run",
    "store",
    "unfinished",
]

log = logging.getLogger(__name__)

Task = tuple[str | None, Place]
"""Obsid, if known, and folder or files of an observation."""

LOST_REMEDY = "see nvidia-smi and dmesg, then run the same command again"
"""What to do when a GPU stops answering."""

OnEnded = Callable[[ObservationSummary], None]
"""Called with the summary of each observation when it has ended."""


def name_of(task: Task) -> str:
    """Return the name of an observation before it is read: its obsid, if known, else the name of its folder."""
    obsid, place = task
    return obsid or place.name or "unnamed"


def files_now(place: Place) -> str:
    """Return the digest of an observation's files; also empty where some of the files that were fetched are missing."""
    from xscan.archives.marker import is_whole

    return inputs_digest(place) if isinstance(place, Files) or is_whole(place) else ""


def unfinished(
    tasks: Iterable[Task], held: Mapping[str, Outcome], retry_failed: bool = False, again: Collection[str] = ()
) -> tuple[list[Task], list[Outcome]]:
    """Split tasks into those to be searched and those already searched, in whatever state these ended.

    Parameters
    ----------
    tasks : iterable of Task
    held : mapping of str to Outcome
        From :func:`xscan.results.ledger.read_ledger`: the results that the folder has of this configuration.
    retry_failed : bool
        Search again what failed before.
    again : collection of str
        Reasons for which a failed observation is always searched again.

    Returns
    -------
    todo : list of Task
        Tasks without a stored outcome, with changed input files, or without a known obsid; those that lost a GPU
        before come last. Missing files do not count as a change.
    kept : list of Outcome
        The outcomes of the others.
    """
    todo: list[Task] = []
    kept: list[Outcome] = []
    for obsid, folder in tasks:
        before = None if obsid is None else held.get(obsid)
        failed = before is not None and before.state == "failed" and (retry_failed or before.reason in again)
        if before is None or failed or other_files(before.inputs_digest, files_now(folder)):
            todo.append((obsid, folder))
        else:
            kept.append(before)
    lost = {obsid for obsid, before in held.items() if before.reason == Reason.DEVICE_LOST}
    todo.sort(key=lambda task: task[0] in lost)
    return todo, kept


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
                obsid, folder = task
                ahead = reader.submit(read_folder, folder, scanner, obsid)
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
