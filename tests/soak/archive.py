"""An archive with bad observations mixed in: every one accounted for, whoever searches, whoever dies when.

    scripts/archive-check [--observations 200] [--kills 30] [--seed 1] [--no-timing]

Simulates short observations and spoils half of them: corrupt, cut short, without files, missing, in
a mode that is not searched. Searches them all, by a plain loop in two orders, one worker and two, and
holds the ledger against what was done to them. Then kills with SIGKILL, at random moments and at random
changes to the disk: a plain loop, workers, the process that gives them work, or both; looks at what
is left, and goes on. Then lets the disk be full, open files and memory run out. All must end with the same content
hash. Last, the CPU time that an observation takes of one worker and of two. Exit status 0 if everything holds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from xscan import open_results
from xscan.schema import SCHEMAS
from xscan.simulate import simulate_archive

EXPOSURE_S = 600.0
IN_A_PART, SMALL = 5, 2  # small parts, to die in many compactions
N_KILLED = 12  # observations in an archive that is searched again and again
FEW_FILES = 60  # open at a time
FULL_DISK = "150k"
FULL_BYTES = 20_000  # no file may be larger: what is found takes more
LITTLE_MEMORY = "350MB"  # for a worker: its libraries take as much
TIMED = (20, 60)  # observations in two runs, whose difference is free of what a start costs
TIMED_S = 3000.0  # their exposure
ROUNDS = 5
MOST_CPU = 1.15  # of two workers, of what one takes for an observation
ORDERS: dict[str, tuple[int, tuple[str, ...]]] = {
    "forwards": (1, ()),
    "backwards": (-1, ()),
    "one": (1, ("--workers", "1")),
    "two": (1, ("--workers", "2")),
}
"""In which order the list is searched, and by whom."""
WRITERS: dict[str, tuple[str, ...]] = {"a loop": (), "a worker": ("--workers", "1")}
"""Who searches into a disk that is full."""
SETTINGS = ("--view", "50:0.2-12", "--view", "5:0.2-2", "--backend", "numpy")

CHILD = f"""
import os, signal, sys
from xscan.results import compaction, writer
compaction.FULL = writer.FULL = {IN_A_PART}
compaction._SMALL = {SMALL}
last = int(sys.argv.pop(1))
steps = 0
def mortal(function):
    def call(*args, **kwargs):
        global steps
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return function(*args, **kwargs)
    return call
for name in ("replace", "unlink", "fsync", "ftruncate", "mkdir"):
    setattr(os, name, mortal(getattr(os, name)))
from xscan.cli.app import main
try:
    main()
finally:
    print("steps", steps, file=sys.stderr)
"""
"""``xscan`` with small parts, that dies before its change number argv[1] to the disk; never, if negative."""


def corrupt(folder: Path) -> None:
    """Overwrite a piece of each file."""
    for path in folder.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
        path.write_bytes(data)


def cut_short(folder: Path) -> None:
    """Keep the first third of each file."""
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def empty(folder: Path) -> None:
    """Leave no file."""
    for path in folder.iterdir():
        path.unlink()


def other_mode(folder: Path) -> None:
    """Say of each event list that it was taken in timing mode."""

    def renamed(match: re.Match[bytes]) -> bytes:
        return b"SUBMODE = 'FastTiming'".ljust(len(match[0]))

    for path in folder.glob("*EVLI*"):
        data = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(re.sub(rb"SUBMODE = '[^']*' *", renamed, data), 1))


SPOIL = [
    (corrupt, "failed", "unreadable"),
    (cut_short, "failed", "unreadable"),
    (empty, "failed", "no_event_lists"),
    (shutil.rmtree, "failed", "no_folder"),
    (other_mode, "skipped", "mode"),
]


def make(data: Path, n: int, seed: int) -> dict[str, tuple[str, str]]:
    """Simulate ``n`` observations and spoil every other one; give the states and reasons to be expected."""
    simulate_archive(data, n, seed, EXPOSURE_S)
    expected = {}
    for k, folder in enumerate(sorted(path for path in data.iterdir() if path.is_dir())):
        expected[folder.name] = ("done", "")
        if k % 2:
            spoil, *expected[folder.name] = SPOIL[k // 2 % len(SPOIL)]
            spoil(folder)
    return {obsid: tuple(what) for obsid, what in expected.items()}


class Search:
    """Searches an archive in processes of their own, and looks at what they leave."""

    def __init__(self, data: Path, obsids: list[str], work: Path, name: str, *options: str) -> None:
        self.list = work / f"{name}.txt"
        self.list.write_text("\n".join(obsids))
        self.out = work / name
        archive = [
            "archive",
            "--offline",
            "--obslist",
            str(self.list),
            "--data",
            str(data),
            "--out",
            str(self.out),
            *SETTINGS,
        ]
        self._command = [*archive, *options]

    def _start(self, step: int = -1, limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(step), *self._command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
            start_new_session=True,
        )

    def to_the_end(self, *options: str) -> int:
        """Search; give the number of changes to the disk."""
        self._command += options
        with self._start() as process:
            _, said = process.communicate()
        if process.returncode != 1 or "Traceback" in said:
            raise SystemExit(f"{self.out}: exit code {process.returncode}, not 1: {said}")
        return int(said.split()[-1])

    def until_killed(self, step: int = -1, after_s: float | None = None) -> bool:
        """Search until a change to the disk or a moment; say whether it died there, with all its workers."""
        with self._start(step) as process:
            try:
                process.communicate(timeout=after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        for _ in range(100):
            if not workers_of(process.pid):
                return process.returncode == -signal.SIGKILL
            time.sleep(0.1)
        raise SystemExit(f"{self.out}: workers outlive the process that was killed")

    def losing_workers(self, rng: random.Random, coordinator_too: bool) -> int:
        """Search, kill a worker at random moments, and at last perhaps the coordinator; give the number of kills."""
        kills = 0
        with self._start() as process:
            while process.poll() is None and kills < 2:
                time.sleep(rng.uniform(0.3, 1.5))
                for pid in workers_of(process.pid)[:1]:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            if coordinator_too and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.communicate()
        return kills

    def stopped_by(self, limit: Callable[[], None], *options: str) -> str:
        """Search under a limit of the system; give the line that it stopped with."""
        self._command += options
        with self._start(limit=limit) as process:
            _, said = process.communicate(timeout=120)
        lines = [line for line in said.splitlines() if line.startswith("xscan: ")]
        if process.returncode not in (1, 2) or "Traceback" in said or len(lines) > 1:
            raise SystemExit(f"{self.out}: exit code {process.returncode}: {said}")
        self._command = self._command[: len(self._command) - len(options)]
        return lines[0] if lines else ""

    def ledger(self) -> dict[str, tuple[str, str]]:
        """Ask ``xscan status`` for state and reason of each observation."""
        command = [sys.executable, "-c", CHILD, "-1", "status", str(self.out), "--obslist", str(self.list), "--json"]
        held = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return {row["obsid"]: (row["state"], row["reason"]) for row in held["observations"]}

    def check(self) -> None:
        """Read everything: no file unreadable, nothing twice, nothing in one table only."""
        if not (self.out / "_xscan.json").exists():
            return
        held = open_results(self.out)
        views = Counter((row["obsid"], row["dt_s"], row["subset"]) for row in held.table("runs").to_pylist())
        det_ids = {name: Counter(held.table(name)["det_id"].to_pylist()) for name in ("regions", "lightcurves")}
        assert max(views.values(), default=1) == 1, f"{self.out}: twice: {views.most_common(1)}"
        assert max(det_ids["regions"].values(), default=1) == 1, f"{self.out}: twice: {det_ids}"
        assert det_ids["regions"] == det_ids["lightcurves"], f"{self.out}: regions and light curves differ"
        assert {obsid for obsid, *_ in views} == set(held.observations()), f"{self.out}: holes"
        manifest = self.out / "_manifest.json"
        for part in json.loads(manifest.read_text())["parts"] if manifest.exists() else []:
            assert list(part["files"]) == list(SCHEMAS)
            for file in part["files"].values():
                pq.read_table(self.out / file)


def free() -> None:
    """No limit."""


def bounded(kind: int, most: int) -> Callable[[], None]:
    """Make a function that limits the process which calls it."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails, as on a full disk
        resource.setrlimit(kind, (most, most))

    return limit


FULL, FEW = bounded(resource.RLIMIT_FSIZE, FULL_BYTES), bounded(resource.RLIMIT_NOFILE, FEW_FILES)
LIMITS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "no file larger than 20 kB, a loop": (FULL, ()),
    "no file larger than 20 kB, a worker": (FULL, ("--workers", "1")),
    "60 open files, two workers": (FEW, ("--workers", "2")),
    "350 MB for a worker": (free, ("--workers", "1", "--memory-limit", LITTLE_MEMORY)),
}
"""What the system gives too little of, and who searches."""


def workers_of(session: int) -> list[int]:
    """Worker processes of a command that was started in a session of its own."""
    listed = subprocess.run(["ps", "-eo", "pid=,sess=,stat=,args="], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    return [int(pid) for pid, sess, stat, args in rows if sess == str(session) and stat[0] != "Z" and "spawn" in args]


def check_account(data: Path, expected: dict[str, tuple[str, str]], work: Path) -> None:
    """Search in two orders and with workers: the same hash, and the right reasons."""
    hashes = set()
    for name, (order, options) in ORDERS.items():
        search = Search(data, list(expected)[::order], work, name, *options)
        search.to_the_end()
        search.check()
        found = search.ledger()
        wrong = {obsid: (found.get(obsid), what) for obsid, what in expected.items() if found.get(obsid) != what}
        assert not wrong, f"found and expected: {wrong}"
        hashes.add(open_results(search.out).content_digest())
    assert len(hashes) == 1, "another order, another hash"
    reasons = Counter(f"{state} {reason}".strip() for state, reason in expected.values())
    print(f"{len(expected)} observations: {', '.join(f'{n} {what}' for what, n in reasons.items())}")
    print(
        f"the same content hash by a loop forwards and backwards, one worker and two: {hashes.pop()[:16]}", flush=True
    )


def check_kills(data: Path, obsids: list[str], kills: int, work: Path, rng: random.Random) -> None:
    """Kill, look, and go on until the number of kills is reached."""
    seconds, steps = {}, {}
    for workers in ((), ("--workers", "2")):
        started = time.perf_counter()
        steps[workers] = Search(data, obsids, work, f"undisturbed{len(workers)}", *workers).to_the_end()
        seconds[workers] = time.perf_counter() - started
    expected = open_results(work / "undisturbed0").content_digest()
    whom = ("loop at a change to the disk", "loop at any moment", "coordinator", "workers", "both")
    died = dict.fromkeys(whom, 0)
    rounds = 0
    while sum(died.values()) < kills:
        rounds += 1
        target = min(died, key=lambda name: (died[name], rng.random()))
        workers = () if target.startswith("loop") else ("--workers", "2")
        search = Search(data, rng.sample(obsids, len(obsids)), work, f"round{rounds}", *workers)
        for _ in range(min(rng.randint(1, 3), kills - sum(died.values()))):
            if target in ("workers", "both"):
                died[target] += search.losing_workers(rng, target == "both")
            elif target == "loop at a change to the disk":
                died[target] += search.until_killed(step=rng.randrange(steps[workers]))
            else:
                died[target] += search.until_killed(after_s=rng.uniform(0.2, 0.9) * seconds[workers])
            search.check()
        search.to_the_end("--retry-failed")  # an observation whose worker was killed twice is given up until then
        search.check()
        found = open_results(search.out).content_digest()
        assert found == expected, f"{search.out}: content hash {found}, not {expected}"
        assert not list(search.out.rglob(".tmp-*")) + list((search.out / "staging").iterdir()), (
            f"{search.out}: left over"
        )
    print(f"{sum(died.values())} kills in {rounds} archives of {len(obsids)}: {died}; the same content hash each time")
    check_limits(data, obsids, work, expected)


def check_limits(data: Path, obsids: list[str], work: Path, expected: str) -> None:
    """Search where the system gives too little, see it stop, and go on without the limit."""
    for number, (name, (limit, options)) in enumerate(LIMITS.items()):
        search = Search(data, obsids, work, f"limit{number}")
        said = search.stopped_by(limit, *options)
        search.check()
        search.to_the_end("--retry-failed")
        search.check()
        assert open_results(search.out).content_digest() == expected, f"{name}: another content hash"
        print(f"{name}: {said or 'observations are on record as failed'}", flush=True)
    check_disk(data, obsids, work, expected)


def check_disk(data: Path, obsids: list[str], work: Path, expected: str) -> None:
    """Search into a file system that is full, then read-only, then neither."""
    mounted = work / "small"
    mounted.mkdir()

    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(mounted)]
        return subprocess.run(command, capture_output=True).returncode

    for name, options in WRITERS.items():
        if mount(f"size={FULL_DISK}") != 0:
            print("no file system may be mounted here: a full disk and a read-only one were not tried")
            return
        try:
            search = Search(data, obsids, mounted, "results", *options)
            full = search.stopped_by(free)
            search.check()
            mount("remount", "ro")
            read_only = search.stopped_by(free)
            mount("remount", "rw", "size=50m")
            search.to_the_end()
            search.check()
            assert open_results(search.out).content_digest() == expected, f"{name}: another content hash"
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
        assert "No space left" in full, full
        assert "Read-only" in read_only, read_only
        print(f"a disk of {FULL_DISK}, {name}: {full}\nread-only, {name}: {read_only}", flush=True)


def check_speed(work: Path, seed: int) -> None:
    """Measure what one more observation costs a plain loop, one worker and two."""
    data = work / "timed"
    simulate_archive(data, max(TIMED), seed, TIMED_S)
    obsids = sorted(path.name for path in data.iterdir() if path.is_dir())

    def spent(n: int, options: tuple[str, ...]) -> tuple[float, float]:
        (work / "timed.txt").write_text("\n".join(obsids[:n]))
        out = work / "timed-results"
        shutil.rmtree(out, ignore_errors=True)
        archive = [
            "archive",
            "--offline",
            "--obslist",
            str(work / "timed.txt"),
            "--data",
            str(data),
            "--out",
            str(out),
            *options,
        ]
        started = time.perf_counter()
        command = [sys.executable, "-c", "from xscan.cli.app import main; main()", *archive]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)  # with all processes that it has seen end
        process.returncode = 0
        return usage.ru_utime + usage.ru_stime, time.perf_counter() - started

    crews = {"a plain loop": (), "one worker": ("--workers", "1"), "two workers": ("--workers", "2")}
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {(name, n): [] for name in crews for n in TIMED}
    for _ in range(ROUNDS):
        for name, n in taken:  # in turn: a noisy machine is noisy for all
            taken[name, n].append(spent(n, crews[name]))
    # the least of each run, then the difference: the least difference would be that of the slowest short run
    least = {run: tuple(map(min, zip(*spells, strict=True))) for run, spells in taken.items()}
    few, many = TIMED
    best = {
        name: tuple(
            (long - short) / (many - few) for short, long in zip(least[name, few], least[name, many], strict=True)
        )
        for name in crews
    }
    for name, (cpu_s, wall_s) in best.items():
        print(f"{name}: {1e3 * cpu_s:.0f} ms CPU, {1e3 * wall_s:.0f} ms wall an observation of {TIMED_S:g} s")
    cpu = best["two workers"][0] / best["one worker"][0]
    wall = best["two workers"][1] / best["one worker"][1]
    reached = "at most" if cpu <= MOST_CPU else "more than"
    print(f"two workers take {cpu:.2f} of the CPU of one, {reached} {MOST_CPU}, and {wall:.2f} of its wall time")


def main() -> int:
    """Make, search, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-timing", dest="timed", action="store_false")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        expected = make(work / "data", args.observations, args.seed)
        check_account(work / "data", expected, work)
        check_kills(work / "data", list(expected)[:N_KILLED], args.kills, work, random.Random(args.seed))
        if args.timed:
            check_speed(work, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
