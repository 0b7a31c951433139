"""Results on disk: whole at every moment, whoever dies, and the same for every reader."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from helpers.lists import OBSID, quiet_list, write_list, write_sources
from helpers.stored import (
    PROVENANCE,
    SETTINGS,
    check_whole,
    failed,
    files,
    open_writer,
    parts,
    renamed,
    small_parts,
    tables,
)
from soak import archive

import xscan
from xscan.errors import StoreError
from xscan.results import compaction, reader, staging
from xscan.results.staging import stage
from xscan.results.tables import Tables
from xscan.results.writer import ResultsWriter
from xscan.schema import SCHEMAS

__all__ = ["small_parts", "tables"]  # fixtures

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("compacted", [False, True])
def test_what_is_written_is_read(tmp_path: Path, tables: Tables, compacted: bool) -> None:
    with open_writer(tmp_path / "out") as out:
        out.write(OBSID, tables)
        out.write("0999999900", failed("0999999900"))
        if compacted:
            compaction.compact(tmp_path / "out")
        held = xscan.open_results(tmp_path / "out")
        assert held.observations() == sorted(["0999999900", OBSID])
        for name, schema in SCHEMAS.items():
            table = held.table(name)
            assert table.schema.equals(schema, check_metadata=True), name
            assert table.filter(pc.equal(table["obsid"], OBSID)).equals(tables.table(name)), name
            assert held.table(name, OBSID).equals(tables.table(name)), name
            assert held.table(name, columns=["obsid"]).equals(table.select(["obsid"]))
            assert held.table(name, "0000000000").num_rows == 0
        assert sorted(held.table("runs")["state"].to_pylist()) == ["done", "done", "done", "failed"]
        assert held.table("runs", OBSID, ["state"]).to_pylist() == [{"state": "done"}] * 3
        with pytest.raises(KeyError, match="there are runs"):
            held.table("stars")
        with pytest.raises(KeyError, match="stars"):
            held.table("runs", columns=["stars"])


def test_astropy_reads_every_flat_table(tmp_path: Path, tables: Tables) -> None:
    """The files that are stored, and what we read of them: astropy takes no column that holds rows."""
    pandas = pytest.importorskip("pandas", reason="astropy reads Parquet with it; it is in the extra `test`")
    with open_writer(tmp_path) as out:
        out.write(OBSID, tables)
        out.write("0999999900", failed("0999999900"))
    (part,) = parts(tmp_path)
    for name in ("runs", "inputs", "events", "regions", "voxels"):
        held = xscan.open_results(tmp_path).table(name)
        assert not any(pa.types.is_nested(kind) for kind in held.schema.types)
        table = Table.read(tmp_path / part["files"][name])
        assert (len(table), table.colnames) == (held.num_rows, held.column_names)
        for field in held.schema:
            assert table[field.name].description == field.metadata[b"description"].decode()
            assert (table[field.name].unit is None) == (not field.metadata[b"unit"])
        assert table["obsid"].tolist() == held["obsid"].to_pylist()
        assert pandas.read_parquet(tmp_path / part["files"][name]).shape == held.shape
    assert Table.read(tmp_path / part["files"]["regions"])["mjd_start"].unit == "d"
    assert Table.read(tmp_path / part["files"]["inputs"])["camera"].tolist() == ["m1"]
    assert Table.read(tmp_path / part["files"]["runs"])["reason"].tolist() == ["no_folder", "None", "None", "None"]


def test_files_are_told_once(tmp_path: Path) -> None:
    """Lists that are searched apart, one that cannot be, and a source list: a row each, under each view the same."""
    rng = np.random.default_rng(8)
    first = quiet_list(rng, "m1", 600.0)
    write_list(tmp_path / OBSID, first)
    write_list(tmp_path / OBSID, replace(quiet_list(rng, "m1", 600.0, exposure="S002").shifted(5000.0)))
    write_list(tmp_path / OBSID, replace(first, exposure="U003", header={"SUBMODE": "FastTiming"}))
    write_sources(tmp_path / OBSID, [(150.0, 2.0, 50.0, 0.0, 0.5)])
    tables = xscan.scan(tmp_path / OBSID, views=["5:0.2-12", "50:0.2-12"])
    found = [(row["subset"], row["exposure"], row["role"], row["reason"]) for row in tables.inputs.to_pylist()]
    assert found == [
        (0, "S001", "events", None),
        (1, "S002", "events", None),
        (None, "", "sources", None),
        (None, "U003", "events", "mode"),
    ]
    rows = tables.inputs.drop_columns(["obsid", "subset"]).to_pylist()
    for run in tables.runs.to_pylist():
        assert run["inputs"] == [rows[run["subset"]], *rows[2:]]
    assert "inputs" not in tables.table("runs").column_names


def test_units_are_in_the_files(tmp_path: Path, tables: Tables) -> None:
    with open_writer(tmp_path) as out:
        out.write(OBSID, tables)
    ((part,),) = [parts(tmp_path)]
    schema = pq.read_schema(tmp_path / part["files"]["regions"])
    assert schema.field("ra_deg").metadata[b"unit"] == b"deg"
    assert b"mission time" in schema.field("t_start_s").metadata[b"description"]


def test_observations_gather_in_parts(tmp_path: Path, tables: Tables, small_parts: None) -> None:
    rng = np.random.default_rng(1)
    obsids = [f"{number:010d}" for number in rng.permutation(23)]
    with open_writer(tmp_path) as out:
        for count, obsid in enumerate(obsids, start=1):
            out.write(obsid, renamed(tables, obsid) if count % 3 else failed(obsid))
            assert len(list((tmp_path / "staging").iterdir())) == count % 4
            assert xscan.open_results(tmp_path).observations() == sorted(obsids[:count])
    assert sorted(len(part["observations"]) for part in parts(tmp_path)) == [3] + [4] * 5
    check_whole(tmp_path)
    order = xscan.open_results(tmp_path).table("regions")["obsid"].to_pylist()
    assert order == sorted(order)
    for obsid in ("0000000023", "0000000024"):  # one at a time, as xscan scan does
        with open_writer(tmp_path) as out:
            out.write(obsid, renamed(tables, obsid))
    sizes = [len(part["observations"]) for part in parts(tmp_path)]
    assert sorted(sizes) == [2, 3, 4, 4, 4, 4, 4]
    check_whole(tmp_path)


@pytest.mark.parametrize(("first", "sizes"), [(49, [50]), (50, [1, 50])])
def test_parts_of_less_than_fifty_are_written_anew(tmp_path: Path, first: int, sizes: list[int]) -> None:
    for obsids in (range(first), [first]):
        with open_writer(tmp_path) as out:
            for number in obsids:
                out.write(f"{number:010d}", failed(f"{number:010d}"))
    assert sorted(len(part["observations"]) for part in parts(tmp_path)) == sizes
    check_whole(tmp_path)


def test_rewriting_leaves_nothing_stale(tmp_path: Path, tables: Tables, small_parts: None) -> None:
    obsids = [f"{number:010d}" for number in range(8)]
    with open_writer(tmp_path) as out:
        for obsid in obsids:
            out.write(obsid, renamed(tables, obsid))
    n = tables.regions.num_rows
    assert n > 0
    with open_writer(tmp_path) as out:
        out.write(obsids[3], failed(obsids[3]))
        for _ in range(2):  # staged beside its earlier rows, then in their place
            held = xscan.open_results(tmp_path)
            assert held.table("regions").num_rows == 7 * n
            assert held.table("regions", obsids[3]).num_rows == 0
            assert held.table("runs", obsids[3])["state"].to_pylist() == ["failed"]
            assert held.observations() == obsids
            compaction.compact(tmp_path)
    check_whole(tmp_path)
    before = files(tmp_path)
    with open_writer(tmp_path) as out:  # it had one row, in runs: the other files of its part stay as they are
        out.write(obsids[3], renamed(tables, obsids[3]))
    check_whole(tmp_path)
    assert xscan.open_results(tmp_path).table("regions").num_rows == 8 * n
    kept = {name.split("/")[0] for name in before & files(tmp_path)}
    assert kept >= {"regions", "voxels", "lightcurves"}


def test_the_next_run_tidies_up(tmp_path: Path, tables: Tables) -> None:
    def stumble() -> None:
        with open_writer(tmp_path) as out:
            out.write(OBSID, tables)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stumble()
    assert (tmp_path / "staging" / f"{OBSID}.arrow").exists()  # no more was done than had to be
    (tmp_path / "regions" / "part-0123456789abcdef.parquet").write_text("not in the manifest")
    (tmp_path / "runs" / ".tmp-abc").write_text("half-written")
    with open_writer(tmp_path):
        check_whole(tmp_path)
    assert xscan.open_results(tmp_path).observations() == [OBSID]


class Died(BaseException):
    """Power is gone: from here on nothing happens any more."""


@contextmanager
def dying_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let the process do ``step`` things to the disk, and none after."""
    done: list[str] = []

    def mortal(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(done) == step:
                raise Died
            done.append(what)
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for what in ("replace", "unlink", "fsync", "ftruncate", "mkdir"):
            patch.setattr(os, what, mortal(what, getattr(os, what)))
        yield done


def test_death_at_any_step_costs_no_finished_observation(
    tmp_path: Path, tables: Tables, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six observations, one of them twice: stopped after every single change to the disk, then gone on."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power is cut: that it is called is all that shows
    work = [(f"{number:010d}", number % 3 > 0) for number in range(5)] + [("0000000001", False), ("0000000009", True)]

    def results(obsid: str, good: bool) -> Tables:
        return renamed(tables, obsid) if good else failed(obsid)

    def go_on(folder: Path, finished: list[int]) -> None:
        with open_writer(folder) as out:
            for number, (obsid, good) in enumerate(work):
                if number not in finished:
                    out.write(obsid, results(obsid, good))
                    finished.append(number)

    go_on(tmp_path / "undisturbed", [])
    expected = check_whole(tmp_path / "undisturbed")
    with dying_at(10**6, monkeypatch) as done:
        go_on(tmp_path / "counted", [])
    assert {"replace", "unlink", "fsync", "mkdir"} <= set(done)
    # content is on disk before it has its name, and every part's name before the manifest's
    assert all(done[i - 1] == "fsync" for i, what in enumerate(done) if what == "replace")
    assert "replace fsync replace" + len(SCHEMAS) * " fsync" + " fsync replace fsync unlink" in " ".join(done)
    assert len(done) > 50
    # of several fsync in a row the first and the last: between them only more files are written that nothing names
    amid = {i for i in range(1, len(done) - 1) if done[i - 1 : i + 2] == ["fsync"] * 3}
    for step in set(range(len(done))) - amid:
        folder, finished = tmp_path / f"{step}", []
        with dying_at(step, monkeypatch), pytest.raises(Died):
            go_on(folder, finished)
        if (folder / "_xscan.json").exists():
            held = xscan.open_results(folder)  # before anything is put right
            states: dict[str, list[str]] = {}
            for row in held.table("runs", columns=["obsid", "state"]).to_pylist():
                states.setdefault(row["obsid"], []).append(row["state"])
            assert held.observations() == sorted(states)
            assert set(states) >= {work[number][0] for number in finished}
            events, regions = (held.table(name)["obsid"].to_pylist() for name in ("events", "regions"))
            for obsid, found in states.items():  # once and whole, its first or its second result
                assert found in (["done"] * 3, ["failed"])
                assert regions.count(obsid) == (found[0] == "done") * tables.regions.num_rows
                assert events.count(obsid) == (found[0] == "done") * tables.events.num_rows
        go_on(folder, finished)
        found = check_whole(folder)
        for name in ("events", "regions", "voxels", "lightcurves"):
            assert found[name].equals(expected[name]), (step, name)


def test_a_reader_meets_a_compaction(tmp_path: Path, tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files vanish after they were listed: the reader looks again."""
    with open_writer(tmp_path) as out:
        for obsid in ("0000000001", "0000000002"):
            out.write(obsid, renamed(tables, obsid))
        held = xscan.open_results(tmp_path)

        def then_compact(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
            def call(folder: Path) -> Any:
                found = function(folder)
                monkeypatch.undo()
                compaction.compact(tmp_path)
                return found

            return call

        for obsid in ("0000000003", "0000000004"):
            out.write(obsid, renamed(tables, obsid))
            for name in ("staged", "read_manifest"):  # right after the first of them, whichever that is
                monkeypatch.setattr(reader, name, then_compact(getattr(reader, name)))
            if obsid == "0000000003":
                assert held.table("regions").num_rows == 3 * tables.regions.num_rows
            else:
                assert len(held.observations()) == 4
            assert not staging.staged(tmp_path)


def test_a_second_coordinator_is_refused(tmp_path: Path) -> None:
    with open_writer(tmp_path), pytest.raises(StoreError, match=rf"another xscan \(process {os.getpid()} on") as caught:
        open_writer(tmp_path).__enter__()
    assert caught.value.exit_code == 2
    with open_writer(tmp_path):  # it was given back
        pass


def test_a_compaction_leaves_what_a_worker_is_writing(tmp_path: Path, tables: Tables) -> None:
    half = tmp_path / "staging" / ".tmp-worker"
    with open_writer(tmp_path) as out:
        half.write_bytes(b"half")
        out.write(OBSID, tables)
        out.compact()
        assert half.exists()
    with open_writer(tmp_path):  # it is dead by then
        assert not half.exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from xscan.results.writer import ResultsWriter
from xscan.results.tables import Provenance
writer = ResultsWriter(Path({str(tmp_path)!r}), {PROVENANCE!r}, {{}})
writer.__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert "process" in (tmp_path / "_lock").read_text()
    with open_writer(tmp_path):
        pass


def test_the_lock_of_another_host_is_believed(tmp_path: Path) -> None:
    (tmp_path / "_lock").write_text("process 12 on elsewhere")
    with pytest.raises(StoreError, match=rf"process 12 on elsewhere\).*this is {socket.gethostname()}.*remove .*_lock"):
        open_writer(tmp_path).__enter__()
    assert (tmp_path / "_lock").read_text() == "process 12 on elsewhere"


@pytest.mark.parametrize("phase", ["staging", "compaction", "manifest"])
def test_a_full_disk_stops_the_run_and_loses_nothing(
    tmp_path: Path, tables: Tables, small_parts: None, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    target = {"staging": "0000000002.arrow", "compaction": "part-", "manifest": "_manifest.json"}[phase]

    def full(source: str, path: Path) -> None:
        if target in str(path):
            raise OSError(28, "No space left on device", str(path))
        os.rename(source, path)

    def write(missing: set[str]) -> None:
        with open_writer(tmp_path) as out:
            for obsid in sorted(missing):
                out.write(obsid, renamed(tables, obsid))

    obsids = [f"{number:010d}" for number in range(5)]
    with open_writer(tmp_path):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StoreError, match=r"No space left.*same command") as caught:
            write(set(obsids))
    assert "\n" not in str(caught.value)
    held = xscan.open_results(tmp_path)
    done = held.observations()
    assert done == obsids[: 2 if phase == "staging" else 4]
    assert not list(tmp_path.rglob(".tmp-*"))
    write(set(obsids) - set(done))
    check_whole(tmp_path)
    assert held.table("regions").num_rows == 5 * tables.regions.num_rows


@pytest.mark.parametrize(("kind", "says"), [("file", "is a file"), ("link", "is a link that leads nowhere")])
def test_what_is_no_folder_is_refused(tmp_path: Path, kind: str, says: str) -> None:
    place = tmp_path / "out"
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=f"out: {says}; choose another --out"):
        open_writer(place).__enter__()


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    (tmp_path / "thesis" / "_bib").mkdir()
    says = r"thesis: holds other things and no results of xscan \(chapter.tex\); choose an empty or a new folder"
    with pytest.raises(StoreError, match=says):
        open_writer(tmp_path / "thesis").__enter__()
    assert {path.name for path in (tmp_path / "thesis").iterdir()} == {"chapter.tex", "_bib"}  # nothing is made
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".DS_Store").write_text("hidden")
    with open_writer(tmp_path / "results"):
        pass
    (tmp_path / "results" / "notes").write_text("mine, beside results")
    with open_writer(tmp_path / "results"):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> int:
        raise OSError(30, "Read-only file system", str(tmp_path / "_lock"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StoreError, match="_lock: cannot write results here: Read-only"):
            open_writer(tmp_path).__enter__()
    with open_writer(tmp_path):
        pass


def test_workers_stage_and_the_coordinator_compacts(tmp_path: Path, tables: Tables, small_parts: None) -> None:
    with open_writer(tmp_path) as out:
        for number in range(6):
            stage(tmp_path, f"{number:010d}", renamed(tables, f"{number:010d}"))
            out.took()
        assert len(list((tmp_path / "staging").iterdir())) == 2
    check_whole(tmp_path)
    assert len(xscan.open_results(tmp_path).observations()) == 6


def test_results_of_another_configuration_are_refused(tmp_path: Path) -> None:
    with open_writer(tmp_path):
        pass
    with ResultsWriter(tmp_path, replace(PROVENANCE, xscan_version="0.1.1"), SETTINGS):
        pass
    other = SETTINGS | {"search.sigma": "5"}
    with pytest.raises(StoreError, match=r"search\.sigma is 3 there, 5 here") as caught:
        ResultsWriter(tmp_path, replace(PROVENANCE, config_digest="feed", profile="exod2"), other).__enter__()
    assert caught.value.exit_code == 2


def test_folders_without_results(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results"):
        xscan.open_results(tmp_path)
    (tmp_path / "_xscan.json").write_text('{"format": 99, "xscan_version": "9.0"}')
    with pytest.raises(StoreError, match=r"format 99.*xscan 9\.0"):
        xscan.open_results(tmp_path)
    with pytest.raises(StoreError, match=r"format 99.*xscan 9\.0"):
        open_writer(tmp_path).__enter__()
    (tmp_path / "_xscan.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        xscan.open_results(tmp_path)


def test_the_content_hash_is_of_what_was_found(tmp_path: Path, tables: Tables, small_parts: None) -> None:
    """Not of the order, the parts, or how long it took; but of every other column."""
    obsids = [f"{number:010d}" for number in range(6)]

    def hashed(folder: str, order: list[str], results: Callable[[str], Tables], compacted: bool = True) -> str:
        with open_writer(tmp_path / folder) as out:
            for obsid in order:
                out.write(obsid, results(obsid))
            if not compacted:
                return xscan.open_results(tmp_path / folder).content_digest()
        return xscan.open_results(tmp_path / folder).content_digest()

    def same(obsid: str) -> Tables:
        return renamed(tables, obsid)

    expected = hashed("a", obsids, same)
    assert hashed("b", obsids[::-1], same) == expected
    assert hashed("c", [obsids[2], *obsids[::-1]], same) == expected  # one of them twice
    assert hashed("d", obsids[1:] + obsids[:1], same, compacted=False) == expected
    assert hashed("e", obsids[:5], same) != expected


def test_the_large_store_is_measured_on_a_small_one() -> None:
    """scripts/store-check, which times 17,000 observations; here 250, and nothing is timed."""
    command = [sys.executable, str(ROOT / "benchmarks" / "store.py"), "--observations", "250", "--frames", "5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "250 observations written" in done.stdout, done.stderr
    lines = dict(line.rsplit("below", 1)[0].rsplit(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert len(lines) == 2 + len(SCHEMAS)
    assert int(lines["files"]) == 3 * len(SCHEMAS) + 3  # parts of 100, 100, 50; the manifest and its company


def test_kill_9_costs_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """scripts/archive-check, small: a spoilt archive by a loop and by workers, killed, and short of everything.

    What workers are short of is held by test_limits.py and test_cluster.py.
    """
    for name, kept in {
        "ORDERS": ("backwards", "two"),
        "LIMITS": (next(iter(archive.LIMITS)),),
        "WRITERS": ("a loop",),
    }.items():
        monkeypatch.setattr(archive, name, {one: getattr(archive, name)[one] for one in kept})
    monkeypatch.setattr(sys, "argv", ["archive", "--observations", "10", "--kills", "2", "--no-timing"])
    assert archive.main() == 0
    said = capsys.readouterr().out
    assert "10 observations: 5 done, 2 failed unreadable, 1 failed no_event_lists, " in said
    assert "2 kills in" in said
