"""Make a release: search new and changed observations, carry over the rest, and record what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xscan.errors import ConfigError, StoreError
from xscan.io.atomic import named_trouble, write_whole
from xscan.pipeline.release.changes import Change, changes, reasons_for
from xscan.pipeline.release.difference import compare_events, compare_regions
from xscan.pipeline.release.record import Release, list_digest, read_release, releases, write_release
from xscan.pipeline.task import Task, files_now, unfinished
from xscan.results.ledger import Outcome, read_ledger
from xscan.results.reader import open_results
from xscan.results.tables import Provenance
from xscan.results.writer import ResultsWriter
from xscan.schema import column

__all__ = ["OBSERVATION_CHANGES", "Made", "make_release", "prepare"]

OBSERVATION_CHANGES = pa.schema(
    [
        column("obsid", pa.string(), "", "observation identifier, ten digits"),
        column("reason", pa.string(), "", "why it was searched again, or withdrawn"),
        column("state_before", pa.string(), "", "what became of it in the previous release; null if added", True),
        column("state", pa.string(), "", "what became of it now; null if withdrawn", True),
        column("n_found_before", pa.int64(), "", "events; null if added", True),
        column("n_found", pa.int64(), "", "events; null if withdrawn", True),
        column("n_regions_before", pa.int64(), "", "null if added", True),
        column("n_regions", pa.int64(), "", "null if withdrawn", True),
    ]
)


@dataclass(frozen=True, slots=True)
class Made:
    """A release that is finished, and what it changed.

    Attributes
    ----------
    release : Release
    observations : pyarrow.Table
        As :data:`OBSERVATION_CHANGES`.
    events : pyarrow.Table
        As :data:`~xscan.pipeline.release.difference.EVENT_CHANGES`.
    regions : pyarrow.Table
        As :data:`~xscan.pipeline.release.difference.REGION_CHANGES`.
    """

    release: Release
    observations: pa.Table
    events: pa.Table
    regions: pa.Table


def prepare(folder: Path, name: str, obsids: Iterable[str]) -> Release:
    """Begin a release, or continue one that was begun, perhaps with another list.

    Parameters
    ----------
    folder : Path
        The folder that contains all releases.
    name : str
    obsids : iterable of str
        The list.

    Raises
    ------
    ConfigError
        If the release is finished, or one of the folders contains something else.

    Examples
    --------
    A release that was begun is continued; the next one has the next number:

    >>> [prepare(scratch, name, ["0990000001"]).number for name in ("2026-11", "2026-11", "2027-05")]
    [1, 1, 2]
    """
    known = releases(folder)
    if not known and (foreign := _foreign(folder)):
        raise ConfigError(
            f"{folder}: holds other things and no release ({foreign}, ...); choose an empty or a new folder as --out"
        )
    begun = next((release for release in known if release.name == name), None)
    _refuse_finished(folder, begun)
    if begun is None and _occupied(folder / name):
        raise ConfigError(f"{folder / name}: there is something here that is no release; give another --release")
    number = 1 + max((release.number for release in known), default=0) if begun is None else begun.number
    finished = [release.name for release in known if release.finished_utc and release.number < number]
    # a release that was begun keeps its previous release, unless that was removed
    stays = begun is not None and begun.previous in finished
    previous = begun.previous if begun is not None and stays else (finished or [""])[-1]
    release = Release(name, number, previous, list_digest(obsids))
    if begun != release:
        write_release(folder / name, release)
    return release


def _foreign(folder: Path) -> str:
    """Return the name of something that is no folder of a release; empty if there is nothing."""
    names = (path.name for path in folder.iterdir() if not path.is_dir() or _occupied(path)) if folder.is_dir() else ()
    return min((name for name in names if not name.startswith(".")), default="")


def _occupied(folder: Path) -> bool:
    """Return whether the folder has more in it than a process leaves that died before it wrote the record."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def _refuse_finished(folder: Path, release: Release | None) -> None:
    if release is not None and release.finished_utc:
        raise ConfigError(
            f"{folder / release.name}: this release was finished {release.finished_utc}; give another --release"
        )


def make_release(
    folder: Path,
    release: Release,
    tasks: list[Task],
    writer: ResultsWriter,
    provenance: Provenance,
    search: Callable[[list[Task], list[Outcome]], None],
    retry_failed: bool = False,
) -> Made:
    """Make a release that was prepared. If interrupted, it can be called again and continues.

    The list, the files, the code and ``retry_failed`` may change between the calls: results that do not belong to
    the release are removed first, and the reasons why observations were searched are derived from the results at the
    end.

    Parameters
    ----------
    folder : Path
        The folder that contains all releases.
    release : Release
        From :func:`prepare`.
    tasks : list of Task
        The list, each with its folder of files.
    writer : ResultsWriter
        Open, for the folder of the release.
    provenance : Provenance
        Version, configuration and code that search now.
    search : callable
        Called with the tasks to be searched, which it stores through the writer, and with the outcomes of those
        that need not be searched.
    retry_failed : bool
        Search again what failed in the previous release.
    """
    target = folder / release.name
    _refuse_finished(folder, read_release(target))  # perhaps another process finished it before this one had the lock
    source = folder / release.previous if release.previous else None
    before = {} if source is None else read_ledger(open_results(source))
    obsids = [task.name for task in tasks]
    inputs = {task.name: files_now(task.place) for task in tasks}
    making = provenance.config_digest, provenance.code_digest
    why = changes(obsids, inputs, before, making, retry_failed)
    held = read_ledger(open_results(target))
    writer.drop(
        {
            obsid
            for obsid, outcome in held.items()
            if obsid not in inputs
            or outcome.code_digest != provenance.code_digest
            or (why[obsid] and outcome == before.get(obsid))  # carried over, and changed since
        }
    )
    if source is not None:
        writer.carry(source, {obsid for obsid, reasons in why.items() if not reasons})
    search(*unfinished(tasks, read_ledger(open_results(target))))
    writer.compact()
    after = read_ledger(open_results(target))
    missing = [obsid for obsid in obsids if obsid not in after]
    if missing:
        raise StoreError(
            f"{target}: {len(missing)} observations have no result ({missing[0]}, ...); run the command again"
        )
    return _finish(folder, release, reasons_for(before, after, making), before, after)


def _finish(
    folder: Path,
    release: Release,
    reasons: Mapping[str, str],
    before: Mapping[str, Outcome],
    after: Mapping[str, Outcome],
) -> Made:
    target = folder / release.name
    n_carried = len(after.keys() - reasons.keys())
    searched = [obsid for obsid, reason in reasons.items() if reason != Change.WITHDRAWN]
    n_searched = Counter(reasons[obsid] for obsid in searched)
    n_withdrawn = len(reasons) - len(searched)
    if not release.previous:  # there is nothing to compare with
        reasons = {}
    now = open_results(target)
    then = open_results(folder / release.previous) if release.previous else now
    changed, n_all = {}, {}
    for name, compared in (("events", compare_events), ("regions", compare_regions)):
        table = now.table(name)
        changed[name], n_all[name] = compared(then.table(name), table, reasons), table.num_rows
    rows = [
        {
            "obsid": obsid,
            "reason": reason,
            "state_before": before[obsid].state if obsid in before else None,
            "state": after[obsid].state if obsid in after else None,
            "n_found_before": before[obsid].n_found if obsid in before else None,
            "n_found": after[obsid].n_found if obsid in after else None,
            "n_regions_before": before[obsid].n_regions if obsid in before else None,
            "n_regions": after[obsid].n_regions if obsid in after else None,
        }
        for obsid, reason in sorted(reasons.items())
    ]
    observations = pa.Table.from_pylist(rows, OBSERVATION_CHANGES)
    with named_trouble(target):
        for name, table in {"observations": observations, **changed}.items():
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd")
            write_whole(target / f"changed_{name}.parquet", sink.getvalue())
    n_changed = {name: dict(Counter(changed[name]["change"].to_pylist())) | {"all": n_all[name]} for name in changed}
    done = replace(
        release,
        finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        n_carried=n_carried,
        n_searched=dict(sorted(n_searched.items())),
        n_failed=sum(after[obsid].state == "failed" for obsid in searched),
        n_withdrawn=n_withdrawn,
        n_found=n_changed["events"],
        n_regions=n_changed["regions"],
    )
    write_release(target, done)
    return Made(done, observations, changed["events"], changed["regions"])
