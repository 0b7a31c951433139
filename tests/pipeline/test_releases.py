"""A release searches what changed, takes the rest over, and says what became of every region."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.lists import CELL, CENTRE, quiet_list, with_burst, write_list

from xscan import open_results
from xscan.api import scan_settings
from xscan.cli.archive import scan
from xscan.cli.releases import list_releases, reprocess
from xscan.errors import ConfigError, StoreError
from xscan.pipeline import local
from xscan.pipeline.executor import ExecutorOptions
from xscan.pipeline.obslist import Obslist
from xscan.pipeline.progress import Reporter
from xscan.pipeline.release.changes import Change, changes
from xscan.pipeline.release.difference import EVENT_CHANGES, REGION_CHANGES
from xscan.pipeline.release.make import prepare
from xscan.pipeline.release.record import read_release
from xscan.pipeline.scan import Reading, Scanner, read_folder, search_reading
from xscan.results.ledger import Outcome

MAKING = ("config", "code")


def outcome(obsid: str, state: str = "done", **others: Any) -> Outcome:
    return Outcome(obsid, state, inputs_digest="files", config_digest="config", code_digest="code", **others)


def test_why_an_observation_is_searched_again() -> None:
    held = {name: outcome(name) for name in ("same", "files", "gone", "missing")} | {
        "failed": outcome("failed", "failed")
    }
    inputs = {"same": "files", "files": "others", "failed": "files", "fresh": "files", "missing": ""}
    listed = ["fresh", "same", "files", "failed", "missing"]
    found = changes(listed, inputs, held, MAKING)
    assert found == {
        "fresh": (Change.ADDED,),
        "same": (),
        "files": (Change.FILES,),
        "failed": (),
        "missing": (),  # files that are not here now, as where a cache was emptied, say nothing
        "gone": (Change.WITHDRAWN,),
    }
    assert list(found) == [*listed, "gone"]
    assert changes(listed, inputs, held, MAKING, retry_failed=True)["failed"] == (Change.RETRIED,)
    assert changes(["files"], inputs, held, ("config", "other"))["files"] == (Change.FILES, Change.CODE)
    assert changes(["same"], inputs, held, ("other", "code"))["same"] == (Change.SETTINGS,)


PLACES = [(-6, -6, 325.0), (5, -5, 925.0), (-5, 6, 1525.0)]  # cells from the centre, and s


class Archive:
    """Observations in a folder, each with a list of bursts that may be changed."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.bursts: dict[str, dict[int, int]] = {}  # by obsid: number of a place, counts
        self.version: dict[str, int] = {}
        data.mkdir()

    def write(self, obsid: str, bursts: dict[int, int]) -> None:
        """Make or remake an observation; the same bursts again make other files of the same events."""
        self.bursts[obsid] = bursts
        self.version[obsid] = self.version.get(obsid, 0) + 1
        fake = quiet_list(np.random.default_rng(int(obsid)), "m1", 2000.0)
        for number, counts in bursts.items():
            x, y, start = PLACES[number]
            place = (int(CENTRE + (x + 0.5) * CELL), int(CENTRE + (y + 0.5) * CELL))
            fake = with_burst(fake, np.random.default_rng(number), counts, start, 20.0, *place)
        fake = fake.take(np.argsort(fake.time, kind="stable"))
        write_list(self.data / obsid, replace(fake, primary={"DATE": f"2026-01-{self.version[obsid]:02d}"}), obsid)


class Releases:
    """``xscan reprocess``, and what it searched."""

    def __init__(self, folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.data = folder, data
        self.searched: list[str] = []

        def reading(folder: Path, scanner: Scanner, obsid: str | None = None) -> Reading:
            self.searched.append(str(obsid))
            return read_folder(folder, scanner, obsid)

        monkeypatch.setattr(local, "read_folder", reading)

    def make(self, name: str, obsids: list[str], view: str | None = "50:0.2-12", retry_failed: bool = False) -> int:
        self.searched.clear()
        listed = Obslist(tuple(obsids), 0, 0, 0)
        settings = scan_settings(views=[] if view is None else [view])
        return reprocess(
            listed, self.data, self.folder, name, settings, ExecutorOptions(), retry_failed, Reporter(len(obsids))
        )

    def changed(self, name: str, what: str = "regions") -> list[tuple[str, str, str]]:
        schema = {"events": EVENT_CHANGES, "regions": REGION_CHANGES}[what]
        table = pq.read_table(self.folder / name / f"changed_{what}.parquet", schema=schema)
        return [(row["obsid"], row["change"], row["reason"]) for row in table.to_pylist()]

    def hash(self, name: str) -> str:
        return open_results(self.folder / name).content_digest()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Archive, Releases]:
    archive = Archive(tmp_path / "data")
    return archive, Releases(tmp_path / "releases", archive.data, monkeypatch)


def test_a_year_of_releases(made: tuple[Archive, Releases]) -> None:
    """Each month two observations come, two are reprocessed, and one is withdrawn."""
    archive, releases = made
    rng = np.random.default_rng(7)
    obsids = [f"{number:010d}" for number in range(1, 37)]
    fresh = iter(obsids)
    listed: list[str] = []
    changing = 0
    for month in range(1, 13):
        before = {obsid: archive.bursts[obsid] for obsid in listed}
        added = [next(fresh) for _ in range(14 if month == 1 else 2)]
        remade = rng.choice(listed, 2, replace=False).tolist() if listed else []
        gone = [] if not listed else [str(rng.choice([obsid for obsid in listed if obsid not in remade]))]
        for obsid in added:
            archive.write(obsid, dict.fromkeys(range(int(rng.integers(0, 3))), 40))
        for obsid in remade:
            bursts = dict(archive.bursts[obsid])
            match changing % 3:
                case 0:
                    bursts[2] = 50  # another one
                case 1:
                    bursts = dict(list(bursts.items())[1:])  # one less, if there is one
            changing += 1
            archive.write(obsid, bursts)
        listed = [obsid for obsid in listed if obsid not in gone] + added
        assert releases.make(f"month-{month}", rng.permutation(listed).tolist()) == 0
        assert sorted(releases.searched) == sorted(added + remade)

        told = releases.changed(f"month-{month}")
        expected = [(obsid, "new", "added") for obsid in added for _ in archive.bursts[obsid]] if month > 1 else []
        expected += [(obsid, "lost", "withdrawn") for obsid in gone for _ in before[obsid]]
        for obsid in remade:
            new, old = archive.bursts[obsid].keys(), before[obsid].keys()
            expected += [(obsid, "new", "files")] * len(new - old) + [(obsid, "lost", "files")] * len(old - new)
        assert sorted(row for row in told if row[1] != "changed") == sorted(expected)
        # the background of a view, and so the expectation elsewhere, follows a burst that came or went
        touched = {obsid for obsid in remade if archive.bursts[obsid] != before[obsid]}
        assert {row[0] for row in told if row[1] == "changed"} <= touched
    assert {len(archive.bursts[obsid]) for obsid in listed} >= {0, 1, 2}

    releases.folder = releases.folder.with_name("from scratch")
    assert releases.make("all", listed) == 0
    assert sorted(releases.searched) == sorted(listed)
    scratch = releases.hash("all")
    releases.folder = releases.folder.with_name("releases")
    assert releases.hash("month-12") == scratch


def test_events_that_come_and_go(made: tuple[Archive, Releases], capsys: pytest.CaptureFixture[str]) -> None:
    """The search by windows: one observation gains a burst, one loses it, one is made again as it was."""
    archive, releases = made
    for obsid, bursts in zip(LISTED[:3], ({0: 40}, {1: 40}, {2: 40}), strict=True):
        archive.write(obsid, bursts)
    releases.make("a", LISTED[:3], view=None)
    assert read_release(releases.folder / "a").n_found == {"all": 3}
    assert "3 events (0 new, 0 lost, 0 changed); results" in capsys.readouterr().out
    for obsid, bursts in zip(LISTED[:3], ({0: 40, 2: 40}, {}, {2: 40}), strict=True):
        archive.write(obsid, bursts)
    releases.make("b", LISTED[:3], view=None)
    told = releases.changed("b", "events")
    assert (LISTED[0], "new", "files") in told
    assert [row for row in told if row[0] != LISTED[0]] == [(LISTED[1], "lost", "files")]
    b = read_release(releases.folder / "b")
    assert (b.n_found["all"], b.n_found["new"], b.n_found["lost"], b.n_regions) == (3, 1, 1, {"all": 0})
    observations = pq.read_table(releases.folder / "b" / "changed_observations.parquet").to_pylist()
    assert [(row["n_found_before"], row["n_found"]) for row in observations] == [(1, 2), (1, 0), (1, 1)]
    said = capsys.readouterr().out
    assert "events: new" in said
    assert "region" not in said.replace("changed_regions", "")
    list_releases(releases.folder, unfinished=False)
    assert "3 (1 new, 1 lost, " in capsys.readouterr().out


def test_another_code_or_configuration_searches_all(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, releases = made
    listed = ["0000000001", "0000000002"]
    for obsid in listed:
        archive.write(obsid, {0: 40})
    assert releases.make("a", listed) == 0
    assert releases.make("b", listed) == 0
    assert releases.searched == []
    assert releases.hash("a") == releases.hash("b")
    assert releases.make("c", listed, view="5:0.2-12") == 0
    assert sorted(releases.searched) == listed
    assert {row[1:] for row in releases.changed("c")} == {("new", "settings"), ("lost", "settings")}  # in other views
    monkeypatch.setattr("xscan.pipeline.scan.code_digest", lambda: "another")
    assert releases.make("d", listed, view="5:0.2-12") == 0
    assert sorted(releases.searched) == listed
    assert releases.changed("d") == []


def test_a_release_that_was_stopped_goes_on(made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch) -> None:
    archive, releases = made
    listed = [f"{number:010d}" for number in range(1, 5)]
    for obsid in listed[:2]:
        archive.write(obsid, {0: 40})
    assert releases.make("a", listed[:2]) == 0
    for obsid in listed[2:]:
        archive.write(obsid, {1: 40})

    with monkeypatch.context() as patch:
        patch.setattr("xscan.pipeline.release.make.compare_regions", dies)
        with pytest.raises(Died):
            releases.make("b", listed)
    assert sorted(releases.searched) == listed[2:]
    assert releases.make("b", listed) == 0
    assert releases.searched == []
    assert [row[:2] for row in releases.changed("b")] == [(listed[2], "new"), (listed[3], "new")]
    with pytest.raises(ConfigError, match="finished"):
        releases.make("b", listed)
    with pytest.raises(ConfigError, match="--release"):
        releases.make("../b", listed)


class Died(BaseException):
    """As a process that is killed."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Kill the process when so many observations were searched."""
    left = after

    def searching(*args: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Died
        left -= 1
        return search_reading(*args)

    with monkeypatch.context() as patch:
        patch.setattr(local, "search_reading", searching)
        with pytest.raises(Died):
            yield


LISTED = [f"{number:010d}" for number in range(1, 7)]


@pytest.mark.parametrize("after", [0, 1])
def test_a_release_goes_on_whatever_is_other_meanwhile(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The list, files of an observation that was carried over, and of one that was searched or not yet."""
    archive, releases = made
    for obsid in LISTED:
        archive.write(obsid, {0: 40})
    releases.make("a", LISTED[:4])
    archive.write(LISTED[1], {0: 40, 1: 40})
    with dying(monkeypatch, after):
        releases.make("b", LISTED[:5])
    archive.write(LISTED[0], {})  # carried over when it was begun
    archive.write(LISTED[1], {1: 40})
    listed = [*LISTED[:2], *LISTED[3:]]
    assert releases.make("b", listed) == 0
    assert {*LISTED[:2], LISTED[5]} <= set(releases.searched) <= {*LISTED[:2], *LISTED[4:]}
    observations = pq.read_table(releases.folder / "b" / "changed_observations.parquet").to_pylist()
    assert [(row["obsid"], row["reason"]) for row in observations] == [
        (LISTED[0], "files"), (LISTED[1], "files"), (LISTED[2], "withdrawn"), (LISTED[4], "added"), (LISTED[5], "added")
    ]  # fmt: skip
    told = [row[:2] for row in releases.changed("b") if row[1] != "changed"]
    assert told == [
        (LISTED[0], "lost"), (LISTED[1], "lost"), (LISTED[1], "new"), (LISTED[2], "lost"), (LISTED[4], "new"),
        (LISTED[5], "new"),
    ]  # fmt: skip
    made_from_b = releases.hash("b")
    releases.folder = releases.folder.with_name("from scratch")
    releases.make("all", listed)
    assert releases.hash("all") == made_from_b


def test_an_observation_that_was_searched_may_leave_the_list(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, releases = made
    for obsid in LISTED[:2]:
        archive.write(obsid, {})
    with dying(monkeypatch, 1):
        releases.make("a", LISTED[:2])
    assert open_results(releases.folder / "a").observations() == LISTED[:1]
    assert releases.make("a", LISTED[1:2]) == 0
    assert open_results(releases.folder / "a").observations() == LISTED[1:2]


def test_only_a_release_that_is_finished_is_built_on(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, releases = made
    for obsid in LISTED[:3]:
        archive.write(obsid, {0: 40})
    releases.make("a", LISTED[:2])
    with dying(monkeypatch, 0):
        releases.make("b", LISTED)
    releases.make("c", LISTED[1:3])
    c = read_release(releases.folder / "c")
    assert (c.number, c.previous) == (3, "a")
    assert (c.n_carried, c.n_searched, c.n_withdrawn) == (1, {"added": 1}, 1)
    assert c.n_regions == {"new": 1, "lost": 1, "all": 2}


def test_files_that_go_while_a_release_is_stopped(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was searched stays, and is told of; what was not keeps the results it had."""
    archive, releases = made
    for obsid in LISTED[:2]:
        archive.write(obsid, {0: 40})
    releases.make("a", LISTED[:2])
    for obsid in LISTED[:2]:
        archive.write(obsid, {1: 40})
    with dying(monkeypatch, 1):
        releases.make("b", LISTED[:2])
    for obsid in LISTED[:2]:
        shutil.rmtree(archive.data / obsid)
    assert releases.make("b", LISTED[:2]) == 0
    assert releases.searched == []
    assert sorted(releases.changed("b")) == [(LISTED[0], "lost", "files"), (LISTED[0], "new", "files")]


def test_code_and_retrying_may_be_others_when_a_release_goes_on(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, releases = made
    for obsid in LISTED[1:3]:
        archive.write(obsid, {0: 40})
    listed = LISTED[:3]
    assert releases.make("a", listed[:2]) == 1  # the first has no folder
    with dying(monkeypatch, 0):
        releases.make("b", listed)
    assert releases.make("b", listed, retry_failed=True) == 1
    assert releases.searched == [listed[0], listed[2]]
    observations = pq.read_table(releases.folder / "b" / "changed_observations.parquet").to_pylist()
    assert [(row["obsid"], row["reason"]) for row in observations] == [(listed[0], "retried"), (listed[2], "added")]

    with monkeypatch.context() as patch:
        patch.setattr("xscan.pipeline.scan.code_digest", lambda: "another")
        with dying(monkeypatch, 2):
            releases.make("c", listed)
    releases.make("c", listed)  # with the code of b
    assert releases.searched == []
    assert releases.hash("c") == releases.hash("b")
    assert releases.changed("c") == []


def test_the_release_before_may_be_removed(made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch) -> None:
    archive, releases = made
    for obsid in LISTED[:3]:
        archive.write(obsid, {0: 40})
    for number, name in enumerate(["a", "b"], start=1):
        releases.make(name, LISTED[:number])
    with dying(monkeypatch, 0):
        releases.make("c", LISTED[:3])
    shutil.rmtree(releases.folder / "b")
    assert releases.make("c", LISTED[:3]) == 0
    assert [row[:2] for row in releases.changed("c")] == [(LISTED[1], "new"), (LISTED[2], "new")]  # held against a
    assert read_release(releases.folder / "c").previous == "a"
    shutil.rmtree(releases.folder / "a")
    assert len(open_results(releases.folder / "c").table("regions")) == 3


def test_what_is_no_release_is_left_alone(made: tuple[Archive, Releases]) -> None:
    archive, releases = made
    archive.write(LISTED[0], {})
    releases.make("a", LISTED[:1])
    (releases.folder / "a" / "_release.json").unlink()
    with pytest.raises(ConfigError, match="no release"):
        releases.make("a", LISTED[:1])
    assert not (releases.folder / "a" / "_release.json").exists()


def test_a_folder_of_other_things_is_no_folder_of_releases(made: tuple[Archive, Releases]) -> None:
    archive, releases = made
    archive.write(LISTED[0], {})
    (releases.folder / "chapters").mkdir(parents=True)
    (releases.folder / "chapters" / "1.tex").write_text("mine")
    with pytest.raises(ConfigError, match=r"releases: holds other things and no release \(chapters, \.\.\.\)"):
        releases.make("a", LISTED[:1])
    assert [path.name for path in releases.folder.iterdir()] == ["chapters"]
    (releases.folder / "chapters" / "1.tex").rename(releases.folder / ".hidden")  # an empty folder is nobody's
    assert releases.make("a", LISTED[:1]) == 0
    (releases.folder / "README").write_text("what these are")
    assert releases.make("b", LISTED[:1]) == 0


def test_only_reprocess_writes_into_a_release(made: tuple[Archive, Releases]) -> None:
    archive, releases = made
    archive.write(LISTED[0], {})
    releases.make("a", LISTED[:1])
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (releases.folder / "a").rglob("*"))
    with pytest.raises(ConfigError, match="a is a release, which only xscan reprocess writes; choose another --out"):
        scan([archive.data / LISTED[0]], None, releases.folder / "a", scan_settings(views=["50:0.2-12"]), plot=False)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (releases.folder / "a").rglob("*")) == before


def test_a_release_finished_by_another_process_is_not_touched(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, releases = made
    archive.write(LISTED[0], {})
    prepared = prepare(releases.folder, "a", LISTED[:1])
    releases.make("a", LISTED[:1])
    finished = read_release(releases.folder / "a")
    monkeypatch.setattr("xscan.cli.releases.prepare", lambda *_: prepared)
    with pytest.raises(ConfigError, match="was finished"):
        releases.make("a", LISTED[:1])
    assert read_release(releases.folder / "a") == finished


def test_folders_that_cannot_be_written_are_one_line(
    made: tuple[Archive, Releases], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, releases = made
    archive.write(LISTED[0], {})
    with pytest.raises(StoreError, match="cannot write results here: File name too long"):
        releases.make("a" * 300, LISTED[:1])
    (releases.folder / "a").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr("xscan.pipeline.release.make.compare_regions", dies)
        with pytest.raises(Died):
            releases.make("a", LISTED[:1])
    (releases.folder / "a" / "changed_regions.parquet").mkdir()
    with pytest.raises(StoreError, match="cannot write results here"):
        releases.make("a", LISTED[:1])
    releases.folder = releases.folder / "a" / "_release.json"
    with pytest.raises(StoreError, match="Not a directory"):
        releases.make("a", LISTED[:1])


def dies(*_: object) -> None:
    raise Died


def test_files_that_are_gone_change_nothing_and_failures_are_retried_when_asked(made: tuple[Archive, Releases]) -> None:
    archive, releases = made
    listed = ["0000000001", "0000000002"]
    archive.write(listed[0], {0: 40})
    assert releases.make("a", listed) == 1  # the second has no folder
    shutil.rmtree(archive.data / listed[0])
    assert releases.make("b", listed) == 0  # nothing was searched, and so nothing failed
    assert (releases.searched, releases.changed("b")) == ([], [])
    assert releases.make("c", listed, retry_failed=True) == 1
    assert releases.searched == [listed[1]]
    archive.write(listed[1], {})
    assert releases.make("d", listed) == 0
    assert releases.searched == [listed[1]]
    observations = pq.read_table(releases.folder / "d" / "changed_observations.parquet").to_pylist()
    assert [(row["obsid"], row["reason"], row["state_before"], row["state"]) for row in observations] == [
        (listed[1], "files", "failed", "done")
    ]
