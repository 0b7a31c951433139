"""What the search makes of real lists cut into short ones.

    scripts/cuts FOLDER... [--profile default] [--lengths 1000 2000 3000 5000] [--shift 0] [--json FILE]

Every folder holds the MOS event lists of one observation, under any name. They are cut into windows of 1, 2, 3 and 5 ks
one behind the other, from the first event on (a rest of at least half the length is a window too), and left whole
(length 0); each camera alone and both together, with the source list and without it where there is one. Each is
searched with one profile.

The first table has a row for each set of lists and length: windows, searches (views, or one search by windows), how
many of them are `done`, those that hold 100 counts and are not, the share of events in rejected frames, what was found
by its strength (log likelihood ratio of an event, -log10 p of a region), and the places it lies at (what lies within 30
arcsec in one window is one). Then everything found is listed, and the places of all of it together, so that a person
can judge which are real. ``--json`` keeps all columns.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

import xscan
from soak.finds import STRENGTHS, Row, strength, view, what_was_found, written
from soak.reallists import RealList, make_folder, read_lists, source_list
from xscan.sky import separation_arcsec

LENGTHS_S = (1000.0, 2000.0, 3000.0, 5000.0)
ENOUGH_COUNTS = 100  # a view with so many should be searched
SAME_PLACE_ARCSEC = 30.0


@dataclass(frozen=True)
class Job:
    """One window of one set of lists."""

    folder: Path
    cameras: tuple[str, ...]
    with_sources: bool
    length_s: float
    window: tuple[float, float] | None

    @property
    def name(self) -> str:
        """The set of lists."""
        return f"{self.folder.name} {'+'.join(self.cameras)}{' +sources' if self.with_sources else ''}"


def windows(first: float, last: float, length_s: float, shift: float = 0.0) -> list[tuple[float, float]]:
    """Cut a stretch of time into windows, the first ``shift`` lengths late; a rest of half the length is one too."""
    first += shift * length_s
    whole = max(int((last - first) / length_s), 0)
    edges = [first + i * length_s for i in range(whole + 1)]
    if last - edges[-1] >= length_s / 2:
        edges.append(last + 1e-3)
    return list(itertools.pairwise(edges))


@lru_cache(maxsize=4)
def lists_of(folder: Path) -> tuple[RealList, ...]:
    """Read the lists of a folder, once in each process."""
    return tuple(read_lists(folder))


def jobs_of(folder: Path, lengths_s: Sequence[float], shift: float) -> Iterator[Job]:
    """Give every window of every set of lists of an observation; none without an event."""
    lists = lists_of(folder)
    cameras = [one.camera for one in lists]
    sets = [(camera,) for camera in cameras] + ([tuple(cameras)] if len(cameras) > 1 else [])
    for chosen, with_sources in itertools.product(sets, (False, True)):
        if with_sources and source_list(folder) is None:
            continue
        times = np.concatenate([one.events["TIME"] for one in lists if one.camera in chosen])
        for length_s in lengths_s:
            for start, stop in windows(float(times.min()), float(times.max()), length_s, shift):
                if np.any((times >= start) & (times < stop)):
                    yield Job(folder, chosen, with_sources, length_s, (start, stop))
        yield Job(folder, chosen, with_sources, 0.0, None)


def search(job: Job, scratch: Path, profile: str) -> tuple[Job, list[Row], list[Row]]:
    """Cut and scan; give the rows of runs and of what was found."""
    chosen = [one for one in lists_of(job.folder) if one.camera in job.cameras]
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        folder = make_folder(Path(place), chosen, source_list(job.folder) if job.with_sources else None, job.window)
        try:
            tables = xscan.scan(folder, profile=profile, backend="numba")
        except Exception as error:  # a window that fails is a result too
            return job, [{"state": "failed", "reason": type(error).__name__, "message": str(error), "n_events": 0}], []
    runs = [{name: row[name] for name in RUN_COLUMNS} for row in tables.runs.to_pylist()]
    return job, runs, what_was_found(tables)


RUN_COLUMNS = (
    "dt_s", "band_lo_kev", "band_hi_kev", "state", "reason", "message", "n_found", "n_regions", "n_events",
    "n_events_rejected", "n_frames", "n_frames_bad", "n_frames_rejected", "n_cells_masked", "far", "llr_min", "trials",
)  # fmt: skip


def places(found: Sequence[Row], apart: bool = True) -> list[list[Row]]:
    """Group what lies within 30 arcsec of each other (of the same window, if ``apart``), strongest first."""
    groups: list[list[Row]] = []
    for one in sorted(found, key=strength, reverse=True):
        for group in groups:
            best = group[0]
            near = separation_arcsec(*(row[axis] for row in (best, one) for axis in ("ra_deg", "dec_deg")))
            if near <= SAME_PLACE_ARCSEC and (not apart or best["window"] == one["window"]):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def run(folders: Sequence[Path], lengths_s: Sequence[float], shift: float, processes: int, profile: str) -> list[Row]:
    """Search every window; give one dictionary for each."""
    jobs = [job for folder in folders for job in jobs_of(folder, lengths_s, shift)]
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(processes) as pool:
        results = []
        search_one = partial(search, scratch=Path(scratch), profile=profile)
        for job, runs, found in pool.map(search_one, jobs, chunksize=4):
            about = {"set": job.name, "length_s": job.length_s, "window": job.window}
            results.append(about | {"runs": runs, "found": [row | about for row in found]})
    return results


def summary(results: Sequence[Row]) -> list[str]:
    """Write the table of sets and lengths."""
    steps = list(itertools.pairwise((-math.inf, *STRENGTHS, math.inf)))
    lines = [
        "| lists | length (s) | windows | searches | done | 100 counts, not done | reasons | in rejected frames "
        f"| false asked for | found | strength {' | '.join(f'to {high:g}' for _, high in steps)} | places | most |",
        "|---|" + "---|" * (11 + len(steps)),
    ]
    by_row: dict[tuple[str, float], list[Row]] = collections.defaultdict(list)
    for result in results:
        by_row[result["set"], result["length_s"]].append(result)
    totals = by_row | {("all", length_s): [] for _, length_s in by_row}
    for (_, length_s), mine in by_row.items():
        totals["all", length_s] += mine
    for (name, length_s), mine in totals.items():
        runs = [row for result in mine for row in result["runs"]]
        found = [row for result in mine for row in result["found"]]
        strong = np.array([strength(row) for row in found])
        done = sum(row["state"] == "done" for row in runs)
        undone = [row for row in runs if row["state"] != "done"]
        reasons = collections.Counter(str(row["reason"]) for row in undone)
        distinct = sum(len(places(result["found"])) for result in mine)
        rejected = sum(row.get("n_events_rejected") or 0 for row in runs) / max(sum(row["n_events"] for row in runs), 1)
        cells = [
            name, f"{length_s:g}" if length_s else "whole", len(mine), len(runs), f"{100 * done / len(runs):.1f} %",
            sum(row["n_events"] >= ENOUGH_COUNTS or row["state"] == "failed" for row in undone),
            ", ".join(f"{reason} {n}" for reason, n in reasons.most_common()),
            f"{100 * rejected:.1f} %", f"{sum(row.get('far') or 0.0 for row in runs):.1f}",
            len(found), *(np.count_nonzero((strong >= low) & (strong < high)) for low, high in steps), distinct,
            f"{strong.max():.1f}" if strong.size else "",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def listing(results: Sequence[Row]) -> list[str]:
    """Write everything that was found, and the places of all of it."""
    found = [row for result in results for row in result["found"]]
    lines = ["", f"{len(found)} found: place, time from the window's start, most significant cell"]
    for row in found:
        start = "the first event" if row["window"] is None else f"{row['window'][0]:.0f}"
        since = row["window"][0] if row["window"] else 0.0
        lines.append(f"  {row['set']}, {row['length_s']:g} s from {start}: {written(row, since)}")
    by_obsid: dict[str, list[Row]] = collections.defaultdict(list)
    for row in found:
        by_obsid[row["obsid"]].append(row)
    for obsid, mine in by_obsid.items():
        groups = places(mine, apart=False)
        lines += ["", f"{obsid}: {len(groups)} places"]
        for group in groups:
            best = group[0]
            start, stop = min(row["t_start_s"] for row in group), max(row["t_stop_s"] for row in group)
            kinds = collections.Counter(row["kind"] for row in group)
            lines.append(
                f"  {best['ra_deg']:.5f} {best['dec_deg']:+.5f}: "
                f"{', '.join(f'{n} {kind}' for kind, n in kinds.items())}, {start:.0f} to {stop:.0f} s, "
                f"strongest {strength(best):.1f}; "
                f"lengths {sorted({row['length_s'] for row in group})}; {len({row['set'] for row in group})} sets; "
                f"views {' '.join(sorted({view(row) for row in group}))}"
            )
    return lines


def main() -> int:
    """Run it; the exit status is 1 if something with enough counts was not searched."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="event lists of one observation")
    parser.add_argument("--profile", default="default", help="searched with it")
    parser.add_argument("--lengths", nargs="+", type=float, default=LENGTHS_S, help="of the windows, s")
    parser.add_argument("--shift", type=float, default=0.0, help="begin so many lengths after the first event")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="where to keep every row of runs and regions")
    args = parser.parse_args()
    started = time.perf_counter()
    results = run([folder.resolve() for folder in args.folders], args.lengths, args.shift, args.processes, args.profile)
    lines = summary(results)
    print("\n".join([*lines, *listing(results)]))
    seconds, version = time.perf_counter() - started, xscan.__version__
    print(f"\n{len(results)} windows searched in {seconds:.0f} s by xscan {version}, profile {args.profile}")
    if args.json:
        args.json.write_text(json.dumps(results, default=str))
    runs = [row for result in results for row in result["runs"]]
    bad = sum(row["state"] == "failed" or (row["state"] != "done" and row["n_events"] >= ENOUGH_COUNTS) for row in runs)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
