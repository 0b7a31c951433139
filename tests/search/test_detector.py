"""What the detector says of a region: a pixel that flickers and a cosmic ray are told from a star."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.held import Events, event_list, field, search, source, three_cameras
from helpers.lists import CENTRE, T0

from xscan.model import CcdTime, EventList
from xscan.search.detector import DetectorFacts

SECONDS = 2000.0
PLACE = (float(CENTRE + 1500), float(CENTRE - 900))
FRAME_S = 2.6


def facts(lists: list[EventList], view: str = "5:0.2-12") -> DetectorFacts:
    (result,) = search(lists, view)
    (found,) = result.found
    return found.detector


def scattered(rng: np.random.Generator, camera: str = "m1", rate: float = 3.0) -> Events:
    """A field whose photons fall on raw pixels anywhere."""
    events = field(rng, SECONDS, rate)
    columns, rows = (64, 200) if camera == "pn" else (600, 600)
    n = events.time.size
    return replace(events, rawx=rng.integers(1, columns + 1, n), rawy=rng.integers(1, rows + 1, n))


def burst(rng: np.random.Generator, n: int, start: float, width: float, **raw: Any) -> Events:
    return replace(source(rng, n, PLACE, start, width, core=0.5), **raw)


def exposures(frame_s: float, late: float = 0.0) -> dict[int, CcdTime]:
    """Read-outs of two CCDs, one of which is read a little later, in good time of all the range."""
    times = T0 + late + np.repeat(np.arange(0.0, SECONDS, frame_s), 2)
    times[1::2] += frame_s
    live = np.repeat(np.arange(times.size // 2 + 1) * frame_s, 2)[1:-1]
    whole = np.array([[T0, T0 + SECONDS]])
    return {ccd: CcdTime(whole, np.array([times + 0.02 * (ccd == 3), live])) for ccd in (2, 3)}


def test_a_flickering_pixel_is_one_pixel(rng: np.random.Generator) -> None:
    one = event_list("m1", [scattered(rng), burst(rng, 12, 400, 40, rawx=77, rawy=401)], SECONDS)
    other = event_list("m2", [scattered(rng, "m2")], SECONDS)
    found = facts([one, other], "50:0.2-12")
    assert (found.n_pixels, found.n_ccds, found.share_pixel) == (1, 1, 1.0)
    assert found.n_readouts is not None
    assert found.n_readouts > 5
    assert found.share_readout is not None
    assert found.share_readout < 0.4
    assert found.edge_px == 76
    assert found.live == {"m1": 1.0, "m2": 1.0}


def test_a_cosmic_ray_is_one_readout(rng: np.random.Generator) -> None:
    track = burst(rng, 6, 400.2, 2.4, rawx=300 + np.arange(6), rawy=200)
    found = facts([event_list("m1", [scattered(rng), track], SECONDS)], "50:0.2-12")
    assert (found.n_pixels, found.n_readouts, found.share_readout) == (6, 1, 1.0)
    assert found.share_pixel == pytest.approx(1 / 6)
    assert found.edge_px == 199


def test_a_star_falls_on_many_pixels_in_many_readouts_of_all_cameras() -> None:
    rng = np.random.default_rng(3)
    parts = {"pn": 20, "m1": 8, "m2": 8}
    lists = []
    for camera, n in parts.items():
        star = source(rng, n, PLACE, 400, 40, core=4.0)
        raw = {"rawx": rng.integers(20, 26, n), "rawy": rng.integers(100, 106, n), "ccd": 4}
        lists.append(event_list(camera, [scattered(rng, camera), replace(star, **raw)], SECONDS))
    found = facts(lists, "50:0.2-12")
    assert found.n_ccds == 3  # CCD 4 of each camera
    assert found.n_pixels is not None
    assert found.n_readouts is not None
    assert min(found.n_pixels, found.n_readouts) > 15
    assert found.share_pixel is not None
    assert found.share_pixel < 0.2


@pytest.mark.parametrize("late", [0.0, 1.3])
def test_readouts_are_those_that_the_list_states(rng: np.random.Generator, late: float) -> None:
    """Six photons around the edge of two read-outs, on two CCDs that are read 0.02 s apart."""
    edge = 201 * FRAME_S + late  # within one frame of 5 s
    time = np.array([edge - 1.5, edge - 0.9, edge - 0.1, edge + 0.1, edge + 0.2, edge + 0.3])
    ccd = np.array([2, 3, 2, 2, 3, 2])
    several = Events(time, np.full(6, PLACE[0]), np.full(6, PLACE[1]), ccd, np.arange(6) + 50, 100)
    made = event_list("m1", [scattered(rng), several], SECONDS, good_time=exposures(FRAME_S, late))
    found = facts([made])
    assert (found.n_readouts, found.share_readout, found.n_ccds) == (2, 0.5, 2)
    # without a table all are within one frame time
    assert facts([replace(made, good_time={})]).n_readouts == 1


def test_rows_of_many_readouts_are_no_readouts(rng: np.random.Generator) -> None:
    """Of pn the rows may last for seconds: photons 0.5 s apart are not of one read-out."""
    several = Events(400.0 + np.arange(6) * 0.5, np.full(6, PLACE[0]), np.full(6, PLACE[1]), 2, np.arange(6) + 30, 100)
    made = event_list("pn", [scattered(rng, "pn"), several], SECONDS, good_time=exposures(4.0))
    assert facts([made]).n_readouts == 6


@pytest.mark.parametrize(
    ("submode", "n"), [("PrimeFullWindow", 6), ("PrimeFullWindowExtended", 3), ("PrimeLargeWindow", 6)]
)
def test_pn_is_read_out_as_its_mode_says(rng: np.random.Generator, submode: str, n: int) -> None:
    time = 400.5 + np.arange(6) * 0.1
    several = Events(time, np.full(6, PLACE[0]), np.full(6, PLACE[1]), 2, np.arange(6) + 30, 100)
    made = event_list("pn", [scattered(rng, "pn"), several], SECONDS, submode)
    assert facts([made]).n_readouts == n


def test_live_time_is_that_of_the_ccd_which_sees_the_place(rng: np.random.Generator) -> None:
    """MOS2 has a gap in the good time of one CCD; pn never saw the place."""
    lists = []
    for camera in ("pn", "m1", "m2"):
        sky = scattered(rng, camera)
        inside = np.hypot(sky.x - PLACE[0], sky.y - PLACE[1]) < 1500
        sky = replace(sky, ccd=np.where(inside, 3, 2))
        parts = [sky]
        if camera == "pn":
            keep = ~inside
            parts = [Events(sky.time[keep], sky.x[keep], sky.y[keep], 2, np.asarray(sky.rawx)[keep], 100)]
        else:
            parts.append(burst(rng, 12, 400, 10, ccd=3, rawx=np.arange(12) + 20))
        spans = {2: [[T0, T0 + SECONDS]], 3: [[T0, T0 + SECONDS]]}
        if camera == "m2":
            spans[3] = [[T0, T0 + 430], [T0 + 440, T0 + SECONDS]]
        good = {ccd: CcdTime(np.array(span)) for ccd, span in spans.items()}
        lists.append(event_list(camera, parts, SECONDS, good_time=good))
    found = facts(lists, "50:0.2-12")
    assert found.live == {"pn": 0.0, "m1": 1.0, "m2": pytest.approx(0.8)}
    assert facts(lists[1:2], "50:0.2-12").live == {"m1": 1.0}


def test_an_eclipse_has_no_photons_to_tell_of(rng: np.random.Generator) -> None:
    lit = [(3000.0, PLACE, 0.0, 600.0), (6000.0, PLACE, 800.0, 1200.0)]
    found = facts(three_cameras(rng, SECONDS, lit), "50:0.2-12")
    assert (found.n_pixels, found.n_readouts, found.share_pixel, found.edge_px) == (None, None, None, None)
    assert found.live == {"pn": 1.0, "m1": 1.0, "m2": 1.0}


def test_regions_of_one_view_do_not_mix() -> None:
    """Three at once on other CCDs and cameras, one of them an eclipse: each is as where it is alone in its cells."""
    rng = np.random.default_rng(8)
    middle = float(CENTRE)
    places = {
        "flicker": (middle + 4000, middle),
        "ray": (middle - 5100, middle + 3100),
        "eclipse": (middle, middle - 7000),
    }
    flicker = replace(source(rng, 10, places["flicker"], 400, 40, core=0.5), rawx=77, rawy=401, ccd=3)
    ray = replace(source(rng, 14, places["ray"], 900.2, 2.4, core=0.01), rawx=300 + np.arange(14), rawy=200, ccd=5)
    lit = [source(rng, n, places["eclipse"], *when) for n, when in ((2000, (0.0, 600.0)), (4000, (800.0, 1200.0)))]
    one = event_list("m1", [scattered(rng, rate=1.0), flicker, *lit], SECONDS)
    other = event_list("m2", [scattered(rng, "m2", 1.0), ray], SECONDS)
    (result,) = search([one, other], "50:0.2-12")
    found = {
        name: min(result.found, key=lambda one: np.hypot(one.position.x_px - place[0], one.position.y_px - place[1]))
        for name, place in places.items()
    }
    assert len({one.region.label for one in found.values()}) == 3
    flickers, rays, hidden = (found[name].detector for name in ("flicker", "ray", "eclipse"))
    assert (flickers.n_pixels, flickers.n_ccds, flickers.share_pixel, flickers.edge_px) == (1, 1, 1.0, 76)
    assert (rays.n_pixels, rays.n_ccds, rays.n_readouts, rays.edge_px) == (14, 1, 1, 199)
    assert (hidden.n_pixels, hidden.n_ccds, hidden.edge_px) == (None, None, None)
    for name, place in places.items():  # and each at its own place
        assert np.hypot(found[name].position.x_px - place[0], found[name].position.y_px - place[1]) * 0.05 < 5
