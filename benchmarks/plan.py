"""What `xscan plan` says before a run, beside what the run takes.

    scripts/plan-check [--observations 40] [--sample 12] [--exposure 2000 20000] [--rounds 3] [--seed 1]

Simulates observations of mixed lengths. Then, a few rounds in turn, because the machine has other
things to do: `xscan plan`, which may look at a sample of so many observations, and `xscan archive` from
nothing, as a plain loop and with two workers. Seconds of the run are those of the whole command, from
its start to its exit. Exit status 0 if the median of what was said is within 30 % of the median of
what it took, for hours, and for the bytes of the results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from xscan.simulate import simulate_archive

WITHIN = 0.30
WORKERS = {"plain loop": (), "2 workers": ("--workers", "2")}
XSCAN = (sys.executable, "-c", "from xscan.cli.app import main; main()")


def xscan(*arguments: object) -> str:
    """Run the command in a process of its own; give what it printed."""
    done = subprocess.run([*XSCAN, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"xscan {arguments[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def planned(work: Path, sample: int, workers: tuple[str, ...]) -> dict[str, Any]:
    """Give the numbers that the plan says."""
    where = ("--obslist", work / "data" / "observations.txt", "--data", work / "data", "--out", work / "results")
    said: dict[str, Any] = json.loads(xscan("plan", *where, "--sample", sample, "--json", *workers))
    return said


def done(work: Path, workers: tuple[str, ...]) -> tuple[float, int]:
    """Search all from nothing; give the seconds, and the bytes of the results."""
    out = work / "results"
    where = ("--obslist", work / "data" / "observations.txt", "--data", work / "data", "--out", out)
    started = time.perf_counter()
    xscan("archive", *where, "--offline", *workers)
    seconds = time.perf_counter() - started
    n_bytes = sum(path.stat().st_size for path in out.rglob("*.parquet"))
    shutil.rmtree(out)
    return seconds, n_bytes


def holds(what: str, said: list[float], took: list[float], unit: str) -> bool:
    """Print both, and whether they agree."""
    ratio = median(said) / median(took)
    good = abs(ratio - 1) <= WITHIN
    single = " ".join(f"{a / b:.2f}" for a, b in zip(said, took, strict=True))
    print(
        f"{what:24}said {median(said):8.2f} {unit}, took {median(took):8.2f} {unit}: {ratio:.2f} of it "
        f"(by round {single}) {'' if good else 'NOT WITHIN 30 %'}"
    )
    return good


def main() -> None:
    """Run the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=40)
    parser.add_argument("--sample", type=int, default=12, help="observations that the plan may look at")
    parser.add_argument("--exposure", type=float, nargs=2, default=(2000.0, 20_000.0), help="shortest and longest, s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lengths_s = np.random.default_rng(options.seed).uniform(*options.exposure, options.observations).tolist()
    good = True
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        simulate_archive(work / "data", options.observations, options.seed, lengths_s)
        done(work, ())  # compiles what the first run of a machine compiles
        print(f"{options.observations} observations; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        for name, workers in WORKERS.items():
            said, took = [], []
            for _ in range(options.rounds):
                said.append(planned(work, options.sample, workers))
                took.append(done(work, workers))
            expected = [3600 * plan["hours"] for plan in said]
            good &= holds(f"{name}: time", expected, [seconds for seconds, _ in took], "s")
            sizes = [1e-6 * plan["result_bytes"] for plan in said]
            good &= holds(f"{name}: results", sizes, [1e-6 * n_bytes for _, n_bytes in took], "MB")
            print(f"{'':24}load {os.getloadavg()[0]:.1f}", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
