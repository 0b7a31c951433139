"""XMM-Newton EPIC: pipeline (PPS) event lists and source lists.

One observation is a folder ``<obsid>/`` or ``<obsid>/pps/`` of files such as
``P0001730201M1S002MIEVLI0000.FTZ``: observation, camera, exposure, content, number.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xscan.clean import FlagCut, HotPixels, PixelMask, RawEvents, clean
from xscan.config import ScanConfig
from xscan.errors import DataError, Reason
from xscan.goodtime import exposures_from_frames, union
from xscan.missions.fitsfile import Header, Table, read_tables
from xscan.model import EventList, GoodTime, InputFile, Observation, Sources
from xscan.sky import PLANE_TOLERANCE_ARCSEC, SKY_PIXEL_ARCSEC, TangentPlane, separation_arcsec

__all__ = ["read", "read_event_list", "read_sources"]

MODES = {
    "pn": ("PrimeFullWindow", "PrimeFullWindowExtended", "PrimeLargeWindow"),
    "mos": ("PrimeFullWindow", "PrimePartialRFS", *(f"PrimePartialW{i}" for i in range(2, 7))),
}
CLOSED_FILTERS = ("CalClosed", "Closed", "CalThin", "CalMedium", "CalThick", "Blocked")
INSTRUMENTS = {"EPN": "pn", "EMOS1": "m1", "EMOS2": "m2"}

MAX_SPAN_S = 400_000.0
"""Longest time range taken for one exposure; the orbit lasts 172,800 s."""

_EVENTS = re.compile(r"P(\d{10})(PN|M1|M2)([SUX]\d{3})(PI|MI|TI)EVLI(\d{4})?\.(FTZ|FIT|FITS|FITS\.GZ)", re.I)
_SOURCES = re.compile(r"P(\d{10})EP.{4}OBSMLI.*\.(FTZ|FIT|FITS|FITS\.GZ)", re.I)
_GTI_NUMBER = re.compile(r"GTI000(\d\d)")


def read(folder: Path, config: ScanConfig, hot_pixels: HotPixels | None = None) -> Observation:
    """Read and clean everything of one observation.

    Parameters
    ----------
    folder : Path
        ``<obsid>/`` or ``<obsid>/pps/``.
    config : ScanConfig
    hot_pixels : HotPixels, optional
        The user's hot-pixel tables.

    Raises
    ------
    DataError
        If there is no such folder, or no event list in it. A list that cannot be used is no
        error: it stands in ``Observation.skipped`` with its reason.
    """
    obsid, event_paths, source_path = _find(Path(folder))
    lists, skipped, target = [], [], ""
    seen: set[tuple[str, str]] = set()
    for path in event_paths:
        info = _file_info(path)
        try:
            key = (info.camera, info.exposure)
            if key in seen:
                raise DataError(Reason.DUPLICATE, f"{path.name}: this exposure is in the folder twice")
            seen.add(key)
            events, name = read_event_list(path, config, hot_pixels or HotPixels())
            lists.append(events)
            target = target or name
        except DataError as error:
            skipped.append(_failed(info, error))
    sources, source_file = None, None
    if source_path is not None:
        source_file = InputFile(source_path.name, source_path.stat().st_size)
        try:
            sources, date = read_sources(source_path)
            rows = len(sources.rate)
            source_file = dataclasses.replace(source_file, date=date, n_rows=rows)
        except DataError as error:
            source_file = dataclasses.replace(source_file, reason=error.reason, message=str(error))
    return Observation(obsid, tuple(lists), tuple(skipped), sources, source_file, target)


class _ListError(DataError):
    """A DataError that remembers how far the reading of its list came."""

    def __init__(self, reason: Reason, message: str, info: InputFile) -> None:
        super().__init__(reason, message)
        self.info = info


def _failed(info: InputFile, error: DataError) -> InputFile:
    info = error.info if isinstance(error, _ListError) else info
    return dataclasses.replace(info, reason=error.reason, message=str(error))


def _find(folder: Path) -> tuple[str, list[Path], Path | None]:
    if not folder.is_dir():
        raise DataError(
            Reason.NO_FOLDER, f"{folder}: no such folder; an observation is a folder <obsid>/ of its PPS files"
        )
    pps = folder / "pps"
    paths = sorted(p for place in (folder, pps) if place.is_dir() for p in place.iterdir() if p.is_file())
    named = [(match, path) for path in paths if (match := _EVENTS.fullmatch(path.name))]
    if not named:
        raise DataError(
            Reason.NO_EVENT_LISTS,
            f"{folder}: no EPIC event list (P<obsid>PN...PIEVLI*.FTZ, P<obsid>M1...MIEVLI*.FTZ) "
            f"among {len(paths)} files; download the PPS products of this observation",
        )
    resolved = folder.resolve()
    names = [resolved.parent.name if resolved.name == "pps" else resolved.name]
    obsids = sorted({match[1] for match, _ in named})
    obsid = names[0] if names[0] in obsids else obsids[0]
    if len(obsids) > 1 and names[0] not in obsids:
        raise DataError(
            Reason.NO_EVENT_LISTS,
            f"{folder}: files of several observations ({', '.join(obsids)}) lie side by side; "
            f"give each a folder of its own",
        )
    sources = [p for p in paths if (match := _SOURCES.fullmatch(p.name)) and match[1] == obsid]
    return obsid, [p for match, p in named if match[1] == obsid], sources[0] if sources else None


def _file_info(path: Path) -> InputFile:
    match = _EVENTS.fullmatch(path.name)
    camera, exposure = (match[2].lower(), match[3].upper()) if match else ("", "")
    return InputFile(path.name, path.stat().st_size, camera=camera, exposure=exposure)


def read_event_list(path: Path, config: ScanConfig, hot_pixels: HotPixels) -> tuple[EventList, str]:
    """Read one event list and apply every cut but the band.

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
    info = _file_info(path)
    tables = read_tables(path)
    primary = tables[0].header
    events = next((table for table in tables if table.name == "EVENTS"), None)
    if events is None:
        names = ", ".join(table.name for table in tables[1:]) or "no extension"
        raise DataError(
            Reason.NO_EVENTS_TABLE,
            f"{path.name}: no EVENTS extension (found {names}); expected a PPS event list",
        )
    header = events.header
    camera = INSTRUMENTS.get(header.text("INSTRUME") or primary.text("INSTRUME"), info.camera)
    submode = header.text("SUBMODE") or primary.text("SUBMODE")
    info = dataclasses.replace(
        info,
        camera=camera,
        date=primary.text("PROCDATE") or header.text("PROCDATE") or primary.text("DATE"),
        submode=submode,
        filter=header.text("FILTER") or primary.text("FILTER"),
        n_rows=events.rows,
    )
    try:
        _check_mode(info, path)
        plane = _tangent_plane(primary, header, path)
        raw = _raw_events(events, camera)
        flags, remark = _flag_cut(header, camera, config)
        hot, own = PixelMask(), PixelMask()
        revolution = _whole(header.get("REVOLUT", primary.get("REVOLUT")))
        hot_pixels.mark(hot, camera, revolution)
        if config.rules.own_bad_pixels:
            _mark_own_bad_pixels(own, tables)
        index, span, cuts = clean(
            raw,
            camera,
            submode,
            flags,
            hot if hot_pixels.tables else None,
            own if config.rules.own_bad_pixels else None,
            (events.null("X"), events.null("Y")),
            config,
        )
        info = dataclasses.replace(info, cuts=cuts, message=remark)
        if span is None or index.size == 0:
            raise DataError(Reason.NO_EVENTS, f"{path.name}: none of {events.rows} events is left after the cuts")
        if span[1] - span[0] > MAX_SPAN_S:
            raise DataError(
                Reason.TIME_SPAN,
                f"{path.name}: the times span {span[1] - span[0]:.0f} s, longer than two orbits of "
                f"XMM-Newton; the TIME column is damaged, download the file again",
            )
        good_time = _good_time(tables, header) if config.rules.good_time else {}
        if good_time and not any(len(good.intervals) for good in good_time.values()):
            raise DataError(
                Reason.NO_GOOD_TIME,
                f"{path.name}: its good-time tables (STDGTInn, GTI000nn) are all empty: no live time",
            )
    except DataError as error:
        raise _ListError(error.reason, str(error), info) from None
    return (
        EventList(
            info=info,
            plane=plane,
            revolution=revolution,
            telapse_s=header.number("TELAPSE") or 0.0,
            time=raw.time[index].astype(np.float64),
            x=raw.x[index].astype(np.uint16),
            y=raw.y[index].astype(np.uint16),
            pi=raw.pi[index].astype(np.uint16),
            ccd=raw.ccd[index].astype(np.uint8),
            event_span=span,
            good_time=good_time,
        ),
        header.text("OBJECT") or primary.text("OBJECT"),
    )


def _check_mode(info: InputFile, path: Path) -> None:
    modes = MODES["pn" if info.camera == "pn" else "mos"]
    if "TIEVLI" in path.name.upper() or info.submode not in modes:
        raise DataError(
            Reason.MODE,
            f"{path.name}: submode {info.submode or '(none)'} is not searched; these are: {', '.join(modes)}",
        )
    if info.filter.startswith(CLOSED_FILTERS):
        raise DataError(Reason.FILTER, f"{path.name}: the filter wheel was at {info.filter}: no sky in this list")


def _tangent_plane(primary: Header, header: Header, path: Path) -> TangentPlane:
    """Read REF?CRVL, REF?CRPX, REF?CDLT; the primary header's, else those of EVENTS."""
    planes = []
    for source in (primary, header):
        values = [source.number(f"REF{axis}{key}") for key in ("CRVL", "CRPX", "CDLT") for axis in "XY"]
        if None not in values:
            planes.append([float(value) for value in values if value is not None])
    if not planes:
        raise DataError(
            Reason.NO_TANGENT_PLANE,
            f"{path.name}: no tangent plane (REFXCRVL, REFXCRPX, REFXCDLT and their Y twins) "
            f"in the primary or EVENTS header; download the file again",
        )
    ra, dec, crpix_x, crpix_y, step_x, step_y = planes[0]
    step = SKY_PIXEL_ARCSEC / 3600
    odd = (
        not (-90 <= dec <= 90 and abs(ra) <= 360)
        or crpix_x != crpix_y
        or max(abs(step_x + step), abs(step_y - step)) > 1e-6 * step
    )
    apart = any(separation_arcsec(ra, dec, other[0], other[1]) > PLANE_TOLERANCE_ARCSEC for other in planes[1:])
    if odd or apart:
        raise DataError(
            Reason.NO_TANGENT_PLANE,
            f"{path.name}: contradictory tangent plane: REFXCRVL, REFYCRVL = {ra:g}, {dec:g}; "
            f"REFXCRPX, REFYCRPX = {crpix_x:g}, {crpix_y:g}; REFXCDLT, REFYCDLT = {step_x:g}, {step_y:g}"
            + ("; the EVENTS header names another reference point" if apart else ""),
        )
    return TangentPlane(ra, dec, crpix_x, step_y)


def _raw_events(events: Table, camera: str) -> RawEvents:
    ccd = events.column("CCDNR", "iu")
    return RawEvents(
        time=events.column("TIME", "f"),
        rawx=events.column("RAWX", "iu"),
        rawy=events.column("RAWY", "iu"),
        x=events.column("X", "iu"),
        y=events.column("Y", "iu"),
        pi=events.column("PI", "iu"),
        flag=events.column("FLAG", "iu"),
        pattern=events.column("PATTERN", "iu"),
        ccd=ccd if camera == "pn" else ccd % 10,  # MOS: node x 10 + CCD
    )


def _flag_cut(header: Header, camera: str, config: ScanConfig) -> tuple[FlagCut | None, str]:
    if not config.rules.flag_cut:
        return None, ""
    keyword = "XMMEA_EP" if camera == "pn" else "XMMEA_EM"
    expression = header.text(keyword)
    if not expression:
        return FlagCut.standard(camera), ""
    parsed = FlagCut.parse(expression)
    if parsed is None:
        return FlagCut.standard(camera), f"{keyword} = {expression!r} has an unknown form; standard flags used"
    return parsed, ""


def _mark_own_bad_pixels(mask: PixelMask, tables: Iterable[Table]) -> None:
    for table in tables:
        if table.name.startswith("BADPIX") and table.name[6:].isdigit() and "RAWX" in table:
            run = table.column("YEXTENT", "iu") if "YEXTENT" in table else 1
            mask.add(int(table.name[6:]), table.column("RAWX", "iu"), table.column("RAWY", "iu"), run)


def _good_time(tables: list[Table], header: Header) -> dict[int, GoodTime]:
    """Find each CCD's good-time intervals and read-out frames.

    A list that somebody filtered carries the intervals of that filter as GTI000nn; the STDGTInn
    beside them are those of the pipeline and too wide. The header's data subspace (DSTYPn, DSVALn,
    DSREFn) says which table belongs to which CCD; without it nn is the CCD.
    """
    by_name = {table.name: table for table in tables}
    subspace = _data_subspace(header)
    intervals: dict[int, list[Table]] = {}
    for table in tables:
        if table.name.startswith("STDGTI") and table.name[6:].isdigit():
            intervals.setdefault(int(table.name[6:]), [table])
    narrow: dict[int, Table] = {}
    for table in tables:
        number = _GTI_NUMBER.fullmatch(table.name)
        if number and int(number[1]) > 0 and not subspace:
            narrow[int(number[1])] = table
    for ccd, name in subspace.items():
        if name in by_name and not name.startswith("STDGTI"):
            narrow[ccd] = by_name[name]
    for ccd, table in narrow.items():
        intervals[ccd] = [table]
    good = {}
    for ccd, found in intervals.items():
        spans = union(found[0].column("START", "f"), found[0].column("STOP", "f"))
        exposure = by_name.get(f"EXPOSU{ccd:02d}")
        frames = None
        if exposure is not None and exposure.rows and "TIMEDEL" in exposure:
            frames = exposures_from_frames(
                exposure.column("TIME", "f"),
                exposure.column("TIMEDEL", "f"),
                exposure.column("FRACEXP", "f") if "FRACEXP" in exposure else np.ones(exposure.rows),
            )
        good[ccd] = GoodTime(spans, frames)
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


def _whole(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None


def read_sources(path: Path) -> tuple[Sources, str]:
    """Read an EPIC source list (OBSMLI).

    Returns
    -------
    sources : Sources
        Rows with a place, a likelihood and a rate; others are left out.
    date : str
        When the pipeline made the list.

    Raises
    ------
    DataError
        If the file is unreadable, or no table has RA, DEC, EP_DET_ML, EP_EXTENT and EP_TOT.
    """
    needed = ("RA", "DEC", "EP_DET_ML", "EP_EXTENT", "EP_TOT")
    tables = read_tables(path)
    table = next((t for t in tables if all(name in t for name in needed)), None)
    if table is None:
        raise DataError(
            Reason.NO_EVENTS_TABLE, f"{path.name}: no table with the columns {', '.join(needed)}; not a source list"
        )
    ra, dec, likelihood, extent, rate = (table.column(name).astype(np.float64) for name in needed)
    usable = np.isfinite(ra) & np.isfinite(dec) & np.isfinite(likelihood) & (np.abs(dec) <= 90)
    extent, rate = np.nan_to_num(extent), np.nan_to_num(rate)
    date = tables[0].header.text("PROCDATE") or tables[0].header.text("DATE")
    columns = (ra, dec, likelihood, extent, rate)
    return Sources(*(values[usable] for values in columns)), date
