"""What a person sees of a run: progress while it goes on, a summary at its end."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from xscan.bayes import power_of_ten
from xscan.ledger import STATES, Outcome
from xscan.tables import Tables, distinct_places

if TYPE_CHECKING:
    from xscan.simulate.recovery import Recovery

__all__ = ["Reporter", "print_recovery", "print_status", "status_json"]

MOST_SIGNIFICANT = 10
WIDTH = 116  # columns that the table takes


class Reporter:
    """Progress bar on a terminal, plain lines elsewhere; remembers the most significant regions."""

    def __init__(self, total: int, what: str = "scanning") -> None:
        self._total = total
        self._what = what
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: Any = None
        self._best: list[dict[str, Any]] = []
        self._n_kept = self._n_regions = 0
        self._n_views = self._n_unsearched = 0

    def __enter__(self) -> Reporter:
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(self._what, total=self._total, completed=self._n_kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def keep(self, kept: list[Outcome]) -> None:
        """Tell what was searched before; call it before entering."""
        self._n_kept = len(kept)
        n_failed = sum(outcome.state == "failed" for outcome in kept)
        again = f" ({n_failed} of them failed; --retry-failed searches those again)" if n_failed else ""
        if kept:
            self.say(f"{len(kept)} of {self._total} observations were searched before{again}")

    def advance(self, _what: str = "") -> None:
        """Move the bar by one."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def finished(self, outcome: Outcome, tables: Tables) -> None:
        """Tell of one observation, in a line and on the bar."""
        what = (
            f"{outcome.n_regions} region{'s' * (outcome.n_regions != 1)}" if outcome.state == "done" else outcome.state
        )
        why = f" ({outcome.reason}: {outcome.message})" if outcome.reason else ""
        stamp = "" if self._console.is_terminal else time.strftime("%H:%M:%S ")
        self.say(f"{stamp}{outcome.obsid}: {what}{why} in {outcome.seconds:.1f} s")
        if outcome.state == "done":
            for line in _remarks(tables.runs.to_pylist()):
                self.say(f"    {line}")
        self.advance()
        self._n_regions += outcome.n_regions
        views = tables.runs.filter(pc.is_valid(tables.runs["dt_s"]))  # an observation that failed has none
        self._n_views += views.num_rows
        self._n_unsearched += sum(state != "done" for state in views["state"].to_pylist())
        self._best = distinct_places(self._best + tables.regions.to_pylist(), MOST_SIGNIFICANT)

    def summary(self, outcomes: list[Outcome], out: Path) -> None:
        """Print the most significant regions, and what became of the observations."""
        # wide enough for the table where the output is a file
        console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH)
        if self._best and console.width < WIDTH:
            for row in self._best:
                console.print(_line(row), highlight=False, markup=False, soft_wrap=True)
        elif self._best:
            now = " found now" if self._n_kept else ""
            title = (
                f"the {len(self._best)} most significant places, each in its best view, "
                f"of {self._n_regions} regions{now}"
            )
            right = ("RA", "Dec", "+-", "n", "expected", "p", "duration")
            table = _table(title, ("region", "RA", "Dec", "+-", "kind", "n", "expected", "p", "duration"), right)
            for row in self._best:
                table.add_row(
                    row["det_id"], f"{row['ra_deg']:.4f}", f"{row['dec_deg']:+.4f}", f'{row["pos_err_arcsec"]:.1f}"',
                    row["kind"], str(row["n_max"]), f"{row['mu_at_max']:.3g}", power_of_ten(row["log10_p_min"]),
                    f"{row['t_stop_s'] - row['t_start_s']:g} s",
                )  # fmt: skip
            console.print(table)
        n = len(outcomes)
        n_regions = sum(outcome.n_regions for outcome in outcomes)
        views = f" ({self._n_unsearched} of {self._n_views} views not searched)" if self._n_unsearched else ""
        text = f"{n} observation{'s' * (n != 1)}: {_totals(outcomes)}{views}; {n_regions} regions; results in {out}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_status(listed: list[Outcome], shown: list[Outcome], content_hash: str | None) -> None:
    """Print a line for each observation shown, and the sums of all that are listed."""
    for outcome in shown:
        version = f"  xscan {outcome.xscan_version} {outcome.backend}" if outcome.state != "pending" else ""
        why = f"  {outcome.reason}: {outcome.message}" if outcome.reason else ""
        print(f"{outcome.obsid}  {outcome.state:7}  {outcome.seconds:7.1f} s{version}{why}")
    print(f"{len(listed)} observation{'s' * (len(listed) != 1)}: {_totals(listed) or 'none'}")
    if content_hash is not None:
        print(f"content hash {content_hash}")


def status_json(listed: list[Outcome], shown: list[Outcome], content_hash: str | None) -> str:
    """Give what :func:`print_status` prints as one JSON object."""
    held = {
        "totals": {state: sum(outcome.state == state for outcome in listed) for state in STATES},
        "observations": [asdict(outcome) for outcome in shown],
        **({} if content_hash is None else {"content_hash": content_hash}),
    }
    return json.dumps(held, indent=1, default=lambda moment: moment.isoformat())


def print_recovery(done: Recovery) -> None:
    """Print each planted transient with what was found of it, and the sums by kind."""
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
            found = [_view(best), f'{row["offset_arcsec"]:.1f}"', power_of_ten(best["log10_p_min"])]
        missing = f"{row['counts_expected']:.0f} hidden" if row["kind"] == "eclipse" else str(counts)
        table.add_row(row["obsid"], row["kind"], f"{row['width_s']:.0f} s", missing, *found)
    console.print(table)
    sums = ", ".join(f"{sum(found)} of {len(found)} {kind}s" for kind, found in kinds.items())
    console.print(f"found: {sums}; {len(done.unmatched)} other regions", highlight=False, markup=False, soft_wrap=True)


def _totals(outcomes: list[Outcome]) -> str:
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _table(title: str, names: tuple[str, ...], right: tuple[str, ...]) -> Table:
    """Make an empty table; ``right`` names the columns of numbers."""
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _remarks(runs: list[dict[str, Any]]) -> list[str]:
    """Say what of a searched observation was not searched, and with what it had to do without."""
    lines = dict.fromkeys(
        f"{info['file']}: not used ({info['reason']}: {info['message']})" if info["reason"] else info["message"]
        for row in runs
        for info in row["inputs"]
        if info["reason"] or info["message"]
    )
    if runs[0]["source_list"] == "absent":
        lines["no source list (P<obsid>EP...OBSMLI): only cells far brighter than the rest are masked"] = None
    return [*lines, *(f"view {_view(row)}: {row['state']} ({row['message']})" for row in runs if row["reason"])]


def _line(row: dict[str, Any]) -> str:
    """One region on a narrow terminal."""
    return (
        f'{row["det_id"]}  {row["ra_deg"]:.4f} {row["dec_deg"]:+.4f} +-{row["pos_err_arcsec"]:.1f}"  {row["kind"]}  '
        f"n {row['n_max']}, expected {row['mu_at_max']:.3g}, p {power_of_ten(row['log10_p_min'])}"
    )


def _view(row: dict[str, Any]) -> str:
    return f"{row['dt_s']:g}:{row['band_lo_kev']:g}-{row['band_hi_kev']:g}"
