"""One EPIC event list: who took it and how, which of its events count, when it was live."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xscan.backends import Backend
from xscan.clean import Cuts, FlagCut, PixelMask, RawEvents, Selection, gather, make_cuts
from xscan.config import ScanConfig
from xscan.errors import DataError, Reason
from xscan.goodtime import intersect, union
from xscan.missions.fitsfile import Header, Table, stream_tables
from xscan.missions.hotpixels import HotPixels
from xscan.model import EventList, GoodTime, InputFile
from xscan.sky import PLANE_TOLERANCE_ARCSEC, SKY_PIXEL_ARCSEC, TangentPlane, separation_arcsec

__all__ = ["ListError", "read_event_list"]

MODES = {
    "pn": ("PrimeFullWindow", "PrimeFullWindowExtended", "PrimeLargeWindow"),
    "mos": ("PrimeFullWindow", "PrimePartialRFS", *(f"PrimePartialW{i}" for i in range(2, 7))),
}
CLOSED_FILTERS = ("CalClosed", "Closed", "CalThin", "CalMedium", "CalThick", "Blocked")
INSTRUMENTS = {"EPN": "pn", "EMOS1": "m1", "EMOS2": "m2"}

MAX_SPAN_S = 2 * 172_800.0
"""Longest time range taken for one exposure: two orbits."""

GOOD_TIME_MARGIN_S = 600.0
"""Good time this far beyond the first and last event is believed."""

_CCD_TABLE = re.compile(r"(STDGTI|EXPOSU|BADPIX|GTI000)(\d\d)")


class ListError(DataError):
    """A list cannot be used; ``info`` says why, and how far its reading came."""

    def __init__(self, info: InputFile, error: DataError) -> None:
        super().__init__(error.reason, str(error))
        self.info = dataclasses.replace(info, reason=error.reason, message=str(error))


def read_event_list(
    path: Path, info: InputFile, obsid: str, config: ScanConfig, hot_pixels: HotPixels, backend: Backend
) -> tuple[EventList, str]:
    """Read one event list and apply every cut but the band.

    Parameters
    ----------
    path : Path
    info : InputFile
        What the file's name says.
    obsid : str
        The observation it should be of.
    config : ScanConfig
    hot_pixels : HotPixels
    backend : Backend

    Returns
    -------
    events : EventList
    target : str
        OBJECT of the header.

    Raises
    ------
    DataError
        If the list cannot be used: unreadable, a mode or filter that is not searched, no tangent
        plane, no event left.
    """
    tables: list[Table] = []
    selection: Selection | None = None
    try:
        for streamed in stream_tables(path):
            if streamed.head.name != "EVENTS" or selection is not None:
                tables.append(streamed.whole())
                continue
            events, primary = streamed.head, tables[0].header
            info = _identify(info, events, primary)
            _check_identity(info, events.header, obsid)
            _check_mode(info)
            plane = _tangent_plane(primary, events, info.file)
            cuts, remarks = _cuts(info, events, primary, config, hot_pixels)
            info = dataclasses.replace(info, message="; ".join(remarks))
            parts = (_raw_events(part) for part in streamed.parts())
            selection = gather(parts, events.rows, cuts, backend.select)
        if selection is None:
            names = ", ".join(table.name for table in tables[1:]) or "no extension"
            raise DataError(
                Reason.NO_EVENTS_TABLE, f"{path.name}: no EVENTS extension (found {names}); expected a PPS event list"
            )
        made = _finish(info, events, plane, selection, tables, cuts.hot, config, backend)
    except DataError as error:
        raise ListError(info, error) from None
    return made, events.header.text("OBJECT") or primary.text("OBJECT")


def _identify(info: InputFile, events: Table, primary: Header) -> InputFile:
    def text(keyword: str) -> str:
        return events.header.text(keyword) or primary.text(keyword)

    return dataclasses.replace(
        info,
        date=primary.text("PROCDATE") or events.header.text("PROCDATE") or primary.text("DATE"),
        submode=text("SUBMODE"),
        filter=text("FILTER"),
        n_rows=events.rows,
    )


def _check_identity(info: InputFile, header: Header, obsid: str) -> None:
    """The header must not contradict the name of the file."""
    for keyword, ours, theirs in (
        ("OBS_ID", obsid, header.text("OBS_ID") or obsid),
        ("INSTRUME", info.camera, INSTRUMENTS.get(header.text("INSTRUME"), header.text("INSTRUME") or info.camera)),
    ):
        if ours != theirs:
            raise DataError(
                Reason.CONTRADICTORY,
                f"{info.file}: {keyword} is {header.text(keyword)}, the file's name says {ours}; download it again",
            )


def _check_mode(info: InputFile) -> None:
    modes = MODES["pn" if info.camera == "pn" else "mos"]
    if "TIEVLI" in info.file.upper() or info.submode not in modes:
        raise DataError(
            Reason.MODE,
            f"{info.file}: submode {info.submode or '(none)'} is not searched; these are: {', '.join(modes)}",
        )
    if info.filter.startswith(CLOSED_FILTERS):
        raise DataError(Reason.FILTER, f"{info.file}: the filter wheel was at {info.filter}: no sky in this list")


def _cuts(
    info: InputFile, events: Table, primary: Header, config: ScanConfig, hot_pixels: HotPixels
) -> tuple[Cuts, list[str]]:
    flags, remarks = _flag_cut(events.header, info.camera, config)
    revolution = _whole(events.header.number("REVOLUT") or primary.number("REVOLUT"))
    hot = None
    if hot_pixels.tables and revolution is not None:
        hot = hot_pixels.mask(info.camera, revolution)
    elif hot_pixels.tables:
        remarks.append("no REVOLUT: the hot-pixel tables were not applied")
    null = tuple(events.null(axis) if axis in events else None for axis in "XY")
    return make_cuts(info.camera, info.submode, flags, hot, (null[0], null[1]), config), remarks


def _finish(
    info: InputFile,
    events: Table,
    plane: TangentPlane,
    selection: Selection,
    tables: list[Table],
    hot: PixelMask | None,
    config: ScanConfig,
    backend: Backend,
) -> EventList:
    """Apply what stands behind the events: bad pixels and good time."""
    header, kept, span = events.header, selection.kept, selection.span
    own = _own_bad_pixels(tables) if config.rules.own_bad_pixels else None
    n, bad_pixel, null_xy = backend.drop(kept, selection.n, own)
    cuts = selection.cuts | ({} if own is None else {"bad_pixel": bad_pixel}) | {"null_xy": null_xy}
    if span is None or n == 0:
        raise DataError(Reason.NO_EVENTS, f"{info.file}: none of {events.rows} events is left after the cuts")
    if span[1] - span[0] > MAX_SPAN_S:
        raise DataError(
            Reason.TIME_SPAN,
            f"{info.file}: the times span {span[1] - span[0]:.0f} s, longer than two orbits of "
            f"XMM-Newton; the TIME column is damaged, download the file again",
        )
    good_time = _good_time(tables, header, span, backend) if config.rules.good_time else {}
    if good_time and not any(len(good.intervals) for good in good_time.values()):
        raise DataError(
            Reason.NO_GOOD_TIME,
            f"{info.file}: its good-time tables (STDGTInn, GTI000nn) hold no time near its events",
        )
    return EventList(
        info=dataclasses.replace(info, cuts=cuts),
        plane=plane,
        revolution=_whole(header.number("REVOLUT") or tables[0].header.number("REVOLUT")),
        telapse_s=header.number("TELAPSE") or 0.0,
        time=kept.time[:n],
        x=kept.x[:n],
        y=kept.y[:n],
        pi=kept.pi[:n],
        ccd=kept.ccd[:n],
        pixel=kept.pixel[:n],
        event_span=span,
        good_time=good_time,
        bad_pixels=tuple(mask for mask in (own, hot) if mask is not None),
    )


def _tangent_plane(primary: Header, events: Table, file: str) -> TangentPlane:
    """Read REF?CRVL, REF?CRPX and REF?CDLT of the primary or EVENTS header, else TC*n of the columns X and Y."""
    axes = [("X", events.number("X")), ("Y", events.number("Y"))] if "X" in events and "Y" in events else []
    keys = ("CRVL", "CRPX", "CDLT")
    candidates = [
        [header.number(f"REF{axis}{key}") for key in keys for axis in "XY"] for header in (primary, events.header)
    ]
    candidates.append([events.header.number(f"T{key}{number}") for key in keys for _, number in axes])
    planes = [[v for v in values if v is not None] for values in candidates]
    planes = [values for values in planes if len(values) == 2 * len(keys)]
    if not planes:
        raise DataError(
            Reason.NO_TANGENT_PLANE,
            f"{file}: no tangent plane (REFXCRVL, REFXCRPX, REFXCDLT and their Y twins) "
            f"in the primary or EVENTS header; download the file again",
        )
    ra, dec, crpix_x, crpix_y, step_x, step_y = planes[0]
    step = SKY_PIXEL_ARCSEC / 3600
    odd = (
        not (-90 <= dec <= 90 and abs(ra) <= 360)
        or crpix_x != crpix_y
        or max(abs(step_x + step), abs(step_y - step)) > 1e-6 * step
    )
    apart = any(separation_arcsec(ra, dec, *other[:2]) > PLANE_TOLERANCE_ARCSEC for other in planes[1:])
    if odd or apart:
        raise DataError(
            Reason.NO_TANGENT_PLANE,
            f"{file}: contradictory tangent plane: reference point {ra:g}, {dec:g} deg at pixel "
            f"{crpix_x:g}, {crpix_y:g}, steps {step_x:g}, {step_y:g} deg"
            + ("; other keywords name another reference point" if apart else ""),
        )
    return TangentPlane(ra, dec, crpix_x, step_y)


def _raw_events(events: Table) -> RawEvents:
    return RawEvents(
        time=events.column("TIME", "f"),
        rawx=events.column("RAWX", "iu"),
        rawy=events.column("RAWY", "iu"),
        x=events.column("X", "iu"),
        y=events.column("Y", "iu"),
        pi=events.column("PI", "iu"),
        flag=events.column("FLAG", "iu"),
        pattern=events.column("PATTERN", "iu"),
        ccd=events.column("CCDNR", "iu"),
    )


def _flag_cut(header: Header, camera: str, config: ScanConfig) -> tuple[FlagCut | None, list[str]]:
    if not config.rules.flag_cut:
        return None, []
    keyword = "XMMEA_EP" if camera == "pn" else "XMMEA_EM"
    expression = header.text(keyword)
    parsed = FlagCut.parse(expression) if expression else None
    if parsed is not None:
        return parsed, []
    remarks = [f"{keyword} = {expression!r} has an unknown form; standard flags used"] if expression else []
    return FlagCut.standard(camera), remarks


def _ccd_tables(tables: Iterable[Table], prefix: str) -> dict[int, Table]:
    """Find the tables named by CCD, such as STDGTI01; the first of each name."""
    found: dict[int, Table] = {}
    for table in tables:
        match = _CCD_TABLE.fullmatch(table.name)
        if match and match[1] == prefix and 1 <= int(match[2]) <= 12:
            found.setdefault(int(match[2]), table)
    return found


def _own_bad_pixels(tables: list[Table]) -> PixelMask:
    mask = PixelMask()
    for ccd, table in _ccd_tables(tables, "BADPIX").items():
        if "RAWX" in table and "RAWY" in table:
            run = table.column("YEXTENT", "iu") if "YEXTENT" in table else 1
            mask.add(ccd, table.column("RAWX", "iu"), table.column("RAWY", "iu"), run)
    return mask


def _good_time(tables: list[Table], header: Header, span: tuple[float, float], backend: Backend) -> dict[int, GoodTime]:
    """Find each CCD's good-time intervals and read-out frames.

    A list that somebody filtered carries the intervals of that filter as GTI000nn; the STDGTInn
    beside them are those of the pipeline and too wide. nn is the CCD, unless the header's data
    subspace (DSTYPn, DSVALn, DSREFn) names another table for it. Intervals that reach far beyond
    the events are cut: they would stretch the time range without saying anything.
    """
    by_name = {table.name: table for table in tables}
    stated = _ccd_tables(tables, "STDGTI") | _ccd_tables(tables, "GTI000")
    for ccd, name in _data_subspace(header).items():
        if name in by_name and not name.startswith("STDGTI"):
            stated[ccd] = by_name[name]
    near = np.array([[span[0] - GOOD_TIME_MARGIN_S, span[1] + GOOD_TIME_MARGIN_S]])
    exposures = _ccd_tables(tables, "EXPOSU")
    good = {}
    for ccd in sorted(stated.keys() | exposures.keys()):
        table, frames = stated.get(ccd), None
        if table is None:  # read-out frames without intervals: as long as there were events
            intervals = np.array([span])
        else:
            intervals = intersect(union(table.column("START", "f"), table.column("STOP", "f")), near)
        exposure = exposures.get(ccd)
        if exposure is not None and "TIME" in exposure and "TIMEDEL" in exposure:
            frames = backend.live_curve(
                exposure.column("TIME", "f"),
                exposure.column("TIMEDEL", "f"),
                exposure.column("FRACEXP", "f") if "FRACEXP" in exposure else np.ones(exposure.rows),
            )
        good[ccd] = GoodTime(intervals, frames)
    return good


def _data_subspace(header: Header) -> dict[int, str]:
    """Map CCD to the name of its good-time table, as the data subspace keywords say."""
    columns = {header.text(key): key[5:] for key in header if key.startswith("DSTYP")}
    if "CCDNR" not in columns or "TIME" not in columns:
        return {}
    ccd_number, time_number = columns["CCDNR"], columns["TIME"]
    tables = {}
    for component in ["", *(str(i) for i in range(2, 64))]:
        ccd = _whole(header.number(f"{component}DSVAL{ccd_number}"))
        name = header.text(f"{component}DSREF{time_number}").lstrip(":").upper()
        if ccd is not None and name:
            tables[ccd] = name
    return tables


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
