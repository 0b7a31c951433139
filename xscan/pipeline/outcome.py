"""Summarise an observation for the coordinator; small, however much was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from xscan.results.ledger import Outcome, outcomes
from xscan.results.tables import Tables, distinct_places, strongest_events

__all__ = ["MOST_SIGNIFICANT", "ObservationSummary", "search_label", "summarize"]

MOST_SIGNIFICANT = 10
SHARE_REJECTED = 0.01
"""A larger fraction of events in rejected frames is worth a remark."""

# only these, here and below: turning whole rows into dicts takes longer than all the rest
_OF_RUNS = [
    *("subset", "target", "dt_s", "band_lo_kev", "band_hi_kev", "state", "reason", "message", "remarks"),
    *("source_list", "n_events", "n_events_rejected"),
]
_OF_EVENTS = ["n_false", "llr"]
_OF_REGIONS = ["obsid", "parent", "log10_p_min", "ra_deg", "dec_deg"]

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ObservationSummary:
    """What came of one observation that ended, for progress and the table at the end of a run.

    Attributes
    ----------
    outcome : Outcome
    remarks : tuple of str
        What was not searched of a searched observation, and which inputs were missing.
    events, regions : tuple of dict
        Rows of the tables of these names, with ``target`` of ``runs``: the strongest events, and the regions at the
        most significant positions, at most :data:`MOST_SIGNIFICANT` each.
    n_searches, n_unsearched : int
        Number of searches (by windows, and of views), and how many of them could not be made.
    n_events, n_bytes : int
        Rows and bytes of the files that were read.
    """

    outcome: Outcome
    remarks: tuple[str, ...]
    events: tuple[dict[str, Any], ...]
    regions: tuple[dict[str, Any], ...]
    n_searches: int
    n_unsearched: int
    n_events: int
    n_bytes: int


def summarize(tables: Tables, seconds: float) -> ObservationSummary:
    """Summarise one observation's tables; ``seconds`` is the wall time spent on it, s.

    Examples
    --------
    >>> summary = summarize(tables, seconds=1.5)
    >>> summary.outcome.state, summary.n_searches, len(summary.events) == tables.events.num_rows
    ('done', 1, True)
    """
    (outcome,) = outcomes(tables.runs).values()
    rows = tables.runs.select(_OF_RUNS).to_pylist()
    states = [row["state"] for row in rows if row["subset"] is not None]  # a failed observation has no subset
    target = {"target": rows[0]["target"]}
    event_keys, region_keys = _numbered(tables.events, _OF_EVENTS), _numbered(tables.regions, _OF_REGIONS)
    inputs = tables.inputs.select(["file", "role", "bytes", "n_rows", "reason", "message"]).to_pylist()
    files = {info["file"]: info for info in inputs}
    return ObservationSummary(
        replace(outcome, seconds=seconds),
        _remarks(rows, inputs) if outcome.state == "done" else (),
        tuple(row | target for row in _rows(tables.events, strongest_events(event_keys, MOST_SIGNIFICANT))),
        tuple(row | target for row in _rows(tables.regions, distinct_places(region_keys, MOST_SIGNIFICANT))),
        len(states),
        sum(state != "done" for state in states),
        sum(info["n_rows"] for info in files.values() if info["role"] == "events"),
        sum(info["bytes"] for info in files.values()),
    )


def _numbered(table: pa.Table, columns: list[str]) -> list[dict[str, Any]]:
    """Return some columns of each row of a table, with its number as ``row``."""
    return [{"row": number} | key for number, key in enumerate(table.select(columns).to_pylist())]


def _rows(table: pa.Table, chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the whole rows of those chosen of :func:`_numbered`."""
    rows: list[dict[str, Any]] = table.take(pa.array([key["row"] for key in chosen], pa.int64())).to_pylist()
    return rows


def search_label(row: Row) -> str:
    """Return which search a row of ``runs`` is of: ``view 5:0.2-12``, or ``search by windows``.

    Examples
    --------
    >>> search_label({"dt_s": 50.0, "band_lo_kev": 0.2, "band_hi_kev": 12.0}), search_label({"dt_s": None})
    ('view 50:0.2-12', 'search by windows')
    """
    if row["dt_s"] is None:
        return "search by windows"
    return f"view {row['dt_s']:g}:{row['band_lo_kev']:g}-{row['band_hi_kev']:g}"


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
    lines |= {f"{search_label(row)}: {row['state']} ({row['message']})": None for row in runs if row["reason"]}
    return (*lines, *(f"{search_label(row)}: {row['remarks']}" for row in runs if row["remarks"]))
