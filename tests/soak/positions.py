"""Whether places are as good as their errors say: offsets over errors of made-up sources.

    scripts/positions [--n 300] [--seed 3005] [--counts 20 60 200 800 2700] [--where open gap ...] [--cameras all m1 pn]
                      [--cores 4 9]

Sources have King profiles whose core (--cores, arcsec) and slope (1.4 to 1.6) are drawn and not told, on a flat
background, on detectors of the simulator with bad columns and pixels. ``open``: no hole anywhere. ``gap`` and
``column``: the source lies within 10 arcsec of a gap between CCDs, or of a bad column. ``blind``: as gap, and the fit
knows of no holes. Offsets over errors should follow a Rayleigh distribution.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from xscan.backends import cpu_backend
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CAMERAS, EventList, InputFile, PixelMask, pixel_number
from xscan.pointsource.exposure import CameraMap
from xscan.pointsource.fit import Spots
from xscan.pointsource.psf import cores_arcsec
from xscan.search.position import find_source
from xscan.simulate.detector import CAMERA, Camera
from xscan.sky import TangentPlane

Floats = NDArray[np.float64]

SHARE = {"pn": 0.58, "m1": 0.21, "m2": 0.21}
BACKGROUND = 1e-3  # events per arcsec^2, all cameras together
HALF_ARCSEC = 80.0
POSITION_ANGLE_DEG = 37.0
SLOPES = (1.4, 1.6)
SENT = 8  # photons sent for each that should be detected: holes take the rest
BELIEVED_ARCSEC = 30.0  # a cell and its neighbours, as xscan.search.position.region_positions


@dataclass(frozen=True)
class Field:
    """One camera with its bad pixels, and what is learnt of it from events."""

    camera: Camera
    bad: PixelMask
    columns: NDArray[np.int64]  # CCD, RAWX
    learnt: CameraMap

    def seen(self, rng: np.random.Generator, x: Floats, y: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """Tell which photons give events, and where those are placed: somewhere in their pixel."""
        u, v = self.camera.rotation(POSITION_ANGLE_DEG).T @ np.array([x, y])
        ccd, rawx, rawy = self.camera.locate(u, v)
        live = (ccd > 0) & ~self.bad.marked(pixel_number(ccd, rawx, rawy))
        u, v = self.camera.place(np.where(live, ccd, 1), np.where(live, rawx, 1), np.where(live, rawy, 1), rng)
        x, y = self.camera.rotation(POSITION_ANGLE_DEG) @ np.array([u, v])
        return live, x, y


def make_field(rng: np.random.Generator, name: str, n_events: int = 20_000) -> Field:
    """Draw bad columns and pixels of a camera, and learn the rest from events spread over it."""
    camera, bad = CAMERA[name], PixelMask()
    chip = camera.ccds[0]
    numbers = np.array([c.number for c in camera.ccds])
    columns = np.stack([np.repeat(numbers, 4), rng.integers(6, chip.columns - 5, 4 * numbers.size)], axis=1)
    if name == "pn":
        columns = np.concatenate([columns, EPIC.camera("pn").bad_columns])
    bad.add(columns[:, 0], columns[:, 1], columns[:, 0] * 0 + 1, chip.rows)
    bad.add(
        rng.choice(numbers, 100), rng.integers(1, chip.columns + 1, 100), rng.integers(1, chip.rows + 1, 100),
        rng.integers(1, 8, 100),
    )  # fmt: skip
    ccd = rng.choice(numbers, n_events)
    rawx, rawy = rng.integers(1, chip.columns + 1, n_events), rng.integers(1, chip.rows + 1, n_events)
    pixel = pixel_number(ccd, rawx, rawy)
    kept = ~bad.marked(pixel)
    u, v = camera.place(ccd, rawx, rawy, rng)
    x, y = (np.rint(25_921 + offset / 0.05) for offset in camera.rotation(POSITION_ANGLE_DEG) @ np.array([u, v]))
    one = np.ones(int(kept.sum()))
    events = EventList(
        InputFile("made up", 0, camera=name), TangentPlane(150.0, 2.0), None, 0.0, one,
        x[kept].astype(np.uint16), y[kept].astype(np.uint16), one.astype(np.uint16), ccd[kept].astype(np.uint8),
        pixel[kept].astype(np.uint32), (0.0, 1.0), {}, EPIC, bad_pixels=(bad,),
    )  # fmt: skip
    learnt = CameraMap.of(events)
    assert learnt is not None
    return Field(camera, bad, columns, learnt)


def choose_place(rng: np.random.Generator, field: Field, where: str) -> tuple[float, float]:
    """Draw a place on the sky within 10 arcsec of a gap or a bad column of a camera, arcsec."""
    camera = field.camera
    number = int(rng.choice([c.number for c in camera.ccds]))
    chip = next(c for c in camera.ccds if c.number == number)
    while True:
        off, v = rng.uniform(-10, 10), chip.v0 + rng.uniform(0.15, 0.85) * chip.rows * camera.pixel_arcsec
        if where == "column":
            rawx = int(rng.choice(field.columns[field.columns[:, 0] == number, 1]))
            column = chip.columns - rawx if chip.flip else rawx - 1
            u = chip.u0 + (column + 0.5) * camera.pixel_arcsec
        else:
            u = chip.u0 + chip.columns * camera.pixel_arcsec * int(rng.integers(0, 2))
        sides = camera.locate(u + np.array([-30.0, 30.0]), np.array([v, v]))[0]
        if (sides > 0).all():  # no outer edge of the camera
            x, y = camera.rotation(POSITION_ANGLE_DEG) @ np.array([u + off, v])
            return float(x), float(y)
        number = int(rng.choice([c.number for c in camera.ccds]))
        chip = next(c for c in camera.ccds if c.number == number)


def draw(
    rng: np.random.Generator,
    counts: int,
    where: str,
    names: tuple[str, ...],
    fields: dict[str, Field],
    cores: tuple[float, float],
) -> tuple[float, float, Spots]:
    """Draw a source and its events: on average ``counts`` of the source are detected."""
    x0, y0 = (0.0, 0.0) if where == "open" else choose_place(rng, fields[str(rng.choice(names))], where)
    share = np.array([SHARE[name] for name in names])
    share /= share.sum()
    core, slope = rng.uniform(*cores), rng.uniform(*SLOPES)
    n, m = SENT * counts, rng.poisson(BACKGROUND * (2 * HALF_ARCSEC) ** 2)
    radius = core * np.sqrt(rng.random(n) ** (1 / (1 - slope)) - 1)
    angle = rng.uniform(0, 2 * np.pi, n)
    x = x0 + np.concatenate([radius * np.cos(angle), rng.uniform(-HALF_ARCSEC, HALF_ARCSEC, m)])
    y = y0 + np.concatenate([radius * np.sin(angle), rng.uniform(-HALF_ARCSEC, HALF_ARCSEC, m)])
    which = rng.choice(len(names), n + m, p=share)
    live = np.ones(n + m, bool)
    for number, name in enumerate(names if where != "open" else ()):
        mine = which == number
        live[mine], x[mine], y[mine] = fields[name].seen(rng, x[mine], y[mine])
    live[:n] &= np.cumsum(live[:n]) <= rng.poisson(counts)
    live &= (abs(x - x0) < HALF_ARCSEC) & (abs(y - y0) < HALF_ARCSEC)
    camera = np.array([CAMERAS.index(name) for name in names], np.uint8)[which[live]]
    pi = np.clip(rng.lognormal(np.log(1200), 0.6, camera.size), 200, 8000).astype(np.int64)
    cores = cores_arcsec(camera, pi, float(np.hypot(x0, y0)) / 60, EPIC)
    return x0, y0, Spots(x[live], y[live], camera, cores, BACKGROUND * share[which[live]], EPIC)


def measure(
    rng: np.random.Generator,
    n: int,
    counts: int,
    where: str,
    names: tuple[str, ...],
    fields: dict[str, Field],
    cores: tuple[float, float] = (4.0, 9.0),
) -> tuple[Floats, Floats, int]:
    """Give offsets and errors of n sources, and how many have no place near the cell that holds them."""
    known = () if where in ("open", "blind") else tuple(fields[name].learnt for name in names)
    found, lost = [], 0
    for _ in range(n):
        x0, y0, spots = draw(rng, counts, "gap" if where == "blind" else where, names, fields, cores)
        cell = (x0 + rng.uniform(-10, 10), y0 + rng.uniform(-10, 10))
        bounds = tuple(middle + side * BELIEVED_ARCSEC for middle in cell for side in (-1, 1))
        fit = find_source(spots, cell, bounds, known, cpu_backend().pointsource)
        if fit is None:
            lost += 1
        else:
            found.append((np.hypot(fit[0] - x0, fit[1] - y0), fit[2]))
    offset, error = np.array(found).reshape(-1, 2).T
    return offset, error, lost


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=3005)
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 60, 200, 800, 2700])
    parser.add_argument("--where", nargs="+", default=["open", "gap", "column", "blind"])
    parser.add_argument("--cameras", nargs="+", default=["all", "m1", "pn"])
    parser.add_argument("--cores", type=float, nargs=2, default=[4.0, 9.0], help="smallest and largest, arcsec")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    fields = {name: make_field(rng, name) for name in CAMERAS}
    low, high = args.cores
    print(f"seed {args.seed}, {args.n} sources a line, cores {low:g} to {high:g} arcsec")
    print("ratio: median offset/error over a Rayleigh's (1.177)")
    print("where    cameras  counts  no place  offset/arcsec  ratio  rms    > 3.5    KS p")
    for where in args.where:
        for cameras in args.cameras:
            names = CAMERAS if cameras == "all" else (cameras,)
            for counts in args.counts:
                offset, error, lost = measure(rng, args.n, counts, where, names, fields, (low, high))
                ratio = offset / error
                print(
                    f"{where:8s} {cameras:7s} {counts:7d} {lost:9d} {np.median(offset):14.2f} "
                    f"{np.median(ratio) / np.sqrt(2 * np.log(2)):6.2f} {np.sqrt(np.mean(ratio**2) / 2):5.2f} "
                    f"{np.mean(ratio > 3.5):8.3f} {stats.kstest(ratio, 'rayleigh').pvalue:7.2g}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
