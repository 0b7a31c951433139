"""Choose which event lists are searched together: exposures of different cameras that share time."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np

from xscan.config import Rules
from xscan.errors import Reason
from xscan.events.gti import Floats, intersect, union
from xscan.model import EventList, InputFile
from xscan.search import exod2
from xscan.sky import PLANE_TOLERANCE_ARCSEC, separation_arcsec

__all__ = ["Subset", "good_intervals", "make_subsets", "time_span"]


@dataclass(frozen=True, slots=True)
class Subset:
    """Event lists that are searched together.

    Attributes
    ----------
    number : int
        From 0, in order of time.
    lists : tuple of EventList
        Ordered by camera.
    t0, t1 : float
        Time range searched, s: the time in which every list was taking data.
    """

    number: int
    lists: tuple[EventList, ...]
    t0: float
    t1: float


def good_intervals(events: EventList) -> Floats:
    """Return the time in which any CCD of a list was taking data, shape (k, 2), s.

    Without good-time tables it is the time from the first to the last event.

    Examples
    --------
    All four CCDs of a list have good time from 0 to 100 s:

    >>> good_intervals(events).tolist()
    [[0.0, 100.0]]
    """
    if not events.good_time:
        return np.array([events.event_span])
    spans = np.concatenate([good.gti for good in events.good_time.values()])
    return union(spans[:, 0], spans[:, 1])


def time_span(events: EventList) -> tuple[float, float]:
    """Return start and end of a list's good time, s.

    Examples
    --------
    >>> time_span(events)  # good time from 0 to 100 s
    (0.0, 100.0)
    """
    intervals = good_intervals(events)
    return float(intervals[0, 0]), float(intervals[-1, 1])


def make_subsets(lists: tuple[EventList, ...], rules: Rules) -> tuple[list[Subset], list[InputFile]]:
    """Group lists by the time they share.

    Lists whose spans overlap, directly or through other lists, form a group. From each group one list per
    camera is searched: the choice with most good time in common. With ``rules.best_exposures`` the remaining
    lists of a group are grouped again and searched as further subsets, so that no exposure is lost.

    Returns
    -------
    subsets : list of Subset
    skipped : list of InputFile
        Lists that are in no subset, each with its reason.

    Examples
    --------
    Two exposures of one camera, the second of which has 40 s of good time, are searched one after the other:

    >>> from xscan.model import CcdTime
    >>> info = dataclasses.replace(events.info, exposure="S002")
    >>> short = dataclasses.replace(events, info=info, good_time={1: CcdTime(np.array([[30.0, 70.0]]))})
    >>> subsets, skipped = make_subsets((events, short), Rules())
    >>> [(subset.lists[0].info.exposure, subset.t0, subset.t1) for subset in subsets], skipped
    ([('S001', 0.0, 100.0), ('S002', 30.0, 70.0)], [])
    """
    chosen: list[Subset] = []
    skipped: list[InputFile] = []
    queue = list(lists)
    while queue:
        left: list[EventList] = []
        for group in _overlapping(queue):
            for alike in (_same_time_system, _same_plane):
                group, odd = alike(group)
                skipped += odd
            picked = _best(group) if rules.best_exposures else exod2.choose_lists(group, _by_camera(group))
            rest = [events for events in group if events not in picked]
            t0 = max(time_span(events)[0] for events in picked)
            t1 = min(time_span(events)[1] for events in picked)
            if t1 <= t0 and len(picked) == 1:
                why = "all its events have one time, and it states no good time: there is nothing to search"
                skipped.append(_skip(picked[0], Reason.NO_GOOD_TIME, why))
            elif t1 <= t0:
                skipped += [
                    _skip(events, Reason.NO_COMMON_TIME, "the lists of its group share no time") for events in picked
                ]
            else:
                ordered = sorted(picked, key=lambda events: (_number(events), events.info.file))
                chosen.append(Subset(0, tuple(ordered), t0, t1))
            if rules.best_exposures:
                left += rest
            else:
                skipped += [
                    _skip(events, Reason.NOT_CHOSEN, "another exposure of its camera is longer") for events in rest
                ]
        queue = left
    chosen.sort(key=lambda subset: (subset.t0, subset.t1, subset.lists[0].info.file))
    return [dataclasses.replace(subset, number=i) for i, subset in enumerate(chosen)], skipped


def _skip(events: EventList, reason: Reason, why: str) -> InputFile:
    return dataclasses.replace(events.info, reason=reason, message=f"{events.info.file}: {why}")


def _overlapping(lists: list[EventList]) -> list[list[EventList]]:
    """Split lists into groups linked by overlapping spans."""
    groups: list[list[EventList]] = []
    end = -np.inf
    for events in sorted(lists, key=lambda events: (time_span(events), events.info.file)):
        start, stop = time_span(events)
        if start >= end:
            groups.append([])
        groups[-1].append(events)
        end = max(end, stop)
    return groups


def _anchor(group: list[EventList]) -> EventList:
    """Return the list with most good time, to which the other lists of the group are compared."""
    return max(group, key=lambda events: (_seconds(good_intervals(events)), events.info.file))


def _same_time_system(group: list[EventList]) -> tuple[list[EventList], list[InputFile]]:
    """Split a group into lists with the time system of the one with most good time, and the others as skipped files."""

    def system(events: EventList) -> tuple[str, bool]:
        return events.time_system, events.barycentred

    ours = system(_anchor(group))
    same = [events for events in group if system(events) == ours]
    odd = [
        _skip(
            events, Reason.OTHER_TIME_SYSTEM, f"its times are {_told(*system(events))}, those of others {_told(*ours)}"
        )
        for events in group
        if system(events) != ours
    ]
    return same, odd


def _told(scale: str, barycentred: bool) -> str:
    return f"{scale} at {'the barycentre' if barycentred else 'the satellite'}"


def _same_plane(group: list[EventList]) -> tuple[list[EventList], list[InputFile]]:
    """Split a group into lists with the tangent plane of the one with most good time, and others as skipped files."""
    anchor = _anchor(group).plane
    same, odd = [], []
    for events in group:
        apart = float(separation_arcsec(anchor.ra_deg, anchor.dec_deg, events.plane.ra_deg, events.plane.dec_deg))
        if apart <= PLANE_TOLERANCE_ARCSEC and events.plane.crpix == anchor.crpix:
            same.append(events)
        else:
            where = (
                f"at pixel {events.plane.crpix:g}" if apart <= PLANE_TOLERANCE_ARCSEC else f"{apart:.2f} arcsec away"
            )
            why = f"the reference point of its tangent plane is {where}, unlike that of the other lists"
            odd.append(_skip(events, Reason.OTHER_PLANE, why))
    return same, odd


def _seconds(intervals: Floats) -> float:
    return float(np.diff(intervals).sum())


def _by_camera(group: list[EventList]) -> list[list[EventList]]:
    numbers = sorted({_number(events) for events in group})
    return [[events for events in group if _number(events) == number] for number in numbers]


def _number(events: EventList) -> int:
    return events.instrument.number(events.camera)


def _best(group: list[EventList]) -> tuple[EventList, ...]:
    """Choose one list per camera so that they have most good time in common; on a tie, most good time in total."""

    def common(choice: tuple[EventList, ...]) -> tuple[float, float]:
        spans = [good_intervals(events) for events in choice]
        shared = spans[0]
        for other in spans[1:]:
            shared = intersect(shared, other)
        return _seconds(shared), sum(_seconds(span) for span in spans)

    return max(itertools.product(*_by_camera(group)), key=common)
