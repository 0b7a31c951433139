"""Show the progress of a run, on a terminal or in a log."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from xscan.pipeline.outcome import ObservationSummary
from xscan.pipeline.pace import Pace
from xscan.results.ledger import Outcome, found_text

__all__ = ["JsonFormatter", "Reporter"]

EVERY_S = 60.0
"""Seconds between two lines of progress where there is no terminal."""


class Reporter:
    """Shows a progress bar on a terminal, plain lines elsewhere.

    Parameters
    ----------
    total : int
        Observations.
    what : str
    json_lines : bool
        Print everything as one JSON object a line, on a terminal too.
    """

    def __init__(self, total: int, what: str = "scanning", json_lines: bool = False) -> None:
        self._json = json_lines
        self._console = Console(stderr=True, emoji=False)
        self._live = self._console.is_terminal and not json_lines
        self._what = what
        self._pace = Pace(total)
        self._n_kept = 0
        self._progress: Progress | None = None
        self._task: Any = None
        self._started_s = self._told_s = 0.0

    def __enter__(self) -> Reporter:
        self._started_s = self._told_s = time.monotonic()
        if self._live:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            total = self._n_kept + self._pace.total
            self._task = self._progress.add_task(self._what, total=total, completed=self._n_kept, pace="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, line: str, event: str = "note", **facts: Any) -> None:
        """Print one line; in JSON the ``facts`` are added as fields."""
        if self._json:
            line = json.dumps(_stamped(event, line) | facts)
        elif not self._live and event == "observation":
            line = f"{time.strftime('%H:%M:%S')} {line}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def keep(self, kept: list[Outcome]) -> None:
        """Show how many observations were searched before; call it before entering."""
        self._n_kept = len(kept)
        self._pace.total -= len(kept)
        n_failed = sum(outcome.state == "failed" for outcome in kept)
        again = f" ({n_failed} of them failed; --retry-failed searches those again)" if n_failed else ""
        if kept:
            total = self._n_kept + self._pace.total
            self.say(f"{len(kept)} of {total} observations were searched before{again}")

    def advance(self, _what: str = "") -> None:
        """Move the bar by one."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def ended(self, summary: ObservationSummary) -> None:
        """Show one observation that ended, in a line and on the bar."""
        outcome = summary.outcome
        what = found_text(outcome.n_found, outcome.n_regions) if outcome.state == "done" else outcome.state
        why = f" ({outcome.reason}: {outcome.message})" if outcome.reason else ""
        self.say(
            f"{outcome.obsid}: {what}{why} in {outcome.seconds:.1f} s",
            "observation",
            obsid=outcome.obsid,
            state=outcome.state,
            reason=outcome.reason,
            n_found=outcome.n_found,
            n_regions=outcome.n_regions,
            seconds=outcome.seconds,
            remarks=summary.remarks,
        )
        for line in () if self._json else summary.remarks:
            self.say(f"    {line}")
        self._pace.add(summary)
        now_s = time.monotonic()
        text = self._pace.text(now_s - self._started_s)
        if self._progress is not None:
            self._progress.update(self._task, advance=1, pace=text)
        elif now_s - self._told_s >= EVERY_S:
            self._told_s = now_s
            facts = self._pace.facts(now_s - self._started_s)
            self.say(f"{facts['done']} of {facts['total']}: {text}", "progress", **facts)


class JsonFormatter(logging.Formatter):
    """Formats a message of the logging module, with its traceback, as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        return json.dumps(_stamped("log", super().format(record)) | {"level": record.levelname})


def _stamped(event: str, message: str) -> dict[str, Any]:
    return {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, "message": message}
