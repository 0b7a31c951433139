"""Regions that a brighter one makes, and those that stand for themselves beside it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.held import search, three_cameras
from helpers.lists import CENTRE, binned
from helpers.views import view_data

from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Voxels
from xscan.results.tables import distinct_places
from xscan.search.observation import ViewResult
from xscan.search.regions import Region
from xscan.search.wings import parents
from xscan.sky import Position

SECONDS = 2000.0


def alone(result: ViewResult) -> list[int]:
    """Labels of the regions that stand for themselves."""
    assert result.search is not None
    return [found.region.label for found in result.found if found.parent is None]


@pytest.mark.parametrize("counts", [400, 1000, 2700])
@pytest.mark.parametrize(("core", "width"), [(5.0, 2.0), (8.0, 2.0), (5.0, 60.0)])
def test_a_burst_is_one_region_with_its_wings(counts: int, core: float, width: float) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        place = tuple(rng.uniform(CENTRE - 5000, CENTRE + 5000, 2).tolist())
        lists = three_cameras(rng, SECONDS, [(counts, place, float(rng.uniform(100, 1800)), width)], core=core)
        for result in search(lists, "5:0.2-12", "50:0.2-12"):
            assert len(alone(result)) == 1
            (label,) = alone(result)
            assert result.search is not None
            assert not result.search.voxels.eclipse[result.found[label].region.members].any()
            assert {found.parent for found in result.found} <= {None, label}


@pytest.mark.parametrize("seed", range(5))
def test_a_second_transient_beside_a_bright_one_stands_for_itself(seed: int) -> None:
    """20 counts 90 arcsec away, at the same time, where the wings give half a count in each cell."""
    rng = np.random.default_rng(seed)
    place = float(CENTRE + 200), float(CENTRE - 300)
    beside = place[0] + 90 / 0.05, place[1]
    bursts = [(1200.0, place, 700.0, 2.0), (26.0, beside, 700.0, 2.0)]
    (result,) = search(three_cameras(rng, SECONDS, bursts), "5:0.2-12")
    places = [found.position for found in result.found if found.parent is None]
    assert len(places) == 2
    near = min(np.hypot(place.x_px - beside[0], place.y_px - beside[1]) * 0.05 for place in places)
    assert near < 6


@pytest.mark.parametrize(("n", "parent"), [(3, 0), (5, 0), (8, 0), (20, None)])
def test_wings_explain_as_many_counts_as_they_have(n: int, parent: int | None) -> None:
    """A cell 60 arcsec from a source of 1,400 counts, of which 2 are expected in it."""
    bright = int(1400 * 0.65)  # what of a King profile falls in the cell round its place
    voxels = Voxels(
        np.array([10, 13], np.int32), np.array([10, 10], np.int32), np.array([3, 3], np.int32),
        np.array([bright, n], np.int32), np.full(2, 0.01), np.zeros(2, bool),
    )  # fmt: skip
    photons = binned([15_000] * (bright + n), [60] * bright + [63] * n, 60)
    grid = Grid(0.0, 5000, 10, 129, Box(50, 80, 50, 80), EPIC.sky)
    template = np.full((2, 30, 30), 0.01)
    expected = Expectation(template, 0 * template, np.ones(10), np.ones(10), np.zeros(10, np.uint8))
    regions = [Region(k, Box(x, x + 1, 60, 61), 1, x, 60, np.array([k])) for k, x in enumerate((60, 63))]
    positions = [Position(float(grid.to_pixel(x)), float(grid.to_pixel(60)), 0, 0, 1) for x in (60, 63)]
    by_camera = np.array([[0, 1, 0], [0, 1, 0]]) * voxels.n[:, None]
    assert parents(regions, positions, view_data(voxels, photons, expected, grid), by_camera) == [None, parent]


def test_a_transient_at_another_time_stands_for_itself(rng: np.random.Generator) -> None:
    place = float(CENTRE + 200), float(CENTRE - 300)
    bursts = [(2000.0, place, 700.0, 2.0), (15.0, (place[0] + 60 / 0.05, place[1]), 900.0, 2.0)]
    (result,) = search(three_cameras(rng, SECONDS, bursts), "5:0.2-12")
    assert len(alone(result)) == 2


def test_an_eclipse_of_a_source_that_also_flares_stands_for_itself(rng: np.random.Generator) -> None:
    place = float(CENTRE + 200), float(CENTRE - 300)
    lit = [(3000.0, place, 0.0, 600.0), (6000.0, place, 800.0, 1200.0), (300.0, place, 1500.0, 10.0)]
    (result,) = search(three_cameras(rng, SECONDS, lit), "50:0.2-12")
    assert result.search is not None
    kinds = [bool(result.search.voxels.eclipse[found.region.members[0]]) for found in result.found]
    assert kinds.count(True) >= 1
    assert all(found.parent is None for found, eclipse in zip(result.found, kinds, strict=True) if eclipse)


def test_children_are_no_places_of_their_own() -> None:
    row = {"obsid": "1", "dec_deg": 0.0, "parent": None}
    rows = [row | {"ra_deg": 1.0, "log10_p_min": -90.0}, row | {"ra_deg": 1.02, "log10_p_min": -9.0, "parent": "a"}]
    rows.append(row | {"ra_deg": 1.5, "log10_p_min": -8.0})
    assert [place["ra_deg"] for place in distinct_places(rows, 10)] == [1.0, 1.5]
