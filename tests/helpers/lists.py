"""Small event lists made by hand, written as the PPS files a user has."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from xscan.events.merge import sort_photons
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Photons

OBSID = "0999999901"
T0 = 2.0**27  # s: a round number in binary, so that shifted times stay exact
INSTRUMENT = {"pn": "EPN", "m1": "EMOS1", "m2": "EMOS2"}
CENTRE = 25_921
CELL = 51_840 / 129

FORMATS = {
    "TIME": "D",
    "RAWX": "I",
    "RAWY": "I",
    "DETX": "I",
    "DETY": "I",
    "X": "J",
    "Y": "J",
    "PHA": "I",
    "PI": "I",
    "FLAG": "J",
    "PATTERN": "B",
    "CCDNR": "B",
}


def binned(
    tick: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    pi: ArrayLike = 500,
    camera: ArrayLike = 0,
    x_px: ArrayLike | None = None,
    y_px: ArrayLike | None = None,
    pixel: ArrayLike = 1,
) -> Photons:
    """Photons in cells of 20 arcsec, in the middle of each unless told; scalars are spread over all of them."""
    n = len(np.atleast_1d(np.asarray(tick)))
    columns = (tick, x, y, pi, camera, pixel)
    t, cell_x, cell_y, energy, cam, raw = (np.broadcast_to(np.asarray(values), n) for values in columns)
    middle = [(np.asarray(cells) + 0.5) * CELL for cells in (cell_x, cell_y)]
    pixels = [m if given is None else np.asarray(given) for m, given in zip(middle, (x_px, y_px), strict=True)]
    return sort_photons(
        t.astype(np.int32), cell_x.astype(np.int16), cell_y.astype(np.int16), *(p.astype(np.uint16) for p in pixels),
        energy.astype(np.uint16), cam.astype(np.uint8), raw.astype(np.uint32), EPIC,
    )  # fmt: skip


def joined(*several: Photons) -> Photons:
    """All of them together."""
    columns = [(p.tick, *p.cells()[::-1], p.pi, p.camera, p.x_px, p.y_px, p.pixel) for p in several]
    return binned(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))


def chosen(p: Photons, index: NDArray[Any]) -> Photons:
    """Some of them."""
    y, x = p.cells()
    return binned(*(values[index] for values in (p.tick, x, y, p.pi, p.camera, p.x_px, p.y_px, p.pixel)))


def round_time(time: ArrayLike) -> NDArray[np.float64]:
    """Times on a binary grid of 1/1024 s."""
    return np.round(np.asarray(time, float) * 1024) / 1024


@dataclass(frozen=True)
class FakeList:
    """One event list; scalars are spread over all events."""

    camera: str = "m1"
    exposure: str = "S001"
    time: ArrayLike = ()
    x: ArrayLike = CENTRE
    y: ArrayLike = CENTRE
    pi: ArrayLike = 1000
    flag: ArrayLike = 0
    pattern: ArrayLike = 0
    ccd: ArrayLike = 2
    rawx: ArrayLike = 30
    rawy: ArrayLike = 100
    header: Mapping[str, Any] = field(default_factory=dict)
    primary: Mapping[str, Any] = field(default_factory=dict)
    gti: Mapping[int, Sequence[tuple[float, float]]] = field(default_factory=dict)
    narrow_gti: Mapping[int, Sequence[tuple[float, float]]] = field(default_factory=dict)
    filters: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    exposures: Mapping[int, tuple[ArrayLike, ArrayLike, ArrayLike]] = field(default_factory=dict)
    bad_pixels: Mapping[int, Sequence[tuple[int, int, int]]] = field(default_factory=dict)
    drop_columns: Sequence[str] = ()
    null_xy: bool = True

    def take(self, index: NDArray[Any]) -> FakeList:
        """The same list with its events in another order, or only some of them."""
        n = len(np.atleast_1d(self.time))
        names = ("time", "x", "y", "pi", "flag", "pattern", "ccd", "rawx", "rawy")
        return replace(self, **{name: np.broadcast_to(getattr(self, name), n)[index] for name in names})

    def shifted(self, seconds: float) -> FakeList:
        """The same list later in time: events, good time and exposures."""
        move = lambda table: {k: [(a + seconds, b + seconds) for a, b in v] for k, v in table.items()}  # noqa: E731
        return replace(
            self,
            time=np.asarray(self.time) + seconds,
            gti=move(self.gti),
            narrow_gti=move(self.narrow_gti),
            filters=move(self.filters),
            exposures={k: (np.asarray(t) + seconds, d, f) for k, (t, d, f) in self.exposures.items()},
        )


def hdus(fake: FakeList) -> fits.HDUList:
    time = np.atleast_1d(np.asarray(fake.time, float))
    columns = {
        "TIME": time,
        "RAWX": fake.rawx,
        "RAWY": fake.rawy,
        "DETX": 0,
        "DETY": 0,
        "X": fake.x,
        "Y": fake.y,
        "PHA": 0,
        "PI": fake.pi,
        "FLAG": fake.flag,
        "PATTERN": fake.pattern,
        "CCDNR": fake.ccd,
    }
    made = [
        fits.Column(
            name,
            form,
            array=np.broadcast_to(columns[name], time.shape),
            null=-99999999 if name in "XY" and fake.null_xy else None,
        )
        for name, form in FORMATS.items()
        if name not in fake.drop_columns
    ]
    events = fits.BinTableHDU.from_columns(made, name="EVENTS")
    submode = "PrimeFullWindow"
    events.header.update(
        {"INSTRUME": INSTRUMENT[fake.camera], "SUBMODE": submode, "FILTER": "Medium", "REVOLUT": 850}
        | {"OBJECT": "FAKE", "TELAPSE": 5000.0}
        | dict(fake.header)
    )
    primary = fits.PrimaryHDU()
    plane = {"REFXCRVL": 150.0, "REFYCRVL": 2.0, "REFXCRPX": CENTRE, "REFYCRPX": CENTRE}
    plane |= {"REFXCDLT": -0.05 / 3600, "REFYCDLT": 0.05 / 3600, "DATE": "2026-01-01T00:00:00"}
    primary.header.update(plane | dict(fake.primary))
    for header in (events.header, primary.header):
        for key in [key for key, value in header.items() if value == "REMOVE"]:
            del header[key]
    tables = [primary, events]
    tables += [_good_time(f"STDGTI{ccd:02d}", spans) for ccd, spans in fake.gti.items()]
    tables += [_good_time(name, spans) for name, spans in fake.filters.items()]
    for component, (ccd, spans) in enumerate(fake.narrow_gti.items()):  # as evselect writes them
        tables.append(_good_time(f"GTI{component:03d}06", spans))
        tables[-1].header["CCDID"] = ccd
    for ccd, (middle, length, fraction) in fake.exposures.items():
        columns = {"TIME": (middle, "D"), "TIMEDEL": (length, "E"), "FRACEXP": (fraction, "E")}
        tables.append(_table(f"EXPOSU{ccd:02d}", columns))
    for ccd, pixels in fake.bad_pixels.items():
        rawx, rawy, run = np.array(pixels).reshape(-1, 3).T
        columns = {"RAWX": (rawx, "I"), "RAWY": (rawy, "I"), "TYPE": (rawx * 0, "I"), "YEXTENT": (run, "I")}
        tables.append(_table(f"BADPIX{ccd:02d}", columns))
    return fits.HDUList(tables)


def _good_time(name: str, spans: Sequence[tuple[float, float]]) -> fits.BinTableHDU:
    start, stop = np.array(spans, float).reshape(-1, 2).T
    return _table(name, {"START": (start, "D"), "STOP": (stop, "D")})


def _table(name: str, columns: Mapping[str, tuple[ArrayLike, str]]) -> fits.BinTableHDU:
    made = [fits.Column(key, form, array=np.asarray(values)) for key, (values, form) in columns.items()]
    return fits.BinTableHDU.from_columns(made, name=name)


def fits_bytes(made: fits.HDUList) -> bytes:
    stream = io.BytesIO()
    made.writeto(stream)
    return stream.getvalue()


def write_list(folder: Path, fake: FakeList, obsid: str = OBSID, name: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = "PIEVLI" if fake.camera == "pn" else "MIEVLI"
    path = folder / (name or f"P{obsid}{fake.camera.upper()}{fake.exposure}{content}0000.FTZ")
    path.write_bytes(gzip.compress(fits_bytes(hdus(fake)), 1))
    return path


def write_sources(folder: Path, rows: Sequence[tuple[float, float, float, float, float]], obsid: str = OBSID) -> Path:
    """Source list; rows of RA, DEC, EP_DET_ML, EP_EXTENT, EP_TOT."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("RA", "DEC", "EP_DET_ML", "EP_EXTENT", "EP_TOT")
    values = np.array(rows, float).reshape(-1, 5).T
    columns = {
        name: (column, "D" if name in ("RA", "DEC") else "E") for name, column in zip(names, values, strict=True)
    }
    made = fits.HDUList([fits.PrimaryHDU(), _table("SRCLIST", columns)])
    path = folder / f"P{obsid}EPX000OBSMLI0000.FTZ"
    path.write_bytes(gzip.compress(fits_bytes(made), 1))
    return path


def quiet_list(
    rng: np.random.Generator,
    camera: str = "m1",
    seconds: float = 2000.0,
    rate: float = 4.0,
    half_side: int = 12,
    exposure: str = "S001",
) -> FakeList:
    """A flat field of (2 half_side) x (2 half_side) cells round the centre, of constant rate (ct/s)."""
    n = rng.poisson(rate * seconds)
    reach = half_side * CELL
    place = rng.uniform(CENTRE - reach, CENTRE + reach, (2, n)).astype(int)
    # cell edges fall on no pixel's middle, so that mirrored fields have mirrored cells
    ccds = np.arange(1, 13) if camera == "pn" else np.arange(2, 8)
    return FakeList(
        camera=camera,
        exposure=exposure,
        time=np.sort(T0 + round_time(rng.uniform(0, seconds - 1 / 512, n))),
        x=place[0],
        y=place[1],
        pi=rng.integers(200, 9900, n),
        ccd=rng.choice(ccds, n),
        rawx=rng.integers(10, 50, n),
        rawy=rng.integers(30, 190, n),
        gti={int(ccd): [(T0, T0 + seconds)] for ccd in ccds},
    )


def with_burst(
    fake: FakeList, rng: np.random.Generator, counts: int, t_start: float, width: float, x: int, y: int
) -> FakeList:
    """Add a burst: a narrow spot in time and place."""
    old = fake.take(np.arange(len(np.atleast_1d(fake.time))))
    new = {
        "time": T0 + round_time(rng.uniform(t_start, t_start + width - 1 / 512, counts)),
        "x": rng.normal(x, 80, counts).astype(int),
        "y": rng.normal(y, 80, counts).astype(int),
        "pi": rng.integers(300, 1900, counts),
    }
    constant = {"flag": 0, "pattern": 0, "ccd": 2, "rawx": 30, "rawy": 100}
    columns = {k: np.concatenate([getattr(old, k), v]) for k, v in new.items()}
    columns |= {k: np.concatenate([getattr(old, k), np.full(counts, v)]) for k, v in constant.items()}
    return replace(old, **columns)
