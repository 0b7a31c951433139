"""Compare events or regions that were found with the transients that were simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xscan.results.tables import strongest_events
from xscan.schema import IDENTIFIERS
from xscan.sky import SAME_PLACE_ARCSEC, separation_arcsec

__all__ = ["Recovery", "compare"]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recovery:
    """Which simulated transients were found, and as what.

    Attributes
    ----------
    truth : list of dict
        Rows of the table of transients, each with ``found`` (identifiers of the events or regions that match it),
        ``best`` (the strongest of them, a row of ``events`` or ``regions``) or None, and ``offset_arcsec`` of the best.
    unmatched : list of dict
        Events or regions that match no transient.
    """

    truth: list[Row]
    unmatched: list[Row]


def compare(truth: pa.Table, found: pa.Table) -> Recovery:
    """Match events or regions to simulated transients by kind, position and time.

    An event matches a transient within :data:`xscan.sky.SAME_PLACE_ARCSEC`, a region within this or its own bounding
    box, if it overlaps it in time.

    Parameters
    ----------
    truth : pyarrow.Table
        As :data:`xscan.simulate.observation.TRUTH`.
    found : pyarrow.Table
        ``events`` or ``regions`` of the same observations, as :mod:`xscan.schema`.

    Examples
    --------
    A burst of 10 s at the centre, a region that is it, and one that is elsewhere:

    >>> at = {"obsid": "0990000001", "dec_deg": 0.0, "t_start_s": 100.0, "t_stop_s": 110.0}
    >>> of_region = {"kind": "peak", "log10_p_min": -9.0, "cell_arcsec": 20.0}
    >>> of_region |= {"bbox_x0": 0, "bbox_x1": 1, "bbox_y0": 0, "bbox_y1": 1}
    >>> found = [at | of_region | {"det_id": det_id, "ra_deg": ra} for det_id, ra in (("it", 10.001), ("other", 10.1))]
    >>> truth = pa.Table.from_pylist([at | {"kind": "burst", "ra_deg": 10.0}])
    >>> recovery = compare(truth, pa.Table.from_pylist(found))
    >>> recovery.truth[0]["found"], round(recovery.truth[0]["offset_arcsec"], 3), recovery.unmatched[0]["det_id"]
    (['it'], 3.6, 'other')
    """
    events = IDENTIFIERS["events"] in found.column_names
    name = IDENTIFIERS["events" if events else "regions"]
    rows, taken, matched = found.to_pylist(), set(), []
    for planted in truth.to_pylist():
        mine = [row for row in rows if _is(planted, row)]
        taken |= {row[name] for row in mine}
        ranked = strongest_events(mine, 1) if events else sorted(mine, key=lambda row: float(row["log10_p_min"]))
        best = ranked[0] if ranked else None
        offset = None if best is None else _offset(planted, best)
        matched.append(planted | {"found": [row[name] for row in mine], "best": best, "offset_arcsec": offset})
    return Recovery(matched, [row for row in rows if row[name] not in taken])


def _offset(planted: Row, row: Row) -> float:
    return float(separation_arcsec(planted["ra_deg"], planted["dec_deg"], row["ra_deg"], row["dec_deg"]))


def _is(planted: Row, row: Row) -> bool:
    other = "peak" if planted["kind"] == "eclipse" else "eclipse"
    if planted["obsid"] != row["obsid"] or row["kind"] == other:
        return False
    near = _offset(planted, row) <= max(SAME_PLACE_ARCSEC, _half_box(row))
    overlap = row["t_start_s"] < planted["t_stop_s"] and row["t_stop_s"] > planted["t_start_s"]
    return bool(near and overlap)


def _half_box(row: Row) -> float:
    """Return half the longer side of a region's bounding box, arcsec; 0 for an event, which has none."""
    if "bbox_x0" not in row:
        return 0.0
    return float(max(row["bbox_x1"] - row["bbox_x0"], row["bbox_y1"] - row["bbox_y0"]) * row["cell_arcsec"] / 2)
