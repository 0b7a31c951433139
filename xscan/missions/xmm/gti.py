"""Find when each CCD of an EPIC list was taking data, from the file's tables, checked against its events.

A filtered list holds the good time of the filter as GTInnnmm: mm is the number of the filter in the data subspace,
nnn + 1 the component, which is a CCD. The keywords of the subspace (DSTYPn, DSVALn, DSREFn, with the component in
front) and each table's CCDID state which CCD that is. The tables STDGTInn beside them are those of the pipeline,
before filtering, and too wide. EXPOSUnn are the read-out frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscan.backends import EventLoops
from xscan.events.gti import Floats, intersect, union
from xscan.io.fits import Header, Table
from xscan.missions.xmm.instrument import EPIC
from xscan.missions.xmm.times import TimeSystem, shift_of
from xscan.model import CcdTime

__all__ = ["MAX_SPAN_S", "Sample", "Stated", "ccd_tables", "main_span", "pi_filter", "read_good_time"]

MAX_SPAN_S = 2 * 172_800.0
"""Longest time range accepted for one exposure: two orbits."""

GOOD_TIME_MARGIN_S = 600.0
"""Good time is accepted this far beyond the first and the last event."""

MOST = 0.9
"""At least this fraction of the events must agree on when the list was taken."""

_OBEYED = 0.99  # least fraction of a CCD's events within a filter that was applied to them
_FEWEST = 10  # fewest events for which a table can be judged, or rejected
_NONE = 0.01  # a table that contains less than this fraction of a CCD's events is of something else
_COVERED = 0.99  # least fraction of the events in good time within a read-out frame, or next to one
_BETWEEN = 0.999  # least fraction of them between the first and the last frame
_SAMPLE = 1 << 13  # number of events with which tables are judged

_CCD_TABLE = re.compile(r"(STDGTI|EXPOSU|BADPIX)(\d\d)")
_FILTER = re.compile(r"GTI(\d{3})(\d\d)")
_SUBSPACE = re.compile(r"(\d*)DS(TYP|VAL|REF)(\d+)")
_LAST_CCD = 12

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sample:
    """Times (s) of every k-th event of a list, in all and by CCD; enough to judge its tables."""

    time: Floats
    by_ccd: dict[int, Floats]

    @classmethod
    def of(cls, time: Floats, ccd: NDArray[np.uint8]) -> Sample:
        """Return a sample of every k-th event."""
        step = max(time.size // _SAMPLE, 1)
        time, ccd = time[::step], ccd[::step]
        present = np.flatnonzero(np.bincount(ccd)).tolist()
        return cls(time, {number: time[ccd == number] for number in present})

    def of_ccd(self, ccd: int) -> Floats:
        """Return the times of one CCD, s."""
        return self.by_ccd.get(ccd, np.empty(0))


@dataclass(frozen=True, slots=True)
class Stated:
    """Good time as stated by a list's tables.

    Attributes
    ----------
    good_time : dict of int to CcdTime
        By CCD.
    span : (float, float)
        First and last event that the tables allow, s.
    remarks : tuple of str
        Which tables were rejected, and why.
    """

    good_time: dict[int, CcdTime]
    span: tuple[float, float]
    remarks: tuple[str, ...] = ()


def ccd_tables(tables: Sequence[Table], prefix: str) -> dict[int, Table]:
    """Return the tables named by CCD, such as STDGTI01, by CCD; of equal names the first.

    Examples
    --------
    >>> from xscan.io.fits import read_tables
    >>> tables = read_tables(next(folder.glob("*M1S*EVLI*")))
    >>> sorted((ccd, table.name) for ccd, table in ccd_tables(tables, "EXPOSU").items())[:2]
    [(1, 'EXPOSU01'), (2, 'EXPOSU02')]
    """
    found: dict[int, Table] = {}
    for table in tables:
        match = _CCD_TABLE.fullmatch(table.name)
        if match and match[1] == prefix and 1 <= int(match[2]) <= _LAST_CCD:
            found.setdefault(int(match[2]), table)
    return found


def main_span(time: Floats) -> tuple[float, float, float]:
    """Return first and last time, s, in the two orbits that contain most events, and their fraction of all events.

    Examples
    --------
    Three of four times lie within two orbits, four days:

    >>> main_span(np.array([5.0, 100.0, 200.0, 1e6]))
    (5.0, 200.0, 0.75)
    """
    ordered = np.sort(time)
    end = np.searchsorted(ordered, ordered + MAX_SPAN_S, side="right")
    n = end - np.arange(ordered.size)
    first = int(np.argmax(n))
    return float(ordered[first]), float(ordered[end[first] - 1]), float(n[first] / ordered.size)


def read_good_time(
    tables: Sequence[Table],
    header: Header,
    system: TimeSystem,
    time: Floats,
    ccd: NDArray[np.uint8],
    span: tuple[float, float],
    loops: EventLoops,
) -> Stated:
    """Read each CCD's good-time intervals and read-out frames, and check them against the events.

    Parameters
    ----------
    tables : sequence of Table
        All except EVENTS.
    header : Header
        That of EVENTS, which contains the data subspace.
    system : TimeSystem
        That of EVENTS.
    time, ccd : array, shape (n,)
        Mission time, s, and CCD of the remaining events.
    span : (float, float)
        First and last of them, s.
    loops : EventLoops

    Notes
    -----
    Of the tables of a CCD, the first of these is used: the filter named by the data subspace; the filter with the
    highest number that contains the CCD's events (99 % of them, or at least 90 %); STDGTInn. A table that contains less
    than 1 % of its CCD's events, and is not empty, is rejected. Intervals are cut where they reach far beyond the
    events, and one longer than two orbits is left out if there are others: it would only extend the time range.

    All read-out frames are rejected if, of all events in good time, more than 1 % lie more than a frame away from any,
    or more than 0.1 % before the first or after the last. Those of one CCD are rejected if more than 10 % of its events
    lie outside.

    Examples
    --------
    The good time of CCD 1 begins and ends within 20 s of the first and of the last event:

    >>> from xscan.backends import get_backend
    >>> from xscan.io.fits import read_tables
    >>> primary, table, *others = read_tables(next(folder.glob("*M1S*EVLI*")))
    >>> time, ccd = np.asarray(table.column("TIME"), float), (table.column("CCDNR") % 10).astype(np.uint8)
    >>> span = float(time.min()), float(time.max())
    >>> stated = read_good_time(others, table.header, TimeSystem(), time, ccd, span, get_backend("numpy").events)
    >>> bool(np.allclose(stated.good_time[1].gti[[0, -1], [0, 1]], span, rtol=0, atol=20)), stated.remarks
    (True, ())
    """
    sample = Sample.of(time, ccd)
    pipeline = {number: _intervals(table, system) for number, table in ccd_tables(tables, "STDGTI").items()}
    filters = {table.name: _intervals(table, system) for table in tables if _FILTER.fullmatch(table.name)}
    span = _allowed_span([*pipeline.values(), *filters.values()], time, sample, span)
    exposures = ccd_tables(tables, "EXPOSU")
    present = sorted(sample.by_ccd)
    chosen = _Choice(tables, header, pipeline, filters, sample, present, system)
    numbers = sorted(pipeline.keys() | exposures.keys() | chosen.filtered() | (set(present) if filters else set()))
    near = np.array([[span[0] - GOOD_TIME_MARGIN_S, span[1] + GOOD_TIME_MARGIN_S]])
    stated = {number: chosen.intervals(number) for number in numbers}
    believed = [intervals for intervals in stated.values() if intervals is not None]
    others = union(*np.concatenate(believed).T) if believed else np.empty((0, 2))
    others = others if len(others) else np.array([span])  # for a CCD without an accepted table
    good = {
        number: CcdTime(intersect(others if intervals is None else intervals, near))
        for number, intervals in stated.items()
    }
    remarks = list(chosen.remarks())
    frames = {number: _frames(table, system, loops) for number, table in exposures.items()}
    good, said = _with_frames(good, frames, sample, system)
    return Stated(good, span, (*remarks, *said, *_outside(good, sample)))


def _intervals(table: Table, system: TimeSystem) -> Floats:
    shift = shift_of(table, ("START", "STOP"), system)
    start, stop = (np.asarray(table.column(name, "f"), np.float64) + shift for name in ("START", "STOP"))
    sound = np.isfinite(start) & np.isfinite(stop) & (stop > start)
    short = sound & (np.where(sound, stop, 0) - np.where(sound, start, 0) <= MAX_SPAN_S)
    kept = short if short.any() else sound
    return union(start[kept], stop[kept])


def _allowed_span(
    stated: Sequence[Floats], time: Floats, sample: Sample, span: tuple[float, float]
) -> tuple[float, float]:
    """Return a span without the few events that are far from all good time."""
    stated = [intervals for intervals in stated if len(intervals)]
    if not stated:
        return span
    start, stop = np.concatenate(stated).T
    wide = union(start - GOOD_TIME_MARGIN_S, stop + GOOD_TIME_MARGIN_S)
    if _inside(np.array(span), wide).all() or np.mean(_inside(sample.time, wide)) < MOST:
        return span
    allowed = time[_inside(time, wide)]
    return (float(allowed.min()), float(allowed.max())) if allowed.size else span


def _inside(time: Floats, intervals: Floats) -> Bools:
    if len(intervals) == 0:
        return np.zeros(time.size, bool)
    k = np.searchsorted(intervals[:, 0], time, side="right") - 1
    return np.asarray((k >= 0) & (time <= intervals[np.maximum(k, 0), 1]))


@dataclass(slots=True)
class _Choice:
    """Chooses the good-time table of each CCD, and records those that it rejects."""

    tables: Sequence[Table]
    header: Header
    pipeline: dict[int, Floats]
    filters: dict[str, Floats]
    sample: Sample
    present: list[int]
    system: TimeSystem
    _told: dict[int, Floats] = field(init=False)
    _ordered: list[dict[int, Floats]] = field(init=False)
    _denied: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._told = self._by_keywords()
        self._ordered = list(self._by_name())

    def filtered(self) -> set[int]:
        """Return the CCDs for which the file has a filter."""
        return set(self._told).union(*self._ordered)

    def intervals(self, ccd: int) -> Floats | None:
        """Return the good time of a CCD; None if all its tables are rejected."""
        time = self.sample.of_ccd(ccd)
        told = self._told.get(ccd)
        if told is not None and self._holds_some(time, told, f"the filter of CCD {ccd} that the keywords name"):
            return told
        for share in (_OBEYED, MOST):  # MOST: where the times of events or filters were moved a little
            for of_ccd in self._ordered:
                if ccd in of_ccd and np.count_nonzero(~_inside(time, of_ccd[ccd])) <= (1 - share) * time.size:
                    return of_ccd[ccd]
        if self._ordered and time.size >= _FEWEST:
            self._denied[f"GTInnnmm (the events of CCD {ccd} lie outside)"] = None
        stated = self.pipeline.get(ccd)
        if stated is not None and self._holds_some(time, stated, f"STDGTI{ccd:02d}"):
            return stated
        return None

    def remarks(self) -> Iterator[str]:
        """Yield a sentence on the rejected tables, if any."""
        if self._denied:
            names = ", ".join(self._denied)
            yield f"not believed, for hardly an event lies in it: {names}"

    def _holds_some(self, time: Floats, intervals: Floats, name: str) -> bool:
        if len(intervals) == 0 or time.size < _FEWEST:
            return True
        held = np.count_nonzero(_inside(time, intervals))
        if held < _NONE * time.size:
            self._denied[name] = None
            return False
        return True

    def _by_keywords(self) -> dict[int, Floats]:
        """Return the filter of each CCD as stated by the keywords of the data subspace.

        Within a component all tables apply (intersection); components add up (union). Components that name only the
        pipeline's tables are not a filter.
        """
        subspace = Subspace(self.header)
        by_name = {table.name: table for table in self.tables}
        found: dict[int, list[Floats]] = {}
        for component in subspace.components():
            names = [name for name in subspace.references(component, "TIME", self.filters) if name in by_name]
            if all(name.startswith("STDGTI") for name in names):
                continue
            both = np.array([[-np.inf, np.inf]])
            for name in names:
                known = name in self.filters
                both = intersect(both, self.filters[name] if known else _intervals(by_name[name], self.system))
            ccds = subspace.values(component, "CCDNR")
            for ccd in self.pipeline.keys() | set(self.present) if ccds is None else ccds:
                found.setdefault(ccd, []).append(both)
        return {ccd: union(*np.concatenate(several).T) for ccd, several in found.items()}

    def _by_name(self) -> Iterator[dict[int, Floats]]:
        """Yield the filters by CCD, the last one applied first."""
        by_number: dict[int, dict[int, str]] = {}
        for name in self.filters:
            match = _FILTER.fullmatch(name)
            assert match is not None
            by_number.setdefault(int(match[2]), {})[int(match[1])] = name
        named = {table.name: table for table in self.tables}
        for number in sorted(by_number, reverse=True):
            components = by_number[number]
            stated = [named[name].header.number("CCDID") for name in components.values()]
            ccds = [int(ccd) for ccd in stated if ccd is not None]
            if len(set(ccds)) == len(components):
                places = dict(zip(ccds, components.values(), strict=True))
            else:
                places = self._in_order(components)
            yield {ccd: self.filters[name] for ccd, name in places.items()}

    def _in_order(self, components: dict[int, str]) -> dict[int, str]:
        """Assign component i to the i-th CCD that the list holds; a single component to all CCDs."""
        held = sorted(self.pipeline.keys() | set(self.present))
        if len(components) == 1:
            return dict.fromkeys(held, next(iter(components.values())))
        last = max(components) + 1
        tables = {prefix: sorted(ccd_tables(self.tables, prefix)) for prefix in ("EXPOSU", "BADPIX")}
        filled = [ccd for ccd, intervals in sorted(self.pipeline.items()) if len(intervals)]
        for ccds in (self.present, tables["EXPOSU"], filled, sorted(self.pipeline), tables["BADPIX"]):
            if len(ccds) == last:
                return {ccds[i]: name for i, name in components.items()}
        return {}


class Subspace:
    """The data subspace of a header: the filters that were applied to a list.

    DSTYPn names the n-th column, DSVALn its allowed values, DSREFn the table that contains them. The keywords of a
    component, which is a CCD, begin with its number; those that it lacks are taken from the first component.
    """

    def __init__(self, header: Header) -> None:
        self._header = header
        self._axes: dict[str, list[str]] = {}
        components = {1}
        for keyword in (name for name in header if "DS" in name):
            match = _SUBSPACE.fullmatch(keyword)
            if match is None:
                continue
            if match[2] == "TYP":
                self._axes.setdefault(header.text(keyword).upper(), []).append(match[3])
            elif match[1]:
                components.add(int(match[1]))
        self._components = sorted(components) if self._axes else []

    def components(self) -> list[int]:
        """Return the numbers of the components, from 1."""
        return self._components

    def _text(self, component: int, kind: str, axis: str) -> str:
        return self._header.text(f"{'' if component == 1 else component}DS{kind}{axis}")

    def values(self, component: int, column: str) -> list[int] | None:
        """Return the whole numbers allowed in a column; None if all are, an empty list if the text cannot be read."""
        axes = self._axes.get(column, [])
        if not axes:
            return None
        text = self._text(component, "VAL", axes[0])
        return [number % 10 if number > _LAST_CCD else number for number in _numbers(text)]

    def references(self, component: int, column: str, known: dict[str, Floats]) -> list[str]:
        """Return the names of the tables by which a column was filtered."""
        names = []
        for axis in self._axes.get(column, []):
            name = self._text(component, "REF", axis) or self._of_first(component, axis, known)
            names.append(name.rpartition(":")[2].strip().upper())
        return [name for name in names if name]

    def _of_first(self, component: int, axis: str, known: dict[str, Floats]) -> str:
        """Return the table named by the first component or, if it is one of a series, this component's in it."""
        name = self._text(1, "REF", axis).rpartition(":")[2].strip().upper()
        match = _FILTER.fullmatch(name)
        mine = f"GTI{component - 1:03d}{match[2]}" if match else ""
        return mine if mine in known else name

    def ranges(self, column: str) -> list[str]:
        """Return the texts of all filters of a column."""
        texts = [
            self._text(component, "VAL", axis) for axis in self._axes.get(column, []) for component in self._components
        ]
        return [text for text in texts if text]


def _numbers(text: str) -> list[int]:
    """Return the numbers in ``1``, ``1,4`` or ``1:7``; an empty list for any other text."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?::\s*(\d{1,3}))?\s*", part)
        if match is None:
            return []
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def pi_filter(header: Header, pi: NDArray[np.uint16]) -> tuple[int, int] | None:
    """Return the PI range, eV, to which a list was cut; None if it contains the whole range that is searched.

    The range is read from the data subspace. It is ignored if events (``pi``) lie outside it.

    Examples
    --------
    A list cut to 500 to 2000 eV, and one that has an event beyond what its header says:

    >>> header = Header(b"DSTYP1  = 'PI      '".ljust(80) + b"DSVAL1  = '500:2000'".ljust(80))
    >>> pi_filter(header, np.array([600, 1900], np.uint16))
    (500, 2000)
    >>> print(pi_filter(header, np.array([600, 2100], np.uint16)))
    None
    """
    low, high = 0.0, np.inf
    for text in Subspace(header).ranges("PI"):
        ends = [re.fullmatch(r"\s*\(?\s*([\d.eE+]*)\s*:\s*([\d.eE+]*)\s*\)?\s*", part) for part in text.split(",")]
        try:
            pairs = [(float(end[1] or 0), float(end[2] or np.inf)) for end in ends if end is not None]
        except ValueError:
            continue
        if len(pairs) == len(ends):
            low, high = max(low, min(pair[0] for pair in pairs)), min(high, max(pair[1] for pair in pairs))
    least, most = EPIC.pi_range
    if (low <= least and high >= most) or low >= high or (pi.size and (pi.min() < low or pi.max() > high)):
        return None
    return max(int(low), least), int(min(high, most))


@dataclass(frozen=True, slots=True)
class _Frames:
    """The read-out frames of one CCD: their live-time curve (None if there is none), and their usual length, s."""

    curve: Floats | None
    length_s: float = 0.0


def _frames(table: Table, system: TimeSystem, loops: EventLoops) -> _Frames:
    if "TIME" not in table or "TIMEDEL" not in table:
        return _Frames(None)
    shift = shift_of(table, ("TIME", "TIMEDEL"), system)
    time: ArrayLike = table.column("TIME", "f")
    length = table.column("TIMEDEL", "f")
    fraction: ArrayLike = table.column("FRACEXP", "f") if "FRACEXP" in table else np.ones(table.rows)
    if shift:
        time = np.asarray(time, np.float64) + shift
    some = np.sort(length[:: max(table.rows // 64, 1)])
    usual = float(some[some.size // 2]) if table.rows else 0.0
    if usual > 0 and length.max() > 100 * usual:  # a damaged row would outweigh all others
        kept = length <= 100 * usual
        time, length, fraction = np.asarray(time)[kept], length[kept], np.asarray(fraction)[kept]
    return _Frames(loops.cumulative_livetime(time, length, fraction), usual)


def _with_frames(
    good: dict[int, CcdTime], frames: dict[int, _Frames], sample: Sample, system: TimeSystem
) -> tuple[dict[int, CcdTime], list[str]]:
    """Add the accepted read-out frames to good time; return it, and remarks on the rejected ones."""
    judged = {
        ccd: _judge(of_ccd, sample.of_ccd(ccd), good[ccd].gti)
        for ccd, of_ccd in frames.items()
        if of_ccd.curve is not None
    }
    n, outside, beyond = (sum(counts[i] for counts in judged.values()) for i in range(3))
    remarks = []
    if outside > max(_FEWEST, (1 - _COVERED) * n) or beyond > max(_FEWEST // 2, (1 - _BETWEEN) * n):
        share = max(outside, beyond) / n
        line = f"EXPOSUnn not believed: {share:.2%} of its events in good time lie outside of all read-out frames"
        remarks.append(line + ("; run barycen with processexposutables=yes" if system.barycentred else ""))
        judged = {}
    doubted = [ccd for ccd, (n, out, _) in judged.items() if out > max(_FEWEST, (1 - MOST) * n)]
    if doubted:
        names = ", ".join(f"EXPOSU{ccd:02d}" for ccd in doubted)
        remarks.append(f"{names} not believed: more than a tenth of the events of that CCD lie outside")
    believed = judged.keys() - set(doubted)
    return {ccd: CcdTime(one.gti, frames[ccd].curve) if ccd in believed else one for ccd, one in good.items()}, remarks


def _judge(frames: _Frames, time: Floats, intervals: Floats) -> tuple[int, int, int]:
    """Count the events in good time, of these the ones away from any frame, and the ones before or after all frames."""
    assert frames.curve is not None
    time = time[_inside(time, intervals)]
    start, stop = frames.curve[0, 0::2], frames.curve[0, 1::2]
    k = np.searchsorted(start, time + frames.length_s, side="right") - 1
    near = (k >= 0) & (time - frames.length_s <= stop[np.maximum(k, 0)])
    beyond = (time < start[0] - frames.length_s) | (time > stop[-1] + frames.length_s)
    return time.size, int(np.count_nonzero(~near)), int(np.count_nonzero(beyond))


def _outside(good: dict[int, CcdTime], sample: Sample) -> list[str]:
    """Return a remark if many events lie outside the good time, else nothing."""
    n = sum(int(np.count_nonzero(~_inside(sample.of_ccd(ccd), one.gti))) for ccd, one in good.items() if len(one.gti))
    if n <= max(_FEWEST, (1 - _OBEYED) * sample.time.size):
        return []
    return [f"{n / sample.time.size:.0%} of its events lie outside its good time, and are cut"]
