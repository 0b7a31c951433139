from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xscan.backends import get_backend
from xscan.events.gti import cumulative_livetime, intersect, livetime_until, union
from xscan.model import CcdTime

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)
SECOND = np.arange(64) + 0.5


def as_seconds(intervals: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the unit seconds lie in intervals with whole ends: the obvious way."""
    inside = np.zeros(SECOND.size, bool)
    for start, stop in intervals:
        inside |= (start < SECOND) & (stop > SECOND)
    return inside


@given(spans)
def test_union(made: list[tuple[int, int]]) -> None:
    start, stop = np.array(made, float).reshape(-1, 2).T
    merged = union(start, stop)
    np.testing.assert_array_equal(as_seconds(merged), as_seconds(np.column_stack([start, stop])))
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    assert (merged[:, 1] > merged[:, 0]).all()


@given(spans, spans)
def test_intersect(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    a, b = (union(*np.array(made, float).reshape(-1, 2).T) for made in (one, other))
    np.testing.assert_array_equal(as_seconds(intersect(a, b)), as_seconds(a) & as_seconds(b))


def test_union_drops_nonsense() -> None:
    merged = union([0, np.nan, 5, 9], [1, 3, 4, np.inf])
    np.testing.assert_array_equal(merged, [[0, 1]])


@given(spans, st.sampled_from([3.0, 5.0, 10.0]))
def test_live_time_counts_good_time(made: list[tuple[int, int]], dt: float) -> None:
    intervals = union(*np.array(made, float).reshape(-1, 2).T)
    edges = np.arange(0, 61, dt)
    whole = edges[-1] > SECOND
    expected = np.bincount((SECOND[whole] // dt).astype(int), as_seconds(intervals)[whole], len(edges) - 1)
    np.testing.assert_allclose(np.diff(livetime_until(edges, CcdTime(intervals))), expected, atol=1e-9)


@given(
    rows=st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.3, 1.0, 2.6, 5.0, 40.0, 55.0, np.nan, np.inf])] * 3)),
    made=spans,
    ordered=st.booleans(),
    dt=st.sampled_from([0.7, 5.0, 60.0]),
)
def test_live_time_is_the_same_to_the_last_bit(
    rows: list[tuple[float, float, float]], made: list[tuple[int, int]], ordered: bool, dt: float
) -> None:
    time, timedel, fracexp = np.array(sorted(rows) if ordered else rows, float).reshape(-1, 3).T
    intervals = union(*np.array(made, float).reshape(-1, 2).T)
    edges = np.arange(-3, 62, dt)
    curves = [get_backend(name).events.cumulative_livetime(time, timedel, fracexp) for name in ("numpy", "numba")]
    assert (curves[0] is None) == (curves[1] is None)
    if curves[0] is not None:
        np.testing.assert_array_equal(*curves)
    until = [
        get_backend(name).events.livetime_until(edges, CcdTime(intervals, curves[0])) for name in ("numpy", "numba")
    ]
    np.testing.assert_array_equal(*until)
    for name in ("numpy", "numba"):  # whatever other times are asked for
        few = get_backend(name).events.livetime_until(edges[::3], CcdTime(intervals, curves[0]))
        np.testing.assert_array_equal(few, until[0][::3])


def test_live_time_by_hand() -> None:
    # read-out frames of 2.6 s, the third one missing, the fourth half alive; good from 1 s on
    frames = cumulative_livetime([1.3, 3.9, 9.1], [2.6, 2.6, 2.6], [1.0, 1.0, 0.5])
    good = CcdTime(np.array([[1.0, 100.0]]), frames)
    live = np.diff(livetime_until(np.array([0.0, 5.0, 10.0, 15.0]), good))
    np.testing.assert_allclose(live, [4.0, 0.2 + 0.5 * 2.2, 0.5 * 0.4])


def test_good_time_that_ends_an_ulp_before_the_last_frame() -> None:
    t0 = 700_000_000.2
    edges = t0 + np.arange(11) * 5.0
    live = np.diff(livetime_until(edges, CcdTime(np.array([[t0, np.nextafter(edges[-1], 0)]]))))
    np.testing.assert_allclose(live, 5.0, rtol=1e-6)


def test_nested_read_out_frames() -> None:
    frames = cumulative_livetime([1000.0, 12.5], [2000.0, 5.0], [1.0, 1.0])
    assert frames is not None
    live = np.diff(livetime_until(np.array([0.0, 2000.0]), CcdTime(np.array([[0.0, 2000.0]]), frames)))
    assert float(live[0]) == pytest.approx(2000.0)
    assert cumulative_livetime([np.nan], [1.0], [1.0]) is None


def test_overlapping_read_out_frames_count_once() -> None:
    frames = cumulative_livetime([1.0, 2.9999, np.nan, 5.0], [2.0, 2.0002, 2.0, 2.0], [1.0, 1.0, 1.0, 7.0])
    assert frames is not None
    assert frames.shape == (2, 6)
    live = np.diff(livetime_until(np.array([0.0, 6.0]), CcdTime(np.array([[0.0, 6.0]]), frames)))
    assert float(live[0]) == pytest.approx(6.0)
