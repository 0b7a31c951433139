"""What became of every observation: the rows of ``runs``, one line for each observation."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from xscan.results.reader import Results

__all__ = ["STATES", "Outcome", "account", "outcomes", "read_ledger"]

STATES = ("done", "empty", "skipped", "failed", "pending")
"""Every observation of a list is in exactly one; pending is what no run has finished yet."""

_DECIDES = ("failed", "done", "empty", "skipped")  # the first that any row has is the observation's
_COLUMNS = (
    *("obsid", "state", "reason", "message", "n_regions", "seconds_read", "seconds_spent"),
    *("xscan_version", "backend", "inputs_digest", "config_digest", "code_digest", "finished_utc"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one observation.

    Attributes
    ----------
    obsid : str
    state : str
        One of :data:`STATES`.
    reason : str
        Reason code; empty if done or pending.
    message : str
        The sentence for the reason.
    n_regions : int
    seconds : float
        Wall time of reading and searching, s.
    xscan_version, backend : str
        What searched it; empty if pending.
    inputs_digest, config_digest, code_digest : str
        Fingerprints of its files then, of the configuration, and of the code that searched it.
    finished_utc : datetime, optional
    """

    obsid: str
    state: str
    reason: str = ""
    message: str = ""
    n_regions: int = 0
    seconds: float = 0.0
    xscan_version: str = ""
    backend: str = ""
    inputs_digest: str = ""
    config_digest: str = ""
    code_digest: str = ""
    finished_utc: datetime.datetime | None = None


def outcomes(runs: pa.Table) -> dict[str, Outcome]:
    """Sum up the rows of ``runs``, ordered by obsid, by observation."""
    found = {}
    for obsid, rows in groupby(runs.select(_COLUMNS).to_pylist(), itemgetter("obsid")):
        views = list(rows)
        state = next(state for state in _DECIDES if any(row["state"] == state for row in views))
        first = next(row for row in views if row["state"] == state)
        found[obsid] = Outcome(
            obsid,
            state,
            first["reason"] or "",
            first["message"] or "",
            sum(row["n_regions"] for row in views),
            first["seconds_read"] + sum(row["seconds_spent"] for row in views),
            first["xscan_version"],
            first["backend"],
            first["inputs_digest"],
            first["config_digest"],
            first["code_digest"],
            first["finished_utc"],
        )
    return found


def read_ledger(results: Results) -> dict[str, Outcome]:
    """Read what became of every observation in a folder of results, by obsid."""
    return outcomes(results.table("runs", columns=_COLUMNS))


def account(obsids: Iterable[str], held: Mapping[str, Outcome]) -> list[Outcome]:
    """Return the outcome of every observation of a list, in its order."""
    return [held.get(obsid) or Outcome(obsid, "pending") for obsid in obsids]
