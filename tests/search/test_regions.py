from __future__ import annotations

import numpy as np
import pytest
from helpers.held import search, three_cameras
from helpers.lists import CENTRE, binned
from helpers.views import view_data
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from skimage.measure import label, regionprops

from xscan.config import Rules
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Frames, Voxels
from xscan.search.regions import Region, _first_of_group, regions

GRID = Grid(0.0, 5000, 10, 129, Box(20, 32, 40, 50), EPIC.sky)
COLLAPSED = Rules(labels_in_time=False)
Cell = tuple[int, int, int]


def voxels(cells: list[Cell], eclipse: bool = False, n: int = 30) -> Voxels:
    """From (y, x, t)."""
    y, x, t = np.array(sorted(cells), np.int32).reshape(-1, 3).T
    k = t.size
    mu = np.full(k, 20.0 if eclipse else 0.1)
    return Voxels(x, y, t, np.full(k, 0 if eclipse else n, np.int32), mu, np.full(k, eclipse))


def together(*several: Voxels) -> Voxels:
    columns = [np.concatenate([getattr(one, name) for one in several]) for name in Voxels.__slots__]
    order = np.lexsort((columns[2], columns[0], columns[1]))
    return Voxels(*(column[order] for column in columns))


def gathered(
    found: Voxels,
    image: np.ndarray | None = None,
    rules: Rules | None = None,
    nt: int = 10,
    rejected: list[int] | None = None,
    between: list[tuple[int, int, int, int]] | None = None,
) -> list[Region]:
    """Regions of voxels whose cells send nothing else but ``between``: (y, x, t, n)."""
    grid = Grid(0.0, 5000, nt, 129, GRID.box, EPIC.sky)
    level = 20.0 if found.eclipse.any() else 0.1
    frames = Frames(np.zeros(nt, bool), np.isin(np.arange(nt), rejected or []), np.ones(nt))
    template = np.full((2, 10, 12), level)
    expected = Expectation(template, 0 * template, 1.0 * ~frames.rejected, 0.0 * frames.live, np.zeros(nt, np.uint8))
    sent = [*zip(found.y.tolist(), found.x.tolist(), found.t.tolist(), found.n.tolist(), strict=True), *(between or [])]
    y, x, t, n = np.array(sent).reshape(-1, 4).T
    photons = binned(*(np.repeat(values, n) for values in (t * 5000, x + 20, y + 40)), pi=500)
    image = np.ones((10, 12), np.int64) if image is None else image
    data = view_data(found, photons, expected, grid, frames=frames, image=image)
    return regions(data, (rules or Rules()).labels_in_time)


CELLS = st.sets(st.tuples(st.integers(0, 9), st.integers(0, 11), st.integers(0, 9)), min_size=1, max_size=40)


@given(CELLS)
def test_regions_against_skimage(cells: set[Cell]) -> None:
    """EXOD2's way: labels, boxes and centroids as scikit-image gives them on its (x, y) arrays."""
    found_voxels = voxels(list(cells))
    image = np.random.default_rng(len(cells)).integers(0, 9, (10, 12))
    image[found_voxels.y, found_voxels.x] += 1
    flat = np.zeros((12, 10), bool)
    flat[found_voxels.x, found_voxels.y] = True
    theirs = regionprops(label(flat, connectivity=2), intensity_image=image.T)
    ours = gathered(found_voxels, image, COLLAPSED)
    assert [r.label for r in ours] == list(range(len(theirs)))
    for mine, other in zip(ours, theirs, strict=True):
        x0, y0, x1, y1 = other.bbox
        assert mine.box == Box(x0 + 20, x1 + 20, y0 + 40, y1 + 40)
        assert mine.area == other.area
        assert (mine.x - 20, mine.y - 40) == pytest.approx(other.centroid_weighted)
    members = np.concatenate([r.members for r in ours])
    assert sorted(members) == list(range(len(found_voxels)))


@given(CELLS)
def test_bright_voxels_are_one_region_where_they_touch_in_space_and_time(cells: set[Cell]) -> None:
    """Where a frame without counts shows that an event ended, regions are what a cube's labels are."""
    found = voxels(list(cells))
    cube = np.zeros((12, 10, 10), bool)  # (x, y, t): the order of labels
    cube[found.x, found.y, found.t] = True
    labels, n = ndimage.label(cube, np.ones((3, 3, 3)))
    ours = gathered(found)
    assert len(ours) == n
    for region in ours:
        mine = found.x[region.members], found.y[region.members], found.t[region.members]
        assert set(labels[mine].tolist()) == {region.label + 1}


def test_diagonal_neighbours_are_one_region() -> None:
    assert len(gathered(voxels([(1, 1, 0), (2, 2, 1), (3, 1, 2)]))) == 1
    assert len(gathered(voxels([(1, 1, 0), (1, 3, 0)]))) == 2


def test_two_times_are_two_regions_in_order_of_x_y_t() -> None:
    cells = [(1, 1, 8), (2, 2, 5), (1, 1, 0), (0, 5, 0)]
    found = voxels(cells)
    ours = gathered(found)
    first = [(int(found.x[r.members[0]]), int(found.y[r.members[0]]), int(found.t[r.members[0]])) for r in ours]
    assert first == [(1, 1, 0), (1, 1, 8), (2, 2, 5), (5, 0, 0)]
    assert len(gathered(found, rules=COLLAPSED)) == 2


def test_rejected_frames_say_nothing() -> None:
    found = voxels([(1, 1, 1), (1, 1, 8)])
    assert len(gathered(found)) == 2
    assert len(gathered(found, rejected=[2, 3, 4, 5, 6, 7])) == 1
    assert len(gathered(found, rejected=[2, 3, 5, 6, 7])) == 2


def test_a_short_quiet_time_does_not_end_a_faint_event() -> None:
    """Flagged with four counts it may have one a frame: none in six frames may be by chance, none in nine is not."""
    assert len(gathered(voxels([(1, 1, 1), (1, 1, 8)], n=4))) == 1
    assert len(gathered(voxels([(1, 1, 1), (1, 1, 11)], n=4), nt=12)) == 2
    assert len(gathered(voxels([(1, 1, 1), (1, 1, 3)], n=40))) == 2


def test_counts_in_between_tell_that_an_event_goes_on() -> None:
    found = voxels([(1, 1, 10), (1, 1, 90)], n=4)
    still = [(1, 1, t, 1) for t in range(11, 90, 2)]
    assert len(gathered(found, nt=100)) == 2
    assert len(gathered(found, nt=100, between=still)) == 1
    assert len(gathered(found, nt=100, between=still[::8])) == 2  # 5 where 8 are expected
    beside = voxels([(1, 1, 10), (2, 2, 90)], n=4)
    assert len(gathered(beside, nt=100, between=still)) == 1


def test_an_eclipse_that_is_flagged_now_and_then_is_one_region() -> None:
    found = voxels([(1, 1, t) for t in (10, 12, 15, 40)], eclipse=True)
    weak = [(1, 1, t, 3) for t in range(11, 40) if t not in (12, 15)]
    full = [(1, 1, t, 20) for t in range(16, 40)]
    assert len(gathered(found, nt=60, between=weak)) == 1
    assert len(gathered(found, nt=60, between=[*weak[:3], *full])) == 2


def spread(n: int, frames: list[int]) -> list[tuple[int, int, int, int]]:
    """So many counts in a cell, as even as they can be."""
    return [(1, 1, t, n // len(frames) + (k < n % len(frames))) for k, t in enumerate(frames)]


@pytest.mark.parametrize("quiet", [1, 2, 3, 5, 8])
def test_an_eclipse_goes_on_while_a_quarter_of_it_may_be_left(quiet: int) -> None:
    """Flagged without counts where 20 are expected: 19 of 20 are surely missing; a quarter of these, in between."""
    found = voxels([(1, 1, 1), (1, 1, 2 + quiet)], eclipse=True)
    level = 20 * quiet * (1 - 0.25 * 19 / 20)
    most = int(stats.poisson.isf(1e-3, level))
    assert stats.poisson.sf(most - 1, level) >= 1e-3 > stats.poisson.sf(most, level)
    between = list(range(2, 2 + quiet))
    assert len(gathered(found, between=spread(most, between), nt=12)) == 1
    assert len(gathered(found, between=spread(most + 1, between), nt=12)) == 2


@pytest.mark.parametrize("n", [2, 3, 4, 6, 12])
def test_a_peak_goes_on_while_a_quarter_of_it_may_be_left(n: int) -> None:
    """Flagged with n counts where 0.1 are expected: so many frames without any happen once in a thousand."""
    most = int(np.log(1000) / (0.1 + 0.25 * (n - 0.1)))
    assert len(gathered(voxels([(1, 1, 1), (1, 1, 2 + most)], n=n), nt=20)) == 1
    assert len(gathered(voxels([(1, 1, 1), (1, 1, 3 + most)], n=n), nt=20)) == 2


def test_too_many_and_too_few_counts_are_never_one_region() -> None:
    both = together(voxels([(1, 1, 1), (1, 1, 2)]), voxels([(1, 1, 3), (1, 2, 3)], eclipse=True))
    assert sorted(len(region.members) for region in gathered(both)) == [2, 2]
    assert len(gathered(both, rules=COLLAPSED)) == 1


def test_a_region_without_counts_has_a_place() -> None:
    (found,) = gathered(voxels([(1, 1, 0), (1, 2, 0)], eclipse=True), np.zeros((10, 12), np.int64))
    assert (found.x, found.y) == (21.5, 41.0)


def test_two_bursts_at_one_place_are_two_events_and_a_long_flare_is_one(rng: np.random.Generator) -> None:
    """The flare is flagged in some of its 18 frames of 50 s, in several cells."""
    repeats, flare = (CENTRE + 1500.0, CENTRE - 900.0), (CENTRE - 3000.0, CENTRE + 2500.0)
    planted = [(40.0, repeats, 1000.0, 8.0), (40.0, repeats, 16_000.0, 8.0), (300.0, flare, 5000.0, 900.0)]
    (result,) = search(three_cameras(rng, 20_000.0, planted), "50:0.2-12")
    assert result.search is not None
    frames = sorted((result.search.voxels.t[found.region.members] for found in result.found), key=np.min)
    spans = [(int(t.min()) * 50, int(t.max() + 1) * 50) for t in frames]
    assert spans == [(1000, 1050), spans[1], (16_000, 16_050)]
    assert 5000 <= spans[1][0] < 5200 < 5700 < spans[1][1] <= 5900
    assert np.unique(frames[1]).size < (spans[1][1] - spans[1][0]) / 50


@given(st.integers(1, 30), st.data())
def test_groups_of_pairs_as_joined_one_by_one(k: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), max_size=40))
    group = list(range(k))
    for a, b in pairs:
        low, high = sorted((group[a], group[b]))
        group = [low if one == high else one for one in group]
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    np.testing.assert_array_equal(_first_of_group(one, other, k), group)
