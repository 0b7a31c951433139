"""Compare `--profile exod2` with EXOD2's own outputs, run by run and stage by stage.

    scripts/parity GOLDEN [--hotpix DIR] [--backend NAME] [RUNID ...]

Takes every GOLDEN/<obsid>/<runid>/. Event lists come from GOLDEN/<obsid>/inputs, else from
../shared/data/xmm/<obsid>; hot-pixel tables from ../shared/data/hotpix unless told. Exit status 0
only if every run is identical: counts, frames, masks, voxels, boxes and light-curve counts equal,
templates and mu within 1e-6 relative, positions within 0.001 arcsec.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from xscan.backends import BACKENDS, get_backend
from xscan.config import View, load_config
from xscan.errors import XscanError
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.missions.xmm.observation import read
from xscan.search.observation import ViewResult, search_observation
from xscan.sky import separation_arcsec

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
RUNID = re.compile(r"\d{10}_\d+_[\d.]+_[\d.]+_[\d.]+")
MU_TOLERANCE = 1e-6
POSITION_TOLERANCE_ARCSEC = 0.001


class DifferenceError(Exception):
    """A stage that is not identical; the message says where."""


def same(name: str, ours: object, theirs: object) -> None:
    """Require equal arrays."""
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.shape != b.shape:
        raise DifferenceError(f"{name}: shape {a.shape}, EXOD2 {b.shape}")
    if not np.array_equal(a, b):
        raise DifferenceError(f"{name}: {np.count_nonzero(a != b)} of {a.size} differ")


def close(name: str, ours: object, theirs: object, tolerance: float = MU_TOLERANCE) -> None:
    """Require arrays equal to a relative tolerance, NaN where the other has NaN."""
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    if a.shape != b.shape:
        raise DifferenceError(f"{name}: shape {a.shape}, EXOD2 {b.shape}")
    ok = np.isclose(a, b, rtol=tolerance, atol=0, equal_nan=True)
    if not ok.all():
        with np.errstate(invalid="ignore", divide="ignore"):
            worst = np.nanmax(np.abs(a / b - 1)[~ok & np.isfinite(b)], initial=0.0)
        raise DifferenceError(f"{name}: {np.count_nonzero(~ok)} of {a.size} differ, worst by {worst:.2g}")


def compare_counts(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check grid and counts of every voxel. EXOD2's arrays are (x, y, t)."""
    search = result.search
    assert search is not None
    grid, box = search.grid, search.grid.box
    ny, nx, nt = grid.shape
    same("shape", (nx, ny, nt), golden["shape"])
    same("bounding box", (box.x0, box.x1, box.y0, box.y1), golden["bbox"])
    same("frame edges", grid.frame_edges(), golden["bin_t"])
    theirs = np.zeros((nx, nt), np.int64)
    ix, iy, it = golden["n_idx"].astype(np.int64)
    kept = ~search.frames.rejected
    for y in range(ny):
        row = iy == y
        theirs[:] = 0
        theirs[ix[row], it[row]] = golden["n_val"][row]
        same(f"counts of row {y}", search.counts.dense_row(y)[:, kept], theirs[:, kept])


def compare_frames(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check bad and rejected frames."""
    search = result.search
    assert search is not None
    frames = search.frames
    same("bad frames", np.flatnonzero(frames.bad), golden["bti_bin_idx"])
    same("good frames", np.flatnonzero(~frames.bad), golden["gti_bin_idx"])
    same("rejected frames", frames.rejected, golden["bccd_bool"])
    same("live fraction", np.where(frames.rejected, 0.0, frames.live), golden["rel_exp"])


def compare_masks(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check the mask of listed sources and the whole source mask."""
    search = result.search
    assert search is not None
    same("list mask", search.disks.T, golden["image_mask_list"])
    same("source mask", search.mask.T, golden["image_mask_source"])


def compare_templates(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check background templates and constant sources."""
    search = result.search
    assert search is not None
    expected = search.expected
    rejected = search.frames.rejected
    for kind, chosen in enumerate((~search.frames.bad, search.frames.bad)):
        if f"bg{kind}_template" not in golden:
            continue
        same(
            f"image {kind}",
            search.counts.images(np.where(chosen & ~rejected, 0, -1).astype(np.int8))[0].T,
            golden[f"bg{kind}_image_sub"],
        )
        same(f"counts outside {kind}", expected.background_counts[chosen].sum(), golden[f"bg{kind}_count"])
        template = expected.template[kind].T
        close(f"template {kind}", np.where(template > 0, template, np.nan), golden[f"bg{kind}_template"])
    main = int(search.frames.bad.sum() * 2 >= search.frames.bad.size)
    close("constant sources", expected.source[main].T, golden["src_template"])


def compare_mu(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check the sums of mu over time and cells, and five whole frames."""
    search = result.search
    assert search is not None
    ny, nx, nt = search.grid.shape
    sum_t, sum_xy = np.zeros((ny, nx)), np.zeros(nt)
    planes = np.zeros((ny, nx, len(golden["mu_frames_idx"])))
    for y in range(ny):
        row = search.expected.row(y)
        sum_t[y] = row.sum(axis=1)
        sum_xy += row.sum(axis=0)
        planes[y] = row[:, golden["mu_frames_idx"]]
    close("mu summed over time", sum_t.T, golden["mu_sum_t"])
    close("mu summed over cells", sum_xy, golden["mu_sum_xy"])
    same("frames without mu", sum_xy == 0, golden["mu_nan_frames"])
    close("mu of five frames", planes.transpose(1, 0, 2), np.nan_to_num(golden["mu_frames"]))


def compare_voxels(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check the flagged voxels."""
    search = result.search
    assert search is not None
    voxels = search.voxels
    for kind, chosen in (("peak", ~voxels.eclipse), ("eclipse", voxels.eclipse)):
        ours = {(int(x), int(y), int(t)) for x, y, t in zip(voxels.x[chosen], voxels.y[chosen], voxels.t[chosen])}
        theirs = {tuple(row) for row in golden[f"{kind}_idx"].astype(int).tolist()}
        if ours != theirs:
            raise DifferenceError(f"{kind} voxels: {len(ours - theirs)} only here, {len(theirs - ours)} only in EXOD2")


def compare_regions(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check labels, bounding boxes and positions."""
    search = result.search
    assert search is not None
    rows = read_csv(folder / "regions.csv")
    box = search.grid.box
    ours = [
        (
            f.region.label,
            f.region.box.x0 - box.x0,
            f.region.box.y0 - box.y0,
            f.region.box.x1 - box.x0,
            f.region.box.y1 - box.y0,
        )
        for f in result.found
    ]
    theirs = [tuple(int(row[key]) for key in ("label", "bbox-0", "bbox-1", "bbox-2", "bbox-3")) for row in rows]
    if ours != theirs:
        raise DifferenceError(f"regions: {ours[:3]}..., EXOD2 {theirs[:3]}...")
    for found, row in zip(result.found, rows):
        apart = separation_arcsec(
            found.position.ra_deg, found.position.dec_deg, float(row["ra_deg"]), float(row["dec_deg"])
        )
        if apart > POSITION_TOLERANCE_ARCSEC:
            raise DifferenceError(f"region {found.region.label}: position {apart:.4f} arcsec apart")


def compare_lightcurves(result: ViewResult, golden: dict[str, np.ndarray], folder: Path) -> None:
    """Check counts, expectation and frame marks of every region's light curve."""
    for found in result.found:
        rows = read_csv(folder / f"lc_{found.region.label}.csv")
        curve, label = found.curve, found.region.label
        same(f"light curve {label} times", curve.time_s, [float(row["time"]) for row in rows])
        same(f"light curve {label} counts", curve.n, [int(float(row["n"])) for row in rows])
        close(f"light curve {label} mu", curve.mu, [float(row["mu"]) for row in rows])
        same(f"light curve {label} bad", curve.bad, [row["bti"] == "True" for row in rows])
        same(f"light curve {label} rejected", curve.rejected, [row["bccd"] == "True" for row in rows])


Compare = Callable[[ViewResult, dict[str, np.ndarray], Path], None]
STAGES: dict[str, Compare] = {
    "counts": compare_counts,
    "frames": compare_frames,
    "masks": compare_masks,
    "templates": compare_templates,
    "mu": compare_mu,
    "voxels": compare_voxels,
    "regions": compare_regions,
    "light curves": compare_lightcurves,
}


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file; EXOD2 writes none where nothing was found."""
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def compare_run(result: ViewResult, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each stage's name and what differs, empty if nothing does."""
    arrays_file = folder / "intermediates.npz"
    if not arrays_file.is_file():
        yield "intermediates", f"{arrays_file.name} is missing"
        return
    with np.load(arrays_file) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    for stage, compare in STAGES.items():
        try:
            if result.search is None:
                raise DifferenceError(f"not searched: {result.message}")
            compare(result, golden, folder)
        except DifferenceError as difference:
            yield stage, str(difference)
        else:
            yield stage, ""


def compare_observation(golden: Path, runs: list[Path], hotpix: HotPixels, backend: str) -> int:
    """Scan one observation in the views of its golden runs; print a line a run; count the identical ones."""
    obsid = golden.name
    folder = golden / "inputs"
    if not folder.is_dir():
        folder = SHARED / "xmm" / obsid
    identical = 0
    keys = {}
    for run in runs:
        _, subset, dt, lo, hi = run.name.rsplit("_", 4)
        keys[int(subset), View(float(dt), float(lo), float(hi))] = run
    config = load_config("exod2", views=tuple(dict.fromkeys(view for _, view in keys)))
    chosen = get_backend(backend)
    searches, _ = search_observation(read(folder, config, hotpix, chosen.events), config, chosen)
    for search in searches:
        for result in search.views:
            run = keys.pop((search.subset.number, result.view), None)
            if run is None:
                continue
            differences = dict(compare_run(result, run))
            good = [stage for stage, difference in differences.items() if not difference]
            identical += len(good) == len(STAGES)
            print(f"{run.name}: identical: {', '.join(good) or 'nothing'}")
            for stage, difference in differences.items():
                if difference:
                    print(f"    {stage}: {difference}")
    for run in keys.values():
        print(f"{run.name}: no such subset or view here")
    return identical


def main() -> int:
    """Run the comparison; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder of <obsid>/<runid>/ with EXOD2's outputs")
    parser.add_argument("runids", nargs="*", metavar="RUNID", help="only these runs")
    parser.add_argument("--hotpix", type=Path, default=SHARED / "hotpix", help="folder of hot-pixel tables")
    parser.add_argument("--backend", default="auto", choices=BACKENDS)
    args = parser.parse_args()
    found: dict[Path, list[Path]] = {}
    for folder in sorted(args.golden.glob("*/*/")):
        if RUNID.fullmatch(folder.name) and (not args.runids or folder.name in args.runids):
            found.setdefault(folder.parent, []).append(folder)
    if not found:
        print(f"{args.golden}: no <obsid>/<obsid>_<subset>_<dt>_<lo>_<hi>/ in it", file=sys.stderr)
        return 2
    try:
        hotpix = HotPixels.load(args.hotpix)
    except XscanError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    total = sum(len(runs) for runs in found.values())
    identical = 0
    for golden, runs in found.items():
        try:
            identical += compare_observation(golden, runs, hotpix, args.backend)
        except XscanError as error:
            print(f"{golden.name}: {error}")
    print(f"{identical} of {total} runs identical")
    return 0 if identical == total else 1


if __name__ == "__main__":
    sys.exit(main())
