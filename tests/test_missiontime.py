"""UTC and MJD of mission time, held against astropy's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.time import Time

from xscan.missions.xmm.instrument import EPIC
from xscan.missiontime import Clock, mjd_utc, utc_text

CLOCK = Clock(EPIC.mjdref)
LEAPS = ("1998-12-31", "2005-12-31", "2008-12-31", "2012-06-30", "2015-06-30", "2016-12-31")


@pytest.mark.filterwarnings("ignore:.*dubious year")  # astropy's; ours are quiet, as the other tests show
def test_years_and_leap_seconds(rng: np.random.Generator) -> None:
    seconds = [np.linspace(3.2e7, 1.04e9, 5000) + rng.random(5000)]  # 1999 to 2030
    for day in LEAPS:
        midnight = (Time(f"{day}T23:59:60", scale="utc").tt - Time(EPIC.mjdref, format="mjd", scale="tt")).to_value("s")
        seconds.append(midnight + np.arange(-2, 3, 0.125))
    time = np.concatenate(seconds)
    utc = Time(EPIC.mjdref, time / 86_400, format="mjd", scale="tt", precision=3).utc
    assert utc_text(time, CLOCK) == utc.isot.tolist()
    np.testing.assert_allclose(mjd_utc(time, CLOCK), utc.mjd, rtol=0, atol=1e-11)
    assert sum(":60." in text for text in utc_text(time, CLOCK)) == 8 * len(LEAPS)


def test_known_moments() -> None:
    """64.184 s between UTC and TT in 2000; the start of mission time is 1997-12-31T23:58:56.816 UTC."""
    assert utc_text([0.0, 6.9e7], CLOCK) == ["1997-12-31T23:58:56.816", "2000-03-09T14:38:55.816"]
    assert utc_text(1.0e9, CLOCK) == ["2029-09-09T01:45:30.816"]  # 69.184 s: no leap second is known after 2016
    assert mjd_utc(0.0, CLOCK)[0] == pytest.approx(50_814 - 63.184 / 86_400, abs=1e-10)


def test_what_is_not_known_is_null() -> None:
    assert utc_text([np.nan, 0.0, np.inf], CLOCK)[::2] == [None, None]
    assert np.isnan(mjd_utc([np.nan, 0.0], CLOCK)).tolist() == [True, False]
    for about in ({"barycentred": True}, {"time_system": "TDB", "barycentred": True}, {"time_system": "TDB"}):
        clock = replace(CLOCK, **about)
        assert utc_text([1.0, 2.0], clock) == [None, None]
        assert np.isnan(mjd_utc([1.0, 2.0], clock)).all()
    assert utc_text([], CLOCK) == []


def test_missions_begin_at_their_own_time_0() -> None:
    later = Clock(EPIC.mjdref + 1000.5)
    assert utc_text(0.0, later) == utc_text(1000.5 * 86_400, CLOCK)
    assert mjd_utc(0.0, later) == pytest.approx(mjd_utc(1000.5 * 86_400, CLOCK), abs=1e-10)
