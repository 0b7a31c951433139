from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.lists import binned
from numpy.typing import NDArray

from xscan.backends import Backend, get_backend
from xscan.config import Rules
from xscan.events.gti import cumulative_livetime, union
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CAMERAS, CcdTime, EventList, Frames, InputFile, Photons
from xscan.search.frames import bad_intervals, judge_frames, live_time
from xscan.search.subsets import Subset
from xscan.sky import TangentPlane

OURS = Rules()
LEGACY = Rules(**dict.fromkeys(Rules.__dataclass_fields__, False))
T0 = 1000.0


def events(
    camera: str,
    time: NDArray[np.float64],
    ccd: NDArray[np.integer] | int = 1,
    pi: int = 1000,
    good: dict[int, CcdTime] | None = None,
    rng: np.random.Generator | None = None,
) -> EventList:
    n = time.size
    x, y = (rng or np.random.default_rng(1)).integers(20_000, 30_000, (2, n)).astype(np.uint16)
    ccds = np.broadcast_to(np.asarray(ccd, np.uint8), n)
    info = InputFile(camera, 1, camera=camera, exposure="S1")
    energy = np.full(n, pi, np.uint16)
    span = (float(time.min()), float(time.max()))
    pixel = np.zeros(n, np.uint32)
    return EventList(info, TangentPlane(1, 1), 850, 0.0, time, x, y, energy, ccds, pixel, span, good or {}, EPIC)


def subset(lists: list[EventList], seconds: float) -> Subset:
    return Subset(0, tuple(lists), T0, T0 + seconds)


def photons(lists: list[EventList]) -> Photons:
    tick = np.concatenate([np.floor((e.time - T0) * 1000).astype(np.int32) for e in lists])
    camera = np.repeat([CAMERAS.index(e.camera) for e in lists], [e.time.size for e in lists])
    place = np.arange(tick.size) * 37 % 100  # all over the field
    return binned(tick, 20 + place, 20 + place * 7 % 100, np.concatenate([e.pi for e in lists]), camera)


def quiet(backend: Backend, lists: list[EventList], seconds: float) -> dict[tuple[int, int], np.ndarray]:
    found = backend.events.silences(lists, T0, T0 + seconds)
    return {(i, ccd): one.intervals for i, ccds in enumerate(found) for ccd, one in ccds.items() if len(one.intervals)}


def judge(lists: list[EventList], seconds: float, dt: float, rules: Rules) -> Frames:
    made = subset(lists, seconds)
    grid = Grid(T0, round(dt * 1000), int(seconds / dt), 129, Box(0, 1, 0, 1), EPIC.sky)
    backend = get_backend("auto").events
    live = live_time(made, backend) if rules.live_time_rejection else ()
    ((frames, _),) = judge_frames(made, bad_intervals(made, photons(lists), backend), live, [grid], rules, backend)
    return frames


def hard_curve(counts: list[int]) -> EventList:
    """10-12 keV counts in bins of 100 s."""
    time = np.concatenate([T0 + 100 * k + np.linspace(1, 99, n) for k, n in enumerate(counts)])
    return events("m1", time, pi=11_000)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_bad_bins_of_100_s(backend: str) -> None:
    lists = [hard_curve([10, 51, 50, 200, 3])]
    found = bad_intervals(subset(lists, 550), photons(lists), get_backend(backend).events)
    assert found.edges_ms.tolist() == [0, 100_000, 200_000, 300_000, 400_000, 550_000]
    assert found.bad.tolist() == [False, True, False, True, False]  # more than 0.5 ct/s per list


def test_a_frame_is_bad_where_it_overlaps_a_bad_bin() -> None:
    lists = [hard_curve([10, 51, 50, 200, 3])]
    bad_bin = np.array([False, True, False, True, False])
    for dt in (5.0, 50.0, 30.0, 70.0, 200.0):
        frames = judge(lists, 500, dt, replace(OURS, live_time_rejection=False))
        for k, bad in enumerate(frames.bad):
            first, last = k * dt, (k + 1) * dt
            assert bad == any(bad_bin[b] and first < 100 * (b + 1) and last > 100 * b for b in range(5)), (dt, k)


def test_exod2s_bad_frames_begin_and_end_a_bin_early() -> None:
    frames = judge([hard_curve([0, 0, 60, 60, 0, 0])], 600, 50, LEGACY)
    # bins of 50 s; bad are 4..7: from edge 3 to edge 7, less one frame
    assert np.flatnonzero(frames.bad).tolist() == [3, 4, 5]


def test_exod2_at_the_ends_of_the_curve() -> None:
    assert np.flatnonzero(judge([hard_curve([60, 0, 0, 0])], 400, 50, LEGACY).bad).tolist() == []
    assert judge([hard_curve([60, 60])], 200, 50, LEGACY).bad.tolist() == [True, True, False, False]


def test_exod2s_rejection_of_pn_quadrants() -> None:
    ccd = np.tile(np.arange(1, 13), 40)
    time = T0 + np.repeat(np.arange(10) * 5.0, 48) + 1
    silent = (time >= T0 + 20) & (time < T0 + 25) & (ccd <= 3)
    frames = judge([events("pn", time[~silent], ccd[~silent])], 50, 5, LEGACY)
    assert np.flatnonzero(frames.rejected).tolist() == [4, 5]  # and the frame after
    last = (time >= T0 + 45) & (ccd >= 10)
    frames = judge([events("pn", time[~last], ccd[~last])], 50, 5, LEGACY)
    assert np.flatnonzero(frames.rejected).tolist() == [0, 9]  # the frame after the last is the first


def test_exod2_rejects_empty_mos_frames() -> None:
    time = T0 + np.array([1.0, 6.0, 16.0])
    assert judge([events("m1", time)], 20, 5, LEGACY).rejected.tolist() == [False, False, True, False]


def test_frames_with_little_live_time_in_a_ccd_are_rejected() -> None:
    time = T0 + np.linspace(0, 99.9, 400)
    ccd = np.tile([1, 2], 200)
    good = {1: CcdTime(np.array([[T0, T0 + 100]])), 2: CcdTime(np.array([[T0, T0 + 52.6], [T0 + 61, T0 + 100]]))}
    frames = judge([events("m1", time, ccd, good=good)], 100, 5, OURS)
    # CCD 2 is dead from 52.6 to 61: frame 10 is half alive (2.6 s), frame 12 has 4 s
    assert np.flatnonzero(frames.rejected).tolist() == [11]
    np.testing.assert_allclose(frames.live[[9, 10, 11, 12]], [1, (5 + 2.6) / 10, 0.5, (5 + 4) / 10])


def test_a_frame_in_which_all_ccds_are_live_for_the_same_part_is_searched() -> None:
    """Good time of a list that somebody filtered is chopped: 8 %, 12 % and 45 % of a frame are left of 200 s."""
    time = T0 + np.linspace(0, 799.9, 3200)
    good = CcdTime(np.array([[T0, T0 + 16], [T0 + 200, T0 + 224], [T0 + 400, T0 + 490], [T0 + 600, T0 + 800]]))
    less = CcdTime(np.array([[T0, T0 + 16], [T0 + 200, T0 + 224], [T0 + 400, T0 + 444], [T0 + 600, T0 + 701]]))
    frames = judge([events("m1", time, np.tile([1, 2], 1600), good={1: good, 2: good})], 800, 200, OURS)
    assert frames.rejected.tolist() == [True, False, False, False]
    np.testing.assert_allclose(frames.live[1:], [0.12, 0.45, 1])
    frames = judge([events("m1", time, np.tile([1, 2], 1600), good={1: good, 2: less})], 800, 200, OURS)
    assert frames.rejected.tolist() == [True, False, True, False]  # 44 s are less than half of 90, 101 not of 200


def test_a_broken_ccd_does_not_cost_the_others() -> None:
    time = T0 + np.linspace(0, 99.9, 400)
    good = {1: CcdTime(np.array([[T0, T0 + 100]])), 2: CcdTime(np.array([[T0, T0 + 10]]))}
    ccd = np.where(time < T0 + 10, np.tile([1, 2], 200), 1)
    made = subset([events("m1", time, ccd, good=good)], 100)
    assert [list(ccds) for ccds in live_time(made, get_backend("auto").events)] == [[1]]
    assert not judge(list(made.lists), 100, 5, OURS).rejected.any()


@pytest.mark.parametrize(("live_s", "works"), [(49.99, False), (50.0, True)])
def test_a_ccd_works_if_it_was_live_for_half_as_long_as_the_best(live_s: float, works: bool) -> None:
    time = T0 + np.linspace(0, 99.9, 400)
    good = {1: CcdTime(np.array([[T0, T0 + 100]])), 2: CcdTime(np.array([[T0, T0 + live_s]]))}
    ccd = np.where(time < T0 + live_s, np.tile([1, 2], 200), 1)
    made = subset([events("m1", time, ccd, good=good)], 100)
    (live,) = live_time(made, get_backend("auto").events)
    assert list(live) == [1, 2][: 1 + works]
    assert live[1].usual_fraction == 1


@pytest.mark.parametrize(("live_ms", "works"), [(0.9, False), (1.1, True)])
def test_a_ccd_that_was_live_for_less_than_a_millisecond_was_not(live_ms: float, works: bool) -> None:
    time = T0 + np.linspace(0, live_ms / 1000, 10)
    lists = [events("m1", time, good={1: CcdTime(np.array([[T0, T0 + live_ms / 1000]]))})]
    (live,) = live_time(subset(lists, 100), get_backend("auto").events)
    assert list(live) == ([1] if works else [])


@pytest.mark.parametrize(("live_s", "rejected"), [(19.9, True), (20.1, False)])
def test_a_frame_is_searched_if_a_ccd_was_live_for_a_tenth_of_it(live_s: float, rejected: bool) -> None:
    time = T0 + np.linspace(0, 399.9, 800)  # whatever its good time says: no silence
    good = CcdTime(np.array([[T0, T0 + live_s], [T0 + 200, T0 + 400]]))
    assert judge([events("m1", time, good={1: good})], 400, 200, OURS).rejected.tolist() == [rejected, False]


@pytest.mark.parametrize(("least", "rejected"), [(99.0, True), (100.5, False)])
def test_a_frame_is_rejected_if_a_ccd_was_live_for_less_than_half_of_the_best(least: float, rejected: bool) -> None:
    time = T0 + np.linspace(0, 399.9, 800)
    good = {
        1: CcdTime(np.array([[T0, T0 + 400]])),
        2: CcdTime(np.array([[T0, T0 + least], [T0 + 200, T0 + 400]])),
    }
    frames = judge([events("m1", time, np.tile([1, 2], 400), good=good)], 400, 200, OURS)
    assert frames.rejected.tolist() == [rejected, False]


def test_good_time_may_be_a_small_part_of_the_range() -> None:
    """A list that somebody filtered: 30 s of 100 in two pieces. The gap is rejected, the pieces are searched."""
    time = T0 + np.concatenate([np.linspace(0, 14.9, 200), np.linspace(85, 99.9, 200)])
    pieces = np.array([[T0, T0 + 15], [T0 + 85, T0 + 100]])
    good = {ccd: CcdTime(pieces) for ccd in (1, 2)}
    frames = judge([events("m1", time, np.tile([1, 2], 200), good=good)], 100, 5, OURS)
    assert np.flatnonzero(~frames.rejected).tolist() == [0, 1, 2, 17, 18, 19]


def test_cameras_weigh_by_their_counts() -> None:
    good = {1: CcdTime(np.array([[T0, T0 + 60], [T0 + 70, T0 + 100]]))}
    lists = [
        events("pn", T0 + np.concatenate([np.linspace(0, 59.9, 200), np.linspace(70, 99.9, 100)]), good=good),
        events("m1", T0 + np.linspace(0, 99.9, 100)),
    ]
    frames = judge(lists, 100, 20, OURS)
    assert frames.live[3] == pytest.approx(0.75 * 0.5 + 0.25)


def test_silences_of_one_ccd(backend: Backend, rng: np.random.Generator) -> None:
    """A CCD drops out unannounced; an eclipse of a bright source on another is none of its trouble."""
    seconds = 3000
    time = np.sort(T0 + rng.uniform(0, seconds, 12_000))
    ccd = rng.integers(1, 8, time.size)
    silent = (ccd == 3) & (time > T0 + 1000) & (time < T0 + 1200)
    fake = events("m1", time[~silent], ccd[~silent], rng=rng)
    found = quiet(backend, [fake], seconds)
    assert list(found) == [(0, 3)]
    start, stop = found[0, 3][0] - T0
    # the silence reaches to the events before and after it
    assert 990 <= start <= 1001
    assert 1199 <= stop <= 1210
    frames = judge([fake], seconds, 50, OURS)
    assert set(np.flatnonzero(frames.rejected)) == {20, 21, 22, 23}


@pytest.mark.parametrize("start", [0, 100, 283])
@pytest.mark.parametrize(("length", "found"), [(16, False), (17, True)])
def test_a_silence_by_hand(backend: Backend, start: int, length: int, found: bool) -> None:
    """One event a second and CCD, each in a cell of its own: 16 * (300 - 16) < 16 * 300 <= 17 * (300 - 17)."""
    second = np.arange(300)
    sent = (second < start) | (second >= start + length)
    time = T0 + 0.5 + np.concatenate([second, second[sent]])
    ccd = np.repeat([1, 2], [300, sent.sum()])
    cell = np.arange(time.size)
    fake = replace(
        events("m1", time, ccd),
        x=(402 * (cell % 100) + 200).astype(np.uint16),
        y=(402 * (cell // 100) + 200).astype(np.uint16),
    )
    silent = quiet(backend, [fake], 300)
    assert list(silent) == ([(0, 2)] if found else [])
    if found:
        np.testing.assert_array_equal(silent[0, 2], [[T0 + start, T0 + start + length]])


def test_no_silence_in_a_steady_sky_or_an_eclipse(backend: Backend, rng: np.random.Generator) -> None:
    seconds = 20_000
    time = np.sort(T0 + rng.uniform(0, seconds, 20_000))
    ccd = rng.integers(1, 8, time.size)
    fake = events("m1", time, ccd, rng=rng)
    assert quiet(backend, [fake], seconds) == {}
    # a source with most of CCD 2's counts, all in one place, eclipsed for 3 ks
    extra = np.sort(T0 + rng.uniform(0, seconds, 20_000))
    extra = extra[(extra < T0 + 9000) | (extra > T0 + 12_000)]
    both = np.concatenate([time, extra])
    order = np.argsort(both)
    merged = replace(
        events("m1", both[order], np.concatenate([ccd, np.full(extra.size, 2)])[order]),
        x=np.concatenate([fake.x, np.full(extra.size, 25_000)]).astype(np.uint16)[order],
        y=np.concatenate([fake.y, np.full(extra.size, 25_000)]).astype(np.uint16)[order],
    )
    assert quiet(backend, [merged], seconds) == {}


def test_a_silence_of_44_s_and_one_of_everything(backend: Backend, rng: np.random.Generator) -> None:
    """Undeclared gaps that make false eclipses of bright sources."""
    seconds = 2000
    time = np.sort(T0 + rng.uniform(0, seconds, 8000))
    ccd = rng.integers(1, 8, time.size)
    gone = (time > T0 + 500) & (time < T0 + 544)
    one = events("m1", time[~(gone & (ccd == 4))], ccd[~(gone & (ccd == 4))], rng=rng)
    assert list(quiet(backend, [one], seconds)) == [(0, 4)]
    every = events("m1", time[~gone], ccd[~gone], rng=rng)
    found = quiet(backend, [every], seconds)
    assert sorted(found) == [(0, k) for k in range(1, 8)]
    assert all(spans[0][0] <= T0 + 501 and spans[0][1] >= T0 + 543 for spans in found.values())


def test_a_camera_with_much_dead_time_is_not_rejected() -> None:
    """Live for 45 % of each read-out frame: that is usual for it, not a drop-out."""
    time = T0 + np.linspace(0, 99.9, 400)
    frames = cumulative_livetime(np.arange(T0 + 1.25, T0 + 100, 2.5), np.full(40, 2.5), np.full(40, 0.45))
    good = {1: CcdTime(np.array([[T0, T0 + 100]]), frames)}
    judged = judge([events("m1", time, good=good)], 100, 5, OURS)
    assert not judged.rejected.any()
    np.testing.assert_allclose(judged.live, 0.45)


def test_a_lone_ccd_and_too_short_a_range(backend: Backend, rng: np.random.Generator) -> None:
    lone = events("m1", np.sort(T0 + rng.uniform(0, 100, 500)))
    assert quiet(backend, [lone], 100) == {}
    assert quiet(backend, [lone], 5) == {}


def test_frames_of_all_lengths_at_once_are_those_of_each_alone(rng: np.random.Generator) -> None:
    """Also where a view has one frame, and where lengths have no edge in common."""
    time = T0 + np.sort(rng.uniform(0, 400, 4000))
    good = {
        ccd: CcdTime(np.array([[T0 + start, T0 + start + 90] for start in np.sort(rng.uniform(0, 300, 4)).round(-2)]))
        for ccd in range(1, 13)
    }
    good = {ccd: CcdTime(union(*one.gti.T)) for ccd, one in good.items()}
    made = subset([events("pn", time, rng.integers(1, 13, 4000), good=good)], 400)
    loops = get_backend("auto").events
    live, high = live_time(made, loops), bad_intervals(made, photons(list(made.lists)), loops)
    grids = [
        Grid(T0, dt_ms, 400_000 // dt_ms, 129, Box(0, 1, 0, 1), EPIC.sky) for dt_ms in (5000, 7300, 50_000, 400_000)
    ]
    together = judge_frames(made, high, live, grids, OURS, loops)
    for grid, (frames, seconds) in zip(grids, together, strict=True):
        ((alone, its_seconds),) = judge_frames(made, high, live, [grid], OURS, loops)
        for name in Frames.__slots__:
            np.testing.assert_array_equal(getattr(frames, name), getattr(alone, name))
        per_ccd = [np.diff(loops.livetime_until(grid.frame_edges(), ccd.good)) for ccd in live[0].values()]
        np.testing.assert_array_equal(seconds["pn"], np.mean(per_ccd, axis=0))
        np.testing.assert_array_equal(seconds["pn"], its_seconds["pn"])
