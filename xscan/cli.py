"""The command line: parse, run, report. Exit codes: 0 all done, 1 trouble, 2 usage, 3 no device."""

from __future__ import annotations

import gc
import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xscan import __version__
from xscan.errors import XscanError

if TYPE_CHECKING:
    from xscan.crew import Crew
    from xscan.obslist import Obslist
    from xscan.progress import Reporter
    from xscan.runner import Task
    from xscan.scanner import Order

__all__ = ["app", "main"]

app = typer.Typer(
    name="xscan",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Search X-ray event lists for sources that flare for seconds, fade, or are eclipsed.",
)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")]
Profile = Annotated[str, typer.Option(metavar="NAME", help="default, or exod2 for comparison.")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file that overrides the profile.")]
Views = Annotated[
    list[str] | None,
    typer.Option(
        "--view",
        metavar="DT:LO-HI",
        help="Frame length (s) and band (keV), as 5:0.2-12. Repeat for more. Default: the profile's nine.",
    ),
]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="What computes: auto (the fastest that works here), cuda, numba or numpy. See xscan doctor.",
    ),
]
Hot = Annotated[
    Path | None,
    typer.Option("--hot-pixels", metavar="DIR", help="Folder of hotpix_PN.csv, hotpix_M1.csv, hotpix_M2.csv."),
]
Plot = Annotated[bool, typer.Option("--plot", help="Draw each observation and region: PNGs in DIR/plots.")]


ObslistFile = Annotated[Path, typer.Option("--obslist", metavar="FILE", help="One obsid a line; # for comments.")]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of <obsid>/ folders.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Search again what failed before, its files unchanged.")
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="Worker processes on this machine.")]
Gpus = Annotated[
    str | None, typer.Option("--gpus", metavar="N|all", help="A worker process for each of N CUDA devices.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Use a Dask cluster that exists: tcp://host:8786.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="S", min=1, help="Give up an observation that takes longer. Default 1800."),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", metavar="SIZE", help="For each worker, as 4GB. Default: the machine's, shared."),
]


class LogFormat(StrEnum):
    """How a run tells of itself."""

    TEXT = "text"
    JSON = "json"


Logs = Annotated[
    LogFormat | None,
    typer.Option("--log-format", help="text, or json for an object a line. Default: text, on a terminal with a bar."),
]


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
def scan(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="<obsid>/ or <obsid>/pps/ of PPS files.")],
    out: Out = Path("results"),
    profile: Profile = "default",
    config: Config = None,
    view: Views = None,
    backend: BackendName = "auto",
    hot_pixels: Hot = None,
    plot: Plot = False,
) -> None:
    """Search one observation.

    Exit codes: 0 searched, whether or not anything was found; 1 nothing of it could be searched;
    2 wrong usage or configuration; 3 no usable device.
    """
    from xscan.api import order

    settings = order(profile, config, view or (), hot_pixels, backend)
    raise typer.Exit(run_scan(folder, out, settings, plot))


@app.command()
def archive(
    obslist: ObslistFile,
    data: Data = Path("data"),
    out: Out = Path("results"),
    profile: Profile = "default",
    config: Config = None,
    view: Views = None,
    backend: BackendName = "auto",
    hot_pixels: Hot = None,
    plot: Plot = False,
    retry_failed: RetryFailed = False,
    workers: Workers = None,
    gpus: Gpus = None,
    scheduler: Scheduler = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    log_format: Logs = None,
) -> None:
    """Search every observation of a list, but those searched before.

    Stop it and start it again as you like: what is in the results already is
    searched again only if its files are others now.

    Without --workers, --gpus or --scheduler one process searches one
    observation after the other, and one that crashes or hangs ends or stops
    the run. A worker (--workers 1 will do) that dies, hangs or takes too much
    memory costs its own observation only (docs/operations.md).

    Exit codes: 0 all searched, whether or not anything was found; 1 of some observation nothing
    could be searched; 2 wrong usage or configuration; 3 no usable device.
    """
    from xscan.api import order
    from xscan.crew import Crew
    from xscan.obslist import read_obslist

    settings = order(profile, config, view or (), hot_pixels, backend)
    crew = Crew(workers, gpus, scheduler, time_limit, memory_limit)
    listed = read_obslist(obslist)
    reporter = _reporter(len(listed.obsids), log_format)
    raise typer.Exit(run_archive(listed, data, out, settings, plot, retry_failed, crew, reporter))


@app.command()
def reprocess(
    release: Annotated[str, typer.Option("--release", metavar="NAME", help="Of the release to make, as 2026-11.")],
    obslist: ObslistFile,
    data: Data = Path("data"),
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of all releases; each is a folder of results in it.")
    ] = Path("releases"),
    profile: Profile = "default",
    config: Config = None,
    view: Views = None,
    backend: BackendName = "auto",
    hot_pixels: Hot = None,
    retry_failed: RetryFailed = False,
    workers: Workers = None,
    gpus: Gpus = None,
    scheduler: Scheduler = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    log_format: Logs = None,
) -> None:
    """Search what is new or changed since the last release, and carry the rest over.

    Searched again is what has other files, or all if the configuration or the
    code that decides results is another. What that did to the regions, new,
    lost or changed, is printed and stands in changed_regions.parquet
    (docs/releases.md). Stopped, the same command goes on.

    Exit codes: 0 all that was searched could be; 1 of some observation nothing could be searched;
    2 wrong usage or configuration; 3 no usable device.
    """
    from xscan.api import order
    from xscan.commands import releases
    from xscan.crew import Crew
    from xscan.obslist import read_obslist

    settings = order(profile, config, view or (), hot_pixels, backend)
    crew = Crew(workers, gpus, scheduler, time_limit, memory_limit)
    listed = read_obslist(obslist)
    reporter = _reporter(len(listed.obsids), log_format)
    raise typer.Exit(releases.reprocess(listed, data, out, release, settings, crew, retry_failed, reporter))


@app.command(name="releases")
def show_releases(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of releases.")] = Path("releases"),
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only the names of those being made.")] = False,
) -> None:
    """List the releases in a folder, and what each changed."""
    from xscan.commands import releases

    raise typer.Exit(releases.list_releases(folder, unfinished))


@app.command()
def fetch(
    obslist: Annotated[Path, typer.Option("--obslist", metavar="FILE", help="One obsid a line; # for comments.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Gets <obsid>/ folders.")] = Path("data"),
    source: Annotated[
        str,
        typer.Option(
            "--source",
            metavar="NAME",
            help="nxsa (ESA), heasarc (NASA), folder:DIR (on disk, linked to); nxsa:URL, heasarc:URL (mirrors).",
        ),
    ] = "nxsa",
    parallel: Annotated[int, typer.Option("--parallel", metavar="N", min=1, max=8, help="Connections at once.")] = 2,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=0.01, max=1000, help="Requests per second, at most.")
    ] = 2.0,
) -> None:
    """Fetch event lists and source lists from an archive (docs/fetching.md).

    Stop it and start it again as you like: what is there is not asked for
    again, what has begun goes on. An observation's folder appears when all
    of it is there.

    Exit codes: 0 all that the archive has is there; 1 something could not
    be had; 2 wrong usage.
    """
    from xscan.obslist import read_obslist

    raise typer.Exit(run_fetch(read_obslist(obslist), data, source, parallel, rate))


@app.command()
def status(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of results.")],
    obslist: Annotated[
        Path | None, typer.Option("--obslist", metavar="FILE", help="Account for every observation of this list.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Show only what failed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    hash: Annotated[
        bool, typer.Option("--hash", help="Hash all results but times: equal if the same was found.")
    ] = False,
) -> None:
    """Say what became of every observation: done, empty, skipped, failed or pending."""
    run_status(results, obslist, failed, json, hash)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Gets <obsid>/, observations.txt and truth.parquet.")],
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
    run_simulate(folder, n, seed, exposure, quiet_sky, background)


@app.command()
def recovered(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of results.")],
    simulated: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that xscan simulate wrote.")],
) -> None:
    """Hold what was found in simulated observations against what was planted."""
    run_recovered(results, simulated)


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
    run_export(results, ds9, lightcurves, format, obsid)


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
            help="Keeps the simulated observations (70 MB). Default: xscan/bench in your cache folder, ~/.cache.",
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all samples here; in a folder, to <date>-<cpu>.json."),
    ] = None,
) -> None:
    """Measure speed and memory, and hold them against the targets.

    Two simulated observations are scanned, stage by stage, in turn with
    inflating their files; then come peak memory, fresh processes, and how
    cost grows with events and voxels. Takes some ten minutes in which the
    machine should do nothing else. What it gave: docs/performance.md.

    Exit codes: 0 measured, whether or not a target was reached;
    1 something could not be measured; 2 wrong usage; 3 no usable device.
    """
    run_bench(observation, backend or [], repeat, quick, work, json)


@app.command()
def doctor(
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="Exit with 3 if this one does not work.")
    ] = None,
) -> None:
    """Say which backends work here, what auto would choose, and what is missing.

    Each is tried on a small search. Exit codes: 0 one works, or the one asked for;
    1 none does; 2 wrong usage; 3 the one asked for does not.
    """
    raise typer.Exit(run_doctor(backend))


def run_scan(folder: Path, out: Path, order: Order, plot: bool = False) -> int:
    """Search one observation; return the exit code."""
    from xscan.crew import Crew
    from xscan.progress import Reporter

    return _run([(None, folder)], folder, out, order, Crew(), Reporter(total=1), plot)


def _reporter(total: int, log_format: LogFormat | None) -> Reporter:
    from xscan.progress import JsonFormatter, Reporter

    json_lines = log_format is LogFormat.JSON
    if json_lines:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    return Reporter(total, json_lines=json_lines)


def run_archive(
    obslist: Obslist,
    data: Path,
    out: Path,
    order: Order,
    plot: bool,
    retry_failed: bool,
    crew: Crew,
    reporter: Reporter,
) -> int:
    """Search the observations of a list; return the exit code."""
    from xscan.errors import ConfigError

    if not data.is_dir():
        raise ConfigError(f"{data}: no such folder; --data names the folder that holds <obsid>/ folders")
    reporter.say(
        f"{len(obslist.obsids)} observations "
        f"({obslist.duplicates} duplicates, {obslist.comments} comments, {obslist.blank} blank lines left out)"
    )
    data = data.absolute()  # workers may be in other folders
    tasks: list[Task] = [(obsid, data / obsid) for obsid in obslist.obsids]
    return _run(tasks, data, out, order, crew, reporter, plot, retry_failed)


def _run(
    tasks: list[Task],
    data: Path,
    out: Path,
    order: Order,
    crew: Crew,
    reporter: Reporter,
    plot: bool,
    retry_failed: bool = False,
) -> int:
    from xscan.crew import work
    from xscan.errors import ConfigError
    from xscan.interrupt import Interrupted, interruptible
    from xscan.ledger import read_ledger
    from xscan.report import Findings, print_findings
    from xscan.runner import unfinished
    from xscan.store import ResultsWriter, open_results
    from xscan.summary import Summary

    equipped = crew.equip(order)
    findings = Findings()

    def heard(summary: Summary) -> None:
        reporter.heard(summary)
        findings.add(summary)

    try:
        with (
            interruptible() as interruption,
            ResultsWriter(out.absolute(), equipped.provenance(), equipped.settings()) as writer,
        ):
            plots = writer.folder / "plots" if plot else None
            if plots is not None:
                try:
                    plots.mkdir(exist_ok=True)
                except OSError as error:
                    raise ConfigError(f"{plots}: cannot hold pictures: {error.strerror}; move it away") from None
            todo, kept = unfinished(tasks, read_ledger(open_results(out)), retry_failed)
            reporter.keep(kept)
            stopped = None
            try:
                with reporter:
                    if todo:
                        work(todo, equipped, crew, data, writer, heard, plots, reporter.say, interruption)
            except Interrupted as signal:
                stopped = signal
    except Interrupted as signal:  # outside of a search
        stopped = signal
    if stopped is not None:
        reporter.say(
            f"xscan: stopped by {stopped}; what is finished is in {out}, and the same command goes on from there"
        )
        return stopped.exit_code
    print_findings(findings, kept, out)
    return 0 if all(outcome.state == "done" for outcome in [*kept, *findings.outcomes]) else 1


def run_fetch(obslist: Obslist, data: Path, source: str, parallel: int, rate: float) -> int:
    """Fetch the observations of a list; return the exit code."""
    from contextlib import closing

    from xscan.archives import Fetcher, Manners, fetch_ahead, open_source, open_web
    from xscan.archives.account import line, summary
    from xscan.progress import Reporter

    reporter = Reporter(total=len(obslist.obsids), what="fetching")
    outcomes = []
    with open_web(Manners(requests_per_s=rate)) as web:
        fetcher = Fetcher(open_source(source, web), data)
        fetching = fetch_ahead(obslist.obsids, fetcher.fetch, web.stop, parallel)
        try:
            with reporter, closing(fetching):
                for outcome in fetching:
                    outcomes.append(outcome)
                    reporter.say(line(outcome))
                    reporter.advance()
        except KeyboardInterrupt:
            reporter.say(f"xscan: interrupted; what has arrived is in {data}, and the same command goes on from there")
            return 130
        finally:
            typer.echo(summary(outcomes, len(obslist.obsids), data))
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


def run_status(results: Path, obslist: Path | None, failed: bool, json: bool, hash: bool) -> None:
    """Print what became of every observation."""
    from xscan.ledger import account, read_ledger
    from xscan.obslist import read_obslist
    from xscan.report import print_status, status_json
    from xscan.store import open_results

    held = open_results(results)
    ledger = read_ledger(held)
    listed = account(ledger if obslist is None else read_obslist(obslist).obsids, ledger)
    shown = [outcome for outcome in listed if outcome.state == "failed"] if failed else listed
    content_hash = held.content_hash() if hash else None
    if json:
        typer.echo(status_json(listed, shown, content_hash))
    else:
        print_status(listed, shown, content_hash)


def run_export(results: Path, ds9: Path | None, lightcurves: Path | None, kind: str, obsid: str | None) -> None:
    """Write the files that were asked for, and say which."""
    from xscan.errors import ConfigError
    from xscan.export import write_ds9, write_lightcurves
    from xscan.store import open_results

    if ds9 is None and lightcurves is None:
        raise ConfigError("nothing to export; give --ds9 FILE, --lightcurves FOLDER, or both")
    held = open_results(results)
    if obsid is not None and obsid not in held.observations():
        raise ConfigError(f"{results}: no results of observation {obsid}")
    for target, name in ((ds9, "regions"), (lightcurves, "lightcurves")):
        if target is None:
            continue
        table = held.table(name, obsid)
        try:
            count = write_ds9(table, target) if name == "regions" else len(write_lightcurves(table, target, kind))
        except OSError as error:
            raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None
        typer.echo(f"{count} {'regions' if name == 'regions' else 'light curves'} written to {target}")


def run_simulate(folder: Path, n: int, seed: int, exposure_s: float, quiet: bool, background: float) -> None:
    """Write simulated observations, and say what."""
    from xscan.errors import ConfigError
    from xscan.progress import Reporter
    from xscan.simulate import simulate_archive

    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise ConfigError(f"{folder} is a file or not empty; give a new folder")
    try:
        with Reporter(total=n, what="simulating") as reporter:
            truth = simulate_archive(folder, n, seed, exposure_s, quiet, background, reporter.advance)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    typer.echo(
        f"{n} observations with {truth.num_rows} transients in {folder}; next: xscan archive "
        f"--obslist {folder}/observations.txt --data {folder}"
    )


def run_recovered(results: Path, simulated: Path) -> None:
    """Print planted transients and what became of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from xscan.errors import ConfigError
    from xscan.obslist import read_obslist
    from xscan.report import print_recovery
    from xscan.simulate.observation import TRUTH
    from xscan.simulate.recovery import compare
    from xscan.store import open_results

    truth = simulated / "truth.parquet"
    if not truth.is_file():
        raise ConfigError(f"{simulated}: no truth.parquet; give the folder that xscan simulate wrote")
    held = open_results(results)
    try:
        planted = pq.read_table(truth, schema=TRUTH)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{truth}: not a truth table of xscan simulate ({str(error).splitlines()[0]})") from None
    if not set(held.observations()) <= set(read_obslist(simulated / "observations.txt").obsids):
        raise ConfigError(f"{results} holds observations that {simulated} does not: they do not belong together")
    print_recovery(compare(planted, held.table("regions")))


def run_bench(
    observation: Path | None, backends: list[str], repeat: int, quick: bool, work: Path | None, json: Path | None
) -> None:
    """Measure and print tables, the targets last."""
    from xscan.bench.page import title
    from xscan.bench.record import file_name, to_json
    from xscan.bench.suite import bench
    from xscan.bench.summary import growth_tables, process_tables, size_table, stage_tables
    from xscan.bench.targets import target_table
    from xscan.bench.workloads import default_work
    from xscan.errors import ConfigError

    if json is not None and not (json if json.is_dir() else json.parent).is_dir():
        raise ConfigError(f"{json}: there is no folder {json.parent}; make it first")
    report = bench(
        observation, backends, repeat, quick, work or default_work(), lambda line: typer.echo(line, err=True)
    )
    typer.echo(title(report))
    held = [size_table(report), *stage_tables(report), *process_tables(report), *growth_tables(report)]
    for table in [*held, target_table([report])]:
        typer.echo(f"\n{table.markdown()}")
    if json is not None:
        target = json / file_name(report) if json.is_dir() else json
        try:
            target.write_text(to_json(report), "utf-8")
        except OSError as error:
            raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None
        typer.echo(f"\nall samples in {target}", err=True)


def run_doctor(backend: str | None) -> int:
    """Print what is here and what works; return the exit code."""
    from xscan.backends import BACKENDS
    from xscan.doctor import diagnose
    from xscan.errors import ConfigError

    if backend is not None and backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    found = diagnose()
    width = max(len(name) for name, _ in found.facts) + 2
    for name, value in found.facts:
        typer.echo(f"{name:{width}}{value}")
    typer.echo()
    for check in found.checks:
        typer.echo(f"{check.backend:{width}}{'works' if check.works else 'does not work'}: {check.remark}")
    typer.echo(f"{'auto':{width}}{f'chooses {found.auto}' if found.auto else 'finds nothing that works'}")
    if backend is not None:
        return 0 if found.works(backend) else 3
    return 0 if found.auto else 1


def main() -> None:
    """Run the command; an error that was foreseen is one line, not a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        app()
    except XscanError as error:
        typer.echo(f"xscan: {error}", err=True)
        sys.exit(error.exit_code)
    finally:
        gc.freeze()  # else the interpreter, on its way out, looks for garbage in all the libraries
