"""Describe a fetch for a person: one line for each observation, and one for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xscan.archives.fetch import Fetched

__all__ = ["line", "summary"]

_STATES = ("fetched", "present", "absent", "failed")


def line(outcome: Fetched) -> str:
    """Return a line on the outcome of one observation."""
    if outcome.reason is not None:
        return f"{outcome.obsid}: {outcome.state} ({outcome.reason}: {outcome.message})"
    remark = f" ({outcome.message})" if outcome.message else ""
    if outcome.state == "present":
        return f"{outcome.obsid}: present{remark}"
    files = f"{outcome.n_files} file{'s' * (outcome.n_files != 1)}"
    return f"{outcome.obsid}: {files}, {outcome.n_bytes / 1e6:.1f} MB in {outcome.seconds:.1f} s{remark}"


def summary(outcomes: Sequence[Fetched], total: int, data: Path) -> str:
    """Return a line on the outcomes of all observations."""
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in _STATES}
    left = total - len(outcomes)
    told = [f"{count} {state}" for state, count in counts.items() if count] + [f"{left} not asked for"] * (left > 0)
    n_bytes = sum(outcome.n_bytes for outcome in outcomes if outcome.state == "fetched")
    what = f"{total} observation{'s' * (total != 1)}"
    return f"{what}: {', '.join(told)}; {n_bytes / 1e6:.1f} MB fetched; data in {data}"
