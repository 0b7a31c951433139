"""Compare regions that were found with the transients that were simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xscan.sky import SAME_PLACE_ARCSEC, separation_arcsec

__all__ = ["Recovery", "compare"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """Which simulated transients were found, and by which regions.

    Attributes
    ----------
    truth : list of dict
        Rows of the table of transients, each with ``det_ids`` (the regions that match it), ``best`` (the most
        significant of them, a row of ``regions``) or None, and ``offset_arcsec`` of the best.
    unmatched : list of dict
        Regions that match no transient.
    """

    truth: list[dict[str, Any]]
    unmatched: list[dict[str, Any]]


def compare(truth: pa.Table, regions: pa.Table) -> Recovery:
    """Match regions to simulated transients by position and time.

    A region matches a transient within :data:`xscan.sky.SAME_PLACE_ARCSEC` or its own bounding box, if it overlaps it
    in time.

    Parameters
    ----------
    truth : pyarrow.Table
        As :data:`xscan.simulate.observation.TRUTH`.
    regions : pyarrow.Table
        Of the same observations, as :mod:`xscan.schema`.

    Examples
    --------
    A burst of 10 s at the centre, a region that is it, and one that is elsewhere:

    >>> at = {"obsid": "0990000001", "dec_deg": 0.0, "t_start_s": 100.0, "t_stop_s": 110.0}
    >>> of_region = {"kind": "peak", "log10_p_min": -9.0, "cell_arcsec": 20.0}
    >>> of_region |= {"bbox_x0": 0, "bbox_x1": 1, "bbox_y0": 0, "bbox_y1": 1}
    >>> found = [at | of_region | {"det_id": det_id, "ra_deg": ra} for det_id, ra in (("it", 10.001), ("other", 10.1))]
    >>> truth = pa.Table.from_pylist([at | {"kind": "burst", "ra_deg": 10.0}])
    >>> recovery = compare(truth, pa.Table.from_pylist(found))
    >>> recovery.truth[0]["det_ids"], round(recovery.truth[0]["offset_arcsec"], 3), recovery.unmatched[0]["det_id"]
    (['it'], 3.6, 'other')
    """
    found = regions.to_pylist()
    taken: set[str] = set()
    rows = []
    for planted in truth.to_pylist():
        mine = [row for row in found if _is(planted, row)]
        taken |= {row["det_id"] for row in mine}
        best = min(mine, key=lambda row: row["log10_p_min"], default=None)
        offset = None if best is None else float(_offset(planted, best))
        rows.append(planted | {"det_ids": [row["det_id"] for row in mine], "best": best, "offset_arcsec": offset})
    return Recovery(rows, [row for row in found if row["det_id"] not in taken])


def _offset(planted: dict[str, Any], row: dict[str, Any]) -> float:
    return float(separation_arcsec(planted["ra_deg"], planted["dec_deg"], row["ra_deg"], row["dec_deg"]))


def _is(planted: dict[str, Any], row: dict[str, Any]) -> bool:
    other = "peak" if planted["kind"] == "eclipse" else "eclipse"
    if planted["obsid"] != row["obsid"] or row["kind"] == other:
        return False
    half = max(row["bbox_x1"] - row["bbox_x0"], row["bbox_y1"] - row["bbox_y0"]) * row["cell_arcsec"] / 2
    near = _offset(planted, row) <= max(SAME_PLACE_ARCSEC, half)
    overlap = row["t_start_s"] < planted["t_stop_s"] and row["t_stop_s"] > planted["t_start_s"]
    return bool(near and overlap)
