"""Time systems of event lists: converted where that is exact, else refused by the keyword's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.lists import OBSID, T0, FakeList, fits_bytes, hdus, quiet_list, with_burst, write_list
from helpers.xmm_lists import TIMES, read, read_one

import xscan
from xscan.config import load_config
from xscan.errors import DataError, Reason
from xscan.model import EventList

DEFAULT = load_config()
USUAL = {"TELESCOP": "XMM", "TIMESYS": "TT", "TIMEREF": "LOCAL", "MJDREF": 50_814.0, "TIMEZERO": 0.0, "TIMEUNIT": "s"}
GOOD = {2: [(T0, T0 + 10)]}


def test_a_list_of_the_pipeline_stays_as_it_is_to_the_bit(tmp_path: Path) -> None:
    time = T0 + np.random.default_rng(1).uniform(0, 10, 100)
    events = read_one(tmp_path, FakeList(time=time, gti=GOOD, header=USUAL))
    np.testing.assert_array_equal(events.time, time)
    assert (events.time_system, events.barycentred, events.info.message) == ("TT", False, "")


@pytest.mark.parametrize(
    ("header", "shift"),
    [
        ({"MJDREF": 55_000.0}, 4186 * 86_400.0),
        ({"MJDREF": 50_814.0, "TIMEZERO": 1000.0}, 1000.0),
        ({"TIMEZERO": -2.5}, -2.5),
        ({"MJDREFI": 50_814, "MJDREFF": 0.25}, 21_600.0),
        ({"MJDREFI": 55_000, "MJDREFF": 0.0, "TIMEZERO": 1000.0}, 4186 * 86_400.0 + 1000),
        ({"MJDREF": "5.0814E4"}, 0.0),
    ],
)
def test_other_origins_are_converted(tmp_path: Path, header: dict[str, object], shift: float) -> None:
    events = read_one(tmp_path, FakeList(time=TIMES, gti=GOOD, header=header))
    np.testing.assert_array_equal(events.time, TIMES + shift)
    # a table that names no origin of its own counts as the events do
    np.testing.assert_array_equal(events.good_time[2].gti, [[T0 + shift, T0 + 10 + shift]])
    assert events.event_span == (T0 + shift, T0 + 5 + shift)
    assert ("mission time" in events.info.message) == (shift != 0)
    assert all(f"{key} = " in events.info.message for key in header) or not shift


def test_each_table_counts_by_its_own_header(tmp_path: Path) -> None:
    fake = FakeList(time=TIMES - 86_400, gti=GOOD, exposures={2: ([T0 + 5.0 - 500], [12.0], [0.5])})
    made = hdus(replace(fake, header={"MJDREF": 50_815.0}))
    made["STDGTI02"].header["MJDREF"] = 50_814.0
    made["EXPOSU02"].header.update({"MJDREFI": 50_814, "MJDREFF": 0.0, "TIMEZERO": 500.0})
    path = tmp_path / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir()
    path.write_bytes(fits_bytes(made))
    (events,) = read(path.parent, DEFAULT).lists
    np.testing.assert_array_equal(events.time, TIMES)
    np.testing.assert_array_equal(events.good_time[2].gti, [[T0, T0 + 10]])
    assert events.good_time[2].livetime is not None
    np.testing.assert_array_equal(events.good_time[2].livetime[0], [T0 - 1, T0 + 11])


def refused(folder: Path, fake: FakeList, tables: dict[str, dict[str, object]] | None = None) -> DataError:
    made = hdus(fake)
    for name, keywords in (tables or {}).items():
        made[name].header.update(keywords)
    path = folder / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(fits_bytes(made))
    (info,) = read(path.parent, DEFAULT).skipped
    assert info.reason is not None
    return DataError(info.reason, info.message)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"EVENTS": {"TIMESYS": "UTC"}}, "TIMESYS is UTC"),
        ({"EVENTS": {"TIMESYS": "LT"}}, "TIMESYS is LT"),
        ({"EVENTS": {"TIMEREF": "HELIOCENTRIC"}}, "TIMEREF is HELIOCENTRIC"),
        ({"EVENTS": {"TUNIT1": "d"}}, "TUNIT1 .* is 'd'"),
        ({"EVENTS": {"TIMEUNIT": "d"}}, "TIMEUNIT is 'd'"),
        ({"EVENTS": {"MJDREF": "yesterday"}}, "MJDREF is 'yesterday'"),
        ({"EVENTS": {"MJDREF": 50_814.0, "MJDREFI": 55_197}}, r"MJDREF is not MJDREFI \+ MJDREFF"),
        ({"EVENTS": {"MJDREF": 0.0}}, "times are around -4.256e.09 s of mission time"),
        ({"EVENTS": {"MJDREF": 50_814.0, "TIMEZERO": 1e300}}, "times are around 1e.300 s"),
        ({"STDGTI02": {"TUNIT2": "ms"}}, "TUNIT2 .* is 'ms'.*STDGTI02"),
        ({"STDGTI02": {"TIMESYS": "UTC"}}, "TIMESYS is UTC.*STDGTI02"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(
    tmp_path: Path, keywords: dict[str, dict[str, object]], said: str
) -> None:
    error = refused(tmp_path, FakeList(time=TIMES, gti=GOOD), keywords)
    assert error.reason is Reason.OTHER_TIME_SYSTEM
    with pytest.raises(DataError, match=said):
        raise error


@pytest.mark.parametrize("unit", ["s", "S", "sec", "SECONDS ", "second", ""])
def test_units_of_seconds(tmp_path: Path, unit: str) -> None:
    made = hdus(FakeList(time=TIMES, gti=GOOD))
    for name in ("EVENTS", "STDGTI02"):
        made[name].header["TUNIT1"] = unit
    path = tmp_path / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir()
    path.write_bytes(fits_bytes(made))
    assert len(read(path.parent, DEFAULT).lists) == 1


@pytest.mark.parametrize(
    ("keywords", "system"),
    [
        ({"TIMESYS": "TT"}, ("TT", False)),
        ({"TIMESYS": "TDB"}, ("TDB", False)),
        ({"TIMESYS": "TDB", "TIMEREF": "SOLARSYSTEM"}, ("TDB", True)),
        ({"TIMESYS": "TT", "TIMEREF": "SOLARSYSTEM"}, ("TDB", True)),  # as SAS's barycen leaves it
        ({"TIMEREF": "GEOCENTRIC"}, ("TT", False)),
    ],
)
def test_time_systems_are_told(tmp_path: Path, keywords: dict[str, str], system: tuple[str, bool]) -> None:
    events = read_one(tmp_path, FakeList(time=TIMES, gti=GOOD, header=keywords))
    assert (events.time_system, events.barycentred) == system
    np.testing.assert_array_equal(events.time, TIMES)
    assert bool(events.info.message) == (keywords != {"TIMESYS": "TT"})


def test_a_barycentred_list_is_not_searched_with_one_that_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    write_list(tmp_path / OBSID, quiet_list(rng, "m1", 2000.0))
    write_list(tmp_path / OBSID, replace(quiet_list(rng, "m2", 900.0), header={"TIMEREF": "SOLARSYSTEM"}))
    (row,) = xscan.scan(tmp_path / OBSID, views=["50:0.2-12"]).runs.to_pylist()
    assert row["state"] == "done"
    assert {info["camera"]: info["reason"] for info in row["inputs"]} == {"m1": None, "m2": "other_time_system"}
    said = next(info["message"] for info in row["inputs"] if info["camera"] == "m2")
    assert "TDB at the barycentre, those of others TT at the satellite" in said


def barycentred(seconds: float, moved: float, tables_too: bool) -> FakeList:
    """A list of which events and good time were moved; a burst is at its end."""
    rng = np.random.default_rng(5)
    fake = quiet_list(rng, "m1", seconds)
    fake = with_burst(fake, rng, 60, seconds - 160, 100, 26_000, 26_100).shifted(moved)
    middle = np.arange(T0 + 1.3, T0 + seconds, 2.6) + (moved if tables_too else 0)
    frames = dict.fromkeys(range(2, 8), (middle, middle * 0 + 2.6, middle * 0 + 1))
    return replace(fake, exposures=frames, header={"TIMEREF": "SOLARSYSTEM"} if moved else {})


def burst(folder: Path, fake: FakeList) -> tuple[EventList, int, int]:
    """The list, rejected frames, regions."""
    write_list(folder / OBSID, fake)
    tables = xscan.scan(folder / OBSID, views=["50:0.2-12"])
    (row,) = tables.runs.to_pylist()
    return read(folder / OBSID, DEFAULT).lists[0], row["n_frames_rejected"], tables.regions.num_rows


@pytest.mark.parametrize(("seconds", "moved"), [(4000.0, 450.0), (100_000.0, 450.0), (4000.0, -300.0)])
def test_read_out_frames_that_were_not_moved_are_not_believed(tmp_path: Path, seconds: float, moved: float) -> None:
    events, rejected, regions = burst(tmp_path, barycentred(seconds, moved, tables_too=False))
    assert events.good_time[2].livetime is None
    assert "EXPOSUnn not believed" in events.info.message
    assert "processexposutables" in events.info.message
    assert (rejected, regions) == (0, 1)


@pytest.mark.parametrize("moved", [0.0, 450.0])
def test_read_out_frames_that_cover_the_events_are_believed(tmp_path: Path, moved: float) -> None:
    events, rejected, regions = burst(tmp_path, barycentred(4000.0, moved, tables_too=True))
    assert events.good_time[2].livetime is not None
    assert "not believed" not in events.info.message
    assert (rejected, regions) == (0, 1)


def test_read_out_frames_of_one_ccd_that_lost_half(tmp_path: Path) -> None:
    fake = barycentred(4000.0, 0.0, tables_too=True)
    frames = dict(fake.exposures)
    frames[3] = tuple(np.asarray(column)[::2] for column in frames[3])  # beside every event there is still a frame
    middle, length, fraction = (np.asarray(column) for column in frames[4])
    lost = (middle > T0 + 400) & (middle < T0 + 900)
    frames[4] = (middle[~lost], length[~lost], fraction[~lost])
    events = read_one(tmp_path, replace(fake, exposures=frames))
    believed = [ccd for ccd, good in events.good_time.items() if good.livetime is not None]
    assert 4 not in believed
    assert {2, 5, 6, 7} <= set(believed) or "EXPOSUnn not believed" in events.info.message


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"TELESCOP": "CHANDRA"}, r"this is a Chandra list \(TELESCOP = 'CHANDRA'\); xscan reads XMM-Newton EPIC"),
        ({"TELESCOP": "SWIFT", "INSTRUME": "XRT"}, "this is a Swift list"),
        ({"TELESCOP": "eROSITA"}, "this is an eROSITA list"),
        ({"TELESCOP": "NuSTAR"}, "this is a NuSTAR list"),
        ({"TELESCOP": "Sputnik"}, "this is a list of Sputnik"),
        ({"INSTRUME": "OM"}, "this is an OM list"),
    ],
)
def test_lists_of_others_say_what_they_are(tmp_path: Path, keywords: dict[str, str], said: str) -> None:
    write_list(tmp_path / OBSID, FakeList(time=TIMES, gti=GOOD, header=keywords))
    (row,) = xscan.scan(tmp_path / OBSID, views=["50:0.2-12"]).runs.to_pylist()
    assert (row["state"], row["reason"]) == ("skipped", "other_telescope")
    with pytest.raises(DataError, match=said):
        raise DataError(Reason.OTHER_TELESCOPE, row["message"])


def test_times_of_single_precision_are_refused(tmp_path: Path) -> None:
    made = hdus(FakeList(time=TIMES, gti=GOOD))
    from astropy.io import fits

    columns = [fits.Column("TIME", "E", array=TIMES), *list(made["EVENTS"].columns)[1:]]
    made[1] = fits.BinTableHDU.from_columns(columns, header=made["EVENTS"].header, name="EVENTS")
    path = tmp_path / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir()
    path.write_bytes(fits_bytes(made))
    (info,) = read(path.parent, DEFAULT).skipped
    assert info.reason is Reason.NO_EVENTS_TABLE
    assert "single precision" in info.message
