"""Turn the results of a search into tables."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xscan.bayes import equivalent_sigma, log10_bayes_eclipse, log10_bayes_peak, log10_poisson_tail, poisson_tail
from xscan.config import View
from xscan.errors import DataError, Reason
from xscan.grid import Grid
from xscan.missiontime import Clock, mjd_utc, utc_text
from xscan.model import CAMERAS, InputFile, Observation, Voxels
from xscan.schema import CUTS, EVENTS, IMAGES, INPUTS, LIGHTCURVES, REGIONS, RUNS_WITH_INPUTS, SCHEMAS, VOXELS
from xscan.search.components import NARROW_EV
from xscan.search.lightcurve import LightCurve
from xscan.search.observation import Found, SubsetSearch, ViewResult, WindowResult
from xscan.search.view import ViewData
from xscan.search.windows import Judged
from xscan.sky import SAME_PLACE_ARCSEC, TangentPlane, separation_arcsec

__all__ = [
    "Provenance",
    "TableBuilder",
    "Tables",
    "distinct_places",
    "event_kind",
    "expected_by_chance",
    "failed_tables",
    "strongest_events",
]

Row = dict[str, Any]

ALL_EVENTS = (1 << 20, 0)
"""Worth of an image of all events, more than of one of any band."""

DAMAGE = {
    Reason.UNREADABLE,
    Reason.NO_EVENTS_TABLE,
    Reason.NO_TANGENT_PLANE,
    Reason.TIME_SPAN,
    Reason.CONTRADICTORY,
    Reason.ERROR,
}
"""Reasons that mean a damaged or wrong file: an observation in which nothing else can be searched has failed."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of the results: version, configuration, code, backend and input files; stored in every row of ``runs``."""

    xscan_version: str
    profile: str
    config_digest: str
    code_digest: str
    backend: str
    inputs_digest: str = ""


@dataclass(frozen=True, slots=True)
class Tables:
    """The result tables of one observation, or of many.

    Attributes
    ----------
    runs, inputs, events, regions, voxels, lightcurves, images : pyarrow.Table
        Columns, units and meanings as in :mod:`xscan.schema`. Directly after a scan, ``runs`` has one more column,
        ``inputs``: a list of each row's files. :meth:`table` returns it without this column, as it is stored; the
        files are rows of the table ``inputs``.
    """

    runs: pa.Table
    inputs: pa.Table
    events: pa.Table
    regions: pa.Table
    voxels: pa.Table
    lightcurves: pa.Table
    images: pa.Table

    def table(self, name: str) -> pa.Table:
        """Return a table by name, with the columns of its schema: without the list column ``inputs`` of ``runs``."""
        if name not in SCHEMAS:
            raise KeyError(f"no table {name!r}; there are {', '.join(SCHEMAS)}")
        return getattr(self, name).select(SCHEMAS[name].names)


class TableBuilder:
    """Collects the rows of one observation, view by view.

    Parameters
    ----------
    observation : Observation
    skipped : iterable of InputFile
        Lists that are in no subset, from :func:`xscan.search.observation.search_observation`.
    provenance : Provenance
    seconds_read : float
        Wall time spent on reading, s.

    Raises
    ------
    DataError
        If the observation's instrument has other cameras than the tables have columns for.
    """

    def __init__(
        self, observation: Observation, skipped: Iterable[InputFile], provenance: Provenance, seconds_read: float
    ) -> None:
        instrument = observation.instrument
        if instrument is not None and instrument.names != CAMERAS:
            raise DataError(
                Reason.OTHER_TELESCOPE,
                f"{observation.obsid}: cameras {', '.join(instrument.names)} of {instrument.telescope}; the result "
                f"tables have columns for {', '.join(CAMERAS)} alone: take what search_observation gives",
            )
        self._obsid, self._provenance, self._seconds_read = observation.obsid, provenance, seconds_read
        self._left_out = [*observation.skipped, *skipped]
        sources = [_input(observation.source_file, "sources")] if observation.source_file else []
        # the source list and what was not used anywhere belong to every row of runs
        self._common = [*sources, *(_input(info) for info in self._left_out)]
        self._always = {"obsid": observation.obsid, "target": observation.target}
        self._always["source_list"] = _source_list(observation)
        self._subsets: dict[int, list[Row]] = {}  # the lists of each
        self._runs: list[Row] = []
        self._events: list[Row] = []
        self._regions: list[Row] = []
        self._voxels: list[pa.Table] = [VOXELS.empty_table()]
        self._curves: list[pa.Table] = [LIGHTCURVES.empty_table()]
        self._images: dict[int, tuple[tuple[int, int], Row]] = {}  # of each subset, with width of band (eV) and events

    def add(self, search: SubsetSearch, result: ViewResult, seconds: float) -> None:
        """Add one view of a subset.

        Parameters
        ----------
        search : SubsetSearch
        result : ViewResult
        seconds : float
            Wall time spent on it, s.
        """
        number, row, clock = self._of_subset(search)
        self._runs.append(row | _run(result, clock) | {"seconds_spent": seconds})
        if result.search is None:
            return
        self._add_image(number, result.view, result.search)
        if not result.found:
            return
        in_view = f"{self._obsid}_{number}_{result.view.label}"
        of_view = _View(self._obsid, number, in_view, result.view, result.search, result.found)
        weighed = _Weighed.of(result.search.voxels)
        self._regions += _regions(of_view, weighed, clock)
        self._voxels.append(_voxels(of_view, weighed))
        self._curves.append(_curves(of_view))

    def add_windows(self, search: SubsetSearch, result: WindowResult, seconds: float) -> None:
        """Add the search by windows of a subset; parameters as in :meth:`add`."""
        number, row, clock = self._of_subset(search)
        self._runs.append(row | _run_of_windows(result, clock) | {"seconds_spent": seconds})
        self._images[number] = ALL_EVENTS, {"obsid": self._obsid, "subset": number} | _image_of_windows(result)
        found = result.search.found
        if not found:
            return
        events = _events(self._obsid, number, result, clock)
        self._events += events
        curves, dt_s = [one.event.curve for one in found], [_step_s(one) for one in found]
        self._curves.append(_lightcurves([row["event_id"] for row in events], self._obsid, dt_s, curves))

    def _of_subset(self, search: SubsetSearch) -> tuple[int, Row, Clock]:
        """Return the number of a subset, what all its rows of ``runs`` have, and its clock."""
        number = search.subset.number
        if number not in self._subsets:
            self._subsets[number] = [_input(info) for info in search.files]
        clock = search.subset.lists[0].clock
        return number, self._always | {"subset": number, "inputs": self._subsets[number] + self._common}, clock

    def _add_image(self, number: int, view: View, data: ViewData) -> None:
        """Keep the image of a view if its band is the widest so far of its subset, or as wide with more events.

        Frames of one length may be rejected where those of another are searched.
        """
        worth = view.pi_hi - view.pi_lo, int(data.images.sum())
        held = self._images.get(number)
        if held is None or worth > held[0]:
            self._images[number] = worth, {"obsid": self._obsid, "subset": number} | _image(view, data)

    def tables(self) -> Tables:
        """Return the tables of all that was added; an observation without any view has a row of ``runs`` too."""
        runs = self._runs or [self._always | {"inputs": self._common} | _nothing_searched(self._left_out)]
        _stamp(runs, self._provenance, self._seconds_read)
        files = [{"subset": number} | info for number, infos in self._subsets.items() for info in infos]
        return Tables(
            pa.Table.from_pylist(runs, RUNS_WITH_INPUTS),
            pa.Table.from_pylist([{"obsid": self._obsid} | info for info in [*files, *self._common]], INPUTS),
            pa.Table.from_pylist(self._events, EVENTS),
            pa.Table.from_pylist(self._regions, REGIONS),
            pa.concat_tables(self._voxels),
            pa.concat_tables(self._curves),
            _images([row for _, row in self._images.values()]),
        )


def failed_tables(
    obsid: str, state: str, reason: Reason, message: str, provenance: Provenance, seconds: float
) -> Tables:
    """Return the tables of an observation that could not be read or searched: one row of ``runs``.

    Examples
    --------
    >>> provenance = Provenance("0.3.0", "default", "config", "code", "numpy")
    >>> failed = failed_tables("0990000001", "failed", Reason.UNREADABLE, "list.FTZ: cut short", provenance, 0.1)
    >>> failed.runs.select(["state", "reason", "message"]).to_pylist(), failed.regions.num_rows
    ([{'state': 'failed', 'reason': 'unreadable', 'message': 'list.FTZ: cut short'}], 0)
    """
    row = _empty_run(state, reason, message) | {"obsid": obsid, "target": "", "inputs": [], "source_list": "absent"}
    _stamp([row], provenance, seconds)
    runs = pa.Table.from_pylist([row], RUNS_WITH_INPUTS)
    return Tables(runs, *(SCHEMAS[name].empty_table() for name in list(SCHEMAS)[1:]))


def strongest_events(events: Iterable[Row], most: int) -> list[Row]:
    """Return the events that chance gives least often, the strongest first.

    Parameters
    ----------
    events : iterable of dict
        Rows of ``events``.
    most : int
        The largest number of events to return.

    Examples
    --------
    >>> events = [{"n_false": 0.05, "llr": 20.0}, {"n_false": 0.0, "llr": 900.0}, {"n_false": 0.0, "llr": 1200.0}]
    >>> [event["llr"] for event in strongest_events(events, most=2)]
    [1200.0, 900.0]
    """
    return sorted(events, key=lambda row: (row["n_false"], -row["llr"]))[:most]


def event_kind(event: Row) -> str:
    """Return what a person calls a row of ``events``: ``peak``, ``eclipse``, or ``variable``.

    Examples
    --------
    >>> event_kind({"kind": "peak", "variable": False}), event_kind({"kind": "peak", "variable": True})
    ('peak', 'variable')
    """
    return "variable" if event["variable"] else str(event["kind"])


def expected_by_chance(event: Row) -> str:
    """Return, of a row of ``events``, how many as strong are expected by chance: ``0.0093``, ``5.0e-127``.

    Examples
    --------
    >>> [expected_by_chance({"n_false": n}) for n in (0.0093, 5e-127, 0.0)]
    ['0.0093', '5.0e-127', '< 1e-300']
    """
    n = event["n_false"]
    return f"{n:.2g}" if n >= 0.001 else f"{n:.1e}" if n > 0 else "< 1e-300"


def distinct_places(regions: Iterable[Row], most: int) -> list[Row]:
    """Return the most significant region at each position (within 30 arcsec): several views see the same event.

    Regions in the wings of another (those with a ``parent``) are left out.

    Parameters
    ----------
    regions : iterable of dict
        Rows of ``regions``.
    most : int
        The largest number of regions to return.

    Returns
    -------
    list of dict
        Rows of ``regions``, the most significant first.

    Examples
    --------
    Two views see one event, 20 arcsec apart; another event lies a degree away:

    >>> of_event = {"obsid": "0990000001", "parent": None, "dec_deg": 0.0}
    >>> rows = [of_event | {"ra_deg": 10.0, "log10_p_min": -8.0}, of_event | {"ra_deg": 10.0055, "log10_p_min": -9.0}]
    >>> rows.append(of_event | {"ra_deg": 11.0, "log10_p_min": -20.0})
    >>> [row["ra_deg"] for row in distinct_places(rows, most=10)]
    [11.0, 10.0055]
    """
    kept: list[Row] = []
    for row in sorted((row for row in regions if row["parent"] is None), key=lambda row: row["log10_p_min"]):
        same = [other for other in kept if other["obsid"] == row["obsid"]]
        ra, dec = [other["ra_deg"] for other in same], [other["dec_deg"] for other in same]
        if not (separation_arcsec(row["ra_deg"], row["dec_deg"], ra, dec) < SAME_PLACE_ARCSEC).any():
            kept.append(row)
        if len(kept) >= most:
            break
    return kept[:most]


def _stamp(runs: list[Row], provenance: Provenance, seconds_read: float) -> None:
    finished = datetime.datetime.now(datetime.UTC)
    for row in runs:
        row |= {name: getattr(provenance, name) for name in Provenance.__slots__}
        row["seconds_read"] = seconds_read
        row["finished_utc"] = finished


def _input(info: InputFile, role: str = "events") -> Row:
    cuts = {f"cut_{name}": info.cuts.get(name) for name in CUTS}
    return {
        "file": info.file,
        "role": role,
        "bytes": info.bytes,
        "date": info.date,
        "camera": info.camera,
        "exposure": info.exposure,
        "submode": info.submode,
        "filter": info.filter,
        "n_rows": info.n_rows,
        **cuts,
        "reason": info.reason,
        "message": _text(info.message),
    }


def _text(message: str) -> str | None:
    """Return a message that a text column can store: paths may hold characters that UTF-8 cannot."""
    return message.encode("utf-8", "replace").decode() or None


def _empty_run(state: str, reason: Reason | None, message: str) -> Row:
    return {
        "state": state,
        "reason": reason,
        "message": _text(message),
        "n_regions": 0,
        "n_voxels": 0,
        "n_events": 0,
        "seconds_spent": 0.0,
    }


def _nothing_searched(left_out: list[InputFile]) -> Row:
    """Return the row of an observation without any usable list: damage comes first, then the first list's reason."""
    damaged = [info for info in left_out if info.reason in DAMAGE]
    first = (damaged or left_out)[0]
    message = "; ".join(info.message for info in left_out)
    return _empty_run("failed" if damaged else "skipped", first.reason, message)


def _source_list(observation: Observation) -> str:
    if observation.source_file is None:
        return "absent"
    return observation.source_file.reason or "used"


def _run(result: ViewResult, clock: Clock) -> Row:
    view, search = result.view, result.search
    state = "done" if result.reason is None else "empty" if result.reason is Reason.EMPTY_BAND else "skipped"
    row = _empty_run(state, result.reason, result.message)
    row |= {
        "dt_s": view.dt_s,
        "band_lo_kev": view.lo_kev,
        "band_hi_kev": view.hi_kev,
        "n_regions": len(result.found),
        "n_events": result.n_events,
        "remarks": "; ".join(result.remarks) or None,
    }
    for camera, seconds in result.camera_seconds.items():
        for what in ("good", "bad", "rejected", "lost"):
            row[f"{what}_s_{camera}"] = getattr(seconds, what)
    if search is not None:
        grid = search.grid
        row |= {
            "n_voxels": len(search.voxels),
            "n_events_rejected": search.n_events_rejected,
            "n_voxels_searched": search.expected.n_voxels(),
            "n_frames": grid.nt,
            "n_frames_bad": int(np.count_nonzero(search.frames.bad)),
            "n_frames_rejected": int(np.count_nonzero(search.frames.rejected)),
            "n_cells": grid.box.nx * grid.box.ny,
            "n_cells_masked": int(np.count_nonzero(search.mask)),
            "t_start_s": grid.t0,
            "t_stop_s": float(grid.frame_edges()[-1]),
        }
        row |= {"timesys": clock.time_system, "timeref": "SOLARSYSTEM" if clock.barycentred else "LOCAL"}
        row |= dict(zip(("t_start_utc", "t_stop_utc"), _utc(row["t_start_s"], row["t_stop_s"], clock), strict=True))
    return row


def _run_of_windows(result: WindowResult, clock: Clock) -> Row:
    search, grid = result.search, result.grid
    state = "done" if search.reason is None else "skipped"
    lo, hi = (edge / 1000 for edge in (NARROW_EV[0], NARROW_EV[-1] - 1))
    row = _empty_run(state, search.reason, search.message)
    row |= {"band_lo_kev": lo, "band_hi_kev": hi, "n_events": search.n_photons, "n_found": len(search.found)}
    for camera, seconds in result.camera_seconds.items():
        for what in ("good", "bad", "rejected", "lost"):
            row[f"{what}_s_{camera}"] = getattr(seconds, what)
    if search.field is not None:
        end = search.field.grid.bin_edges()[-1].item()
        row |= {
            "n_candidates": search.n_candidates,
            "far": search.far,
            "llr_min": search.llr_min,
            "trials": search.trials,
            "n_cells": grid.box.nx * grid.box.ny,
            "n_cells_masked": int(np.count_nonzero(result.mask)),
            "t_start_s": grid.t0,
            "t_stop_s": end,
            "timesys": clock.time_system,
            "timeref": "SOLARSYSTEM" if clock.barycentred else "LOCAL",
        }
        row |= dict(zip(("t_start_utc", "t_stop_utc"), _utc(grid.t0, end, clock), strict=True))
    return row


def _events(obsid: str, subset: int, result: WindowResult, clock: Clock) -> list[Row]:
    found, t0 = result.search.found, result.grid.t0
    spans = np.array([(one.event.start, one.event.stop) for one in found]) + t0
    utc, mjd = utc_text(spans.ravel(), clock), mjd_utc(spans.ravel(), clock).tolist()
    rows = []
    for i, (one, (start, stop)) in enumerate(zip(found, spans.tolist(), strict=True)):
        event, place = one.event, one.event.position
        rows.append(
            {
                "event_id": f"{obsid}_{subset}_{round(event.start)}_{_sexagesimal(place.ra_deg, place.dec_deg)}",
                "obsid": obsid,
                "subset": subset,
                "kind": event.kind,
                "variable": event.variable,
                "ra_deg": place.ra_deg,
                "dec_deg": place.dec_deg,
                "pos_err_arcsec": place.error_arcsec,
                "x_sky": place.x_px,
                "y_sky": place.y_px,
                "t_start_s": start,
                "t_stop_s": stop,
                "t_start_utc": utc[2 * i],
                "t_stop_utc": utc[2 * i + 1],
                "mjd_start": mjd[2 * i] if utc[2 * i] else None,
                "mjd_stop": mjd[2 * i + 1] if utc[2 * i + 1] else None,
                "llr": event.llr,
                "n_false": one.n_false,
                "counts": event.counts,
                "constant": event.constant,
                "spectrum": event.spectrum,
                "n": event.n,
                "mu": event.mu,
                "log10_p": event.log10_p,
                "band_lo_kev": event.band[0] / 1000,
                "band_hi_kev": event.band[1] / 1000,
                **{f"n_{camera}": int(n) for camera, n in zip(CAMERAS, event.by_camera, strict=True)},
                "n_pixels": event.n_pixels,
                "share_pixel": event.share_pixel,
                "share_readout": event.share_readout,
            }
        )
    return rows


def _sexagesimal(ra_deg: float, dec_deg: float) -> str:
    """Return a place as in a name: JHHMMSS.s+DDMMSS, cut off as the IAU asks."""
    tenths, seconds = int(ra_deg % 360 / 15 * 36_000), int(abs(dec_deg) * 3600)
    ra = f"{tenths // 36_000:02}{tenths // 600 % 60:02}{tenths // 10 % 60:02}.{tenths % 10}"
    return f"J{ra}{'-' if dec_deg < 0 else '+'}{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"


def _step_s(one: Judged) -> float:
    time = one.event.curve.time_s
    return float(time[1] - time[0]) if time.size > 1 else one.event.stop - one.event.start


@lru_cache(maxsize=64)  # views of one frame length have the same times
def _utc(start_s: float, stop_s: float, clock: Clock) -> list[str | None]:
    return utc_text([start_s, stop_s], clock)


def _images(rows: list[Row]) -> pa.Table:
    """Return the table of some images, without making a Python number of each cell."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in IMAGES.names}
    ends = pa.array(np.cumsum([0, *(row["counts"].size for row in rows)]), pa.int32())
    for name, kind in (("counts", np.int32), ("mask", bool)):
        values = np.concatenate([np.empty(0, kind), *(row[name].astype(kind) for row in rows)])
        columns[name] = pa.ListArray.from_arrays(ends, pa.array(values))
    return pa.table([columns[name] for name in IMAGES.names], IMAGES)


def _image(view: View, data: ViewData) -> Row:
    band = {"dt_s": view.dt_s, "band_lo_kev": view.lo_kev, "band_hi_kev": view.hi_kev}
    return band | _drawn(data.grid, data.plane, data.image, data.mask)


def _image_of_windows(result: WindowResult) -> Row:
    lo, hi = (edge / 1000 for edge in (NARROW_EV[0], NARROW_EV[-1] - 1))
    band = {"dt_s": None, "band_lo_kev": lo, "band_hi_kev": hi}
    return band | _drawn(result.grid, result.plane, result.image, result.mask)


def _drawn(grid: Grid, plane: TangentPlane, image: NDArray[np.int64], mask: NDArray[np.bool_]) -> Row:
    edges, box = grid.frame_edges(), grid.box
    return {
        "t_start_s": float(edges[0]),
        "t_stop_s": float(edges[-1]),
        "ra_ref_deg": plane.ra_deg,
        "dec_ref_deg": plane.dec_deg,
        "xy_ref": plane.crpix,
        "sky_n": grid.sky.n,
        "sky_arcsec": grid.sky.side_arcsec,
        "n_cells": grid.n_cells,
        "x0": box.x0,
        "y0": box.y0,
        "nx": box.nx,
        "ny": box.ny,
        "counts": image.ravel(),
        "mask": mask.ravel(),
    }


@dataclass(frozen=True, slots=True)
class _View:
    """The regions of one view, and their names.

    Columns are computed for all regions at once where possible: a region has few voxels, and one call of a Bayes
    factor or a tail costs as much as computing 80 to 330 of them.
    """

    obsid: str
    subset: int
    name: str
    view: View
    search: ViewData
    found: tuple[Found, ...]

    def det_ids(self) -> list[str]:
        return [self.det_id(found.region.label) for found in self.found]

    def det_id(self, label: int) -> str:
        return f"{self.name}_{label}"


@dataclass(frozen=True, slots=True)
class _Weighed:
    """Significances of all flagged voxels of a view, shape (k,) each."""

    log10_b: NDArray[np.float64]
    sigma: NDArray[np.float64]
    p: NDArray[np.float64]
    log10_p: NDArray[np.float64]

    @classmethod
    def of(cls, voxels: Voxels) -> _Weighed:
        n, mu, eclipse = voxels.n, voxels.mu, voxels.eclipse
        log10_b = np.where(eclipse, log10_bayes_eclipse(n, mu), log10_bayes_peak(n, mu))
        return cls(
            log10_b,
            equivalent_sigma(log10_b, eclipse),
            poisson_tail(n, mu, eclipse),
            log10_poisson_tail(n, mu, eclipse),
        )


def _regions(of_view: _View, weighed: _Weighed, clock: Clock) -> list[Row]:
    t = of_view.search.voxels.t
    frames = [t[found.region.members] for found in of_view.found]
    spans = of_view.search.grid.frame_edges()[[(each.min(), each.max() + 1) for each in frames]]
    utc, mjd = utc_text(spans.ravel(), clock), mjd_utc(spans.ravel(), clock).tolist()
    rows = []
    for i, (found, (start, stop)) in enumerate(zip(of_view.found, spans.tolist(), strict=True)):
        times = {
            "t_start_s": start,
            "t_stop_s": stop,
            "t_start_utc": utc[2 * i],
            "t_stop_utc": utc[2 * i + 1],
            "mjd_start": mjd[2 * i] if utc[2 * i] else None,
            "mjd_stop": mjd[2 * i + 1] if utc[2 * i + 1] else None,
        }
        rows.append(_region(of_view, found, weighed) | times)
    return rows


def _region(of_view: _View, found: Found, weighed: _Weighed) -> Row:
    view, search = of_view.view, of_view.search
    region, position, detector = found.region, found.position, found.detector
    members = region.members
    n, mu = search.voxels.n[members], search.voxels.mu[members]
    log10_b = weighed.log10_b[members]
    best = int(np.argmax(log10_b))
    n_eclipse = int(np.count_nonzero(search.voxels.eclipse[members]))
    n_peak = len(members) - n_eclipse
    return {
        "det_id": of_view.det_id(region.label),
        "obsid": of_view.obsid,
        "subset": of_view.subset,
        "dt_s": view.dt_s,
        "band_lo_kev": view.lo_kev,
        "band_hi_kev": view.hi_kev,
        "label": region.label,
        "ra_deg": position.ra_deg,
        "dec_deg": position.dec_deg,
        "pos_err_arcsec": position.error_arcsec,
        "ra_cells_deg": found.centroid.ra_deg,
        "dec_cells_deg": found.centroid.dec_deg,
        "x_sky": position.x_px,
        "y_sky": position.y_px,
        "bbox_x0": region.box.x0,
        "bbox_x1": region.box.x1,
        "bbox_y0": region.box.y0,
        "bbox_y1": region.box.y1,
        "cell_arcsec": search.grid.cell_arcsec,
        "area_cells": region.area,
        "kind": "both" if n_peak and n_eclipse else "peak" if n_peak else "eclipse",
        "n_peak": n_peak,
        "n_eclipse": n_eclipse,
        **{f"n_{camera}": int(count) for camera, count in zip(CAMERAS, found.by_camera, strict=True)},
        "n_pixels": detector.n_pixels,
        "n_ccds": detector.n_ccds,
        "n_readouts": detector.n_readouts,
        "share_pixel": detector.share_pixel,
        "share_readout": detector.share_readout,
        "edge_px": detector.edge_px,
        **{f"live_{camera}": detector.live.get(camera) for camera in CAMERAS},
        "n_max": int(n[best]),
        "mu_at_max": float(mu[best]),
        "log10_b_max": float(log10_b[best]),
        "sigma_max": float(weighed.sigma[members[best]]),
        "p_min": float(weighed.p[members].min()),
        "log10_p_min": float(weighed.log10_p[members].min()),
        "counts_total": found.counts,
        "parent": None if found.parent is None else of_view.det_id(found.parent),
    }


def _voxels(of_view: _View, weighed: _Weighed) -> pa.Table:
    voxels, grid = of_view.search.voxels, of_view.search.grid
    sizes = [len(found.region.members) for found in of_view.found]
    members = np.concatenate([found.region.members for found in of_view.found])
    t = voxels.t[members]
    columns: Mapping[str, Any] = {
        "det_id": np.repeat(np.array(of_view.det_ids(), object), sizes),
        "obsid": [of_view.obsid] * len(members),
        "x": voxels.x[members] + np.int32(grid.box.x0),
        "y": voxels.y[members] + np.int32(grid.box.y0),
        "t_index": t,
        "t_start_s": grid.frame_edges()[t],
        "n": voxels.n[members],
        "mu": voxels.mu[members],
        "kind": np.where(voxels.eclipse[members], "eclipse", "peak").tolist(),
        "p": weighed.p[members],
    }
    return pa.table(columns, VOXELS)


def _curves(of_view: _View) -> pa.Table:
    curves = [found.curve for found in of_view.found]
    return _lightcurves(of_view.det_ids(), of_view.obsid, [of_view.view.dt_s] * len(curves), curves)


def _lightcurves(names: list[str], obsid: str, dt_s: list[float], curves: list[LightCurve]) -> pa.Table:
    """Return the light curves of regions or events."""

    def joined(name: str, kind: type) -> Any:
        """Return a column of all curves; one is made after the other, since together they are large."""
        return np.concatenate([getattr(curve, name).astype(kind, copy=False) for curve in curves])

    mu = joined("mu", np.float64)
    samples: dict[str, pa.Array] = {"mu": pa.array(mu, mask=mu <= 0)}
    del mu
    for name, kind in (
        ("time_s", np.float64),
        ("n", np.int32),
        ("live", np.float32),
        ("bad", bool),
        ("rejected", bool),
    ):
        samples[name] = pa.array(joined(name, kind))
    ends = pa.array(np.cumsum([0, *(curve.n.size for curve in curves)]), pa.int32())
    columns: Mapping[str, Any] = {
        "det_id": names,
        "obsid": [obsid] * len(curves),
        "dt_s": dt_s,
        **{name: pa.ListArray.from_arrays(ends, values) for name, values in samples.items()},
    }
    return pa.table([columns[name] for name in LIGHTCURVES.names], LIGHTCURVES)
