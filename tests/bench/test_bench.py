"""The benchmark's machinery. No test here looks at how long anything took."""

from __future__ import annotations

import dataclasses
import gzip
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.command import run as command
from helpers.cuda_on_cpu import make_backend
from matplotlib.image import imread

from xscan.api import scan_settings
from xscan.bench import stages, workloads
from xscan.bench.child import fresh_scan, scan_and_store
from xscan.bench.clock import Seconds, rounds
from xscan.bench.growth import CURVES
from xscan.bench.gunzip import inflated_bytes, inflater
from xscan.bench.page import page, with_headline
from xscan.bench.plot import plot_growth
from xscan.bench.record import Measurement, Report, file_name, from_json, ratio, read_reports, to_json
from xscan.bench.stages import STAGES, Stopwatch, watching
from xscan.bench.summary import device_tables, growth_tables, process_tables, size_table, stage_tables
from xscan.bench.table import Table
from xscan.bench.targets import TARGETS, target_table, verdict
from xscan.bench.vary import brighter, emptier, longer
from xscan.bench.workloads import Simulation, made, opened
from xscan.errors import BenchError, ConfigError
from xscan.events.gti import livetime_until
from xscan.pipeline import scan as scan_module
from xscan.results.reader import open_results
from xscan.results.writer import ResultsWriter
from xscan.search import observation as search
from xscan.search.subsets import good_intervals
from xscan.simulate import simulate_archive

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {"cpu": "Abacus 3000 (TM)", "cores": 2, "memory_gib": 1.5, "system": "Linux", "load": 0.1}
VERSIONS = {"python": "3", "numpy": "2", "numba": "0", "isal": "1", "xscan": "0", "commit": "abc", "dirty": True}
SIZE = {"rows": 1000, "events": 900, "compressed_bytes": 10_000, "inflated_bytes": 30_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One simulated observation of 1000 s."""
    root = tmp_path_factory.mktemp("bench")
    simulate_archive(root, 1, 5, 1000.0)
    return next(root.glob("0*/"))


def seconds(what: str, workload: str, *samples: float, backend: str = "numba", **at: float) -> list[Measurement]:
    return [Measurement(what, workload, backend, clock, "s", samples, at) for clock in ("cpu", "wall")]


def report(*measurements: Measurement) -> Report:
    return Report("2026-11-20", MACHINE, VERSIONS, {"A": SIZE, "L": SIZE}, measurements)


def made_up() -> Report:
    """Numbers as of a run on A and L: A beyond its aim, L between aim and reach, its memory too much."""
    curves = [
        point
        for what in CURVES
        for n in (1e3, 1e4)
        for point in seconds(
            what, "", n / 1e6, events=n, voxels=10 * n, eligible=0.1, regions=1, frame_s=5, empty_percent=50
        )
    ]
    return report(
        *seconds("gunzip", "A", 1.0, 2.0, 4.0),
        *seconds("scan", "A", 2.0, 4.0, 4.0),
        *seconds("gunzip", "L", 1.0),
        *seconds("scan", "L", 1.5),
        Measurement("peak memory", "L", "numba", "memory", "MiB", (451.0,)),
        *curves,
    )


# --- what is recorded


def test_json_round_trip() -> None:
    held = made_up()
    assert from_json(to_json(held), "here.json") == held


def test_other_json_is_refused() -> None:
    text = to_json(made_up())
    with pytest.raises(ConfigError, match=r"a\.json: results of schema 99, this version reads 1"):
        from_json(text.replace('"schema": 1', '"schema": 99'), "a.json")
    for damaged in (text[:-20], "{}", "[]", '{"schema": 1}'):
        with pytest.raises(ConfigError, match=r"a\.json: not the results of xscan bench"):
            from_json(damaged, "a.json")


def test_the_name_of_a_report_is_a_file_name() -> None:
    assert file_name(made_up()) == "2026-11-20-abacus-3000-tm.json"
    assert file_name(from_a_gpu()) == "2026-11-20-abacus-x1.json"


def from_a_gpu() -> Report:
    """Numbers as of scripts/gpu-check: the kernel reaches its aim, the views do not reach theirs."""
    taken = (
        Measurement("flag kernel", "cube", "cuda", "bandwidth", "%", (90.0, 91.0, 92.0), {"voxels": 1e9}),
        Measurement("views", "L", "cuda", "wall", "ms", (31.0,)),
        *seconds("gunzip", "L", 1.0, backend="cuda"),
        *seconds("scan", "L", 1.2, backend="cuda"),
    )
    return dataclasses.replace(report(*taken), machine=MACHINE | {"gpu": "Abacus X1"})


def test_what_a_gpu_measured_is_on_the_page() -> None:
    text = page([from_a_gpu(), made_up()])
    assert "\n## Abacus X1\n" in text
    assert re.search(r"\| cube: flag kernel +\| +1,000 \| +91.0 \(90.0-92.0\) \| +% \|", text)
    rows = {row[0]: row[-1] for row in target_table([from_a_gpu(), made_up()]).rows}
    assert rows["flag kernel, 1e9 voxels, of copy bandwidth"] == "reached, and the aim"
    assert rows["L, nine views after upload"] == "not reached"
    assert process_tables(from_a_gpu()) == []
    assert device_tables(made_up()) == []


def test_a_ratio_is_of_neighbours() -> None:
    """The machine is three times slower in the second round: the ratio is not."""
    above, below = seconds("scan", "A", 2.0, 6.0, 2.2)[0], seconds("gunzip", "A", 1.0, 3.0, 1.0)[0]
    assert ratio(above, below) == 2.0
    with pytest.raises(ValueError, match="shorter"):
        ratio(above, dataclasses.replace(below, samples=(1.0,)))


# --- the table of targets


def test_targets_reached_and_not() -> None:
    rows = {row[0]: row for row in target_table([made_up()]).rows}
    assert len(rows) == len(TARGETS)
    assert rows["A, nine views, files to Parquet"][2:] == (
        "4.000", "4.000", "2 x gunzip", "4 x gunzip", "2.2 x gunzip", "reached, and the aim",
    )  # fmt: skip
    assert rows["L, nine views, files to Parquet"][4:] == ("1.5 x gunzip", "1.6 x gunzip", "1.25 x gunzip", "reached")
    peak = rows["L, peak of five scans in a process"]
    assert peak[2:] == ("", "", "451 MiB", "450 MiB", "380 MiB", "not reached")
    assert rows["A, fresh process, code compiled before"][-1] == "not measured"
    assert [row[-1] for row in rows.values()].count("not measured (no GPU)") == 2


def test_a_gpu_run_fills_its_rows() -> None:
    gpu = report(Measurement("flag kernel", "cube", "cuda", "bandwidth", "%", (71.0, 75.0, 72.0)))
    rows = {row[0]: row for row in target_table([gpu, made_up()]).rows}
    assert rows["flag kernel, 1e9 voxels, of copy bandwidth"][4:] == ("72 %", "70 %", "85 %", "reached")
    assert rows["L, nine views, files to Parquet"][-1] == "reached"


def test_limits_themselves_are_reached() -> None:
    least, most = TARGETS[0], next(target for target in TARGETS if target.most)
    for target, step in ((least, 1), (most, -1)):
        assert verdict(target, target.aim) == "reached, and the aim"
        assert verdict(target, target.aim + step * 0.01) == "reached"
        assert verdict(target, target.reach) == "reached"
        assert verdict(target, target.reach + step * 0.01) == "not reached"


def test_a_table_reads_as_text() -> None:
    table = Table("Two fruits", ("", "kg"), (("apple", "1"), ("fig", "20.5")))
    assert table.markdown().splitlines() == [
        "Two fruits", "", "|       |   kg |", "| ----- | ---: |", "| apple |    1 |", "| fig   | 20.5 |",
    ]  # fmt: skip


# --- stages


def test_an_instant_belongs_to_the_innermost_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(stages, "now", lambda: Seconds(float(next(ticks)), 0.0))
    watch = Stopwatch()  # 0
    with watch.stage("read"), watch.stage("bin"):  # 1, 2
        pass  # 3, 4
    spent = watch.spent
    assert (spent["rest"].cpu, spent["read"].cpu, spent["bin"].cpu) == (1.0, 2.0, 1.0)


@pytest.mark.parametrize("which", ["numpy", "numba", "cuda"])
def test_every_stage_of_a_scan_is_seen(folder: Path, tmp_path: Path, which: str) -> None:
    backend = make_backend(which)
    scanner = dataclasses.replace(scan_settings(backend="numpy", views=["50:0.2-12"]).scanner(), backend=backend)
    before = [getattr(owner, name) for owner, name, _ in stages.FUNCTIONS]
    kept = {}
    for name in ("plain", "watched"):
        writer = ResultsWriter(tmp_path / name, scanner.provenance(), scanner.settings.by_name())
        if name == "plain":
            scan_and_store(folder, scanner, writer)
        else:
            watch = Stopwatch()
            with watching(scanner, watch) as watched:
                assert watched.backend.name == backend.name
                scan_and_store(folder, watched, writer)
            assert set(watch.stop()) == {*STAGES, "rest"}
        held = open_results(tmp_path / name)
        kept[name] = [held.table(table) for table in ("regions", "voxels", "lightcurves")]
    assert kept["plain"] == kept["watched"]  # measuring changes nothing
    assert [getattr(owner, name) for owner, name, _ in stages.FUNCTIONS] == before


def test_a_stage_that_never_came_is_an_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "FUNCTIONS", tuple(f for f in stages.FUNCTIONS if f[2] not in ("regions", "write")))
    scanner = scan_settings(backend="numba", views=["50:0.2-12"]).scanner()
    watch = Stopwatch()
    with watching(scanner, watch) as watched:
        scan_and_store(folder, watched, ResultsWriter(tmp_path, scanner.provenance(), scanner.settings.by_name()))
    with pytest.raises(BenchError, match="no time was spent in regions, write:"):
        watch.stop()


def test_timers_are_taken_away_after_trouble() -> None:
    def stumble() -> None:
        with watching(scan_settings().scanner(), Stopwatch()):
            assert scan_module.search_observation is not search.search_observation
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        stumble()
    assert scan_module.search_observation is search.search_observation


def test_rounds_end_with_the_budget() -> None:
    assert list(rounds(3, 1e9)) == [0, 1, 2]
    assert list(rounds(3, 0.0)) == [0]


# --- observations


def test_an_observation_is_simulated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Simulation("tiny", 600.0, 0.5)
    said: list[str] = []
    first = made(tiny, tmp_path, said.append)
    (tmp_path / "tiny-600s" / "witness").touch()
    again = made(tiny, tmp_path, said.append)
    assert again.files == first.files
    assert len(said) == 1
    assert str(tmp_path) in said[0]
    monkeypatch.setattr(workloads, "_simulator_digest", lambda: "another")
    made(tiny, tmp_path, said.append)
    assert len(said) == 2
    assert not (tmp_path / "tiny-600s" / "witness").exists()


def test_size_and_inflating(folder: Path) -> None:
    workload = opened(folder)
    assert {path.name[11:13] for path in workload.files} == {"PN", "M1", "M2", "EP"}
    true = sum(len(gzip.decompress(path.read_bytes())) for path in workload.files)
    assert inflated_bytes(workload.files) == true == workload.size()["inflated_bytes"]
    with inflater(workload.files) as inflate:
        for times in inflate():
            assert times.cpu > 0


def test_an_inflater_that_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="the process that inflates files ended"), inflater([tmp_path / "none"]):
        pass


def test_brighter(folder: Path) -> None:
    (events, *_), (dealt, *_) = (o.lists for o in (opened(folder).observation, brighter(opened(folder).observation, 2)))
    assert dealt.time.size == 2 * events.time.size
    np.testing.assert_array_equal(np.sort(dealt.time), np.sort(np.tile(events.time, 2)))
    for ccd in np.unique(events.ccd):  # rates of a CCD and places on it stay, but not which belongs to which
        old, new = events.ccd == ccd, dealt.ccd == ccd
        np.testing.assert_array_equal(np.sort(dealt.x[new]), np.sort(np.tile(events.x[old], 2)))
        np.testing.assert_array_equal(np.unique(dealt.time[new]), np.unique(events.time[old]))
    pairs = set(zip(events.time, events.x, strict=True))
    assert len(pairs & set(zip(dealt.time, dealt.x, strict=True))) < 0.1 * len(pairs)
    fainter = brighter(opened(folder).observation, 0.25).lists[0]
    assert fainter.time.size == round(0.25 * events.time.size)
    assert set(zip(fainter.time, fainter.x, strict=True)) <= pairs


@pytest.mark.parametrize("change", [lambda o: longer(o, 3), lambda o: emptier(o, 2.0)], ids=["longer", "emptier"])
def test_longer_and_emptier(folder: Path, change: object) -> None:
    observation = opened(folder).observation
    copies = 3 if change(observation).lists[0].time.size > observation.lists[0].time.size else 1
    for old, new in zip(observation.lists, change(observation).lists, strict=True):
        assert new.time.size == copies * old.time.size
        span = np.diff(new.event_span)[0]
        assert span > 2.9 * np.diff(old.event_span)[0]
        for ccd, good in new.good_time.items():
            was = old.good_time[ccd]
            wide = np.array([was.gti.min() - 1, was.gti.max() + 1e5])
            new_s, old_s = (float(np.diff(livetime_until(wide, one))[0]) for one in (good, was))
            assert new_s == pytest.approx(copies * old_s, rel=1e-3)
        inside = good_intervals(new)
        place = np.searchsorted(inside[:, 0], new.time, side="right") - 1
        was_inside = good_intervals(old)
        was_place = np.searchsorted(was_inside[:, 0], old.time, side="right") - 1
        share = np.mean(new.time <= inside[place, 1])
        assert share == pytest.approx(np.mean(old.time <= was_inside[was_place, 1]), abs=1e-3)


# --- what people see


def test_the_page_shows_every_number(tmp_path: Path) -> None:
    text = page([made_up()])
    for what in ("2 x gunzip", "451 MiB", "not measured (no GPU)", "images/growth.png", "with changes that are not"):
        assert what in text, what
    held = made_up()
    for table in [size_table(held), *stage_tables(held), *process_tables(held), *growth_tables(held)]:
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert table.markdown() in text
    plot_growth(held, tmp_path / "growth.png")
    assert np.ptp(imread(tmp_path / "growth.png")) > 0.5


def test_a_run_without_growth_has_no_picture() -> None:
    held = dataclasses.replace(made_up(), measurements=tuple(seconds("gunzip", "A", 1.0)))
    assert "growth.png" not in page([held])


def test_the_page_is_that_of_the_results() -> None:
    shown = ROOT / "docs" / "performance.md"
    kept = list((ROOT / "benchmarks" / "results").glob("*.json"))
    assert shown.exists() == bool(kept)
    if kept:
        assert shown.read_text("utf-8") == page(read_reports(kept)), "run scripts/performance-doc"
        readme = (ROOT / "README.md").read_text("utf-8")
        assert readme == with_headline(readme, read_reports(kept)), "run scripts/performance-doc"
        assert str(ROOT) not in "".join(path.read_text("utf-8") for path in kept)


def test_bench_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    # numpy: nothing is compiled into the empty folder that the first process is given
    arguments = ("--backend", "numpy", "--repeat", 1, "--work", tmp_path, "--json", tmp_path)
    done = command("bench", "--observation", folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert "whole scan over gunzip" in done.stdout
    assert [line[:20] for line in done.stdout.splitlines()[-2:]] == ["| flag kernel, 1e9 v", "| L, nine views afte"]
    (path,) = tmp_path.glob("*.json")
    held = from_json(path.read_text("utf-8"), path.name)
    assert held.find("fresh process", folder.name, "numpy", "cpu") is not None
    parts = sum(held.find(f"stage: {name}", folder.name, "numpy", "wall").median for name in [*STAGES, "rest"])
    assert parts == pytest.approx(held.find("scan", folder.name, "numpy", "wall").median)
    assert [path.name for path in tmp_path.iterdir()] == [path.name]  # nothing is left behind


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--observation", "nowhere"), 2, "--observation nowhere: no such folder"),
        (("--backend", "abacus"), 2, "unknown backend 'abacus'"),
        (("--json", "nowhere/a.json"), 2, "there is no folder nowhere; make it first"),
        (("--work", "/dev/null/here"), 1, "give --work another folder"),
    ],
)
def test_trouble_is_one_line(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = command("bench", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_scan_that_fails_in_its_process_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"a process of its own ended with exit code 2: .*/none: no such folder"):
        fresh_scan(tmp_path / "none", "numpy", tmp_path)


def test_two_checkouts_are_held_against_each_other(folder: Path, tmp_path: Path) -> None:
    script = [sys.executable, ROOT / "benchmarks" / "against.py"]
    done = subprocess.run(
        [*script, ROOT, folder, "--rounds", "1", "--backend", "numpy"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"\| \w+ \| [\d.]+ \([\d.]+\) \| [\d.]+ \([\d.]+\) \| \d+\.\d\d \|", row), row
    done = subprocess.run([*script, tmp_path, folder], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no xscan there" in done.stderr
