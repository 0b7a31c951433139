from __future__ import annotations

import itertools

import numpy as np
import pytest

from xscan.config import Rules
from xscan.errors import Reason
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CcdTime, EventList, InputFile
from xscan.search.subsets import make_subsets
from xscan.sky import TangentPlane

OURS = Rules()
LEGACY = Rules(best_exposures=False, live_time_rejection=False)
PLANE = TangentPlane(150.0, 2.0)


def make(
    camera: str, exposure: str, start: float, stop: float, plane: TangentPlane = PLANE, telapse: float = 0.0
) -> EventList:
    """A list that is good from start to stop."""
    column = np.array([], np.uint16)
    info = InputFile(f"{camera}{exposure}", 1, camera=camera, exposure=exposure)
    good = {1: CcdTime(np.array([[start, stop]], float))} if stop > start else {}
    span = (float(start), float(stop))
    return EventList(
        info,
        plane,
        850,
        telapse or stop - start,
        column.astype(float),
        *[column] * 4,
        column.astype(np.uint32),
        span,
        good,
        EPIC,
    )


def names(lists: list[EventList], rules: Rules = OURS) -> tuple[list[list[str]], dict[str, Reason | None]]:
    subsets, skipped = make_subsets(tuple(lists), rules)
    return (
        [[events.info.file for events in subset.lists] for subset in subsets],
        {info.file: info.reason for info in skipped},
    )


def test_three_cameras_are_one_subset() -> None:
    lists = [make("m2", "S3", 0, 90), make("pn", "S1", 10, 100), make("m1", "S2", 0, 95)]
    subsets, skipped = make_subsets(tuple(lists), OURS)
    assert [[e.camera for e in subset.lists] for subset in subsets] == [["pn", "m1", "m2"]]
    assert (subsets[0].number, subsets[0].t0, subsets[0].t1) == (0, 10, 90)
    assert skipped == []


def test_lists_apart_in_time_are_subsets_in_order_of_time() -> None:
    lists = [make("m1", "U2", 200, 300), make("m1", "S1", 0, 100), make("m2", "S1", 5, 100)]
    assert names(lists)[0] == [["m1S1", "m2S1"], ["m1U2"]]


def test_one_list_per_camera_and_the_others_are_searched_apart() -> None:
    lists = [make("m1", "S1", 0, 1000), make("pn", "S2", 0, 600), make("pn", "U3", 610, 1000)]
    assert names(lists)[0] == [["pnS2", "m1S1"], ["pnU3"]]


def test_most_common_time_wins_over_length() -> None:
    lists = [make("m1", "S1", 0, 400), make("pn", "S2", 0, 390), make("pn", "U3", 395, 2000)]
    assert names(lists)[0] == [["pnS2", "m1S1"], ["pnU3"]]


def test_exod2_keeps_up_to_three_lists_else_the_longest_per_camera() -> None:
    three = [make("m1", "S1", 0, 1000), make("pn", "S2", 0, 600), make("pn", "U3", 590, 1000)]
    assert names(three, LEGACY) == ([["pnS2", "pnU3", "m1S1"]], {})
    four = [*three, make("m2", "S4", 0, 1000)]
    assert names(four, LEGACY) == ([["pnS2", "m1S1", "m2S4"]], {"pnU3": Reason.NOT_CHOSEN})


def test_a_chain_may_have_no_time_in_common() -> None:
    lists = [make("pn", "S1", 0, 100), make("m1", "S2", 90, 210), make("m2", "S3", 200, 300)]
    found, skipped = names(lists)
    assert found == []
    assert set(skipped.values()) == {Reason.NO_COMMON_TIME}


def test_another_tangent_plane_is_left_out() -> None:
    near, far = TangentPlane(150.0, 2.0 + 0.04 / 3600), TangentPlane(150.0, 2.0 + 0.06 / 3600)
    lists = [make("pn", "S1", 0, 100), make("m1", "S2", 0, 90, near), make("m2", "S3", 0, 80, far)]
    assert names(lists) == ([["pnS1", "m1S2"]], {"m2S3": Reason.OTHER_PLANE})


def test_another_reference_pixel_is_left_out() -> None:
    odd = TangentPlane(150.0, 2.0, crpix=25_000.0)
    lists = [make("pn", "S1", 0, 100), make("m1", "S2", 0, 90, odd)]
    assert names(lists) == ([["pnS1"]], {"m1S2": Reason.OTHER_PLANE})


def test_lists_that_only_touch_are_apart() -> None:
    assert names([make("pn", "S1", 0, 100), make("m1", "S2", 100, 200)])[0] == [["pnS1"], ["m1S2"]]


def test_all_events_at_one_time() -> None:
    assert names([make("pn", "S1", 50, 50)]) == ([], {"pnS1": Reason.NO_GOOD_TIME})


@pytest.mark.parametrize("rules", [OURS, LEGACY])
def test_order_of_lists_is_irrelevant(rules: Rules) -> None:
    lists = [
        make("pn", "S1", 0, 100), make("pn", "U2", 101, 200), make("m1", "S3", 0, 200),
        make("m2", "S4", 0, 200), make("m2", "U5", 500, 600),
    ]  # fmt: skip
    expected = names(lists, rules)
    for order in itertools.permutations(lists):
        assert names(list(order), rules) == expected
