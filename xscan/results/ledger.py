"""Summarise the rows of ``runs`` to one outcome for each observation."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from xscan.results.reader import Results

__all__ = ["STATES", "Outcome", "account", "found_text", "outcomes", "read_ledger"]

STATES = ("done", "empty", "skipped", "failed", "pending")
"""States of an observation; each one of a list has exactly one. ``pending``: no run has finished it yet."""

_DECIDES = ("failed", "done", "empty", "skipped")  # the first of these that any row has is the observation's state
_COLUMNS = (
    *("obsid", "state", "reason", "message", "n_found", "n_regions", "seconds_read", "seconds_spent"),
    *("xscan_version", "backend", "inputs_digest", "config_digest", "code_digest", "finished_utc"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one observation.

    Attributes
    ----------
    obsid : str
    state : str
        One of :data:`STATES`.
    reason : str
        Reason code; empty if done or pending.
    message : str
        The sentence for the reason.
    n_found : int
        Events found by the search by windows.
    n_regions : int
        Regions found in views.
    seconds : float
        Wall time of reading and searching, s.
    xscan_version, backend : str
        The xscan version and the backend that searched it; empty if pending.
    inputs_digest, config_digest, code_digest : str
        Digests of its files at that time, of the configuration, and of the code that searched it.
    finished_utc : datetime, optional
    """

    obsid: str
    state: str
    reason: str = ""
    message: str = ""
    n_found: int = 0
    n_regions: int = 0
    seconds: float = 0.0
    xscan_version: str = ""
    backend: str = ""
    inputs_digest: str = ""
    config_digest: str = ""
    code_digest: str = ""
    finished_utc: datetime.datetime | None = None


def outcomes(runs: pa.Table) -> dict[str, Outcome]:
    """Return the outcome of each observation from the rows of ``runs``, which are ordered by obsid.

    Examples
    --------
    >>> outcome = outcomes(tables.runs)["0990000001"]
    >>> outcome.state, outcome.n_regions == tables.regions.num_rows
    ('done', True)
    """
    found = {}
    for obsid, rows in groupby(runs.select(_COLUMNS).to_pylist(), itemgetter("obsid")):
        searches = list(rows)
        state = next(state for state in _DECIDES if any(row["state"] == state for row in searches))
        first = next(row for row in searches if row["state"] == state)
        found[obsid] = Outcome(
            obsid,
            state,
            first["reason"] or "",
            first["message"] or "",
            sum(row["n_found"] or 0 for row in searches),
            sum(row["n_regions"] for row in searches),
            first["seconds_read"] + sum(row["seconds_spent"] for row in searches),
            first["xscan_version"],
            first["backend"],
            first["inputs_digest"],
            first["config_digest"],
            first["code_digest"],
            first["finished_utc"],
        )
    return found


def read_ledger(results: Results) -> dict[str, Outcome]:
    """Read the outcome of every observation in a folder of results, by obsid.

    Examples
    --------
    >>> {obsid: outcome.state for obsid, outcome in read_ledger(held).items()}
    {'0990000001': 'done'}
    """
    return outcomes(results.table("runs", columns=_COLUMNS))


def account(obsids: Iterable[str], held: Mapping[str, Outcome]) -> list[Outcome]:
    """Return the outcome of every observation of a list, in its order; pending if there is none yet.

    Examples
    --------
    >>> done = {"0990000001": Outcome("0990000001", "done")}
    >>> [outcome.state for outcome in account(["0990000002", "0990000001"], done)]
    ['pending', 'done']
    """
    return [held.get(obsid) or Outcome(obsid, "pending") for obsid in obsids]


def found_text(n_found: int, n_regions: int) -> str:
    """Return how many events and regions were found, as ``3 events`` or ``nothing found``.

    Examples
    --------
    >>> found_text(1, 3), found_text(0, 0)
    ('1 event, 3 regions', 'nothing found')
    """
    counts = {"event": n_found, "region": n_regions}
    return ", ".join(f"{n} {what}{'s' * (n != 1)}" for what, n in counts.items() if n) or "nothing found"
