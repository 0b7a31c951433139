"""What became of every region from one release to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xscan.pipeline.release.difference import compare_events, compare_regions
from xscan.schema import EVENTS, REGIONS

ARCSEC = 1 / 3600


def region(number: int = 0, **values: Any) -> dict[str, Any]:
    """A row of ``regions``: all zero but for what makes it a region."""
    kinds = {pa.string(): "", pa.float64(): 0.0, pa.int32(): 0, pa.int64(): 0}
    row = {field.name: kinds[field.type] for field in REGIONS}
    row |= {"obsid": "0000000001", "dt_s": 5.0, "band_lo_kev": 0.2, "band_hi_kev": 12.0, "kind": "peak"}
    row |= {"pos_err_arcsec": 1.0, "t_start_s": 100.0, "t_stop_s": 105.0, "log10_p_min": -20.0}
    return row | {"det_id": f"region {number}", "label": number} | values


def event(**values: Any) -> dict[str, Any]:
    """A row of ``events``."""
    kinds = {pa.string(): "", pa.float64(): 0.0, pa.int32(): 0, pa.int64(): 0, pa.bool_(): False}
    row = {field.name: kinds[field.type] for field in EVENTS}
    row |= {"event_id": "an event", "obsid": "0000000001", "kind": "peak", "pos_err_arcsec": 1.0}
    return row | {"t_start_s": 100.0, "t_stop_s": 105.0, "counts": 12.0, "n_false": 1e-6} | values


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        ({"event_id": "another name"}, []),
        ({"counts": 14.0}, ["changed"]),
        ({"dec_deg": 29 * ARCSEC}, ["changed"]),
        ({"t_start_s": 105.0, "t_stop_s": 900.0, "variable": True}, ["changed"]),
        ({"dec_deg": 31 * ARCSEC}, ["lost", "new"]),
        ({"dec_deg": 31 * ARCSEC, "pos_err_arcsec": 7.0}, ["changed"]),
        ({"t_start_s": 105.1, "t_stop_s": 900.0}, ["lost", "new"]),
        ({"kind": "eclipse"}, ["lost", "new"]),
    ],
)
def test_what_became_of_an_event(values: dict[str, Any], changes: list[str]) -> None:
    tables = (pa.Table.from_pylist([row], EVENTS) for row in (event(), event(**values)))
    found = compare_events(*tables, {"0000000001": "code"})
    found.validate(full=True)
    assert sorted(row["change"] for row in found.to_pylist()) == changes
    if changes == ["changed"]:
        (row,) = found.to_pylist()
        assert row["columns"] == ", ".join(name for name in event() if name in values)
        assert (row["counts_before"], row["counts"]) == (12.0, values.get("counts", 12.0))
        assert row["moved_arcsec"] == pytest.approx(values.get("dec_deg", 0.0) * 3600)


def compared(before: list[dict[str, Any]], after: list[dict[str, Any]], **reasons: str) -> list[dict[str, Any]]:
    tables = (pa.Table.from_pylist(rows, REGIONS) for rows in (before, after))
    found = compare_regions(*tables, reasons or {"0000000001": "code"})
    found.validate(full=True)
    return found.to_pylist()


def test_regions_as_they_were_are_not_told() -> None:
    """Another region in the view gave this one another number: that is no change."""
    assert compared([region(0)], [region(1)]) == []


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ({"n_max": 7}, "n_max"),
        ({"dec_deg": 5 * ARCSEC, "kind": "both"}, "dec_deg, kind"),
        ({"t_start_s": 105.0, "t_stop_s": 110.0}, "t_start_s, t_stop_s"),
        ({"t_start_s": 95.0, "t_stop_s": 100.0}, "t_start_s, t_stop_s"),
    ],
)
def test_a_region_that_changed(values: dict[str, Any], columns: str) -> None:
    (row,) = compared([region(0, n_max=6)], [region(3, n_max=6) | values])
    assert (row["change"], row["columns"], row["reason"]) == ("changed", columns, "code")
    assert (row["det_id_before"], row["det_id"]) == ("region 0", "region 3")
    assert (row["n_max_before"], row["n_max"]) == (6, values.get("n_max", 6))
    assert row["moved_arcsec"] == pytest.approx(values.get("dec_deg", 0) * 3600)


@pytest.mark.parametrize(
    "values",
    [
        {"dec_deg": 25 * ARCSEC},  # too far
        {"t_start_s": 106.0, "t_stop_s": 111.0},  # a frame later
        {"dt_s": 50.0},  # another view
        {"band_lo_kev": 2.0},
    ],
)
def test_a_region_lost_and_another_found(values: dict[str, Any]) -> None:
    rows = compared([region(0, n_max=6)], [region(0, n_max=8) | values])
    assert sorted((row["change"], row["n_max_before"], row["n_max"]) for row in rows) == [
        ("lost", 6, None),
        ("new", None, 8),
    ]


def test_places_of_large_error_reach_further() -> None:
    far = {"dec_deg": 40 * ARCSEC}
    assert [row["change"] for row in compared([region(pos_err_arcsec=6.0)], [region(pos_err_arcsec=6.0, **far)])] == [
        "changed"
    ]


def test_an_archive_is_compared_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:010d}" for number in range(7)]
    before = [region(obsid=name, n_max=6) for name in names[:5]]
    after = [region(obsid=name, n_max=7) for name in names[2:]]
    reasons = dict.fromkeys(reversed(names), "code")
    whole = compare_regions(*(pa.Table.from_pylist(rows, REGIONS) for rows in (before, after)), reasons)
    assert whole["change"].to_pylist() == ["lost"] * 2 + ["changed"] * 3 + ["new"] * 2
    monkeypatch.setattr("xscan.pipeline.release.difference._AT_ONCE", 2)
    assert compare_regions(*(pa.Table.from_pylist(rows, REGIONS) for rows in (before, after)), reasons) == whole


def test_each_region_is_matched_once() -> None:
    """Two regions 10" apart, and both moved by 6": the nearest of the first would be the wrong one of the second."""
    before = [region(0, dec_deg=0.0, n_max=1), region(1, dec_deg=10 * ARCSEC, n_max=2)]
    after = [region(0, dec_deg=6 * ARCSEC, n_max=1), region(1, dec_deg=16 * ARCSEC, n_max=2)]
    assert [(row["n_max_before"], row["n_max"]) for row in compared(before, after)] == [(1, 1), (2, 2)]


def test_no_match_is_left_out_to_make_another_nearer() -> None:
    before = [region(0, dec_deg=0.0, n_max=1), region(1, dec_deg=15 * ARCSEC, n_max=2)]
    after = [region(0, dec_deg=15 * ARCSEC, n_max=1), region(1, dec_deg=30 * ARCSEC, n_max=2)]
    assert [row["change"] for row in compared(before, after)] == ["changed", "changed"]


def test_observations_without_a_reason_are_not_looked_at() -> None:
    assert compared([region(obsid="0000000002")], [], **{"0000000001": "files"}) == []


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 12), m=st.integers(0, 12))
def test_every_region_is_told_of_once(seed: int, n: int, m: int) -> None:
    """Whatever is near whatever, each region of both sides is unchanged, or in one row."""
    rng = np.random.default_rng(seed)

    def some(count: int) -> list[dict[str, Any]]:
        return [
            region(
                i,
                dec_deg=float(rng.integers(0, 9)) * 8 * ARCSEC,
                dt_s=float(rng.choice([5.0, 50.0])),
                n_max=int(rng.integers(0, 2)),
            )
            for i in range(count)
        ]

    before, after = some(n), some(m)
    rows = compared(before, after)
    old = [row["det_id_before"] for row in rows if row["det_id_before"]]
    new = [row["det_id"] for row in rows if row["det_id"]]
    assert len(set(old)) == len(old) <= n
    assert len(set(new)) == len(new) <= m
    assert n - len(old) == m - len(new)  # the unchanged
    assert all((row["moved_arcsec"] is not None) == (row["change"] == "changed") for row in rows)
    back = compared(after, before)
    assert sorted(row["change"] for row in back) == sorted(
        {"new": "lost", "lost": "new"}.get(row["change"], "changed") for row in rows
    )
