"""Skies A and B: what is on them, that they are drawn anew, and that they are written as drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import xscan
from xscan.simulate import simulate_archive
from xscan.simulate.presets import DENSE_WIDTHS_S, FLARE_LENGTH, N_DENSE, PRESETS, draw_drop_outs, draw_preset
from xscan.simulate.scene import Sky

A, B = PRESETS["A"], PRESETS["B"]
WHOLE_S = 30_000.0


def drawn(seed: int, exposure_s: float = WHOLE_S, preset: str = "A", quiet: bool = False) -> Sky:
    return draw_preset(np.random.default_rng(seed), PRESETS[preset], exposure_s, quiet)


def places(sky: Sky) -> np.ndarray:
    planted = [t for t in sky.transients if t.kind != "eclipse"]
    return np.array([(what.dx_arcsec, what.dy_arcsec) for what in (*sky.sources, *planted)])


@pytest.mark.parametrize("seed", range(20))
def test_a_sky_has_nineteen_transients_of_the_stated_sizes(seed: int) -> None:
    sky = drawn(seed)
    assert Counter(t.kind for t in sky.transients) == {"burst": 9, "flare": 7, "eclipse": 3}
    limits = {"burst": (5, 50, 8, 80), "flare": (775, 3100, 30, 400), "eclipse": (600, 2500, 224.9, 875.1)}
    for transient in sky.transients:
        narrow, wide, few, many = limits[transient.kind]
        assert narrow <= transient.width_s <= wide
        assert few <= transient.counts <= many
        assert 0 < transient.start_s < transient.start_s + transient.width_s < WHOLE_S
        if transient.kind == "eclipse":
            source = sky.sources[transient.eclipsed]
            assert source.rate * transient.width_s == pytest.approx(transient.counts)
            assert (source.dx_arcsec, source.dy_arcsec) == (transient.dx_arcsec, transient.dy_arcsec)
    apart = np.hypot(*(places(sky)[:, None] - places(sky)).transpose(2, 0, 1)) + 1e6 * np.eye(len(places(sky)))
    assert apart.min() >= 60


def test_everything_is_drawn_anew() -> None:
    skies = [drawn(seed) for seed in range(5)]
    for of in ("dx_arcsec", "dy_arcsec", "start_s", "width_s", "counts"):
        values = [getattr(t, of) for sky in skies for t in sky.transients if t.kind != "eclipse"]
        assert len(set(values)) >= len(values) - 2, of  # counts may end at a limit
    assert len({tuple(map(float, sky.proton_flares[:, 0])) for sky in skies}) == 5
    assert drawn(3).transients == drawn(3).transients


def test_quiet_skies_lack_transients_alone() -> None:
    sky, quiet = drawn(7), drawn(7, quiet=True)
    assert quiet.transients == ()
    assert quiet.sources == sky.sources
    np.testing.assert_array_equal(quiet.proton_flares, sky.proton_flares)
    assert all(source.amplitude == 0 for source in sky.sources)
    assert len(drawn(7, preset="A calm").proton_flares) == 0
    assert len(drawn(7, preset="A stormy").proton_flares) >= 24


@pytest.mark.parametrize("exposure_s", [2000.0, 8000.0, 60_000.0, 130_000.0])
@pytest.mark.parametrize("preset", ["B", "B dense"])
def test_other_lengths_hold_all_that_is_drawn(exposure_s: float, preset: str) -> None:
    for seed in range(5):
        sky = drawn(seed, exposure_s, preset)
        assert len(sky.transients) >= 3
        for transient in sky.transients:
            assert 0 < transient.start_s < transient.start_s + transient.width_s < exposure_s
        for out in draw_drop_outs(np.random.default_rng(seed), PRESETS[preset], exposure_s):
            assert 0 < out.start_s < out.stop_s < exposure_s
    assert len(drawn(0, 2000.0).transients) == 3
    assert len(drawn(0, 130_000.0).transients) == 19


def test_dense_skies_have_a_dozen_of_each_width() -> None:
    sky = drawn(1, preset="A dense")
    assert len(sky.transients) == N_DENSE * len(DENSE_WIDTHS_S) == 72
    for k, width in enumerate(DENSE_WIDTHS_S):
        mine = sky.transients[k * N_DENSE : (k + 1) * N_DENSE]
        assert {t.width_s for t in mine} == {width if width < 500 else FLARE_LENGTH * width}
        counts = np.array([t.counts for t in mine])
        assert counts.max() > 5 * counts.min()


def test_what_drops_out_of_b() -> None:
    assert draw_drop_outs(np.random.default_rng(1), A, WHOLE_S) == ()
    outs = draw_drop_outs(np.random.default_rng(1), B, WHOLE_S)
    assert [(out.camera, len(out.ccds), round(out.stop_s - out.start_s)) for out in outs] == [
        ("pn", 3, 260),
        ("pn", 12, 65),
        ("m2", 1, 900),
    ]
    again = draw_drop_outs(np.random.default_rng(2), B, WHOLE_S)
    assert all(one.start_s != other.start_s for one, other in zip(outs, again, strict=True))


def test_two_presets_of_one_seed_have_nothing_in_common(tmp_path: Path) -> None:
    one = simulate_archive(tmp_path / "a", 1, 5, 2000.0, preset=A).to_pylist()
    other = simulate_archive(tmp_path / "b", 2, 5, 2000.0, preset=B).to_pylist()
    assert {row["ra_deg"] for row in one}.isdisjoint({row["ra_deg"] for row in other})
    assert simulate_archive(tmp_path / "c", 1, 5, 2000.0, preset=B).to_pylist() == other[:3]  # whatever n


def test_one_camera_alone(tmp_path: Path) -> None:
    truth = simulate_archive(tmp_path, 1, 5, 2000.0, preset=A, cameras=["m1"])
    assert [path.name for path in tmp_path.rglob("*EVLI*")] == ["P0990000001M1S001MIEVLI0000.FTZ"]
    for row in truth.to_pylist():
        assert row["n_pn"] == row["n_m2"] == 0
        assert row["n_near"] <= row["n_m1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sky B of full length."""
    folder = tmp_path_factory.mktemp("b")
    simulate_archive(folder, 1, 31, WHOLE_S, preset=B)
    return folder


def test_the_sky_is_as_busy_as_it_should_be(whole: Path) -> None:
    kept = {events.camera: events.time.size for events in xscan.read(whole / "0990000001").lists}
    assert 170_000 < kept["pn"] < 250_000
    assert 60_000 < kept["m1"] < 90_000
    assert 60_000 < kept["m2"] < 90_000


def test_the_default_rules_reject_the_time_of_the_drop_outs(whole: Path) -> None:
    (run,) = xscan.scan(whole / "0990000001", views=["5:0.2-12"]).runs.to_pylist()
    assert 0.035 < run["n_frames_rejected"] / run["n_frames"] < 0.055
    assert 0 < run["n_frames_bad"] < 0.15 * run["n_frames"]


def test_a_silent_ccd_is_silent_and_no_table_says_so(whole: Path) -> None:
    (path,) = whole.rglob("*PNS003*")
    with fits.open(path) as made:
        events = made["EVENTS"].data
        assert set(np.unique(events["CCDNR"])) == set(range(1, 13))
        assert all(len(made[f"STDGTI{ccd:02d}"].data) == 1 for ccd in range(1, 13))
        ccd_5 = np.sort(events["TIME"][events["CCDNR"] == 5])
    gaps = np.diff(ccd_5)
    assert 240 < gaps.max() < 270 or 60 < gaps.max() < 335  # the drop-outs of pn may meet


def test_truth_says_what_lies_near_and_what_an_eclipse_hid(tmp_path: Path) -> None:
    rows = simulate_archive(tmp_path, 1, 31, 6000.0, preset=A).to_pylist()
    assert {row["kind"] for row in rows} == {"burst", "flare", "eclipse"}
    for row in rows:
        recorded = row["n_pn"] + row["n_m1"] + row["n_m2"]
        if row["kind"] == "eclipse":
            assert recorded == row["n_near"] == 0
            assert 0.2 * row["counts_expected"] < row["n_hidden"] < row["counts_expected"]
        else:
            assert row["n_near"] <= recorded
            assert row["n_hidden"] == 0
