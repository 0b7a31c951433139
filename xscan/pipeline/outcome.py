"""Summarise an observation for the coordinator; small, however much was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xscan.results.ledger import Outcome, outcomes
from xscan.results.tables import Tables, distinct_places

__all__ = ["MOST_SIGNIFICANT", "ObservationSummary", "summarize", "view_label"]

MOST_SIGNIFICANT = 10
SHARE_REJECTED = 0.01
"""A larger fraction of events in rejected frames is worth a remark."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ObservationSummary:
    """ObservationSummary of one observation that ended, for progress and the table at the end of a run.

    Attributes
    ----------
    outcome : Outcome
    remarks : tuple of str
        What was not searched of a searched observation, and which inputs were missing.
    best : tuple of dict
        Rows of ``regions``, with ``target`` of ``runs``: the most significant positions, at most
        :data:`MOST_SIGNIFICANT`.
    n_views, n_unsearched : int
        Number of views, and how many of them were not searched.
    n_events, n_bytes : int
        Rows and bytes of the files that were read.
    """

    outcome: Outcome
    remarks: tuple[str, ...]
    best: tuple[dict[str, Any], ...]
    n_views: int
    n_unsearched: int
    n_events: int
    n_bytes: int


def summarize(tables: Tables, seconds: float) -> ObservationSummary:
    """Summarise one observation's tables; ``seconds`` is the wall time spent on it, s."""
    (outcome,) = outcomes(tables.runs).values()
    rows = tables.runs.to_pylist()
    states = [row["state"] for row in rows if row["dt_s"] is not None]  # a failed observation has no view
    inputs = tables.inputs.to_pylist()
    files = {info["file"]: info for info in inputs}
    return ObservationSummary(
        replace(outcome, seconds=seconds),
        _remarks(rows, inputs) if outcome.state == "done" else (),
        tuple(
            row | {"target": rows[0]["target"]} for row in distinct_places(tables.regions.to_pylist(), MOST_SIGNIFICANT)
        ),
        len(states),
        sum(state != "done" for state in states),
        sum(info["n_rows"] for info in files.values() if info["role"] == "events"),
        sum(info["bytes"] for info in files.values()),
    )


def view_label(row: Row) -> str:
    """Return the label of the view of a row of ``runs`` or ``regions``."""
    return f"{row['dt_s']:g}:{row['band_lo_kev']:g}-{row['band_hi_kev']:g}"


def _remarks(runs: list[dict[str, Any]], inputs: list[dict[str, Any]]) -> tuple[str, ...]:
    lines = dict.fromkeys(
        f"{info['file']}: not used ({info['reason']}: {info['message']})" if info["reason"] else info["message"]
        for info in inputs
        if info["reason"] or info["message"]
    )
    if runs[0]["source_list"] == "absent":
        lines["no source list (P<obsid>EP...OBSMLI): only cells far brighter than the rest are masked"] = None
    rejected = [(row["n_events_rejected"] / row["n_events"], row) for row in runs if row["n_events_rejected"]]
    share, worst = max(rejected, key=lambda pair: pair[0], default=(0.0, {}))
    if share > SHARE_REJECTED:
        lines[f"up to {100 * share:.0f} % of the events lie in rejected frames ({worst['dt_s']:g} s views)"] = None
    lines |= {f"view {view_label(row)}: {row['state']} ({row['message']})": None for row in runs if row["reason"]}
    return (*lines, *(f"view {view_label(row)}: {row['remarks']}" for row in runs if row["remarks"]))
