"""What other programs make of exported files: no gap is an eclipse, no time is moved."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from helpers.lists import CELL, CENTRE, OBSID, T0, FakeList, quiet_list, with_burst, write_list

import xscan
from xscan.bayes import log10_bayes_eclipse, log10_bayes_peak
from xscan.report.export import write_ds9, write_lightcurves
from xscan.results.tables import Tables
from xscan.schema import EVENTS, REGIONS
from xscan.sky import separation_arcsec

DT_S = 50.0
GAP = (1010.0, 3020.0)  # no edges of frames: the frames it begins and ends in are partly live
RATE = 0.4  # of a constant source, ct/s


@pytest.fixture(scope="module")
def gapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Path]:
    """A constant source in 5 ks with a gap of 2 ks, and a burst at its place at the end; all light curves in FITS."""
    rng = np.random.default_rng(12)
    steady = with_burst(
        quiet_list(rng, "m1", 5000.0), rng, int(5000 * RATE), 0.0, 5000.0, CENTRE + int(2 * CELL), CENTRE
    )
    fake = with_burst(steady, rng, 120, 4500.0, 40.0, CENTRE + int(2 * CELL), CENTRE)
    since = np.asarray(fake.time) - T0
    kept = fake.take(np.flatnonzero((since < GAP[0]) | (since >= GAP[1])))
    good = {ccd: [(T0, T0 + GAP[0]), (T0 + GAP[1], T0 + 5000.0)] for ccd in fake.gti}
    folder = tmp_path_factory.mktemp("gapped")
    header = {"OBJECT": "a constant source"}
    write_list(folder / OBSID, FakeList(**{**vars_of(kept), "gti": good, "header": header}))
    tables = xscan.scan(folder / OBSID, views=[f"{DT_S:g}:0.2-12"])
    paths = written(tables, folder / "curves", "fits")
    (row,) = [row for row in tables.regions.to_pylist() if row["n_max"] > 100]
    return tables, next(path for path in paths if path.stem == row["det_id"])


def written(tables: Tables, folder: Path, kind: str) -> list[Path]:
    return write_lightcurves(tables.lightcurves, tables.events, tables.regions, tables.runs, folder, kind)


def vars_of(fake: FakeList) -> dict[str, object]:
    return {name: getattr(fake, name) for name in FakeList.__dataclass_fields__}


def quiet(rate: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The rate of the constant source alone."""
    return rate[np.isfinite(rate) & ((time < T0 + 4400) | (time > T0 + 4600))]


def test_the_gap_is_in_the_file(gapped: tuple[Tables, Path]) -> None:
    tables, path = gapped
    (run,) = tables.runs.to_pylist()
    (row,) = [row for row in tables.regions.to_pylist() if row["det_id"] == path.stem]
    (curve,) = [row for row in tables.lightcurves.to_pylist() if row["det_id"] == path.stem]
    rejected = np.array(curve["rejected"])
    assert 38 <= rejected.sum() <= 42
    with fits.open(path) as made:
        made.verify("exception")
        assert [hdu.name for hdu in made] == ["PRIMARY", "RATE", "GTI"]
        data, header, gti = made["RATE"].data, made["RATE"].header, made["GTI"].data
        np.testing.assert_array_equal(data["TIME"], np.array(curve["time_s"]) + DT_S / 2)
        np.testing.assert_array_equal(np.isnan(data["RATE"]), rejected)
        np.testing.assert_array_equal(np.isnan(data["ERROR"]), rejected)
        np.testing.assert_array_equal(data["COUNTS"][~rejected], np.array(curve["n"])[~rejected])
        np.testing.assert_array_equal(data["FRACEXP"], ~rejected)
        np.testing.assert_array_equal(data["REJECTED"], rejected)
        exposure = np.where(rejected, 0, np.array(curve["live"]) * DT_S)
        np.testing.assert_allclose(data["EXPOSURE"], exposure)
        assert ((exposure > 0) & (exposure < 0.9 * DT_S)).any()  # a frame that is partly live
        np.testing.assert_allclose((data["RATE"] * data["EXPOSURE"])[~rejected], np.array(curve["n"])[~rejected])
        in_gti = ((data["TIME"][:, None] > gti["START"]) & (data["TIME"][:, None] < gti["STOP"])).any(axis=1)
        np.testing.assert_array_equal(in_gti, ~rejected)
        assert (gti["STOP"] - gti["START"]).sum() == DT_S * (~rejected).sum()
        expected = np.array(curve["mu"], float)
        np.testing.assert_array_equal(data["EXPECTED"], expected)
        for name, factor in (("PEAK", log10_bayes_peak), ("ECLIPSE", log10_bayes_eclipse)):
            some = np.isfinite(expected)
            np.testing.assert_array_equal(np.isfinite(data[f"LOG10_B_{name}"]), some)
            np.testing.assert_array_equal(
                data[f"LOG10_B_{name}"][some], factor(np.array(curve["n"])[some], expected[some])
            )
        for hdu in made:
            assert (hdu.header["TELESCOP"], hdu.header["INSTRUME"], hdu.header["OBS_ID"]) == ("XMM", "EMOS1", OBSID)
            assert (hdu.header["MJDREF"], hdu.header["MJDREFI"] + hdu.header["MJDREFF"]) == (50_814, 50_814)
            assert (hdu.header["TIMESYS"], hdu.header["TIMEUNIT"], hdu.header["TIMEZERO"]) == ("TT", "s", 0)
            assert (hdu.header["E_MIN"], hdu.header["E_MAX"], hdu.header["OBJECT"]) == (0.2, 12, "a constant source")
            assert (hdu.header["RA_OBJ"], hdu.header["DEC_OBJ"]) == (row["ra_deg"], row["dec_deg"])
            assert (hdu.header["DATE-OBS"], hdu.header["DATE-END"]) == (run["t_start_utc"], run["t_stop_utc"])
            assert (hdu.header["TSTART"], hdu.header["TSTOP"]) == (run["t_start_s"], run["t_stop_s"])
        classes = [made["RATE"].header[key] for key in ("HDUCLASS", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3")]
        assert classes == ["OGIP", "LIGHTCURVE", "TOTAL", "RATE"]
        assert (header["TIMEDEL"], header["TIMEPIXR"]) == (DT_S, 0.5)
        assert header["ONTIME"] == DT_S * (~rejected).sum()
        assert header["EXPOSURE"] == pytest.approx(run["good_s_m1"])
        assert [made["GTI"].header[key] for key in ("HDUCLASS", "HDUCLAS1")] == ["OGIP", "GTI"]


@pytest.mark.filterwarnings("ignore")  # stingray's own
def test_stingray_sees_no_eclipse(gapped: tuple[Tables, Path]) -> None:
    stingray = pytest.importorskip("stingray", reason="it is in the extra `test`")
    curve = stingray.Lightcurve.read(str(gapped[1]), fmt="ogip")
    assert (curve.mjdref, curve.dt, len(curve.gti)) == (50_814, DT_S, 2)
    assert curve.time[0] == T0 + DT_S / 2
    curve.apply_gtis()
    rate = quiet(curve.countrate, curve.time)
    assert rate.size == pytest.approx((5000 - (GAP[1] - GAP[0])) / DT_S, abs=8)
    assert rate.min() > 0.25 * RATE  # 20 counts a frame: 6 in a thousand million are below 5
    assert rate.mean() == pytest.approx(RATE, rel=0.1)


@pytest.mark.filterwarnings("ignore")  # lightkurve's own
def test_lightkurve_sees_no_eclipse(gapped: tuple[Tables, Path]) -> None:
    generic = pytest.importorskip("lightkurve.io.generic", reason="it is in the extra `test`")
    curve = generic.read_generic_lightcurve(str(gapped[1]), flux_column="rate", flux_err_column="error")
    assert abs((curve.time[0] - Time(50_814, (T0 + DT_S / 2) / 86_400, format="mjd", scale="tt")).sec) < 1e-3
    kept = curve.remove_nans()
    rate = quiet(np.asarray(kept.flux.value, float), np.array((kept.time - Time(50_814, format="mjd", scale="tt")).sec))
    assert len(kept) < len(curve) - 37
    assert rate.min() > 0.25 * RATE
    assert rate.mean() == pytest.approx(RATE, rel=0.1)


def test_astropy_knows_the_moment(gapped: tuple[Tables, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the place of the spacecraft is not in the file
        table = Table.read(gapped[1], hdu="RATE", astropy_native=True)
    first = gapped[0].runs["t_start_utc"][0].as_py()
    assert abs((table["TIME"][0] - Time(first, scale="utc")).sec - DT_S / 2) < 1e-3
    assert table["RATE"].unit == "ct / s"


def test_csv_has_utc_and_mjd(gapped: tuple[Tables, Path], tmp_path: Path) -> None:
    tables = gapped[0]
    (path, *_) = written(tables, tmp_path, "csv")
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    (run,) = tables.runs.to_pylist()
    assert rows[0]["utc"] == run["t_start_utc"]
    assert float(rows[-1]["mjd"]) + DT_S / 86_400 == pytest.approx(Time(run["t_stop_utc"], scale="utc").mjd, abs=1e-8)


def test_an_event_beside_a_gap(gapped: tuple[Tables, Path], tmp_path: Path) -> None:
    """The gap is no part of an event's light curve either, and its band is that of all its counts."""
    tables = xscan.scan(gapped[1].parents[1] / OBSID)
    paths = written(tables, tmp_path, "fits")
    rows = tables.events.to_pylist()
    assert [path.stem for path in paths] == [row["event_id"] for row in rows]
    (burst,) = [row for row in rows if row["kind"] == "peak" and row["t_start_s"] > T0 + 4000]
    with fits.open(tmp_path / f"{burst['event_id']}.fits") as made:
        rate, gti, header = made["RATE"].data, made["GTI"].data, made["RATE"].header
        assert (header["DET_ID"], header["E_MIN"], header["E_MAX"]) == (burst["event_id"], 0.2, 12.0)
        assert header.comments["DET_ID"] == "event, counts within 20 arcsec"
        inside = (rate["TIME"] > T0 + GAP[0] + 10) & (rate["TIME"] < T0 + GAP[1] - 10)
        assert np.isnan(rate["RATE"][inside]).all()
        assert not rate["FRACEXP"][inside].any()
        assert len(gti) == 2
        assert gti["STOP"][0] - T0 == pytest.approx(GAP[0], abs=header["TIMEDEL"])
        shone = (rate["TIME"] > burst["t_start_s"]) & (rate["TIME"] < burst["t_stop_s"])
        assert rate["COUNTS"][shone].sum() > 60


@pytest.mark.parametrize(("variable", "colour"), [(False, "orange"), (True, "green")])
def test_a_circle_for_each_event(tmp_path: Path, variable: bool, colour: str) -> None:
    row = {"event_id": "it", "kind": "peak", "variable": variable, "ra_deg": 150.0, "dec_deg": -2.0}
    rows = [row | {"pos_err_arcsec": error} for error in (1.0, 5.0)]
    assert write_ds9(pa.Table.from_pylist(rows), REGIONS.empty_table(), tmp_path / "a.reg") == 2
    lines = (tmp_path / "a.reg").read_text().splitlines()
    assert lines[1:] == [
        "icrs",
        *(f'circle(150.000000,-2.000000,{radius}") # color={colour} text={{it}}' for radius in ("10.0", "15.0")),
    ]


def test_ds9_draws_a_circle_for_each_place(tmp_path: Path) -> None:
    """One burst in three views and another far away: two circles, where there were four on top of each other."""
    rng = np.random.default_rng(4)
    fake = with_burst(quiet_list(rng, "m1", 600.0), rng, 30, 100.0, 4.0, CENTRE, CENTRE)
    fake = with_burst(fake, rng, 60, 300.0, 4.0, CENTRE + int(5 * CELL), CENTRE)
    write_list(tmp_path / OBSID, fake)
    regions = xscan.scan(tmp_path / OBSID, views=["5:0.2-12", "50:0.2-12", "5:0.2-2"]).regions
    assert regions.num_rows > 2
    assert write_ds9(EVENTS.empty_table(), regions, tmp_path / "a.reg") == 2
    lines = (tmp_path / "a.reg").read_text().splitlines()
    assert lines[2] == "icrs"
    places = [[float(value) for value in re.findall(r"[-\d.]+", line)[:3]] for line in lines[3:]]
    assert len(places) == 2
    for ra, dec, radius in places:
        near = separation_arcsec(ra, dec, regions["ra_deg"].to_numpy(), regions["dec_deg"].to_numpy()) < 30
        assert near.any()
        assert 10 <= radius <= 20


@pytest.mark.parametrize(("error_arcsec", "radius"), [(3.3, "10.0"), (3.4, "10.2"), (7.0, "21.0")])
def test_a_circle_is_a_cell_or_three_errors_wide(tmp_path: Path, error_arcsec: float, radius: str) -> None:
    row = {
        "obsid": OBSID, "det_id": "it", "parent": None, "kind": "eclipse", "ra_deg": 150.0, "dec_deg": -2.0,
        "cell_arcsec": 20.0, "pos_err_arcsec": error_arcsec, "log10_p_min": -9.0,
    }  # fmt: skip
    assert write_ds9(EVENTS.empty_table(), pa.Table.from_pylist([row]), tmp_path / "a.reg") == 1
    last = (tmp_path / "a.reg").read_text().splitlines()[-1]
    assert last == f'circle(150.000000,-2.000000,{radius}") # color=cyan text={{it}}'
