"""``xscan reprocess`` and ``xscan releases``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from xscan.errors import ConfigError
from xscan.pipeline.executor import ExecutorOptions
from xscan.pipeline.obslist import Obslist
from xscan.pipeline.progress import Reporter
from xscan.pipeline.release.make import Made, make_release, prepare
from xscan.pipeline.release.record import releases
from xscan.pipeline.run import run_into
from xscan.pipeline.scan import ScanSettings
from xscan.pipeline.signals import Interrupted, StopSignal
from xscan.pipeline.task import Task
from xscan.results.ledger import Outcome
from xscan.results.writer import ResultsWriter

__all__ = ["list_releases", "reprocess"]


def reprocess(
    obslist: Obslist,
    data: Path,
    folder: Path,
    name: str,
    settings: ScanSettings,
    options: ExecutorOptions,
    retry_failed: bool,
    reporter: Reporter,
) -> int:
    """Make a release, and print what it changed."""
    if not data.is_dir():
        raise ConfigError(f"{data}: no such folder; --data names the folder that holds <obsid>/ folders")
    data, folder = data.absolute(), folder.absolute()  # workers may have other working directories
    executor = options.resolve(settings)
    release = prepare(folder, name, obslist.obsids)
    against = f"held against {release.previous}" if release.previous else "the first"
    reporter.say(f"release {name}, {against}: {len(obslist.obsids)} observations")
    tasks = [Task(obsid, data / obsid) for obsid in obslist.obsids]

    def make(writer: ResultsWriter, stop_signal: StopSignal) -> Made:
        def search(todo: list[Task], kept: list[Outcome]) -> None:
            reporter.keep(kept)
            with reporter:
                if todo:
                    executor.run(todo, data, writer, reporter.ended, None, reporter.say, stop_signal)

        return make_release(folder, release, tasks, writer, executor.settings.provenance(), search, retry_failed)

    made = run_into(folder / name, executor.settings, make)
    if isinstance(made, Interrupted):
        reporter.say(f"xscan: stopped by {made}; the same command goes on from where it was")
        return made.exit_code
    _print_made(made, folder / name)
    return 1 if made.release.n_failed else 0


def list_releases(folder: Path, unfinished: bool) -> int:
    """Print the releases in a folder; with ``unfinished`` only the names of the unfinished ones."""
    found = releases(folder)
    if unfinished:
        for release in found:
            if not release.finished_utc:
                print(release.name)
        return 0
    if not found:
        raise ConfigError(f"{folder}: no releases here; xscan reprocess makes them")
    table = Table(
        *("release", "finished (UTC)", "against", "carried", "searched", "withdrawn"),
        *("regions", "new", "lost", "changed"),
    )
    for release in found:
        n = release.n_regions
        table.add_row(
            release.name,
            release.finished_utc.removesuffix("+00:00") or "no",
            release.previous,
            *(str(count) for count in (release.n_carried, sum(release.n_searched.values()), release.n_withdrawn)),
            *(str(n.get(key, 0)) for key in ("all", "new", "lost", "changed")),
        )
    _console().print(table)
    return 0


def _print_made(made: Made, folder: Path) -> None:
    """Print the numbers by reason, and where the details are."""
    release = made.release
    console = _console()
    if release.previous:
        table = Table(
            "why searched again", "observations", "new", "lost", "changed", title="regions against the release before"
        )
        n_observations = Counter(made.observations["reason"].to_pylist())
        n_regions = Counter(zip(*(made.regions[name].to_pylist() for name in ("reason", "change")), strict=True))
        for reason, count in sorted(n_observations.items()):
            table.add_row(reason, str(count), *(str(n_regions[reason, what]) for what in ("new", "lost", "changed")))
        console.print(table)
    n = release.n_regions
    text = (
        f"release {release.name}: {release.n_carried} observations carried over, "
        f"{sum(release.n_searched.values())} searched, {release.n_withdrawn} withdrawn; "
        f"{n['all']} regions ({n.get('new', 0)} new, {n.get('lost', 0)} lost, {n.get('changed', 0)} changed); "
        f"results, changed_observations.parquet and changed_regions.parquet in {folder}"
    )
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
