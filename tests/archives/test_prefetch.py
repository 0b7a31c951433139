"""Fetching while searching: an archive on 127.0.0.1, and the command that takes from it what is not here."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.archive_server import BadArchive, changed, serving, status
from helpers.lists import CENTRE, quiet_list, with_burst, write_list

import xscan
from xscan import api
from xscan.archives import Fetched, Fetcher, RequestLimits, open_archive, open_web
from xscan.archives.cache import size_on_disk
from xscan.archives.prefetch import Prefetch, _between, prefetched
from xscan.cli.archive import archive as run_archive
from xscan.errors import ArchiveError, Reason
from xscan.pipeline.executor import ExecutorOptions
from xscan.pipeline.local import run
from xscan.pipeline.obslist import Obslist
from xscan.pipeline.progress import Reporter
from xscan.pipeline.task import Task
from xscan.results.writer import ResultsWriter

# Dask leaves a socket now and then to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")

HERE = ["0000000001", "0000000002"]
THERE = ["0000000003", "0000000004", "0000000005", "0000000006"]
ABSENT, UNKNOWN = "0000000007", "0000000008"
FOUND = [*HERE, *THERE]
VIEWS = ["5:0.2-12"]
EXECUTORS = [ExecutorOptions(), ExecutorOptions(workers=1)]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six observations with a burst each."""
    root = tmp_path_factory.mktemp("products")
    rng = np.random.default_rng(9)
    for obsid in FOUND:
        write_list(root / obsid, with_burst(quiet_list(rng, "m1", 300.0), rng, 30, 100.0, 4.0, CENTRE, CENTRE), obsid)
    return root


@pytest.fixture(scope="module")
def offline(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is found where all of them are here."""
    out = tmp_path_factory.mktemp("offline") / "out"
    assert search(products, out, None, FOUND) == 0
    return out


@pytest.fixture
def archive(products: Path) -> Iterator[BadArchive]:
    """Has four of the observations, and knows of a fifth that has no event list."""
    held = BadArchive()
    for obsid in THERE:
        held.files[obsid] = {path.name: path.read_bytes() for path in (products / obsid).iterdir()}
    held.files[ABSENT] = {}
    with serving(held):
        yield held


@pytest.fixture
def data(products: Path, tmp_path: Path) -> Path:
    """The other two."""
    for obsid in HERE:
        shutil.copytree(products / obsid, tmp_path / "data" / obsid)
    return tmp_path / "data"


def search(
    data: Path,
    out: Path,
    prefetch: Prefetch | None,
    obsids: list[str],
    options: ExecutorOptions = EXECUTORS[0],
    retry_failed: bool = False,
) -> int:
    """The command, in this process; the exit code."""
    settings = api.scan_settings(views=VIEWS, backend="numpy")
    reporter = Reporter(len(obsids))
    return run_archive(
        Obslist(tuple(obsids), 0, 0, 0), data, out, settings, options, reporter, prefetch, False, retry_failed
    )


def from_archive(archive: BadArchive, limit: int | None = None) -> Prefetch:
    return Prefetch(f"nxsa:{archive.url}", requests_per_s=1000.0, cache_limit_bytes=limit)


def states(out: Path) -> dict[str, str]:
    runs = xscan.open_results(out).table("runs", columns=["obsid", "state", "reason"]).to_pylist()
    return {row["obsid"]: row["reason"] or row["state"] for row in runs}


def finished(out: Path) -> dict[str, object]:
    runs = xscan.open_results(out).table("runs", columns=["obsid", "finished_utc"]).to_pylist()
    return {row["obsid"]: row["finished_utc"] for row in runs}


@pytest.mark.parametrize("options", EXECUTORS)
def test_every_observation_is_accounted_for(
    archive: BadArchive, data: Path, tmp_path: Path, offline: Path, options: ExecutorOptions
) -> None:
    archive.misbehave(THERE[1], status(503, Retry_After="0"))
    listed = [UNKNOWN, THERE[0], HERE[0], ABSENT, *THERE[1:], HERE[1]]
    out = tmp_path / "out"
    assert search(data, out, from_archive(archive), listed, options) == 1
    expected = dict.fromkeys(FOUND, "done") | {ABSENT: "no_products", UNKNOWN: "no_such_observation"}
    assert states(out) == expected
    assert not any(archive.count(obsid) for obsid in HERE)
    rows = xscan.open_results(out).table("runs").to_pylist()
    assert {(row["obsid"], row["state"]) for row in rows} >= {(ABSENT, "skipped"), (UNKNOWN, "failed")}
    asked, when = len(archive.asked), finished(out)
    assert search(data, out, from_archive(archive), listed, options) == 1
    assert (len(archive.asked), finished(out)) == (asked, when)  # neither asked for nor searched again
    assert search(data, out, from_archive(archive), FOUND) == 0
    without = tmp_path / "without"
    assert search(data, without, from_archive(archive), FOUND) == 0  # all present by now
    assert len(archive.asked) == asked
    expected_hash = xscan.open_results(offline).content_digest()
    assert xscan.open_results(without).content_digest() == expected_hash


def test_fetched_while_searching_gives_the_same(archive: BadArchive, data: Path, tmp_path: Path, offline: Path) -> None:
    assert search(data, tmp_path / "out", from_archive(archive), FOUND[::-1]) == 0
    assert xscan.open_results(tmp_path / "out").content_digest() == xscan.open_results(offline).content_digest()


@pytest.mark.parametrize("options", EXECUTORS)
def test_what_is_done_makes_room(
    archive: BadArchive, data: Path, tmp_path: Path, offline: Path, options: ExecutorOptions
) -> None:
    out = tmp_path / "out"
    limit = size_on_disk(data) + 1000  # for none of what is fetched
    assert search(data, out, from_archive(archive, limit), FOUND, options) == 0
    assert xscan.open_results(out).content_digest() == xscan.open_results(offline).content_digest()
    assert size_on_disk(data) <= limit
    assert {path.name for path in data.iterdir()} >= set(HERE)
    asked, when = len(archive.asked), finished(out)
    assert search(data, out, from_archive(archive, limit), FOUND, options) == 0
    assert (len(archive.asked), finished(out)) == (asked, when)


def test_trouble_is_tried_again_by_the_next_run(archive: BadArchive, data: Path, tmp_path: Path, offline: Path) -> None:
    out = tmp_path / "out"
    for obsid in THERE[:2]:
        archive.misbehave(obsid, status(503, Retry_After="5000"))
    assert search(data, out, from_archive(archive), FOUND) == 1
    assert states(out) == dict.fromkeys(FOUND, "done") | dict.fromkeys(THERE[:2], "archive_trouble")
    assert search(data, out, None, FOUND) == 1  # nothing to go by offline
    assert states(out)[THERE[0]] == "archive_trouble"
    when = finished(out)
    assert search(data, out, from_archive(archive), FOUND) == 0
    assert {obsid for obsid in FOUND if finished(out)[obsid] != when[obsid]} == set(THERE[:2])
    assert xscan.open_results(out).content_digest() == xscan.open_results(offline).content_digest()


def test_a_limit_holds_where_nothing_is_left_to_do(archive: BadArchive, data: Path, tmp_path: Path) -> None:
    assert search(data, tmp_path / "out", from_archive(archive), FOUND) == 0
    assert (data / THERE[0]).is_dir()
    assert search(data, tmp_path / "out", from_archive(archive, 0), FOUND) == 0
    assert not any((data / obsid).exists() for obsid in THERE)
    assert all((data / obsid).is_dir() for obsid in HERE)  # not fetched by xscan


def test_room_is_made_as_it_goes(archive: BadArchive, tmp_path: Path) -> None:
    done: set[str] = set()

    def held() -> set[str]:
        return {obsid for obsid in THERE if (tmp_path / obsid).exists()}

    with prefetched(THERE, tmp_path, from_archive(archive, 0), done, lambda fetched: None) as arriving:
        for task in arriving:
            if task is not None:
                assert not held() & done
                done.add(task[0])
                last = task[0]
        assert done == set(THERE)
        assert held() <= {last}
    assert held() == set()


def test_what_failed_is_kept(archive: BadArchive, data: Path, tmp_path: Path) -> None:
    """Whoever wants to know why it failed finds its files."""
    odd = write_list(tmp_path, replace(quiet_list(np.random.default_rng(1)), drop_columns=("PI",)), THERE[0])
    archive.files[THERE[0]] = {odd.name: odd.read_bytes()}
    assert search(data, tmp_path / "out", from_archive(archive, 0), THERE[:2]) == 1
    assert states(tmp_path / "out") == {THERE[0]: "no_events_table", THERE[1]: "done"}
    assert [(data / obsid).exists() for obsid in THERE[:2]] == [True, False]


def test_room_that_cannot_be_made_is_one_line(
    archive: BadArchive, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: Path, limit: int, done: set[str]) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(data / THERE[0]))

    monkeypatch.setattr("xscan.archives.prefetch.make_room", refuse)
    with pytest.raises(
        ArchiveError, match=rf"{THERE[0]}: cannot be deleted for --cache-limit: Permission denied; mend"
    ):
        search(data, tmp_path / "out", from_archive(archive, 0), FOUND)


@pytest.mark.parametrize("options", EXECUTORS)
def test_a_disk_that_takes_no_more_ends_the_run_and_not_what_is_finished(
    archive: BadArchive,
    data: Path,
    tmp_path: Path,
    offline: Path,
    options: ExecutorOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error comes from the iterator of observations, while workers have some."""
    out = tmp_path / "out"
    bring = Fetcher._bring

    def full(self: Fetcher, obsid: str) -> Fetched:
        if obsid == THERE[2]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return bring(self, obsid)

    with monkeypatch.context() as patched:
        patched.setattr(Fetcher, "_bring", full)
        with pytest.raises(ArchiveError, match=r"cannot be written: No space left on device.*goes on from there"):
            search(data, out, from_archive(archive), FOUND, options)
    assert set(states(out).values()) <= {"done"}
    assert search(data, out, from_archive(archive), FOUND) == 0
    assert xscan.open_results(out).content_digest() == xscan.open_results(offline).content_digest()


@pytest.mark.parametrize("prefetch", [True, False], ids=["fetching", "offline"])
def test_results_stay_when_files_go(archive: BadArchive, data: Path, tmp_path: Path, prefetch: bool) -> None:
    """A cache that is emptied says nothing, nor does what is half there."""
    second = write_list(tmp_path, quiet_list(np.random.default_rng(2), "m2", 300.0), THERE[0])
    archive.files[THERE[0]][second.name] = second.read_bytes()
    out = tmp_path / "out"
    assert search(data, out, from_archive(archive), FOUND) == 0
    before, when = xscan.open_results(out).content_digest(), finished(out)
    for path in data.glob("0*/P*"):
        if THERE[0] not in path.name or path.name == second.name:
            path.unlink()
    for obsid in THERE:
        archive.misbehave(obsid, *[status(404)] * 50)
    assert search(data, out, from_archive(archive) if prefetch else None, FOUND, retry_failed=True) == 0
    assert xscan.open_results(out).content_digest() == before
    assert finished(out) == when


KINDS = ["file", "nowhere", "itself", "empty", "half", "work"]


@pytest.mark.parametrize("prefetch", [True, False], ids=["fetching", "offline"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [*((kind, EXECUTORS[0]) for kind in KINDS), *((kind, EXECUTORS[1]) for kind in ("nowhere", "half"))],
)
def test_what_is_in_the_way_costs_one_observation(
    archive: BadArchive, data: Path, tmp_path: Path, offline: Path, options: ExecutorOptions, kind: str, prefetch: bool
) -> None:
    place, elsewhere = data / THERE[0], tmp_path / "elsewhere"
    if kind == "half":  # all that was fetched is gone but a file of one's own
        assert search(data, tmp_path / "first", from_archive(archive), [THERE[0]]) == 0
        next(place.glob("P*")).unlink()
        (place / "mine").touch()
        place.rename(elsewhere)
    elif kind == "work":
        (data / "_fetching").mkdir()
        place = data / "_fetching" / THERE[0]
    else:
        elsewhere.mkdir()
    if kind in ("file", "work"):
        place.write_text("mine")
    else:
        place.symlink_to({"itself": place, "nowhere": data / "nowhere"}.get(kind, elsewhere))
    out = tmp_path / "out"
    listed = [THERE[0], *HERE]
    assert search(data, out, from_archive(archive) if prefetch else None, listed, options) == 1
    lists = not prefetch and kind in ("empty", "half")
    assert states(out) == dict.fromkeys(HERE, "done") | {THERE[0]: "no_event_lists" if lists else "no_folder"}
    place.unlink()
    assert search(data, out, from_archive(archive), FOUND) == 0
    assert xscan.open_results(out).content_digest() == xscan.open_results(offline).content_digest()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_cannot_be_read_costs_one_observation(archive: BadArchive, data: Path, tmp_path: Path) -> None:
    (data / HERE[0]).chmod(0)
    assert search(data, tmp_path / "out", from_archive(archive), HERE) == 1
    (data / HERE[0]).chmod(0o755)
    assert states(tmp_path / "out") == {HERE[0]: "no_folder", HERE[1]: "done"}


def test_trouble_with_one_folder_is_told_from_the_disks(data: Path, archive: BadArchive) -> None:
    own, work = str(data / THERE[0] / "file"), str(data / "_fetching" / THERE[0])
    with open_web(RequestLimits()) as web:
        fetcher = Fetcher(open_archive(f"nxsa:{archive.url}", web), data)
        told = fetcher._in_the_way(THERE[0], PermissionError(errno.EACCES, "Permission denied", own))
        assert (told.state, told.reason) == ("failed", Reason.NO_FOLDER)
        for number, where in ((errno.EACCES, work), (errno.ENOSPC, own), (errno.EMFILE, own), (errno.EIO, None)):
            with pytest.raises(ArchiveError, match="cannot be written"):
                fetcher._in_the_way(THERE[0], OSError(number, "trouble", where))


def test_nobody_waits_for_a_folder_that_is_not_whole(
    archive: BadArchive, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is here is given while it is asked for."""
    (data / THERE[0]).mkdir()
    others = threading.Event()
    bring = Fetcher._bring

    def slow(self: Fetcher, obsid: str) -> Fetched:
        assert others.wait(30)
        return bring(self, obsid)

    monkeypatch.setattr(Fetcher, "_bring", slow)
    given = []
    with prefetched([THERE[0], *HERE], data, from_archive(archive), set(), pytest.fail) as arriving:
        for task in arriving:
            given += [] if task is None else [task[0]]
            if given == HERE:
                others.set()
    assert given == [*HERE, THERE[0]]


def test_what_arrives_goes_before_what_is_here() -> None:
    """Only where nothing has arrived, what is here is taken: so there is room for the next to be fetched."""
    a, b, x, y, z = (Fetched(name, "fetched") for name in "abxyz")
    never = threading.Event()
    never.set()  # no waiting
    assert list(_between(iter([None, a, None, b]), iter([x, y, z]), never)) == [x, a, y, b, z]
    assert list(_between(iter([None, None, a]), iter([x]), never)) == [x, None, a]


@pytest.mark.parametrize("options", [(), ("--workers", "1")])
def test_interrupted_in_the_middle(
    archive: BadArchive, data: Path, tmp_path: Path, offline: Path, options: tuple[str, ...]
) -> None:
    """What is here is searched, though downloads that come first on the list hang."""
    out = tmp_path / "out"
    for obsid in THERE[:2]:
        archive.misbehave(f"obsno={obsid}&level=PPS&instname=M1", changed(hang_at=1000))
    (tmp_path / "list.txt").write_text("\n".join([*THERE, *HERE]))
    where = ["--obslist", tmp_path / "list.txt", "--data", data, "--out", out, "--from", f"nxsa:{archive.url}"]
    view = ["--view", VIEWS[0], "--backend", "numpy"]
    # a shell in the background passes on that interrupts are ignored
    code = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from xscan.cli.app import main; main()"
    command = [sys.executable, "-c", code, "archive", *map(str, where), *view, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: all(archive.count(f"obsno={obsid}&level=PPS&instname=M1") for obsid in THERE[:2]))
        eventually(lambda: len(list((out / "staging").glob("*.arrow"))) == len(HERE))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("xscan: stopped by SIGINT; what is finished is in")
    assert "Traceback" not in said
    assert states(out) == dict.fromkeys(HERE, "done")
    assert search(data, out, from_archive(archive), FOUND) == 0
    assert xscan.open_results(out).content_digest() == xscan.open_results(offline).content_digest()


def test_what_is_read_is_searched_though_nothing_else_has_come(products: Path, tmp_path: Path) -> None:
    scanner = api.scan_settings(views=VIEWS, backend="numpy").scanner()
    heard: list[str] = []

    def halting() -> Iterator[Task | None]:
        for k, obsid in enumerate(FOUND[:3]):
            yield None
            yield Task(obsid, products / obsid)
            while len(heard) <= k:
                asked.append(obsid)
                assert asked.count(obsid) < 5
                yield None

    asked: list[str] = []
    with ResultsWriter(tmp_path / "out", scanner.provenance(), scanner.settings.by_name()) as writer:
        run(halting(), scanner, writer, lambda summary: heard.append(summary.outcome.obsid))
    assert heard == FOUND[:3]


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
