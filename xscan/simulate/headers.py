"""Make the keywords of EPIC event lists, in the order of real lists.

Raw lists are like those of the pipeline (MOS, SAS 18), cleaned ones like the output of ``evselect`` of SAS 13.5.
docs/simulator.md says which keywords of pn are known from documentation only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from xscan.missions.xmm.instrument import EPIC
from xscan.simulate.detector import Camera
from xscan.simulate.fitsbytes import Card
from xscan.sky import TangentPlane

__all__ = [
    "CREATOR",
    "DATE",
    "FLAG_EXPRESSION",
    "INSTRUMENT",
    "NULL",
    "SUBMODE",
    "Exposure",
    "Pointing",
    "bad_pixel_cards",
    "calibration_cards",
    "event_cards",
    "good_time_cards",
    "good_time_name",
    "history",
    "offset_cards",
    "primary_cards",
    "read_out_cards",
]

Floats = NDArray[np.float64]
Values = dict[str, str | float | bool]

SUBMODE = "PrimeFullWindow"
NULL = -99_999_999
DATE = "2026-01-01T00:00:00"
CREATOR = "xscan simulate, not an observation"
INSTRUMENT = {"pn": "EPN", "m1": "EMOS1", "m2": "EMOS2"}
CENTRAL_CCD = {"pn": 4, "m1": 1, "m2": 1}
FLAG_EXPRESSION = {"pn": ("XMMEA_EP", "(FLAG & 0x2fb0024) == 0"), "mos": ("XMMEA_EM", "(FLAG & 0x766ba000) == 0")}
SPECTRAL_EXPRESSION = "(FLAG & 0xfffffeff) == 0"
ANY_FLAG = "b" + 31 * "x"
"""FLAG in the data subspace: no bit was requested, because simulated lists keep what the pipeline rejects."""

DATE_LATE_S = 5.0
"""DATE-OBS and DATE-END are this much later than TSTART and TSTOP, as in real lists (5 to 7 s)."""

LEAP_SECONDS = (("2006-01", 33), ("2009-01", 34), ("2012-07", 35), ("2015-07", 36), ("2017-01", 37))
"""TAI - UTC, s, from the beginning of each month on; 32 before the first."""

WRAP = 1 << 16
"""The pipeline writes some limits of X and Y into EVENTS as 16-bit integers: 51840 becomes -13696."""

SKY = (
    "REFXCTYP REFXCRPX REFXCRVL REFXCDLT REFXLMIN REFXLMAX REFXDMIN REFXDMAX REFXCUNI "
    "REFYCTYP REFYCRPX REFYCRVL REFYCDLT REFYLMIN REFYLMAX REFYDMIN REFYDMAX REFYCUNI"
)
ABOUT = (
    "LONGSTRN DATAMODE TELESCOP INSTRUME OBS_ID EXP_ID DATE-OBS DATE-END OBS_MODE REVOLUT OBJECT OBSERVER RA_OBJ "
    "DEC_OBJ RA_NOM DEC_NOM EXPIDSTR FILTER ATT_SRC ORB_RCNS TFIT_RPD TFIT_DEG TFIT_RMS TFIT_PFR TFIT_IGH SUBMODE "
    f"EQUINOX RADECSYS {SKY} AVRG_PNT RA_PNT DEC_PNT PA_PNT"
)
"""Keywords of every table except those of good time; after a table's own keywords, if it has any."""

PROCESSING = "SEQ_ID REVOLUT PROCDATE PROCREV PPSVERS SASVERS ODSVER ORIGIN ODFVER CONTENT"
CLOCK = "TIMEUNIT TIMESYS MJDREF TIMEREF TASSIGN TIMEZERO CLOCKAPP"
MOS_FLAGS = (
    "XMMEA_0 XMMEA_1 XMMEA_5 XMMEA_6 XMMEA_8 XMMEA_9 XMMEA_10 XMMEA_11 XMMEA_13 XMMEA_15 XMMEA_16 XMMEA_17 XMMEA_19 "
    "XMMEA_21 XMMEA_22 XMMEA_25 XMMEA_26 XMMEA_28 XMMEA_29 XMMEA_30 XMMEA_EM XMMEA_SM"
)
PN_FLAGS = "XMMEA_2 XMMEA_5 XMMEA_16 XMMEA_17 XMMEA_19 XMMEA_20 XMMEA_21 XMMEA_22 XMMEA_23 XMMEA_25 XMMEA_EP"
_CHIP = "CCDID CCDNODE WINDOWX0 WINDOWY0 WINDOWDX WINDOWDY EDUID EDUMODE EDUTHR FRMTIME EMDHLOW EMDHUPP"
_FRAMES = (
    "TIMESYS MJDREF TIMEZERO TIMEUNIT CLOCKAPP TIMEREF TASSIGN TSTART TSTOP TELAPSE CHECKFRA CHECKNVA FLAGFIFO IN_FOV "
    "SETDEADT CRPAT1 CRPAT2 NUMGTI ONTIME LIVETIME"
)
READ_OUT = {
    "mos": (
        f"EXTVER TELESCOP INSTRUME DATATYPE OBS_ID EXP_ID {_CHIP} DATE-OBS DATE-END FILTER DATAMODE GAIN_CCD EXPIDSTR "
        f"CCDMODE GATTI_ON {_FRAMES}"
    ),
    "pn": (
        "EXTVER TELESCOP INSTRUME DATATYPE OBS_ID EXP_ID CCDID QUADRANT WINDOWX0 WINDOWY0 WINDOWDX WINDOWDY FRMTIME "
        "FRAMETIM DATE-OBS DATE-END FILTER DATAMODE EXPIDSTR CCDMODE TIMESYS MJDREF TIMEZERO TIMEUNIT CLOCKAPP TIMEREF "
        "TASSIGN TSTART TSTOP TELAPSE ONTIME LIVETIME"
    ),
}
OLD_GOOD_TIME = READ_OUT | {
    "mos": (
        f"EXTVER TELESCOP INSTRUME DATATYPE OBS_ID EXP_ID DATE-OBS DATE-END {_CHIP} DATAMODE GAIN_CCD EXPIDSTR FILTER "
        f"CCDMODE GATTI_ON {_FRAMES}"
    )
}
"""Keywords of STDGTInn before SAS 18: the same as those of EXPOSUnn."""

MOS_STEPS = (
    "SETGATTI XMMEA_26 FLAGBADP XMMEA_21 SPLITDIA XMMEA_0 XMMEA_EM XMMEA_17 XMMEA_11 XMMEA_19 FLAGBADT SETCOORD "
    "XMMEA_25 DET_SYST RAND_XY SETTIMES RAND_TIM REJECTRO XMMEA_28 XMMEA_13 REJECTBA XMMEA_30 REJECTFL XMMEA_15 "
    f"FLAGTRUN XMMEA_22 EQUINOX RADECSYS REFPOINT ATTSRC {SKY} RA_PNT DEC_PNT PA_PNT XMMEA_1 XMMEA_9 XMMEA_10 XMMEA_8 "
    "XMMEA_6 XMMEA_5 XMMEA_16 FLAGEVEN XMMEA_29 BKGE1MIN BKGPERIP FILLCCDB NMAXFILL GETCCDBK MAKEPHA RAND_PI CORRECTC "
    "CORRECTG XMMEA_SM"
)
"""Keywords of EXPOSUnn on the pipeline's steps that made a CCD's events."""

BAD_PIXELS = "TELESCOP INSTRUME CCDID EXP_ID OBS_ID CCDNODE WINDOWX0 WINDOWY0 WINDOWDX WINDOWDY"
GTI_CLASS = "HDUCLASS HDUCLAS1 HDUCLAS2"

COMMENT = {
    "CREATOR": "no telescope took this",
    "DATE": "creation date",
    "XMMEA_EM": "good MOS events",
    "XMMEA_EP": "good pn events",
    "MJDREF": "[d] 1998-01-01T00:00:00 (TT)",
    "TIMESYS": "terrestrial time",
    "TIMEREF": "not barycentred",
    "FRMTIME": "[ms] read-out frame",
    "FRAMETIM": "[ms] read-out frame",
    "SLCTEXPR": "how events were chosen",
    "FILTER": "filter wheel",
    **dict.fromkeys(("TSTART", "TSTOP", "TELAPSE", "ONTIME", "LIVETIME", "TIMEZERO"), "[s]"),
    **dict.fromkeys(("RA_OBJ", "DEC_OBJ", "RA_NOM", "DEC_NOM", "RA_PNT", "DEC_PNT", "PA_PNT"), "[deg]"),
    **dict.fromkeys(("REFXCRVL", "REFYCRVL"), "[deg] coordinate at the reference pixel"),
    **dict.fromkeys(("REFXCDLT", "REFYCDLT"), "[deg/pix] increment"),
}


@dataclass(frozen=True, slots=True)
class Pointing:
    """Pointing and time of an observation.

    Attributes
    ----------
    obsid : str
    plane : TangentPlane
    pa_deg : float
        Position angle.
    start_s : float
        Mission time of the start, s.
    exposure_s : float
    revolution : int
    """

    obsid: str
    plane: TangentPlane
    pa_deg: float
    start_s: float
    exposure_s: float
    revolution: int


@dataclass(frozen=True, slots=True)
class Exposure:
    """One camera's exposure, with everything that its headers contain.

    Attributes
    ----------
    pointing : Pointing
    camera : Camera
    name : str
        Such as S001.
    start_s, stop_s : float
        TSTART and TSTOP, mission time. As in real lists, the stop may be much later than the good time.
    good_time : dict of int to float64 array, shape (k, 2)
        Good time of each CCD, mission time.
    live_s : dict of int to float
        Live time of each CCD in it.
    cleaned : bool
        Whether events were selected by a filter on time.
    box : (x_min, x_max, y_min, y_max)
        Range of sky pixels that contains the events.
    """

    pointing: Pointing
    camera: Camera
    name: str
    start_s: float
    stop_s: float
    good_time: Mapping[int, Floats]
    live_s: Mapping[int, float]
    cleaned: bool
    box: tuple[int, int, int, int]

    @property
    def kind(self) -> str:
        """``pn`` or ``mos``."""
        return "pn" if self.camera.name == "pn" else "mos"


def primary_cards(exposure: Exposure) -> list[Card]:
    """Return the keywords after EXTEND in the primary header.

    Examples
    --------
    >>> {card.keyword: card.value for card in primary_cards(exposure)}["INSTRUME"]
    'EMOS1'
    """
    values = _values(exposure)
    done = [Card("XPROC0", f"xscan simulate expression='{_expression(exposure)}' writedss=yes # ({CREATOR})")]
    start = [Card("CREATOR", CREATOR, COMMENT["CREATOR"]), Card("DATE", f"{DATE}.000", COMMENT["DATE"])]
    if exposure.cleaned:
        return [*done, *start, *_cards(values, f"{ABOUT} CONTENT")]
    steps = ("choose events", "place events on the sky", "list calibrations", "say what it is", "say what it is")
    done += [Card(f"XPROC{i}", f"xscan simulate step='{what}' # ({CREATOR})") for i, what in enumerate(steps) if i]
    done += [Card(f"XDAL{i}", f"step {3 - i} '{steps[3 - i]}' at {DATE}.000 by {CREATOR} ") for i in range(4)]
    about = _cards(values, ABOUT.replace("REVOLUT ", ""))
    revolution: Values = {"REVOLUT": f"{exposure.pointing.revolution:04d}"}  # text here, a number in EVENTS
    return [*done, *start, *about, *_cards(values | revolution, PROCESSING)]


def history(exposure: Exposure) -> list[str]:
    """Return the HISTORY of the primary header: the processing steps of each CCD.

    Examples
    --------
    >>> history(exposure)[0].partition(":")[0]
    'read-out frames of CCD 2'
    """
    steps = ("read-out frames", "events", "places on the sky", "energies", "flags", "bad pixels", "good time")
    return [f"{what} of CCD {ccd}: created by {CREATOR}, at {DATE}" for ccd in exposure.good_time for what in steps]


def event_cards(exposure: Exposure, columns: Sequence[str], rows: NDArray[np.void]) -> list[Card]:
    """Return the keywords after EXTNAME in the header of EVENTS.

    Examples
    --------
    >>> from xscan.simulate.fitsbytes import Column, make_rows
    >>> rows = make_rows([Column("PI", "I")], {"PI": [300, 5000]})
    >>> cards = {card.keyword: card.value for card in event_cards(exposure, ["PI"], rows)}
    >>> cards["TDMIN1"], cards["TDMAX1"], cards["EXPIDSTR"]
    (300, 5000, 'S001')
    """
    values = _values(exposure)
    flags = PN_FLAGS if exposure.kind == "pn" else MOS_FLAGS
    wrapped: Values = {}
    if not exposure.cleaned:
        ends = [f"REF{axis}{end}" for axis in "XY" for end in ("LMAX", "DMAX")]
        wrapped = {key: (int(values[key]) + WRAP // 2) % WRAP - WRAP // 2 for key in ends}
    made = _cards(values | wrapped, f"TSTART TSTOP DET_SYST {CLOCK} {flags} TELAPSE {ABOUT}")
    selection = Card("SLCTEXPR", _expression(exposure), COMMENT["SLCTEXPR"])
    if exposure.cleaned:
        made += [selection, *_live_times(exposure), *_subspace(exposure)]
    else:
        made += [*_subspace(exposure), selection, *_live_times(exposure), *_cards(values, "REFPOINT ATTSRC")]
    for number, column in enumerate(columns, start=1):
        made += [Card(f"{key}{number}", value) for key, value in _limits(exposure, column, rows[column]).items()]
    return made


def offset_cards(exposure: Exposure, ccd_column: int) -> list[Card]:
    """Return the keywords after EXTNAME in the header of OFFSETS; ``ccd_column`` is the number of CCDNR.

    Examples
    --------
    >>> [(card.keyword, card.value) for card in offset_cards(exposure, ccd_column=1)][-2:]
    [('TLMIN1', 1), ('TLMAX1', 17)]
    """
    made = _cards(_values(exposure), f"TSTART TSTOP {CLOCK} TELAPSE {ABOUT}")
    return [*made, Card(f"TLMIN{ccd_column}", 1), Card(f"TLMAX{ccd_column}", 12 if exposure.kind == "pn" else 17)]


def read_out_cards(exposure: Exposure, ccd: int) -> list[Card]:
    """Return the keywords after EXTNAME in the header of an EXPOSUnn.

    Examples
    --------
    Of 800 s of good time CCD 2 was live for 790 s:

    >>> cards = {card.keyword: card.value for card in read_out_cards(exposure, 2)}
    >>> cards["CCDID"], cards["ONTIME"], cards["LIVETIME"]
    (2, 800.0, 790.0)
    """
    chip = exposure.camera.ccds[0]
    steps = "" if exposure.kind == "pn" else MOS_STEPS
    values = _of_ccd(exposure, ccd, (1, 1, chip.columns, chip.rows))
    return _cards(values, _and_about(f"{READ_OUT[exposure.kind]} {steps}"))


def bad_pixel_cards(exposure: Exposure, ccd: int) -> list[Card]:
    """Return the keywords after EXTNAME in the header of a BADPIXnn.

    Examples
    --------
    >>> cards = {card.keyword: card.value for card in bad_pixel_cards(exposure, 2)}
    >>> cards["CCDID"], cards["WINDOWDX"], cards["WINDOWDY"]
    (2, 610, 602)
    """
    window = (0, 0, 64, 200) if exposure.kind == "pn" else (0, 0, 610, 602)
    return _cards(_of_ccd(exposure, ccd, window), _and_about(BAD_PIXELS))


def good_time_cards(exposure: Exposure, ccd: int, name: str, spans: Floats) -> list[Card]:
    """Return the keywords after EXTNAME in the header of a STDGTInn or GTInnnmm.

    Examples
    --------
    Of MOS1, CCD 2, with good time from 100 to 900 s:

    >>> cards = {card.keyword: card.value for card in good_time_cards(exposure, 2, "STDGTI02", exposure.good_time[2])}
    >>> cards["ONTIME"], cards["TSTART"], cards["TSTOP"]
    (800.0, 100.0, 900.0)
    """
    table: Values = {"HDUCLASS": "OGIP", "HDUCLAS1": "GTI", "HDUCLAS2": "STANDARD", "ONTIME": _length(spans)}
    if name.startswith("STDGTI") and exposure.cleaned:
        values = _of_ccd(exposure, ccd, (0, 0, 610, 602)) | {"DATATYPE": "GTI.EL", "NUMGTI": len(spans)}
        return _cards(values | table, f"{OLD_GOOD_TIME[exposure.kind]} {GTI_CLASS}")
    if len(spans):
        table |= {"TSTART": float(spans[0, 0]), "TSTOP": float(spans[-1, 1])}
    keywords = f"{GTI_CLASS} ONTIME TSTART TSTOP {CLOCK}"
    if name.startswith("STDGTI"):
        return _cards(_values(exposure) | table | {"TIMEZERO": 0}, keywords)
    return _cards(_values(exposure) | table | {"CCDID": ccd}, f"CCDID {keywords}")


def calibration_cards(exposure: Exposure) -> list[Card]:
    """Return the keywords after EXTNAME in the header of CALINDEX.

    Examples
    --------
    >>> [(card.keyword, card.value) for card in calibration_cards(exposure)]
    [('CATEGORY', 'XMMCCF'), ('OBSVDATE', '1997-12-31T23:58:55'), ('ANALDATE', '2026-01-01T00:00:00')]
    """
    made: Values = {"CATEGORY": "XMMCCF", "OBSVDATE": _utc(exposure.start_s), "ANALDATE": DATE}
    return _cards(made, "CATEGORY OBSVDATE ANALDATE")


def _cards(values: Values, keywords: str) -> list[Card]:
    return [Card(keyword, values[keyword], COMMENT.get(keyword, "")) for keyword in keywords.split()]


def _and_about(keywords: str) -> str:
    """Return a table's own keywords and those of :data:`ABOUT` that are not among them."""
    own = keywords.split()
    return " ".join([*own, *(keyword for keyword in ABOUT.split() if keyword not in own)])


def _values(exposure: Exposure) -> Values:
    """Return all keywords with the same meaning in every table, with their values."""
    pointing, plane = exposure.pointing, exposure.pointing.plane
    x_min, x_max, y_min, y_max = exposure.box
    number = int(exposure.name[1:])
    made: Values = {
        "LONGSTRN": "OGIP 1.0",
        "DATAMODE": "IMAGING",
        "TELESCOP": "XMM",
        "INSTRUME": INSTRUMENT[exposure.camera.name],
        "OBS_ID": pointing.obsid,
        "EXP_ID": f"{pointing.obsid}{number:03d}",
        "EXPIDSTR": exposure.name,
        "DATE-OBS": _utc(exposure.start_s + DATE_LATE_S),
        "DATE-END": _utc(exposure.stop_s + DATE_LATE_S),
        "OBS_MODE": "POINTING",
        "REVOLUT": pointing.revolution,
        "OBJECT": f"SIMULATED {pointing.obsid}",
        "OBSERVER": "xscan simulate",
        "FILTER": "Medium",
        "SUBMODE": SUBMODE,
        "CCDMODE": SUBMODE,
        "PA_PNT": pointing.pa_deg,
        "AVRG_PNT": "MEDIAN",
        "TSTART": exposure.start_s,
        "TSTOP": exposure.stop_s,
        "TELAPSE": exposure.stop_s - exposure.start_s,
    }
    for ending in ("OBJ", "NOM", "PNT"):
        made |= {f"RA_{ending}": plane.ra_deg, f"DEC_{ending}": plane.dec_deg}
    for axis, kind, reference, step, low, high in (
        ("X", "RA---TAN", plane.ra_deg, -plane.step_deg, x_min, x_max),
        ("Y", "DEC--TAN", plane.dec_deg, plane.step_deg, y_min, y_max),
    ):
        made |= {f"REF{axis}CTYP": kind, f"REF{axis}CRPX": int(plane.crpix), f"REF{axis}CRVL": reference}
        made |= {f"REF{axis}CDLT": step, f"REF{axis}CUNI": "deg", f"REF{axis}LMIN": 1, f"REF{axis}LMAX": 51_840}
        made |= {f"REF{axis}DMIN": low, f"REF{axis}DMAX": high}
    made |= {"EQUINOX": 2000.0, "RADECSYS": "FK5", "REFPOINT": "PNT", "ATTSRC": "AHF", "ATT_SRC": "AHF"}
    made |= {"ORB_RCNS": True, "TFIT_RPD": False, "TFIT_DEG": 4, "TFIT_RMS": 1e-6, "TFIT_PFR": 0.0, "TFIT_IGH": True}
    made |= {"TIMEUNIT": "s", "TIMESYS": "TT", "MJDREF": 50_814.0, "TIMEREF": "LOCAL", "TASSIGN": "SATELLITE"}
    made |= {"TIMEZERO": 0.0, "CLOCKAPP": True, "DET_SYST": 2}
    made |= {f"XMMEA_{bit}": f"(FLAG & {1 << bit:#x}) != 0" for bit in range(31)}
    made |= dict([FLAG_EXPRESSION[exposure.kind], ("XMMEA_SM", SPECTRAL_EXPRESSION)])
    content = f"EPIC {'PN' if exposure.kind == 'pn' else 'MOS'} IMAGING MODE EVENT LIST"
    made |= {"SEQ_ID": "000000", "PROCDATE": DATE, "PROCREV": "1", "PPSVERS": "none: xscan simulate", "ODFVER": "000"}
    return made | {"SASVERS": "none: xscan simulate", "ODSVER": "0.0.0", "ORIGIN": "xscan simulate", "CONTENT": content}


def _of_ccd(exposure: Exposure, ccd: int, window: tuple[int, int, int, int]) -> Values:
    """Return the keywords of a CCD's own tables; flags for the pipeline's steps are 1."""
    made: Values = dict.fromkeys(f"{READ_OUT[exposure.kind]} {MOS_STEPS}".split(), 1)
    made |= _values(exposure) | {"CCDID": ccd, "CCDNODE": 0, "QUADRANT": (ccd - 1) // 3, "EDUID": 0, "EDUMODE": 3}
    made |= dict(zip(("WINDOWX0", "WINDOWY0", "WINDOWDX", "WINDOWDY"), window, strict=True))
    frame_ms = 1000 * exposure.camera.frame_s
    made |= {"FRMTIME": round(frame_ms) if exposure.kind == "pn" else frame_ms, "FRAMETIM": frame_ms}
    made |= {"EDUTHR": 25, "EMDHLOW": 0, "EMDHUPP": 4095, "DATATYPE": "IMAGE.EL", "GAIN_CCD": "NORMAL"}
    made |= {"GATTI_ON": True, "IN_FOV": 117.5, "CRPAT1": 30, "CRPAT2": 31}
    made |= {"BKGE1MIN": 100, "BKGPERIP": 0, "NMAXFILL": 10}
    spans = exposure.good_time[ccd]
    return made | {"NUMGTI": len(spans), "ONTIME": _length(spans), "LIVETIME": exposure.live_s[ccd]}


def _live_times(exposure: Exposure) -> list[Card]:
    """Return ONTIME and LIVETIME of every CCD and of the one on the optical axis."""
    middle = CENTRAL_CCD[exposure.camera.name]
    made = []
    on_time = {ccd: _length(spans) for ccd, spans in exposure.good_time.items()}
    for short, long, seconds in (("ONTIME", "ONTIME", on_time), ("LIVETI", "LIVETIME", dict(exposure.live_s))):
        made += [Card(f"{short}{ccd:02d}", value, "[s] of one CCD") for ccd, value in seconds.items()]
        made.append(Card(long, seconds.get(middle, 0.0), "[s] of the central CCD"))
    return made


def _subspace(exposure: Exposure) -> list[Card]:
    """Return the data subspace: the filters of the rows, and the good-time table of each CCD.

    There is one component for each CCD. The tables of a cleaned list are GTInnnmm: the component, counted
    from 0, and the number of the filter on TIME.
    """
    ccds = list(exposure.good_time)
    names = [good_time_name(exposure.cleaned, component, ccd) for component, ccd in enumerate(ccds)]
    any_flag, first = ("FLAG", ANY_FLAG), ("CCDNR", str(ccds[0]))
    raw = (first, ("TIME", "TABLE"), any_flag)
    chosen = (first, any_flag, any_flag, ("PATTERN", ":31"), ("FLAG", "0:"), ("TIME", "TABLE"))
    descriptors = list(enumerate(chosen if exposure.cleaned else raw, start=1))
    made: Values = {}
    for number, (column, _) in descriptors:
        made |= {f"DSTYP{number}": column} | ({f"DSUNI{number}": "s"} if column == "TIME" else {})
    for number, (column, value) in descriptors:
        made |= {f"DSFORM{number}": "X"} if value == ANY_FLAG else {}
        made |= {f"DSVAL{number}": value} | ({f"DSREF{number}": f":{names[0]}"} if column == "TIME" else {})
    time = next(number for number, (column, _) in descriptors if column == "TIME")
    for component, (ccd, name) in enumerate(zip(ccds[1:], names[1:], strict=True), start=2):
        made |= {f"{component}DSVAL1": str(ccd), f"{component}DSREF{time}": f":{name}"}
    return [Card(keyword, value) for keyword, value in made.items()]


def good_time_name(cleaned: bool, component: int, ccd: int) -> str:
    """Return the name of the table with the good time of a component; in cleaned lists TIME is the 6th filter.

    Examples
    --------
    >>> good_time_name(False, 0, 1), good_time_name(True, 0, 1)
    ('STDGTI01', 'GTI00006')
    """
    return f"GTI{component:03d}06" if cleaned else f"STDGTI{ccd:02d}"


def _expression(exposure: Exposure) -> str:
    """Return the expression that selected the events, in evselect's language."""
    if exposure.cleaned:
        return "(PATTERN <= 31) && (FLAG .ge. 0) && GTI(simulated_gti.fits,TIME)"
    stem = f"simulated/{exposure.camera.name}-{exposure.name}-CCD_GTI"
    return "||".join(f"(CCDNR=={ccd:02d} && GTI({stem}-{ccd:02d}.fits,TIME))" for ccd in exposure.good_time)


def _limits(exposure: Exposure, column: str, values: NDArray[np.generic]) -> Values:
    """Return the attributes of a column of EVENTS, without its number."""
    pn = exposure.kind == "pn"
    legal: dict[str, tuple[int, int]] = {
        "RAWX": (1, 64) if pn else (-4, 605),
        "RAWY": (1, 200) if pn else (1, 602),
        "DETX": _reach([(chip.u0, chip.columns) for chip in exposure.camera.ccds], exposure.camera.pixel_arcsec),
        "DETY": _reach([(chip.v0, chip.rows) for chip in exposure.camera.ccds], exposure.camera.pixel_arcsec),
        "PHA": (0, 4095) if pn else (0, 32_767),
        "PI": (0, 20_479) if pn else (0, 15_000),
        "PATTERN": (0, 31),
        "CCDNR": (1, 12) if pn else (1, 17),
    }
    if column in ("X", "Y"):
        return _sky_limits(exposure, column)
    if column not in legal:
        return {}
    low, high = legal[column]
    if column in ("PATTERN", "CCDNR"):
        return {"TLMIN": low, "TLMAX": high}
    met = (int(values.min()), int(values.max())) if values.size else (low, high)
    made: Values = {"TLMIN": low, "TDMIN": met[0], "TLMAX": high, "TDMAX": met[1]}
    if column in ("DETX", "DETY"):
        made |= {
            "TCRPX": 0,
            "TCTYP": f"{column}_ANG",
            "TCRVL": 0.0,
            "TCDLT": EPIC.sky.side_arcsec / 3600,
            "TCUNI": "deg",
        }
    return made


def _sky_limits(exposure: Exposure, axis: str) -> Values:
    sky = _values(exposure)
    ends: tuple[str, str] | tuple[float, float] = (1.0, 51_840.0) if exposure.cleaned else ("1", "51840")
    made: Values = {"TNULL": NULL, "TLMIN": ends[0], "TDMIN": sky[f"REF{axis}DMIN"]}
    made |= {"TLMAX": ends[1], "TDMAX": sky[f"REF{axis}DMAX"]}
    return made | {f"TC{key}": sky[f"REF{axis}C{key}"] for key in ("RPX", "TYP", "RVL", "DLT", "UNI")}


def _reach(chips: Sequence[tuple[float, int]], pixel_arcsec: float) -> tuple[int, int]:
    """Return the outermost pixels of 0.05 arcsec that the CCDs cover; 16-bit integers."""
    ends = min(at for at, _ in chips), max(at + n * pixel_arcsec for at, n in chips)
    return max(int(ends[0] / EPIC.sky.side_arcsec) - 1, -32_768), min(int(ends[1] / EPIC.sky.side_arcsec) + 1, 32_767)


def _length(spans: Floats) -> float:
    return float((spans[:, 1] - spans[:, 0]).sum())


def _utc(mission_s: float) -> str:
    """Convert mission time (TT, MJDREF 50814) to UTC, ISO to the second."""
    terrestrial = datetime(1998, 1, 1) + timedelta(seconds=mission_s)
    month = f"{terrestrial:%Y-%m}"
    leap_s = max((seconds for since, seconds in LEAP_SECONDS if month >= since), default=32)
    return f"{terrestrial - timedelta(seconds=32.184 + leap_s):%Y-%m-%dT%H:%M:%S}"
