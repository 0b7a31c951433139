"""A field that moves raises a remark; sources that come and go do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.held import search, three_cameras
from helpers.lists import CENTRE, T0

import xscan
from xscan.config import View, load_config
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.model import Observation
from xscan.pipeline.outcome import summarize
from xscan.pipeline.scan import ScanSettings, search_to_tables
from xscan.results.tables import Provenance
from xscan.search import observation
from xscan.search.observation import ViewResult

SECONDS = 20_000.0
Sources = list[tuple[float, tuple[float, float], float, float]]


def sky(rng: np.random.Generator, n_sources: int, n_transients: int) -> Sources:
    """Steady sources, most of them faint, and bursts and flares."""
    rates = np.minimum(0.002 * rng.pareto(1.2, n_sources) + 0.001, 0.2)
    rates[:2] = rng.uniform(0.05, 0.4, 2)
    places = rng.uniform(CENTRE - 8000, CENTRE + 8000, (n_sources + n_transients, 2))
    sources = [(rate * SECONDS, (x, y), 0.0, SECONDS) for rate, (x, y) in zip(rates, places, strict=False)]
    for x, y in places[n_sources:]:
        counts, width = np.exp(rng.uniform([2.5, 1.1], [6, 7]))
        sources.append((counts, (x, y), rng.uniform(0.05, 0.9) * SECONDS, width))
    return sources


def remarks(results: list[ViewResult]) -> set[str]:
    return {remark for result in results for remark in result.remarks}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_transients", [0, 3, 5])
def test_a_field_at_rest_raises_no_remark(seed: int, n_transients: int) -> None:
    rng = np.random.default_rng(seed)
    results = search(
        three_cameras(rng, SECONDS, sky(rng, 20, n_transients), reach_px=14_000), "50:0.2-12", "200:0.2-12"
    )
    assert remarks(results) == set()
    if n_transients == 5:
        assert sum(len(result.found) for result in results) > 2


@pytest.mark.parametrize(("arcmin", "n_sources"), [(1, 10), (1, 30), (2, 20), (5, 10)])
@pytest.mark.parametrize("seed", range(2))
def test_a_field_that_moves_raises_one(seed: int, arcmin: float, n_sources: int) -> None:
    rng = np.random.default_rng(seed)
    moment, angle = rng.uniform(0.3, 0.7) * SECONDS, rng.uniform(0, 2 * np.pi)
    shift = moment, arcmin * 1200 * np.cos(angle), arcmin * 1200 * np.sin(angle)
    lists = three_cameras(rng, SECONDS, sky(rng, n_sources, 2), shift, reach_px=14_000)
    results = search(lists, "50:0.2-12", "200:0.2-12")
    assert sum(len(result.found) for result in results) > 0
    (remark, *_) = remarks(results)
    said = float(remark.split("moved about ")[1].split(" s")[0])
    assert abs(said - T0 - moment) < SECONDS / 16


@pytest.mark.parametrize("eighths", [1, 2, 4, 7])
def test_a_field_that_moves_early_or_late(eighths: int) -> None:
    """The moments that are always tested are three and five eighths; the others follow from a hint there."""
    rng = np.random.default_rng(eighths)
    moment = eighths / 8 * SECONDS
    lists = three_cameras(rng, SECONDS, sky(rng, 30, 2), (moment, 6000.0, 0.0), reach_px=14_000)
    (remark,) = remarks(search(lists, "50:0.2-12"))
    assert abs(float(remark.split("moved about ")[1].split(" s")[0]) - T0 - moment) <= SECONDS / 8


@pytest.mark.parametrize("arcmin", [0.0, 2.0])
def test_a_real_list_whose_later_half_is_moved(real_observation: Path, arcmin: float) -> None:
    """One camera alone: peaks beside eclipses, where nothing is if it is left at rest."""
    held = xscan.read(real_observation)
    (mos,) = [events for events in held.lists if events.camera == "m1"]
    by = np.int64(arcmin * 1200) * (mos.time > np.median(mos.time))
    moved = replace(mos, x=np.clip(mos.x + by, 1, 51_840).astype(np.uint16), y=mos.y)
    results = search([moved], "50:0.2-12", "200:0.2-12")
    assert bool(remarks(results)) == bool(arcmin)


def test_a_remark_reaches_the_run_and_its_summary() -> None:
    rng = np.random.default_rng(1)
    lists = three_cameras(rng, SECONDS, sky(rng, 20, 2), (9000.0, 2400.0, 0.0), reach_px=14_000)
    held = Observation("0999999901", tuple(lists), (), None, None)
    config = load_config(views=(View(200.0, 0.2, 12.0),))
    scanner = ScanSettings(config, "default", HotPixels(), "numba").scanner()
    tables = search_to_tables(held, scanner, Provenance("0", "default", "a", "b", "numba"), 0.0)
    (remark,) = tables.runs["remarks"].to_pylist()
    assert remark.startswith("the pointing or the background moved about ")
    assert f"view 200:0.2-12: {remark}" in summarize(tables, 1.0).remarks


@pytest.mark.parametrize(("free", "tied", "nt", "is_asked"), [(2, 0, 8, True), (1, 3, 8, False), (2, 0, 7, False)])
def test_it_takes_two_regions_and_eight_frames(
    free: int, tied: int, nt: int, is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regions in the wings of another are none of their own."""
    monkeypatch.setattr(observation, "remark_on_moves", lambda *_: "moved")
    view = SimpleNamespace(grid=SimpleNamespace(nt=nt), pi_range=(200, 12_000))
    found = tuple(SimpleNamespace(parent=parent) for parent in [None] * free + [0] * tied)
    remark = observation._moved(view, found, SimpleNamespace(moves={}))
    assert remark == ("moved" if is_asked else None)
