"""Event lists under any name: in folders and given one by one, by header where no name says what they are."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command import run
from helpers.lists import OBSID, T0, FakeList, fits_bytes, hdus, quiet_list, write_list, write_sources
from helpers.xmm_lists import TIMES, read

import xscan
from xscan.config import load_config
from xscan.errors import ConfigError, DataError, Reason
from xscan.missions import Files
from xscan.missions.xmm.files import files_of, places
from xscan.pipeline.digests import inputs_digest

DEFAULT = load_config()
VIEWS = ["50:0.2-12"]


def header(camera: str = "m1", exposure: str = "S001", obsid: str = OBSID) -> dict[str, str]:
    instrument = {"pn": "EPN", "m1": "EMOS1", "m2": "EMOS2"}[camera]
    return {"TELESCOP": "XMM", "INSTRUME": instrument, "EXPIDSTR": exposure, "OBS_ID": obsid, "DATAMODE": "IMAGING"}


def sas_list(
    path: Path, camera: str = "m1", exposure: str = "S001", n: int = 6, obsid: str = OBSID, **keywords: str
) -> Path:
    """An event list under a name of one's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = T0 + np.arange(float(n))
    made = hdus(FakeList(camera, exposure, time=time, header=header(camera, exposure, obsid) | keywords))
    content = fits_bytes(made)
    path.write_bytes(gzip.compress(content) if path.suffix.lower() in (".gz", ".ftz") else content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "0800_0999999901_EMOS1_S001_ImagingEvts.ds",
        "mos1.fits",
        "mos1_exp1_clean_evts.fits.gz",
        "M1.FIT.gz",
        "P0999999901M1S001MIEVLI0000.FIT.gz",
        "P0999999901M1S001MIEVLI0000.fits.GZ",
        "events",
    ],
)
@pytest.mark.parametrize("place", ["", "pps"])
def test_a_list_is_known_whatever_its_name(tmp_path: Path, name: str, place: str) -> None:
    folder = tmp_path / OBSID
    sas_list(folder / place / name)
    observation = read(folder, DEFAULT)
    (events,) = observation.lists
    assert (observation.obsid, events.camera, events.info.exposure) == (OBSID, "m1", "S001")
    assert events.info.file == name
    assert files_of(folder) == [folder / place / name]
    assert xscan.scan(folder, views=VIEWS).runs.to_pylist()[0]["obsid"] == OBSID


def test_the_folder_names_an_observation_whose_lists_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "0999999905"
    for camera in ("m1", "m2"):
        sas_list(folder / f"{camera}.fits", camera, OBS_ID="REMOVE", EXPIDSTR="REMOVE")
    observation = read(folder, DEFAULT)
    assert observation.obsid == "0999999905"
    assert [(events.camera, events.info.exposure) for events in observation.lists] == [("m1", ""), ("m2", "")]


def test_a_folder_of_any_name(tmp_path: Path) -> None:
    sas_list(tmp_path / "work" / "mos1.fits")
    assert read(tmp_path / "work", DEFAULT).obsid == OBSID
    sas_list(tmp_path / "work" / "mos2.fits", "m2", obsid="0999999902")
    with pytest.raises(DataError, match="holds files of 0999999901, 0999999902"):
        read(tmp_path / "work", DEFAULT)


def test_other_files_change_nothing_where_names_say_it_all(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    write_list(folder, quiet_list(np.random.default_rng(1), "m1", 1000.0))
    before, wanted = inputs_digest(folder), xscan.scan(folder, views=VIEWS)
    sas_list(folder / "mos2.fits", "m2")
    sas_list(folder / "mos1_clean.fits.gz")
    (folder / "image.fits").write_bytes(fits_bytes(hdus(FakeList(time=TIMES)))[:2880])
    assert inputs_digest(folder) == before
    again = xscan.scan(folder, views=VIEWS)
    kept = [name for name in wanted.runs.column_names if not name.startswith(("seconds", "finished"))]
    assert again.runs.select(kept).equals(wanted.runs.select(kept))


def test_what_is_no_list_of_epic_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    sas_list(folder / "mos1.fits")
    before = inputs_digest(folder)
    sas_list(folder / "rgs.fits", INSTRUME="RGS1")
    sas_list(folder / "chandra.fits", TELESCOP="CHANDRA")
    (folder / "notes.txt").write_text("mine")
    (folder / "empty.fits").write_bytes(b"")
    (folder / "cut.fits.gz").write_bytes(gzip.compress(b"SIMPLE  =" + b" " * 5000)[:40])
    made = hdus(FakeList(time=TIMES))
    del made["EVENTS"]
    (folder / "image.fits").write_bytes(fits_bytes(made))
    observation = read(folder, DEFAULT)
    assert [events.info.file for events in observation.lists] == ["mos1.fits"]
    assert observation.skipped == ()
    assert inputs_digest(folder) == before


def test_files_known_by_header_have_a_fingerprint(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    path = sas_list(folder / "mos1.fits")
    before = inputs_digest(folder)
    assert before
    sas_list(folder / "mos2.fits", "m2")
    both = inputs_digest(folder)
    assert both not in ("", before)
    path.unlink()
    path.symlink_to(tmp_path / "not mounted")
    assert inputs_digest(folder) == ""  # what is not here says nothing


def test_of_a_raw_and_a_cleaned_list_the_longer_is_read(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    sas_list(folder / "mos1_clean.fits", n=20)
    raw = sas_list(folder / "mos1_raw.fits", n=40)
    observation = read(folder, DEFAULT)
    assert [events.info.file for events in observation.lists] == ["mos1_raw.fits"]
    (info,) = observation.skipped
    assert (info.file, info.reason) == ("mos1_clean.fits", Reason.DUPLICATE)
    assert (
        "this exposure was read from mos1_raw.fits; to search this file instead, remove the other one" in info.message
    )
    raw.write_bytes(raw.read_bytes()[:-2000])  # a damaged one does not hide the other
    observation = read(folder, DEFAULT)
    assert [events.info.file for events in observation.lists] == ["mos1_clean.fits"]
    assert [info.reason for info in observation.skipped] == [Reason.UNREADABLE]


def test_a_timing_list_is_told(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    sas_list(folder / "mos1_img.fits")
    sas_list(folder / "mos1_tim.fits", SUBMODE="FastUncompressed", DATAMODE="TIMING")
    observation = read(folder, DEFAULT)
    assert len(observation.lists) == 1
    assert [(info.file, info.reason) for info in observation.skipped] == [("mos1_tim.fits", Reason.MODE)]


def test_a_folder_without_a_list_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / OBSID).mkdir()
    sas_list(tmp_path / OBSID / "rgs.fits", INSTRUME="RGS1")
    with pytest.raises(DataError, match=r"no EPIC event list among 1 files, by name .* or by header") as caught:
        read(tmp_path / OBSID, DEFAULT)
    assert "download" not in str(caught.value)


# files that are given


def test_files_of_one_observation(tmp_path: Path) -> None:
    one = sas_list(tmp_path / "a" / "mos1.fits")
    other = sas_list(tmp_path / "b" / "mos2.fits", "m2")
    observation = xscan.read([one, str(other)])
    assert [events.camera for events in observation.lists] == ["m1", "m2"]
    assert observation.obsid == OBSID
    assert [events.camera for events in xscan.read(one).lists] == ["m1"]
    tables = xscan.scan([one, other], views=VIEWS)
    assert {info["file"] for info in tables.runs.to_pylist()[0]["inputs"]} == {"mos1.fits", "mos2.fits"}


def test_files_of_several_observations_are_no_single_one(tmp_path: Path) -> None:
    one = sas_list(tmp_path / "mos1.fits")
    other = sas_list(tmp_path / "mos2.fits", "m2", obsid="0999999902")
    with pytest.raises(ConfigError, match=r"2 observations \(0999999901, 0999999902\)"):
        xscan.read([one, other])
    with pytest.raises(ConfigError, match="no file"):
        xscan.read([])
    assert [place.name for place in places([one, other])] == ["0999999901", "0999999902"]


def test_folders_and_files_together(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    path = write_list(folder, FakeList(time=TIMES))
    write_sources(folder, [(150.0, 2.0, 30.0, 0.0, 0.2)])
    extra = sas_list(tmp_path / "mos2.fits", "m2")
    assert places([folder]) == [folder]
    (place,) = places([folder, extra])
    assert isinstance(place, Files)
    assert place.paths == (path, extra)
    observation = xscan.read([folder, extra])
    assert [events.camera for events in observation.lists] == ["m1", "m2"]
    assert observation.sources is not None
    other = tmp_path / "0999999902"
    write_list(other, FakeList(time=TIMES), obsid="0999999902")
    assert places([folder, other]) == [folder, other]


def test_a_source_list_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / OBSID
    write_list(folder, FakeList(time=TIMES))
    made = write_sources(tmp_path / "elsewhere", [(150.0, 2.0, 30.0, 0.0, 0.2)])
    sources = made.rename(made.with_name("my sources.fits"))
    assert xscan.read(folder).sources is None
    for paths in (folder, [next(folder.iterdir())]):
        observation = xscan.read(paths, sources=sources)
        assert observation.sources is not None
        assert observation.source_file is not None
        assert observation.source_file.file == "my sources.fits"
    with pytest.raises(ConfigError, match="give sources to read"):
        xscan.scan(xscan.read(folder), sources=sources)
    with pytest.raises(DataError, match="no such file"):
        xscan.read(folder, sources=tmp_path / "gone")
    with pytest.raises(DataError, match="give it as --sources"):
        xscan.read(sources)
    other = write_list(tmp_path / "0999999902", FakeList(time=TIMES), obsid="0999999902")
    with pytest.raises(DataError, match="--sources is of one observation"):
        places([folder, other], sources)
    (info,) = [xscan.read(folder, sources=next(folder.iterdir())).source_file]
    assert info is not None
    assert info.reason is Reason.NO_SOURCE_TABLE


def test_what_a_file_is_that_is_no_event_list(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("remember the milk\n")
    (tmp_path / "list").write_text("# mine\n0001730201\n0201903501  # the other\n")
    (tmp_path / "page").write_text("<!DOCTYPE html><html>503")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04\0\0 a zip file")
    chandra = sas_list(tmp_path / "acis.fits", TELESCOP="CHANDRA", INSTRUME="ACIS")
    rgs = sas_list(tmp_path / "rgs.fits", INSTRUME="RGS2")
    for name, said in (
        ("notes", "a text file; xscan scan takes folders and event lists"),
        ("list", "a list of observations; search them with xscan archive --obslist"),
        ("page", "a text file"),
        ("zip", "no FITS file"),
        (chandra.name, "this is a Chandra list"),
        (rgs.name, "this is an RGS list"),
    ):
        with pytest.raises(DataError, match=said):
            xscan.read(tmp_path / name)


def test_the_command_takes_files(tmp_path: Path) -> None:
    one = tmp_path / "mos1.fits"
    folder = tmp_path / "made"
    path = write_list(folder, quiet_list(np.random.default_rng(1), "m1", 1000.0))
    shutil.copy(path, one)
    sources = write_sources(tmp_path / "s", [(150.0, 2.0, 30.0, 0.0, 0.2)])
    two = sas_list(tmp_path / "pn.fits", "pn", obsid="0999999907")
    out = tmp_path / "out"
    done = run("scan", one, "--sources", sources, "--out", out, "--view", "50:0.2-12")
    assert done.returncode == 0, done.stderr
    (row,) = xscan.open_results(out).table("runs").to_pylist()
    assert row["source_list"] == "used"
    files = xscan.open_results(out).table("inputs").to_pylist()
    assert {info["file"] for info in files} == {"mos1.fits", sources.name}
    done = run("scan", two, folder, "--out", out, "--view", "50:0.2-12")
    assert done.returncode in (0, 1), done.stderr
    assert "0999999907" in {row["obsid"] for row in xscan.open_results(out).table("runs").to_pylist()}
    (tmp_path / "notes").write_text("remember the milk\n")
    done = run("scan", tmp_path / "notes", "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a text file" in done.stderr
    assert "Traceback" not in done.stderr


def test_real_filtered_lists_are_found_by_header(real_clean_observation: Path) -> None:
    observation = read(real_clean_observation, DEFAULT)
    assert (observation.obsid, observation.skipped) == ("0201903501", ())
    assert len(inputs_digest(real_clean_observation)) == 16


def test_what_is_named_like_a_list_and_is_none_is_told(tmp_path: Path, rng: np.random.Generator) -> None:
    """Beside a list that can be read: nothing named like an event list goes missing without a word."""
    folder = tmp_path / OBSID
    good = write_list(folder, quiet_list(rng, "m1", 500))
    odd = write_list(folder, quiet_list(rng, "m2", 500, exposure="S002")).rename(
        folder / f" P{OBSID}M2S002MIEVLI0000.FTZ"
    )
    (folder / f"P{OBSID}PNS003PIEVLI0000.FTZ").symlink_to(tmp_path / "nowhere")
    (folder / f"P{OBSID}PNS004PIEVLI0000.FTZ").mkdir()
    (folder / "P0000000009M1S001MIEVLI0000.FTZ").write_bytes(good.read_bytes())
    (folder / f"xP{OBSID}M1S001MIEVLI0000.FTZ").write_bytes(b"no FITS")
    (folder / f"P{OBSID}M1S001MIEVLI0000.PDF").write_bytes(b"a picture")
    (folder / f"P{OBSID}EPX000OBSMLI0000.FTZ").write_bytes(b"no FITS")
    (folder / f"P{OBSID}EPX000OBSMLI0001.FTZ").write_bytes(b"no FITS")
    read = xscan.read(folder)
    assert [events.info.file for events in read.lists] == [good.name, odd.name]
    assert {(info.file, info.reason) for info in read.skipped} == {
        (f"P{OBSID}PNS003PIEVLI0000.FTZ", Reason.UNREADABLE),
        (f"P{OBSID}PNS004PIEVLI0000.FTZ", Reason.UNREADABLE),
        ("P0000000009M1S001MIEVLI0000.FTZ", Reason.CONTRADICTORY),
        (f"xP{OBSID}M1S001MIEVLI0000.FTZ", Reason.UNREADABLE),
        (f"P{OBSID}EPX000OBSMLI0001.FTZ", Reason.DUPLICATE),
    }
    (link,) = [info for info in read.skipped if "PNS003" in info.file]
    assert (link.camera, link.exposure) == ("pn", "S003")
    assert f"a link to {tmp_path / 'nowhere'}, which is not there" in link.message
    assert all(info.message.startswith(info.file) for info in read.skipped)
    tables = xscan.scan(folder, views=["50:0.2-12"])
    assert {row["file"] for row in tables.inputs.to_pylist() if row["reason"]} >= {info.file for info in read.skipped}
