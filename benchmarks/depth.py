"""How deep a search goes, and how often it is wrong, on skies drawn anew from a seed.

    scripts/depth recovery [--n 16] [--seed 900] [--profile NAME]...
    scripts/depth quiet    [--n 60] [--seed 900] [--profile NAME]... [--far 0.1]... [--class NAME]...
    scripts/depth counts   [--n 4]  [--seed 900] [--profile NAME]...
    scripts/depth calibrate [--n 16] [--seed 900]
    scripts/depth scrambled FOLDER... [--n 60] [--seed 900] [--far 0.1]...

All take --exposure S, --jobs N (processes), --config FILE (settings that override every profile's) and --keep DIR: the
skies stay there, and another run takes them from there.

``recovery``: half A and half B skies (docs/simulator.md), 19 transients each: how many are found, by class. Found:
within 30 arcsec, overlapping in time, and of its kind. False: further than 60 arcsec from everything planted.

``quiet``: skies without transients: false events in each class of observation, beside the number to expect at a
false-alarm rate, with the two-sided Poisson probability of such a difference. The classes: ``usual``, ``good`` (no
proton flares), ``bad`` (bad time for a third of the time or more), ``short`` (2 ks) and ``one`` (one camera, each in
turn); half of each is A and half B. Profiles of views have no such rate: their events are only counted.

``scrambled``: the same for real observations, n times with new times for the photons of every CCD: even in its good
time without high particle background. What varied is constant then, and good time and detector are as they were.
Photons of bad time keep theirs, and events that overlap it are not counted.

``calibrate``: the exponential tail of the log likelihood ratios of quiet skies, by class: its slope, and the ratio that
one false event exceeds in 1e8 s of trials; what xscan/search/falsealarms.py holds was read off this.

``counts``: dense skies, 72 transients each: the counts recorded within 60 arcsec at which half and nine tenths are
found, by width.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import functools
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from xscan.api import read, scan
from xscan.events.gti import intersect
from xscan.model import CAMERAS
from xscan.search.subsets import good_intervals
from xscan.simulate import simulate_archive
from xscan.simulate.depth import false_alarms, fit_curve, match, merge_regions
from xscan.simulate.presets import DENSE_WIDTHS_S, FLARE_LENGTH, N_DENSE, PRESETS

PROFILES = ("exod2", "views", "default")
PROFILES_OF_VIEWS = ("exod2", "views")
"""Profiles that give a region per view, not events."""

BIN_S = 100.0
TAIL_FROM = 17.5
FAR_MOST = 10.0
"""What quiet skies are searched with, so that all the rates can be counted."""

FALSE_ALARM_RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
KINDS = ("burst", "flare", "eclipse")
CLASSES = {"usual": "", "good": " calm", "bad": " stormy", "short": "", "one": ""}
"""Classes of quiet observations, and what their presets have after A or B."""

SHORT_S = 2000.0
FEW = 10.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Archive:
    """Skies of one kind."""

    preset: str
    n: int
    seed: int
    exposure_s: float
    quiet: bool = False
    cameras: tuple[str, ...] = CAMERAS

    def folder(self, keep: Path) -> Path:
        """Say where its observations are."""
        name = f"{self.preset}-{self.n}-{self.seed}-{self.exposure_s:g}{'-quiet' * self.quiet}"
        return keep / "-".join([name.replace(" ", "-"), *(self.cameras if self.cameras != CAMERAS else ())])


def simulated(archive: Archive, keep: Path) -> Archive:
    """Write an archive, unless it is there."""
    folder = archive.folder(keep)
    if not (folder / "truth.parquet").is_file():  # written last
        simulate_archive(
            folder,
            archive.n,
            archive.seed,
            archive.exposure_s,
            archive.quiet,
            preset=PRESETS[archive.preset],
            cameras=archive.cameras,
        )
    return archive


def events_of(task: tuple[Path, str, Path | None, float | None]) -> list[Row]:
    """Search one observation with one profile and settings that override it; give its events."""
    folder, profile, config, far = task
    tables = scan(folder, profile=profile, config=config, far=None if profile in PROFILES_OF_VIEWS else far)
    failed = [row["message"] for row in tables.runs.to_pylist() if row["state"] == "failed"]
    if failed:
        raise RuntimeError(f"{folder}, profile {profile}: {failed[0]}")
    if profile in PROFILES_OF_VIEWS:
        return merge_regions(tables.regions.to_pylist())
    return tables.events.to_pylist()


@dataclass(frozen=True)
class Searched:
    """What was planted in the skies of an archive, and the events of one profile."""

    archive: Archive
    profile: str
    truth: list[Row]
    events: list[Row]


def search(
    archives: Sequence[Archive], args: argparse.Namespace, keep: Path, far: float | None = None
) -> list[Searched]:
    """Simulate archives and search all their observations with every profile."""
    pairs = [(archive, profile) for profile in args.profile for archive in archives]
    with processes(args.jobs) as over:
        over(functools.partial(simulated, keep=keep), archives)
        folders = {archive: sorted(archive.folder(keep).glob("0*/")) for archive in archives}
        found = iter(
            over(events_of, [(folder, name, args.config, far) for one, name in pairs for folder in folders[one]])
        )
    truths = {archive: pq.read_table(archive.folder(keep) / "truth.parquet").to_pylist() for archive in archives}
    return [
        Searched(archive, profile, truths[archive], [row for _ in folders[archive] for row in next(found)])
        for archive, profile in pairs
    ]


@contextlib.contextmanager
def processes(jobs: int) -> Iterator[Callable[..., list[Any]]]:
    """Give what applies a function to all items of a list, in several processes."""
    if jobs == 1:
        yield lambda function, items: [function(item) for item in items]
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield functools.partial(pool.map, chunksize=1)


def table(*header: str) -> None:
    """Print the head of a table."""
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")


def recovery(args: argparse.Namespace, keep: Path) -> None:
    """Print how many of the planted transients each profile finds."""
    halves = {"A": (args.n + 1) // 2, "B": args.n // 2}
    archives = [Archive(preset, n, args.seed, args.exposure) for preset, n in halves.items() if n]
    searched = search(archives, args, keep)
    print(f"{args.n} skies of {args.exposure:g} s, seed {args.seed}, half A and half B\n")
    table("profile", "found a sky", "A", "B", *(f"{kind}s" for kind in KINDS), "false events", "median offset")
    for profile in args.profile:
        mine = [(done.archive.preset, match(done.truth, done.events)) for done in searched if done.profile == profile]
        by_sky: dict[tuple[str, str], list[bool]] = collections.defaultdict(list)
        by_kind: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        for preset, matched in mine:
            for row in matched.planted:
                by_sky[preset, row["obsid"]].append(bool(row["found"]))
                by_kind[row["kind"]].append(bool(row["found"]))
        of = {len(sky) for sky in by_sky.values()}
        cells = [
            mean([sum(sky) for (preset, _), sky in by_sky.items() if preset in kinds]) for kinds in ("AB", "A", "B")
        ]
        cells[0] += f" of {'-'.join(map(str, sorted({min(of), max(of)})))}"
        cells += [f"{sum(found)} of {len(found)}" for found in by_kind.values()]
        offsets = [row["offset_arcsec"] for _, matched in mine for row in matched.planted if row["found"]]
        false = sum(len(matched.false) for _, matched in mine)
        print(f'| {profile} | {" | ".join(cells)} | {false} | {np.median(offsets or [np.nan]):.1f}" |')


def mean(found: Sequence[int]) -> str:
    """Write a mean with its standard error."""
    if len(found) < 2:
        return f"{np.mean(found):.2f}" if found else "-"
    return f"{np.mean(found):.2f} +- {np.std(found, ddof=1) / np.sqrt(len(found)):.2f}"


def quiet_archives(which: str, n: int, seed: int, exposure_s: float) -> list[Archive]:
    """List the skies of a class of observation, each of half the number or less."""
    half = {"A" + CLASSES[which]: (n + 1) // 2, "B" + CLASSES[which]: n // 2}
    if which == "one":
        return [
            Archive(preset, len(range(k, half[preset], 3)), seed + 1 + k, exposure_s, True, (camera,))
            for preset in half
            for k, camera in enumerate(CAMERAS)
            if k < half[preset]
        ]
    length_s = min(SHORT_S, exposure_s) if which == "short" else exposure_s
    return [Archive(preset, k, seed, length_s, True) for preset, k in half.items() if k]


def quiet(args: argparse.Namespace, keep: Path) -> None:
    """Print false events beside the number to expect."""
    archives = {which: quiet_archives(which, args.n, args.seed, args.exposure) for which in args.classes}
    searched = search([one for mine in archives.values() for one in mine], args, keep, FAR_MOST)
    print(f"{args.n} quiet skies of each class, {args.exposure:g} s, seed {args.seed}\n")
    table("profile", "class", "skies", "false-alarm rate", "expected", "seen", "p", "remark")
    for profile in args.profile:
        everything: list[Row] = []
        for which, mine in archives.items():
            done = [one for one in searched if one.profile == profile and one.archive in mine]
            events = [row for one in done for row in one.events]
            everything += events
            if profile in PROFILES_OF_VIEWS:
                print(f"| {profile} | {which} | {args.n} | as it is | | {len(events)} | | |")
                continue
            print_alarms(f"{profile} | {which} | {args.n}", [row["n_false"] for row in events], args.n, args.far)
        if profile not in PROFILES_OF_VIEWS and len(archives) > 1:
            n = args.n * len(archives)
            print_alarms(f"{profile} | all | {n}", [row["n_false"] for row in everything], n, args.far)


def dealt_anew(task: tuple[Path, int]) -> list[float]:
    """Search an observation in which nothing varies outside bad time; give n_false of its events there."""
    folder, seed = task
    rng = np.random.default_rng(seed)
    observation = read(folder)
    start = min(float(events.time.min()) for events in observation.lists)
    bad = np.zeros(0, bool)
    for events in observation.lists:
        low, high = events.instrument.particle_band
        hard = events.time[(events.pi >= low) & (events.pi < high)]
        n = np.bincount(((hard - start) // BIN_S).astype(int), minlength=bad.size)
        bad = np.pad(bad, (0, n.size - bad.size)) | (n > events.instrument.particle_rate_max * BIN_S)
    edges = start + np.arange(bad.size + 1) * BIN_S
    quiet = np.stack([edges[:-1], edges[1:]], axis=1)[~bad]
    lists = []
    for events in observation.lists:
        time = events.time.copy()
        for ccd in np.unique(events.ccd).tolist():
            stated = events.good_time.get(ccd)
            good = intersect(good_intervals(events) if stated is None else stated.gti, quiet)
            until = np.concatenate([[0.0], np.cumsum(np.diff(good).ravel())])
            k = np.searchsorted(good[:, 0], time, side="right") - 1
            mine = np.flatnonzero((events.ccd == ccd) & (k >= 0) & (time <= good[np.maximum(k, 0), 1]))
            drawn = rng.uniform(0, until[-1], mine.size)
            at = np.minimum(np.searchsorted(until, drawn, side="right") - 1, len(good) - 1)
            time[mine] = good[at, 0] + drawn - until[at]
        lists.append(dataclasses.replace(events, time=time))
    tables = scan(dataclasses.replace(observation, lists=tuple(lists)), far=FAR_MOST)
    rows = tables.events.to_pylist()
    return [
        row["n_false"]
        for row in rows
        if not bad[int((row["t_start_s"] - start) // BIN_S) : int((row["t_stop_s"] - start) // BIN_S) + 1].any()
    ]


def scrambled(args: argparse.Namespace, keep: Path) -> None:
    """Print false events of observations without their variability beside the number to expect."""
    seeds = [int(seed.generate_state(1)[0]) for seed in np.random.SeedSequence(args.seed).spawn(args.n)]
    with processes(args.jobs) as over:
        found = iter(over(dealt_anew, [(folder, seed) for folder in args.folders for seed in seeds]))
    print(f"{args.n} times, seed {args.seed}\n")
    table("observation", "false-alarm rate", "expected", "seen", "p", "remark")
    for folder in args.folders:
        print_alarms(folder.name, [value for _ in seeds for value in next(found)], args.n, args.far)


def print_alarms(name: str, n_false: Sequence[float], n: int, rates: Sequence[float]) -> None:
    """Print a line for each false-alarm rate."""
    for alarms in false_alarms(n_false, n, rates):
        remark = "" if alarms.expected >= FEW else f"fewer than {FEW:g} to expect"
        print(f"| {name} | {alarms.rate:g} | {alarms.expected:g} | {alarms.seen} | {alarms.p:.3f} | {remark} |")


def ratios_of(folder: Path) -> tuple[float, list[float]]:
    """Search a quiet observation; give its trials, and the log likelihood ratios of what it finds."""
    tables = scan(folder, far=FAR_MOST)
    peaks = [row["llr"] for row in tables.events.to_pylist() if row["kind"] == "peak"]
    return sum(tables.runs["trials"].to_pylist()), peaks


def calibrate(args: argparse.Namespace, keep: Path) -> None:
    """Print the tail of the log likelihood ratios above TAIL_FROM, by maximum likelihood."""
    archives = {which: quiet_archives(which, args.n, args.seed, args.exposure) for which in args.classes}
    every = [one for mine in archives.values() for one in mine]
    with processes(args.jobs) as over:
        over(functools.partial(simulated, keep=keep), every)
        folders = [folder for one in every for folder in sorted(one.folder(keep).glob("0*/"))]
        found = dict(zip(folders, over(ratios_of, folders), strict=True))
    print(f"{args.n} quiet skies of each class, {args.exposure:g} s, seed {args.seed}; LLR above {TAIL_FROM:g}\n")
    table("class", "skies", "trials a sky (1e8 s)", "events", "slope", "LLR of one in 1e8 s")
    for which in [*archives, "all"]:
        mine = every if which == "all" else archives[which]
        said = [found[folder] for one in mine for folder in sorted(one.folder(keep).glob("0*/"))]
        tried = sum(trials for trials, _ in said) / 1e8
        above = np.array([llr - TAIL_FROM for _, ratios in said for llr in ratios if llr > TAIL_FROM])
        if above.size < 2:
            print(f"| {which} | {len(said)} | {tried / len(said):.2f} | {above.size} | | |")
            continue
        slope = 1 / above.mean()
        print(
            f"| {which} | {len(said)} | {tried / len(said):.2f} | {above.size} | "
            f"{slope:.2f} +- {slope / np.sqrt(above.size):.2f} | {TAIL_FROM + np.log(above.size / tried) / slope:.2f} |"
        )


def counts(args: argparse.Namespace, keep: Path) -> None:
    """Print the recorded counts of which half and nine tenths are found."""
    halves = {"A dense": (args.n + 1) // 2, "B dense": args.n // 2}
    archives = [Archive(preset, n, args.seed, args.exposure) for preset, n in halves.items() if n]
    searched = search(archives, args, keep)
    print(f"{args.n} dense skies of {args.exposure:g} s, seed {args.seed}; a flare is {FLARE_LENGTH:g} widths long\n")
    table("profile", "width (s)", "planted", "found", "counts at 50 %", "68 %", "counts at 90 %")
    for profile in args.profile:
        rows = [row for done in searched if done.profile == profile for row in match(done.truth, done.events).planted]
        for k, width in enumerate(DENSE_WIDTHS_S):
            mine = [row for row in rows if row["number"] // N_DENSE == k]
            found = [bool(row["found"]) for row in mine]
            curve = fit_curve([row["n_near"] for row in mine], found)
            half = curve.counts(0.5)
            factor = np.exp(curve.log_half_error)
            print(
                f"| {profile} | {width:g} | {len(mine)} | {sum(found)} | {half:.1f} | "
                f"{half / factor:.1f}-{half * factor:.1f} | {curve.counts(0.9):.1f} |"
            )
        false = sum(len(match(done.truth, done.events).false) for done in searched if done.profile == profile)
        print(f"| {profile} | false events | | {false} | | | |")


def main() -> int:
    """Run one of the comparisons; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("recovery", "quiet", "counts", "calibrate", "scrambled"))
    parser.add_argument("folders", type=Path, nargs="*", help="of scrambled: observations")
    parser.add_argument("--n", type=int, help="number of skies; of each class for quiet")
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--exposure", type=float, default=30_000.0, help="length of each, s")
    parser.add_argument("--profile", action="append", help=f"repeat for more; default: {', '.join(PROFILES)}")
    parser.add_argument("--far", action="append", type=float, help="false-alarm rate; repeat for more")
    parser.add_argument("--class", dest="classes", action="append", choices=CLASSES, help="repeat for more")
    parser.add_argument("--config", type=Path, help="TOML file with settings that override every profile's")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--keep", type=Path, help="folder of the skies; default: a temporary one")
    args = parser.parse_args()
    run, n = {
        "recovery": (recovery, 16),
        "quiet": (quiet, 60),
        "counts": (counts, 4),
        "calibrate": (calibrate, 16),
        "scrambled": (scrambled, 60),
    }[args.what]
    if (args.what == "scrambled") != bool(args.folders):
        parser.error("scrambled takes folders of observations, the others take none")
    args.n = n if args.n is None else args.n
    args.profile = args.profile or list(PROFILES)
    args.far = args.far or list(FALSE_ALARM_RATES)
    args.classes = args.classes or list(CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        run(args, args.keep or Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
