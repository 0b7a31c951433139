"""scripts/cuts, plants and agree, tried on a simulated observation: what they make of lists is what they say."""

from __future__ import annotations

import dataclasses
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers.stored import failed
from soak import agree, cuts, plants, reallists

import xscan
from xscan.model import pixel_number
from xscan.simulate import simulate_archive

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One quiet observation of 4 ks, its lists under names that are no pipeline product's."""
    archive = tmp_path_factory.mktemp("archive")
    simulate_archive(archive, 1, 11, 4000.0, quiet=True)
    (observation,) = archive.glob("0*/")
    for path in observation.glob("*MIEVLI*"):
        path.rename(observation / f"{path.name[11:13].lower()}_clean.fits.gz")
    return observation


def test_lists_are_known_by_their_headers(folder: Path) -> None:
    lists = reallists.read_lists(folder)
    assert [(one.obsid, one.camera, one.exposure) for one in lists] == [
        (folder.name, "M1", "S001"),
        (folder.name, "M2", "S002"),
    ]
    with pytest.raises(SystemExit, match="no event list of MOS"):
        reallists.read_lists(ROOT)


def test_a_whole_list_is_written_as_it_was(folder: Path, tmp_path: Path) -> None:
    for one in reallists.read_lists(folder):
        one.write(tmp_path)
        content = gzip.decompress((folder / f"{one.camera.lower()}_clean.fits.gz").read_bytes())
        assert (tmp_path / f"P{one.obsid}{one.camera}{one.exposure}MIEVLI0000.FIT").read_bytes() == content


def test_a_window_holds_what_a_filter_in_time_leaves(folder: Path, tmp_path: Path) -> None:
    one = reallists.read_lists(folder)[0]
    start = float(one.events["TIME"].min()) + 1000
    made = reallists.make_folder(tmp_path, [one], reallists.source_list(folder), (start, start + 1000))
    observation = xscan.read(made)
    assert observation.sources is not None
    (events,) = observation.lists
    assert start <= events.time.min() < events.time.max() < start + 1000
    whole = xscan.read(reallists.make_folder(tmp_path / "whole", [one], None)).lists[0]
    inside = (whole.time >= start) & (whole.time < start + 1000)
    assert 0 < events.time.size == np.count_nonzero(inside) < whole.time.size
    with fits.open(next(made.glob("*MIEVLI*"))) as cut, fits.open(folder / "m1_clean.fits.gz") as old:
        assert [hdu.name for hdu in cut] == [hdu.name for hdu in old]
        for new, was in zip(cut, old, strict=True):
            changed = {key for key in was.header if key and str(new.header[key]) != str(was.header[key])}
            assert changed <= {"NAXIS2"}
            if was.name.startswith("STDGTI"):
                assert new.data["START"].min() >= start
                assert new.data["STOP"].max() <= start + 1000
                assert was.data["STOP"].max() > start + 1000
            if was.name.startswith("BADPIX"):
                assert len(new.data) == len(was.data)


def test_windows_and_their_rest() -> None:
    windows = cuts.windows
    assert windows(100.0, 2400.0, 1000.0) == [(100.0, 1100.0), (1100.0, 2100.0)]
    assert windows(100.0, 2700.0, 1000.0)[2] == (2100.0, pytest.approx(2700.0, abs=0.01))
    assert windows(100.0, 700.0, 1000.0) == [(100.0, pytest.approx(700.0, abs=0.01))]
    assert windows(100.0, 500.0, 1000.0) == []
    assert windows(100.0, 2700.0, 1000.0, 0.5)[0] == (600.0, 1600.0)
    assert windows(100.0, 500.0, 1000.0, 0.5) == []


def region(**about: object) -> dict[str, object]:
    row = {
        "det_id": "a", "ra_deg": 150.0, "dec_deg": 2.0, "log10_p_min": -9.0, "kind": "peak", "dt_s": 5.0,
        "band_lo_kev": 0.2, "band_hi_kev": 12.0, "t_start_s": 100.0, "t_stop_s": 105.0, "pos_err_arcsec": 1.0,
        "window": (0.0, 1000.0),
    }  # fmt: skip
    return row | about


def test_places_are_regions_side_by_side() -> None:
    near, far = region(dec_deg=2.0 + 20 / 3600, log10_p_min=-20.0), region(dec_deg=2.1)
    later = region(window=(1000.0, 2000.0))
    assert cuts.places([region(), far, near]) == [[near, region()], [far]]
    assert len(cuts.places([region(), later])) == 2
    assert len(cuts.places([region(), later], apart=False)) == 1


def flare_of() -> object:
    return plants.Flare(101.0, 103.0, 0, 0, 150.0, 2.0, False, 1.0, None)


def test_what_is_the_flare_and_what_is_not() -> None:
    def judge(*regions: dict[str, object], before: tuple[dict[str, object], ...] = ()) -> dict[str, object]:
        return plants.judge(regions, flare_of(), before)

    found = judge(region(), region(dt_s=50.0, log10_p_min=-20.0))
    assert (found["found"], found["found_at_s"], found["strength"], found["others"]) == (True, [5.0, 50.0], 20.0, [])
    assert not judge(region(kind="eclipse"))["found"]
    assert not judge(region(dec_deg=2.0 + 40 / 3600))["found"]
    assert len(judge(region(t_start_s=500.0, t_stop_s=505.0))["others"]) == 1
    away = region(det_id="b", dec_deg=2.0 + 100 / 3600)
    assert len(judge(region(), away)["others"]) == 1
    assert len(judge(region(), away, before=(away,))["others"]) == 0
    assert len(judge(region(), away, before=(away | {"dt_s": 50.0},))["others"]) == 1
    tied = judge(region(), away | {"parent": "a"})
    assert (tied["tied"], tied["others"]) == (1, [])


def event(**about: object) -> dict[str, object]:
    row = {
        "event_id": "e", "ra_deg": 150.0, "dec_deg": 2.0, "kind": "peak", "llr": 30.0, "counts": 12.0,
        "t_start_s": 100.0, "t_stop_s": 104.0, "pos_err_arcsec": 1.0, "band_lo_kev": 0.2, "band_hi_kev": 12.0,
        "window": (0.0, 1000.0),
    }  # fmt: skip
    return row | about


def test_events_are_judged_as_regions_are() -> None:
    stronger, eclipse = event(llr=50.0), event(kind="eclipse")
    away = event(dec_deg=2.0 + 100 / 3600)
    found = plants.judge([event(), stronger, away], flare_of(), [])
    assert (found["found"], found["strength"], found["times"], found["others"][0]["llr"]) == (True, 50.0, 2, 30.0)
    assert not plants.judge([eclipse], flare_of(), [])["found"]
    assert plants.judge([away | {"band_hi_kev": 2.0}], flare_of(), [away])["others"] == []
    assert cuts.places([event(), stronger]) == [[stronger, event()]]


def test_offsets_that_are_no_rayleigh_distribution_are_told() -> None:
    offsets = np.sqrt(-2 * np.log(1 - (np.arange(100) + 0.5) / 100))
    rows = [{"counts": 20, "found": True, "offset_arcsec": r, "pos_err_arcsec": 1.0} for r in offsets.tolist()]
    wrong = [row | {"counts": 40, "pos_err_arcsec": 0.5} for row in rows] + [{"counts": 40, "found": False}]
    right, twice, _ = plants.places_found(rows + wrong)[3:]
    assert right.startswith("| 20 | 100 | ")
    assert right.endswith("| 1 |")
    assert twice.startswith("| 40 | 100 | ")
    assert float(twice.split("|")[6]) < 1e-9


def test_recovery_that_falls_is_told() -> None:
    rows = [
        {"observation": "1", "kind": "good", "duration_s": 2.0, "place": place, "counts": n, "found": found}
        for n, places in ((20, (True, False)), (40, (True, True)), (80, (False, True)))
        for place, found in enumerate(places)
    ]
    assert plants.falls(rows) == ["1, good time, 2 s: 2 with 40 counts, 1 with 80"]
    assert plants.falls(rows[:4]) == []


@pytest.mark.parametrize("duration_s", [2.0, 200.0])
def test_a_flare_lies_on_the_detector(folder: Path, duration_s: float) -> None:
    check_flare(folder, duration_s)


def test_a_flare_in_a_real_list(real_observation: Path) -> None:
    check_flare(real_observation, 20.0)


def check_flare(folder: Path, duration_s: float) -> None:
    field = plants.field_of(folder)
    start = float(plants.slots(field, "good", duration_s)[10])
    flare = plants.make_flare(field, start, duration_s, False, np.random.default_rng(3))
    photons = flare.photons
    assert photons.time.size == 2700
    assert photons.time.min() > start - 2.7
    assert photons.time.max() < start + duration_s + 2.7
    distance = np.hypot(photons.x - flare.x, photons.y - flare.y) * 0.05
    assert 5.0 < np.median(distance) < 12.0  # of the profile: 8.6, but for holes
    for i, (detector, real) in enumerate(zip(field.detectors, reallists.read_lists(folder), strict=True)):
        mine = photons[photons.camera == i]
        frames = {ccd: real.part(f"EXPOSU{ccd:02d}").rows for ccd in np.unique(mine.ccd).tolist()}
        bad = {ccd: real.part(f"BADPIX{ccd:02d}").rows for ccd in frames}
        for ccd, rows in frames.items():
            times = mine.time[mine.ccd == ccd]
            centre = rows["TIME"].astype(float)
            nearest = np.abs(times[:, None] - centre).argmin(axis=1)
            assert np.all(np.abs(times - centre[nearest]) <= rows["TIMEDEL"][nearest] / 2 + 1e-4)
            runs = [(row["RAWX"], row["RAWY"] + k) for row in bad[ccd] for k in range(row["YEXTENT"])]
            marked = pixel_number(ccd, *np.array(runs, int).reshape(-1, 2).T)
            assert not np.isin(mine.pixel[mine.ccd == ccd], marked).any()
        assert np.unique(mine.pixel).size > 0.4 * min(mine.time.size, 300)  # a profile, not one pixel
        # the events of the list itself, by the same road, come to their own pixels
        rows = real.events[real.events["X"] > 0][::50]
        for ccd in np.unique(rows["CCDNR"] % 10).tolist():
            some = rows[rows["CCDNR"] % 10 == ccd]
            raw = detector.planes[ccd] @ np.vstack([np.ones(len(some)), some["X"], some["Y"]])
            assert np.median(np.abs(raw - [some["RAWX"], some["RAWY"]])) < 1.0

    more, fewer = (plants.planted(field.observation, photons.first(n)) for n in (800, 400))
    added = [new.time.size - old.time.size for new, old in zip(more.lists, field.observation.lists, strict=True)]
    assert sum(added) == 800
    for new, old in zip(more.lists, fewer.lists, strict=True):
        assert np.array_equal(new.time[: old.time.size], old.time)  # the same ones and some more
        for column in dataclasses.fields(new):
            if isinstance(getattr(old, column.name), np.ndarray):
                assert getattr(new, column.name).dtype == getattr(old, column.name).dtype
                assert len(getattr(new, column.name)) == new.time.size


def test_time_that_is_not_there(folder: Path) -> None:
    field = plants.field_of(folder)
    assert plants.slots(field, "bad", 2000.0).size == 0
    assert plants.slots(field, "good", 10_000.0).size == 0


@pytest.mark.parametrize("profile", ["views", "default"])
def test_both_scripts_run(folder: Path, tmp_path: Path, profile: str) -> None:
    def run(name: str, *arguments: object) -> str:
        chosen = (*arguments, "--profile", profile, "--processes", "1")
        command = [sys.executable, "-m", f"soak.{name}", folder, *chosen]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT / "tests")
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 1)
        return done.stdout

    searches = {"views": 18, "default": 2}[profile]
    out = run("cuts", "--lengths", 2000, "--json", tmp_path / "cuts.json")
    assert f"| {folder.name} M1+M2 +sources | 2000 | 2 | {searches} |" in out
    assert "18 windows searched" in out
    assert len(json.loads((tmp_path / "cuts.json").read_text())) == 18
    chosen = ("--places", 1, "--counts", 40, 400, "--durations", 20, 2000, "--kinds", "good", "bad")
    out = run("plants", *chosen, "--core", 4, 9, "--json", tmp_path / "plants.json")
    assert f"| {folder.name} | good | 20 | 1 | 1 | 1 |" in out
    assert f"| {folder.name} | bad | 2000 | 0 | no such time |" in out
    rows = json.loads((tmp_path / "plants.json").read_text())
    assert [row["counts"] for row in rows if row["duration_s"] == 20.0] == [40, 400]
    assert all(4 < row["core_arcsec"] < 9 for row in rows)
    assert f"| all | {sum(row['found'] for row in rows)} |" in out


def test_backends_that_differ_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = agree.cut_lists(folder, [2000.0])
    name, search = next(lists)
    assert search(agree.scan_settings("views", backend="numpy").scanner()).runs.num_rows == 9
    lists.close()
    same, odd = (lambda _: failed("1")), failed
    assert agree.differing(iter([("same", same), ("odd", odd)]), {"numpy": "1", "numba": "2"}) == (2, 1)
    assert capsys.readouterr().out.startswith("differ: odd: {'numpy'")
    assert folder.name in name
