"""``xscan reprocess`` and ``xscan releases``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
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
        *("events", "regions"),
    )
    for release in found:
        table.add_row(
            release.name,
            release.finished_utc.removesuffix("+00:00") or "no",
            release.previous,
            *(str(count) for count in (release.n_carried, sum(release.n_searched.values()), release.n_withdrawn)),
            *(_sums(n) for n in (release.n_found, release.n_regions)),
        )
    _console().print(table)
    return 0


_CHANGES = ("new", "lost", "changed")


def _sums(n: Mapping[str, int], what: str = "") -> str:
    """Return how many there are, and what changed: ``8 events (1 new, 0 lost, 2 changed)``."""
    changes = ", ".join(f"{n.get(change, 0)} {change}" for change in _CHANGES)
    return f"{n.get('all', 0)}{what and ' '}{what} ({changes})"


def _print_made(made: Made, folder: Path) -> None:
    """Print the numbers by reason, and where the details are."""
    release = made.release
    console = _console()
    changed = {"events": made.events, "regions": made.regions}
    n_all = {"events": release.n_found, "regions": release.n_regions}
    shown = [name for name in changed if any(n_all[name].values())] or ["events"]
    if release.previous:
        names = [f"{name}: {what}" if what == _CHANGES[0] else what for name in shown for what in _CHANGES]
        table = Table("why searched again", "observations", *names, title="against the release before")
        n_observations = Counter(made.observations["reason"].to_pylist())
        counts = {
            name: Counter(zip(*(changed[name][column].to_pylist() for column in ("reason", "change")), strict=True))
            for name in shown
        }
        for reason, count in sorted(n_observations.items()):
            sums = (str(counts[name][reason, what]) for name in shown for what in _CHANGES)
            table.add_row(reason, str(count), *sums)
        console.print(table)
    found = ", ".join(_sums(n_all[name], name) for name in shown)
    text = (
        f"release {release.name}: {release.n_carried} observations carried over, "
        f"{sum(release.n_searched.values())} searched, {release.n_withdrawn} withdrawn; {found}; "
        f"results, changed_observations.parquet, changed_events.parquet and changed_regions.parquet in {folder}"
    )
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
