"""Good-time tables held against the events: filters by component and number, strays, damaged rows, messy files."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers.lists import OBSID, T0, FakeList, fits_bytes, hdus, quiet_list, write_list
from helpers.xmm_lists import TIMES, read, read_one

import xscan
from xscan.config import load_config
from xscan.errors import Reason
from xscan.io.fits import Header
from xscan.missions.xmm.gti import Subspace
from xscan.model import EventList

DEFAULT, EXOD2 = load_config(), load_config("exod2")
WHOLE_S, PART_S = 10_000.0, 400.0
Spans = Sequence[tuple[float, float]]


def spans(part: float = PART_S, start: float = 0.0) -> Spans:
    return [(T0 + 1000 * i + start, T0 + 1000 * i + start + part) for i in range(10)]


def within(fake: FakeList, kept: Spans) -> FakeList:
    time = np.asarray(fake.time)
    inside = np.zeros(time.size, bool)
    for start, stop in kept:
        inside |= (time >= start) & (time <= stop)
    return fake.take(np.flatnonzero(inside))


def cleaned(ccds: Sequence[int] = range(1, 8), kept: Spans | None = None, **more: object) -> FakeList:
    """A MOS list filtered in time, with the pipeline's wide tables beside it."""
    rng = np.random.default_rng(3)
    fake = quiet_list(rng, "m1", WHOLE_S, rate=1.5)
    fake = replace(fake, ccd=rng.choice(np.array(ccds), len(np.asarray(fake.time))))
    wide = {ccd: [(T0, T0 + WHOLE_S)] for ccd in range(1, 8)}
    return replace(within(fake, spans() if kept is None else kept), gti=wide, **more)


def subspace(ccds: Sequence[int], number: int = 6, lost: Sequence[str] = ()) -> dict[str, str]:
    """The keywords with which evselect says what each component, a CCD, was filtered by."""
    header = {"DSTYP1": "CCDNR", "DSTYP4": "PATTERN", "DSVAL4": ":12", f"DSTYP{number}": "TIME"}
    header[f"DSVAL{number}"] = "TABLE"
    for i, ccd in enumerate(ccds):
        component = "" if i == 0 else str(i + 1)
        header |= {f"{component}DSVAL1": str(ccd), f"{component}DSREF{number}": f":GTI{i:03d}{number:02d}"}
    return {key: value for key, value in header.items() if key not in lost}


def tables(n: int, number: int = 6, kept: Spans | None = None) -> dict[str, Spans]:
    return {f"GTI{i:03d}{number:02d}": spans() if kept is None else kept for i in range(n)}


def seconds(events: EventList) -> dict[int, int]:
    return {ccd: round(float(np.diff(good.gti).sum())) for ccd, good in sorted(events.good_time.items())}


SEVEN = list(range(1, 8))


@pytest.mark.parametrize(
    "lost", [(), ("DSTYP6",), ("2DSREF6", "5DSREF6"), ("3DSVAL1",), ("DSTYP1",), ("7DSVAL1", "7DSREF6")], ids=str
)
def test_filters_are_by_component(tmp_path: Path, lost: Sequence[str]) -> None:
    """0201903501 has GTI00006 ... GTI00606 for CCDs 1 to 7; not GTI000nn for CCD nn."""
    fake = cleaned(filters=tables(7), header=subspace(SEVEN, lost=lost))
    assert seconds(read_one(tmp_path, fake)) == dict.fromkeys(SEVEN, 4000)
    assert seconds(read_one(tmp_path, replace(fake, header={}))) == dict.fromkeys(SEVEN, 4000)


@pytest.mark.parametrize("with_keywords", [True, False])
def test_a_lost_ccd_shifts_the_components(tmp_path: Path, with_keywords: bool) -> None:
    """In 0404910601 MOS1 has lost CCD 6: component 6 is CCD 7."""
    ccds = [1, 2, 3, 4, 5, 7]
    wide = {ccd: [(T0, T0 + WHOLE_S)] for ccd in ccds}
    fake = replace(cleaned(ccds, filters=tables(6)), gti=wide)
    # CCD 7 was filtered a little differently, which tells its table from the others
    fake = replace(fake, filters=tables(5) | {"GTI00506": spans(PART_S + 50)})
    fake = replace(fake, header=subspace(ccds) if with_keywords else {})
    assert seconds(read_one(tmp_path, fake)) == dict.fromkeys(ccds[:5], 4000) | {7: 4500}


def test_ccdid_says_which_ccd_a_filter_is_of(tmp_path: Path) -> None:
    narrow = {7: spans(450), 1: spans(), 2: spans(500)}  # components in another order, and CCDs without any
    fake = cleaned([1, 2, 7], narrow_gti=narrow)
    found = seconds(read_one(tmp_path, fake))
    assert (found[1], found[2], found[7]) == (4000, 5000, 4500)


@pytest.mark.parametrize("with_keywords", [True, False])
def test_of_two_filters_the_last_one_counts(tmp_path: Path, with_keywords: bool) -> None:
    first, last = spans(800), spans(PART_S)
    fake = cleaned(filters=tables(7, 6, first) | tables(7, 8, last))
    fake = replace(fake, header=subspace(SEVEN, 8) if with_keywords else {})
    assert seconds(read_one(tmp_path, fake)) == dict.fromkeys(SEVEN, 4000)


def test_a_filter_that_the_events_do_not_obey_is_not_theirs(tmp_path: Path) -> None:
    wrong = spans(PART_S, start=500)  # when there is no event
    fake = cleaned(filters=tables(7, 6) | tables(7, 9, wrong))
    assert seconds(read_one(tmp_path, fake)) == dict.fromkeys(SEVEN, 4000)
    told = replace(fake, header=subspace(SEVEN, 9))
    events = read_one(tmp_path, told)
    assert seconds(events) == dict.fromkeys(SEVEN, 4000)
    assert "not believed" in events.info.message


def test_one_filter_without_components_is_of_every_ccd(tmp_path: Path) -> None:
    """As after evselect cleandss=yes."""
    fake = cleaned(filters={"GTI00001": spans()})
    assert seconds(read_one(tmp_path, fake)) == dict.fromkeys(SEVEN, 4000)
    fake = replace(fake, header={"DSTYP1": "TIME", "DSVAL1": "TABLE", "DSREF1": ":GTI00001"})
    assert seconds(read_one(tmp_path, fake)) == dict.fromkeys(SEVEN, 4000)


def test_two_time_filters_of_one_component_both_apply(tmp_path: Path) -> None:
    header = {"DSTYP1": "TIME", "DSREF1": ":GTI00001", "DSTYP2": "TIME", "DSREF2": ":GTI00002"}
    filters = {"GTI00001": spans(600), "GTI00002": [(a - 100, b) for a, b in spans()]}
    assert seconds(read_one(tmp_path, cleaned(filters=filters, header=header))) == dict.fromkeys(SEVEN, 4000)


def test_an_events_own_filter_makes_no_eclipse(tmp_path: Path) -> None:
    """What it is for: with the pipeline's tables most frames are gaps that look like dead detectors."""
    write_list(tmp_path / OBSID, cleaned(filters=tables(7)))
    (row,) = xscan.scan(tmp_path / OBSID, views=["200:0.2-12"]).runs.to_pylist()
    assert (row["n_regions"], round(row["good_s_m1"] + row["bad_s_m1"] + row["rejected_s_m1"])) == (0, 4000)


def test_real_filtered_lists(real_clean_observation: Path) -> None:
    lists = read(real_clean_observation, DEFAULT).lists
    assert [(events.camera, events.info.exposure) for events in lists] == [("m1", "S001"), ("m2", "S002")]
    for events in lists:
        with fits.open(real_clean_observation / events.info.file) as theirs:
            stated = [theirs[f"GTI{ccd - 1:03d}06"].data for ccd in SEVEN]
        assert seconds(events) == {
            c: round(float((t["STOP"] - t["START"]).sum())) for c, t in zip(SEVEN, stated, strict=True)
        }
        assert all(good.livetime is not None for good in events.good_time.values())
        assert events.info.message == ""


# energies


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("500:10000", (500, 10_000)),
        (":10000", (200, 10_000)),
        ("(300:12000)", (300, 12_000)),
        ("(300:12000", (300, 12_000)),
        ("400:2000,3000:8000", (400, 8000)),
        ("200:12000", None),
        ("100:", None),
        ("nonsense", None),
        ("600:7900", (600, 7900)),
        ("4000:5000", None),  # the events say otherwise,
        ("601:7900", None),  # be it a single one
        ("600:7899", None),
    ],
)
def test_energies_that_were_cut_are_told(tmp_path: Path, value: str, left: tuple[int, int] | None) -> None:
    header = {"DSTYP1": "PI", "DSVAL1": value}
    events = read_one(tmp_path, FakeList(time=TIMES, pi=[600, 700, 800, 900, 1900, 7900], header=header))
    assert events.pi_filter == left
    said = f"the list holds PI {left[0]}..{left[1]} eV only (its DS keywords)" if left else ""
    assert events.info.message.endswith(said)


# times


def strays(*times: float, fake: FakeList | None = None) -> FakeList:
    """A list with rows of damaged TIME, good otherwise."""
    fake = fake or quiet_list(np.random.default_rng(4), "m1", 2000.0, rate=8.0)
    rows = fake.take(np.arange(len(times)))
    joined = {
        name: np.concatenate([getattr(fake, name), getattr(rows, name)])
        for name in ("x", "y", "pi", "ccd", "rawx", "rawy")
    }
    return replace(fake, time=np.concatenate([fake.time, times]), **joined)


@pytest.mark.parametrize(
    "times",
    [(T0 - 864_000,), (1e30,), (-1e30,), (-5.0,), (0.0,) * 20, (T0 + 1e7, T0 - 1e7, 1e30, np.nan), (np.inf, 5e8)],
    ids=str,
)
@pytest.mark.parametrize("tables", [True, False])
@pytest.mark.parametrize("profile", ["default", "exod2"])
def test_a_few_bad_times_cost_a_few_rows(tmp_path: Path, times: tuple[float, ...], tables: bool, profile: str) -> None:
    clean = quiet_list(np.random.default_rng(4), "m1", 2000.0, rate=8.0)
    clean = clean if tables else replace(clean, gti={})
    config = load_config(profile)
    wanted, events = read_one(tmp_path, clean, config), read_one(tmp_path, strays(*times, fake=clean), config)
    np.testing.assert_array_equal(events.time, wanted.time)
    assert events.event_span == wanted.event_span
    assert events.info.cuts["time"] == len(times)
    assert events.good_time.keys() == wanted.good_time.keys()
    for ccd, good in events.good_time.items():
        np.testing.assert_array_equal(good.gti, wanted.good_time[ccd].gti)


def test_a_search_with_bad_times_is_the_search_without(tmp_path: Path) -> None:
    write_list(tmp_path / "a" / OBSID, quiet_list(np.random.default_rng(4), "m1", 2000.0, rate=8.0))
    write_list(tmp_path / "b" / OBSID, strays(T0 - 864_000, 1e30))
    a, b = (xscan.scan(tmp_path / name / OBSID, views=["50:0.2-12"]) for name in "ab")
    changed = {"inputs", "inputs_digest", "seconds_read", "seconds_spent", "finished_utc"}
    assert a.runs.drop_columns(list(changed)).equals(b.runs.drop_columns(list(changed)))
    assert b.runs.to_pylist()[0]["inputs"][0]["cut_time"] == 2


def test_a_stray_within_two_orbits_does_not_stretch_good_time(tmp_path: Path) -> None:
    wide = {ccd: [(T0 - 1e6, T0 - 9e5), (T0, T0 + 2000)] for ccd in range(2, 8)}
    fake = replace(strays(T0 - 100_000.0), gti=wide)
    events = read_one(tmp_path, fake)
    assert events.event_span[0] >= T0
    assert all(good.gti[0, 0] >= T0 - 600 for good in events.good_time.values())


def test_times_that_are_really_spread_are_refused_and_the_cuts_kept(tmp_path: Path) -> None:
    fake = quiet_list(np.random.default_rng(4), "m1", 2000.0)
    time = np.array(fake.time)
    time[::2] += 3e7
    write_list(tmp_path / OBSID, replace(fake, time=time, pattern=np.where(np.arange(time.size) % 10, 0, 20)))
    (info,) = read(tmp_path / OBSID, DEFAULT).skipped
    assert info.reason is Reason.TIME_SPAN
    assert "of its times lie within two orbits" in info.message
    assert "evselect" in info.message
    assert info.cuts["pattern"] == len(range(0, time.size, 10))


@pytest.mark.parametrize(
    "row", [(T0 - 1e9, T0 + 1e9), (np.nan, T0 + 5), (T0 + 5, np.nan), (T0 + 9, T0 + 5), (1e300, 1e301)], ids=str
)
def test_damaged_rows_of_good_time(tmp_path: Path, row: tuple[float, float]) -> None:
    sound = [(T0 + 100, T0 + 900), (T0 + 1000, T0 + 1900)]
    fake = replace(strays(), gti={ccd: [*sound, row] for ccd in range(2, 8)})
    events = read_one(tmp_path, fake)
    for good in events.good_time.values():
        np.testing.assert_array_equal(good.gti, sound)


@pytest.mark.parametrize(
    "row", [(1e30, 2.6, 1.0), (np.nan, 2.6, 1.0), (T0, 1e9, 1.0), (T0 + 1000, np.inf, 1.0)], ids=str
)
def test_damaged_read_out_frames(tmp_path: Path, row: tuple[float, float, float]) -> None:
    middle = np.arange(T0 + 1.3, T0 + 2000, 2.6)
    columns = (middle, middle * 0 + 2.6, middle * 0 + 0.5)
    frames = tuple(np.append(column, value) for column, value in zip(columns, row, strict=True))
    fake = strays()
    (wanted, events) = (
        read_one(tmp_path, replace(fake, exposures=dict.fromkeys(range(2, 8), table))) for table in (columns, frames)
    )
    for ccd, good in events.good_time.items():
        live = [one.livetime for one in (good, wanted.good_time[ccd])]
        assert live[0] is not None
        assert live[1] is not None
        at = np.linspace(T0, T0 + 2000, 50)
        np.testing.assert_allclose(*(np.diff(np.interp(at, *curve)) for curve in live))


def test_good_time_of_another_epoch_is_not_believed(tmp_path: Path) -> None:
    fake = strays()
    moved = {ccd: [(a + 1e8, b + 1e8) for a, b in table] for ccd, table in fake.gti.items()}
    events = read_one(tmp_path, replace(fake, gti=moved))
    assert "STDGTI02" in events.info.message
    for good in events.good_time.values():
        np.testing.assert_array_equal(good.gti, [events.event_span])


def test_events_outside_of_good_time_are_told(tmp_path: Path) -> None:
    fake = strays()
    half = {ccd: [(T0, T0 + 1000)] for ccd in range(2, 8)}
    share = np.mean(np.asarray(fake.time) > T0 + 1000)
    said = read_one(tmp_path, replace(fake, gti=half)).info.message
    assert f"{share:.0%} of its events lie outside its good time, and are cut" in said


# what is left of it


@pytest.mark.parametrize(
    ("change", "cut", "why"),
    [
        ({"pattern": 20}, "pattern", "PATTERN is above 4"),
        ({"pi": 100}, "pi", "PI is outside"),
        ({"flag": 0x10000}, "flag", "FLAG"),
        ({"x": -99_999_999}, "null_xy", "attcalc"),
        ({"time": np.full(6, np.nan)}, "time", "TIME"),
    ],
)
def test_no_events_names_the_cut_and_keeps_it(tmp_path: Path, change: Mapping[str, object], cut: str, why: str) -> None:
    write_list(tmp_path / OBSID, FakeList(**({"time": TIMES} | dict(change))))
    (row,) = xscan.scan(tmp_path / OBSID, views=["50:0.2-12"]).runs.to_pylist()
    (info,) = row["inputs"]
    assert (info["reason"], info[f"cut_{cut}"]) == ("no_events", 6)
    assert f"most went by cut_{cut}: 6" in info["message"]
    assert why in info["message"]


def test_cuts_of_a_list_rejected_for_its_good_time_are_kept(tmp_path: Path) -> None:
    write_list(tmp_path / OBSID, FakeList(time=TIMES, pattern=[20, 0, 0, 0, 0, 0], gti={2: [], 3: []}))
    (info,) = read(tmp_path / OBSID, DEFAULT).skipped
    assert (info.reason, info.cuts["pattern"]) == (Reason.NO_GOOD_TIME, 1)


# files as tools leave them


def test_unsigned_columns(tmp_path: Path) -> None:
    made = hdus(FakeList(time=TIMES, pi=[300, 1000, 9000, 40_000, 150, 2000], rawx=np.arange(30, 36)))
    columns = [c for c in made["EVENTS"].columns if c.name not in ("PI", "RAWX")]
    columns.append(fits.Column("PI", "I", bzero=32_768, array=np.array([300, 1000, 9000, 40_000, 150, 2000])))
    columns.append(fits.Column("RAWX", "I", bzero=32_768, array=np.arange(30, 36)))
    made[1] = fits.BinTableHDU.from_columns(columns, header=made["EVENTS"].header)
    path = tmp_path / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(fits_bytes(made)))
    (events,) = read(path.parent, DEFAULT).lists
    assert events.pi.tolist() == [300, 1000, 9000, 2000]
    wanted = read_one(tmp_path / "other", FakeList(time=TIMES[[0, 1, 2, 5]], rawx=[30, 31, 32, 35]))
    np.testing.assert_array_equal(events.pixel, wanted.pixel)


@pytest.mark.parametrize(
    "behind", [b"\0" * 2880, b"\0" * 17, b" " * 5000, b"something\0else", b"XTENSIO", b"\0" * 100_000], ids=repr
)
@pytest.mark.parametrize("packed", [True, False])
def test_bytes_behind_the_last_table(tmp_path: Path, behind: bytes, packed: bool) -> None:
    content = fits_bytes(hdus(FakeList(time=TIMES, gti={2: [(T0, T0 + 10)]}))) + behind
    path = tmp_path / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(content) if packed else content)
    assert len(read(path.parent, DEFAULT).lists) == 1


@pytest.mark.parametrize("behind", [b"\0" * 512, b"\0"])
def test_padding_behind_the_gzip_stream(tmp_path: Path, behind: bytes) -> None:
    path = write_list(tmp_path / OBSID, FakeList(time=TIMES))
    path.write_bytes(path.read_bytes() + behind)
    assert len(read(path.parent, DEFAULT).lists) == 1


def test_text_that_ends_in_nuls(tmp_path: Path) -> None:
    content = fits_bytes(hdus(FakeList(time=TIMES, header={"FILTER": "Medium__", "TELESCOP": "XMM_____"})))
    content = content.replace(b"'Medium__'", b"'Medium\0\0'").replace(b"'XMM_____'", b"'XMM\0\0\0\0\0'")
    path = tmp_path / OBSID / f"P{OBSID}M1S001MIEVLI0000.FTZ"
    path.parent.mkdir()
    path.write_bytes(content)
    (events,) = read(path.parent, DEFAULT).lists
    assert events.info.filter == "Medium"


def test_a_components_own_table_comes_before_that_of_the_first() -> None:
    """The third component says nothing of time: its table is the third of the first one's series, if there is one."""
    cards = {"DSTYP1": "CCDNR", "DSVAL1": "1", "2DSVAL1": "2", "3DSVAL1": "3"}
    cards |= {"DSTYP6": "TIME", "DSREF6": ":GTI00006", "2DSREF6": ":GTI00406"}
    subspace_of = Subspace(Header(fits.Header(cards).tostring().encode()))
    known = {f"GTI{k:03d}06": np.zeros((0, 2)) for k in range(5)}
    assert subspace_of.components() == [1, 2, 3]
    assert [subspace_of.references(k, "TIME", known) for k in (1, 2, 3)] == [["GTI00006"], ["GTI00406"], ["GTI00206"]]
    assert subspace_of.references(3, "TIME", {}) == ["GTI00006"]
    assert [subspace_of.values(k, "CCDNR") for k in (1, 2, 3)] == [[1], [2], [3]]
