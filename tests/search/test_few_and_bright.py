"""Skies at the ends of the range: hardly a count, no good frame, bursts that outshine everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.lists import CENTRE, OBSID, T0, FakeList, round_time, write_list

import xscan

COLUMNS = ("time", "x", "y", "pi", "ccd")


def field(
    n: int, seconds: float, seed: int = 1, pi: tuple[int, int] = (300, 9000), start: float = 0.0, camera: str = "m1"
) -> FakeList:
    """Background over a disk of 800 arcsec, CCD 1 in its middle and six around it; steady, mostly soft."""
    rng = np.random.default_rng(seed)
    r, angle = 800 * np.sqrt(rng.random(n)), 2 * np.pi * rng.random(n)
    return FakeList(
        camera=camera,
        time=T0 + start + round_time(rng.uniform(0, seconds - 1 / 512, n)),
        x=(CENTRE + r * np.cos(angle) / 0.05).astype(int),
        y=(CENTRE + r * np.sin(angle) / 0.05).astype(int),
        pi=(pi[0] + (pi[1] - pi[0]) * rng.random(n) ** 2).astype(int),
        ccd=np.where(r < 320, 1, 2 + (angle / (2 * np.pi / 6)).astype(int)),
    )


def source(
    n: int,
    start: float,
    seconds: float,
    seed: int = 2,
    at: tuple[int, int] = (24_000, 25_000),
    pi: tuple[int, int] = (500, 4000),
) -> FakeList:
    """Photons of a point source with a King profile of 5 arcsec core, on CCD 1."""
    rng = np.random.default_rng(seed)
    r, angle = np.minimum(5 * np.sqrt((1 - rng.random(n)) ** -2 - 1), 300), 2 * np.pi * rng.random(n)
    return FakeList(
        time=T0 + start + round_time(rng.uniform(0, seconds - 1 / 512, n)),
        x=(at[0] + r * np.cos(angle) / 0.05).astype(int),
        y=(at[1] + r * np.sin(angle) / 0.05).astype(int),
        pi=rng.integers(*pi, n),
        ccd=np.ones(n, int),
    )


def high_background(n: int, start: float, seed: int) -> FakeList:
    """A hundred seconds of high background above 10 keV."""
    return field(n, 100, seed, (10_100, 11_900), start)


def together(seconds: float, *parts: FakeList) -> FakeList:
    columns = {name: np.concatenate([np.asarray(getattr(p, name)) for p in parts]) for name in COLUMNS}
    return FakeList(**columns, gti={ccd: [(T0, T0 + seconds)] for ccd in range(1, 8)})


def scan(folder: Path, *lists: FakeList, views: Sequence[str] = ()) -> xscan.Tables:
    for fake in lists:
        write_list(folder / OBSID, fake)
    return xscan.scan(folder / OBSID, profile="views", views=views)


def strongest(tables: xscan.Tables) -> dict[float, float]:
    """The smallest log10 p of each frame length."""
    found: dict[float, float] = {}
    for row in tables.regions.to_pylist():
        found[row["dt_s"]] = min(found.get(row["dt_s"], 0.0), row["log10_p_min"])
    return found


@pytest.mark.parametrize("bad", [(2, 3, 7), (), tuple(range(10))])
def test_a_steady_source_in_a_short_list_is_no_transient(tmp_path: Path, bad: tuple[int, ...]) -> None:
    """One cell in eight is occupied: the 75th percentile is 0. p was 1e-40 with three bad bins of ten."""
    parts = [field(900, 1000, pi=(300, 1900)), source(300, 0, 1000)]
    parts += [high_background(110, 100 * i, 20 + i) for i in bad]
    parts += [field(400, 100, 40 + i, start=100 * i) for i in bad]
    tables = scan(tmp_path, together(1000, *parts))
    assert tables.regions.to_pylist() == []
    assert {run["state"] for run in tables.runs.to_pylist()} == {"done"}


def test_a_steady_source_in_bad_time_alone_is_no_transient(tmp_path: Path) -> None:
    """Nothing was masked without a good frame, and the source was spread over its neighbours."""
    parts = [field(60_000, 2000), source(2400, 0, 2000), *(high_background(120, 100 * i, 20 + i) for i in range(20))]
    tables = scan(tmp_path, together(2000, *parts))
    assert tables.regions.to_pylist() == []
    assert all(run["n_frames_bad"] == run["n_frames"] for run in tables.runs.to_pylist())
    assert all(1 <= run["n_cells_masked"] <= 12 for run in tables.runs.to_pylist())


@pytest.mark.parametrize(("n", "seconds"), [(0, 300), (1, 300), (20, 300), (120, 1000), (120, 20_000)])
def test_a_view_with_hardly_a_count_is_searched(tmp_path: Path, n: int, seconds: float) -> None:
    steady = [source(n, 0, seconds)] if n else []
    tables = scan(tmp_path, together(seconds, field(100 + n, seconds, pi=(300, 1900)), *steady))
    for run in tables.runs.to_pylist():
        assert run["state"] == ("done" if run["n_events"] else "empty"), run["message"]
    assert tables.regions.to_pylist() == []


@pytest.mark.parametrize(("start", "place"), [(5000, 0), (5000, 5), *((15_400, place) for place in range(0, 10, 2))])
def test_a_burst_in_a_short_bad_time_is_found_as_in_good_time(tmp_path: Path, start: float, place: int) -> None:
    """A template of 1 ks of 20 was made of the burst it was held against: 40 counts were lost in half of the places."""
    burst = source(30, start, 200, seed=100 + place, at=(21_000 + 1000 * place, 30_000 - 700 * place))
    bad = [high_background(130, 100 * i, 20 + i) for i in range(150, 160)]
    tables = scan(tmp_path, together(20_000, field(40_000, 20_000), burst, *bad))
    assert tables.regions.num_rows > 0


@pytest.mark.parametrize("view", ["5:0.2-12", "200:0.2-12"])
def test_the_brighter_a_burst_the_surer_it_is(tmp_path: Path, view: str) -> None:
    """Its wings made quiet CCDs look dead, so that its own frames were rejected: from 400 counts on it was lost."""
    last = 0.0
    sky = field(15_000, 10_000)
    whole = source(3000, 5001, 2)
    for n in (20, 80, 200, 400, 800, 1600, 2700, 3000):
        tables = scan(tmp_path / str(n), together(10_000, sky, whole.take(np.arange(n))), views=[view])
        (run,) = tables.runs.to_pylist()
        assert run["n_frames_rejected"] == 0
        (p,) = strongest(tables).values()
        assert p < last, n
        last = p
        assert {row["kind"] for row in tables.regions.to_pylist()} == {"peak"}, n  # no eclipse of all other time
    assert last < -1000


def test_a_hard_burst_makes_no_bad_time_and_a_flare_of_the_background_does(tmp_path: Path) -> None:
    sky = field(15_000, 10_000)
    hard = source(300, 5001, 2, pi=(10_001, 11_999))
    (run,) = scan(tmp_path / "a", together(10_000, sky, hard), views=["50:0.2-12"]).runs.to_pylist()
    assert run["n_frames_bad"] == 0
    both = together(10_000, sky, hard, high_background(100, 5000, 7))
    (run,) = scan(tmp_path / "b", both, views=["50:0.2-12"]).runs.to_pylist()
    assert run["n_frames_bad"] == 2
    steady = source(6000, 0, 10_000, pi=(10_001, 11_999))  # 60 counts in each bin, always
    (run,) = scan(tmp_path / "c", together(10_000, sky, steady), views=["50:0.2-12"]).runs.to_pylist()
    assert run["n_frames_bad"] == 0


def silent(fake: FakeList, ccds: Sequence[int], start: float, stop: float) -> FakeList:
    time, ccd = np.asarray(fake.time) - T0, np.asarray(fake.ccd)
    return fake.take(np.flatnonzero(~(np.isin(ccd, ccds) & (time >= start) & (time < stop))))


def rejected_s(folder: Path, *lists: FakeList) -> float:
    (run,) = scan(folder, *lists, views=["5:0.2-12"]).runs.to_pylist()
    return 5.0 * run["n_frames_rejected"]


def test_a_ccd_that_is_really_silent_is_noticed_beside_a_burst(tmp_path: Path) -> None:
    """Also one that has only one other beside it, and a whole camera of two."""
    sky = field(30_000, 10_000)
    gone = silent(together(10_000, sky, source(800, 5001, 2)), [5], 4900, 5200)
    assert 280 <= rejected_s(tmp_path / "one", gone) <= 330
    two = sky.take(np.flatnonzero(np.isin(sky.ccd, [1, 5])))
    pair = replace(silent(two, [5], 4900, 5200), gti={ccd: [(T0, T0 + 10_000)] for ccd in (1, 5)})
    assert 280 <= rejected_s(tmp_path / "two", pair) <= 340
    other = replace(together(10_000, field(30_000, 10_000, seed=9)), camera="m2")
    camera = silent(together(10_000, sky), range(1, 8), 4900, 5200)
    assert 280 <= rejected_s(tmp_path / "camera", camera, other) <= 330


def test_a_burst_on_the_only_other_ccd_silences_nothing(tmp_path: Path) -> None:
    sky = field(30_000, 10_000)
    two = sky.take(np.flatnonzero(np.isin(sky.ccd, [1, 5])))
    fake = together(10_000, two, source(2700, 5001, 2))
    assert rejected_s(tmp_path, replace(fake, gti={ccd: [(T0, T0 + 10_000)] for ccd in (1, 5)})) == 0


def test_a_burst_in_one_camera_does_not_weigh_its_live_time(tmp_path: Path) -> None:
    """The live fraction of a frame in which one camera was dead for a while is that of the quiet sky."""
    gap = {ccd: [(T0, T0 + 6000), (T0 + 6020, T0 + 10_000)] for ccd in range(1, 8)}
    expected = []
    for n in (1, 3000):
        one = replace(together(10_000, field(15_000, 10_000), source(n, 5001, 2)), gti=gap)
        one = one.take(np.flatnonzero(~((np.asarray(one.time) > T0 + 6000) & (np.asarray(one.time) < T0 + 6020))))
        other = replace(
            together(10_000, field(15_000, 10_000, seed=8), source(30_000, 0, 10_000, seed=5, at=(27_000, 27_000))),
            camera="m2",
        )
        tables = scan(tmp_path / str(n), one, other, views=["50:0.2-12"])
        expected.append([run["rejected_s_m1"] for run in tables.runs.to_pylist()])
        assert {row["kind"] for row in tables.regions.to_pylist()} <= {"peak"}
    assert expected[0] == expected[1]
