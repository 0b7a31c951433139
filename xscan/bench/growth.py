"""Measure how cost grows with events, voxels and empty frames, by searching observations made in memory.

All are derived from one observation that was read from disk; the measurement begins after reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from xscan.backends import Backend
from xscan.bayes import thresholds
from xscan.bench.clock import Seconds, measured, rounds, timed
from xscan.bench.record import Measurement
from xscan.bench.vary import brighter, emptier, longer
from xscan.config import ScanConfig, View, load_config
from xscan.model import Expectation, Observation
from xscan.search.observation import search_observation

__all__ = ["CURVES", "Curve", "consume", "grow"]

MOST_EVENTS = 20_000_000
FRAME_LENGTHS_S = (200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5)
BAND_KEV = (0.2, 12.0)
COPIES = (1, 2, 4, 8)
SHARES = (1 / 64, 1 / 16, 1 / 4)
PAUSES = (0, 1, 3, 9)
LONGEST_S = 10.0
BUDGET_S = 6.0
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Curve:
    """One property that is varied.

    Attributes
    ----------
    title : str
    varied : str
        Key in ``at`` of the varied property; empty if it is the number of events.
    heading : str
        Table heading of the property, with its unit.
    """

    title: str
    varied: str = ""
    heading: str = ""


CURVES = {
    "growth: brighter": Curve("more events in the same time"),
    "growth: longer": Curve("the same rate for a longer time"),
    "growth: frames": Curve("shorter frames, so more voxels, in one view", "frame_s", "frame (s)"),
    "growth: empty": Curve("the same events with a pause in the middle", "empty_percent", "empty frames (%)"),
}
"""The curves, by the ``what`` of their measurements."""


def grow(observation: Observation, backend: Backend, say: Callable[[str], None]) -> list[Measurement]:
    """Measure all curves of one backend.

    A curve ends after the first point that takes more than ten seconds of CPU.

    Parameters
    ----------
    observation : Observation
    backend : Backend
    say : callable
        Called with a line for each curve, for progress.

    Returns
    -------
    list of Measurement
        CPU and wall of every point, ``what`` as in :data:`CURVES`; ``at`` holds the events in the
        lists, the voxels of all views, the share of them that could be eclipses (mu above the
        first limit), the regions found, and what the curve varies.
    """
    taken: list[Measurement] = []
    for what in CURVES:
        say(f"{backend.name}: {what}, {CURVES[what].title}")
        for made, config, at in _points(what, observation):
            cpu, wall = _point(what, made, config, backend, at)
            taken += [cpu, wall]
            if cpu.median > LONGEST_S:
                break
    return taken


def _points(what: str, observation: Observation) -> Iterator[tuple[Observation, ScanConfig, dict[str, float]]]:
    nine = load_config("views")
    n = sum(events.time.size for events in observation.lists)
    copies = [*COPIES, MOST_EVENTS / n]
    if what == "growth: brighter":
        for factor in [*SHARES, *copies]:
            yield brighter(observation, factor), nine, {}
    elif what == "growth: longer":
        for factor in copies:
            yield longer(observation, round(factor)), nine, {}
    elif what == "growth: frames":
        for dt_s in FRAME_LENGTHS_S:
            yield observation, load_config(views=(View(dt_s, *BAND_KEV),)), {"frame_s": dt_s}
    else:
        for factor in PAUSES:
            yield emptier(observation, factor), nine, {"empty_percent": 100 * factor / (1 + factor)}


def _point(
    what: str, observation: Observation, config: ScanConfig, backend: Backend, at: dict[str, float]
) -> list[Measurement]:
    """Search once to warm up and to count voxels and regions, then measure."""
    voxels, eligible, regions = 0, 0, 0
    searches, _ = search_observation(observation, config, backend)
    for subset in searches:
        for result in subset.views:
            if result.search is not None:
                limits = thresholds(config.sigma, result.search.counts.n_max())
                regions += len(result.found)
                voxels += int(np.prod(result.search.grid.shape))
                eligible += _above(result.search.expected, float(limits.mu_eclipse[0]))
    at = at | {
        "events": float(sum(events.time.size for events in observation.lists)),
        "voxels": float(voxels),
        "eligible": eligible / voxels,
        "regions": float(regions),
    }
    samples: list[Seconds] = []
    for _ in rounds(ROUNDS, BUDGET_S):
        samples.append(timed(lambda: consume(observation, config, backend)))
    return measured(what, "", backend.name, samples, at)


def consume(observation: Observation, config: ScanConfig, backend: Backend) -> None:
    """Search an observation, and discard the results."""
    searches, _ = search_observation(observation, config, backend)
    for subset in searches:
        for _ in itertools.chain(subset.windows, subset.views):
            pass


def _above(expected: Expectation, limit: float) -> int:
    """Return the number of voxels whose mu is above a limit; only cells that can have one are examined."""
    most = np.zeros(expected.template.shape[1:])
    for kind in (0, 1):
        chosen = expected.kind == kind
        if chosen.any():
            rate, live = expected.background_counts[chosen].max(), expected.live[chosen].max()
            most = np.maximum(most, expected.template[kind] * rate + expected.source[kind] * live)
    cells = zip(*np.nonzero(most > limit), strict=True)
    return sum(int(np.count_nonzero(expected.row(int(y), int(x), int(x) + 1) > limit)) for y, x in cells)
