"""A made-up mission of seven cameras, energies to 25 keV and other sky pixels, searched by every backend alike."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers.cuda_on_cpu import CpuDevice, make_backend
from helpers.kernel_net import cuda
from helpers.lists import T0

from xscan.backends import get_backend
from xscan.config import BAND_KEV, ScanConfig, View, load_config
from xscan.errors import ConfigError, DataError
from xscan.events.merge import GtiFilter
from xscan.grid import cells_across
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CAMERAS, Camera, CcdTime, EventList, InputFile, Instrument, Observation, pixel_number
from xscan.results.tables import Provenance, TableBuilder
from xscan.search.observation import Found, ViewResult, search_observation
from xscan.sky import SkyPixels, TangentPlane

SIDE_ARCSEC = 0.8
SEVEN = Instrument(
    name="TM1-7",
    telescope="SEVENFOLD",
    cameras=tuple(
        Camera(
            f"tm{k}", f"TM{k}", f"TM{k}", columns=384, rows=384, pixel_arcsec=9.6, n_ccds=1, frame_s=0.05,
            core=(9.0 + k / 10, 0.0, 0.0, 0.0), slope=(1.6, 0.0, 0.0, 0.0),
        )
        for k in range(1, 8)
    ),
    mjdref=51_543.875,
    sky=SkyPixels(8_192, SIDE_ARCSEC),
    pi_range=(200, 25_000),
    particle_band=(10_001, 12_000),
    particle_rate_max=0.5,
)  # fmt: skip
CENTRE = 4_096.0
PLANE = TangentPlane(150.0, 2.0, CENTRE, SIDE_ARCSEC / 3600)
SECONDS = 2000.0
BURST_ARCSEC = (431.0, -268.0)
BURST_S = 703.0
BURST_EV = 20_000
PER_CAMERA = 6
CONFIG = ScanConfig((View.parse("10:0.2-25"), View.parse("10:16.5-25"), View.parse("10:0.2-16")))


def made_up(rng: np.random.Generator, camera: str, n: int = 6000) -> EventList:
    """A flat field over one CCD that is its whole plane, and a burst that only photons beyond 16.4 keV make."""
    half = 384 * 9.6 / 2
    x, y = rng.uniform(-half, half, (2, n))
    time, pi = rng.uniform(0, SECONDS, n), rng.integers(200, 25_001, n)
    burst = [place + rng.normal(0, 6, PER_CAMERA) for place in BURST_ARCSEC]
    x, y = np.append(x, burst[0]), np.append(y, burst[1])
    time, pi = np.append(time, BURST_S + rng.uniform(0, 4, PER_CAMERA)), np.append(pi, [BURST_EV] * PER_CAMERA)
    order = np.argsort(time)
    x, y, time, pi = x[order], y[order], time[order], pi[order]
    raw = [np.floor((place + half) / 9.6).astype(int).clip(0, 383) + 1 for place in (x, y)]
    pixels = [np.rint(CENTRE + place / SIDE_ARCSEC).astype(np.uint16) for place in (x, y)]
    one = np.ones(time.size, np.uint8)
    return EventList(
        InputFile(camera, 1, camera=camera), PLANE, None, SECONDS, T0 + time, *pixels, pi.astype(np.uint16), one,
        pixel_number(one, *raw).astype(np.uint32), (T0, T0 + SECONDS),
        {1: CcdTime(np.array([[T0, T0 + SECONDS]]))}, SEVEN,
    )  # fmt: skip


@cache
def observation() -> Observation:
    rng = np.random.default_rng(71)
    return Observation("0999999907", tuple(made_up(rng, name) for name in SEVEN.names), (), None, None)


@cache
def searched(name: str) -> list[ViewResult]:
    backend = cuda(CpuDevice(), 4 << 20) if name == "cuda in slabs" else make_backend(name)
    (search,), skipped = search_observation(observation(), CONFIG, backend)
    assert not skipped
    assert [events.camera for events in search.subset.lists] == list(SEVEN.names)
    return list(search.views)


def the_burst(result: ViewResult) -> list[Found]:
    """The regions at the place of the burst, as the fit says."""
    found = []
    for one in result.found:
        apart = np.hypot(
            (one.position.x_px - CENTRE) * SIDE_ARCSEC - BURST_ARCSEC[0],
            (one.position.y_px - CENTRE) * SIDE_ARCSEC - BURST_ARCSEC[1],
        )
        if apart < 4 * max(one.position.error_arcsec, 0.5):
            found.append(one)
    return found


def test_a_burst_of_seven_cameras_at_20_kev_is_found_at_its_place() -> None:
    whole, hard, soft = searched("numba")
    assert whole.reason is hard.reason is soft.reason is None
    for result in (whole, hard):
        (burst,) = the_burst(result)
        assert (burst.by_camera >= PER_CAMERA - 2).all()
        assert burst.by_camera.shape == (7,)
        assert 0 < burst.position.error_arcsec < 3
        assert burst.detector.live.keys() == set(SEVEN.names)
        assert burst.detector.n_ccds == 7
        frames = hard.search.grid if hard.search else None
        assert frames is not None
        assert burst.curve.n.argmax() == int(BURST_S / frames.dt_s)
    assert not the_burst(soft)  # a photon of 20 keV is no softer one
    grid = whole.search.grid if whole.search else None
    assert grid is not None
    assert grid.n_cells == cells_across(20.0, SEVEN.sky) == 327
    assert grid.cell_arcsec == pytest.approx(8192 * 0.8 / 327)


@pytest.mark.parametrize("name", ["numpy", "cuda", "cuda in slabs"])
def test_every_backend_finds_the_same(name: str) -> None:
    for one, other in zip(searched(name), searched("numba"), strict=True):
        assert one.n_events == other.n_events
        assert one.search is not None
        assert other.search is not None
        for column in one.search.voxels.__slots__:
            np.testing.assert_array_equal(getattr(one.search.voxels, column), getattr(other.search.voxels, column))
        assert len(one.search.voxels) > 0 or one.view.hi_kev == 16
        by_camera = [search.counts.by_camera(search.voxels) for search in (one.search, other.search)]
        assert by_camera[0].shape == (len(one.search.voxels), 7)
        np.testing.assert_array_equal(*by_camera)
        np.testing.assert_array_equal(by_camera[0].sum(axis=1), one.search.voxels.n)
        assert [found.position for found in one.found] == [found.position for found in other.found]
        assert [found.detector for found in one.found] == [found.detector for found in other.found]


def test_lists_are_merged_alike() -> None:
    filters = [GtiFilter.everything()] * 7
    given = observation().lists, filters, T0, T0 + SECONDS, 327
    (slow, _), (fast, _) = (get_backend(name).events.merge(*given) for name in ("numpy", "numba"))
    assert slow.pi.max() > 24_000
    assert np.unique(slow.camera).tolist() == list(range(7))
    for column in ("offsets", "tick", "x_px", "y_px", "pi", "camera", "pixel"):
        np.testing.assert_array_equal(getattr(slow, column), getattr(fast, column))


def test_the_result_tables_refuse_cameras_that_they_have_no_columns_for() -> None:
    with pytest.raises(DataError, match=r"cameras tm1, tm2, .* of SEVENFOLD; the result tables have columns for pn"):
        TableBuilder(observation(), (), Provenance("", "", "", "", ""), 0.0)


def test_lists_of_two_instruments_are_not_searched_together() -> None:
    other = replace(observation().lists[0], instrument=replace(SEVEN, telescope="EIGHTFOLD"))
    mixed = replace(observation(), lists=(*observation().lists, other))
    with pytest.raises(DataError, match=r"several instruments \(EIGHTFOLD, SEVENFOLD\)"):
        search_observation(mixed, load_config(), get_backend("numpy"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pi_range": (200, 65_535)}, "PI from 200 to 65535 eV; 16 bits hold"),
        ({"pi_range": (-1, 12_000)}, "PI from -1 to"),
        ({"sky": SkyPixels(65_536, 0.05)}, "65536 sky pixels along a side; 16 bits hold"),
        ({"cameras": ()}, "0 cameras; there can be 1 to 255"),
        ({"cameras": tuple(replace(SEVEN.cameras[0], name=f"c{k}") for k in range(256))}, "256 cameras"),
        ({"cameras": SEVEN.cameras[:1] * 2}, "each with its own name"),
    ],
)
def test_what_no_record_holds_is_refused(change: dict[str, Any], message: str) -> None:
    replace(SEVEN, pi_range=(0, 65_534), sky=SkyPixels(65_535, 0.05))  # the last that fit
    with pytest.raises(ConfigError, match=message):
        replace(SEVEN, **change)


@pytest.mark.parametrize("change", [{"columns": 624}, {"rows": 1024}, {"columns": 0}, {"n_ccds": 0}, {"n_ccds": 17}])
def test_a_ccd_whose_pixels_cannot_be_numbered_is_refused(change: dict[str, Any]) -> None:
    replace(SEVEN.cameras[0], columns=623, rows=623, n_ccds=16)
    with pytest.raises(ConfigError, match="camera tm1: "):
        replace(SEVEN.cameras[0], **change)


def test_views_beyond_the_instrument_s_energies_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"events outside 0\.2-25 keV are not searched"):
        search_observation(observation(), ScanConfig((View.parse("10:0.2-26"),)), get_backend("numpy"))


def test_a_camera_that_is_not_the_instrument_s_is_refused() -> None:
    with pytest.raises(ConfigError, match="SEVENFOLD: no camera 'pn'; there are tm1, tm2"):
        SEVEN.number("pn")


@pytest.mark.parametrize("cell_arcsec", [0.09, 7000.0])
def test_cells_that_cannot_be_numbered_are_refused(cell_arcsec: float) -> None:
    with pytest.raises(ConfigError, match="so that there are 1 to 32767"):
        cells_across(cell_arcsec, SkyPixels(65_535, 0.05))


def test_the_result_tables_have_the_columns_of_epic() -> None:
    assert EPIC.names == CAMERAS
    assert EPIC.pi_range == tuple(1000 * end for end in BAND_KEV)


def test_a_list_that_contradicts_its_instrument_is_refused() -> None:
    made = observation().lists[0]
    with pytest.raises(DataError, match=r"pixels of 0\.05 arcsec on its tangent plane, 0\.8 on that of SEVENFOLD"):
        replace(made, plane=TangentPlane(150.0, 2.0))
    with pytest.raises(ConfigError, match="no camera 'pn'"):
        replace(made, info=replace(made.info, camera="pn"))
