"""Write what was drawn as PPS files: event lists and a source list."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from isal import igzip
from numpy.typing import NDArray

from xscan.simulate.detector import Camera
from xscan.simulate.events import Faults, RawEvents
from xscan.sky import TangentPlane

__all__ = ["Pointing", "write_event_list", "write_source_list"]

NULL = -99_999_999
INSTRUMENT = {"pn": "EPN", "m1": "EMOS1", "m2": "EMOS2"}
FLAG_EXPRESSION = {"pn": ("XMMEA_EP", "(FLAG & 0x2fb0024) == 0"), "mos": ("XMMEA_EM", "(FLAG & 0x766ba000) == 0")}
PN_EXPOSURE_STEP_S = 4.0
SUBMODE = "PrimeFullWindow"
DATE = "2026-01-01T00:00:00"

_EVENT = np.dtype(
    [
        ("TIME", ">f8"), ("RAWX", ">i2"), ("RAWY", ">i2"), ("DETX", ">i2"), ("DETY", ">i2"), ("X", ">i4"), ("Y", ">i4"),
        ("PHA", ">i2"), ("PI", ">i2"), ("FLAG", ">i4"), ("PATTERN", "u1"), ("CCDNR", "u1"),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where an observation looks, and when.

    Attributes
    ----------
    obsid : str
    plane : TangentPlane
    pa_deg : float
        Position angle.
    start_s : float
        Mission time of the start, s.
    exposure_s : float
    revolution : int
    """

    obsid: str
    plane: TangentPlane
    pa_deg: float
    start_s: float
    exposure_s: float
    revolution: int


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
    """Write one camera's event list with its good-time, exposure and bad-pixel tables."""
    n = events.time.size
    rows = np.zeros(n, _EVENT)
    null = (rng.random(n) < 0.0005) | (np.abs(events.x - 25_920) >= 25_920) | (np.abs(events.y - 25_920) >= 25_920)
    u, v = camera.rotation(pointing.pa_deg).T @ np.array([events.x - 25_921, events.y - 25_921])
    node = np.where((camera.name != "pn") & (rng.random(n) < 0.01), 10, 0)
    for name, values in {
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
    }.items():
        rows[name] = values
    table = fits.BinTableHDU(rows, name="EVENTS")
    table.columns.change_attrib("X", "null", NULL)
    table.columns.change_attrib("Y", "null", NULL)
    header = _header(pointing, camera, exposure, span_s)
    header.update({f"T{key}{number}": value for number in (6, 7) for key, value in (("LMIN", "1"), ("LMAX", "51840"))})
    table.header.update(header)
    hdus = [_primary(header), table, *_side_tables(pointing, camera, span_s, faults, rng)]
    _add_subspace(table.header, camera, faults)
    content = "PIEVLI" if camera.name == "pn" else "MIEVLI"
    return _write(folder / f"P{pointing.obsid}{camera.name.upper()}{exposure}{content}0000.FTZ", hdus)


def _header(pointing: Pointing, camera: Camera, exposure: str, span_s: tuple[float, float]) -> dict[str, object]:
    keyword, expression = FLAG_EXPRESSION["pn" if camera.name == "pn" else "mos"]
    plane = pointing.plane
    return {
        "TELESCOP": "XMM",
        "INSTRUME": INSTRUMENT[camera.name],
        "OBS_ID": pointing.obsid,
        "EXPIDSTR": exposure,
        "OBJECT": f"SIMULATED {pointing.obsid}",
        "SUBMODE": SUBMODE,
        "FILTER": "Medium",
        "DATAMODE": "IMAGING",
        "REVOLUT": pointing.revolution,
        "DATE-OBS": DATE,
        "TIMESYS": "TT",
        "MJDREF": 50_814.0,
        "TIMEREF": "LOCAL",
        "TSTART": pointing.start_s + span_s[0],
        "TSTOP": pointing.start_s + span_s[1],
        "TELAPSE": 1.3 * (span_s[1] - span_s[0]),  # as misleading as the real ones
        "PA_PNT": pointing.pa_deg,
        "RADECSYS": "FK5",
        "EQUINOX": 2000.0,
        "REFXCTYP": "RA---TAN",
        "REFYCTYP": "DEC--TAN",
        "REFXCRPX": plane.crpix,
        "REFYCRPX": plane.crpix,
        "REFXCRVL": plane.ra_deg,
        "REFYCRVL": plane.dec_deg,
        "REFXCDLT": -plane.step_deg,
        "REFYCDLT": plane.step_deg,
        "REFXLMAX": -13_696,  # wrapped, as in real files
        keyword: expression,
    }


def _primary(header: dict[str, object]) -> fits.PrimaryHDU:
    primary = fits.PrimaryHDU()
    primary.header.update(
        {k: v for k, v in header.items() if k.startswith("REF") or k in ("OBS_ID", "RADECSYS", "EQUINOX")}
    )
    primary.header["DATE"] = DATE
    primary.header["CREATOR"] = ("xscan simulate", "not an observation")
    return primary


def _side_tables(
    pointing: Pointing, camera: Camera, span_s: tuple[float, float], faults: Faults, rng: np.random.Generator
) -> list[fits.BinTableHDU]:
    t0 = pointing.start_s
    tables = []
    for number, good in faults.good_time.items():
        if number in faults.missing:
            continue
        step = camera.frame_s if camera.name != "pn" else PN_EXPOSURE_STEP_S
        middle = np.arange(span_s[0] + step / 2, span_s[1], step)
        kept = np.ones(middle.size, bool)
        if number in faults.lost_frames:
            lost = faults.lost_frames[number].astype(int)
            kept[lost[lost < kept.size]] = False
        inside = np.zeros(middle.size, bool)
        for first, last in good:
            inside |= (middle > first - step) & (middle < last + step)
        middle = middle[kept & inside]
        fraction = 1 - 0.012 * rng.random(middle.size)
        tables.append(
            _table(
                f"EXPOSU{number:02d}",
                TIME=(t0 + middle, "D"), TIMEDEL=(np.full(middle.size, step), "E"), FRACEXP=(fraction, "E"),
            )
        )  # fmt: skip
        ccd, rawx, rawy, run = faults.hot_pixels[faults.listed & (faults.hot_pixels[:, 0] == number)].T
        tables.append(
            _table(
                f"BADPIX{number:02d}",
                RAWX=(rawx, "I"), RAWY=(rawy, "I"), TYPE=(0 * ccd + 1, "I"), YEXTENT=(run, "I"),
            )
        )  # fmt: skip
        tables.append(_table(f"STDGTI{number:02d}", START=(t0 + good[:, 0], "D"), STOP=(t0 + good[:, 1], "D")))
        if faults.filtered is not None:
            tables.append(
                _table(
                    f"GTI000{number:02d}",
                    START=(t0 + faults.filtered[:, 0], "D"), STOP=(t0 + faults.filtered[:, 1], "D"),
                )
            )  # fmt: skip
    return tables


def _add_subspace(header: fits.Header, camera: Camera, faults: Faults) -> None:
    """Say in the data subspace which good-time table belongs to which CCD."""
    header["DSTYP1"], header["DSTYP2"] = "CCDNR", "TIME"
    prefix = "STDGTI" if faults.filtered is None else "GTI000"
    numbers = [chip.number for chip in camera.ccds if chip.number not in faults.missing]
    for i, number in enumerate(numbers, start=1):
        component = "" if i == 1 else str(i)
        header[f"{component}DSVAL1"] = str(number)
        header[f"{component}DSREF2"] = f":{prefix}{number:02d}"


def write_source_list(folder: Path, pointing: Pointing, columns: dict[str, NDArray[np.float64]]) -> Path:
    """Write the EPIC source list; columns RA, DEC (deg, ICRS), EP_DET_ML, EP_EXTENT, EP_TOT, RADEC_ERR."""
    forms = {"RA": "D", "DEC": "D"}
    table = _table("SRCLIST", **{name: (values, forms.get(name, "E")) for name, values in columns.items()})
    primary = fits.PrimaryHDU()
    primary.header["DATE"] = DATE
    primary.header["CREATOR"] = ("xscan simulate", "not an observation")
    return _write(folder / f"P{pointing.obsid}EPX000OBSMLI0000.FTZ", [primary, table])


def _table(name: str, **columns: tuple[NDArray[np.generic], str]) -> fits.BinTableHDU:
    made = [fits.Column(key, form, array=values) for key, (values, form) in columns.items()]
    return fits.BinTableHDU.from_columns(made, name=name)


def _write(path: Path, hdus: list[fits.BinTableHDU]) -> Path:
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(igzip.compress(stream.getvalue(), 2, mtime=0))
    return path
