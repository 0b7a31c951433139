from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers.lists import OBSID, T0, FakeList, fits_bytes, hdus, write_list, write_sources
from helpers.xmm_lists import TIMES, read, read_one

from xscan.backends import get_backend
from xscan.config import ScanConfig, load_config
from xscan.errors import ConfigError, DataError, Reason
from xscan.events.cuts import FlagCut
from xscan.missions.xmm.cuts import parse_flag_cut
from xscan.missions.xmm.event_list import read_event_list
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.model import InputFile, PixelMask, pixel_number

DEFAULT = load_config()
EXOD2 = load_config("exod2")


def kept(folder: Path, config: ScanConfig = DEFAULT, **columns: object) -> list[int]:
    """Which of six events survive."""
    fake = FakeList(time=TIMES, **columns)
    return (read_one(folder, fake, config).time - T0).astype(int).tolist()


def test_energies_and_patterns(tmp_path: Path) -> None:
    pi = [199, 200, 1000, 12_000, 12_001, 32_000]
    assert kept(tmp_path, pi=pi) == [1, 2, 3]
    assert kept(tmp_path, pattern=[0, 4, 5, 12, 13, 25]) == [0, 1, 2, 3]
    assert kept(tmp_path, pattern=[0, 4, 5, 12, 13, 25], camera="pn") == [0, 1]


def test_pn_singles_below(tmp_path: Path) -> None:
    config = replace(DEFAULT, pn_singles_below_kev=0.5)
    columns = {"camera": "pn", "pi": [300, 300, 499, 500, 700, 700], "pattern": [0, 1, 4, 4, 4, 0]}
    assert kept(tmp_path, config, **columns) == [0, 3, 4, 5]
    assert kept(tmp_path, **columns) == [0, 1, 2, 3, 4, 5]


def test_flags_by_the_lists_own_expression(tmp_path: Path) -> None:
    flag = [0, 0x1, 0x10000, 0x4, 0x20, 0x766BA000]
    assert kept(tmp_path, flag=flag) == [0, 1, 3, 4]  # standard MOS cut
    assert kept(tmp_path, flag=flag, header={"XMMEA_EM": "(FLAG & 0x766ba000) == 0"}) == [0, 1, 3, 4]
    assert kept(tmp_path, flag=flag, header={"XMMEA_EM": "(FLAG & 0x1) == 0"}) == [0, 2, 3, 4, 5]
    assert kept(tmp_path, flag=flag, camera="pn") == [0, 1]  # standard pn cut
    assert kept(tmp_path, flag=flag, config=EXOD2) == [0, 1, 2, 3, 4, 5]
    assert kept(tmp_path, camera="pn", rawy=[12, 13, 30, 40, 50, 60], header={"SUBMODE": "PrimeLargeWindow"}) == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip


def test_an_odd_flag_expression_is_never_run(tmp_path: Path) -> None:
    fake = FakeList(time=TIMES, flag=0x10000 * np.arange(6), header={"XMMEA_EM": "__import__('os').abort()"})
    events = read_one(tmp_path, fake)
    assert "standard flags" in events.info.message
    assert events.info.cuts["flag"] == 4  # all that have OUT_OF_FOV or IN_BAD_FRAME


@pytest.mark.parametrize(
    ("expression", "cut"),
    [
        ("(FLAG & 0x766ba000) == 0", FlagCut(0x766BA000)),
        ("(FLAG & 0x2fb0024)==0 && (RAWY > 12)", FlagCut(0x2FB0024, 12)),
        ("((FLAG & 0x10) == 0) && RAWY>12", FlagCut(0x10, 12)),
        ("(FLAG & 0x766ba000) != 0", None),
        ("", None),
        ("(FLAG & 0x10000000000000000) == 0", None),
        ("(FLAG & 0x10) == 0 && RAWY > 99999999999999999999", None),
    ],
)
def test_flag_expressions(expression: str, cut: FlagCut | None) -> None:
    assert parse_flag_cut(expression) == cut


def test_pn_borders_and_columns(tmp_path: Path) -> None:
    rawy = [23, 24, 196, 197, 100, 100]
    rawx = [30, 30, 30, 30, 4, 61]
    assert kept(tmp_path, camera="pn", rawy=rawy, rawx=rawx) == [1, 2]
    large = {"SUBMODE": "PrimeLargeWindow"}
    assert kept(tmp_path, camera="pn", rawy=rawy, rawx=rawx, header=large) == [0, 1, 2]
    assert kept(tmp_path, camera="pn", ccd=[4, 5, 10, 4, 5, 1], rawx=[12, 11, 28, 11, 12, 12]) == [3, 4, 5]


def test_central_mos_ccd_in_window_modes(tmp_path: Path) -> None:
    ccd = [1, 2, 11, 12, 3, 4]  # node x 10 + CCD
    assert kept(tmp_path, ccd=ccd) == [0, 1, 2, 3, 4, 5]
    assert kept(tmp_path, ccd=ccd, header={"SUBMODE": "PrimePartialW2"}) == [1, 3, 4, 5]
    events = read_one(tmp_path, FakeList(time=TIMES, ccd=ccd))
    assert events.ccd.tolist() == [1, 2, 1, 2, 3, 4]


def test_hot_pixels_apply_between_their_revolutions(tmp_path: Path) -> None:
    (tmp_path / "hotpix_M1.csv").write_text(
        "RAWX,RAWY,CCDNR,REV1,REV2\n30,100,2,849,851\n31,100,2,850,900\n32,100,2,0,850\n"
    )
    hot = HotPixels.load(tmp_path)
    fake = FakeList(
        time=TIMES, rawx=[30, 31, 32, 30, 30, -3], rawy=[100, 100, 100, 101, 100, 100], ccd=[2, 2, 2, 2, 3, 2]
    )
    events = read_one(tmp_path, fake, hot=hot)
    assert (events.time - T0).astype(int).tolist() == [1, 2, 3, 4, 5]
    assert events.info.cuts["hot_pixel"] == 1


def test_own_bad_pixels_run_along_y(tmp_path: Path) -> None:
    columns = {"rawx": [30, 30, 30, 30, 31, 30], "rawy": [99, 100, 102, 103, 100, 100], "ccd": [2, 2, 2, 2, 2, 3]}
    columns["bad_pixels"] = {2: [(30, 100, 3)]}
    assert kept(tmp_path, **columns) == [0, 3, 4, 5]
    assert kept(tmp_path, config=EXOD2, **columns) == [0, 1, 2, 3, 4, 5]


def test_pixel_mask_ignores_pixels_beyond_the_detector() -> None:
    mask = PixelMask()
    mask.add(1, np.array([-900, 5000, 10]), np.array([5, 5, 600]), np.array([1, 1, 5000]))
    far = pixel_number(np.array([1, 1]), np.array([-900, 9000]), np.array([5, 5]))
    assert not mask.marked(far).any()
    assert mask.marked(pixel_number(np.array([1]), np.array([10]), np.array([610]))).all()


def test_null_places(tmp_path: Path) -> None:
    x = [-99999999, 1, 51_840, 51_841, 0, 25_000]
    assert kept(tmp_path, x=x) == [1, 2, 5]
    assert kept(tmp_path, y=x) == [1, 2, 5]
    assert kept(tmp_path, x=x, null_xy=False) == [1, 2, 5]


def test_cuts_are_counted_in_order(tmp_path: Path) -> None:
    time = np.append(TIMES, [np.nan, np.inf])
    fake = FakeList(time=time, pi=[100, 1000, 1000, 1000, 1000, 1000, 1, 1], pattern=[20, 20, 0, 0, 0, 0, 0, 0])
    events = read_one(tmp_path, fake)
    assert list(events.info.cuts.items())[:3] == [("time", 2), ("pi", 1), ("pattern", 1)]
    assert events.event_span == (T0 + 2, T0 + 5)
    assert events.info.n_rows == 8


def test_event_span_ignores_detector_cuts(tmp_path: Path) -> None:
    events = read_one(tmp_path, FakeList(time=TIMES, flag=[0x10000, 0, 0, 0, 0, 0x10000]), EXOD2)
    assert events.event_span == (T0, T0 + 5)


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        (FakeList(time=TIMES, header={"SUBMODE": "FastUncompressed"}), Reason.MODE),
        (FakeList(time=TIMES, header={"SUBMODE": "PrimeSmallWindow"}, camera="pn"), Reason.MODE),
        (FakeList(time=TIMES, header={"SUBMODE": "Novel"}), Reason.MODE),
        (FakeList(time=TIMES, header={"FILTER": "CalClosed"}), Reason.FILTER),
        (FakeList(time=TIMES, header={"FILTER": "CalThin1"}), Reason.FILTER),
        (FakeList(time=TIMES, primary={"REFXCRVL": "REMOVE"}), Reason.NO_TANGENT_PLANE),
        (FakeList(time=TIMES, primary={"REFXCDLT": 0.05 / 3600}), Reason.NO_TANGENT_PLANE),
        (FakeList(time=TIMES, pi=100), Reason.NO_EVENTS),
        (FakeList(time=[]), Reason.NO_EVENTS),
        (FakeList(time=TIMES, gti={2: [], 3: []}), Reason.NO_GOOD_TIME),
        (FakeList(time=[T0, T0 + 3e8]), Reason.TIME_SPAN),
        (FakeList(time=TIMES, drop_columns=["PI"]), Reason.NO_EVENTS_TABLE),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, fake: FakeList, reason: Reason) -> None:
    write_list(tmp_path / OBSID, fake)
    write_list(tmp_path / OBSID, FakeList(camera="m2", time=TIMES))
    observation = read(tmp_path / OBSID, DEFAULT)
    assert [info.reason for info in observation.skipped] == [reason]
    assert [events.camera for events in observation.lists] == ["m2"]  # the neighbour is not lost
    assert "\n" not in observation.skipped[0].message


def test_plane_from_the_events_header(tmp_path: Path) -> None:
    plane = {"REFXCRVL": 10.0, "REFYCRVL": -5.0, "REFXCRPX": 25_921, "REFYCRPX": 25_921}
    plane |= {"REFXCDLT": -0.05 / 3600, "REFYCDLT": 0.05 / 3600}
    gone = dict.fromkeys(plane, "REMOVE")
    assert read_one(tmp_path, FakeList(time=TIMES, header=plane, primary=gone)).plane.ra_deg == 10.0
    with pytest.raises(DataError, match="contradictory"):
        read_one(tmp_path, FakeList(time=TIMES, header=plane | {"REFXCRVL": 10.01}, primary=plane))


def test_good_time_tables(tmp_path: Path) -> None:
    wide, narrow = {2: [(T0, T0 + 10)], 3: [(T0, T0 + 10)]}, {2: [(T0 + 1, T0 + 3)]}
    exposures = {2: ([T0 + 1.0], [2.0], [0.5])}
    events = read_one(tmp_path, FakeList(time=TIMES, gti=wide, exposures=exposures))
    np.testing.assert_array_equal(events.good_time[2].gti, [[T0, T0 + 10]])
    np.testing.assert_array_equal(events.good_time[2].livetime, [[T0, T0 + 2], [0, 1]])
    assert events.good_time[3].livetime is None
    # the filter that somebody applied is narrower than the pipeline's
    events = read_one(tmp_path, FakeList(time=TIMES[1:4], gti=wide, narrow_gti=narrow))
    np.testing.assert_array_equal(events.good_time[2].gti, [[T0 + 1, T0 + 3]])
    np.testing.assert_array_equal(events.good_time[3].gti, [[T0, T0 + 10]])
    assert read_one(tmp_path, FakeList(time=TIMES, gti=wide), EXOD2).good_time == {}


def test_good_time_by_data_subspace(tmp_path: Path) -> None:
    subspace = {"DSTYP1": "CCDNR", "DSVAL1": "3", "DSTYP2": "TIME", "DSREF2": ":GTI00002"}
    fake = FakeList(time=TIMES, gti={3: [(T0, T0 + 10)]}, filters={"GTI00002": [(T0 + 1, T0 + 3)]}, header=subspace)
    np.testing.assert_array_equal(read_one(tmp_path, fake).good_time[3].gti, [[T0 + 1, T0 + 3]])


def test_read_out_frames_without_good_time(tmp_path: Path) -> None:
    events = read_one(tmp_path, FakeList(time=TIMES, exposures={2: ([T0 + 1.0], [2.0], [0.5])}))
    np.testing.assert_array_equal(events.good_time[2].gti, [[T0, T0 + 5]])
    assert events.good_time[2].livetime is not None


def test_read_out_frames_that_say_nothing(tmp_path: Path) -> None:
    fake = FakeList(time=TIMES, gti={2: [(T0, T0 + 5)]}, exposures={2: ([np.nan, T0], [2.0, 0.0], [0.5, 0.5])})
    assert read_one(tmp_path, fake).good_time[2].livetime is None


def test_good_time_far_from_the_events_is_cut(tmp_path: Path) -> None:
    events = read_one(tmp_path, FakeList(time=TIMES, gti={2: [(T0 - 5e6, T0 + 5e6)]}))
    np.testing.assert_array_equal(events.good_time[2].gti, [[T0 - 600, T0 + 605]])


def test_filters_win_over_the_pipeline_whatever_the_subspace(tmp_path: Path) -> None:
    subspace = {"DSTYP1": "CCDNR", "DSVAL1": "2", "DSTYP2": "TIME", "DSREF2": ":STDGTI02"}
    fake = FakeList(time=TIMES[1:4], gti={2: [(T0, T0 + 10)]}, narrow_gti={2: [(T0 + 1, T0 + 3)]}, header=subspace)
    np.testing.assert_array_equal(read_one(tmp_path, fake).good_time[2].gti, [[T0 + 1, T0 + 3]])


def test_null_of_a_scaled_column(tmp_path: Path) -> None:
    made = hdus(FakeList(time=TIMES))
    old = made["EVENTS"].columns
    columns = [c for c in old if c.name != "X"]
    columns.append(fits.Column("X", "J", bzero=1000, null=-999, array=np.array([1, 25_000, 1, 26_000, 30_000, 51_840])))
    made[1] = fits.BinTableHDU.from_columns(columns, header=made[1].header)
    path = tmp_path / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.write_bytes(fits_bytes(made))
    events, _ = read_event_list(
        path, InputFile(path.name, 1, camera="m1"), OBSID, DEFAULT, HotPixels(), get_backend("auto").events
    )
    assert events.x.tolist() == [25_000, 26_000, 30_000, 51_840]
    assert events.info.cuts["null_xy"] == 2


def test_headers_that_contradict_the_name(tmp_path: Path) -> None:
    write_list(tmp_path / OBSID, FakeList(time=TIMES, header={"OBS_ID": "0000000009"}))
    write_list(tmp_path / OBSID, FakeList(camera="m2", time=TIMES, header={"INSTRUME": "RGS1"}))
    skipped = read(tmp_path / OBSID, DEFAULT).skipped
    assert [info.reason for info in skipped] == [Reason.CONTRADICTORY, Reason.OTHER_TELESCOPE]
    assert "0000000009" in skipped[0].message
    assert "this is an RGS list (INSTRUME = 'RGS1'); xscan reads XMM-Newton EPIC" in skipped[1].message
    write_list(tmp_path / "0000000009", FakeList(time=TIMES))
    with pytest.raises(DataError, match="holds files of 0999999901"):
        read(tmp_path / "0000000009", DEFAULT)


def test_unknown_revolution_is_said(tmp_path: Path) -> None:
    (tmp_path / "hotpix_M1.csv").write_text("RAWX,RAWY,CCDNR,REV1,REV2\n30,100,2,849,851\n")
    hot = HotPixels.load(tmp_path)
    assert (
        read_one(
            tmp_path, FakeList(time=TIMES, rawx=np.arange(30, 36), header={"REVOLUT": "850.0"}), hot=hot
        ).info.cuts["hot_pixel"]
        == 1
    )
    events = read_one(tmp_path, FakeList(time=TIMES, header={"REVOLUT": "REMOVE"}), hot=hot)
    assert "hot_pixel" not in events.info.cuts
    assert "no REVOLUT" in events.info.message


def test_a_broken_copy_does_not_hide_a_good_one(tmp_path: Path) -> None:
    broken = write_list(tmp_path / OBSID, FakeList(time=TIMES))
    broken.write_bytes(broken.read_bytes()[:500])
    write_list(tmp_path / OBSID / "pps", FakeList(time=TIMES))
    observation = read(tmp_path / OBSID, DEFAULT)
    assert len(observation.lists) == 1
    assert [info.reason for info in observation.skipped] == [Reason.UNREADABLE]


def test_a_timing_list_is_no_duplicate(tmp_path: Path) -> None:
    write_list(tmp_path / OBSID, FakeList(time=TIMES))
    write_list(tmp_path / OBSID, FakeList(time=TIMES), name=f"P{OBSID}M1S001TIEVLI0000.FTZ")
    assert [info.reason for info in read(tmp_path / OBSID, DEFAULT).skipped] == [Reason.MODE]


def test_an_unforeseen_error_costs_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_list(tmp_path / OBSID, FakeList(time=TIMES))
    write_list(tmp_path / OBSID, FakeList(camera="m2", time=TIMES))

    def explode(path: Path, info: InputFile, *rest: object) -> object:
        if info.camera == "m1":
            raise RuntimeError("out of cheese")
        return read_event_list(path, info, *rest)

    monkeypatch.setattr("xscan.missions.xmm.observation.read_event_list", explode)
    observation = read(tmp_path / OBSID, DEFAULT)
    assert [events.camera for events in observation.lists] == ["m2"]
    assert [info.reason for info in observation.skipped] == [Reason.ERROR]


def test_real_lists(real_observation: Path) -> None:
    observation = read(real_observation, DEFAULT)
    assert (observation.obsid, observation.target) == ("0001730201", "HD159176")
    assert [(e.camera, e.info.n_rows, e.revolution) for e in observation.lists] == [
        ("m1", 134_685, 229),
        ("m2", 131_604, 229),
    ]
    assert sorted(observation.lists[0].good_time) == [1, 2, 3, 4, 5, 6, 7]
    assert observation.sources is not None
    assert observation.skipped == ()  # background light curves (FBKTSR) are no event lists


def test_files_are_found_also_in_pps(tmp_path: Path) -> None:
    short = f"P{OBSID}M1S001MIEVLI.FTZ"  # the trailing 0000 may be absent
    write_list(tmp_path / OBSID / "pps", FakeList(time=TIMES), name=short)
    for folder in (tmp_path / OBSID, tmp_path / OBSID / "pps"):
        observation = read(folder, DEFAULT)
        assert observation.obsid == OBSID
        assert [events.info.file for events in observation.lists] == [short]
    assert observation.sources is None
    assert observation.source_file is None


def test_the_same_exposure_twice(tmp_path: Path) -> None:
    write_list(tmp_path / OBSID, FakeList(time=TIMES))
    write_list(tmp_path / OBSID, FakeList(time=TIMES), name=f"P{OBSID}M1S001MIEVLI.FTZ")
    observation = read(tmp_path / OBSID, DEFAULT)
    assert len(observation.lists) == 1
    assert [info.reason for info in observation.skipped] == [Reason.DUPLICATE]


def test_folders_that_are_no_observation(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / OBSID, DEFAULT)
    (tmp_path / OBSID).mkdir()
    (tmp_path / OBSID / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match="among 1 files"):
        read(tmp_path / OBSID, DEFAULT)
    write_list(tmp_path / "heap", FakeList(time=TIMES))
    write_list(tmp_path / "heap", FakeList(time=TIMES), obsid="0999999902")
    with pytest.raises(DataError, match="holds files of 0999999901, 0999999902"):
        read(tmp_path / "heap", DEFAULT)


def test_source_lists(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    write_list(folder, FakeList(time=TIMES))
    path = write_sources(
        folder, [(150.0, 2.0, 30.0, 0.0, 0.2), (np.nan, 2.0, 30.0, 0.0, 0.2), (150.0, 2.1, 9.0, 0.0, np.nan)]
    )
    observation = read(folder, DEFAULT)
    assert observation.sources is not None
    assert observation.sources.rate == pytest.approx([0.2, 0.0])
    path.write_bytes(b"<html>")
    observation = read(folder, DEFAULT)
    assert observation.sources is None
    assert observation.source_file is not None
    assert observation.source_file.reason is Reason.UNREADABLE
    assert len(observation.lists) == 1


def test_hot_pixel_tables_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no hot-pixel table"):
        HotPixels.load(tmp_path)
    (tmp_path / "hotpix_PN.csv").write_text("x,y\n")
    with pytest.raises(ConfigError, match="line 1"):
        HotPixels.load(tmp_path)
    (tmp_path / "hotpix_PN.csv").write_text("RAWX,RAWY,CCDNR,REV1,REV2\n1,2,3,4,5\n1,2,three,4,5\n")
    with pytest.raises(ConfigError, match="line 3"):
        HotPixels.load(tmp_path)


def test_a_missing_number_that_no_column_holds(tmp_path: Path) -> None:
    """Found by scripts/fuzz, seed 795: TNULL6 = 1E300."""
    made = hdus(FakeList(time=TIMES))
    made["EVENTS"].header["TNULL6"] = 1e300
    path = tmp_path / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.write_bytes(fits_bytes(made))
    info = InputFile(path.name, 1, camera="m1")
    events, _ = read_event_list(path, info, OBSID, DEFAULT, HotPixels(), get_backend("auto").events)
    assert events.time.size == TIMES.size


def test_a_scale_that_no_number_bears(tmp_path: Path) -> None:
    made = hdus(FakeList(time=TIMES))
    made["EVENTS"].header["TZERO9"] = 1e300
    path = tmp_path / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.write_bytes(fits_bytes(made))
    with pytest.raises(DataError, match="TZERO 1e\\+300"):
        read_event_list(
            path, InputFile(path.name, 1, camera="m1"), OBSID, DEFAULT, HotPixels(), get_backend("auto").events
        )


def test_what_is_known_of_a_list_that_ends_behind_its_events(tmp_path: Path) -> None:
    content = fits_bytes(hdus(FakeList(time=TIMES, gti={2: [(T0, T0 + 10)]})))
    path = tmp_path / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir()
    path.write_bytes(content[:-3000])
    (info,) = read(path.parent, DEFAULT).skipped
    assert (info.reason, info.submode, info.n_rows) == (Reason.UNREADABLE, "PrimeFullWindow", TIMES.size)


def test_bad_pixels_that_mark_everything_many_times() -> None:
    mask = PixelMask()
    n = 3_000
    mask.add(2, np.arange(n) % 600, np.zeros(n, int), np.full(n, 32_767))
    inside = pixel_number(np.full(3, 2), np.array([0, 5, 599]), np.array([0, 300, 623]))
    assert mask.marked(inside).all()
    assert not mask.marked(pixel_number(np.array([3, 2]), np.array([5, 600]), np.array([5, 5]))).any()
