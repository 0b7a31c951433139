"""``xscan fetch``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import typer

from xscan.archives import Fetched, Fetcher, RequestLimits, fetch_ahead, open_archive, open_web
from xscan.pipeline.obslist import Obslist
from xscan.pipeline.progress import Reporter
from xscan.pipeline.units import format_size

__all__ = ["fetch"]

_STATES = ("fetched", "present", "absent", "failed")


def fetch(obslist: Obslist, data: Path, archive: str, parallel: int, rate: float, refresh: bool) -> int:
    """Fetch the observations of a list; return the exit code."""
    outcomes: list[Fetched] = []
    reporter = Reporter(total=len(obslist.obsids), what="fetching")
    with open_web(RequestLimits(requests_per_s=rate)) as web:
        fetcher = Fetcher(open_archive(archive, web), data, refresh)
        fetching = fetch_ahead(obslist.obsids, fetcher.fetch, web.stop, parallel)
        try:
            with reporter, closing(fetching):
                for outcome in filter(None, fetching):
                    outcomes.append(outcome)
                    reporter.say(_line(outcome))
                    reporter.advance()
        except KeyboardInterrupt:
            reporter.say(f"xscan: interrupted; what has arrived is in {data}, and the same command goes on from there")
            return 130
        finally:
            typer.echo(_totals(outcomes, len(obslist.obsids), data))
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _line(outcome: Fetched) -> str:
    """Return a line on the outcome of one observation."""
    if outcome.reason is not None:
        return f"{outcome.obsid}: {outcome.state} ({outcome.reason}: {outcome.message})"
    remark = f" ({outcome.message})" if outcome.message else ""
    if outcome.state == "present":
        return f"{outcome.obsid}: present{remark}"
    files = f"{outcome.n_files} file{'s' * (outcome.n_files != 1)}"
    return f"{outcome.obsid}: {files}, {format_size(outcome.n_bytes)} in {outcome.seconds:.1f} s{remark}"


def _totals(outcomes: Sequence[Fetched], total: int, data: Path) -> str:
    """Return a line on the outcomes of all observations."""
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in _STATES}
    left = total - len(outcomes)
    told = [f"{count} {state}" for state, count in counts.items() if count] + [f"{left} not asked for"] * (left > 0)
    n_bytes = sum(outcome.n_bytes for outcome in outcomes if outcome.state == "fetched")
    what = f"{total} observation{'s' * (total != 1)}"
    return f"{what}: {', '.join(told)}; {format_size(n_bytes)} fetched; data in {data}"
