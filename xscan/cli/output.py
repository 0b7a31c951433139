"""Print results on the terminal: the summary of a run, the ledger, which simulated transients were found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from xscan.bayes import power_of_ten
from xscan.model import CAMERAS
from xscan.pipeline.outcome import MOST_SIGNIFICANT, ObservationSummary, search_label
from xscan.results.ledger import STATES, Outcome, found_text
from xscan.results.tables import distinct_places, event_kind, expected_by_chance, strongest_events

if TYPE_CHECKING:
    from xscan.simulate.recovery import Recovery

__all__ = ["Findings", "print_findings", "print_recovery", "print_status", "status_json"]

WIDTH = 116  # columns of the table
TARGET = 28  # characters shown of a target's name

Row = dict[str, Any]


class Findings:
    """Collects the results of a run, for the table at its end."""

    def __init__(self) -> None:
        self.events: list[Row] = []
        self.regions: list[Row] = []
        self.outcomes: list[Outcome] = []
        self.n_found = self.n_regions = self.n_searches = self.n_unsearched = 0

    def add(self, summary: ObservationSummary) -> None:
        """Add one observation."""
        self.outcomes.append(summary.outcome)
        self.n_found += summary.outcome.n_found
        self.n_regions += summary.outcome.n_regions
        self.n_searches += summary.n_searches
        self.n_unsearched += summary.n_unsearched
        self.events = strongest_events([*self.events, *summary.events], MOST_SIGNIFICANT)
        self.regions = distinct_places([*self.regions, *summary.regions], MOST_SIGNIFICANT)


def print_findings(found: Findings, kept: list[Outcome], out: Path) -> None:
    """Print the strongest events, the most significant regions, and how many observations ended in which state.

    Observations of earlier runs are counted too.
    """
    # wide enough for the table where the output is a file
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH)
    now = " found now" if kept else ""
    title = f"the {len(found.events)} strongest of {found.n_found} events{now}; by chance: as strong ones expected"
    _print_listing(console, _EVENTS, title, found.events)
    title = (
        f"the {len(found.regions)} most significant places, each in its best view, of {found.n_regions} regions{now}; "
        "p of one voxel, before trials"
    )
    _print_listing(console, _REGIONS, title, found.regions)
    outcomes = [*kept, *found.outcomes]
    n = len(outcomes)
    what = found_text(sum(one.n_found for one in outcomes), sum(one.n_regions for one in outcomes))
    left = f" ({found.n_unsearched} of {found.n_searches} searches could not be made)" if found.n_unsearched else ""
    text = f"{n} observation{'s' * (n != 1)}: {_totals(outcomes)}{left}; {what}; results in {out}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_status(listed: list[Outcome], shown: list[Outcome], content_hash: str | None) -> None:
    """Print a line for each observation shown, and the totals of all that are listed."""
    for outcome in shown:
        version = f"  xscan {outcome.xscan_version} {outcome.backend}" if outcome.state != "pending" else ""
        why = f"  {outcome.reason}: {outcome.message}" if outcome.reason else ""
        print(f"{outcome.obsid}  {outcome.state:7}  {outcome.seconds:7.1f} s{version}{why}")
    print(f"{len(listed)} observation{'s' * (len(listed) != 1)}: {_totals(listed) or 'none'}")
    if content_hash is not None:
        print(f"content hash {content_hash}")


def status_json(listed: list[Outcome], shown: list[Outcome], content_hash: str | None) -> str:
    """Return the content of :func:`print_status` as one JSON object."""
    held = {
        "totals": {state: sum(outcome.state == state for outcome in listed) for state in STATES},
        "observations": [asdict(outcome) for outcome in shown],
        **({} if content_hash is None else {"content_hash": content_hash}),
    }
    return json.dumps(held, indent=1, default=lambda moment: moment.isoformat())


def print_recovery(done: Recovery, what: str) -> None:
    """Print each simulated transient with the event or region that matches it, and the totals by kind.

    Parameters
    ----------
    done : Recovery
    what : str
        ``events`` or ``regions``.
    """
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH)
    strength = "by chance" if what == "events" else "p"
    names = ("observation", "planted", "duration", "counts", "found", "offset", strength)
    table = _table(f"planted and found ({what})", names, right=("duration", "counts", "offset", strength))
    kinds: dict[str, list[bool]] = {}
    for row in done.truth:
        best = row["best"]
        kinds.setdefault(row["kind"], []).append(best is not None)
        counts = row["n_pn"] + row["n_m1"] + row["n_m2"]
        found = ["no event of it was recorded" if counts == 0 and row["kind"] != "eclipse" else "not found", "", ""]
        if best is not None:
            found = [_found_as(best), f'{row["offset_arcsec"]:.1f}"', _strength(best)]
        missing = f"{row['counts_expected']:.0f} hidden" if row["kind"] == "eclipse" else str(counts)
        table.add_row(row["obsid"], row["kind"], f"{row['width_s']:.0f} s", missing, *found)
    console.print(table)
    sums = ", ".join(f"{sum(found)} of {len(found)} {kind}s" for kind, found in kinds.items())
    text = f"found: {sums}; {len(done.unmatched)} other {what}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _found_as(row: Row) -> str:
    """Return how a planted transient was found: the kind and length of an event, the view of a region."""
    if "event_id" in row:
        return f"{event_kind(row)}, {_duration(row)}"
    return search_label(row)


def _strength(row: Row) -> str:
    return expected_by_chance(row) if "event_id" in row else power_of_ten(row["log10_p_min"])


def _totals(outcomes: list[Outcome]) -> str:
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _table(title: str, names: tuple[str, ...], right: tuple[str, ...]) -> Table:
    """Return an empty table; ``right`` names the columns of numbers."""
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _start(row: Row) -> str:
    """Return the start of an event or region, UTC to the second; mission time if UTC is not known."""
    return row["t_start_utc"][:19] if row["t_start_utc"] else f"{row['t_start_s']:.0f} s"


def _duration(row: Row) -> str:
    seconds = row["t_stop_s"] - row["t_start_s"]
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def _place(row: Row) -> tuple[str, str]:
    return f"{row['ra_deg']:.4f} {row['dec_deg']:+.4f}", f'+- {row["pos_err_arcsec"]:.1f}"'


def _counts(row: Row) -> tuple[str, ...]:
    return tuple(str(row[f"n_{camera}"]) for camera in CAMERAS)


@dataclass(frozen=True, slots=True)
class _Listing:
    """How the rows of a table are shown at the end of a run.

    ``cells`` gives what stands in the columns ``names``, on two lines each; ``words`` the same of one row for a
    narrow terminal: its name, its kind and how significant it is.
    """

    names: tuple[str, ...]
    numbers: tuple[str, ...]
    cells: Callable[[Row], tuple[str, ...]]
    words: Callable[[Row], tuple[str, str, str]]


def _print_listing(console: Console, listing: _Listing, title: str, rows: list[Row]) -> None:
    """Print rows as a table, or as a line each on a terminal too narrow for it; nothing if there is none."""
    if rows and console.width < WIDTH:
        for row in rows:
            console.print(_line(row, *listing.words(row)), highlight=False, markup=False, soft_wrap=True)
    elif rows:
        table = _table(title, listing.names + listing.numbers, right=listing.numbers)
        for row in rows:
            table.add_row(*listing.cells(row))
        console.print(table)


def _line(row: Row, name: str, kind: str, significance: str) -> str:
    place, error = _place(row)
    cameras = ", ".join(f"{camera} {n}" for camera, n in zip(CAMERAS, _counts(row), strict=True) if n != "0")
    start = f"{_start(row)}{' UTC' if row['t_start_utc'] else ''}"
    return (
        f"{name} ({row['target']})  {place} {error.replace(' ', '')}  {kind} {start}  {significance}"
        f"{f' ({cameras})' if cameras else ''}"
    )


def _event_cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row['event_id']}\n{row['target'][:TARGET]}",
        "\n".join(_place(row)),
        _start(row).replace("T", "\n"),
        f"{event_kind(row)}\n{_duration(row)}",
        f"{_change(row)}\n{row['constant']:.1f}",
        f"{expected_by_chance(row)}\n{' '.join(_counts(row))}",
    )


def _change(row: Row) -> str:
    """Return the counts of an event more than its constant source's, or less, with their sign."""
    return f"{'-' if row['kind'] == 'eclipse' else '+'}{row['counts']:.1f}"


def _region_cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row['det_id']}\n{row['target'][:TARGET]}",
        "\n".join(_place(row)),
        _start(row).replace("T", "\n"),
        f"{row['kind']}\n{_duration(row)}",
        f"{row['n_max']}\n{row['mu_at_max']:.3g}",
        " ".join(_counts(row)),
        power_of_ten(row["log10_p_min"]),
    )


_NAMES = ("RA, Dec (deg),\nerror", "start\n(UTC)", "kind,\nduration")
_EVENTS = _Listing(
    ("event,\ntarget", *_NAMES),
    ("counts more,\nconstant", "by chance,\npn m1 m2"),
    _event_cells,
    lambda row: (
        row["event_id"],
        event_kind(row),
        f"{_duration(row)}, {_change(row)} counts, {row['constant']:.1f} constant, {expected_by_chance(row)} by chance",
    ),
)
_REGIONS = _Listing(
    ("region,\ntarget", *_NAMES),
    ("n,\nexpected", "counts\npn m1 m2", "p"),
    _region_cells,
    lambda row: (
        row["det_id"],
        row["kind"],
        f"n {row['n_max']}, expected {row['mu_at_max']:.3g}, p {power_of_ten(row['log10_p_min'])}",
    ),
)
