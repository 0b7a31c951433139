from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.stored import failed

from xscan.pipeline.outcome import summarize
from xscan.pipeline.pace import Pace


def test_the_time_left_falls_as_observations_end() -> None:
    """Ten observations at one a minute."""
    pace = Pace(10)
    assert pace.facts(30.0)["seconds_left"] is None
    assert pace.text(30.0).endswith("; ? left")
    one = replace(summarize(failed("0000000001"), 60.0), n_events=1_200_000, n_bytes=24_000_000)
    left = []
    for done in range(1, 11):
        pace.add(one)
        left.append(pace.facts(60.0 * done)["seconds_left"])
    assert left == pytest.approx([540, 480, 420, 360, 300, 240, 180, 120, 60, 0])
    assert pace.facts(600.0) == {
        "done": 10,
        "total": 10,
        "states": {"failed": 10},
        "observations_per_hour": 60.0,
        "events_per_s": 20_000.0,
        "bytes_per_s": 400_000.0,
        "seconds_left": 0.0,
    }
    assert pace.text(600.0) == "10 failed; 60/h, 0.02 M events/s, 0.4 MB/s; 0 min 00 s left"


@pytest.mark.parametrize(("seconds", "text"), [(59.4, "0 min 59 s"), (61.0, "1 min 01 s"), (3660.0, "1 h 01 min")])
def test_time_left_is_told_in_minutes_or_hours(seconds: float, text: str) -> None:
    pace = Pace(2)
    pace.add(summarize(failed("0000000001"), 1.0))
    assert pace.text(seconds).endswith(f"; {text} left")
