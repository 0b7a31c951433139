"""Read the unit, origin and system of the times in an EPIC table, and convert them to mission time."""

from __future__ import annotations

from dataclasses import dataclass

from xscan.errors import DataError, Reason
from xscan.io.fits import Header, Table
from xscan.missions.xmm.instrument import EPIC

__all__ = ["TimeSystem", "check_telescope", "read_time_system", "shift_of"]

DAY_S = 86_400.0
SECONDS = ("", "s", "sec", "secs", "second", "seconds")
TERRESTRIAL = ("", "TT", "TDT", "ET")  # the older names of one scale
LOCAL = ("", "LOCAL", "SATELLITE", "TOPOCENTER", "TOPOCENTRIC")
GEOCENTRE = ("GEOCENTRIC", "GEOCENTER")
BARYCENTRE = ("SOLARSYSTEM", "BARYCENTER", "BARYCENTRE", "BARYCENTRIC")

INSTRUMENTS = {camera.instrume: camera.name for camera in EPIC.cameras}
OTHER_INSTRUMENTS = {"RGS1": "an RGS", "RGS2": "an RGS", "OM": "an OM", "ERM": "a radiation monitor"}
OTHER_TELESCOPES = {
    "CHANDRA": "a Chandra", "SWIFT": "a Swift", "NUSTAR": "a NuSTAR", "EROSITA": "an eROSITA", "SRG": "an SRG",
    "NICER": "a NICER", "SUZAKU": "a Suzaku", "ASCA": "an ASCA", "ROSAT": "a ROSAT", "XTE": "an RXTE",
    "IXPE": "an IXPE", "XRISM": "an XRISM", "EP": "an Einstein Probe", "MAXI": "a MAXI", "GALEX": "a GALEX",
    "INTEGRAL": "an INTEGRAL", "EXOSAT": "an EXOSAT", "HITOMI": "a Hitomi", "FERMI": "a Fermi", "GLAST": "a Fermi",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimeSystem:
    """The time system of an event list.

    Attributes
    ----------
    shift_s : float
        To be added to get mission time, s since MJD 50814; exactly 0 for lists made by the pipeline.
    scale : str
        ``TT`` or ``TDB``.
    barycentred : bool
        True if light travel time to the barycentre of the solar system was added.
    remarks : tuple of str
        Sentences for the user on anything unusual.
    """

    shift_s: float = 0.0
    scale: str = "TT"
    barycentred: bool = False
    remarks: tuple[str, ...] = ()


def check_telescope(file: str, events: Header, primary: Header) -> None:
    """Check that a list is of XMM-Newton's EPIC, as far as its header states a telescope and an instrument.

    Raises
    ------
    DataError
        ``other_telescope``: it is of another one, which the message names.

    Examples
    --------
    >>> chandra = Header(b"TELESCOP= 'CHANDRA '".ljust(80))
    >>> check_telescope("acis.fits", chandra, Header(b""))
    Traceback (most recent call last):
    ...
    xscan.errors.DataError: acis.fits: this is a Chandra list (TELESCOP = 'CHANDRA'); xscan reads XMM-Newton ...
    """
    telescope, instrument = (events.text(key) or primary.text(key) for key in ("TELESCOP", "INSTRUME"))
    reads = "xscan reads XMM-Newton EPIC"
    if telescope and not telescope.upper().startswith("XMM"):
        known = OTHER_TELESCOPES.get(telescope.upper())
        what = f"{known} list" if known else f"a list of {telescope}"
        raise DataError(Reason.OTHER_TELESCOPE, f"{file}: this is {what} (TELESCOP = {telescope!r}); {reads}")
    if instrument and instrument.upper() not in INSTRUMENTS:
        known = OTHER_INSTRUMENTS.get(instrument.upper())
        what = f"{known} list" if known else f"a list of {instrument}"
        named = ", ".join(INSTRUMENTS)
        raise DataError(
            Reason.OTHER_TELESCOPE, f"{file}: this is {what} (INSTRUME = {instrument!r}); {reads} ({named})"
        )


def read_time_system(events: Table, primary: Header) -> TimeSystem:
    """Read the time system of the EVENTS table.

    Moves of the origin (MJDREF, TIMEZERO) are exact and are undone. Times at the barycentre and in TDB
    are searched as they are: SAS's barycen writes TIMEREF = SOLARSYSTEM, which implies TDB, and keeps TIMESYS.

    Raises
    ------
    DataError
        ``other_time_system``: another unit, scale or reference position; the message names the keyword.

    Examples
    --------
    Of a list of the pipeline, and of one whose times begin a day later:

    >>> from dataclasses import replace
    >>> from xscan.io.fits import read_tables
    >>> primary, events = read_tables(next(folder.glob("*M1S*EVLI*")))[:2]
    >>> read_time_system(events, primary.header)
    TimeSystem(shift_s=0.0, scale='TT', barycentred=False, remarks=())
    >>> later = replace(events, header=Header(b"MJDREF  = 50815".ljust(80)))
    >>> read_time_system(later, primary.header).shift_s
    86400.0
    """

    def text(keyword: str) -> str:
        return events.header.text(keyword) or primary.text(keyword)

    _check_unit(events, "TIME", text("TIMEUNIT"))
    scale, place = text("TIMESYS").upper(), (text("TIMEREF") or text("TREFPOS")).upper()
    if scale not in (*TERRESTRIAL, "TDB"):
        raise _refused(events, f"TIMESYS is {scale}, not TT or TDB", "convert TIME and the good-time tables to TT")
    if place not in LOCAL + GEOCENTRE + BARYCENTRE:
        raise _refused(events, f"TIMEREF is {place}, not LOCAL or SOLARSYSTEM", "take the list as it was before that")
    named_by = next((header for header in (events.header, primary) if _names_origin(header)), events.header)
    shift_s = _shift(events, named_by)
    barycentred = place in BARYCENTRE
    remarks = []
    if barycentred:
        remarks.append("its times are at the barycentre of the solar system, TDB (TIMEREF = SOLARSYSTEM)")
    elif scale == "TDB":
        remarks.append("its times are TDB (TIMESYS)")
    if place in GEOCENTRE:
        remarks.append("its times are at the centre of the Earth (TIMEREF = GEOCENTRIC), up to 0.5 s from the others'")
    if shift_s:
        keys = ("MJDREF", "MJDREFI", "MJDREFF", "TIMEZERO", "TIMEZERI", "TIMEZERF")
        values = ", ".join(f"{key} = {named_by.text(key)}" for key in keys if key in named_by)
        remarks.append(f"its times are moved by {shift_s:.10g} s to mission time ({values})")
    return TimeSystem(shift_s, "TDB" if barycentred or scale == "TDB" else "TT", barycentred, tuple(remarks))


def shift_of(table: Table, columns: tuple[str, ...], events: TimeSystem) -> float:
    """Return what has to be added to the times of another table of the list to get mission time, s.

    Each table has an origin of its own; if it states none, that of the events applies.

    Raises
    ------
    DataError
        ``other_time_system``: another unit or scale; the message names the table and the keyword.

    Examples
    --------
    A table that names its origin, a day later than that of XMM-Newton, and one that does not:

    >>> named = Table("list.fits", "STDGTI01", Header(b"MJDREF  = 50815".ljust(80)), 0, 0, {})
    >>> unnamed = Table("list.fits", "STDGTI01", Header(b""), 0, 0, {})
    >>> [shift_of(table, ("START", "STOP"), TimeSystem(shift_s=50.0)) for table in (named, unnamed)]
    [86400.0, 50.0]
    """
    for column in columns:
        if column in table:
            _check_unit(table, column, table.header.text("TIMEUNIT"))
    scale = table.header.text("TIMESYS").upper()
    if scale not in (*TERRESTRIAL, "TDB"):
        raise _refused(table, f"TIMESYS is {scale}, not TT or TDB", "convert the table to TT")
    return _shift(table, table.header) if _names_origin(table.header) else events.shift_s


def _names_origin(header: Header) -> bool:
    return "MJDREF" in header or "MJDREFI" in header


def _check_unit(table: Table, column: str, default: str) -> None:
    keyword = f"TUNIT{table.number(column)}" if column in table else ""
    unit = table.header.text(keyword) if keyword else ""
    if (unit or default).lower() not in SECONDS:
        said = f"{keyword} (the unit of {column})" if unit else "TIMEUNIT"
        raise _refused(table, f"{said} is {unit or default!r}, not s", "convert the times to seconds")


def _shift(table: Table, header: Header) -> float:
    """Return the mission time of the table's time 0, s."""

    def number(keyword: str) -> float:
        if keyword not in header:
            return 0.0
        value = header.number(keyword)
        if value is None and header.text(keyword):
            raise _refused(table, f"{keyword} is {header.text(keyword)!r}, no number", "correct the keyword")
        return value or 0.0

    origin = 0.0
    if "MJDREFI" in header:
        origin = (number("MJDREFI") - EPIC.mjdref) * DAY_S + number("MJDREFF") * DAY_S
        if "MJDREF" in header and abs((number("MJDREF") - EPIC.mjdref) * DAY_S - origin) > 1e-3:
            raise _refused(table, "MJDREF is not MJDREFI + MJDREFF", "remove what is wrong")
    elif "MJDREF" in header:
        origin = (number("MJDREF") - EPIC.mjdref) * DAY_S
    return origin + number("TIMEZERO") + number("TIMEZERI") + number("TIMEZERF")


def _refused(table: Table, what: str, remedy: str) -> DataError:
    return DataError(Reason.OTHER_TIME_SYSTEM, f"{table.file}: {what} in the table {table.name}; {remedy}")
