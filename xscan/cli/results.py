"""``xscan status`` and ``xscan export``."""

from __future__ import annotations

from pathlib import Path

import typer

from xscan.cli.output import print_status, status_json
from xscan.errors import ConfigError
from xscan.pipeline.obslist import read_obslist
from xscan.report.export import write_ds9, write_lightcurves
from xscan.results.ledger import account, read_ledger
from xscan.results.reader import open_results

__all__ = ["export", "status"]


def status(results: Path, obslist: Path | None, failed: bool, json: bool, hash: bool) -> int:
    """Print the outcome of every observation; return the exit code."""
    held = open_results(results)
    ledger = read_ledger(held)
    listed = account(ledger if obslist is None else read_obslist(obslist).obsids, ledger)
    shown = [outcome for outcome in listed if outcome.state == "failed"] if failed else listed
    content_hash = held.content_digest() if hash else None
    if json:
        typer.echo(status_json(listed, shown, content_hash))
    else:
        print_status(listed, shown, content_hash)
    return 0


def export(results: Path, ds9: Path | None, lightcurves: Path | None, kind: str, obsid: str | None) -> int:
    """Write the files that were requested, and print which; return the exit code."""
    if ds9 is None and lightcurves is None:
        raise ConfigError("nothing to export; give --ds9 FILE, --lightcurves FOLDER, or both")
    held = open_results(results)
    if obsid is not None and obsid not in held.observations():
        raise ConfigError(f"{results}: no results of observation {obsid}")
    for target, what in ((ds9, "circles"), (lightcurves, "light curves")):
        if target is None:
            continue
        events, regions = held.table("events", obsid), held.table("regions", obsid)
        try:
            if what == "circles":
                count = write_ds9(events, regions, target)
            else:
                curves, runs = held.table("lightcurves", obsid), held.table("runs", obsid)
                count = len(write_lightcurves(curves, events, regions, runs, target, kind))
        except OSError as error:
            raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None
        typer.echo(f"{count} {what} written to {target}")
    return 0
