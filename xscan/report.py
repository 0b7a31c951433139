"""What a person sees of a run: progress while it goes on, a summary at its end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from xscan.runner import Outcome
from xscan.tables import Tables

__all__ = ["Reporter"]

MOST_SIGNIFICANT = 10


class Reporter:
    """Progress bar on a terminal, plain lines elsewhere; remembers the most significant regions."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: Any = None
        self._best: list[dict[str, Any]] = []
        self._n_regions = 0

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
            self._task = self._progress.add_task("scanning", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def finished(self, outcome: Outcome, tables: Tables) -> None:
        """Tell of one observation, in a line and on the bar."""
        what = f"{outcome.n_regions} regions" if outcome.state == "done" else outcome.state
        why = f" ({outcome.reason}: {outcome.message})" if outcome.reason else ""
        stamp = "" if self._console.is_terminal else time.strftime("%H:%M:%S ")
        self.say(f"{stamp}{outcome.obsid}: {what}{why} in {outcome.seconds:.1f} s")
        for row in tables.runs.to_pylist():
            if outcome.state == "done" and row["reason"]:
                self.say(f"    view {_view(row)}: {row['state']} ({row['reason']}: {row['message']})")
        if self._progress is not None:
            self._progress.advance(self._task)
        self._n_regions += outcome.n_regions
        best = self._best + tables.regions.to_pylist()
        self._best = sorted(best, key=lambda row: row["p_min"])[:MOST_SIGNIFICANT]

    def summary(self, outcomes: list[Outcome], out: Path) -> None:
        """Print the most significant regions, and what became of the observations."""
        # wide enough for the table where the output is a file
        console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 110)
        if self._best:
            table = Table(title=f"most significant {len(self._best)} of {self._n_regions} regions")
            for name, justify in (
                ("region", "left"), ("RA", "right"), ("Dec", "right"), ("+-", "right"), ("kind", "left"),
                ("n", "right"), ("expected", "right"), ("sigma", "right"), ("p", "right"), ("duration", "right"),
            ):  # fmt: skip
                table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
            for row in self._best:
                table.add_row(
                    row["det_id"], f"{row['ra_deg']:.4f}", f"{row['dec_deg']:+.4f}", f'{row["pos_err_arcsec"]:.1f}"',
                    row["kind"], str(row["n_max"]), f"{row['mu_at_max']:.3g}", f"{row['sigma_max']:.1f}",
                    f"{row['p_min']:.1e}", f"{row['t_stop_s'] - row['t_start_s']:g} s",
                )  # fmt: skip
            console.print(table)
        counts = {state: sum(o.state == state for o in outcomes) for state in ("done", "empty", "skipped", "failed")}
        states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        text = f"{len(outcomes)} observations: {states}; {self._n_regions} regions; results in {out}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _view(row: dict[str, Any]) -> str:
    return f"{row['dt_s']:g}:{row['band_lo_kev']:g}-{row['band_hi_kev']:g}"
