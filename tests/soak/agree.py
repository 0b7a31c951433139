"""NumPy, Numba and the CUDA source run on the CPU, held against one another on real lists: cut, and with flares.

    scripts/agree FOLDER... [--lengths 1000 2000 3000 5000] [--places 2] [--counts 40 400 2700] [--seed 11]

Every folder holds the MOS event lists of one observation. Each is cut as scripts/cuts cuts it, and searched whole with
flares planted as by scripts/plants: every backend must give the same content digest. Exit code 1 if one does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers.cuda_on_cpu import make_backend

from soak import cuts, plants
from soak.reallists import make_folder, source_list
from xscan.api import scan_settings
from xscan.pipeline.scan import Scanner, scan_folder, search_to_tables
from xscan.results.content_digest import digest_by_observation
from xscan.results.tables import Tables

BACKENDS = ("numpy", "numba", "cuda")

Search = Callable[[Scanner], Tables]


def cut_lists(folder: Path, lengths_s: list[float]) -> Iterator[tuple[str, Search]]:
    """Yield a name and a search of each window of an observation."""
    for job in cuts.jobs_of(folder, lengths_s, 0.0):
        chosen = [one for one in cuts.lists_of(folder) if one.camera in job.cameras]
        with tempfile.TemporaryDirectory() as work:
            cut = make_folder(Path(work), chosen, source_list(folder) if job.with_sources else None, job.window)
            yield f"{folder.name} {job}", lambda scanner, cut=cut: scan_folder(cut, scanner)[1]


def planted_lists(folder: Path, n_places: int, counts: list[int], seed: int) -> Iterator[tuple[str, Search]]:
    """Yield a name and a search of an observation with each of some flares."""
    field = plants.field_of(folder)
    for kind in plants.KINDS:
        for duration_s in plants.DURATIONS_S:
            starts = plants.slots(field, kind, duration_s)
            for number in range(n_places if starts.size else 0):
                rng = np.random.default_rng((seed, int(folder.name), plants.KINDS.index(kind), int(duration_s), number))
                flare = plants.make_flare(field, float(rng.choice(starts)), duration_s, bool(number % 2), rng)
                for n in counts:
                    made = plants.planted(field.observation, flare.photons.first(n))
                    name = f"{folder.name} {kind} {duration_s:g} s, place {number}, {n} counts"
                    yield name, lambda s, made=made: search_to_tables(made, s, s.provenance(), 0.0)


def differing(searches: Iterator[tuple[str, Search]], scanners: dict[str, Scanner]) -> tuple[int, int]:
    """Search with every backend; print those that differ, and return the numbers of searches and of these."""
    n = n_differ = 0
    for name, search in searches:
        digests = {backend: tuple(digest_by_observation(search(one)).values()) for backend, one in scanners.items()}
        n += 1
        if len(set(digests.values())) > 1:
            n_differ += 1
            print(f"differ: {name}: {digests}", flush=True)
    return n, n_differ


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--lengths", type=float, nargs="*", default=[1000.0, 2000.0, 3000.0, 5000.0], metavar="S")
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--counts", type=int, nargs="+", default=[40, 400, 2700])
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    scanner = scan_settings("views", backend="numpy").scanner()  # all labelled alike: only what is found may differ
    scanners = {name: replace(scanner, backend=make_backend(name)) for name in BACKENDS}
    all_alike = True
    for folder in given.folders:
        for what, searches in (
            ("cut", cut_lists(folder, given.lengths)),
            ("with a flare", planted_lists(folder, given.places, given.counts, given.seed)),
        ):
            n, n_differ = differing(searches, scanners)
            print(f"{folder.name}: {n} {what}, {n_differ} differ", flush=True)
            all_alike &= n > 0 and n_differ == 0
    return 0 if all_alike else 1


if __name__ == "__main__":
    sys.exit(main())
