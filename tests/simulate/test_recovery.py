"""What counts as recovered, held at its edges."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from xscan.simulate.recovery import compare

PLANTED = {
    "obsid": "0990000001",
    "kind": "burst",
    "ra_deg": 150.0,
    "dec_deg": 2.0,
    "t_start_s": 100.0,
    "t_stop_s": 120.0,
}


def region(number: int = 0, north_arcsec: float = 0.0, cells: int = 1, **columns: object) -> dict[str, Any]:
    return {
        "det_id": f"0990000001_{number}", "obsid": "0990000001", "kind": "peak", "ra_deg": 150.0,
        "dec_deg": 2.0 + north_arcsec / 3600, "cell_arcsec": 20.0, "bbox_x0": 60, "bbox_x1": 61, "bbox_y0": 60,
        "bbox_y1": 60 + cells, "t_start_s": 100.0, "t_stop_s": 110.0, "log10_p_min": -10.0,
    } | columns  # fmt: skip


def event(number: int = 0, north_arcsec: float = 0.0, **columns: object) -> dict[str, Any]:
    return {
        "event_id": f"0990000001_{number}", "obsid": "0990000001", "kind": "peak", "ra_deg": 150.0,
        "dec_deg": 2.0 + north_arcsec / 3600, "t_start_s": 100.0, "t_stop_s": 110.0, "n_false": 1e-5, "llr": 30.0,
    } | columns  # fmt: skip


def matched(*rows: dict[str, Any], planted: dict[str, Any] = PLANTED) -> list[str]:
    done = compare(pa.Table.from_pylist([planted]), pa.Table.from_pylist(list(rows)))
    (found,) = done.truth
    name = "event_id" if "event_id" in rows[0] else "det_id"
    assert [row[name] for row in rows] == sorted(found["found"] + [row[name] for row in done.unmatched])
    return found["found"]


@pytest.mark.parametrize(
    ("north_arcsec", "cells", "is_matched"),
    [(29.0, 1, True), (31.0, 1, False), (31.0, 4, True), (39.0, 4, True), (41.0, 4, False)],
)
def test_within_30_arcsec_or_half_the_box(north_arcsec: float, cells: int, is_matched: bool) -> None:
    assert bool(matched(region(0, north_arcsec, cells))) is is_matched


@pytest.mark.parametrize(
    ("start_s", "stop_s", "is_matched"), [(90, 100, False), (90, 101, True), (119, 130, True), (120, 130, False)]
)
def test_times_must_overlap(start_s: float, stop_s: float, is_matched: bool) -> None:
    assert bool(matched(region(t_start_s=float(start_s), t_stop_s=float(stop_s)))) is is_matched


def test_a_peak_is_no_eclipse_and_another_observation_is_not_this_one() -> None:
    assert matched(region(kind="both")) == ["0990000001_0"]
    assert matched(region(kind="eclipse")) == []
    assert matched(region(kind="peak"), planted=PLANTED | {"kind": "eclipse"}) == []
    assert matched(region(obsid="0990000002")) == []


def test_the_most_significant_match_is_the_best() -> None:
    rows = [region(0, 5.0), region(1, 10.0, log10_p_min=-20.0), region(2, 300.0, log10_p_min=-30.0)]
    (found,) = compare(pa.Table.from_pylist([PLANTED]), pa.Table.from_pylist(rows)).truth
    assert found["found"] == ["0990000001_0", "0990000001_1"]
    assert found["best"]["det_id"] == "0990000001_1"
    assert found["offset_arcsec"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("row", "is_matched"),
    [
        (event(0, 29.0), True),
        (event(0, 31.0), False),
        (event(t_start_s=119.0, t_stop_s=2000.0), True),
        (event(t_start_s=120.0, t_stop_s=2000.0), False),
        (event(kind="eclipse"), False),
        (event(obsid="0990000002"), False),
    ],
)
def test_an_event_matches_by_kind_place_and_time(row: dict[str, Any], is_matched: bool) -> None:
    assert bool(matched(row)) is is_matched


def test_the_strongest_event_is_the_best() -> None:
    """What chance gives least often; of two that it never gives the one of the larger likelihood ratio."""
    rows = [event(0), event(1, 5.0, n_false=0.0), event(2, 9.0, n_false=0.0, llr=900.0), event(3, 300.0, n_false=0.0)]
    (found,) = compare(pa.Table.from_pylist([PLANTED]), pa.Table.from_pylist(rows)).truth
    assert found["found"] == ["0990000001_0", "0990000001_1", "0990000001_2"]
    assert (found["best"]["event_id"], found["offset_arcsec"]) == ("0990000001_2", pytest.approx(9.0))
