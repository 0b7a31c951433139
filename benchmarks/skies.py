"""What the search makes of skies whose truth is known.

    scripts/skies quiet     [--n 20] [--seed 77] [--exposure 30000]
    scripts/skies recovery  [--n 10] [--seed 5]  [--exposure 30000]
    scripts/skies positions [--n 20] [--seed 5]  [--exposure 30000]

``quiet``: skies without transients. The number of flagged voxels to expect is the sum, over all
searched voxels, of the probabilities to pass the thresholds by chance; it is held against what
was flagged, touching voxels counted once, in the 99 % Poisson interval.

``recovery``: planted bursts, flares and eclipses that are found, by profile.

``positions``: offsets of planted transients over their stated errors, which should follow a
Rayleigh distribution, and the median offset of those with 20 or more counts.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage, stats

from xscan.api import scan, scan_settings
from xscan.bayes import poisson_tail, thresholds
from xscan.missions.xmm.observation import read
from xscan.model import Expectation, Voxels
from xscan.search.observation import ViewResult, search_observation
from xscan.simulate import simulate_archive
from xscan.simulate.recovery import Recovery, compare

MU_GRID = np.geomspace(1e-7, 1e4, 400_001)
CONFIDENCE = 0.99


def chance(sigma: float) -> NDArray[np.float64]:
    """Give the probability that a voxel of each mu of MU_GRID is flagged by chance."""
    limits = thresholds(sigma, 40_000)
    n_min = np.searchsorted(limits.mu_peak, MU_GRID, side="right")
    n_max = np.searchsorted(limits.mu_eclipse, MU_GRID, side="left") - 1
    low = np.where(n_max >= 0, poisson_tail(np.maximum(n_max, 0), MU_GRID, True), 0.0)
    return poisson_tail(n_min, MU_GRID, False) + low


def expected_flags(expected: Expectation, probability: NDArray[np.float64]) -> float:
    """Sum the probability over all voxels where mu is defined."""
    total = 0.0
    for y in range(expected.template.shape[1]):
        mu = expected.row(y)
        mu = mu[mu > MU_GRID[0]]
        total += float(probability[np.searchsorted(MU_GRID, mu) - 1].sum())
    return total


def merged(voxels: Voxels, shape: tuple[int, int, int]) -> int:
    """Count flagged voxels, those that touch in space or time once."""
    if len(voxels) == 0:
        return 0
    # label only the frames that matter: flagged ones and their neighbours
    frames = np.unique(np.concatenate([voxels.t - 1, voxels.t, voxels.t + 1]))
    cube = np.zeros((shape[0], shape[1], frames.size), bool)
    cube[voxels.y, voxels.x, np.searchsorted(frames, voxels.t)] = True
    return int(ndimage.label(cube, np.ones((3, 3, 3)))[1])


def results(folder: Path, profile: str = "views") -> Iterator[tuple[str, ViewResult]]:
    """Search every observation of a folder."""
    scanner = scan_settings(profile).scanner()
    config = scanner.settings.config
    for path in sorted(folder.glob("0*/")):
        observation = read(path, config, scanner.settings.hot_pixels, scanner.backend.events)
        searches, _ = search_observation(observation, config, scanner.backend)
        for search in searches:
            for result in search.views:
                yield observation.obsid, result


def quiet(folder: Path, n: int, seed: int, exposure_s: float) -> int:
    """Hold false alarms against the number to expect."""
    simulate_archive(folder, n, seed, exposure_s, quiet=True)
    probability = chance(3.0)
    due: dict[float, float] = collections.defaultdict(float)
    seen: dict[float, int] = collections.defaultdict(int)
    for obsid, result in results(folder):
        if result.search is None:
            print(f"{obsid} {result.view}: {result.message}")
            continue
        due[result.view.dt_s] += expected_flags(result.search.expected, probability)
        seen[result.view.dt_s] += merged(result.search.voxels, result.search.grid.shape)
        for found in result.found:
            voxels, members = result.search.voxels, found.region.members
            print(
                f"    {obsid} {result.view} {'eclipse' if voxels.eclipse[members[0]] else 'peak'}: "
                f"n {voxels.n[members].max()}, expected {voxels.mu[members].max():.3g}, "
                f"cameras {found.by_camera.tolist()}, "
                f"{'masked' if result.search.mask[voxels.y[members[0]], voxels.x[members[0]]] else 'open sky'}"
            )
    print(f"{n} quiet skies of {exposure_s:g} s, seed {seed}, three bands, profile views")
    print("| frame (s) | expected by chance | flagged | 99 % interval | |\n|---|---|---|---|---|")
    inside = True
    for dt in sorted(due):
        low, high = stats.poisson.interval(CONFIDENCE, due[dt])
        ok = low <= seen[dt] <= high
        inside &= ok
        print(f"| {dt:g} | {due[dt]:.2f} | {seen[dt]} | {low:.0f}-{high:.0f} | {'inside' if ok else 'OUTSIDE'} |")
    return 0 if inside else 1


def recovered(folder: Path, truth: pa.Table, profile: str) -> Recovery:
    """Scan an archive and compare with its truth."""
    tables = [scan(path, profile=profile).regions for path in sorted(folder.glob("0*/"))]
    return compare(truth, pa.concat_tables(tables))


def recovery(folder: Path, n: int, seed: int, exposure_s: float) -> int:
    """Count planted transients that are found, by kind and profile."""
    truth = simulate_archive(folder, n, seed, exposure_s)
    print(f"{n} skies of {exposure_s:g} s, seed {seed}")
    print("| profile | bursts | flares | eclipses | other regions | median offset |\n|---|---|---|---|---|---|")
    for profile in ("views", "exod2"):
        done = recovered(folder, truth, profile)
        cells = []
        for kind in ("burst", "flare", "eclipse"):
            mine = [row for row in done.truth if row["kind"] == kind]
            cells.append(f"{sum(row['best'] is not None for row in mine)} of {len(mine)}")
        offsets = [row["offset_arcsec"] for row in done.truth if row["best"] is not None]
        print(f'| {profile} | {" | ".join(cells)} | {len(done.unmatched)} | {np.median(offsets):.1f}" |')
    return 0


def positions(folder: Path, n: int, seed: int, exposure_s: float) -> int:
    """Hold offsets of planted bursts and flares against their stated errors."""
    truth = simulate_archive(folder, n, seed, exposure_s)
    done = recovered(folder, truth, "views")
    eclipses = [row for row in done.truth if row["best"] is not None and row["kind"] == "eclipse"]
    found = [row for row in done.truth if row["best"] is not None and row["kind"] != "eclipse"]
    offsets = np.array([row["offset_arcsec"] for row in found])
    ratios = offsets / np.array([row["best"]["pos_err_arcsec"] for row in found])
    counts = np.array([row["n_pn"] + row["n_m1"] + row["n_m2"] for row in found])
    p = float(stats.kstest(ratios, "rayleigh").pvalue)
    median = float(np.median(offsets[counts >= 20]))
    print(f"{n} skies of {exposure_s:g} s, seed {seed}: {len(found)} bursts and flares found")
    print(f"offset / error: median {np.median(ratios):.2f} (Rayleigh: 1.18), largest {ratios.max():.1f}, KS p {p:.3f}")
    print(f"median offset of the {np.count_nonzero(counts >= 20)} with 20 or more counts: {median:.2f} arcsec")
    hidden = np.array([row["offset_arcsec"] / row["best"]["pos_err_arcsec"] for row in eclipses])
    if hidden.size:
        print(f"offset / error of {hidden.size} eclipses: median {np.median(hidden):.2f}, largest {hidden.max():.1f}")
        everything = float(stats.kstest(np.concatenate([ratios, hidden]), "rayleigh").pvalue)
        print(f"bursts, flares and eclipses together: KS p {everything:.2g}")
    print(f"{len(done.unmatched)} regions lie more than 30 arcsec from everything planted and are in none of these")
    return 0 if p > 0.01 and median <= 2.5 else 1


def main() -> int:
    """Run one of the comparisons; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("quiet", "recovery", "positions"))
    parser.add_argument("--n", type=int, help="number of skies")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--exposure", type=float, default=30_000.0, help="length of each, s")
    args = parser.parse_args()
    run, n, seed = {"quiet": (quiet, 20, 77), "recovery": (recovery, 10, 5), "positions": (positions, 20, 5)}[args.what]
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), args.n or n, args.seed if args.seed is not None else seed, args.exposure)


if __name__ == "__main__":
    sys.exit(main())
