"""Constants of the tables, held at their edges."""

from __future__ import annotations

import pytest

from xscan.results.tables import distinct_places


@pytest.mark.parametrize(("apart_arcsec", "n"), [(29.0, 1), (31.0, 2)])
def test_regions_within_30_arcsec_are_one_place(apart_arcsec: float, n: int) -> None:
    rows = [
        {"obsid": "0000000001", "parent": None, "ra_deg": 150.0, "dec_deg": dec_deg, "log10_p_min": log10_p}
        for dec_deg, log10_p in ((2.0, -9.0), (2.0 + apart_arcsec / 3600, -12.0))
    ]
    found = distinct_places(rows, 10)
    assert len(found) == n
    assert found[0]["log10_p_min"] == -12.0  # the most significant stands for the place
    other = [rows[0], rows[1] | {"obsid": "0000000002"}]
    assert len(distinct_places(other, 10)) == 2  # of two observations they are two
