"""Compare the regions of two releases: which are new, lost or changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import linear_sum_assignment

from xscan.schema import REGIONS, column
from xscan.sky import separation_arcsec

__all__ = ["REGION_CHANGES", "compare_regions"]

Row = dict[str, Any]

SAME_CELL_ARCSEC = 20.0
"""Size of a cell: regions of a view can be the same if they are this close, or agree within five of their errors.

Less than :data:`xscan.sky.SAME_PLACE_ARCSEC`, because both releases search the same view on the same cells.
"""

_ERRORS = 5.0
_AT_ONCE = 500
"""Observations whose rows are in memory at a time as Python objects, 2 kB a row: new code makes all rows differ."""

_NAMES = {"det_id", "label"}  # these change when another region comes or goes
_NUMBERS = ("n_max", "mu_at_max", "log10_p_min")

REGION_CHANGES = pa.schema(
    [
        column("obsid", pa.string(), "", "observation identifier, ten digits"),
        column("change", pa.string(), "", "new, lost or changed"),
        column("reason", pa.string(), "", "why the observation was searched again, or withdrawn"),
        column("dt_s", pa.float64(), "s", "length of a frame"),
        column("band_lo_kev", pa.float64(), "keV", "lower end of the band, inclusive"),
        column("band_hi_kev", pa.float64(), "keV", "upper end of the band, exclusive"),
        column("det_id_before", pa.string(), "", "region of the previous release; null if new", True),
        column("det_id", pa.string(), "", "region of this release; null if lost", True),
        column("kind", pa.string(), "", "peak, eclipse or both; of this release unless lost"),
        column("ra_deg", pa.float64(), "deg", "right ascension, ICRS; of this release unless lost"),
        column("dec_deg", pa.float64(), "deg", "declination, ICRS; of this release unless lost"),
        column("t_start_s", pa.float64(), "s", "start of the first flagged frame; of this release unless lost"),
        column("t_stop_s", pa.float64(), "s", "end of the last flagged frame; of this release unless lost"),
        column("moved_arcsec", pa.float64(), "arcsec", "between both places; null unless changed", True),
        *(
            column(
                f"{name}{which}", REGIONS.field(name).type, REGIONS.field(name).metadata[b"unit"].decode(), text, True
            )
            for name in _NUMBERS
            for which, text in (("_before", "in the previous release; null if new"), ("", "now; null if lost"))
        ),
        column("columns", pa.string(), "", "columns of regions that differ; empty unless changed"),
    ]
)


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
    obsids = sorted(reasons)
    batches = [obsids[first : first + _AT_ONCE] for first in range(0, len(obsids), _AT_ONCE)]
    return pa.concat_tables(
        [REGION_CHANGES.empty_table(), *(_compare_some(before, after, reasons, batch) for batch in batches)]
    )


def _compare_some(before: pa.Table, after: pa.Table, reasons: Mapping[str, str], obsids: list[str]) -> pa.Table:
    groups: defaultdict[tuple[Any, ...], tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    chosen = pa.array(obsids, pa.string())
    for side, table in enumerate((before, after)):
        for row in table.filter(pc.is_in(table["obsid"], chosen)).to_pylist():
            groups[row["obsid"], row["dt_s"], row["band_lo_kev"], row["band_hi_kev"]][side].append(row)
    rows = []
    for view in sorted(groups):
        old, new = _without_equals(*groups[view])
        pairs = _matched(old, new)
        changed = [(old[i], new[j]) for i, j in pairs]
        lost = [(row, None) for i, row in enumerate(old) if i not in {i for i, _ in pairs}]
        fresh = [(None, row) for j, row in enumerate(new) if j not in {j for _, j in pairs}]
        rows += [_described(*pair, reasons[view[0]]) for pair in [*changed, *lost, *fresh]]
    return pa.Table.from_pylist(rows, REGION_CHANGES)


def _without_equals(old: list[Row], new: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return both lists without the regions that are equal on both sides, each matched once."""
    left: list[Row] = []
    waiting = defaultdict(list)
    for row in new:
        waiting[_values(row)].append(row)
    for row in old:
        if same := waiting[_values(row)]:
            same.pop()
        else:
            left.append(row)
    return left, [row for rows in waiting.values() for row in rows]


def _values(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in REGIONS.names if name not in _NAMES)


def _matched(old: list[Row], new: list[Row]) -> list[tuple[int, int]]:
    """Pair the regions of one view that are the same; return pairs of indices."""
    if not old or not new:
        return []
    a, b = ({name: np.array([row[name] for row in rows], float) for name in _PLACE} for rows in (old, new))
    apart = separation_arcsec(a["ra_deg"][:, None], a["dec_deg"][:, None], b["ra_deg"], b["dec_deg"])
    error = np.hypot(a["pos_err_arcsec"][:, None], b["pos_err_arcsec"])
    together = apart <= np.maximum(SAME_CELL_ARCSEC, _ERRORS * error)
    together &= (a["t_start_s"][:, None] <= b["t_stop_s"]) & (b["t_start_s"] <= a["t_stop_s"][:, None])
    far = apart[together].max(initial=0) * (len(old) + len(new)) + 1  # costs more than all possible matches together
    rows, columns = linear_sum_assignment(np.where(together, apart, far))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if together[i, j]]


_PLACE = ("ra_deg", "dec_deg", "pos_err_arcsec", "t_start_s", "t_stop_s")


def _described(old: Row | None, new: Row | None, reason: str) -> Row:
    """Return a row of the table of changes."""
    now = new or old or {}
    row = {name: now[name] for name in REGION_CHANGES.names if name in now and name not in _NUMBERS}
    row |= {"reason": reason, "det_id": new and new["det_id"], "det_id_before": old and old["det_id"], "columns": ""}
    for name in _NUMBERS:
        row |= {name: new and new[name], f"{name}_before": old and old[name]}
    if old is None or new is None:
        return row | {"change": "new" if old is None else "lost"}
    differ = [name for name in old if name not in _NAMES and old[name] != new[name]]
    moved = float(separation_arcsec(old["ra_deg"], old["dec_deg"], new["ra_deg"], new["dec_deg"]))
    return row | {"change": "changed", "moved_arcsec": moved, "columns": ", ".join(differ)}
