"""An archive that behaves badly, on 127.0.0.1: what can be had arrives intact, the rest has reasons.

    scripts/fetch-check [--observations 24] [--kills 30] [--seed 1]

Simulates observations and serves them as ESA's and NASA's archives do, but for faults: errors, stalls,
cuts at random bytes, pages instead of files, wrong lengths, flipped bits, missing cameras and hostile
tars. ``xscan fetch`` gets all of them, once undisturbed and once through 30 times SIGKILL at random
moments; after each, whatever has the name of an observation is compared with what the archive has.
Exit status 0 if everything holds.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

from helpers.archive_server import (
    BadArchive,
    Fault,
    Reply,
    changed,
    declared,
    edited,
    make_tar,
    page,
    serving,
    status,
)

from xscan.archives.fetch import JOURNAL, WORK
from xscan.archives.marker import MARKER, read_marker
from xscan.simulate import simulate_archive

EXPOSURE_S = 600.0
FAULTY = 0.25  # of all answers
TRICKLE = 20_000  # bytes, a hundred times a second: slow enough to be killed in the middle
UNKNOWN = "0999999999"


def random_fault(rng: random.Random) -> Fault:
    """Draw something that passes when the same is asked again."""
    cut = rng.randrange(200_000)
    return rng.choice(
        [
            status(503),
            status(500),
            status(429, Retry_After="1"),
            changed(cut_at=cut),
            changed(cut_at=cut, ranges=False),
            changed(cut_at=cut, declare_length=False),
            changed(range_start_error=1),
            declared(cut),
            page("<html><body>Service temporarily unavailable</body></html>"),
            edited(lambda body: body[: len(body) // 2] + b"\0\0\0\0" + body[len(body) // 2 + 4 :]),
        ]
    )


class Moody(BadArchive):
    """Spoils a part of all answers at random, but no second answer to the same question in a row."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.n_spoilt = 0
        self._rng = rng
        self._spoilt: set[str] = set()

    def reply(self, path: str, headers: dict[str, str]) -> Reply:
        """Answer; slowly."""
        reply = super().reply(path, headers)
        reply.trickle = TRICKLE
        if path in self._spoilt:
            self._spoilt.discard(path)
        elif self._rng.random() < FAULTY:
            self._spoilt.add(path)
            self.n_spoilt += 1
            random_fault(self._rng)(reply)
        return reply


def make(archive: BadArchive, folder: Path, n: int, seed: int) -> dict[str, tuple[str, str]]:
    """Fill the archive with simulated observations, some of them odd; give states and reasons to be expected."""
    simulate_archive(folder, n, seed, EXPOSURE_S)
    expected = {UNKNOWN: ("failed", "no_such_observation")}
    for k, place in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        obsid, files = place.name, {path.name: path.read_bytes() for path in place.iterdir()}
        expected[obsid] = ("fetched", "")
        if k % 8 == 1:
            files = {name: data for name, data in files.items() if "M2" not in name}
        elif k % 8 == 3:
            files, expected[obsid] = {}, ("absent", "no_products")
        elif k % 8 == 5:
            expected[obsid] = ("failed", "bad_product")
            link = tarfile.TarInfo(f"../{obsid}/P{obsid}PNS003PIEVLI0000.FTZ")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.replies[f"obsno={obsid}&level=PPS&instname=PN"] = Reply(make_tar({}, link))
        elif k % 8 == 7:
            name = next(name for name in files if "PIEVLI" in name)
            files[name.replace("PNS", "PNU")] = files[name]
        archive.files[obsid] = files
    return expected


class Fetch:
    """Runs ``xscan fetch`` in processes of its own, and looks at what it leaves."""

    def __init__(self, archive: BadArchive, obsids: list[str], work: Path, name: str) -> None:
        obslist = work / f"{name}.txt"
        obslist.write_text("\n".join(obsids))
        self.archive, self.data = archive, work / name
        where = ["--obslist", str(obslist), "--data", str(self.data), "--from", f"nxsa:{archive.url}"]
        run = ["-c", "from xscan.cli.app import main; main()", "fetch", *where, "--rate", "1000", "--parallel", "2"]
        self._command = [sys.executable, *run]

    def to_the_end(self) -> str:
        """Fetch; give the last line."""
        done = subprocess.run(self._command, capture_output=True, text=True)
        if done.returncode != 1 or "Traceback" in done.stderr:
            raise SystemExit(f"exit code {done.returncode}, not 1: {done.stderr}")
        return done.stdout.strip()

    def until_killed(self, after_s: float) -> bool:
        """Fetch for a while; say whether it was killed."""
        with subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        return process.returncode == -signal.SIGKILL

    def check(self) -> int:
        """Compare every observation that is there with the archive; give their number."""
        folders = [path for path in self.data.glob("*") if path.is_dir() and path.name != WORK]
        for folder in folders:
            marker, files = read_marker(folder), self.archive.files[folder.name]
            assert marker is not None, f"{folder}: no marker"
            assert marker.holds(folder), f"{folder}: not what its marker says"
            held = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MARKER}
            assert held == files, f"{folder}: not what the archive has"
        return len(folders)

    def states(self) -> dict[str, tuple[str, str]]:
        """Give what became of each in the end, from the journal."""
        lines = [json.loads(line) for line in (self.data / JOURNAL).read_text().splitlines()]
        return {line["obsid"]: (line["state"], line["reason"] or "") for line in lines}


def main() -> int:
    """Make, fetch, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=24)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        work, archive = Path(folder), Moody(rng)
        expected = make(archive, work / "simulated", args.observations, args.seed)
        with serving(archive):
            once = Fetch(archive, list(expected), work, "undisturbed")
            started = time.perf_counter()
            said = once.to_the_end()
            seconds = time.perf_counter() - started
            n_whole = once.check()
            wrong = {k: (once.states().get(k), v) for k, v in expected.items() if once.states().get(k) != v}
            assert not wrong, f"found and expected: {wrong}"
            counts = Counter(f"{state} {reason}".strip() for state, reason in expected.values())
            print(f"{', '.join(f'{n} {what}' for what, n in counts.items())}: as expected; {n_whole} intact")
            print(f"in {seconds:.0f} s, {archive.n_spoilt} of {len(archive.asked)} answers bad; {said}")
            killed = Fetch(archive, list(expected), work, "killed")
            deaths = rounds = 0
            while deaths < args.kills:
                deaths += killed.until_killed(rng.uniform(0.4, 0.4 + 3 * seconds / args.kills))
                killed.check()
                rounds += 1
            killed.to_the_end()
            assert killed.check() == n_whole
            print(
                f"{deaths} kills in {rounds} runs: nothing taken for whole that was not; the same {n_whole} at the end"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
