"""Print results on the terminal: the summary of a run, the ledger, which simulated transients were found."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from xscan.bayes import power_of_ten
from xscan.model import CAMERAS
from xscan.pipeline.outcome import MOST_SIGNIFICANT, ObservationSummary, view_label
from xscan.results.ledger import STATES, Outcome
from xscan.results.tables import distinct_places

if TYPE_CHECKING:
    from xscan.simulate.recovery import Recovery

__all__ = ["Findings", "print_findings", "print_recovery", "print_status", "status_json"]

WIDTH = 116  # columns of the table
TARGET = 28  # characters shown of a target's name


class Findings:
    """Collects the results of a run, for the table at its end."""

    def __init__(self) -> None:
        self.best: list[dict[str, Any]] = []
        self.outcomes: list[Outcome] = []
        self.n_regions = self.n_views = self.n_unsearched = 0

    def add(self, summary: ObservationSummary) -> None:
        """Add one observation."""
        self.outcomes.append(summary.outcome)
        self.n_regions += summary.outcome.n_regions
        self.n_views += summary.n_views
        self.n_unsearched += summary.n_unsearched
        self.best = distinct_places([*self.best, *summary.best], MOST_SIGNIFICANT)


def print_findings(found: Findings, kept: list[Outcome], out: Path) -> None:
    """Print the most significant regions, and how many observations ended in which state, including earlier runs."""
    # wide enough for the table where the output is a file
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH)
    if found.best and console.width < WIDTH:
        for row in found.best:
            console.print(_line(row), highlight=False, markup=False, soft_wrap=True)
    elif found.best:
        now = " found now" if kept else ""
        title = (
            f"the {len(found.best)} most significant places, each in its best view, of {found.n_regions} regions{now}"
        )
        title += "; p of one voxel, before trials"
        numbers = ("n,\nexpected", "counts\npn m1 m2", "p")
        names = ("region,\ntarget", "RA, Dec (deg),\nerror", "start\n(UTC)", "kind,\nduration", *numbers)
        table = _table(title, names, right=numbers)
        for row in found.best:
            table.add_row(
                f"{row['det_id']}\n{row['target'][:TARGET]}",
                f'{row["ra_deg"]:.4f} {row["dec_deg"]:+.4f}\n+- {row["pos_err_arcsec"]:.1f}"',
                _start(row).replace("T", "\n"),
                f"{row['kind']}\n{row['t_stop_s'] - row['t_start_s']:g} s",
                f"{row['n_max']}\n{row['mu_at_max']:.3g}",
                " ".join(str(row[f"n_{camera}"]) for camera in CAMERAS),
                power_of_ten(row["log10_p_min"]),
            )
        console.print(table)
    outcomes = [*kept, *found.outcomes]
    n = len(outcomes)
    n_regions = sum(outcome.n_regions for outcome in outcomes)
    views = f" ({found.n_unsearched} of {found.n_views} views not searched)" if found.n_unsearched else ""
    text = f"{n} observation{'s' * (n != 1)}: {_totals(outcomes)}{views}; {n_regions} regions; results in {out}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_status(listed: list[Outcome], shown: list[Outcome], content_hash: str | None) -> None:
    """Print a line for each observation shown, and the totals of all that are listed."""
    for outcome in shown:
        version = f"  xscan {outcome.xscan_version} {outcome.backend}" if outcome.state != "pending" else ""
        why = f"  {outcome.reason}: {outcome.message}" if outcome.reason else ""
        print(f"{outcome.obsid}  {outcome.state:7}  {outcome.seconds:7.1f} s{version}{why}")
    print(f"{len(listed)} observation{'s' * (len(listed) != 1)}: {_totals(listed) or 'none'}")
    if content_hash is not None:
        print(f"content hash {content_hash}")


def status_json(listed: list[Outcome], shown: list[Outcome], content_hash: str | None) -> str:
    """Return the content of :func:`print_status` as one JSON object."""
    held = {
        "totals": {state: sum(outcome.state == state for outcome in listed) for state in STATES},
        "observations": [asdict(outcome) for outcome in shown],
        **({} if content_hash is None else {"content_hash": content_hash}),
    }
    return json.dumps(held, indent=1, default=lambda moment: moment.isoformat())


def print_recovery(done: Recovery) -> None:
    """Print each simulated transient with the region that matches it, and the totals by kind."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH)
    names = ("observation", "planted", "duration", "counts", "found in view", "offset", "p")
    table = _table("planted and found", names, right=("duration", "counts", "offset", "p"))
    kinds: dict[str, list[bool]] = {}
    for row in done.truth:
        best = row["best"]
        kinds.setdefault(row["kind"], []).append(best is not None)
        counts = row["n_pn"] + row["n_m1"] + row["n_m2"]
        found = ["no event of it was recorded" if counts == 0 and row["kind"] != "eclipse" else "not found", "", ""]
        if best is not None:
            found = [view_label(best), f'{row["offset_arcsec"]:.1f}"', power_of_ten(best["log10_p_min"])]
        missing = f"{row['counts_expected']:.0f} hidden" if row["kind"] == "eclipse" else str(counts)
        table.add_row(row["obsid"], row["kind"], f"{row['width_s']:.0f} s", missing, *found)
    console.print(table)
    sums = ", ".join(f"{sum(found)} of {len(found)} {kind}s" for kind, found in kinds.items())
    console.print(f"found: {sums}; {len(done.unmatched)} other regions", highlight=False, markup=False, soft_wrap=True)


def _totals(outcomes: list[Outcome]) -> str:
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _table(title: str, names: tuple[str, ...], right: tuple[str, ...]) -> Table:
    """Return an empty table; ``right`` names the columns of numbers."""
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _start(row: dict[str, Any]) -> str:
    """Return the start of a region, UTC to the second; mission time if UTC is not known."""
    return row["t_start_utc"][:19] if row["t_start_utc"] else f"{row['t_start_s']:.0f} s"


def _line(row: dict[str, Any]) -> str:
    """Return the line for one region on a narrow terminal."""
    cameras = ", ".join(f"{camera} {row[f'n_{camera}']}" for camera in CAMERAS if row[f"n_{camera}"])
    return (
        f"{row['det_id']} ({row['target']})  {row['ra_deg']:.4f} {row['dec_deg']:+.4f} "
        f'+-{row["pos_err_arcsec"]:.1f}"  {row["kind"]} {_start(row)}{" UTC" if row["t_start_utc"] else ""}  '
        f"n {row['n_max']}, expected {row['mu_at_max']:.3g}, p {power_of_ten(row['log10_p_min'])}"
        f"{f' ({cameras})' if cameras else ''}"
    )
