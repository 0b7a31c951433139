from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers.command import run, run_process
from helpers.lists import CENTRE, OBSID, FakeList, quiet_list, with_burst, write_list

import xscan
from xscan.bayes import log10_bayes_eclipse
from xscan.cli.app import app
from xscan.errors import ConfigError
from xscan.pipeline.obslist import read_obslist

VIEWS = ["--view", "5:0.2-12", "--view", "50:0.2-12"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three observations, one with a burst, one broken, one of an unknown mode."""
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(5)
    burst = with_burst(quiet_list(rng, "m1", 600.0), rng, 30, 100.0, 4.0, CENTRE, CENTRE)
    write_list(root / "data" / "0000000001", burst, "0000000001")
    path = write_list(root / "data" / "0000000002", burst, "0000000002")
    path.write_bytes(path.read_bytes()[:3000])
    write_list(root / "data" / "0000000003", replace(burst, header={"SUBMODE": "FastTiming"}), "0000000003")
    write_list(root / "data" / "0000000004" / "pps", quiet_list(rng, "m1", 600.0), "0000000004")
    return root


def test_version_and_help() -> None:
    assert run_process("--version").stdout == f"xscan {xscan.__version__}\n"
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert {"scan", "archive", "plan", "export", "status", "doctor"} <= set(commands)
    for command in commands:
        shown = run(command, "--help")
        assert shown.returncode == 0
        assert f"Usage: xscan {command}" in shown.stdout


def test_scan_one_observation(archive: Path, tmp_path: Path) -> None:
    done = run_process("scan", archive / "data" / "0000000001", "--out", tmp_path / "out", *VIEWS)
    assert done.returncode == 0, done.stderr
    assert "0000000001_0_5_0.2_12.0_0" in done.stdout
    assert "1 done" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr  # no colours, no bar outside a terminal
    assert xscan.open_results(tmp_path / "out").table("regions").num_rows >= 1


def test_nothing_found_is_success(archive: Path, tmp_path: Path) -> None:
    done = run("scan", archive / "data" / "0000000004" / "pps", "--out", tmp_path / "out", *VIEWS)
    assert done.returncode == 0, done.stderr
    assert "0 regions" in done.stdout


def test_archive_accounts_for_every_observation(archive: Path) -> None:
    """`xscan archive --obslist observations.txt` alone: ./data in, ./results out."""
    lines = ["# mine", "0000000001", "", "0000000002  # broken", "0000000003", "0000000001", "0000000009", "0000000004"]
    (archive / "observations.txt").write_text("\n".join(lines))
    done = run("archive", "--offline", "--obslist", "observations.txt", *VIEWS, cwd=archive)
    assert done.returncode == 1
    assert "5 observations (1 duplicates, 1 comments, 1 blank lines left out)" in done.stderr
    assert "Traceback" not in done.stderr
    runs = xscan.open_results(archive / "results").table("runs").to_pylist()
    states = {(row["obsid"], row["state"], row["reason"]) for row in runs}
    assert states == {
        ("0000000001", "done", None),
        ("0000000002", "failed", "unreadable"),
        ("0000000003", "skipped", "mode"),
        ("0000000004", "done", None),
        ("0000000009", "failed", "no_folder"),
    }
    for row in runs:
        assert row["message"] or row["state"] == "done"
    assert "5 observations: 2 done, 1 skipped, 2 failed" in done.stdout


def test_an_archive_goes_on_where_it_was(tmp_path: Path) -> None:
    """Searched again: what is missing, what has other files now, and on request what failed. Nothing else."""
    rng = np.random.default_rng(6)
    data, out = tmp_path / "data", tmp_path / "out"
    quiet = quiet_list(rng, "m1", 600.0)
    for number in (1, 2, 3):
        write_list(data / f"000000000{number}", quiet, f"000000000{number}")
    write_list(data / "0000000004", replace(quiet, header={"SUBMODE": "FastTiming"}), "0000000004")
    (broken,) = (data / "0000000002").iterdir()
    whole = broken.read_bytes()
    broken.write_bytes(whole[:3000])
    listed = [f"000000000{number}" for number in (1, 2, 3, 4, 5)]

    def archive(obsids: list[str], *args: str) -> tuple[int, set[str], str]:
        """The exit code, the obsids that were searched now, and what was said."""
        (tmp_path / "list.txt").write_text("\n".join(obsids))
        before = finished()
        done = run(
            "archive", "--offline", "--obslist", tmp_path / "list.txt", "--data", data, "--out", out, *VIEWS, *args
        )
        assert "Traceback" not in done.stderr
        return done.returncode, {obsid for obsid, when in finished().items() if before.get(obsid) != when}, done.stderr

    def finished() -> dict[str, object]:
        if not out.exists():
            return {}
        runs = xscan.open_results(out).table("runs", columns=["obsid", "finished_utc"]).to_pylist()
        return {row["obsid"]: row["finished_utc"] for row in runs}

    assert archive(listed[:2])[:2] == (1, set(listed[:2]))
    code, searched, says = archive(listed)
    assert (code, searched) == (1, set(listed[2:]))
    assert "2 of 5 observations were searched before (1 of them failed; --retry-failed" in says
    assert archive(listed)[:2] == (1, set())
    assert archive(listed, "--retry-failed")[1] == {"0000000002", "0000000005"}
    broken.write_bytes(whole)
    write_list(data / "0000000005" / "pps", quiet, "0000000005")
    assert archive(listed)[1] == {"0000000002", "0000000005"}
    (data / "0000000001" / "more.txt").write_text("x")  # no matter to it
    write_list(data / "0000000002", replace(quiet, primary={"DATE": "2030-01-01"}), "0000000002")
    assert archive(listed)[1] == {"0000000002"}
    code, searched, says = archive(["0000000001", "0000000002"])
    assert (code, searched) == (0, set())  # what was kept counts
    assert "2 of 2 observations were searched before\n" in says


def test_status_accounts_for_every_observation(archive: Path, tmp_path: Path) -> None:
    obsids = ["0000000001", "0000000002", "0000000003", "0000000009"]
    (tmp_path / "list.txt").write_text("\n".join(obsids))
    data, out = archive / "data", tmp_path / "out"
    listed = ("--obslist", tmp_path / "list.txt", "--backend", "numba")
    run("archive", "--offline", *listed, "--data", data, "--out", out, *VIEWS)
    (tmp_path / "longer.txt").write_text("\n".join(["0000000010", *obsids]))
    lines = run("status", out, "--obslist", tmp_path / "longer.txt", "--hash").stdout.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["0000000010", "pending"],
        ["0000000001", "done"],
        ["0000000002", "failed"],
        ["0000000003", "skipped"],
        ["0000000009", "failed"],
    ]
    assert f"xscan {xscan.__version__} numba  unreadable: " in lines[2]
    assert lines[5:] == [
        "5 observations: 1 done, 1 skipped, 2 failed, 1 pending",
        f"content hash {xscan.open_results(out).content_digest()}",
    ]
    lines = run("status", out, "--failed").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0000000002", "0000000009", "4"]
    held = json.loads(run("status", out, "--json", "--hash", "--obslist", tmp_path / "longer.txt").stdout)
    assert held["totals"] == {"done": 1, "empty": 0, "skipped": 1, "failed": 2, "pending": 1}
    assert held["content_hash"] == xscan.open_results(out).content_digest()
    by_obsid = {row["obsid"]: row for row in held["observations"]}
    assert by_obsid["0000000001"]["n_regions"] == xscan.open_results(out).table("regions").num_rows > 0
    assert by_obsid["0000000001"]["seconds"] > 0
    assert by_obsid["0000000009"]["reason"] == "no_folder"
    assert by_obsid["0000000010"]["finished_utc"] is None


def test_a_folder_of_another_observation(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0000000007").symlink_to(archive / "data" / "0000000001")
    (tmp_path / "list.txt").write_text("0000000007")
    done = run("archive", "--offline", "--obslist", "list.txt", *VIEWS, cwd=tmp_path)
    assert f"contradictory: {tmp_path}/data/0000000007: holds observation 0000000001" in done.stderr
    assert xscan.open_results(tmp_path / "results").table("runs")["obsid"].to_pylist() == ["0000000007"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["status", "{data}"], "no results of xscan"),
        (["scan", "{data}/0000000001", "--view", "5:2-0.2"], "lower energy first"),
        (["scan", "{data}/0000000001", "--view", "0:0.2-2"], "greater than 0"),
        (["scan", "{data}/0000000001", "--view", "-5:0.2-2"], "greater than 0"),
        (["scan", "{data}/0000000001", "--view", "1e99:0.2-2"], "the longest is"),
        (["scan", "{data}/0000000001", "--profile", "exod"], "did you mean exod2?"),
        (["scan", "{data}/0000000001", "--backend", "gpu"], "unknown backend"),
        (["scan", "{data}/0000000001", "--config", "{data}/none.toml"], "cannot read this configuration"),
        (["scan", "{data}/0000000001", "--hot-pixels", "{data}"], "no hot-pixel table"),
        (["archive", "--obslist", "{data}/none.txt"], "cannot read this list"),
        (["archive", "--obslist", "{data}/bad.txt"], "line 2: '123'"),
        (["archive", "--offline", "--obslist", "{data}/good.txt", "--data", "{data}/nowhere"], "no such folder"),
        (["export", "{data}"], "nothing to export"),
        (["bench", "--observation", "{data}/nowhere"], "nowhere: no such folder"),
        (["export", "{data}", "--ds9", "x.reg"], "no results of xscan"),
        (["scan", "{data}/0000000008"], "0000000008: no such folder; an observation is a folder"),
        (["scan", "{data}"], "no event list, but 4 folders of observations: search them with xscan archive"),
        (["scan", "{data}/0000000001", "{data}/0000000008"], "0000000008: no such folder"),
        (["scan", "{data}/good.txt"], "a list of observations; search them with xscan archive --obslist"),
        (["scan"], "Missing argument"),
        (["scna"], "No such command"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(archive: Path, tmp_path: Path, args: list[str], says: str) -> None:
    (archive / "data" / "bad.txt").write_text("0000000001\n123\n")
    (archive / "data" / "good.txt").write_text("0000000001\n")
    done = run(*(arg.format(data=archive / "data") for arg in args), cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())  # nothing is made


def test_a_failed_observation_is_exit_code_1(archive: Path, tmp_path: Path) -> None:
    for obsid, says in (("0000000002", "cut short"), ("0000000003", "FastTiming")):
        done = run("scan", archive / "data" / obsid, "--out", tmp_path / "out", *VIEWS)
        assert done.returncode == 1
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_an_unwritable_folder(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run_process("scan", archive / "data" / "0000000001", "--out", tmp_path / "file" / "out", *VIEWS)
    assert done.returncode == 2
    assert "cannot write results here" in done.stderr


def test_another_configuration_in_the_same_folder(archive: Path, tmp_path: Path) -> None:
    folder = archive / "data" / "0000000001"
    assert run("scan", folder, "--out", tmp_path / "out", *VIEWS).returncode == 0
    done = run("scan", folder, "--out", tmp_path / "out", *VIEWS, "--profile", "exod2")
    assert done.returncode == 2
    assert "another configuration (rules.flag_cut is true there, false here;" in done.stderr


def test_export(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("scan", archive / "data" / "0000000001", "--out", out, *VIEWS)
    for kind in ("csv", "fits"):
        done = run("export", out, "--ds9", tmp_path / "a.reg", "--lightcurves", tmp_path / kind, "--format", kind)
        assert done.returncode == 0, done.stderr
    held = xscan.open_results(out)
    places = [line for line in (tmp_path / "a.reg").read_text().splitlines() if line.startswith("circle(")]
    assert len(places) == 1
    assert any(f"text={{{det_id}}}" in places[0] for det_id in held.table("regions")["det_id"].to_pylist())
    for curve in held.table("lightcurves").to_pylist():
        with (tmp_path / "csv" / f"{curve['det_id']}.csv").open() as stream:
            table = list(csv.DictReader(stream))
        assert [int(row["n"]) for row in table] == curve["n"]
        expected = [
            None if mu is None else float(log10_bayes_eclipse(n, mu))
            for n, mu in zip(curve["n"], curve["mu"], strict=True)
        ]
        assert [float(row["log10_b_eclipse"]) if row["log10_b_eclipse"] else None for row in table] == expected
        with fits.open(tmp_path / "fits" / f"{curve['det_id']}.fits") as made:
            assert len(made["RATE"].data) == len(table)


def test_obslists(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\ufeff0000000001\r\n# c\r\n\r\n  0000000002 # why\r\n0000000001\r\n", "utf-8")
    listed = read_obslist(path)
    assert listed.obsids == ("0000000001", "0000000002")
    assert (listed.duplicates, listed.comments, listed.blank) == (1, 1, 1)
    path.write_text("٠٠٠٠٠٠٠٠٠١\n", "utf-8")  # digits, but of no obsid
    with pytest.raises(ConfigError, match="line 1: '٠٠٠٠٠٠٠٠٠١'"):
        read_obslist(path)
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="no observation"):
        read_obslist(path)
    path.write_text("\n".join(["0000000001", *(f"x{i}" for i in range(9))]))
    with pytest.raises(ConfigError, match=r"line 2: 'x0'.*and 4 more"):
        read_obslist(path)


def test_an_unforeseen_error_costs_one_observation(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xscan.api import scan_settings
    from xscan.pipeline.scan import scan_folder

    def explode(*args: object) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr("xscan.pipeline.scan.search_observation", explode)
    name, tables = scan_folder(archive / "data" / "0000000001", scan_settings().scanner())
    (row,) = tables.runs.to_pylist()
    assert (name, row["state"], row["reason"]) == ("0000000001", "failed", "error")
    assert row["message"] == "RuntimeError: out of cheese"


def test_a_lone_obsid_is_taken_from_the_files(tmp_path: Path) -> None:
    write_list(tmp_path / "somewhere", FakeList(time=np.arange(10.0)))
    assert xscan.read(tmp_path / "somewhere").obsid == OBSID


def test_pictures_of_what_was_searched_before_are_drawn_when_the_run_goes_on(archive: Path, tmp_path: Path) -> None:
    """As after a run with --plot that was stopped, or one without."""
    (tmp_path / "list.txt").write_text("0000000001\n0000000002\n0000000004\n")
    asked = ("archive", "--offline", "--obslist", "list.txt", "--data", archive / "data", *VIEWS)
    assert run(*asked, cwd=tmp_path).returncode == 1
    plots = tmp_path / "results" / "plots"
    assert not plots.exists()
    done = run(*asked, "--plot", cwd=tmp_path)
    assert done.returncode == 1
    assert "drawing the pictures that are missing of 2 observations\n" in done.stderr
    drawn = {path.relative_to(plots).as_posix(): path.read_bytes() for path in plots.rglob("*.png")}
    held = xscan.open_results(tmp_path / "results")
    named = {f"0000000001/{det_id}.png" for det_id in held.table("regions")["det_id"].to_pylist()}
    assert drawn.keys() == named | {f"{obsid}/{obsid}_0_image.png" for obsid in ("0000000001", "0000000004")}
    lost = plots / min(named)
    lost.unlink()
    done = run(*asked, "--plot", cwd=tmp_path)
    assert "drawing the pictures that are missing of 1 observation\n" in done.stderr
    assert lost.read_bytes() == drawn[lost.relative_to(plots).as_posix()]
    assert "drawing" not in run(*asked, "--plot", cwd=tmp_path).stderr
    shutil.rmtree(tmp_path / "results")  # the same pictures where they are drawn at once
    run(*asked, "--plot", cwd=tmp_path)
    at_once = {path.relative_to(plots).as_posix(): path.read_bytes() for path in plots.rglob("*.png")}
    assert at_once == drawn
