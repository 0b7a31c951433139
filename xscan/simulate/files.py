"""Write drawn events as PPS files: event lists and a source list."""

from __future__ import annotations

import calendar
import time
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscan.events.gti import intersect
from xscan.simulate.detector import Camera
from xscan.simulate.events import Faults, RawEvents
from xscan.simulate.fitsbytes import Card, Column, compress, make_rows, primary_hdu, table_hdu
from xscan.simulate.headers import (
    CREATOR,
    DATE,
    INSTRUMENT,
    NULL,
    Exposure,
    Pointing,
    bad_pixel_cards,
    calibration_cards,
    event_cards,
    good_time_cards,
    good_time_name,
    history,
    offset_cards,
    primary_cards,
    read_out_cards,
)

__all__ = ["write_event_list", "write_source_list"]

Floats = NDArray[np.float64]

PN_EXPOSURE_STEP_S = 4.0
LIST_NAME = {"pn": "PIEVLI", "m1": "MIEVLI", "m2": "MIEVLI"}

EVENTS = [
    Column("TIME", "D", "s"),
    Column("RAWX", "I", "PIXELS"),
    Column("RAWY", "I", "PIXELS"),
    Column("DETX", "I", "pixel"),
    Column("DETY", "I", "pixel"),
    Column("X", "J", "pixel"),
    Column("Y", "J", "pixel"),
    Column("PHA", "I", "CHAN"),
    Column("PI", "I", "CHAN"),
    Column("FLAG", "J"),
    Column("PATTERN", "B"),
    Column("CCDNR", "B"),
]
PN_EVENTS = [*EVENTS[:-1], Column("PAT_ID", "I"), Column("PAT_SEQ", "B"), EVENTS[-1], Column("TIME_RAW", "D", "s")]
OFFSETS = [Column("RAWX", "I"), Column("OFFSETX", "I"), Column("OFFSETY", "I"), Column("CCDNR", "B")]
READ_OUTS = [Column("TIME", "D", "s"), Column("TIMEDEL", "E", "s"), Column("FRACEXP", "E", "FRACTION")]
BAD_PIXELS = [Column(name, "I") for name in ("RAWX", "RAWY", "TYPE", "YEXTENT", "BADFLAG")]
DATE_UNIT = "yyyy:dd:mmZhh:mm:ss"
CALIBRATIONS = [
    Column("TELESCOP", "4A"),
    Column("SCOPE", "6A"),
    Column("TYPEID", "32A"),
    Column("ISSUE", "I"),
    Column("VALDATE", "19A", DATE_UNIT),
    Column("VALDATE-END", "19A", DATE_UNIT),
    Column("FNAME", "256A"),
    Column("DATE", "19A", DATE_UNIT),
    Column("FSIZE", "J", "byte"),
    Column("SUBDATE", "19A", DATE_UNIT),
    Column("EXTSEQU", "32A"),
    Column("EXTSEQID", "256A"),
    Column("MD5", "32A"),
    Column("CREATOR", "64A"),
]
CALIBRATION_TYPES = "ADUCONV BADPIX CTI DARKFRAME EFFICIENCY FILTERTRANSX HKPARMINT LINCOORD MODEPARAM QUANTUMEF REDIST"
HOT, FROM_THIS_LIST = 1, 3
"""TYPE and BADFLAG of a bad pixel that the pipeline found in the list itself."""


def write_event_list(
    folder: Path,
    pointing: Pointing,
    camera: Camera,
    exposure: str,
    span_s: tuple[float, float],
    events: RawEvents,
    faults: Faults,
    rng: np.random.Generator,
) -> Path:
    """Write one camera's event list with its read-out, bad-pixel and good-time tables."""
    rows = _event_rows(pointing, camera, span_s, events, rng)
    stated = {ccd: pointing.start_s + good for ccd, good in faults.good_time.items() if ccd not in faults.missing}
    read_outs = {ccd: _read_outs(pointing, camera, span_s, ccd, faults, rng) for ccd in stated}
    good = stated
    if faults.filtered is not None:  # a filter on time applies to every table, as evselect does by default
        good = {ccd: intersect(spans, pointing.start_s + faults.filtered) for ccd, spans in stated.items()}
        read_outs = {ccd: _inside(table, good[ccd]) for ccd, table in read_outs.items()}
    x, y = (rows[axis][rows[axis] != NULL] for axis in "XY")
    made = Exposure(
        pointing,
        camera,
        exposure,
        start_s=pointing.start_s + span_s[0],
        stop_s=pointing.start_s + span_s[0] + 1.3 * (span_s[1] - span_s[0]),  # real lists go on as long without events
        good_time=good,
        live_s={ccd: float((table["TIMEDEL"] * table["FRACEXP"]).sum()) for ccd, table in read_outs.items()},
        cleaned=faults.filtered is not None,
        box=(int(x.min()), int(x.max()), int(y.min()), int(y.max())) if x.size and y.size else (1, 51_840, 1, 51_840),
    )
    columns = PN_EVENTS if made.kind == "pn" else EVENTS
    parts = [
        primary_hdu(primary_cards(made), history(made)),
        table_hdu("EVENTS", columns, rows, event_cards(made, [column.name for column in columns], rows)),
        _offsets(made),
    ]
    for ccd, table in read_outs.items():
        parts.append(table_hdu(f"EXPOSU{ccd:02d}", READ_OUTS, table, read_out_cards(made, ccd)))
        parts.append(_bad_pixels(made, ccd, faults))
    for ccd, spans in stated.items():
        parts.append(_good_time(made, ccd, f"STDGTI{ccd:02d}", spans))
    parts.append(_calibrations(made))
    if made.cleaned:
        for component, (ccd, spans) in enumerate(good.items()):
            parts.append(_good_time(made, ccd, good_time_name(True, component, ccd), spans))
    name = f"P{pointing.obsid}{camera.name.upper()}{exposure}{LIST_NAME[camera.name]}0000"
    return _write(folder / f"{name}.FTZ", parts)


def write_source_list(folder: Path, pointing: Pointing, columns: dict[str, Floats]) -> Path:
    """Write the EPIC source list; columns RA, DEC (deg, ICRS), EP_DET_ML, EP_EXTENT, EP_TOT, RADEC_ERR.

    Examples
    --------
    >>> from xscan.missions.xmm.observation import read_sources
    >>> names = ("RA", "DEC", "RADEC_ERR", "EP_DET_ML", "EP_EXTENT", "EP_TOT")
    >>> columns = dict(zip(names, np.array([[150.0], [2.0], [1.0], [30.0], [0.0], [0.05]]), strict=True))
    >>> path = write_source_list(scratch, exposure.pointing, columns)
    >>> sources, date = read_sources(path)
    >>> path.name, sources.ra_deg.tolist(), sources.likelihood.tolist()
    ('P0990000001EPX000OBSMLI0000.FTZ', [150.0], [30.0])
    """
    forms = [Column(name, "D" if name in ("RA", "DEC") else "E") for name in columns]
    primary = primary_hdu([Card("DATE", DATE), Card("CREATOR", CREATOR)])
    table = table_hdu("SRCLIST", forms, make_rows(forms, columns), [])
    return _write(folder / f"P{pointing.obsid}EPX000OBSMLI0000.FTZ", [primary, table])


def _event_rows(
    pointing: Pointing, camera: Camera, span_s: tuple[float, float], events: RawEvents, rng: np.random.Generator
) -> NDArray[np.void]:
    n = events.time.size
    null = (rng.random(n) < 0.0005) | (np.abs(events.x - 25_920) >= 25_920) | (np.abs(events.y - 25_920) >= 25_920)
    u, v = camera.rotation(pointing.pa_deg).T @ np.array([events.x - 25_921, events.y - 25_921])
    node = np.where((camera.name != "pn") & (rng.random(n) < 0.01), 10, 0)
    values: dict[str, ArrayLike] = {
        "TIME": pointing.start_s + events.time,
        "RAWX": events.rawx,
        "RAWY": events.rawy,
        "DETX": np.clip(u, -32_768, 32_767),
        "DETY": np.clip(v, -32_768, 32_767),
        "X": np.where(null, NULL, events.x),
        "Y": np.where(null, NULL, events.y),
        "PHA": events.pi // 5,
        "PI": events.pi,
        "FLAG": events.flag,
        "PATTERN": events.pattern,
        "CCDNR": node + events.ccd,
    }
    if camera.name != "pn":
        return make_rows(EVENTS, values)
    frame = np.floor((events.time - span_s[0]) / camera.frame_s)
    stamp = pointing.start_s + span_s[0] + frame * camera.frame_s
    return make_rows(PN_EVENTS, values | {"PAT_ID": 0, "PAT_SEQ": 0, "TIME_RAW": stamp})


def _read_outs(
    pointing: Pointing,
    camera: Camera,
    span_s: tuple[float, float],
    ccd: int,
    faults: Faults,
    rng: np.random.Generator,
) -> NDArray[np.void]:
    """Return the read-out frames of a CCD: in its good time and one beyond, without those that were lost."""
    step = camera.frame_s if camera.name != "pn" else PN_EXPOSURE_STEP_S
    middle = np.arange(span_s[0] + step / 2, span_s[1], step)
    kept = np.ones(middle.size, bool)
    if ccd in faults.lost_frames:
        lost = faults.lost_frames[ccd].astype(int)
        kept[lost[lost < kept.size]] = False
    inside = np.zeros(middle.size, bool)
    for first, last in faults.good_time[ccd]:
        inside |= (middle > first - step) & (middle < last + step)
    middle = middle[kept & inside]
    fraction = 1 - 0.012 * rng.random(middle.size)
    return make_rows(READ_OUTS, {"TIME": pointing.start_s + middle, "TIMEDEL": step, "FRACEXP": fraction})


def _inside(read_outs: NDArray[np.void], spans: Floats) -> NDArray[np.void]:
    """Return the read-out frames whose middle lies in the intervals."""
    before = np.searchsorted(spans[:, 0], read_outs["TIME"], side="right")
    ended = np.searchsorted(spans[:, 1], read_outs["TIME"], side="right")
    return read_outs[before > ended]


def _offsets(exposure: Exposure) -> bytes:
    """Return the table of columns and rows with an offset, which lie outside the image."""
    ccds = list(exposure.good_time)
    beside = {"pn": {1: 20}, "mos": dict.fromkeys(range(-4, 0), 4042) | dict.fromkeys(range(602, 606), 4043)}
    places = beside[exposure.kind]
    columns = [column for column in OFFSETS if exposure.kind == "mos" or column.name != "OFFSETY"]
    values: dict[str, ArrayLike] = {"RAWX": np.tile(list(places), len(ccds)), "OFFSETY": 0}
    values |= {"OFFSETX": np.tile(list(places.values()), len(ccds)), "CCDNR": np.repeat(ccds, len(places))}
    rows = make_rows(columns, values)
    return table_hdu("OFFSETS", columns, rows, offset_cards(exposure, len(columns)))


def _bad_pixels(exposure: Exposure, ccd: int, faults: Faults) -> bytes:
    _, rawx, rawy, run = faults.hot_pixels[faults.listed & (faults.hot_pixels[:, 0] == ccd)].T
    values = {"RAWX": rawx, "RAWY": rawy, "TYPE": HOT, "YEXTENT": run, "BADFLAG": FROM_THIS_LIST}
    return table_hdu(f"BADPIX{ccd:02d}", BAD_PIXELS, make_rows(BAD_PIXELS, values), bad_pixel_cards(exposure, ccd))


def _good_time(exposure: Exposure, ccd: int, name: str, spans: Floats) -> bytes:
    unit = "SECONDS" if exposure.cleaned and name.startswith("STDGTI") else "s"  # SAS 13.5 and evselect differ
    columns = [Column("START", "D", unit), Column("STOP", "D", unit)]
    rows = make_rows(columns, {"START": spans[:, 0], "STOP": spans[:, 1]})
    return table_hdu(name, columns, rows, good_time_cards(exposure, ccd, name, spans))


def _calibrations(exposure: Exposure) -> bytes:
    """Return the table of calibration files, named as in real lists; the files do not exist."""
    kinds = CALIBRATION_TYPES.split()
    scope = INSTRUMENT[exposure.camera.name]
    values: dict[str, ArrayLike] = {"TELESCOP": b"XMM", "SCOPE": scope.encode(), "ISSUE": 0, "FSIZE": 0}
    values |= {
        "TYPEID": np.array(kinds, "S32"),
        "FNAME": np.array([f"{scope}_{kind}_0000.CCF" for kind in kinds], "S256"),
    }
    values |= {name: DATE.encode() for name in ("VALDATE", "VALDATE-END", "DATE", "SUBDATE")}
    values |= {"EXTSEQU": b"ANY", "EXTSEQID": b"", "MD5": b"", "CREATOR": CREATOR.encode()}
    return table_hdu("CALINDEX", CALIBRATIONS, make_rows(CALIBRATIONS, values), calibration_cards(exposure))


def _write(path: Path, parts: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made_at = calendar.timegm(time.strptime(DATE, "%Y-%m-%dT%H:%M:%S"))
    path.write_bytes(compress(b"".join(parts), f"{path.stem}.FIT", made_at))
    return path
