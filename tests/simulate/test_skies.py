from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from helpers.command import run

import xscan
from xscan.simulate import draw_sky, simulate_archive, simulate_observation
from xscan.simulate.detector import CAMERA
from xscan.simulate.headers import Pointing
from xscan.simulate.observation import TRUTH
from xscan.simulate.recovery import compare
from xscan.simulate.scene import Sky, Source, Transient
from xscan.sky import TangentPlane, separation_arcsec

ROOT = Path(__file__).resolve().parents[2]
POINTING = Pointing("0990000001", TangentPlane(83.0, -5.0), 33.0, 1.3e8, 6000.0, 850)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "a"
    simulate_archive(folder, 4, 11, 4000.0)
    return folder


def test_the_same_seed_gives_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    simulate_archive(tmp_path, 2, 11, 4000.0)
    ours, theirs = digest(tmp_path), digest(archive)
    for name, value in ours.items():
        if name.startswith("099"):
            assert theirs[name] == value  # observation k does not depend on n
    other = tmp_path / "other"
    simulate_archive(other, 1, 12, 4000.0)
    name = "0990000001/P0990000001PNS003PIEVLI0000.FTZ"
    assert digest(other)[name] != theirs[name]


def test_lists_are_as_messy_as_real_ones(archive: Path) -> None:
    seen = {"node": 0, "null": 0, "gaps": 0, "bad_runs": 0}
    for path in archive.glob("*/*EVLI*"):
        with fits.open(path) as made:
            made.verify("exception")
            events = made["EVENTS"].data
            header = made["EVENTS"].header
            assert (np.diff(events["TIME"]) < 0).sum() > 100  # grouped by CCD, unsorted
            assert (events["FLAG"] != 0).mean() > 0.1
            assert events["PATTERN"].max() > 12
            assert events["PI"].min() < 200
            assert events["PI"].max() > 12_000
            assert header.get("XMMEA_EP") or header.get("XMMEA_EM")
            names = {hdu.name for hdu in made}
            ccds = {int(name[6:]) for name in names if name.startswith("STDGTI")}
            assert {f"EXPOSU{ccd:02d}" for ccd in ccds} <= names
            seen["node"] += int((events["CCDNR"] > 12).sum())
            seen["null"] += int((events["X"] < 0).sum())
            seen["gaps"] += sum(len(made[f"STDGTI{ccd:02d}"].data) > 1 for ccd in ccds)
            seen["bad_runs"] += sum(int((made[f"BADPIX{ccd:02d}"].data["YEXTENT"] > 1).sum()) for ccd in ccds)
    assert all(seen.values()), seen


def test_truth_is_what_was_written(archive: Path) -> None:
    truth = pq.read_table(archive / "truth.parquet")
    assert truth.schema.equals(TRUTH, check_metadata=True)
    lines = (archive / "observations.txt").read_text().splitlines()
    assert lines[1:] == sorted(set(truth["obsid"].to_pylist()))
    held = xscan.read(archive / "0990000001")
    plane = held.lists[0].plane
    for row in truth.to_pylist():
        if row["obsid"] != held.obsid:
            continue
        x, y = plane.from_icrs(row["ra_deg"], row["dec_deg"])
        assert (float(x), float(y)) == pytest.approx((row["x_sky"], row["y_sky"]), abs=1e-4)
        assert row["t_stop_s"] - row["t_start_s"] == pytest.approx(row["width_s"])


def test_a_bright_burst_is_written_and_found_where_it_is(tmp_path: Path) -> None:
    sky = Sky((), (Transient("burst", 120.0, -200.0, 3000.0, 20.0, 400.0),), np.empty((0, 3)))
    truth = simulate_observation(tmp_path / POINTING.obsid, POINTING, sky, np.random.default_rng(1))
    (row,) = truth.to_pylist()
    assert 200 < row["n_pn"] + row["n_m1"] + row["n_m2"] < 400  # 400 on axis, less vignetting, gaps and flags
    assert row["n_pn"] > row["n_m1"] > 0
    found = compare(truth, xscan.scan(tmp_path / POINTING.obsid, views=["5:0.2-12", "20:0.2-12"]).regions)
    assert found.truth[0]["best"] is not None
    assert found.truth[0]["offset_arcsec"] < 1.5
    assert found.unmatched == []


def test_two_roll_angles_give_the_same_places(tmp_path: Path) -> None:
    angles = 2 * np.pi * np.arange(6) / 6
    transients = tuple(
        Transient("burst", float(300 * np.cos(a)), float(300 * np.sin(a)), 1000.0 + 700 * k, 10.0, 300.0)
        for k, a in enumerate(angles)
    )
    sky = Sky((Source(50.0, 80.0, 0.5),), transients, np.empty((0, 3)))
    places = []
    for pa in (0.0, 111.0):
        pointing = Pointing(POINTING.obsid, POINTING.plane, pa, 1.3e8, 6000.0, 850)
        folder = tmp_path / f"{pa:g}" / pointing.obsid
        truth = simulate_observation(folder, pointing, sky, np.random.default_rng(9))
        done = compare(truth, xscan.scan(folder, views=["10:0.2-12"]).regions)
        places.append([row["best"] for row in done.truth])
        assert done.unmatched == []
    both = [(a, b) for a, b in zip(*places, strict=True) if a is not None and b is not None]
    assert len(both) >= 4  # a gap between chips, or a lost frame, may hide some
    ratios = []
    for a, b in both:
        apart = float(separation_arcsec(a["ra_deg"], a["dec_deg"], b["ra_deg"], b["dec_deg"]))
        ratios.append(apart / np.hypot(a["pos_err_arcsec"], b["pos_err_arcsec"]))
    assert max(ratios) < 3.5
    assert np.median(ratios) < 2


def test_a_quiet_sky_has_nothing_planted(tmp_path: Path) -> None:
    sky = draw_sky(np.random.default_rng(1), 5000.0, quiet=True)
    assert sky.transients == ()
    assert all(source.amplitude == 0 for source in sky.sources)
    assert len(sky.proton_flares) == 0
    assert simulate_archive(tmp_path, 1, 3, 1000.0, quiet=True).num_rows == 0


def test_the_optical_axis_lies_on_ccd_4_of_pn() -> None:
    ccd, rawx, rawy = CAMERA["pn"].locate(np.zeros(1), np.zeros(1))
    assert (int(ccd[0]), int(rawx[0])) == (4, 37)
    assert int(rawy[0]) == 190  # read out at the outer edge
    u, v = np.random.default_rng(1).uniform(-300, 300, (2, 4000))
    _, _, rows = CAMERA["pn"].locate(u, v)
    assert np.mean((rows > 23) & (rows < 197)) > 0.85  # the border cut leaves the middle alone


def test_sources_keep_their_distance() -> None:
    for seed in range(30):
        sky = draw_sky(np.random.default_rng(seed), 5000.0)
        places = np.array([(s.dx_arcsec, s.dy_arcsec) for s in sky.sources])
        places = np.concatenate([places, [(t.dx_arcsec, t.dy_arcsec) for t in sky.transients if t.kind != "eclipse"]])
        apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1)) + 1e6 * np.eye(len(places))
        assert apart.min() >= 60
    assert len(draw_sky(np.random.default_rng(0), 5000.0, n_sources=1).sources) == 1
    with pytest.raises(ValueError, match="do not fit"):
        draw_sky(np.random.default_rng(0), 5000.0, n_sources=999)


def test_truth_counts_are_those_the_reader_keeps(tmp_path: Path) -> None:
    """Only a burst, no background: every event that is read is counted in the truth."""
    sky = Sky((), (Transient("burst", 120.0, -200.0, 3000.0, 20.0, 4000.0),), np.empty((0, 3)))
    truth = simulate_observation(tmp_path / POINTING.obsid, POINTING, sky, np.random.default_rng(1), background=1e-9)
    (row,) = truth.to_pylist()
    held = xscan.read(tmp_path / POINTING.obsid)
    for events in held.lists:
        read = int(np.count_nonzero((events.time > row["t_start_s"] - 3) & (events.time < row["t_stop_s"] + 3)))
        null = 0.002 * read + 2  # a few lose their place when the file is written
        assert abs(read - row[f"n_{events.camera}"]) <= null + 5


def test_times_are_known_to_a_frame_only(tmp_path: Path) -> None:
    sky = Sky((), (Transient("burst", 120.0, -200.0, 3000.0, 0.01, 4000.0),), np.empty((0, 3)))
    simulate_observation(tmp_path / POINTING.obsid, POINTING, sky, np.random.default_rng(1), background=1e-9)
    spread = {
        e.camera: np.ptp(e.time[np.abs(e.time - 1.3e8 - 3000) < 5]) for e in xscan.read(tmp_path / POINTING.obsid).lists
    }
    assert 2.0 < spread["m1"] <= 2.6
    assert 0.05 < spread["pn"] <= 0.15


def test_eclipses_hide_their_source(tmp_path: Path) -> None:
    source = Source(60.0, 30.0, 2.0)
    sky = Sky((source,), (Transient("eclipse", 60.0, 30.0, 2000.0, 500.0, 1000.0, 0),), np.empty((0, 3)))
    truth = simulate_observation(tmp_path / POINTING.obsid, POINTING, sky, np.random.default_rng(3))
    done = compare(truth, xscan.scan(tmp_path / POINTING.obsid, views=["50:0.2-12"]).regions)
    best = done.truth[0]["best"]
    assert best is not None
    assert best["kind"] == "eclipse"
    (row,) = truth.to_pylist()  # a part of it may lie in frames that are not searched
    assert row["t_start_s"] - 60 <= best["t_start_s"] < best["t_stop_s"] <= row["t_stop_s"] + 60
    assert done.truth[0]["offset_arcsec"] < 3 * best["pos_err_arcsec"]


@pytest.mark.parametrize("camera", list(CAMERA.values()), ids=list(CAMERA))
def test_pixels_and_places_are_inverse(camera, rng: np.random.Generator) -> None:
    u, v = rng.uniform(-800, 800, (2, 5000))
    ccd, rawx, rawy = camera.locate(u, v)
    on = ccd > 0
    assert 0.75 < on.mean() < 1.0
    back_u, back_v = camera.place(ccd[on], rawx[on], rawy[on], rng)
    assert np.abs(back_u - u[on]).max() <= camera.pixel_arcsec
    assert np.abs(back_v - v[on]).max() <= camera.pixel_arcsec
    again = camera.locate(back_u, back_v)
    for one, other in zip((ccd[on], rawx[on], rawy[on]), again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_reader_does_not_know(archive: Path) -> None:
    """Nothing below the command line mentions simulations, but for the benchmark, which orders them."""
    package = Path(xscan.__file__).parent
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] not in ("simulate", "bench", "cli"):
            assert "simulat" not in path.read_text().lower(), path.name


def test_commands(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    done = run("simulate", data, "--n", 1, "--exposure", 3000, "--seed", 7)
    assert done.returncode == 0, done.stderr
    assert "1 observations with 6 transients" in done.stdout
    again = run("simulate", data, "--n", 1)
    assert again.returncode == 2
    assert "not empty" in again.stderr
    args = [
        "archive",
        "--offline",
        "--obslist",
        data / "observations.txt",
        "--data",
        data,
        "--out",
        out,
        "--view",
        "50:0.2-12",
    ]
    done = run(*args, "--plot")
    assert done.returncode == 0, done.stderr
    pictures = list((out / "plots").rglob("*.png"))
    assert len(pictures) == 1 + xscan.open_results(out).table("regions").num_rows
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    done = run("recovered", out, data)
    assert done.returncode == 0
    assert "found: " in done.stdout
    assert run("recovered", out, out).returncode == 2


def test_mistakes_of_the_new_commands(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert run("simulate", tmp_path / "file").returncode == 2
    assert run("simulate", tmp_path / "a", "--exposure", "inf").returncode == 2
    (tmp_path / "truth.parquet").write_text("x")
    out = tmp_path / "out"
    args = ["scan", archive / "0990000001", "--out", out, "--view", "50:0.2-12"]
    out.mkdir()
    (out / "plots").write_text("in the way")
    done = run(*args, "--plot")
    assert done.returncode == 2
    assert "cannot hold pictures" in done.stderr
    assert run(*args).returncode == 0
    for args in (["recovered", out, tmp_path], ["recovered", out, tmp_path / "nowhere"]):
        done = run(*args)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    quiet = tmp_path / "quiet"
    assert run("simulate", quiet, "--n", 1, "--exposure", 900, "--quiet-sky").returncode == 0
    run("scan", quiet / "0990000001", "--out", tmp_path / "q", "--view", "50:0.2-12")
    done = run("recovered", tmp_path / "q", quiet)
    assert done.returncode == 0
    assert "found: " in done.stdout
    done = run("scan", archive, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert "4 folders of observations: search them with xscan archive" in done.stderr


def test_the_fuzzer_runs() -> None:
    command = [sys.executable, ROOT / "tests" / "soak" / "fuzz.py", "--n", "30", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 files" in done.stdout


def test_skies_run() -> None:
    """Two short skies: what scripts/skies tells of them. Their truth is known, and so is what it should make of it."""

    def told(what: str) -> tuple[int, list[str]]:
        options = ["--n", "2", "--exposure", "3000", "--seed", "3"]
        command = [sys.executable, ROOT / "benchmarks" / "skies.py", what, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines()

    code, lines = told("quiet")
    assert code == 0
    assert lines[0] == "2 quiet skies of 3000 s, seed 3, three bands, profile views"
    assert [line.split("|")[1].strip() for line in lines[3:]] == ["5", "50", "200"]
    assert all(line.endswith("| inside |") for line in lines[3:])
    code, lines = told("recovery")
    assert code == 0
    assert lines[0] == "2 skies of 3000 s, seed 3"
    for line, profile in zip(lines[3:], ("views", "exod2"), strict=True):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[0] == profile
        found, planted = zip(*(map(int, cell.split(" of ")) for cell in cells[1:4]), strict=True)
        assert planted == (6, 4, 2)
        assert sum(found) >= 8
        assert float(cells[5].rstrip('"')) < (2.5 if profile == "views" else 15)
    code, lines = told("positions")
    assert code == 0  # offsets over errors are Rayleigh-distributed, and the median offset is at most 2.5 arcsec
    (found,) = re.findall(r": (\d+) bursts and flares found$", lines[0])
    assert int(found) >= 6
    assert lines[1].startswith("offset / error: median ")


def test_a_giant_needs_little_memory(tmp_path: Path) -> None:
    """100 ks, a view of each frame length, files to tables with the backend that looks at every voxel: under 2 GiB."""
    pointing = Pointing("0990000001", POINTING.plane, 33.0, 1.3e8, 100_000.0, 850)
    rng = np.random.default_rng(5)
    simulate_observation(tmp_path / pointing.obsid, pointing, draw_sky(rng, 100_000.0), rng, background=1.6)
    code = (
        "import resource, sys, xscan; views = [f'{dt}:0.2-12' for dt in (5, 50, 200)]; "
        "runs = xscan.scan(sys.argv[1], views=views, backend='numpy').runs; "
        "print(runs.num_rows, sum(runs['n_events'].to_pylist()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / pointing.obsid)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    views, events, kib = map(int, done.stdout.split())
    assert views == 3
    assert events > 3_000_000
    assert kib < 2 << 20
