"""A store as large as the archive's: how fast it is read, and in how many files.

    scripts/store-check [--observations 17000] [--regions 1] [--frames 150] [--folder DIR]

Writes made-up rows of so many observations of nine views each through the store, as a run does,
then reads them back. Prints each figure beside its target; exit status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xscan.results.reader import open_results
from xscan.results.tables import Provenance, Tables
from xscan.results.writer import ResultsWriter
from xscan.schema import SCHEMAS

N_FILES = 4  # three event lists and the source list
N_VIEWS = 9
VOXELS_PER_REGION = 3
ALL_REGIONS_S, ONE_OBSERVATION_S, FILES = 1.0, 0.020, 1000
REPEAT = 5


def made_up(schema: pa.Schema, n: int, obsid: str, frames: int, rng: np.random.Generator) -> pa.Table:
    """Make ``n`` rows of a table, of numbers that compress no better than real ones."""
    return pa.Table.from_arrays([_column(field, n, obsid, frames, rng) for field in schema], schema=schema)


def _column(field: pa.Field, n: int, obsid: str, frames: int, rng: np.random.Generator) -> pa.Array:
    kind = field.type
    if pa.types.is_list(kind):
        values = _column(kind.value_field, n * frames, obsid, frames, rng)
        return pa.ListArray.from_arrays(pa.array(np.arange(n + 1) * frames, pa.int32()), values, kind)
    if pa.types.is_string(kind):
        text = [f"{obsid}_{k}" for k in range(n)] if field.name in ("det_id", "event_id") else [obsid] * n
        return pa.array(["done"] * n if field.name == "state" else text, kind)
    if pa.types.is_boolean(kind):
        return pa.array(rng.random(n) < 0.1, kind)
    if pa.types.is_timestamp(kind):
        return pa.array([datetime.datetime.now(datetime.UTC)] * n, kind)
    if pa.types.is_integer(kind):
        return pa.array(rng.integers(0, 100, n), kind)
    return pa.array(rng.random(n), kind)


def fill(folder: Path, n: int, regions: int, frames: int) -> float:
    """Write the observations in random order; give the wall time, s."""
    rng = np.random.default_rng(1)
    rows = {"runs": N_VIEWS, "inputs": N_FILES, "regions": regions * N_VIEWS, "lightcurves": regions * N_VIEWS}
    rows |= {"events": N_VIEWS, "voxels": regions * N_VIEWS * VOXELS_PER_REGION, "images": 1}
    started = time.perf_counter()
    with ResultsWriter(folder, Provenance("0", "made up", "0", "0", "none"), {}) as writer:
        for number in rng.permutation(n):
            obsid = f"{number * 50_000:010d}"
            tables = Tables(*(made_up(schema, rows[name], obsid, frames, rng) for name, schema in SCHEMAS.items()))
            writer.write(obsid, tables)
    return time.perf_counter() - started


def median_s(action: Callable[[], Any]) -> float:
    """Give the median wall time of some calls, s."""
    taken = []
    for _ in range(REPEAT):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def measure(folder: Path, n: int) -> list[tuple[str, float, float]]:
    """Read the store in the ways that have a target; give what, the figure, and its target."""
    found: list[tuple[str, float, float]] = [
        ("all regions, s", median_s(lambda: open_results(folder).table("regions")), ALL_REGIONS_S)
    ]
    obsids = iter(np.random.default_rng(2).integers(0, n, len(SCHEMAS) * REPEAT))

    def one(name: str) -> None:
        assert open_results(folder).table(name, f"{next(obsids) * 50_000:010d}").num_rows > 0

    for name in SCHEMAS:
        found.append((f"{name} of one observation, s", median_s(lambda name=name: one(name)), ONE_OBSERVATION_S))
    found.append(("files", sum(path.is_file() for path in folder.rglob("*")), FILES))
    return found


def main() -> int:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=17_000)
    parser.add_argument("--regions", type=int, default=1, help="regions in each of the nine views")
    parser.add_argument("--frames", type=int, default=150, help="length of a light curve: 30 ks in frames of 200 s")
    parser.add_argument("--folder", type=Path, help="where to write; default a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as out:
        folder = Path(out)
        filled_s = fill(folder, args.observations, args.regions, args.frames)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*")) / 1e6
        print(f"{args.observations} observations written in {filled_s:.0f} s, {megabytes:.0f} MB")
        found = measure(folder, args.observations)
    for what, figure, target in found:
        print(f"{what:36} {figure:8.4g}   below {target:g}{'' if figure < target else ': MISSED'}")
    return int(any(figure >= target for _, figure, target in found))


if __name__ == "__main__":
    sys.exit(main())
