from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from helpers.stored import failed

from xscan.pipeline.outcome import MOST_SIGNIFICANT, ObservationSummary, summarize
from xscan.schema import INPUTS, RUNS_WITH_INPUTS

OBSID = "0000000001"


def summary(*views: dict[str, object], inputs: tuple[dict[str, object], ...] = ()) -> ObservationSummary:
    """Of an observation with these views, rows of ``runs``; what is not told is as for a view that was searched."""
    made = failed(OBSID)
    (row,) = made.runs.to_pylist()
    searched = row | {"state": "done", "reason": None, "message": None, "subset": 0, "dt_s": 5.0, "band_lo_kev": 0.2,
                      "band_hi_kev": 12.0, "n_events": 1000, "source_list": "used"}  # fmt: skip
    runs = pa.Table.from_pylist([searched | view for view in views], RUNS_WITH_INPUTS)
    files = pa.Table.from_pylist([{"obsid": OBSID} | info for info in inputs], INPUTS)
    return summarize(replace(made, runs=runs, inputs=files), 1.5)


def test_views_that_were_not_searched_are_counted() -> None:
    empty = {"state": "empty", "reason": "empty_band", "message": "no events"}
    skipped = {"state": "skipped", "reason": "too_short", "message": "short"}
    found = summary({}, empty, {"dt_s": 50.0}, skipped, empty)
    assert (found.n_searches, found.n_unsearched) == (5, 3)
    assert (summary({}, {}).n_searches, summary({}, {}).n_unsearched) == (2, 0)
    of_nothing = summarize(failed(OBSID), 1.0)
    assert (of_nothing.n_searches, of_nothing.n_unsearched) == (0, 0)
    assert of_nothing.remarks == ()


def test_a_file_is_counted_once_and_only_event_lists_have_events() -> None:
    one = {"file": "a", "role": "events", "bytes": 100, "n_rows": 7}
    two = {"file": "b", "role": "events", "bytes": 20, "n_rows": 5}
    sources = {"file": "c", "role": "sources", "bytes": 3, "n_rows": 400}
    found = summary({}, inputs=(one, two, one, sources))
    assert (found.n_events, found.n_bytes) == (12, 123)


@pytest.mark.parametrize(("rejected", "is_said"), [(0, False), (10, False), (11, True)])
def test_more_than_one_event_in_a_hundred_rejected_is_worth_a_remark(rejected: int, is_said: bool) -> None:
    found = summary({"n_events_rejected": 0}, {"dt_s": 50.0, "n_events_rejected": rejected})
    assert list(found.remarks) == ["up to 1 % of the events lie in rejected frames (50 s views)"] * is_said


def test_the_wall_time_is_that_of_the_call() -> None:
    assert summary({}).outcome.seconds == 1.5
    assert MOST_SIGNIFICANT == 10
