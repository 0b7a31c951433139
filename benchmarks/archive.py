"""An archive with bad observations mixed in: every one accounted for, in any order, whoever dies when.

    scripts/archive-check [--observations 200] [--kills 30] [--seed 1]

Simulates short observations and spoils half of them: corrupt, cut short, without files, missing, in
a mode that is not searched. Searches them all, in two orders, and holds the ledger against what was
done to them. Then kills searches of the first twelve with SIGKILL, at random moments and at random
changes to the disk, looks at what is left, and goes on. All must end with the same content hash.
Exit status 0 if everything holds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from xscan import open_results
from xscan.schema import SCHEMAS
from xscan.simulate import simulate_archive

EXPOSURE_S = 600.0
IN_A_PART, SMALL = 5, 2  # small parts, to die in many compactions
N_KILLED = 12  # observations in an archive that is searched again and again
SETTINGS = ("--view", "50:0.2-12", "--view", "5:0.2-2", "--backend", "numpy")

CHILD = f"""
import os, signal, sys
from xscan.store import compaction, writer
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
from xscan.cli import main
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

    def __init__(self, data: Path, obsids: list[str], work: Path, name: str) -> None:
        self.list = work / f"{name}.txt"
        self.list.write_text("\n".join(obsids))
        self.out = work / name
        archive = ["archive", "--obslist", str(self.list), "--data", str(data), "--out", str(self.out), *SETTINGS]
        self._command = [sys.executable, "-c", CHILD, *archive]

    def to_the_end(self) -> int:
        """Search; give the number of changes to the disk."""
        done = subprocess.run([*self._command[:3], "-1", *self._command[3:]], capture_output=True, text=True)
        if done.returncode != 1 or "Traceback" in done.stderr:
            raise SystemExit(f"{self.out}: exit code {done.returncode}, not 1: {done.stderr}")
        return int(done.stderr.split()[-1])

    def until_killed(self, step: int = -1, after_s: float | None = None) -> bool:
        """Search until a change to the disk or a moment; say whether it died there."""
        with subprocess.Popen(
            [*self._command[:3], str(step), *self._command[3:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        return process.returncode == -signal.SIGKILL

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


def check_account(data: Path, expected: dict[str, tuple[str, str]], work: Path) -> None:
    """Search in two orders: the same hash, and the right reasons."""
    hashes = set()
    for name, obsids in (("forwards", list(expected)), ("backwards", list(expected)[::-1])):
        search = Search(data, obsids, work, name)
        search.to_the_end()
        search.check()
        found = search.ledger()
        wrong = {obsid: (found.get(obsid), what) for obsid, what in expected.items() if found.get(obsid) != what}
        assert not wrong, f"found and expected: {wrong}"
        hashes.add(open_results(search.out).content_hash())
    assert len(hashes) == 1, "another order, another hash"
    reasons = Counter(f"{state} {reason}".strip() for state, reason in expected.values())
    print(f"{len(expected)} observations: {', '.join(f'{n} {what}' for what, n in reasons.items())}")
    print(f"the same content hash forwards and backwards: {hashes.pop()[:16]}")


def check_kills(data: Path, obsids: list[str], kills: int, work: Path, rng: random.Random) -> None:
    """Kill, look, and go on until the number of kills is reached."""
    reference = Search(data, obsids, work, "undisturbed")
    started = time.perf_counter()
    steps = reference.to_the_end()
    seconds = time.perf_counter() - started
    expected = open_results(reference.out).content_hash()
    died = dict.fromkeys(("at a change to the disk", "at any moment"), 0)
    rounds = 0
    while sum(died.values()) < kills:
        rounds += 1
        search = Search(data, rng.sample(obsids, len(obsids)), work, f"round{rounds}")
        for _ in range(min(rng.randint(1, 3), kills - sum(died.values()))):
            if died["at any moment"] <= died["at a change to the disk"]:
                died["at any moment"] += search.until_killed(after_s=rng.uniform(0.2, 0.9) * seconds)
            else:
                died["at a change to the disk"] += search.until_killed(step=rng.randrange(steps))
            search.check()
        search.to_the_end()
        search.check()
        found = open_results(search.out).content_hash()
        assert found == expected, f"{search.out}: content hash {found}, not {expected}"
        assert not list(search.out.rglob(".tmp-*")) + list((search.out / "staging").iterdir()), (
            f"{search.out}: left over"
        )
    print(f"{sum(died.values())} kills in {rounds} archives of {len(obsids)}: {died}; the same content hash each time")


def main() -> int:
    """Make, search, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        expected = make(work / "data", args.observations, args.seed)
        check_account(work / "data", expected, work)
        check_kills(work / "data", list(expected)[:N_KILLED], args.kills, work, random.Random(args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
