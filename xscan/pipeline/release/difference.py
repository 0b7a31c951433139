"""Compare the events and regions of two releases: which are new, lost or changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import linear_sum_assignment

from xscan.schema import EVENTS, IDENTIFIERS, REGIONS, column
from xscan.sky import SAME_PLACE_ARCSEC, separation_arcsec

__all__ = ["EVENT_CHANGES", "REGION_CHANGES", "compare_events", "compare_regions"]

Row = dict[str, Any]

SAME_CELL_ARCSEC = 20.0
"""Size of a cell: regions of a view can be the same if they are this close, or agree within five of their errors.

Less than :data:`xscan.sky.SAME_PLACE_ARCSEC`, because both releases search the same view on the same cells.
"""

_ERRORS = 5.0
_AT_ONCE = 500
"""Observations whose rows are in memory at a time as Python objects, 2 kB a row: new code makes all rows differ."""


@dataclass(frozen=True)
class _Kind:
    """How the rows of a table of what was found are compared.

    Attributes
    ----------
    table : str
    schema : pyarrow.Schema
    names : set of str
        Columns that name a row: they change when another comes or goes, or when its start moves.
    among : tuple of str
        Columns in which two rows that are the same are equal.
    apart_arcsec : float
        Two rows this close can be the same, or those that agree within five of their errors.
    numbers : tuple of str
        Columns whose values in both releases are told.
    """

    table: str
    schema: pa.Schema
    names: frozenset[str]
    among: tuple[str, ...]
    apart_arcsec: float
    numbers: tuple[str, ...]

    @cached_property
    def changes(self) -> pa.Schema:
        """Schema of the table of changes."""
        name, what = IDENTIFIERS[self.table], self.table.removesuffix("s")
        described = dict.fromkeys((*self.among[1:], "kind", *_PLACE))
        return pa.schema(
            [
                column("obsid", pa.string(), "", "observation identifier, ten digits"),
                column("change", pa.string(), "", "new, lost or changed"),
                column("reason", pa.string(), "", "why the observation was searched again, or withdrawn"),
                column(f"{name}_before", pa.string(), "", f"{what} of the previous release; null if new", True),
                column(name, pa.string(), "", f"{what} of this release; null if lost", True),
                *(self._told(one, "; of this release unless lost") for one in described),
                column("moved_arcsec", pa.float64(), "arcsec", "between both places; null unless changed", True),
                *(
                    self._told(one, text, before)
                    for one in self.numbers
                    for before, text in (("_before", "; in the previous release, null if new"), ("", "; null if lost"))
                ),
                column("columns", pa.string(), "", f"columns of {self.table} that differ; empty unless changed"),
            ]
        )

    def _told(self, name: str, when: str, suffix: str | None = None) -> pa.Field:
        """Return a column of the table of changes as it is in the table itself."""
        field = self.schema.field(name)
        unit, meaning = (field.metadata[key].decode() for key in (b"unit", b"description"))
        return column(f"{name}{suffix or ''}", field.type, unit, meaning + when, suffix is not None)


_PLACE = ("ra_deg", "dec_deg", "t_start_s", "t_stop_s")

_EVENTS = _Kind(
    "events",
    EVENTS,
    frozenset({"event_id"}),
    ("obsid", "kind"),
    SAME_PLACE_ARCSEC,
    ("counts", "llr", "n_false"),
)
_REGIONS = _Kind(
    "regions",
    REGIONS,
    frozenset({"det_id", "label"}),
    ("obsid", "dt_s", "band_lo_kev", "band_hi_kev"),
    SAME_CELL_ARCSEC,
    ("n_max", "mu_at_max", "log10_p_min"),
)

EVENT_CHANGES = _EVENTS.changes
REGION_CHANGES = _REGIONS.changes


def compare_events(before: pa.Table, after: pa.Table, reasons: Mapping[str, str]) -> pa.Table:
    """Compare the events of two releases.

    Two events are the same if they are of one kind, overlap or touch in time, and lie at the same position: within
    :data:`xscan.sky.SAME_PLACE_ARCSEC`, or five of their errors. Parameters, and what is returned
    (:data:`EVENT_CHANGES`, ordered by obsid and kind), as in :func:`compare_regions`.

    Examples
    --------
    An event is missing now:

    >>> found = compare_events(one_event, one_event.slice(1), {"0990000001": "code"})
    >>> found.select(["change", "reason"]).to_pylist()
    [{'change': 'lost', 'reason': 'code'}]
    """
    return _compare(_EVENTS, before, after, reasons)


def compare_regions(before: pa.Table, after: pa.Table, reasons: Mapping[str, str]) -> pa.Table:
    """Compare the regions of two releases.

    Two regions are the same if they belong to the same view, overlap or touch in time, and lie at the same position.
    Where several could be matched, each is matched once, so that the sum of the distances is smallest.

    Parameters
    ----------
    before, after : pyarrow.Table
        ``regions`` of the previous release and of this one.
    reasons : mapping of str to str
        By obsid, why it differs; only these observations are compared.

    Returns
    -------
    pyarrow.Table
        As :data:`REGION_CHANGES`, ordered by obsid and view; unchanged regions are left out.

    Examples
    --------
    One of two regions is missing now, the other is as it was:

    >>> regions = held.table("regions")
    >>> found = compare_regions(regions, regions.slice(1), {"0990000001": "code"})
    >>> found.select(["change", "reason"]).to_pylist()
    [{'change': 'lost', 'reason': 'code'}]
    """
    return _compare(_REGIONS, before, after, reasons)


def _compare(kind: _Kind, before: pa.Table, after: pa.Table, reasons: Mapping[str, str]) -> pa.Table:
    obsids = sorted(reasons)
    batches = [obsids[first : first + _AT_ONCE] for first in range(0, len(obsids), _AT_ONCE)]
    compared = (_compare_some(kind, before, after, reasons, batch) for batch in batches)
    return pa.concat_tables([kind.changes.empty_table(), *compared])


def _compare_some(
    kind: _Kind, before: pa.Table, after: pa.Table, reasons: Mapping[str, str], obsids: list[str]
) -> pa.Table:
    groups: defaultdict[tuple[Any, ...], tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    chosen = pa.array(obsids, pa.string())
    for side, table in enumerate((before, after)):
        for row in table.filter(pc.is_in(table["obsid"], chosen)).to_pylist():
            groups[tuple(row[name] for name in kind.among)][side].append(row)
    rows = []
    for group in sorted(groups):
        old, new = _without_equals(kind, *groups[group])
        pairs = _matched(kind, old, new)
        changed = [(old[i], new[j]) for i, j in pairs]
        lost = [(row, None) for i, row in enumerate(old) if i not in {i for i, _ in pairs}]
        fresh = [(None, row) for j, row in enumerate(new) if j not in {j for _, j in pairs}]
        rows += [_described(kind, *pair, reasons[group[0]]) for pair in [*changed, *lost, *fresh]]
    return pa.Table.from_pylist(rows, kind.changes)


def _without_equals(kind: _Kind, old: list[Row], new: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return both lists without the rows that are equal on both sides, each matched once."""
    left: list[Row] = []
    waiting = defaultdict(list)
    for row in new:
        waiting[_values(kind, row)].append(row)
    for row in old:
        if same := waiting[_values(kind, row)]:
            same.pop()
        else:
            left.append(row)
    return left, [row for rows in waiting.values() for row in rows]


def _values(kind: _Kind, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in kind.schema.names if name not in kind.names)


def _matched(kind: _Kind, old: list[Row], new: list[Row]) -> list[tuple[int, int]]:
    """Pair the rows of one view, or of one kind, that are the same; return pairs of indices."""
    if not old or not new:
        return []
    names = (*_PLACE, "pos_err_arcsec")
    a, b = ({name: np.array([row[name] for row in rows], float) for name in names} for rows in (old, new))
    apart = separation_arcsec(a["ra_deg"][:, None], a["dec_deg"][:, None], b["ra_deg"], b["dec_deg"])
    error = np.hypot(a["pos_err_arcsec"][:, None], b["pos_err_arcsec"])
    together = apart <= np.maximum(kind.apart_arcsec, _ERRORS * error)
    together &= (a["t_start_s"][:, None] <= b["t_stop_s"]) & (b["t_start_s"] <= a["t_stop_s"][:, None])
    far = apart[together].max(initial=0) * (len(old) + len(new)) + 1  # costs more than all possible matches together
    rows, columns = linear_sum_assignment(np.where(together, apart, far))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if together[i, j]]


def _described(kind: _Kind, old: Row | None, new: Row | None, reason: str) -> Row:
    """Return a row of the table of changes."""
    now, name = new or old or {}, IDENTIFIERS[kind.table]
    row = {key: now[key] for key in kind.changes.names if key in now and key not in kind.numbers}
    row |= {"reason": reason, name: new and new[name], f"{name}_before": old and old[name], "columns": ""}
    for number in kind.numbers:
        row |= {number: new and new[number], f"{number}_before": old and old[number]}
    if old is None or new is None:
        return row | {"change": "new" if old is None else "lost"}
    differ = [key for key in old if key not in kind.names and old[key] != new[key]]
    moved = float(separation_arcsec(old["ra_deg"], old["dec_deg"], new["ra_deg"], new["dec_deg"]))
    return row | {"change": "changed", "moved_arcsec": moved, "columns": ", ".join(differ)}
