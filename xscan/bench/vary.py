"""Derive observations from another in memory: brighter, longer, or with a pause."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from xscan.events.gti import Floats
from xscan.model import CcdTime, EventList, Observation
from xscan.search.subsets import good_intervals

__all__ = ["brighter", "emptier", "longer"]

BETWEEN_S = 10.0  # read-out frames may begin a little before the first event and end after the last one


def brighter(observation: Observation, factor: float, seed: int = 1) -> Observation:
    """Return an observation with more or fewer events in the same time.

    Made from whole copies of the events, and a random part of them. Where there are copies, the
    times are permuted within each CCD: positions and rates are preserved, and counts in
    voxels are random again. Plain copies would scatter too much (n times a Poisson number), and
    fill the sky with transients.

    Examples
    --------
    Half as many events again, in the same time:

    >>> made = brighter(observation, 1.5)
    >>> before, after = (each.lists[0] for each in (observation, made))
    >>> round(after.time.size / before.time.size, 2), after.event_span == before.event_span
    (1.5, True)
    """
    rng = np.random.default_rng(seed)
    return dataclasses.replace(observation, lists=tuple(_brighter(events, factor, rng) for events in observation.lists))


def _brighter(events: EventList, factor: float, rng: np.random.Generator) -> EventList:
    n = events.time.size
    parts = [np.arange(n)] * int(factor)
    parts.append(np.sort(rng.choice(n, round((factor - int(factor)) * n), replace=False)))
    index = np.concatenate(parts)
    made = _taken(events, index)
    if factor <= 1:
        return made
    time = made.time
    for ccd in np.unique(made.ccd):
        mine = np.nonzero(made.ccd == ccd)[0]
        time[mine] = time[rng.permutation(mine)]
    return _taken(made, np.lexsort((time, made.ccd)))  # by CCD, then by time, as event lists are


def longer(observation: Observation, copies: int) -> Observation:
    """Return an observation that is followed by copies of itself, events and good time alike.

    Examples
    --------
    >>> twice = longer(observation, 2)
    >>> [after.time.size / before.time.size for before, after in zip(observation.lists, twice.lists, strict=True)]
    [2.0, 2.0, 2.0]
    """
    first = min(events.event_span[0] for events in observation.lists)
    last = max(events.event_span[1] for events in observation.lists)
    step = np.ceil(last + BETWEEN_S) - np.floor(first)
    return dataclasses.replace(
        observation, lists=tuple(_longer(events, copies, float(step)) for events in observation.lists)
    )


def _longer(events: EventList, copies: int, step_s: float) -> EventList:
    made = _taken(events, np.tile(np.arange(events.time.size), copies))
    later = np.repeat(np.arange(copies) * step_s, events.time.size)
    good = {
        ccd: CcdTime(
            np.concatenate([held.gti + i * step_s for i in range(copies)]),
            None if held.livetime is None else _repeated(held.livetime, copies, step_s),
        )
        for ccd, held in events.good_time.items()
    }
    first, last = events.event_span
    return dataclasses.replace(
        made, time=made.time + later, good_time=good, event_span=(first, last + (copies - 1) * step_s)
    )


def _repeated(curve: Floats, copies: int, step_s: float) -> Floats:
    """Return a curve of live time followed by copies of itself, each ``step_s`` later."""
    shift = np.array([[step_s], [curve[1, -1]]])
    return np.concatenate([curve + i * shift for i in range(copies)], axis=1)


def emptier(observation: Observation, factor: float) -> Observation:
    """Return an observation with a pause in its middle, ``factor`` times as long as the observation.

    Examples
    --------
    Nothing is added but a pause, of twice the length:

    >>> made = emptier(observation, 2.0)
    >>> before, after = (each.lists[0] for each in (observation, made))
    >>> after.time.size == before.time.size, round(float(np.ptp(after.time) / np.ptp(before.time)), 1)
    (True, 3.0)
    """
    spans = np.concatenate([good_intervals(events) for events in observation.lists])
    start, stop = float(spans.min()), float(spans.max())
    middle, pause = (start + stop) / 2, factor * (stop - start)
    return dataclasses.replace(
        observation, lists=tuple(_emptier(events, middle, pause) for events in observation.lists)
    )


def _emptier(events: EventList, middle: float, pause_s: float) -> EventList:
    def moved(spans: Floats) -> Floats:
        """Return intervals cut at the middle, with everything after it moved."""
        before, after = spans[spans[:, 0] < middle].copy(), spans[spans[:, 1] > middle].copy()
        before[:, 1] = np.minimum(before[:, 1], middle)
        after[:, 0] = np.maximum(after[:, 0], middle)
        return np.concatenate([before, after + pause_s])

    def paused(curve: Floats) -> Floats:
        """Return a curve of live time that stays constant during the pause."""
        place = np.searchsorted(curve[0], middle)
        live = np.interp(middle, *curve)
        rest = np.array([[middle, middle + pause_s], [live, live]])
        return np.concatenate([curve[:, :place], rest, curve[:, place:] + [[pause_s], [0.0]]], axis=1)

    good = {
        ccd: CcdTime(moved(held.gti), None if held.livetime is None else paused(held.livetime))
        for ccd, held in events.good_time.items()
    }
    first, last = events.event_span
    return dataclasses.replace(
        events,
        time=np.where(events.time > middle, events.time + pause_s, events.time),
        good_time=good,
        event_span=(first, last + pause_s),
    )


def _taken(events: EventList, index: NDArray[np.intp]) -> EventList:
    """Return chosen events of a list."""
    return dataclasses.replace(
        events,
        time=events.time[index],
        x=events.x[index],
        y=events.y[index],
        pi=events.pi[index],
        ccd=events.ccd[index],
    )
