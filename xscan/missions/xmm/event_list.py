"""Read one EPIC event list: its camera and mode, the events that pass the cuts, and its live time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from xscan.backends import EventLoops
from xscan.config import ScanConfig
from xscan.errors import DataError, Reason
from xscan.events.cuts import Cuts, EventBuffer, FlagCut, RawEvents, Selection, Span, select_all
from xscan.io.fits import Header, Table, stream_tables
from xscan.missions.xmm.cuts import make_cuts, parse_flag_cut, standard_flag_cut
from xscan.missions.xmm.gti import MAX_SPAN_S, MOST, Stated, ccd_tables, main_span, pi_filter, read_good_time
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.missions.xmm.instrument import EPIC
from xscan.missions.xmm.times import INSTRUMENTS, TimeSystem, check_telescope, read_time_system
from xscan.model import EventList, InputFile, PixelMask
from xscan.sky import PLANE_TOLERANCE_ARCSEC, TangentPlane, separation_arcsec

__all__ = ["ListError", "read_event_list"]

MODES = {
    "pn": ("PrimeFullWindow", "PrimeFullWindowExtended", "PrimeLargeWindow"),
    "mos": ("PrimeFullWindow", "PrimePartialRFS", *(f"PrimePartialW{i}" for i in range(2, 7))),
}
CLOSED_FILTERS = ("CalClosed", "Closed", "CalThin", "CalMedium", "CalThick", "Blocked")
LAUNCH_S = 6.1e7
"""Mission time at which XMM-Newton was launched, 10 December 1999."""

NEVER_S = 3e9
"""Mission time in 2093, later than any observation."""

CUT_BY = {
    "time": "TIME is no number, or days from all others",
    "pi": "PI is outside 200..12000 eV",
    "pattern": "PATTERN is above 4 (pn) or 12 (MOS)",
    "flag": "FLAG says bad",
    "detector": "bad columns and borders of pn, the central CCD of MOS in window modes",
    "hot_pixel": "the user's hot pixels",
    "bad_pixel": "BADPIXnn",
    "null_xy": "X and Y give no place; attcalc writes them",
}
"""Criterion by which each cut removes events, for messages."""


class ListError(DataError):
    """A list cannot be used; ``info`` holds the reason, and what was read of the list until then."""

    def __init__(self, info: InputFile, error: DataError) -> None:
        super().__init__(error.reason, str(error))
        self.info = dataclasses.replace(info, reason=error.reason, message=str(error))


def read_event_list(
    path: Path, info: InputFile, obsid: str, config: ScanConfig, hot_pixels: HotPixels, loops: EventLoops
) -> tuple[EventList, str]:
    """Read one event list and apply every cut but the band.

    Parameters
    ----------
    path : Path
    info : InputFile
        Facts from the file's name.
    obsid : str
        The observation to which it should belong.
    config : ScanConfig
    hot_pixels : HotPixels
    loops : EventLoops

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

    Examples
    --------
    Each row is an event that is kept, or was removed by one of the cuts:

    >>> from xscan.backends import get_backend
    >>> from xscan.config import load_config
    >>> path = next(folder.glob("*M1S*EVLI*"))
    >>> info = InputFile(path.name, path.stat().st_size, camera="m1", exposure="S001")
    >>> loops = get_backend("numpy").events
    >>> made, target = read_event_list(path, info, "0990000001", load_config(), HotPixels(), loops)
    >>> made.camera, len(made.time) + sum(made.info.cuts.values()) == made.info.n_rows
    ('m1', True)
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
            check_telescope(info.file, events.header, primary)
            _check_identity(info, events.header, obsid)
            _check_mode(info)
            system = read_time_system(events, primary)
            plane = _tangent_plane(primary, events, info.file)
            cuts, remarks = _cuts(info, events, primary, config, hot_pixels)
            remarks += system.remarks
            parts = (_raw_events(part) for part in streamed.parts())
            selection = select_all(parts, events.rows, cuts, loops.select)
        if selection is None:
            names = ", ".join(table.name for table in tables[1:]) or "no extension"
            raise DataError(
                Reason.NO_EVENTS_TABLE,
                f"{path.name}: no EVENTS extension (found {names}): this is no event list; take it out of the folder",
            )
        own = _own_bad_pixels(tables) if config.rules.own_bad_pixels else None
        info, kept, span = _drop(info, selection, own, system, loops)
        bad_pixels = tuple(mask for mask in (own, cuts.hot) if mask is not None)
        made = _finish(info, remarks, events, plane, system, kept, span, tables, bad_pixels, config, loops)
    except ListError:
        raise
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
    """Raise an error if the header contradicts the name of the file."""
    camera = INSTRUMENTS.get(header.text("INSTRUME").upper(), info.camera)
    for keyword, ours, theirs in (("OBS_ID", obsid, header.text("OBS_ID") or obsid), ("INSTRUME", info.camera, camera)):
        if ours != theirs:
            raise DataError(
                Reason.CONTRADICTORY,
                f"{info.file}: {keyword} is {header.text(keyword)}, the file's name says {ours}: one of them is wrong; "
                f"rename the file, or fetch it anew",
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


def _drop(
    info: InputFile,
    selection: Selection,
    own: PixelMask | None,
    system: TimeSystem,
    loops: EventLoops,
) -> tuple[InputFile, EventBuffer, Span]:
    """Remove events in bad pixels, without a position, and with times days away from all others.

    The bad pixels are read from tables behind the events in the file. Return the file's record with the number of
    events cut, the remaining events with mission times, and the times of the first and the last, s.
    """
    kept, cuts = selection.kept, selection.cuts
    n, bad_pixel, null_xy = loops.drop_bad_pixels(kept, selection.n, own)
    cuts = cuts | ({} if own is None else {"bad_pixel": bad_pixel}) | {"null_xy": null_xy}
    info = dataclasses.replace(info, cuts=cuts)
    if selection.span is None or n == 0:
        raise ListError(info, DataError(Reason.NO_EVENTS, f"{info.file}: {_what_took_most(info.n_rows, cuts)}"))
    kept = kept.only(np.s_[:n])
    first, last = selection.span
    if system.shift_s:
        kept.time[:] += system.shift_s
        first, last = first + system.shift_s, last + system.shift_s
        middle = float(np.median(kept.time))
        if not LAUNCH_S < middle < NEVER_S:
            why = (
                f"{info.file}: with MJDREF and TIMEZERO as they stand its times are around {middle:.4g} s of mission "
                f"time, when XMM-Newton did not observe; correct these keywords"
            )
            raise ListError(info, DataError(Reason.OTHER_TIME_SYSTEM, why))
    if last - first <= MAX_SPAN_S:
        return info, kept, (first, last)
    first, last, share = main_span(kept.time)
    if share < MOST:
        raise ListError(
            info,
            DataError(
                Reason.TIME_SPAN,
                f"{info.file}: only {share:.0%} of its times lie within two orbits ({MAX_SPAN_S:.0f} s) of each other: "
                f"several exposures in one list, or TIME is damaged; split it, as with evselect "
                f"expression='TIME in [{first:.0f}:{last:.0f}]'",
            ),
        )
    near = (kept.time >= first) & (kept.time <= last)
    info = dataclasses.replace(info, cuts=cuts | {"time": cuts["time"] + int(np.count_nonzero(~near))})
    return info, kept.only(near), (first, last)


def _what_took_most(rows: int, cuts: dict[str, int]) -> str:
    if rows == 0:
        return "the list has no events"
    most = max(cuts, key=lambda name: cuts[name])
    return f"none of {rows} events is left after the cuts; most went by cut_{most}: {cuts[most]} ({CUT_BY[most]})"


def _finish(
    info: InputFile,
    remarks: list[str],
    events: Table,
    plane: TangentPlane,
    system: TimeSystem,
    kept: EventBuffer,
    span: Span,
    tables: list[Table],
    bad_pixels: tuple[PixelMask, ...],
    config: ScanConfig,
    loops: EventLoops,
) -> EventList:
    """Add good time and read-out frames, from the tables behind the events, and build the event list."""
    header = events.header
    stated = Stated({}, span)
    if config.rules.good_time:
        try:
            stated = read_good_time(tables, header, system, kept.time, kept.ccd, span, loops)
        except DataError as error:
            raise ListError(info, error) from None
    if stated.good_time and not any(len(good.gti) for good in stated.good_time.values()):
        why = f"{info.file}: its good-time tables (STDGTInn, GTInnnmm) are empty: whatever filtered it left no time"
        raise ListError(info, DataError(Reason.NO_GOOD_TIME, why))
    left = pi_filter(header, kept.pi)
    remarks = [*remarks, *stated.remarks]
    if left is not None:
        remarks.append(f"the list holds PI {left[0]}..{left[1]} eV only (its DS keywords)")
    return EventList(
        info=dataclasses.replace(info, message=f"{info.file}: {'; '.join(remarks)}" if remarks else ""),
        plane=plane,
        revolution=_whole(header.number("REVOLUT") or tables[0].header.number("REVOLUT")),
        telapse_s=header.number("TELAPSE") or 0.0,
        time=kept.time,
        x=kept.x,
        y=kept.y,
        pi=kept.pi,
        ccd=kept.ccd,
        pixel=kept.pixel,
        event_span=stated.span,
        good_time=stated.good_time,
        instrument=EPIC,
        time_system=system.scale,
        barycentred=system.barycentred,
        pi_filter=left,
        bad_pixels=bad_pixels,
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
            f"in the primary or EVENTS header; SAS's attcalc writes it",
        )
    ra, dec, crpix_x, crpix_y, step_x, step_y = planes[0]
    step = EPIC.sky.side_arcsec / 3600
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
            + ("; other keywords name another reference point" if apart else "")
            + "; SAS's attcalc writes X, Y and these keywords anew",
        )
    return TangentPlane(ra, dec, crpix_x, step_y)


def _raw_events(events: Table) -> RawEvents:
    time = events.column("TIME", "f")
    if time.dtype.itemsize < 8:
        raise DataError(
            Reason.NO_EVENTS_TABLE,
            f"{events.file}: column TIME has single precision: its times are rounded to some 8 s; take the list as it "
            f"was before that",
        )
    return RawEvents(
        time=time,
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
    parsed = parse_flag_cut(expression) if expression else None
    if parsed is not None:
        return parsed, []
    remarks = [f"{keyword} = {expression!r} has an unknown form; standard flags used"] if expression else []
    return standard_flag_cut(camera), remarks


def _own_bad_pixels(tables: list[Table]) -> PixelMask:
    mask = PixelMask()
    pixels = []  # CCD, RAWX, RAWY and run of each table; marked in one call, because a table has only a few
    for ccd, table in ccd_tables(tables, "BADPIX").items():
        if "RAWX" in table and "RAWY" in table:
            run = table.column("YEXTENT", "iu") if "YEXTENT" in table else 1
            pixels.append(np.broadcast_arrays(ccd, table.column("RAWX", "iu"), table.column("RAWY", "iu"), run))
    if pixels:
        mask.add(*np.concatenate(pixels, axis=1))
    return mask


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
