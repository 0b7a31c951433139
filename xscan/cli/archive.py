"""``xscan scan`` and ``xscan archive``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xscan.cli.output import Findings, print_findings
from xscan.errors import ConfigError, DataError, Reason
from xscan.missions import mission_of
from xscan.pipeline.executor import ExecutorOptions
from xscan.pipeline.local import draw_missing
from xscan.pipeline.obslist import Obslist
from xscan.pipeline.outcome import ObservationSummary, summarize
from xscan.pipeline.progress import Reporter
from xscan.pipeline.release.record import is_release
from xscan.pipeline.run import run_into
from xscan.pipeline.scan import ScanSettings
from xscan.pipeline.signals import StopSignal
from xscan.pipeline.task import Task, unfinished
from xscan.results.ledger import Outcome, read_ledger
from xscan.results.reader import open_results
from xscan.results.tables import Provenance, failed_tables
from xscan.results.writer import ResultsWriter

if TYPE_CHECKING:
    from xscan.archives import Fetched
    from xscan.archives.prefetch import Prefetch

__all__ = ["NOT_HERE", "archive", "scan"]

NOT_HERE = (Reason.NO_FOLDER, Reason.NO_EVENT_LISTS, Reason.ARCHIVE_TROUBLE, Reason.BAD_PRODUCT, Reason.BUSY)
"""Reasons for which a failed observation was never on disk: it is requested from the archive again."""


def scan(paths: Sequence[Path], sources: Path | None, out: Path, settings: ScanSettings, plot: bool) -> int:
    """Search the observations of which these are folders and event lists; return the exit code."""
    try:
        places = mission_of(paths[0]).places(paths, sources)
    except DataError as error:  # nothing is made for a mistyped path
        raise ConfigError(str(error)) from None
    tasks = [Task(None, place) for place in places]
    return _search(tasks, Path(), out, settings, ExecutorOptions(), Reporter(total=len(tasks)), None, plot, False)


def archive(
    obslist: Obslist,
    data: Path,
    out: Path,
    settings: ScanSettings,
    options: ExecutorOptions,
    reporter: Reporter,
    prefetch: Prefetch | None,
    plot: bool,
    retry_failed: bool,
) -> int:
    """Search the observations of a list; with a prefetch, fetch those that are not here; return the exit code."""
    if not data.is_dir():
        if prefetch is None:
            raise ConfigError(f"{data}: no such folder; --data names the folder that holds <obsid>/ folders")
        try:
            data.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"{data}: cannot be made: {error.strerror}; choose another --data") from None
    reporter.say(
        f"{len(obslist.obsids)} observations "
        f"({obslist.duplicates} duplicates, {obslist.comments} comments, {obslist.blank} blank lines left out)"
    )
    data = data.absolute()  # workers may have other working directories
    tasks = [Task(obsid, data / obsid) for obsid in obslist.obsids]
    return _search(tasks, data, out, settings, options, reporter, prefetch, plot, retry_failed)


def _search(
    tasks: list[Task],
    data: Path,
    out: Path,
    settings: ScanSettings,
    options: ExecutorOptions,
    reporter: Reporter,
    prefetch: Prefetch | None,
    plot: bool,
    retry_failed: bool,
) -> int:
    if is_release(out):
        raise ConfigError(f"{out} is a release, which only xscan reprocess writes; choose another --out")
    executor = options.resolve(settings)
    run = _Run(reporter)

    def search(writer: ResultsWriter, stop_signal: StopSignal) -> None:
        plots = _plots(writer.folder) if plot else None
        again = () if prefetch is None else NOT_HERE
        todo, kept = unfinished(tasks, read_ledger(open_results(out)), retry_failed, again)
        run.keep(kept)
        refused = run.refused(writer, executor.settings.provenance())
        with reporter, _arriving(todo, data, prefetch, run.done, refused) as arriving:
            if todo:
                executor.run(arriving, data, writer, run.ended, plots, reporter.say, stop_signal)
        if plots is not None:
            draw_missing(plots, out, {outcome.obsid for outcome in kept}, reporter.say)

    stopped = run_into(out.absolute(), executor.settings, search)
    if stopped is not None:
        reporter.say(
            f"xscan: stopped by {stopped}; what is finished is in {out}, and the same command goes on from there"
        )
        return stopped.exit_code
    print_findings(run.findings, run.kept, out)
    return 0 if all(outcome.state == "done" for outcome in [*run.kept, *run.findings.outcomes]) else 1


class _Run:
    """Outcomes of the observations so far."""

    def __init__(self, reporter: Reporter) -> None:
        self.findings = Findings()
        self.kept: list[Outcome] = []
        self.done: set[str] = set()  # stored observations, whose files are no longer needed
        self._reporter = reporter

    def keep(self, kept: list[Outcome]) -> None:
        """Add the outcomes of observations that need not be searched."""
        self._reporter.keep(kept)
        self.kept += kept
        self.done |= {outcome.obsid for outcome in kept if outcome.state != "failed"}

    def ended(self, summary: ObservationSummary) -> None:
        """Add an observation that was searched."""
        self._reporter.ended(summary)
        self.findings.add(summary)
        if summary.outcome.state != "failed":
            self.done.add(summary.outcome.obsid)

    def refused(self, writer: ResultsWriter, provenance: Provenance) -> Callable[[Fetched], None]:
        """Return a function that stores an observation that cannot be fetched, as failed or skipped."""

        def refuse(fetched: Fetched) -> None:
            state = "skipped" if fetched.state == "absent" else "failed"
            reason = fetched.reason or Reason.ERROR
            tables = failed_tables(fetched.obsid, state, reason, fetched.message, provenance, fetched.seconds)
            writer.write(fetched.obsid, tables)
            self.ended(summarize(tables, fetched.seconds))

        return refuse


def _plots(folder: Path) -> Path:
    plots = folder / "plots"
    try:
        plots.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{plots}: cannot hold pictures: {error.strerror}; move it away") from None
    return plots


@contextmanager
def _arriving(
    todo: list[Task], data: Path, prefetch: Prefetch | None, done: Set[str], refused: Callable[[Fetched], None]
) -> Iterator[Iterable[Task | None]]:
    """Yield the observations to be searched as their files become available."""
    if prefetch is None:
        yield todo
        return
    from xscan.archives.prefetch import prefetched

    with prefetched([task.name for task in todo], data, prefetch, done, refused) as arriving:
        yield (None if here is None else Task(*here) for here in arriving)
