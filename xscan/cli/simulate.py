"""``xscan simulate`` and ``xscan recovered``."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from xscan.cli.output import print_recovery
from xscan.errors import ConfigError, first_line
from xscan.pipeline.obslist import read_obslist
from xscan.pipeline.progress import Reporter
from xscan.results.reader import Results, open_results
from xscan.simulate import simulate_archive
from xscan.simulate.observation import TRUTH
from xscan.simulate.recovery import compare

__all__ = ["recovered", "simulate"]


def simulate(folder: Path, n: int, seed: int, exposure_s: float, quiet: bool, background: float) -> int:
    """Write simulated observations, and print what was written; return the exit code."""
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
    return 0


def recovered(results: Path, simulated: Path) -> int:
    """Print the simulated transients, and which of them were found; return the exit code."""
    truth = simulated / "truth.parquet"
    if not truth.is_file():
        raise ConfigError(f"{simulated}: no truth.parquet; give the folder that xscan simulate wrote")
    held = open_results(results)
    try:
        planted = pq.read_table(truth, schema=TRUTH)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{truth}: not a truth table of xscan simulate ({first_line(error)})") from None
    if not set(held.observations()) <= set(read_obslist(simulated / "observations.txt").obsids):
        raise ConfigError(f"{results} holds observations that {simulated} does not: they do not belong together")
    for name in _searched(held):
        print_recovery(compare(planted, held.table(name)), name)
    return 0


def _searched(held: Results) -> list[str]:
    """Return which tables hold what was found: ``events`` of a search by windows, ``regions`` of views, or both."""
    of_windows = pc.is_null(held.table("runs", columns=["dt_s"])["dt_s"])
    return [
        name
        for name, yes in (("events", pc.any(of_windows).as_py()), ("regions", not pc.all(of_windows).as_py()))
        if yes
    ]
