"""``xscan bench``."""

from __future__ import annotations

from pathlib import Path

import typer

from xscan.bench.page import title
from xscan.bench.record import file_name, to_json
from xscan.bench.suite import bench
from xscan.bench.summary import growth_tables, process_tables, size_table, stage_tables
from xscan.bench.targets import target_table
from xscan.bench.workloads import default_work
from xscan.errors import ConfigError, DataError

__all__ = ["measure"]


def measure(
    observation: Path | None, backends: list[str], repeat: int, quick: bool, work: Path | None, json: Path | None
) -> int:
    """Measure and print tables, with the targets last; return the exit code."""
    if json is not None and not (json if json.is_dir() else json.parent).is_dir():
        raise ConfigError(f"{json}: there is no folder {json.parent}; make it first")
    try:
        report = bench(
            observation, backends, repeat, quick, work or default_work(), lambda line: typer.echo(line, err=True)
        )
    except DataError as error:
        raise ConfigError(f"--observation {error}") from None
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
    return 0
