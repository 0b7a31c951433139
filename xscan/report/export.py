"""Write files for other programs: events and regions for DS9, their light curves as CSV or FITS."""

from __future__ import annotations

import csv
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xscan.bayes import log10_bayes
from xscan.errors import ConfigError
from xscan.missions.xmm.instrument import EPIC
from xscan.missiontime import Clock, mjd_utc, utc_text
from xscan.results.tables import distinct_places, event_kind
from xscan.sky import SAME_PLACE_ARCSEC

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["LIGHTCURVE_FORMATS", "write_ds9", "write_lightcurves"]

LIGHTCURVE_FORMATS = ("csv", "fits")
_CSV_COLUMNS = ("time_s", "utc", "mjd", "n", "mu", "live", "bad", "rejected", "log10_b_peak", "log10_b_eclipse")
_COLOURS = {"peak": "orange", "eclipse": "cyan", "both": "magenta", "variable": "green"}
_CIRCLE_ARCSEC = 10.0  # least radius of an event's circle: that of a cell

Row = dict[str, Any]


def write_ds9(events: pa.Table, regions: pa.Table, path: Path) -> int:
    """Write a DS9 region file: one circle per event, and one per position of regions.

    Several views see one thing; circles for all their regions would cover each other: a position is named after the
    most significant region there. The radius of a circle is that of a cell, or three times the error of the position
    if that is larger.

    Parameters
    ----------
    events, regions : pyarrow.Table
        As in :mod:`xscan.schema`, ordered by obsid.
    path : Path

    Returns
    -------
    int
        Number of circles written.

    Examples
    --------
    >>> events, regions = held.table("events"), held.table("regions")
    >>> write_ds9(events, regions, scratch / "found.reg") == events.num_rows + regions.num_rows
    True
    """
    lines = ["# Region file format: DS9 version 4.1"]
    circles = [_circle(row, row["event_id"], event_kind(row), _CIRCLE_ARCSEC) for row in events.to_pylist()]
    if regions.num_rows:
        lines.append(f'# one circle for all regions within {SAME_PLACE_ARCSEC:g}"')
    for _, rows in groupby(regions.to_pylist(), itemgetter("obsid")):
        here = list(rows)
        places = distinct_places(here, len(here))
        circles += [_circle(row, row["det_id"], row["kind"], row["cell_arcsec"] / 2) for row in places]
    path.write_text("\n".join([*lines, "icrs", *circles]) + "\n", "utf-8")
    return len(circles)


def _circle(row: Row, name: str, kind: str, least_arcsec: float) -> str:
    radius = max(least_arcsec, 3 * row["pos_err_arcsec"])
    return f'circle({row["ra_deg"]:.6f},{row["dec_deg"]:.6f},{radius:.1f}") # color={_COLOURS[kind]} text={{{name}}}'


def write_lightcurves(
    lightcurves: pa.Table, events: pa.Table, regions: pa.Table, runs: pa.Table, folder: Path, kind: str
) -> list[Path]:
    """Write the light curve of each event and region to ``folder/<event_id or det_id>.csv`` or ``.fits``.

    Parameters
    ----------
    lightcurves, events, regions, runs : pyarrow.Table
        As in :mod:`xscan.schema`; the last three describe the light curves.
    folder : Path
        Created if it does not exist.
    kind : str
        ``csv`` or ``fits``; docs/operations.md describes the content of a FITS file.

    Returns
    -------
    list of Path
        The files, in the order of the table.

    Examples
    --------
    >>> shown = tables.events, tables.regions, tables.runs
    >>> paths = write_lightcurves(tables.lightcurves, *shown, scratch / "curves", "csv")
    >>> paths[0].name, paths[0].read_text("utf-8").splitlines()[0]
    ('0990000001_0_50_0.2_12.0_0.csv', 'time_s,utc,mjd,n,mu,live,bad,rejected,log10_b_peak,log10_b_eclipse')
    """
    if kind not in LIGHTCURVE_FORMATS:
        raise ConfigError(f"unknown light-curve format {kind!r}; known: {', '.join(LIGHTCURVE_FORMATS)}")
    folder.mkdir(parents=True, exist_ok=True)
    shown = {row["event_id"]: row for row in events.to_pylist()} | {row["det_id"]: row for row in regions.to_pylist()}
    run_of = {(row["obsid"], row["subset"], row["dt_s"]): row for row in runs.to_pylist()}
    paths = []
    for curve in lightcurves.to_pylist():
        path = folder / f"{curve['det_id']}.{kind}"
        row = shown[curve["det_id"]]
        run = run_of[row["obsid"], row["subset"], row.get("dt_s")]
        if kind == "csv":
            _write_csv(curve, run, path)
        else:
            _write_fits(curve, row, run, path)
        paths.append(path)
    return paths


def _write_csv(curve: Row, run: Row, path: Path) -> None:
    clock = _clock(run)
    columns = curve | _bayes_factors(curve)
    columns["utc"] = utc_text(curve["time_s"], clock)
    columns["mjd"] = _blank(mjd_utc(curve["time_s"], clock))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_CSV_COLUMNS)
        writer.writerows(zip(*(columns[name] for name in _CSV_COLUMNS), strict=True))


def _clock(run: Row) -> Clock:
    return Clock(EPIC.mjdref, run["timesys"], run["timeref"] == "SOLARSYSTEM")


def _bayes_factors(curve: Row) -> dict[str, list[float | None]]:
    """Return log10 of the Bayes factors for too many and too few counts; None where nothing is expected."""
    n, mu = np.array(curve["n"]), np.array(curve["mu"], float)  # None becomes NaN
    peak, eclipse = (_blank(np.where(mu > 0, factor, np.nan)) for factor in log10_bayes(n, mu))
    return {"log10_b_peak": peak, "log10_b_eclipse": eclipse}


def _blank(values: NDArray[np.float64]) -> list[float | None]:
    """Return the values as a list, with None for NaN."""
    return [None if value != value else value for value in values.tolist()]


def _write_fits(curve: Row, row: Row, run: Row, path: Path) -> None:
    """Write an OGIP light curve: extensions RATE and GTI (OGIP memo 93-003)."""
    from astropy.io import fits

    # a frame in which nothing was live holds no information; views reject it, the search by windows passes over it
    searched = ~np.array(curve["rejected"]) & (np.array(curve["live"]) > 0)
    header = _header(curve, row, run)
    primary = fits.PrimaryHDU(header=fits.Header(header))
    rate, gti = _rate(curve, searched), _good_time(curve, searched)
    for hdu in (rate, gti):
        hdu.header.update(fits.Header(header))
    exposure_s = float(curve["dt_s"] * np.array(curve["live"])[searched].sum())
    rate.header["TIMEDEL"] = (curve["dt_s"], "[s] length of a frame")
    rate.header["TIMEPIXR"] = (0.5, "TIME is the middle of a frame")
    rate.header["ONTIME"] = (curve["dt_s"] * float(searched.sum()), "[s] frames searched")
    rate.header["EXPOSURE"] = (exposure_s, "[s] live time in them")
    rate.header["DEADAPP"] = (True, "RATE is corrected for dead time")
    rate.header["VIGNAPP"] = (False, "RATE is not corrected for vignetting")
    rate.header["BACKAPP"] = (False, "background is not subtracted")
    fits.HDUList([primary, rate, gti]).writeto(path, overwrite=True)


def _rate(curve: Row, searched: NDArray[np.bool_]) -> fits.BinTableHDU:
    """Return the extension RATE; NaN in frames that were not searched, or not live."""
    from astropy.io import fits

    dt_s = curve["dt_s"]
    n, live, mu = (np.array(curve[name], float) for name in ("n", "live", "mu"))
    exposure_s = np.where(searched, live * dt_s, 0.0)
    n = np.where(searched, n, np.nan)
    per_s = 1 / np.where(exposure_s > 0, exposure_s, np.nan)
    factors = {name: np.array(values, float) for name, values in _bayes_factors(curve).items()}
    columns = [
        ("TIME", "D", "s", np.array(curve["time_s"]) + dt_s / 2),
        ("RATE", "D", "count/s", n * per_s),
        ("ERROR", "D", "count/s", (1 + np.sqrt(n + 0.75)) * per_s),  # Gehrels 1986, ApJ 303, 336, eq. 7
        # of the frame, what GTI holds: all or nothing. Live time within a frame is in EXPOSURE, and RATE corrected for
        # it: readers set rows to 0 where FRACEXP is small (stingray below 0.9), and a row partly live is no eclipse
        ("FRACEXP", "E", "", searched.astype(float)),
        ("EXPOSURE", "D", "s", exposure_s),
        ("COUNTS", "D", "count", n),
        ("EXPECTED", "D", "count", mu),
        ("BAD", "L", "", np.array(curve["bad"])),
        ("REJECTED", "L", "", ~searched),
        ("LOG10_B_PEAK", "D", "", factors["log10_b_peak"]),
        ("LOG10_B_ECLIPSE", "D", "", factors["log10_b_eclipse"]),
    ]
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, form, unit, array=values) for name, form, unit, values in columns], name="RATE"
    )
    classes = {"HDUCLASS": "OGIP", "HDUCLAS1": "LIGHTCURVE", "HDUCLAS2": "TOTAL", "HDUCLAS3": "RATE"}
    table.header.update(classes | {"HDUVERS": "1.1.0"})
    return table


def _good_time(curve: Row, searched: NDArray[np.bool_]) -> fits.BinTableHDU:
    """Return the extension GTI: the frames that were searched and live."""
    from astropy.io import fits

    change = np.flatnonzero(np.diff(np.concatenate([[0], searched.astype(np.int8), [0]])))
    edges = np.append(curve["time_s"], curve["time_s"][-1] + curve["dt_s"])
    columns = [
        fits.Column("START", "D", "s", array=edges[change[0::2]]),
        fits.Column("STOP", "D", "s", array=edges[change[1::2]]),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="GTI")
    table.header.update({"HDUCLASS": "OGIP", "HDUCLAS1": "GTI", "HDUCLAS2": "STANDARD", "HDUVERS": "1.2.0"})
    return table


def _header(curve: Row, row: Row, run: Row) -> list[tuple[str, Any, str]]:
    """Return the keywords of all extensions: the source of the light curve, and its time system."""
    # the tables have columns of EPIC's cameras alone
    cameras = [camera.instrume for camera in EPIC.cameras if run[f"good_s_{camera.name}"] is not None]
    start, stop = curve["time_s"][0], curve["time_s"][-1] + curve["dt_s"]
    clock = _clock(run)
    is_event = "event_id" in row
    what, band = ("event, counts within 20 arcsec", run) if is_event else ("region whose box of cells this is", row)
    cards: list[tuple[str, Any, str]] = [
        ("TELESCOP", EPIC.telescope, ""),
        ("INSTRUME", cameras[0] if len(cameras) == 1 else EPIC.name, ""),
        ("DETNAM", "+".join(cameras), "cameras, their counts added"),
        ("OBS_ID", row["obsid"], ""),
        ("OBJECT", run["target"], "target of the observation"),
        ("DET_ID", curve["det_id"], what),
        ("RA_OBJ", row["ra_deg"], f"[deg] place of the {'event' if is_event else 'region'}"),
        ("DEC_OBJ", row["dec_deg"], f"[deg] place of the {'event' if is_event else 'region'}"),
        ("RADESYS", "ICRS", ""),
        ("E_MIN", band["band_lo_kev"], "[keV]"),
        ("E_MAX", band["band_hi_kev"], "[keV]"),
        # both forms, equal: astropy reads only the first, lightkurve the second before the first
        ("MJDREF", EPIC.mjdref, "[d] MJD of mission time 0"),
        ("MJDREFI", int(EPIC.mjdref), "[d] its days"),
        ("MJDREFF", EPIC.mjdref % 1, "[d] and the rest"),
        ("TIMESYS", run["timesys"], ""),
        ("TIMEUNIT", "s", ""),
        ("TIMEREF", run["timeref"], "" if clock.barycentred else "not barycentred"),
        ("TIMEZERO", 0.0, "[s] to be added to TIME"),
        ("TSTART", start, "[s] start of the first frame"),
        ("TSTOP", stop, "[s] end of the last frame"),
    ]
    dates, days = utc_text([start, stop], clock), mjd_utc([start, stop], clock).tolist()
    if dates[0] is not None:
        for name, date, day in zip(("OBS", "END"), dates, days, strict=True):
            cards += [(f"DATE-{name}", date, "UTC"), (f"MJD-{name}", day, "[d] the same, MJD (UTC)")]
    return [*cards, ("CREATOR", f"xscan {run['xscan_version']}", "")]
