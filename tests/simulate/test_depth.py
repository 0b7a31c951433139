"""What counts as found and as false, how regions become events, and the figures of scripts/depth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from xscan.simulate.depth import false_alarms, fit_curve, match, merge_regions, two_sided_p

ROOT = Path(__file__).resolve().parents[2]
PLANTED = {"obsid": "1", "kind": "flare", "ra_deg": 150.0, "dec_deg": 2.0, "t_start_s": 1000.0, "t_stop_s": 2000.0}


def row(
    north_arcsec: float = 0.0, start_s: float = 1000.0, stop_s: float = 1100.0, **columns: object
) -> dict[str, Any]:
    return {
        "obsid": "1", "event_id": "1_0", "kind": "peak", "ra_deg": 150.0, "dec_deg": 2.0 + north_arcsec / 3600,
        "t_start_s": start_s, "t_stop_s": stop_s,
    } | columns  # fmt: skip


def region(number: int, *args: float, **columns: object) -> dict[str, Any]:
    more = {"det_id": str(number), "log10_p_min": -10.0 - number, "pos_err_arcsec": 1.0 + number}
    return row(*args) | more | {"n_pn": number, "n_m1": 2, "n_m2": 1} | columns


@pytest.mark.parametrize(
    ("north_arcsec", "found", "false"), [(29.0, 1, 0), (31.0, 0, 0), (59.0, 0, 0), (61.0, 0, 1), (-29.0, 1, 0)]
)
def test_found_within_30_arcsec_false_beyond_60(north_arcsec: float, found: int, false: int) -> None:
    done = match([PLANTED], [row(north_arcsec)])
    assert len(done.planted[0]["found"]) == found
    assert len(done.false) == false


@pytest.mark.parametrize(
    ("start_s", "stop_s", "found"), [(900.0, 1000.0, 0), (900.0, 1001.0, 1), (1999.0, 2100.0, 1), (2000.0, 2100.0, 0)]
)
def test_times_must_overlap_to_be_found_but_not_to_be_true(start_s: float, stop_s: float, found: int) -> None:
    done = match([PLANTED], [row(0.0, start_s, stop_s)])
    assert len(done.planted[0]["found"]) == found
    assert done.false == []


@pytest.mark.parametrize(
    ("planted", "kind", "found"),
    [
        ("flare", "eclipse", 0),
        ("burst", "peak", 1),
        ("eclipse", "peak", 0),
        ("eclipse", "eclipse", 1),
        ("eclipse", "both", 1),
        ("burst", "both", 1),
    ],
)
def test_kinds_must_agree(planted: str, kind: str, found: int) -> None:
    done = match([PLANTED | {"kind": planted}], [row(kind=kind)])
    assert len(done.planted[0]["found"]) == found


def test_another_observation_is_not_this_one() -> None:
    done = match([PLANTED], [row(obsid="2")])
    assert done.planted[0]["found"] == []
    assert done.planted[0]["offset_arcsec"] is None
    assert [event["obsid"] for event in done.false] == ["2"]
    assert match([], [row()]).false == [row()]


def test_the_nearest_event_gives_the_offset() -> None:
    done = match([PLANTED], [row(20.0), row(-8.0), row(200.0, event_id="far")])
    assert done.planted[0]["offset_arcsec"] == pytest.approx(8.0)
    assert len(done.planted[0]["found"]) == 2
    assert [event["event_id"] for event in done.false] == ["far"]


@pytest.mark.parametrize(
    ("other", "n_events"),
    [
        (region(1, 44.0), 1),
        (region(1, 46.0), 2),
        (region(1, 0.0, 1299.0, 1400.0), 1),
        (region(1, 0.0, 1301.0, 1400.0), 2),
        (region(1, 0.0, 500.0, 799.0), 2),
        (region(1, kind="eclipse"), 2),
        (region(1, kind="both"), 1),
        (region(1, obsid="2"), 2),
    ],
)
def test_regions_of_one_event(other: dict[str, Any], n_events: int) -> None:
    for pair in ([region(0), other], [other, region(0)]):
        assert len(merge_regions(pair)) == n_events


def test_a_chain_of_regions_is_one_event_like_its_strongest() -> None:
    chain = [region(0), region(2, 80.0, 1100.0, 1500.0), region(1, 40.0, 1050.0, 1200.0)]
    (event,) = merge_regions(chain)
    assert event["event_id"] == "2"
    assert (event["t_start_s"], event["t_stop_s"]) == (1000.0, 1500.0)
    assert event["dec_deg"] == chain[1]["dec_deg"]
    assert event["counts"] == 5
    assert event["n_false"] is None
    assert merge_regions([]) == []


def test_two_sided_poisson() -> None:
    assert two_sided_p(10, 10.0) == 1.0
    assert two_sided_p(0, 10.0) == pytest.approx(2 * np.exp(-10.0))
    assert two_sided_p(25, 10.0) == pytest.approx(2 * stats.poisson.sf(24, 10.0))


def test_false_alarms_are_those_at_least_as_rare() -> None:
    few, many = false_alarms([0.01, 0.1, 0.5, 3.0], 20, [0.1, 3.0])
    assert (few.rate, few.expected, few.seen) == (0.1, pytest.approx(2.0), 2)
    assert (many.expected, many.seen) == (60.0, 4)
    assert few.p == 1.0
    assert many.p < 1e-6


def test_the_curve_that_was_drawn_is_fitted() -> None:
    rng = np.random.default_rng(4)
    pulls = []
    for _ in range(60):
        counts = np.exp(rng.uniform(np.log(2), np.log(60), 150))
        found = rng.random(150) < 1 / (1 + np.exp(-(np.log(counts) - np.log(11)) / 0.25))
        curve = fit_curve(counts, found)
        pulls.append((curve.log_half - np.log(11)) / curve.log_half_error)
    assert abs(np.mean(pulls)) < 0.5
    assert 0.75 < np.std(pulls) < 1.3
    assert curve.counts(0.9) == pytest.approx(11 * 9**0.25, rel=0.4)


def test_curves_without_an_answer() -> None:
    assert np.isnan(fit_curve([3.0, 5.0], [True, True]).log_half)
    assert np.isnan(fit_curve([], []).counts(0.5))
    parted = fit_curve([2.0, 3, 4, 5, 10, 12, 14, 20], [False] * 4 + [True] * 4)  # no overlap: a step
    assert 5 < parted.counts(0.5) < 10
    assert np.isnan(fit_curve([2.0, 3, 10, 12], [True, True, False, False]).log_half)  # the brighter the worse


def told(what: str, *options: str) -> list[str]:
    command = [sys.executable, ROOT / "benchmarks" / "depth.py", what, "--seed", "3", "--jobs", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_depth_recovery_runs_and_keeps_its_skies(tmp_path: Path) -> None:
    options = ("--n", "2", "--exposure", "2000", "--profile", "exod2", "--keep", str(tmp_path))
    lines = told("recovery", *options)
    cells = [cell.strip() for cell in lines[-1].split("|")[1:-1]]
    assert cells[0] == "exod2"
    assert cells[1].endswith("of 3")
    assert [cell.split(" of ")[1] for cell in cells[4:7]] == ["2", "2", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A-1-3-2000", "B-1-3-2000"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert told("recovery", *options) == lines
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_depth_quiet_runs(tmp_path: Path) -> None:
    lines = told("quiet", "--n", "2", "--exposure", "2000", "--profile", "default", "--keep", str(tmp_path))
    classes = [line.split("|")[2].strip() for line in lines if line.startswith("| default")]
    assert list(dict.fromkeys(classes)) == ["usual", "good", "bad", "short", "one", "all"]
    assert len(list(tmp_path.glob("*quiet*"))) == 8


def test_depth_calibrate_runs() -> None:
    lines = told("calibrate", "--n", "1", "--exposure", "2000", "--class", "usual")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert [row[:2] for row in cells[1:]] == [["usual", "1"], ["all", "1"]]


def test_depth_counts_runs() -> None:
    lines = told("counts", "--n", "1", "--exposure", "2000", "--profile", "default")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| default")]
    assert [row[1] for row in cells] == ["2", "5", "50", "200", "800", "2500", "false events"]
    assert all(row[2] == "12" for row in cells[:6])
