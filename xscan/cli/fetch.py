"""``xscan fetch``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import typer

from xscan.archives import Fetched, Fetcher, RequestLimits, fetch_ahead, open_archive, open_web
from xscan.archives.account import line, summary
from xscan.pipeline.obslist import Obslist
from xscan.pipeline.progress import Reporter

__all__ = ["fetch"]


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
                    reporter.say(line(outcome))
                    reporter.advance()
        except KeyboardInterrupt:
            reporter.say(f"xscan: interrupted; what has arrived is in {data}, and the same command goes on from there")
            return 130
        finally:
            typer.echo(summary(outcomes, len(obslist.obsids), data))
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0
