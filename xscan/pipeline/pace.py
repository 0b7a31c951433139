"""Compute how fast a run proceeds, and when it will end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from xscan.pipeline.outcome import ObservationSummary
from xscan.pipeline.units import format_countdown
from xscan.results.ledger import STATES

__all__ = ["Pace"]


@dataclass(slots=True)
class Pace:
    """Sums over the observations that a run has finished.

    Attributes
    ----------
    total : int
        Observations to be done in this run.
    states : Counter of str
        How the observations of this run ended.
    n_events, n_bytes : int
        Rows and bytes of the event lists read.
    """

    total: int
    states: Counter[str] = field(default_factory=Counter)
    n_events: int = 0
    n_bytes: int = 0

    def add(self, summary: ObservationSummary) -> None:
        """Count one observation."""
        self.states[summary.outcome.state] += 1
        self.n_events += summary.n_events
        self.n_bytes += summary.n_bytes

    def facts(self, seconds: float) -> dict[str, Any]:
        """Return the numbers after this much wall time, s."""
        done = self.states.total()
        return {
            "done": done,
            "total": self.total,
            "states": {state: self.states[state] for state in STATES if self.states[state]},
            "observations_per_hour": 3600 * done / seconds,
            "events_per_s": self.n_events / seconds,
            "bytes_per_s": self.n_bytes / seconds,
            "seconds_left": (self.total - done) * seconds / done if done else None,
        }

    def text(self, seconds: float) -> str:
        """Return the numbers after this much wall time, s, as half a line of text."""
        facts = self.facts(seconds)
        states = ", ".join(f"{count} {state}" for state, count in facts["states"].items())
        left = facts["seconds_left"]
        return (
            f"{states or 'none ended'}; {facts['observations_per_hour']:.0f}/h, "
            f"{facts['events_per_s'] / 1e6:.2f} M events/s, {facts['bytes_per_s'] / 1e6:.1f} MB/s; "
            f"{'?' if left is None else format_countdown(left)} left"
        )
