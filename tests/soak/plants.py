"""Flares planted into real lists, and what the search finds of them.

    scripts/plants FOLDER... [--profile default] [--seed 1] [--places 10] [--counts 20 40 ...] [--durations 2 20 ...]
                             [--core 5 5] [--json FILE]

Every folder holds the MOS event lists of one observation, under any name. Into a copy of it, all cameras together, one
flare is planted and the copy is searched with one profile: 20 to 2,700 counts in 2, 20, 200 and 2000 s, in
good and in bad time (bad: 100 s with more than 0.5 ct/s of 10-12 keV per list), ten places each. The flare of n counts
is the first n photons of that of 2,700: at the same place more counts are the same ones and some more.

A photon: King profile (core 5", or drawn for each place, slope 1.5, cut at 300"), even in time, its camera by lot.
Every second flare is soft (photons per keV as E^-1.5 from 0.3 to 10 keV), the others hard (level from 0.5 to 12 keV).
Its CCD and raw pixel follow from its place by the list's own events (a plane fitted to RAWX and RAWY of each CCD, good
to a third of a pixel). It is lost between CCDs, on the list's BADPIXnn, where the nearest event that is kept lies
further than chance allows once in a hundred, outside the good time of its CCD, and between its read-out frames; its
TIME is even in the read-out frame. Counts are photons that are not lost: a flare at a hole has as many as any other.
Places are those of events, more than 90" from what the list itself gives.

What this does not do: photons come after reading and its cuts, so FLAG, PATTERN and PI cuts never see them; read-outs
have no pile-up; the profile does not widen off axis.

Recovered: a region or event (no eclipse) within 30" that overlaps in time. Other: one not within 60" and overlapping,
and not within 30" and overlapping of one (of the same view) in the list without a flare, nor tied to the flare's region
as its wing (column ``parent``, where there is one; these are counted apart). The profile reaches further than 60":
where nothing ties them, a few regions beside the brightest flares are photons of their wings.

Places: offsets over their errors should be Rayleigh-distributed, in each number of counts and in all together; the
latter share photons (a flare of few counts is part of one of many), so that their KS probability is on the low side.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import kstest, rayleigh

import xscan
from soak.finds import Row, is_event, strength, what_was_found, written
from soak.reallists import RealList, make_folder, read_lists, source_list
from xscan.events.gti import intersect
from xscan.missions.xmm.instrument import EPIC
from xscan.model import EventList, Observation, pixel_number
from xscan.search.subsets import good_intervals
from xscan.sky import separation_arcsec

COUNTS = (20, 40, 80, 160, 400, 800, 1600, 2700)
DURATIONS_S = (2.0, 20.0, 200.0, 2000.0)
KINDS = ("good", "bad")
CORE_ARCSEC, SLOPE, REACH_ARCSEC = 5.0, 1.5, 300.0
FOUND_ARCSEC, OWN_ARCSEC, CLEAR_ARCSEC = 30.0, 60.0, 90.0
BIN_S, HARD_EV, BAD_RATE = 100.0, (10_000, 12_000), 0.5
LIVE_MIN = 0.8  # of the duration of a flare in good time of all lists
SURVIVING_MIN = 0.5  # of its photons
CCD_PIXELS = 600

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Photons:
    """Photons of a flare, shape (n,) each."""

    camera: NDArray[np.intp]  # place of the list
    time: Floats
    x: Floats  # sky pixels
    y: Floats
    pi: NDArray[np.int64]
    ccd: NDArray[np.int64]
    pixel: NDArray[np.int64]
    nearest: NDArray[np.int64]  # event of its list

    def first(self, n: int) -> Photons:
        """Give the first n of them."""
        return self[slice(n)]

    def __getitem__(self, chosen: Any) -> Photons:
        return Photons(*(getattr(self, column.name)[chosen] for column in dataclasses.fields(self)))


class Detector:
    """Where and when one camera takes photons, as its list says."""

    def __init__(self, real: RealList, events: EventList) -> None:
        self.events = events
        places = np.column_stack([events.x, events.y]).astype(np.float64)
        self.tree = cKDTree(places)
        cells = len(np.unique(places // 400, axis=0))
        self.far_px = math.sqrt(math.log(100) * cells * 400**2 / (math.pi * len(places)))
        rows = real.events
        on_sky = (rows["X"] > 0) & (rows["Y"] > 0)
        self.planes = {ccd: _raw_of_sky(rows[on_sky & (rows["CCDNR"] % 10 == ccd)]) for ccd in np.unique(events.ccd)}
        self.bad = np.zeros((16, CCD_PIXELS + 2, CCD_PIXELS + 2), bool)
        self.frames: dict[int, tuple[Floats, Floats]] = {}
        for part in real.parts:
            if part.name.startswith("BADPIX"):
                self._mark(int(part.name[6:]), part.rows)
            if part.name.startswith("EXPOSU"):
                order = np.argsort(part.rows["TIME"])
                frames = tuple(part.rows[name][order].astype(np.float64) for name in ("TIME", "TIMEDEL"))
                self.frames[int(part.name[6:])] = (frames[0], frames[1])

    def _mark(self, ccd: int, rows: NDArray[np.void]) -> None:
        """Mark the pixels of a BADPIXnn table; a row is a run toward larger RAWY."""
        runs = rows["YEXTENT"] if "YEXTENT" in rows.dtype.names else np.ones(len(rows), int)
        for x, y, run in zip(rows["RAWX"].tolist(), rows["RAWY"].tolist(), runs.tolist()):
            self.bad[ccd, min(max(x, 0), CCD_PIXELS + 1), max(y, 0) : max(y + run, 0)] = True

    def take(self, time: Floats, x: Floats, y: Floats, rng: np.random.Generator) -> tuple[NDArray[np.bool_], Row]:
        """Tell which photons it takes, and their columns."""
        distance, nearest = self.tree.query(np.column_stack([x, y]))
        ccd = self.events.ccd[nearest].astype(np.int64)
        raw = np.zeros((2, x.size), np.int64)
        taken = distance <= self.far_px
        when = np.zeros(x.size)
        for one in np.unique(ccd).tolist():
            mine = np.flatnonzero(ccd == one)
            raw[:, mine] = np.rint(self.planes[one] @ np.vstack([np.ones(mine.size), x[mine], y[mine]])).astype(int)
            when[mine], live = self._read_out(one, time[mine], rng)
            taken[mine] &= live
        taken &= ((raw >= 1) & (raw <= CCD_PIXELS)).all(axis=0)
        inside = np.clip(raw, 0, CCD_PIXELS + 1)
        taken &= ~self.bad[ccd, inside[0], inside[1]]
        return taken, {"time": when, "ccd": ccd, "pixel": pixel_number(ccd, *raw), "nearest": nearest}

    def _read_out(self, ccd: int, time: Floats, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
        """Spread times over their read-out frames; tell which lie in one, and in good time."""
        live = np.ones(time.size, bool)
        if ccd in self.frames:
            centre, length = self.frames[ccd]
            k = np.clip(np.searchsorted(centre, time), 1, len(centre) - 1)
            k -= time - centre[k - 1] < centre[k] - time
            live = np.abs(time - centre[k]) <= length[k] / 2
            time = centre[k] + (rng.random(time.size) - 0.5) * length[k]
        good = self.events.good_time
        intervals = good[ccd].gti if ccd in good else np.array([self.events.event_span])
        after = np.searchsorted(intervals[:, 0], time, side="right") - 1
        return time, live & (after >= 0) & (time <= intervals[after, 1])


def _raw_of_sky(rows: NDArray[np.void]) -> Floats:
    """Fit RAWX and RAWY of a CCD as planes over X and Y, shape (2, 3)."""
    sky = np.column_stack([np.ones(len(rows)), rows["X"], rows["Y"]]).astype(np.float64)
    raw = np.column_stack([rows["RAWX"], rows["RAWY"]]).astype(np.float64)
    return np.linalg.lstsq(sky, raw, rcond=None)[0].T


@dataclass(frozen=True)
class Field:
    """An observation to plant into."""

    observation: Observation
    detectors: tuple[Detector, ...]
    found: list[Row]  # in the list as it is


@lru_cache(maxsize=4)
def field_of(folder: Path, profile: str = "default") -> Field:
    """Read and scan an observation, once in each process."""
    lists = read_lists(folder)
    with tempfile.TemporaryDirectory() as scratch:
        observation = xscan.read(make_folder(Path(scratch), lists, source_list(folder)))
    real = {one.camera.lower(): one for one in lists}
    detectors = tuple(Detector(real[events.camera], events) for events in observation.lists)
    return Field(observation, detectors, _found(observation, profile)[0])


def _found(observation: Observation, profile: str) -> tuple[list[Row], list[Row]]:
    """Scan; give what was found, and the rows of runs."""
    tables = xscan.scan(observation, profile=profile, backend="numba")
    return what_was_found(tables), tables.runs.to_pylist()


def slots(field: Field, kind: str, duration_s: float) -> Floats:
    """Give the starts, s, of all stretches that lie in time of a kind and are live enough, one a second."""
    lists = field.observation.lists
    good = good_intervals(lists[0])
    for events in lists[1:]:
        good = intersect(good, good_intervals(events))
    t0, t1 = float(good[0, 0]), float(good[-1, 1])
    bad = _bad_bins(lists, t0, t1)
    starts = np.arange(t0, t1 - duration_s)
    first = np.minimum(((starts - t0) // BIN_S).astype(int), bad.size - 1)
    last = np.minimum(((starts + duration_s - t0) // BIN_S).astype(int), bad.size - 1)
    n_bad = np.concatenate([[0], np.cumsum(bad)])
    share = (n_bad[last + 1] - n_bad[first]) / (last - first + 1)
    edges, live = good.ravel(), np.cumsum(np.append(0, np.diff(good.ravel()) * (np.arange(good.size - 1) % 2 == 0)))
    lit = (np.interp(starts + duration_s, edges, live) - np.interp(starts, edges, live)) / duration_s
    return starts[(share == (kind == "bad")) & (lit >= LIVE_MIN)]


def _bad_bins(lists: Sequence[EventList], t0: float, t1: float) -> NDArray[np.bool_]:
    """Judge 100 s bins by 10-12 keV; the rest belongs to the last bin."""
    n_bins = max(int((t1 - t0) / BIN_S), 1)
    hard = [events.time[(events.pi > HARD_EV[0]) & (events.pi < HARD_EV[1])] for events in lists]
    times = np.concatenate(hard)
    times = times[(times >= t0) & (times <= t1)]
    counts = np.bincount(np.minimum((times - t0) // BIN_S, n_bins - 1).astype(int), minlength=n_bins)
    length_s = np.full(n_bins, BIN_S)
    length_s[-1] = t1 - t0 - (n_bins - 1) * BIN_S
    return counts > BAD_RATE * len(lists) * length_s


@dataclass(frozen=True)
class Flare:
    """A flare of the largest number of counts."""

    start: float
    stop: float
    x: float
    y: float
    ra_deg: float
    dec_deg: float
    hard: bool
    surviving: float
    photons: Photons


def make_flare(
    field: Field,
    start: float,
    duration_s: float,
    hard: bool,
    rng: np.random.Generator,
    core_arcsec: float = CORE_ARCSEC,
) -> Flare:
    """Draw a place, and photons there until enough are taken."""
    lists = field.observation.lists
    while True:
        events = lists[rng.integers(len(lists))]
        k = rng.integers(events.time.size)
        x, y = float(events.x[k]), float(events.y[k])
        ra, dec = (float(v) for v in events.plane.to_icrs(x, y))
        if any(_apart(row, ra, dec) < CLEAR_ARCSEC for row in field.found):
            continue
        parts: list[Photons] = []
        drawn = 0
        while sum(part.time.size for part in parts) < max(COUNTS) and drawn < max(COUNTS) / SURVIVING_MIN:
            parts.append(_draw(field, x, y, (start, duration_s), hard, rng, core_arcsec))
            drawn += 1000
        photons = Photons(*(np.concatenate(columns) for columns in zip(*(_columns(part) for part in parts))))
        if photons.time.size >= max(COUNTS):
            stop = start + duration_s
            return Flare(start, stop, x, y, ra, dec, hard, photons.time.size / drawn, photons.first(max(COUNTS)))


def _columns(photons: Photons) -> list[NDArray[Any]]:
    return [getattr(photons, column.name) for column in dataclasses.fields(photons)]


def _apart(row: Row, ra: float, dec: float) -> float:
    return float(separation_arcsec(row["ra_deg"], row["dec_deg"], ra, dec))


def _draw(
    field: Field,
    x: float,
    y: float,
    when: tuple[float, float],
    hard: bool,
    rng: np.random.Generator,
    core_arcsec: float,
) -> Photons:
    """Draw 1,000 photons and give those that are taken, in the order of the draw."""
    n = 1000
    camera = rng.integers(len(field.detectors), size=n)
    whole = 1 - (1 + (REACH_ARCSEC / core_arcsec) ** 2) ** (1 - SLOPE)
    radius = core_arcsec * np.sqrt((1 - whole * rng.random(n)) ** (1 / (1 - SLOPE)) - 1) / EPIC.sky.side_arcsec
    angle = 2 * np.pi * rng.random(n)
    place_x, place_y = x + radius * np.cos(angle), y + radius * np.sin(angle)
    time_s = when[0] + when[1] * rng.random(n)
    u = rng.random(n)
    kev = 0.5 + 11.5 * u if hard else (0.3**-0.5 + u * (10.0**-0.5 - 0.3**-0.5)) ** -2
    columns = {"time": time_s, "ccd": np.zeros(n, int), "pixel": np.zeros(n, int), "nearest": np.zeros(n, int)}
    taken = np.zeros(n, bool)
    for i, detector in enumerate(field.detectors):
        mine = np.flatnonzero(camera == i)
        taken[mine], found = detector.take(time_s[mine], place_x[mine], place_y[mine], rng)
        for name, values in found.items():
            columns[name][mine] = values
    pi = np.minimum((1000 * kev).astype(np.int64), 12_000)
    return Photons(camera, columns["time"], place_x, place_y, pi, columns["ccd"], columns["pixel"], columns["nearest"])[
        taken
    ]


def planted(observation: Observation, photons: Photons) -> Observation:
    """Add photons to an observation."""
    lists = (_with(events, photons[photons.camera == i]) for i, events in enumerate(observation.lists))
    return dataclasses.replace(observation, lists=tuple(lists))


def _with(events: EventList, photons: Photons) -> EventList:
    """Add photons to a list; a column that is not known here is that of the nearest event."""
    own = {
        "time": photons.time, "x": np.rint(photons.x), "y": np.rint(photons.y), "pi": photons.pi,
        "ccd": photons.ccd, "pixel": photons.pixel,
    }  # fmt: skip
    columns = {}
    for column in dataclasses.fields(events):
        old = getattr(events, column.name)
        if isinstance(old, np.ndarray) and old.shape == events.time.shape:
            new = own.get(column.name, old[photons.nearest])
            columns[column.name] = np.concatenate([old, new.astype(old.dtype)])
    return dataclasses.replace(events, **columns)


@dataclass(frozen=True)
class Job:
    """One place: flares of all counts."""

    folder: Path
    kind: str
    duration_s: float
    place: int
    seed: int
    counts: tuple[int, ...]
    profile: str
    core_arcsec: tuple[float, float]


def search(job: Job) -> list[Row]:
    """Plant and scan; give a row for each number of counts, none if there is no such time."""
    field = field_of(job.folder, job.profile)
    starts = slots(field, job.kind, job.duration_s)
    if starts.size == 0:
        return []
    seed = (job.seed, int(job.folder.name), KINDS.index(job.kind), int(job.duration_s), job.place)
    rng = np.random.default_rng(seed)
    core = float(np.random.default_rng((*seed, 1)).uniform(*job.core_arcsec))  # apart: the same places for any cores
    flare = make_flare(field, float(rng.choice(starts)), job.duration_s, bool(job.place % 2), rng, core)
    about = {"observation": job.folder.name, "kind": job.kind, "duration_s": job.duration_s, "place": job.place}
    about["core_arcsec"] = core
    about |= {name: getattr(flare, name) for name in ("start", "ra_deg", "dec_deg", "hard", "surviving")}
    rows = []
    for n in job.counts:
        photons = flare.photons.first(n)
        found, runs = _found(planted(field.observation, photons), job.profile)
        rows.append(about | {"counts": n} | judge(found, flare, field.found))
        rows[-1]["not_done"] = sum(run["state"] != "done" for run in runs)
        rows[-1]["events_rejected"] = max(run["n_events_rejected"] or 0 for run in runs)
    return rows


def judge(found: Sequence[Row], flare: Flare, before: Sequence[Row]) -> Row:
    """Tell what is the flare, and what is neither it nor in the list without it."""
    own = [row for row in found if _overlap(row, flare.start, flare.stop)]
    near = [row for row in own if _apart(row, flare.ra_deg, flare.dec_deg) <= FOUND_ARCSEC and row["kind"] != "eclipse"]
    beside = [row for row in own if _apart(row, flare.ra_deg, flare.dec_deg) <= OWN_ARCSEC]
    own_ids = {row["det_id"] for row in near if not is_event(row)}
    tied = [row for row in found if row not in beside and row.get("parent") in own_ids]
    others = [row for row in found if row not in beside + tied and not any(_same(row, old) for old in before)]
    best = max(near, key=strength, default=None)
    return {
        "found": best is not None,
        "found_at_s": sorted({row["dt_s"] for row in near if not is_event(row)}),
        "times": len(near),
        "strength": best and strength(best),
        "fitted_counts": best and best.get("counts"),
        "offset_arcsec": best and _apart(best, flare.ra_deg, flare.dec_deg),
        "pos_err_arcsec": best and best["pos_err_arcsec"],
        "tied": len(tied),
        "others": [row | {"apart_arcsec": _apart(row, flare.ra_deg, flare.dec_deg)} for row in others],
    }


def _overlap(row: Row, start: float, stop: float) -> bool:
    # times are even in read-out frames of 2.6 s
    return row["t_start_s"] <= stop + 2.6 and row["t_stop_s"] >= start - 2.6


def _same(row: Row, old: Row) -> bool:
    view = () if is_event(row) else ("dt_s", "band_lo_kev", "band_hi_kev")
    return (
        all(row[name] == old[name] for name in view)
        and _overlap(row, old["t_start_s"], old["t_stop_s"])
        and _apart(row, old["ra_deg"], old["dec_deg"]) <= FOUND_ARCSEC
    )


def run(jobs: Sequence[Job], processes: int) -> list[Row]:
    """Search every place."""
    with ProcessPoolExecutor(processes) as pool:
        return list(itertools.chain.from_iterable(pool.map(search, jobs)))


def falls(rows: Sequence[Row], found: str = "found") -> list[str]:
    """Say where more counts are found less often than fewer."""
    said = []
    for key, mine in _by(rows, "observation", "kind", "duration_s").items():
        counted = [(n, sum(bool(row[found]) for row in group)) for (n,), group in _by(mine, "counts").items()]
        for (n, few), (more, fewer) in itertools.pairwise(sorted(counted)):
            if fewer < few:
                said.append(f"{key[0]}, {key[1]} time, {key[2]:g} s: {few} with {n} counts, {fewer} with {more}")
    return said


def _by(rows: Sequence[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = collections.defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return groups


def summary(rows: Sequence[Row], jobs: Sequence[Job]) -> list[str]:
    """Write the tables and the checks."""
    counts = sorted({row["counts"] for row in rows})
    lines = [f"| observation | time | s | places | {' | '.join(map(str, counts))} | others | wings tied |"]
    lines.append("|---|" + "---|" * (len(counts) + 5))
    done = _by(rows, "observation", "kind", "duration_s")
    of_views = any(row["found_at_s"] for row in rows)
    wanted = dict.fromkeys((job.folder.name, job.kind, job.duration_s) for job in jobs)
    for key in wanted:
        mine = done.get(key, [])
        at = _by(mine, "counts")
        for label, chosen in (("", "found"), (" (at 5 s)", "found_5s")):
            if label and (key[2] != min(DURATIONS_S) or not of_views):
                continue
            cells = [str(sum(row[chosen] for row in at[n,])) for n in counts] if mine else ["no such time"]
            cells += [""] * (len(counts) - len(cells))
            others = "" if label else str(sum(len(row["others"]) for row in mine))
            tied = "" if label else str(sum(row["tied"] for row in mine))
            places = len({row["place"] for row in mine})
            lines.append(
                f"| {key[0]} | {key[1]} | {key[2]:g}{label} | {places} | {' | '.join(cells)} | {others} | {tied} |"
            )
    for name, found in (("in any view", "found"), ("at 5 s, of 2 s", "found_5s")) if of_views else (("", "found"),):
        said = falls([row for row in rows if found == "found" or row["duration_s"] == min(DURATIONS_S)], found)
        lines.append(f"\nrecovery {name + ' ' if name else ''}" + ("falls:" if said else "never falls as counts rise"))
        lines += [f"  {line}" for line in said]
    lost = _hidden(rows)
    lines += [f"\nplaces where more photons hide what fewer show: {len(lost)}", *lost]
    others = [(row, other) for row in rows for other in row["others"]]
    lines.append(f"\n{len(others)} others")
    for row, other in others:
        lines.append(
            f"  {row['observation']}, {row['kind']} time, {row['duration_s']:g} s, place {row['place']}, "
            f'{row["counts"]} counts, {other["apart_arcsec"]:.0f}" away: {written(other, row["start"])}'
        )
    return lines


def _hidden(rows: Sequence[Row]) -> list[str]:
    """Name the places where a flare is found and one of more counts is not."""
    lines = []
    for key, mine in _by(rows, "observation", "kind", "duration_s", "place").items():
        inorder = sorted(mine, key=lambda row: row["counts"])
        if any(a["found"] and not b["found"] for a, b in itertools.pairwise(inorder)):
            found = [row["counts"] for row in inorder if row["found"]]
            lines.append(f"  {key[0]}, {key[1]} time, {key[2]:g} s, place {key[3]}: found only with {found}")
    return lines


def places_found(rows: Sequence[Row]) -> list[str]:
    """Write how offsets over errors are distributed, by counts and in all."""
    groups = [(str(n), group) for (n,), group in sorted(_by(rows, "counts").items())]
    lines = ["", "| counts | found | median offset | median error | offset / error: rms / 1.41 | KS p, Rayleigh |"]
    lines.append("|---|" + "---|" * 5)
    for name, group in [*groups, ("all", rows)]:
        found = [row for row in group if row["found"]]
        offset, error = (np.array([row[column] for row in found]) for column in ("offset_arcsec", "pos_err_arcsec"))
        cells = [name, str(len(found)), "", "", "", ""]
        if found:
            ratio = offset / error
            cells[2:4] = f'{np.median(offset):.2f}"', f'{np.median(error):.2f}"'
            cells[4:] = f"{math.sqrt(np.mean(ratio**2) / 2):.2f}", f"{kstest(ratio, rayleigh.cdf).pvalue:.2g}"
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Run it; the exit status is 1 if recovery falls, or there are others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="event lists of one observation")
    parser.add_argument("--profile", default="default", help="searched with it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--places", type=int, default=10)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help=f"at most {max(COUNTS)}")
    parser.add_argument("--durations", nargs="+", type=float, default=DURATIONS_S, help="s")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--core", nargs=2, type=float, default=(CORE_ARCSEC, CORE_ARCSEC), help="least and most, arcsec"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="where to keep every row")
    args = parser.parse_args()
    started = time.perf_counter()
    rest = args.seed, tuple(sorted(args.counts)), args.profile, tuple(args.core)
    jobs = [
        Job(folder.resolve(), kind, duration_s, place, *rest)
        for folder in args.folders
        for kind in args.kinds
        for duration_s in args.durations
        for place in range(args.places)
    ]
    rows = run(jobs, args.processes)
    for row in rows:
        row["found_5s"] = 5.0 in row["found_at_s"]
    if args.json:
        args.json.write_text(json.dumps(rows, default=str))
    print("\n".join([*summary(rows, jobs), *places_found(rows)]))
    seconds, version = time.perf_counter() - started, xscan.__version__
    print(f"\nseed {args.seed}: {len(rows)} searches in {seconds:.0f} s by xscan {version}, profile {args.profile}")
    return 1 if falls(rows) or any(row["others"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
