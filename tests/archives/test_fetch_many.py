"""Many observations: ahead of whoever uses them, on the command line, below a limit, and through kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.archive_server import BadArchive, Reply, changed, serving, status
from helpers.command import run as command
from helpers.products import huge, mos, observation, pn

from xscan.archives import Fetched, Fetcher, RequestLimits, fetch_ahead, open_archive, open_web
from xscan.archives.cache import make_room, size_on_disk
from xscan.archives.fetch import JOURNAL, WORK
from xscan.archives.marker import MARKER, Marker, read_marker, write_marker
from xscan.archives.offer import SavedFile
from xscan.errors import ArchiveError, ConfigError, Reason
from xscan.pipeline.units import parse_size

OBSIDS = [f"000000000{k}" for k in range(1, 7)]


@pytest.fixture
def archive() -> Iterator[BadArchive]:
    held = BadArchive()
    held.files = {obsid: observation(obsid) for obsid in OBSIDS}
    with serving(held):
        yield held


class Slow:
    """A fetch that says how many were under way or ready, and can be held up."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gate = threading.Semaphore(0)

    def fetch(self, obsid: str) -> Fetched:
        self.started.append(obsid)
        self.gate.acquire()
        return Fetched(obsid, "fetched", Path(obsid))


def eventually(holds: object) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_ahead_is_bounded() -> None:
    slow = Slow()
    ready = fetch_ahead(OBSIDS, slow.fetch, threading.Event(), threads=2, ahead=3)
    slow.gate.release(100)
    first = next(ready)
    eventually(lambda: len(slow.started) == 4)  # the one that was taken, and three ahead
    time.sleep(0.05)
    assert len(slow.started) == 4
    assert sorted([first.obsid, *(outcome.obsid for outcome in ready)]) == OBSIDS


def test_ahead_gives_what_is_there_first() -> None:
    held_up = threading.Event()

    def fetch(obsid: str) -> Fetched:
        if obsid == OBSIDS[0]:
            held_up.wait(10)
        return Fetched(obsid, "fetched")

    given = fetch_ahead(OBSIDS[:3], fetch, threading.Event(), threads=2, ahead=3)
    assert [next(given).obsid, next(given).obsid] == OBSIDS[1:3]
    held_up.set()
    assert [outcome.obsid for outcome in given] == OBSIDS[:1]


def test_ahead_ends_where_a_fetch_cannot_go_on() -> None:
    stop = threading.Event()

    def fetch(obsid: str) -> Fetched:
        if obsid == OBSIDS[2]:
            raise ArchiveError(Reason.DISK, "full")
        return Fetched(obsid, "fetched")

    with pytest.raises(ArchiveError, match="full"):
        list(fetch_ahead(OBSIDS, fetch, stop, threads=1))
    assert stop.is_set()


def test_ahead_is_cancelled_in_the_middle_of_a_file(archive: BadArchive, tmp_path: Path) -> None:
    """What has arrived of it is kept, and the next run goes on there."""
    archive.files[OBSIDS[1]] = observation(OBSIDS[1], 90_000)
    archive.misbehave(OBSIDS[1], changed(trickle=500))
    before = threading.active_count()
    with open_web(RequestLimits(requests_per_s=1e6)) as web:
        fetcher = Fetcher(open_archive(f"nxsa:{archive.url}", web), tmp_path)
        given = fetch_ahead(OBSIDS, fetcher.fetch, web.stop, threads=1, ahead=2)
        assert next(given).obsid == OBSIDS[0]
        part = tmp_path / WORK / OBSIDS[1] / f"{pn(OBSIDS[1])}.part"
        eventually(lambda: part.exists() and part.stat().st_size > 0)
        given.close()
        eventually(lambda: "fetch-0" not in {thread.name for thread in threading.enumerate()})
    assert threading.active_count() <= before + 1  # the server's
    assert not (tmp_path / OBSIDS[1]).exists()
    archive.released.set()
    size = part.stat().st_size
    with open_web(RequestLimits(requests_per_s=1e6)) as web:
        fetcher = Fetcher(open_archive(f"nxsa:{archive.url}", web), tmp_path)
        assert fetcher.fetch(OBSIDS[1]).state == "fetched"
    assert archive.asked[-4][1]["Range"] == f"bytes={size}-"


def test_a_wait_is_cancelled_at_once(archive: BadArchive, tmp_path: Path) -> None:
    archive.misbehave("PIEVLI", status(503, Retry_After="500"))
    with open_web(RequestLimits(requests_per_s=1e6)) as web:
        fetcher = Fetcher(open_archive(f"nxsa:{archive.url}", web), tmp_path)
        given = fetch_ahead(OBSIDS, fetcher.fetch, web.stop, threads=1)
        closing = threading.Timer(0.2, web.stop.set)
        closing.start()
        assert list(given) == []
        closing.join()


def held(data: Path, obsid: str, date: str, n_bytes: int = 1000, complete: bool = True) -> Path:
    """An observation as xscan fetched it."""
    folder = data / obsid
    folder.mkdir(parents=True)
    (folder / pn(obsid)).write_bytes(bytes(n_bytes))
    taken = {"pn": (SavedFile(pn(obsid), n_bytes),)}
    write_marker(folder, Marker(obsid, "nxsa", "", date, complete, taken))
    return folder


def test_the_oldest_that_are_done_make_room(tmp_path: Path) -> None:
    for obsid, date in zip(OBSIDS[:4], ("2026-01-03", "2026-01-01", "2026-01-02", "2026-01-04"), strict=True):
        held(tmp_path, obsid, date)
    each = size_on_disk(tmp_path) // 4
    done = {OBSIDS[0], OBSIDS[2], OBSIDS[3]}  # the oldest is in use
    assert make_room(tmp_path, 10 * each, done) == []
    assert make_room(tmp_path, 2 * each, done) == [OBSIDS[2], OBSIDS[0]]
    assert {path.name for path in tmp_path.iterdir()} == {OBSIDS[1], OBSIDS[3], WORK}
    assert make_room(tmp_path, 0, done) == [OBSIDS[3]]
    assert (tmp_path / OBSIDS[1] / pn(OBSIDS[1])).exists()


def test_what_is_being_fetched_may_vanish_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    monkeypatch.setattr(os, "walk", lambda folder: [(str(folder), [], ["file", f"{pn()}.part"])])
    assert size_on_disk(tmp_path) == 100


def test_nothing_that_is_not_ours_makes_room(tmp_path: Path) -> None:
    own = tmp_path / OBSIDS[0]
    own.mkdir()
    (own / pn(OBSIDS[0])).write_bytes(bytes(1000))
    (held(tmp_path, OBSIDS[1], "2026-01-01") / "notes.txt").touch()
    held(tmp_path, OBSIDS[2], "2026-01-01", complete=False)
    held(tmp_path / "elsewhere", OBSIDS[3], "2026-01-01")
    (tmp_path / OBSIDS[3]).symlink_to(tmp_path / "elsewhere" / OBSIDS[3])
    held(tmp_path, OBSIDS[4], "2026-01-01").rename(tmp_path / OBSIDS[5])  # renamed by somebody
    before = sorted(tmp_path.rglob("*"))
    assert make_room(tmp_path, 0, {*OBSIDS, "..", "elsewhere"}) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mirror_is_not_emptied(archive: BadArchive, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror" / OBSIDS[0]
    mirror.mkdir(parents=True)
    for name, data in archive.files[OBSIDS[0]].items():
        (mirror / name).write_bytes(data)
    with open_web(RequestLimits()) as web:
        Fetcher(open_archive(f"folder:{tmp_path / 'mirror'}", web), tmp_path / "data").fetch(OBSIDS[0])
    assert make_room(tmp_path / "data", 0, {OBSIDS[0]}) == [OBSIDS[0]]
    assert len(list(mirror.iterdir())) == 4


def test_a_deletion_that_was_killed_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held(tmp_path, OBSIDS[0], "2026-01-01")

    def die(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("xscan.archives.cache.shutil.rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            make_room(tmp_path, 0, OBSIDS)
    assert not (tmp_path / OBSIDS[0]).exists()
    assert make_room(tmp_path, 10**9, OBSIDS) == []
    assert size_on_disk(tmp_path) == 0


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("200GB", 200 * 10**9), ("1.5 TB", 1.5e12), ("500M", 5e8), ("2GiB", 2**31), ("1024", 1024), ("3kb", 3000)],
)
def test_sizes(text: str, n_bytes: float) -> None:
    assert parse_size("--cache-limit", text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "lots", "1e3", "5PB", "i"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--cache-limit .*200GB"):
        parse_size("--cache-limit", text)


def xscan_fetch(*args: object) -> subprocess.CompletedProcess[str]:
    return command("fetch", *args)


def test_the_command_accounts_for_every_observation(archive: BadArchive, tmp_path: Path) -> None:
    del archive.files[OBSIDS[1]][mos("M1", OBSIDS[1])]
    archive.files[OBSIDS[2]] = {}
    archive.misbehave(OBSIDS[0], status(503))
    archive.misbehave(f"obsno={OBSIDS[3]}", *[status(410)] * 4)
    obslist = tmp_path / "list.txt"
    obslist.write_text("\n".join([*OBSIDS[:4], "0999999999"]))
    data = tmp_path / "data"
    done = xscan_fetch("--obslist", obslist, "--data", data, "--from", f"nxsa:{archive.url}", "--rate", 1000)
    assert done.returncode == 1, done.stderr
    n_bytes = sum(path.stat().st_size for path in data.glob("[0-9]*/P*"))
    fetched = f"{n_bytes / 1000:.3g} kB fetched"
    assert done.stdout == f"5 observations: 2 fetched, 2 absent, 1 failed; {fetched}; data in {data}\n"
    lines = {line[:10]: line for line in done.stderr.splitlines()}
    assert set(lines) == {*OBSIDS[:4], "0999999999"}
    assert "4 files" in lines[OBSIDS[0]]
    assert "the archive has no m1" in lines[OBSIDS[1]]
    assert "absent (no_products" in lines[OBSIDS[2]]
    assert "failed (no_such_observation" in lines["0999999999"]
    for obsid in OBSIDS[:2]:
        assert {name: (data / obsid / name).read_bytes() for name in archive.files[obsid]} == archive.files[obsid]
    journal = [json.loads(line) for line in (data / JOURNAL).read_text().splitlines()]
    assert sorted(line["obsid"] for line in journal) == sorted(lines)
    obslist.write_text("\n".join(OBSIDS[:3]))
    again = xscan_fetch("--obslist", obslist, "--data", data, "--from", f"nxsa:{archive.url}", "--rate", 1000)
    assert again.returncode == 0, again.stderr
    assert "2 present, 1 absent" in again.stdout


def test_the_command_says_what_is_wrong_with_its_use(tmp_path: Path) -> None:
    obslist = tmp_path / "list.txt"
    obslist.write_text(OBSIDS[0])
    done = xscan_fetch("--obslist", obslist, "--data", tmp_path, "--from", "esa")
    assert done.returncode == 2
    assert "known: nxsa, heasarc, folder:DIR" in done.stderr


def test_interrupted_in_the_middle(archive: BadArchive, tmp_path: Path) -> None:
    archive.misbehave(OBSIDS[1], changed(hang_at=1000))
    (tmp_path / "list.txt").write_text("\n".join(OBSIDS))
    # a shell in the background passes on that interrupts are ignored
    code = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from xscan.cli.app import main; main()"
    where = ["--obslist", tmp_path / "list.txt", "--data", tmp_path / "data", "--from", f"nxsa:{archive.url}"]
    command = [sys.executable, "-c", code, "fetch", *map(str, where), "--rate", "1000", "--parallel", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith(OBSIDS[0])
        eventually(lambda: archive.count(OBSIDS[1]))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "goes on from there" in err.splitlines()[-1]
    assert out.startswith("6 observations: 1 fetched, 5 not asked for")
    assert (tmp_path / "data" / OBSIDS[0]).is_dir()


def test_a_disk_that_does_not_take_it_is_one_line(archive: BadArchive, tmp_path: Path) -> None:
    obslist = tmp_path / "list.txt"
    obslist.write_text("\n".join(OBSIDS))
    (tmp_path / "file").touch()
    done = xscan_fetch("--obslist", obslist, "--data", tmp_path / "file", "--from", f"nxsa:{archive.url}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr
    assert "6 not asked for" in done.stdout


def test_a_large_product_takes_little_memory(archive: BadArchive, tmp_path: Path) -> None:
    """500 MB through a process of its own, download and verification: less than 200 MiB, libraries included."""
    length, pieces = huge(500_000_000)
    headers = {"Content-Disposition": f"attachment; filename={pn(OBSIDS[0])}", "Content-Length": str(length)}
    archive.replies["PIEVLI"] = Reply(headers=headers, stream=pieces)
    (tmp_path / "list.txt").write_text(OBSIDS[0])
    code = """
import sys
from xscan.cli.app import main
try:
    main()
finally:
    print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""
    where = ["--obslist", tmp_path / "list.txt", "--data", tmp_path / "data", "--from", f"nxsa:{archive.url}"]
    command = [sys.executable, "-c", code, "fetch", *map(str, where), "--rate", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / OBSIDS[0] / pn(OBSIDS[0])).stat().st_size == length
    assert int(done.stdout.split()[-1]) < 200 * 1024  # KiB
    shutil.rmtree(tmp_path / "data")


CHILD = """
import os, random, signal, sys
from pathlib import Path
from xscan.archives import Fetcher, RequestLimits, fetch_ahead, open_archive, open_web
url, data, obsids = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
GOOD = ("fetched", "present")

def mortal(function, left):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

for line in sys.stdin:  # a number of changes to the disk after which to die; 0 for never
    if os.fork() == 0:
        left = [int(line)]
        for name in ("replace", "rename", "unlink", "fsync", "mkdir", "open"):
            setattr(os, name, mortal(getattr(os, name), left))
        with open_web(RequestLimits(requests_per_s=1e6, first_wait_s=0.001, read_s=5)) as web:
            fetcher = Fetcher(open_archive(url, web), data)
            bad = [done for done in fetch_ahead(obsids, fetcher.fetch, web.stop) if done.state not in GOOD]
        for done in bad:
            print(done, file=sys.stderr, flush=True)
        os._exit(1 if bad else 0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
"""Forks a process for each line: importing takes longer than fetching."""


@pytest.mark.parametrize("name", ["nxsa", "heasarc"])
def test_twelve_kills(archive: BadArchive, tmp_path: Path, name: str) -> None:
    """After each, what has a name is whole; in the end all is as the archive has it. scripts/fetch-check: thirty."""
    rng = random.Random(name)
    archive.files[OBSIDS[0]][pn(OBSIDS[0], "U009")] = observation(OBSIDS[5])[pn(OBSIDS[5])]
    source = f"{name}:{archive.url}" + ("/tree" if name == "heasarc" else "")
    command = [sys.executable, "-c", CHILD, source, str(tmp_path), *OBSIDS[:4]]
    deaths = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run(step: int) -> int:
            process.stdin.write(f"{step}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        while deaths < 12:
            archive.behave()  # more than two faults to come would be more than a fetcher bears
            archive.misbehave(rng.choice(OBSIDS), changed(cut_at=rng.randrange(5000)), status(503))
            code = run(rng.randint(1, 60))
            deaths += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL)
            for obsid in OBSIDS:
                if (folder := tmp_path / obsid).exists():
                    assert read_marker(folder).holds(folder)
                    assert {path.name for path in folder.iterdir()} == {MARKER, *archive.files[obsid]}
                    assert all((folder / n).read_bytes() == data for n, data in archive.files[obsid].items())
            if rng.random() < 0.3:
                shutil.rmtree(tmp_path / rng.choice(OBSIDS[:4]), ignore_errors=True)
        assert run(0) == 0
        process.stdin.close()
    for obsid in OBSIDS[:4]:
        assert {n: (tmp_path / obsid / n).read_bytes() for n in archive.files[obsid]} == archive.files[obsid]
    assert list((tmp_path / WORK).iterdir()) == []
