from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xscan.api import read
from xscan.backends import Backend
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CAMERAS, EventList, InputFile, PixelMask, pixel_number
from xscan.pointsource.exposure import CameraMap, beyond, dark
from xscan.pointsource.psf import king
from xscan.simulate.detector import CAMERA
from xscan.sky import TangentPlane

PA_DEG = 37.0


def spread(rng: np.random.Generator, name: str, bad: PixelMask, n: int = 20_000, beside: bool = True) -> EventList:
    """Events all over a camera, without those of bad pixels (and beside them)."""
    camera = CAMERA[name]
    chip = camera.ccds[0]
    ccd = rng.choice([c.number for c in camera.ccds], n)
    rawx, rawy = rng.integers(1, chip.columns + 1, n), rng.integers(1, chip.rows + 1, n)
    kept = ~bad.marked(pixel_number(ccd, rawx, rawy))
    if not beside:
        for step in (-1, 1):
            kept &= ~bad.marked(pixel_number(ccd, rawx + step, rawy))
            kept &= ~bad.marked(pixel_number(ccd, rawx, rawy + step))
    ccd, rawx, rawy = ccd[kept], rawx[kept], rawy[kept]
    x, y = camera.rotation(PA_DEG) @ np.array(camera.place(ccd, rawx, rawy, rng))
    px, py = (np.rint(25_921 + offset / 0.05).astype(np.uint16) for offset in (x, y))
    pixel = pixel_number(ccd, rawx, rawy).astype(np.uint32)
    info = InputFile("made up", 0, camera=name)
    return EventList(
        info, TangentPlane(150.0, 2.0), None, 0.0, np.ones(px.size), px, py, px, ccd.astype(np.uint8), pixel,
        (0.0, 1.0), {}, EPIC, bad_pixels=(bad,),
    )  # fmt: skip


def bad_column(name: str, ccd: int, rawx: int) -> PixelMask:
    mask = PixelMask()
    rows = CAMERA[name].ccds[0].rows
    mask.add(ccd, np.array([rawx]), np.array([1]), rows)
    return mask


@pytest.mark.parametrize("name", CAMERAS)
def test_holes_are_where_no_event_can_be(name: str, rng: np.random.Generator) -> None:
    camera, bad = CAMERA[name], bad_column(name, 1, 33)
    detector = CameraMap.of(spread(rng, name, bad))
    assert detector is not None
    u, v = camera.place(np.array([1, 1]), np.array([33, 1]), np.array([100, 100]), rng)
    for middle_u, middle_v in zip(u, v, strict=True):  # over the column, and over the edge of the CCD
        x0, y0 = camera.rotation(PA_DEG) @ np.array([middle_u, middle_v])
        holes = detector.holes(float(x0), float(y0), 40.0, dark)
        x, y = (axis.ravel() for axis in np.meshgrid(*(at + np.arange(-40, 40.1, 0.5) for at in (x0, y0))))
        inside = (x - x0) ** 2 + (y - y0) ** 2 < 40**2
        ccd, rawx, rawy = camera.locate(*(camera.rotation(PA_DEG).T @ np.array([x[inside], y[inside]])))
        unseen = (ccd == 0) | bad.marked(pixel_number(ccd, rawx, rawy))
        if name == "pn":
            for number, column in ((4, 12), (5, 11), (10, 28)):
                unseen |= (ccd == number) & (rawx == column)
        assert holes.area.sum() == pytest.approx(unseen.sum() * 0.25, rel=0.15, abs=40)
        ccd, rawx, rawy = camera.locate(*(camera.rotation(PA_DEG).T @ np.array([holes.x, holes.y])))
        wrong = (ccd > 0) & ~bad.marked(pixel_number(ccd, rawx, rawy))
        if name == "pn":
            wrong &= ~((ccd == 4) & (rawx == 12)) & ~((ccd == 5) & (rawx == 11)) & ~((ccd == 10) & (rawx == 28))
        assert np.mean(wrong) < 0.2  # half a pixel along edges


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("beside", [True, False])
def test_every_backend_finds_the_same_dark_places(
    backend: Backend, rng: np.random.Generator, name: str, beside: bool
) -> None:
    bad = bad_column(name, 1, 33)
    columns = np.repeat(np.arange(4, 64, 5), 7)
    bad.add(np.tile(np.arange(1, 8), 12), columns, columns * 0 + 1, 200)
    detector = CameraMap.of(spread(rng, name, bad, beside=beside))
    assert detector is not None
    x, y = rng.uniform(-900, 900, (2, 20_000))
    one = dark(detector, x, y)
    assert 0.05 < one.mean() < 0.95
    np.testing.assert_array_equal(backend.pointsource.dark(detector, x, y), one)


@pytest.mark.parametrize("beside", [True, False])
def test_a_stricter_cut_makes_bad_columns_wider(rng: np.random.Generator, beside: bool) -> None:
    bad = PixelMask()
    columns = np.repeat(np.arange(20, 600, 40), 7)
    bad.add(np.tile(np.arange(1, 8), 15), columns, columns * 0 + 1, 600)
    detector = CameraMap.of(spread(rng, "m1", bad, beside=beside))
    assert detector is not None
    assert detector.bad_reach == (0 if beside else 1)


def test_raw_pixels_that_say_nothing_of_the_sky_are_not_believed(rng: np.random.Generator) -> None:
    made = spread(rng, "m1", PixelMask(), 2000)
    rng.shuffle(made.pixel)
    made.ccd[:] = 2
    assert CameraMap.of(made) is None


@pytest.mark.parametrize("core", [4.0, 9.0])
def test_rings_hold_what_lies_beyond(core: float) -> None:
    rings = beyond(5.0, -3.0, 45.0, 0)
    near = 1 + ((rings.x - 5) ** 2 + (rings.y + 3) ** 2) / core**2
    share = float((king(near, np.full(near.size, core**2)) * rings.area).sum())
    assert share == pytest.approx((1 + (45 / core) ** 2) ** -0.5, rel=0.03)


def test_real_lists_have_no_events_in_holes_and_the_usual_many_elsewhere(real_observation: Path) -> None:
    rng = np.random.default_rng(3)
    for events in read(real_observation).lists:
        detector = CameraMap.of(events)
        assert detector is not None
        assert all(ccd.residual_arcsec < 0.45 for ccd in detector.ccds)
        x, y = ((values.astype(float) - events.plane.crpix) * 0.05 for values in (events.x, events.y))
        in_holes = hole_area = elsewhere = area = 0.0
        for at in rng.choice(x.size, 40, replace=False):
            holes = detector.holes(float(x[at]), float(y[at]), 40.0, dark)
            near = (x - x[at]) ** 2 + (y - y[at]) ** 2 < 39**2
            apart2 = (x[near][:, None] - holes.x) ** 2 + (y[near][:, None] - holes.y) ** 2
            in_holes += np.count_nonzero(apart2.min(axis=1, initial=np.inf) < 0.3**2)
            hole_area += holes.x.size * np.pi * 0.3**2
            elsewhere += np.count_nonzero(near)
            area += np.pi * 39**2 - holes.area.sum()
        assert hole_area > 100
        # a raw pixel is 1.1 arcsec and its events are spread over it: some fall just inside a hole
        assert in_holes / hole_area < 0.3 * elsewhere / area
