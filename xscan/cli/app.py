"""The command line: what can be asked for; :mod:`xscan.cli` does it.

Exit codes: 0 all done, 1 trouble, 2 usage, 3 no device.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xscan import __version__
from xscan.cli.commands import Commands, interrupt_told
from xscan.cli.options import (
    Data,
    ExecutorGroup,
    FromArchive,
    LimitedExecutorGroup,
    LogFormat,
    Logs,
    ObslistFile,
    Out,
    Plot,
    RetryFailed,
    ScanGroup,
    takes_groups,
)
from xscan.errors import ConfigError, XscanError
from xscan.pipeline.lossy import lossy_stderr
from xscan.pipeline.process import one_heap
from xscan.pipeline.threads import one_thread

if TYPE_CHECKING:
    from xscan.pipeline.progress import Reporter

__all__ = ["app", "main"]

app = typer.Typer(
    name="xscan",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Search X-ray event lists for sources that flare for seconds, fade, or are eclipsed.",
)


def _archive(name: str | None) -> str:
    return "nxsa" if name is None else name  # an empty one, of a variable that is not set, is a mistake


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"xscan {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search X-ray event lists for sources that flare for seconds, fade, or are eclipsed."""


@app.command()
@takes_groups
def scan(
    *,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|FILE...", help="Folders of event lists (<obsid>/ or <obsid>/pps/), or event lists."
        ),
    ],
    out: Out = Path("results"),
    sources: Annotated[
        Path | None,
        typer.Option("--sources", metavar="FILE", help="Source list (OBSMLI), in place of the folder's."),
    ] = None,
    search: ScanGroup,
    plot: Plot = False,
) -> None:
    """Search an observation: its folder, or its event lists.

    A folder's lists are known by their pipeline (PPS) names; without any, and
    for files given here, by their headers. Files of one OBS_ID are one
    observation; several are searched one after the other.

    Exit codes: 0 searched, whether or not anything was found; 1 nothing of it
    could be searched; 2 wrong usage or configuration; 3 no usable device.
    """
    from xscan.cli import archive as command

    settings = search.settings()
    raise typer.Exit(command.scan(paths, sources, out, settings, plot))


@app.command()
@takes_groups
def archive(
    *,
    obslist: ObslistFile,
    data: Data = Path("data"),
    out: Out = Path("results"),
    search: ScanGroup,
    plot: Plot = False,
    retry_failed: RetryFailed = False,
    executor: LimitedExecutorGroup,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: search what is in --data.")] = False,
    archive_name: FromArchive = None,
    cache_limit: Annotated[
        str | None,
        typer.Option(
            "--cache-limit",
            metavar="SIZE",
            help="As 200GB: while --data holds more, delete what was fetched and has been searched, oldest first.",
        ),
    ] = None,
    log_format: Logs = None,
) -> None:
    """Search the observations of a list that have not been searched yet.

    What is not in --data is fetched while others are searched
    (docs/fetching.md). Stop it and start it again as you like: what is in the
    results already is searched again only if its files have changed.

    Without --workers, --gpus or --scheduler one process searches one
    observation after the other, and one that crashes or hangs ends or stops the
    run. A worker (--workers 1 will do) that dies, hangs or takes too much
    memory costs its own observation only (docs/operations.md).

    Exit codes: 0 all searched, whether or not anything was found; 1 of some
    observation nothing could be searched, for trouble or because it is in no
    imaging mode (xscan status says which, and why); 2 wrong usage or
    configuration; 3 no usable device.
    """
    from xscan.archives.prefetch import Prefetch
    from xscan.cli import archive as command
    from xscan.pipeline.obslist import read_obslist
    from xscan.pipeline.units import parse_size

    settings = search.settings()
    if offline and (archive_name is not None or cache_limit is not None):
        raise ConfigError("--offline fetches nothing; it does not go together with --from and --cache-limit")
    limit_bytes = None if cache_limit is None else parse_size("--cache-limit", cache_limit)
    prefetch = None if offline else Prefetch(_archive(archive_name), cache_limit_bytes=limit_bytes)
    listed = read_obslist(obslist)
    reporter = _reporter(len(listed.obsids), log_format)
    with _last_words(reporter):
        raise typer.Exit(
            command.archive(listed, data, out, settings, executor.options(), reporter, prefetch, plot, retry_failed)
        )


@app.command()
@takes_groups
def plan(
    *,
    obslist: ObslistFile,
    data: Data = Path("data"),
    out: Out = Path("results"),
    search: ScanGroup,
    retry_failed: RetryFailed = False,
    executor: ExecutorGroup,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", metavar="N", min=1, help="Measure on at most N observations of the list. Default: 100."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Estimate what xscan archive will take: bytes to fetch, hours, disk, memory.

    Searches a sample of what is on disk, for ten seconds to a minute, and keeps
    nothing of it (docs/operations.md).

    Exit codes: 0 estimated; 2 wrong usage or configuration, or nothing could be
    searched; 3 no usable device.
    """
    from xscan.cli import plan as command
    from xscan.pipeline.obslist import read_obslist

    settings = search.settings()
    raise typer.Exit(
        command.plan(read_obslist(obslist), data, out, settings, executor.options(), sample, retry_failed, json)
    )


@app.command()
@takes_groups
def reprocess(
    *,
    release: Annotated[str, typer.Option("--release", metavar="NAME", help="Name of the release to make, as 2026-11.")],
    obslist: ObslistFile,
    data: Data = Path("data"),
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of all releases; each is a folder of results inside.")
    ] = Path("releases"),
    search: ScanGroup,
    retry_failed: RetryFailed = False,
    executor: LimitedExecutorGroup,
    log_format: Logs = None,
) -> None:
    """Search what is new or changed since the last release; carry over the rest.

    An observation is searched again if its files have changed; all are if the
    configuration or the code that decides results has. Which regions are new,
    lost or changed is printed, and listed in changed_regions.parquet
    (docs/releases.md). If it is stopped, run the same command again: it goes on
    from where it was.

    Exit codes: 0 all that was searched could be; 1 of some observation nothing
    could be searched; 2 wrong usage or configuration; 3 no usable device.
    """
    from xscan.cli import releases as command
    from xscan.pipeline.obslist import read_obslist

    settings = search.settings()
    listed = read_obslist(obslist)
    reporter = _reporter(len(listed.obsids), log_format)
    with _last_words(reporter):
        raise typer.Exit(
            command.reprocess(listed, data, out, release, settings, executor.options(), retry_failed, reporter)
        )


@app.command(name="releases")
def show_releases(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of releases.")] = Path("releases"),
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Print only the names of unfinished ones.")] = False,
) -> None:
    """List the releases in a folder, and what each changed."""
    from xscan.cli import releases as command

    raise typer.Exit(command.list_releases(folder, unfinished))


@app.command()
def fetch(
    obslist: ObslistFile,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder for the <obsid>/ folders.")] = Path(
        "data"
    ),
    archive_name: FromArchive = None,
    parallel: Annotated[int, typer.Option("--parallel", metavar="N", min=1, max=8, help="Connections at once.")] = 2,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=0.01, max=1000, help="Requests per second, at most.")
    ] = 2.0,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Also ask whether the archive has new files of what was fetched before, and fetch those."
        ),
    ] = False,
) -> None:
    """Fetch event lists and source lists from an archive (docs/fetching.md).

    Stop it and start it again as you like: what is here is not requested again,
    and what was cut short is resumed. An observation's folder appears once all of
    it is here.

    Exit codes: 0 all that the archive has is here; 1 something could not be
    fetched; 2 wrong usage.
    """
    from xscan.cli import fetch as command
    from xscan.pipeline.obslist import read_obslist

    raise typer.Exit(command.fetch(read_obslist(obslist), data, _archive(archive_name), parallel, rate, refresh))


@app.command()
def status(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of results.")],
    obslist: Annotated[
        Path | None, typer.Option("--obslist", metavar="FILE", help="Account for every observation of this list.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Show only what failed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    hash: Annotated[
        bool, typer.Option("--hash", help="Digest of all results but times: equal if the same was found.")
    ] = False,
) -> None:
    """Print what became of every observation: done, empty, skipped, failed or pending."""
    from xscan.cli import results as command

    raise typer.Exit(command.status(results, obslist, failed, json, hash))


@app.command()
def simulate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="New folder, for <obsid>/, observations.txt and truth.parquet.")
    ],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of observations.")] = 12,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same files.")] = 5,
    exposure: Annotated[
        float, typer.Option("--exposure", metavar="S", min=600, max=300_000, help="Length of each, s.")
    ] = 2000.0,
    background: Annotated[
        float, typer.Option("--background", min=0.01, max=20, help="Factor on the background; 1.6 is a busy one.")
    ] = 1.0,
    quiet_sky: Annotated[
        bool, typer.Option("--quiet-sky", help="No transients, variable sources or proton flares.")
    ] = False,
) -> None:
    """Make observations whose truth is known, as messy as real ones (docs/simulator.md)."""
    from xscan.cli import simulate as command

    raise typer.Exit(command.simulate(folder, n, seed, exposure, quiet_sky, background))


@app.command()
def recovered(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of results.")],
    simulated: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that xscan simulate wrote.")],
) -> None:
    """Compare what was found in simulated observations with what was planted."""
    from xscan.cli import simulate as command

    raise typer.Exit(command.recovered(results, simulated))


@app.command()
def export(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of results.")],
    ds9: Annotated[Path | None, typer.Option("--ds9", metavar="FILE", help="Write a DS9 region file.")] = None,
    lightcurves: Annotated[
        Path | None, typer.Option("--lightcurves", metavar="FOLDER", help="Write a light curve per region.")
    ] = None,
    format: Annotated[str, typer.Option("--format", metavar="KIND", help="Of the light curves: csv or fits.")] = "csv",
    obsid: Annotated[str | None, typer.Option("--obsid", help="Only this observation.")] = None,
) -> None:
    """Write regions for DS9, and light curves as CSV or FITS."""
    from xscan.cli import results as command

    raise typer.Exit(command.export(results, ds9, lightcurves, format, obsid))


@app.command()
def bench(
    observation: Annotated[
        Path | None,
        typer.Option("--observation", metavar="FOLDER", help="Measure this observation, not the simulated ones."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", metavar="NAME", help="cuda, numba or numpy. Repeat for more. Default: all that work here."
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, help="Rounds of each measurement; fewer of slow ones.")
    ] = 7,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the short observation, three rounds, no growth: a minute.")
    ] = False,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="DIR",
            help="Keep the simulated observations (70 MB) here. Default: xscan/bench in your cache folder, ~/.cache.",
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all samples here; in a folder, to <date>-<cpu>.json."),
    ] = None,
) -> None:
    """Measure speed and memory, and compare them with the targets.

    Two simulated observations are scanned, stage by stage, in turn with
    inflating their files; then come peak memory, fresh processes, and how
    cost grows with events and voxels. Takes some ten minutes in which the
    machine should do nothing else. What it gave: docs/performance.md.

    Exit codes: 0 measured, whether or not a target was reached;
    1 something could not be measured; 2 wrong usage; 3 no usable device.
    """
    from xscan.cli import bench as command

    raise typer.Exit(command.measure(observation, backend or [], repeat, quick, work, json))


@app.command()
def doctor(
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="Exit with 3 if this one does not work.")
    ] = None,
) -> None:
    """Print which backends work here, what auto would choose, and what is missing.

    Each is tried on a small search. Exit codes: 0 one works, or the one asked
    for; 1 none does; 2 wrong usage; 3 the one asked for does not.
    """
    from xscan.cli import doctor as command

    raise typer.Exit(command.doctor(backend))


def _reporter(total: int, log_format: LogFormat | None) -> Reporter:
    from xscan.pipeline.progress import JsonFormatter, Reporter

    json_lines = log_format is LogFormat.JSON
    if json_lines:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    return Reporter(total, json_lines=json_lines)


@contextmanager
def _last_words(reporter: Reporter) -> Iterator[None]:
    """Let an error that ends a run be a line like the run's others, which may be JSON."""
    try:
        yield
    except XscanError as error:
        reporter.say(f"xscan: {error}", "error", exit_code=error.exit_code)
        raise typer.Exit(error.exit_code) from None


def main() -> None:
    """Run the command; an error that was foreseen is one line, not a traceback."""
    one_heap()
    one_thread()
    try:
        with lossy_stderr():
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
            try:
                with interrupt_told():
                    app()
            except XscanError as error:
                typer.echo(f"xscan: {error}", err=True)
                sys.exit(error.exit_code)
    finally:
        gc.freeze()  # else the interpreter, on its way out, looks for garbage in all the libraries
