"""Regions for DS9, light curves as CSV or FITS: files for other programs, on request."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xscan.bayes import log10_bayes
from xscan.errors import ConfigError
from xscan.model import MJDREF

__all__ = ["LIGHTCURVE_FORMATS", "write_ds9", "write_lightcurves"]

LIGHTCURVE_FORMATS = ("csv", "fits")
_COLUMNS = ("time_s", "n", "mu", "bad", "rejected", "log10_b_peak", "log10_b_eclipse")
_COLOURS = {"peak": "orange", "eclipse": "cyan", "both": "magenta"}


def write_ds9(regions: pa.Table, path: Path) -> int:
    """Write a DS9 region file: a circle per region, as wide as its cells, named by its det_id.

    Returns
    -------
    int
        Number of regions written.
    """
    lines = ["# Region file format: DS9 version 4.1", "icrs"]
    for row in regions.to_pylist():
        width = max(row["bbox_x1"] - row["bbox_x0"], row["bbox_y1"] - row["bbox_y0"])
        radius = width * row["cell_arcsec"] / 2
        lines.append(
            f'circle({row["ra_deg"]:.6f},{row["dec_deg"]:.6f},{radius:.1f}") '
            f"# color={_COLOURS[row['kind']]} text={{{row['det_id']}}}"
        )
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return len(lines) - 2


def write_lightcurves(lightcurves: pa.Table, folder: Path, kind: str) -> list[Path]:
    """Write each region's light curve to ``folder/<det_id>.csv`` or ``.fits``.

    Parameters
    ----------
    lightcurves : pyarrow.Table
        As in :mod:`xscan.schema`.
    folder : Path
        Made if it is not there.
    kind : str
        ``csv`` or ``fits``; a FITS file follows OGIP: extension RATE, TIME in s from MJDREF.

    Returns
    -------
    list of Path
        The files, in the order of the table.
    """
    if kind not in LIGHTCURVE_FORMATS:
        raise ConfigError(f"unknown light-curve format {kind!r}; known: {', '.join(LIGHTCURVE_FORMATS)}")
    folder.mkdir(parents=True, exist_ok=True)
    write = _write_csv if kind == "csv" else _write_fits
    paths = []
    for row in map(_with_bayes_factors, lightcurves.to_pylist()):
        path = folder / f"{row['det_id']}.{kind}"
        write(row, path)
        paths.append(path)
    return paths


def _with_bayes_factors(row: dict[str, Any]) -> dict[str, Any]:
    """Add log10 of the Bayes factors for too many and too few counts; None where nothing is expected."""
    n, mu = np.array(row["n"]), np.array(row["mu"], float)  # None becomes NaN
    factors = {}
    for name, values in zip(("log10_b_peak", "log10_b_eclipse"), log10_bayes(n, mu), strict=True):
        factors[name] = [value if known else None for value, known in zip(values.tolist(), mu > 0, strict=True)]
    return row | factors


def _write_csv(row: dict[str, Any], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        writer.writerows(zip(*(row[name] for name in _COLUMNS), strict=True))


def _write_fits(row: dict[str, Any], path: Path) -> None:
    from astropy.io import fits

    def column(name: str, source: str, form: str, unit: str = "") -> fits.Column:
        values = np.array([np.nan if v is None else v for v in row[source]])
        return fits.Column(name, form, unit, array=values)

    table = fits.BinTableHDU.from_columns(
        [
            column("TIME", "time_s", "D", "s"),
            column("COUNTS", "n", "J", "count"),
            column("EXPECTED", "mu", "D", "count"),
            column("BAD", "bad", "L"),
            column("REJECTED", "rejected", "L"),
            column("LOG10_B_PEAK", "log10_b_peak", "D"),
            column("LOG10_B_ECLIPSE", "log10_b_eclipse", "D"),
        ],
        name="RATE",
    )
    header = table.header
    header["HDUCLASS"], header["HDUCLAS1"] = "OGIP", "LIGHTCURVE"
    header["TELESCOP"], header["OBS_ID"], header["DET_ID"] = "XMM", row["obsid"], row["det_id"]
    header["TIMESYS"], header["MJDREF"], header["TIMEUNIT"] = "TT", MJDREF, "s"
    header["TIMEREF"] = ("LOCAL", "not barycentred")
    header["TIMEPIXR"] = (0.0, "TIME is the start of a frame")
    header["TIMEDEL"] = (row["dt_s"], "[s] length of a frame")
    header["TSTART"], header["TSTOP"] = row["time_s"][0], row["time_s"][-1] + row["dt_s"]
    table.writeto(path, overwrite=True)
