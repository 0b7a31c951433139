"""The whole road: files in, tables out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.lists import (
    CELL,
    CENTRE,
    OBSID,
    T0,
    FakeList,
    quiet_list,
    round_time,
    with_burst,
    write_list,
    write_sources,
)

import xscan
from xscan import api
from xscan.backends import get_backend
from xscan.backends.numpy import NumpyBackend, NumpyCounts, NumpyLoaded
from xscan.bayes import log10_bayes, log10_bayes_peak
from xscan.config import View, load_config
from xscan.errors import ConfigError, DataError, Reason
from xscan.grid import Grid, cells_of
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.missions.xmm.observation import read
from xscan.model import Photons
from xscan.pipeline.outcome import summarize
from xscan.pipeline.scan import scan_folder
from xscan.report.plots import draw
from xscan.results.tables import Tables
from xscan.results.writer import ResultsWriter
from xscan.schema import SCHEMAS
from xscan.search.observation import search_observation
from xscan.sky import separation_arcsec

VIEWS = ["5:0.2-12", "50:0.2-2", "200:0.2-12"]
SECONDS = 2000.0


def observation(folder: Path, lists: list[FakeList]) -> Path:
    for fake in lists:
        write_list(folder / OBSID, fake)
    return folder / OBSID


def rows(table: pa.Table, *drop: str) -> list[dict[str, object]]:
    return table.drop_columns([name for name in drop if name in table.column_names]).to_pylist()


CLOCK = ("seconds_spent", "seconds_read", "finished_utc", "inputs")


@pytest.fixture
def busy(rng: np.random.Generator) -> list[FakeList]:
    """Three cameras, a burst and a slow flare, and good time with a gap."""
    lists = [quiet_list(rng, camera, SECONDS) for camera in ("pn", "m1", "m2")]
    lists[0] = with_burst(lists[0], rng, 25, 700.0, 4.0, CENTRE + 1500, CENTRE - 900)
    lists[1] = with_burst(lists[1], rng, 60, 1200.0, 180.0, CENTRE - 2000, CENTRE + 700)
    gap = [(T0, T0 + 900), (T0 + 960, T0 + SECONDS)]
    return [replace(fake, gti=dict.fromkeys(fake.gti, gap)) for fake in lists]


def test_planted_bursts_are_found_where_they_were_put(tmp_path: Path, busy: list[FakeList]) -> None:
    tables = xscan.scan(observation(tmp_path, busy), views=VIEWS)
    found = tables.regions.to_pylist()
    assert {row["dt_s"] for row in found} == {5.0, 50.0, 200.0}
    plane = xscan.read(tmp_path / OBSID).lists[0].plane
    for row in found:
        near = [(CENTRE + 1500, CENTRE - 900), (CENTRE - 2000, CENTRE + 700)]
        apart = [separation_arcsec(row["ra_deg"], row["dec_deg"], *plane.to_icrs(x, y)) for x, y in near]
        assert min(apart) < 3 * row["pos_err_arcsec"]
        assert row["kind"] == "peak"
        assert row["det_id"] == f"{OBSID}_0_{row['dt_s']:g}_0.2_{row['band_hi_kev']}_{row['label']}"
    burst = next(row for row in found if row["dt_s"] == 5.0)
    assert T0 + 695 <= burst["t_start_s"] <= T0 + 700
    assert burst["n_pn"] >= 20
    assert burst["p_min"] < 1e-9


def test_quiet_sky_is_quiet(tmp_path: Path, rng: np.random.Generator) -> None:
    lists = [quiet_list(rng, camera, SECONDS) for camera in ("pn", "m1", "m2")]
    for profile, n_searches in (("default", 1), ("views", 9)):
        tables = xscan.scan(observation(tmp_path / profile, lists), profile=profile)
        assert tables.events.num_rows == tables.regions.num_rows == 0
        assert tables.runs.num_rows == n_searches
        assert set(tables.runs["state"].to_pylist()) == {"done"}


def test_an_eclipse_is_found_and_a_gap_in_good_time_is_not(tmp_path: Path, rng: np.random.Generator) -> None:
    fake = quiet_list(rng, "pn", SECONDS)
    n = 3000
    time = round_time(rng.uniform(0, SECONDS - 1, n))
    lit = (time < 1400) | (time > 1600)
    source = FakeList(time=T0 + time[lit], x=CENTRE + 300, y=CENTRE - 300)
    old = fake.take(np.arange(len(fake.time)))
    m = int(lit.sum())
    columns = {
        name: np.concatenate([getattr(old, name), np.broadcast_to(getattr(source, name), m)])
        for name in ("time", "x", "y", "pi", "flag", "pattern", "ccd", "rawx", "rawy")
    }
    gap = [(T0, T0 + 925), (T0 + 985, T0 + SECONDS)]
    cut = (columns["time"] < T0 + 925) | (columns["time"] > T0 + 985)
    lists = [replace(fake, **columns, gti=dict.fromkeys(fake.gti, gap)).take(np.flatnonzero(cut))]
    found = xscan.scan(observation(tmp_path, lists), views=["50:0.2-12"]).regions.to_pylist()
    assert [(row["kind"], row["n_eclipse"]) for row in found] == [("eclipse", 4)]
    assert (found[0]["t_start_s"], found[0]["t_stop_s"]) == (T0 + 1400, T0 + 1600)
    # EXOD2 takes the gap for an eclipse too
    found = xscan.scan(tmp_path / OBSID, views=["50:0.2-12"], profile="exod2").regions.to_pylist()
    (false,) = [row["t_start_s"] - T0 for row in found if row["kind"] == "eclipse"]
    assert 880 < false < 985


def test_order_of_events_and_lists_is_irrelevant(
    tmp_path: Path, busy: list[FakeList], rng: np.random.Generator
) -> None:
    first = xscan.scan(observation(tmp_path / "a", busy), views=VIEWS)
    shuffled = [fake.take(rng.permutation(len(fake.time))) for fake in busy]
    second = xscan.scan(observation(tmp_path / "b", shuffled[::-1]), views=VIEWS)
    assert first.regions.num_rows > 0
    for name in ("events", "regions", "voxels", "lightcurves", "images"):
        assert first.table(name).equals(second.table(name)), name
    assert rows(first.runs, *CLOCK) == rows(second.runs, *CLOCK)


@pytest.mark.parametrize("profile", ["default", "exod2"])
def test_shifting_all_times_changes_only_times(tmp_path: Path, busy: list[FakeList], profile: str) -> None:
    shift = 4096.0
    busy = [
        replace(fake, exposures={2: (T0 + 1.3 + 2.625 * np.arange(750), np.full(750, 2.625), np.full(750, 0.99))})
        for fake in busy
    ]
    first = xscan.scan(observation(tmp_path / "a", busy), views=VIEWS, profile=profile)
    second = xscan.scan(observation(tmp_path / "b", [f.shifted(shift) for f in busy]), views=VIEWS, profile=profile)
    assert first.regions.num_rows > 0
    for name in ("runs", "regions", "voxels", "lightcurves", "images"):
        for a, b in zip(rows(first.table(name), *CLOCK), rows(second.table(name), *CLOCK), strict=True):
            for key, value in a.items():
                if key == "time_s":
                    np.testing.assert_array_equal(np.array(value) + shift, b[key])
                elif key in ("t_start_s", "t_stop_s"):
                    assert value + shift == b[key]
                elif key in ("t_start_utc", "t_stop_utc"):
                    assert datetime.fromisoformat(value) + timedelta(seconds=shift) == datetime.fromisoformat(b[key])
                elif key in ("mjd_start", "mjd_stop"):
                    assert b[key] == pytest.approx(value + shift / 86_400, abs=1e-10)
                else:
                    assert value == b[key], (name, key)


def test_mirroring_x_mirrors_x(tmp_path: Path, busy: list[FakeList]) -> None:
    first = xscan.scan(observation(tmp_path / "a", busy), views=VIEWS)
    mirrored = [replace(fake, x=51_840 - np.asarray(fake.x)) for fake in busy]
    second = xscan.scan(observation(tmp_path / "b", mirrored), views=VIEWS)

    def key(row: dict[str, object]) -> tuple[object, ...]:
        return tuple(row[name] for name in ("dt_s", "t_start_s", "bbox_y0"))

    ours = sorted(first.regions.to_pylist(), key=key)
    theirs = sorted(second.regions.to_pylist(), key=key)
    assert len(ours) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert (a["bbox_x0"], a["bbox_x1"]) == (129 - b["bbox_x1"], 129 - b["bbox_x0"])
        for name in ("bbox_y0", "n_max", "n_peak", "counts_total", "t_start_s"):
            assert a[name] == b[name]
        # the filling of masked cells is not mirror-symmetric, the rest of mu is
        assert a["mu_at_max"] == pytest.approx(b["mu_at_max"], rel=0.05)


def test_real_observation_views_find_nothing(real_observation: Path, hotpix: Path) -> None:
    for hot in (None, hotpix):
        tables = xscan.scan(real_observation, profile="views", hot_pixels=hot)
        assert tables.regions.num_rows == 0
        assert tables.runs["state"].to_pylist() == ["done"] * 9
    run = tables.runs.to_pylist()[0]
    assert run["good_s_m1"] + run["bad_s_m1"] > 16_000
    assert run["lost_s_m1"] > 0
    assert run["good_s_pn"] is None
    lists = [info for info in run["inputs"] if info["role"] == "events"]
    assert [info["n_rows"] for info in lists] == [134_685, 131_604]
    assert all(info["cut_flag"] > 6000 for info in lists)


def test_real_observation_exod2_finds_its_three_regions(real_observation: Path, hotpix: Path) -> None:
    tables = xscan.scan(real_observation, profile="exod2", hot_pixels=hotpix)
    found = [(r["dt_s"], r["band_lo_kev"], r["band_hi_kev"], r["kind"]) for r in tables.regions.to_pylist()]
    assert found == [(5.0, 2.0, 12.0, "peak"), (5.0, 0.2, 12.0, "peak"), (50.0, 0.2, 12.0, "eclipse")]


def test_columns_of_the_tables(tmp_path: Path, busy: list[FakeList]) -> None:
    tables = xscan.scan(observation(tmp_path, busy), views=VIEWS)
    regions = tables.regions.to_pylist()
    curves = {row["det_id"]: row for row in tables.lightcurves.to_pylist()}
    voxels = tables.voxels.to_pylist()
    assert set(curves) == {row["det_id"] for row in regions}
    for row in regions:
        mine = [voxel for voxel in voxels if voxel["det_id"] == row["det_id"]]
        assert len(mine) == row["n_peak"] + row["n_eclipse"]
        assert min(voxel["p"] for voxel in mine) == row["p_min"]
        n_photons = row["n_pn"] + row["n_m1"] + row["n_m2"]
        assert sum(voxel["n"] for voxel in mine) == n_photons
        assert 1 <= row["n_ccds"] <= row["n_pixels"] <= n_photons
        assert 1 / row["n_readouts"] <= row["share_readout"] <= 1
        assert 1 / row["n_pixels"] <= row["share_pixel"] <= 1
        assert 0 <= row["edge_px"] <= 300
        assert {row[f"live_{camera}"] for camera in ("pn", "m1", "m2")} == {1.0}
        assert row["parent"] is None
        assert all(row["bbox_x0"] <= voxel["x"] < row["bbox_x1"] for voxel in mine)
        curve = curves[row["det_id"]]
        assert len({len(curve[name]) for name in ("time_s", "n", "mu", "bad", "rejected")}) == 1
        best = min(mine, key=lambda voxel: voxel["p"])
        assert (row["n_max"], row["mu_at_max"]) == (best["n"], best["mu"])
        assert row["log10_b_max"] == pytest.approx(float(log10_bayes_peak(best["n"], best["mu"])))
        if row["area_cells"] == 1:
            some = np.array(curve["mu"], float) > 0
            peak, _ = log10_bayes(np.array(curve["n"])[some], np.array(curve["mu"], float)[some])
            assert row["log10_b_max"] == pytest.approx(max(peak))
            assert row["counts_total"] == sum(curve["n"])
        for voxel in mine:
            assert curve["time_s"][voxel["t_index"]] == voxel["t_start_s"]
            assert curve["n"][voxel["t_index"]] >= voxel["n"]


def test_the_image_of_a_subset_is_of_its_widest_band(tmp_path: Path, busy: list[FakeList]) -> None:
    views = ["50:0.2-2", "50:0.2-12", "5:2-12"]
    tables = xscan.scan(observation(tmp_path, busy), views=views)
    (image,) = tables.images.to_pylist()
    assert (image["band_lo_kev"], image["band_hi_kev"]) == (0.2, 12.0)
    (run,) = [row for row in tables.runs.to_pylist() if (row["dt_s"], row["band_lo_kev"]) == (50.0, 0.2)][1:]
    assert (image["t_start_s"], image["t_stop_s"]) == (run["t_start_s"], run["t_stop_s"])
    counts, mask = (np.array(image[name]).reshape(image["ny"], image["nx"]) for name in ("counts", "mask"))
    assert counts.size == run["n_cells"]
    assert counts.sum() == run["n_events"] - run["n_events_rejected"]
    assert np.count_nonzero(mask) == run["n_cells_masked"]
    found = [row for row in tables.regions.to_pylist() if (row["dt_s"], row["band_hi_kev"]) == (50.0, 12.0)]
    assert found
    for row in found:
        mine = {(v["y"], v["x"]) for v in tables.voxels.to_pylist() if v["det_id"] == row["det_id"]}
        assert sum(counts[y - image["y0"], x - image["x0"]] for y, x in mine) == row["counts_total"]


def test_of_equal_bands_the_image_has_most_events(tmp_path: Path, busy: list[FakeList]) -> None:
    """Frames of 900 s leave a tenth of 2,000 s; the bands are equal in eV, though not as differences of keV."""
    tables = xscan.scan(observation(tmp_path, busy), views=["900:0.2-1.2", "50:1.2-2.2", "50:0.2-1.2"])
    n = {
        row["dt_s"] + row["band_lo_kev"]: row["n_events"] - row["n_events_rejected"] for row in tables.runs.to_pylist()
    }
    (image,) = tables.images.to_pylist()
    assert sum(image["counts"]) == n[image["dt_s"] + image["band_lo_kev"]] == max(n.values())
    assert n[50.2] > n[900.2]


def test_pictures_are_drawn_from_stored_results(tmp_path: Path, busy: list[FakeList]) -> None:
    scanner = api.scan_settings(views=["50:0.2-12"]).scanner()
    with ResultsWriter(tmp_path / "out", scanner.provenance(), scanner.settings.by_name()) as writer:
        obsid, tables = scan_folder(observation(tmp_path, busy), scanner)
        writer.write(obsid, tables)
    held = xscan.open_results(tmp_path / "out")
    stored = Tables(*(held.table(name, obsid) for name in SCHEMAS))
    now, later = (draw(tmp_path / name, obsid, each) for name, each in (("now", tables), ("later", stored)))
    assert len(now) == 1 + tables.regions.num_rows > 1
    assert [path.read_bytes() for path in now] == [path.read_bytes() for path in later]


def test_every_column_has_a_unit_and_a_description() -> None:
    for schema in SCHEMAS.values():
        for field in schema:
            assert set(field.metadata) == {b"unit", b"description"}, field.name
            assert field.metadata[b"description"]


def test_views_that_cannot_be_searched_are_on_record(tmp_path: Path, rng: np.random.Generator) -> None:
    fake = quiet_list(rng, "m1", 300.0)
    folder = observation(tmp_path, [replace(fake, pi=np.full(len(fake.time), 3000))])
    tables = xscan.scan(folder, views=["5:0.2-12", "5:0.2-2", "500:0.2-12"])
    found = [(row["state"], row["reason"]) for row in tables.runs.to_pylist()]
    assert found == [("done", None), ("empty", "empty_band"), ("skipped", "dt_too_long")]


def test_sources_are_masked_and_counted_as_constant(tmp_path: Path, busy: list[FakeList]) -> None:
    folder = observation(tmp_path, busy)
    without = xscan.scan(folder, views=["50:0.2-12"]).runs.to_pylist()[0]
    plane = xscan.read(folder).lists[0].plane
    ra, dec = plane.to_icrs(CENTRE - 5 * CELL, CENTRE + 6 * CELL)
    write_sources(folder, [(float(ra), float(dec), 50.0, 0.0, 0.5)])
    masked = xscan.scan(folder, views=["50:0.2-12"]).runs.to_pylist()[0]
    assert masked["n_cells_masked"] >= without["n_cells_masked"] + 9
    assert [info["role"] for info in masked["inputs"]] == ["events"] * 3 + ["sources"]


def test_a_long_observation_needs_little_memory() -> None:
    """2.6 million events over 100 ks at 5 s: a cube of 3e8 voxels, in less than 2 GiB."""
    code = """
import resource, numpy as np
from xscan.backends import get_backend
from xscan.bayes import log10_bayes_peak
from xscan.search.background import expectation
from xscan.bayes import thresholds
from xscan.config import Rules
from xscan.grid import Box, Grid
from xscan.model import Frames
from xscan.events.merge import sort_photons
from xscan.missions.xmm.instrument import EPIC
rng = np.random.default_rng(1)
n, nt = 2_600_000, 20_000
cells = rng.integers(2, 126, (2, n)).astype(np.int16)
p = sort_photons(rng.integers(0, nt * 5000, n).astype(np.int32), cells[0], cells[1], *(400 * cells).astype(np.uint16),
            rng.integers(200, 12000, n).astype(np.uint16), np.zeros(n, np.uint8), np.ones(n, np.uint32), EPIC)
grid = Grid(0.0, 5000, nt, 129, Box(2, 126, 2, 126), EPIC.sky)
counts = get_backend("numpy").load(p).bin(grid, 200, 12000)
frames = Frames(np.zeros(nt, bool), np.zeros(nt, bool), np.ones(nt))
expected, _ = expectation(counts.images(frames.kind()), counts, frames, np.zeros((124, 124), bool), Rules())
voxels = counts.flag(expected, thresholds(3, counts.n_max()))
print(len(voxels), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    flagged, peak_mib = map(int, done.stdout.split())
    assert flagged <= 3
    assert peak_mib < 2048


def half_live(rng: np.random.Generator) -> FakeList:
    """A flat field with a bright source, a gap of 60 s with events in it, a CCD that is live for a third."""
    fake = quiet_list(rng, "m1", SECONDS, rate=6.0)
    n = 2000
    old = fake.take(np.arange(len(fake.time)))
    columns = {
        "time": T0 + round_time(rng.uniform(0, SECONDS - 1, n)),
        "x": np.full(n, CENTRE + 300),
        "y": np.full(n, CENTRE - 300),
        "pi": rng.integers(300, 1900, n),
    }
    constant = {"flag": 0, "pattern": 0, "ccd": 2, "rawx": 30, "rawy": 100}
    merged = {name: np.concatenate([getattr(old, name), values]) for name, values in columns.items()}
    merged |= {name: np.concatenate([getattr(old, name), np.full(n, value)]) for name, value in constant.items()}
    gap = [(T0, T0 + 920), (T0 + 980, T0 + SECONDS)]
    return replace(fake, **merged, gti=dict.fromkeys(range(2, 7), gap) | {7: [(T0, T0 + 600)]})


def test_live_time_by_hand(tmp_path: Path, rng: np.random.Generator) -> None:
    fake = half_live(rng)
    folder = observation(tmp_path, [fake])
    (run,) = xscan.scan(folder, views=["100:0.2-12"]).runs.to_pylist()
    (info,) = [info for info in run["inputs"] if info["role"] == "events"]
    time, ccd = np.asarray(fake.time) - T0, np.asarray(fake.ccd)
    outside = ((time > 920) & (time < 980) & (ccd != 7)) | ((ccd == 7) & (time > 600))
    assert info["cut_good_time"] == np.count_nonzero(outside)
    assert info["cut_ccd_not_working"] == np.count_nonzero((ccd == 7) & (time <= 600))
    # the frame 900-1000 s has 40 s of live time, the same in every CCD: it is searched with what it has
    assert (run["n_frames"], run["n_frames_rejected"]) == (20, 0)
    assert (run["good_s_m1"], run["rejected_s_m1"], run["bad_s_m1"], run["lost_s_m1"]) == (1940, 0, 0, 0)
    kept = ~outside & (ccd != 7)
    assert run["n_events"] == np.count_nonzero(kept)
    assert run["n_events_rejected"] == 0
    assert run["n_voxels_searched"] % 20 == 0
    assert run["source_list"] == "absent"
    assert not any("rejected" in line for line in summarize(xscan.scan(folder, views=["5:0.2-12"]), 1.0).remarks)


def test_frames_of_high_background_are_not_rejected(tmp_path: Path, rng: np.random.Generator) -> None:
    """One is rejected, another is bad: its events are not of those that were rejected."""
    fake = half_live(rng)
    pi, time = np.asarray(fake.pi).copy(), np.asarray(fake.time) - T0
    pi[(time >= 300) & (time < 400)] = 11_000
    wider = {3: [(T0, T0 + 905), (T0 + 990, T0 + SECONDS)]}  # 15 s of the frame, of which the others have 40
    folder = observation(tmp_path, [replace(fake, pi=pi, gti=dict(fake.gti) | wider)])
    tables = xscan.scan(folder, views=["100:0.2-12"])
    assert "up to 2 % of the events lie in rejected frames (100 s views)" in summarize(tables, 1.0).remarks
    (run,) = tables.runs.to_pylist()
    assert (run["n_frames_bad"], run["n_frames_rejected"]) == (1, 1)
    kept = (np.asarray(fake.ccd) != 7) & ~((time > 920) & (time < 980))
    kept &= (np.asarray(fake.ccd) != 3) | ~((time > 905) & (time < 990))
    assert run["n_events_rejected"] == np.count_nonzero(kept & (time >= 900) & (time < 1000)) > 0
    assert run["n_events"] == np.count_nonzero(kept)


def test_a_constant_source_is_expected_by_live_time(tmp_path: Path, rng: np.random.Generator) -> None:
    """In frames of 80 s the gap leaves 60 of 80 s: the source is expected to send three quarters."""
    config = load_config(views=(View(80.0, 0.2, 12.0),))
    backend = get_backend()
    made = read(observation(tmp_path, [half_live(rng)]), config, HotPixels(), backend.events)
    searches, _ = search_observation(made, config, backend)
    (result,) = next(searches).views
    search = result.search
    assert search is not None
    x, y = (int(cells_of(np.array([v]), 129, 51_840)[0]) for v in (CENTRE + 300, CENTRE - 300))
    assert search.mask[y - search.grid.box.y0, x - search.grid.box.x0]
    mu = search.expected.row(y - search.grid.box.y0)[x - search.grid.box.x0]
    assert np.flatnonzero(search.frames.rejected).tolist() == []
    np.testing.assert_allclose(search.frames.live[[10, 11, 12]], [1, 0.5, 0.75])
    assert mu[10] == pytest.approx(80, rel=0.1)
    assert mu[12] == pytest.approx(0.75 * mu[10], rel=0.05)
    assert result.found == ()


def test_views_without_a_live_frame_or_background_are_not_done(tmp_path: Path, rng: np.random.Generator) -> None:
    dead = quiet_list(rng, "m1", 600.0)
    stripes = [[(T0 + k, T0 + k + 10) for k in range(start, 600, 40)] for start in (0, 20)]
    dead = replace(dead, gti={ccd: stripes[ccd % 2] for ccd in dead.gti})
    (run,) = xscan.scan(observation(tmp_path / "a", [dead]), views=["20:0.2-12"]).runs.to_pylist()
    assert (run["state"], run["reason"]) == ("skipped", "no_live_frame")
    few = quiet_list(rng, "m1", 600.0, rate=0.1)
    (run,) = xscan.scan(observation(tmp_path / "b", [few]), views=["20:0.2-12"]).runs.to_pylist()
    assert run["state"] == "done"  # an expectation is defined however few the counts are
    (run,) = xscan.scan(tmp_path / "b" / OBSID, views=["20:0.2-12"], profile="exod2").runs.to_pylist()
    assert (run["state"], run["reason"]) == ("skipped", "no_background")


def test_events_outside_the_common_time_are_counted(tmp_path: Path, rng: np.random.Generator) -> None:
    lists = [quiet_list(rng, "m1", SECONDS), quiet_list(rng, "m2", SECONDS).shifted(512.0)]
    (run,) = xscan.scan(observation(tmp_path, lists), views=["5:0.2-12"]).runs.to_pylist()
    cuts = {info["camera"]: info["cut_common_time"] for info in run["inputs"]}
    assert cuts["m1"] == np.count_nonzero(np.asarray(lists[0].time) < T0 + 512)
    assert run["lost_s_m1"] == pytest.approx(512, abs=5)
    total = sum(info["n_rows"] - sum(v or 0 for k, v in info.items() if k.startswith("cut_")) for info in run["inputs"])
    assert total - run["n_events"] < 60  # the rest that fills no frame


def test_an_observation_is_scanned_as_it_was_read(tmp_path: Path, rng: np.random.Generator) -> None:
    held = xscan.read(observation(tmp_path, [quiet_list(rng, "m1", 300.0)]))
    assert xscan.scan(held, views=["5:0.2-12"]).runs.num_rows == 1
    with pytest.raises(ConfigError, match="other settings"):
        xscan.scan(held, profile="exod2")


def test_light_curves_leave_rejected_frames_out(tmp_path: Path, busy: list[FakeList]) -> None:
    gap = [(T0, T0 + 902), (T0 + 950, T0 + SECONDS)]
    dead = [replace(fake, gti=dict.fromkeys(fake.gti, gap)) for fake in busy]
    tables = xscan.scan(observation(tmp_path, dead), views=["50:0.2-12"])
    (run,) = tables.runs.to_pylist()
    assert run["n_frames_rejected"] == 1
    for curve in tables.lightcurves.to_pylist():
        (frame,) = np.flatnonzero(curve["rejected"])
        assert (curve["n"][frame], curve["mu"][frame]) == (0, None)


def test_the_last_moment_of_the_range_counts(tmp_path: Path, rng: np.random.Generator) -> None:
    fake = quiet_list(rng, "m1", 600.0)
    last = fake.take(np.append(np.arange(len(fake.time)), 0))
    time = np.asarray(last.time).copy()
    time[-1] = T0 + 600.0
    runs = [
        xscan.scan(observation(tmp_path / str(i), [made]), views=["5:0.2-12"]).runs.to_pylist()[0]["n_events"]
        for i, made in enumerate((fake, replace(last, time=time)))
    ]
    assert runs[1] == runs[0] + 1


def assert_backends_agree(folder: Path, **options: object) -> None:
    """Every table the same, but the clock and the backend's name."""
    one, other = (xscan.scan(folder, backend=name, **options) for name in ("numpy", "numba"))
    for name in ("events", "regions", "voxels", "lightcurves", "images"):
        assert one.table(name).equals(other.table(name)), name
    assert rows(one.runs, *CLOCK, "backend") == rows(other.runs, *CLOCK, "backend")


@pytest.mark.parametrize("profile", ["default", "views"])
def test_backends_agree(tmp_path: Path, busy: list[FakeList], profile: str) -> None:
    assert_backends_agree(observation(tmp_path, busy), profile=profile)


@pytest.mark.parametrize("profile", ["default", "views", "exod2"])
def test_backends_agree_on_real_data(real_observation: Path, golden: Path, profile: str) -> None:
    assert_backends_agree(real_observation, profile=profile)
    assert_backends_agree(golden / "0900000101" / "inputs", profile=profile)


class FullDevice(NumpyBackend):
    """Has no room for frames of 5 s."""

    def load(self, photons: Photons) -> NumpyLoaded:
        class Loaded(NumpyLoaded):
            def bin(self, grid: Grid, pi_from: int, pi_to: int) -> NumpyCounts:
                if grid.dt_ms == 5000:
                    raise DataError(Reason.DEVICE_MEMORY, "no room; stop what else uses the device")
                return super().bin(grid, pi_from, pi_to)

        return Loaded(photons)


def test_a_view_for_which_a_device_has_no_room_is_a_row(tmp_path: Path, busy: list[FakeList]) -> None:
    scanner = replace(api.scan_settings(views=VIEWS).scanner(), backend=FullDevice())
    _, tables = scan_folder(observation(tmp_path, busy), scanner)
    runs = {row["dt_s"]: row for row in tables.runs.to_pylist()}
    assert [runs[dt]["reason"] for dt in (5.0, 50.0, 200.0)] == ["device_memory", None, None]
    assert runs[5.0]["message"] == "no room; stop what else uses the device"
    assert runs[5.0]["good_s_pn"] > 1000
    assert {row["dt_s"] for row in tables.regions.to_pylist()} == {50.0, 200.0}
