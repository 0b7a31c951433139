"""Everything the archive and its users can get wrong: one clear line, a reason code, no lost neighbour."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers.command import run
from helpers.lists import OBSID, T0, FakeList, fits_bytes, hdus, quiet_list, write_list, write_sources

import xscan
from xscan.errors import Reason

VIEWS = ["20:0.2-12"]
SECONDS = 600.0


def good(camera: str = "m1") -> FakeList:
    return quiet_list(np.random.default_rng(8), camera, SECONDS)


def path_of(folder: Path, camera: str = "m1") -> Path:
    content = "PIEVLI" if camera == "pn" else "MIEVLI"
    return folder / f"P{OBSID}{camera.upper()}S001{content}0000.FTZ"


def packed(change: Callable[[fits.HDUList], None], fake: FakeList | None = None) -> bytes:
    made = hdus(fake or good())
    change(made)
    return gzip.compress(fits_bytes(made), 1)


def drop_events(made: fits.HDUList) -> None:
    del made["EVENTS"]


def change_column(name: str, form: str) -> Callable[[fits.HDUList], None]:
    def change(made: fits.HDUList) -> None:
        events = made["EVENTS"]
        n = len(events.data)
        values = np.array(["x"] * n) if "A" in form else np.zeros((n, 3)) if form[0] == "3" else np.zeros(n)
        columns = [c for c in events.columns if c.name != name] + [fits.Column(name, form, array=values)]
        header = events.header.copy()
        for key in [key for key in header if key.startswith(("TTYPE", "TFORM", "TNULL"))]:
            del header[key]
        made[made.index_of("EVENTS")] = fits.BinTableHDU.from_columns(columns, header=header, name="EVENTS")

    return change


WHOLE = gzip.compress(fits_bytes(hdus(good())), 1)
DAMAGED = {
    "truncated": (WHOLE[: len(WHOLE) // 2], Reason.UNREADABLE),
    "corrupt": (WHOLE[:900] + b"\x55" * 60 + WHOLE[960:], Reason.UNREADABLE),
    "not gzip": (b"PK\x03\x04 a zip file", Reason.UNREADABLE),
    "HTML": (b"<!DOCTYPE html><html><body>503 Service Unavailable</body></html>", Reason.UNREADABLE),
    "empty file": (b"", Reason.UNREADABLE),
    "FITS without EVENTS": (packed(drop_events), Reason.NO_EVENTS_TABLE),
    "text in a column": (packed(change_column("PI", "4A")), Reason.NO_EVENTS_TABLE),
    "three numbers a row": (packed(change_column("TIME", "3D")), Reason.NO_EVENTS_TABLE),
    "real where whole is needed": (packed(change_column("FLAG", "D")), Reason.NO_EVENTS_TABLE),
}
FAKES = {
    "a needed column missing": (replace(good(), drop_columns=["CCDNR"]), Reason.NO_EVENTS_TABLE),
    "empty list": (FakeList(time=[]), Reason.NO_EVENTS),
    "every TIME not a number": (replace(good(), time=np.full(len(good().time), np.nan)), Reason.NO_EVENTS),
    "times ten years apart": (FakeList(time=[T0, T0 + 3.15e8]), Reason.TIME_SPAN),
    "one event": (FakeList(time=[T0]), Reason.NO_GOOD_TIME),
    "all events at one time": (FakeList(time=np.full(50, T0)), Reason.NO_GOOD_TIME),
    "empty good time": (replace(good(), gti={2: [], 3: []}), Reason.NO_GOOD_TIME),
    "timing mode": (replace(good(), header={"SUBMODE": "FastUncompressed"}), Reason.MODE),
    "unknown mode": (replace(good(), header={"SUBMODE": "Prime"}), Reason.MODE),
    "no mode": (replace(good(), header={"SUBMODE": "REMOVE"}), Reason.MODE),
    "closed filter": (replace(good(), header={"FILTER": "Closed"}), Reason.FILTER),
    "calibration lamp": (replace(good(), header={"FILTER": "CalMedium"}), Reason.FILTER),
    "no tangent plane": (
        replace(good(), primary=dict.fromkeys(("REFXCRVL", "REFYCRVL"), "REMOVE")),
        Reason.NO_TANGENT_PLANE,
    ),
    "contradictory tangent plane": (replace(good(), primary={"REFYCRPX": 12.0}), Reason.NO_TANGENT_PLANE),
    "two tangent planes": (
        replace(
            good(),
            header={
                "REFXCRVL": 151.0,
                "REFYCRVL": 2.0,
                "REFXCRPX": 25_921,
                "REFYCRPX": 25_921,
                "REFXCDLT": -0.05 / 3600,
                "REFYCDLT": 0.05 / 3600,
            },
        ),
        Reason.NO_TANGENT_PLANE,
    ),
    "another observation's header": (replace(good(), header={"OBS_ID": "0000000001"}), Reason.CONTRADICTORY),
}


def check(folder: Path, reason: Reason) -> None:
    """The damaged list alone gives its reason; beside a good one it costs nothing else."""
    (row,) = xscan.scan(folder, views=VIEWS).runs.to_pylist()
    assert row["reason"] == reason
    assert row["state"] in ("failed", "skipped")
    assert row["message"]
    assert "\n" not in row["message"]
    write_list(folder, good("m2"))
    (row,) = xscan.scan(folder, views=VIEWS).runs.to_pylist()
    assert row["state"] == "done"
    assert reason in [info["reason"] for info in row["inputs"]]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(tmp_path: Path, name: str) -> None:
    content, reason = DAMAGED[name]
    folder = tmp_path / OBSID
    folder.mkdir()
    path_of(folder).write_bytes(content)
    check(folder, reason)


@pytest.mark.parametrize("name", FAKES)
def test_lists_without_use(tmp_path: Path, name: str) -> None:
    fake, reason = FAKES[name]
    write_list(tmp_path / OBSID, fake)
    check(tmp_path / OBSID, reason)


def test_some_times_not_finite(tmp_path: Path) -> None:
    fake = good()
    time = np.array(fake.time)
    time[[3, 50]] = np.nan, np.inf
    write_list(tmp_path / OBSID, replace(fake, time=time))
    (row,) = xscan.scan(tmp_path / OBSID, views=VIEWS).runs.to_pylist()
    assert row["state"] == "done"
    assert row["inputs"][0]["cut_time"] == 2


def test_all_events_in_one_frame(tmp_path: Path) -> None:
    fake = good()
    time = T0 + 41 + np.random.default_rng(1).uniform(0, 18, len(fake.time))
    write_list(tmp_path / OBSID, replace(fake, time=time))
    for views, state in ((["20:0.2-12"], "done"), (["5:0.2-12"], "done"), (["700:0.2-12"], "skipped")):
        for profile in ("default", "exod2"):
            (row,) = xscan.scan(tmp_path / OBSID, views=views, profile=profile).runs.to_pylist()
            # EXOD2's range goes from the first to the last event: less than one frame of 20 s
            short = profile == "exod2" and views == ["20:0.2-12"]
            assert row["state"] == ("skipped" if short else state)


def test_exposures_that_do_not_overlap(tmp_path: Path) -> None:
    write_list(tmp_path / OBSID, good("m1"))
    write_list(tmp_path / OBSID, good("m2").shifted(50_000.0))
    runs = xscan.scan(tmp_path / OBSID, views=VIEWS).runs.to_pylist()
    assert [(row["subset"], row["state"]) for row in runs] == [(0, "done"), (1, "done")]
    chain = tmp_path / "chain" / OBSID
    for k, camera in enumerate(("pn", "m1", "m2")):
        write_list(chain, good(camera).shifted(550.0 * k))
    (row,) = xscan.scan(chain, views=VIEWS).runs.to_pylist()
    assert (row["state"], row["reason"]) == ("skipped", "no_common_time")


def test_camera_and_ccd_absent(tmp_path: Path) -> None:
    pn = good("pn")
    keep = np.flatnonzero(np.asarray(pn.ccd) != 5)
    for profile in ("default", "exod2"):
        folder = tmp_path / profile / OBSID
        write_list(folder, pn.take(keep))
        (row,) = xscan.scan(folder, views=VIEWS, profile=profile).runs.to_pylist()
        assert row["state"] == "done", profile
        assert row["good_s_m1"] is None


@pytest.mark.parametrize(
    ("rows", "status"),
    [([], "used"), ([(10.0, 80.0, 50.0, 0.0, 1.0)], "used"), (None, "absent"), ("cut", "no_source_table")],
)
def test_source_lists(tmp_path: Path, rows: object, status: str) -> None:
    folder = tmp_path / OBSID
    write_list(folder, good())
    if rows == "cut":
        path = write_sources(folder, [(150.0, 2.0, 50.0, 0.0, 1.0)])
        made = fits.open(path)
        made["SRCLIST"].columns.del_col("EP_TOT")
        path.write_bytes(gzip.compress(fits_bytes(fits.HDUList([h.copy() for h in made]))))
    elif rows is not None:
        write_sources(folder, rows)
    (row,) = xscan.scan(folder, views=VIEWS).runs.to_pylist()
    assert (row["state"], row["source_list"]) == ("done", status)


def test_a_band_without_events(tmp_path: Path) -> None:
    fake = good()
    write_list(tmp_path / OBSID, replace(fake, pi=np.full(len(fake.time), 700)))
    runs = xscan.scan(tmp_path / OBSID, views=["20:2-12", "20:0.2-2"]).runs.to_pylist()
    assert [(row["state"], row["reason"]) for row in runs] == [("empty", "empty_band"), ("done", None)]


def test_ccds_that_were_never_live(tmp_path: Path) -> None:
    """Read-out frames that say 0 of each: not the band is empty, and not the frames were rejected one by one."""
    middle, ccds = T0 + np.arange(0.5, SECONDS), range(2, 8)
    dead = dict.fromkeys(ccds, (middle, np.ones(middle.size), np.zeros(middle.size)))
    write_list(tmp_path / OBSID, replace(good(), exposures=dead))
    for views in (["20:0.2-12"], ["20:2-12", "600:0.2-2"]):
        for row in xscan.scan(tmp_path / OBSID, views=views).runs.to_pylist():
            assert (row["state"], row["reason"]) == ("skipped", "no_live_frame")
            assert "no CCD was live at any time" in row["message"]


def test_time_that_fills_no_frame_is_told(tmp_path: Path) -> None:
    write_list(tmp_path / OBSID, good())
    runs = xscan.scan(tmp_path / OBSID, views=["350:0.2-12", "270:0.2-12", "271:0.2-2"]).runs.to_pylist()
    assert [row["state"] for row in runs] == ["done"] * 3
    assert runs[0]["remarks"] == "the last 250 of 600 s fill no frame and were not searched"
    assert runs[1]["remarks"] is None  # 60 s, a tenth
    assert runs[2]["remarks"] is None
    done = run("scan", tmp_path / OBSID, "--out", tmp_path / "out", "--view", "350:0.2-12")
    assert "view 350:0.2-12: the last 250 of 600 s fill no frame" in done.stderr


def test_a_long_span_does_not_allocate(tmp_path: Path) -> None:
    """Good time that claims centuries; the events span ten minutes."""
    fake = good()
    write_list(tmp_path / OBSID, replace(fake, gti={ccd: [(T0 - 1e10, T0 + 1e10)] for ccd in range(2, 8)}))
    (row,) = xscan.scan(tmp_path / OBSID, views=["5:0.2-12"]).runs.to_pylist()
    assert row["state"] == "done"
    assert row["n_frames"] <= (SECONDS + 1200) / 5


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/proc", os.R_OK), reason="needs /proc")
def test_an_unwritable_output_folder(tmp_path: Path) -> None:
    write_list(tmp_path / OBSID, good())
    done = run("scan", tmp_path / OBSID, "--out", "/proc/nowhere/results", "--view", "20:0.2-12")
    assert done.returncode == 2
    assert "cannot write results here" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_trouble_at_once_in_an_archive(tmp_path: Path) -> None:
    """One row of the account for each, the good ones searched, exit code 1, no traceback."""
    data = tmp_path / "data"
    obsids, expected = [], {}
    for k, (content, reason) in enumerate(DAMAGED.values()):
        obsid = f"{k + 1:010d}"
        folder = data / obsid
        folder.mkdir(parents=True)
        (folder / f"P{obsid}M1S001MIEVLI0000.FTZ").write_bytes(content)
        expected[obsid] = reason
        obsids.append(obsid)
    for k, (fake, reason) in enumerate(FAKES.values()):
        obsid = f"{k + 101:010d}"
        write_list(data / obsid, fake, obsid)
        expected[obsid] = reason
        obsids.append(obsid)
    (data / "0000000201").mkdir()
    expected |= {"0000000201": Reason.NO_EVENT_LISTS, "0000000202": Reason.NO_FOLDER}
    write_list(data / "0000000203", good(), "0000000203")
    (tmp_path / "list.txt").write_text("\n".join([*expected, "0000000203"]))
    done = run(
        "archive",
        "--offline",
        "--obslist",
        tmp_path / "list.txt",
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--view",
        "20:0.2-12",
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    rows = xscan.open_results(tmp_path / "out").table("runs").to_pylist()
    assert {row["obsid"]: row["reason"] for row in rows} == {k: str(v) for k, v in expected.items()} | {
        "0000000203": None
    }
    for obsid in expected:
        assert sum(line.startswith(f"{obsid}: ") or f" {obsid}: " in line for line in done.stderr.splitlines()) == 1
