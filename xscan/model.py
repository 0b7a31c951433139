"""Define the data that one step hands to the next. n events, k voxels; axes of a cube are (y, x, t)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from xscan.errors import ConfigError, DataError, Reason
from xscan.grid import Box
from xscan.missiontime import Clock
from xscan.sky import SkyPixels, TangentPlane

__all__ = [
    "CAMERAS",
    "Camera",
    "CcdTime",
    "EventList",
    "Expectation",
    "Frames",
    "InputFile",
    "Instrument",
    "Observation",
    "Photons",
    "PixelMask",
    "Sources",
    "Voxels",
    "pixel_number",
]

CAMERAS = ("pn", "m1", "m2")
"""EPIC's cameras: those that the result tables have columns of."""

SIDE_TOLERANCE = 1e-5  # of a pixel: half a pixel over the whole plane

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file and whether it was used; a row of ``inputs``.

    Attributes
    ----------
    file : str
        Name without folder.
    bytes : int
        Size on disk.
    date : str
        When the pipeline made it (PROCDATE, else DATE), ISO 8601; empty if the file does not state it.
    camera : str
        One of :data:`CAMERAS`; empty for a source list.
    exposure : str
        Exposure identifier such as ``S003``; empty for a source list.
    submode, filter : str
        SUBMODE and FILTER of an event list.
    n_rows : int
        Rows read.
    cuts : dict of str to int
        Events removed by each cut, in the order of the cuts.
    reason : Reason or None
        Why the file was not used; None if it was.
    message : str
        The sentence for the reason, or a remark on a file that was used.
    """

    file: str
    bytes: int
    date: str = ""
    camera: str = ""
    exposure: str = ""
    submode: str = ""
    filter: str = ""
    n_rows: int = 0
    cuts: dict[str, int] = field(default_factory=dict)
    reason: Reason | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class CcdTime:
    """When one CCD was taking data.

    Attributes
    ----------
    gti : float64, shape (k, 2)
        Start and stop of its good time intervals, s, sorted and disjoint.
    livetime : float64, shape (2, m), or None
        Times, s, rising, and the live time until each, s, from the read-out frames; None if unknown.
    """

    gti: Floats
    livetime: Floats | None = None


class PixelMask:
    """Pixels of one camera whose events are cut, by CCD, RAWX and RAWY.

    Attributes
    ----------
    bits : uint8, shape (16 * 640 * 640 / 8,)
        One bit per pixel, in the order of :func:`pixel_number`, the lowest first.
    """

    SIZE = 640
    MARGIN = 16  # RAWX of MOS begins at -4
    CCDS = 16
    BLOCK = 1024  # rows taken at once

    def __init__(self) -> None:
        self.bits = np.zeros(16 * self.SIZE * self.SIZE // 8, np.uint8)

    def add(self, ccd: Ints | int, rawx: Ints, rawy: Ints, run: Ints | int = 1) -> None:
        """Mark pixels; ``run`` is the number of pixels in a row toward larger RAWY."""
        ccd, rawx, rawy, run = np.broadcast_arrays(
            *(np.asarray(values).astype(np.int64) for values in (ccd, rawx, rawy, run))
        )
        columns = [np.atleast_1d(values) for values in (ccd, rawx, rawy, np.clip(run, 0, self.SIZE))]
        for first in range(0, columns[0].size, self.BLOCK):  # a damaged table may hold too many
            self._add(*(values[first : first + self.BLOCK] for values in columns))

    def _add(self, ccd: Ints, rawx: Ints, rawy: Ints, run: Ints) -> None:
        step = np.arange(run.sum()) - np.repeat(np.cumsum(run) - run, run)
        ccd, rawx, rawy = (np.repeat(values, run) for values in (ccd, rawx, rawy))
        number = pixel_number(ccd, rawx, rawy + step)
        number = number[number > 0]
        np.bitwise_or.at(self.bits, number >> 3, (1 << (number & 7)).astype(np.uint8))

    def marked(self, number: Ints) -> Bools:
        """Return for each event, by the number of its pixel, whether the pixel is marked."""
        return np.asarray((self.bits[number >> 3] >> (number & 7).astype(np.uint8)) & 1, bool)


def pixel_number(ccd: Ints, rawx: Ints, rawy: Ints) -> NDArray[np.int64]:
    """Return the numbers of a camera's pixels, shape (n,); 0 for positions outside any detector.

    Examples
    --------
    Two neighbours in a column, and a position beyond the CCD:

    >>> pixel_number(np.array([1, 1, 1]), np.array([1, 1, 1]), np.array([1, 2, 700])).tolist()
    [420497, 420498, 0]
    """
    size, margin = PixelMask.SIZE, PixelMask.MARGIN
    x, y = (np.asarray(raw).astype(np.int64) + margin for raw in (rawx, rawy))
    inside = (x > 0) & (x < size) & (y > 0) & (y < size)
    return np.where(inside, ((np.asarray(ccd).astype(np.int64) % 16) * size + x) * size + y, 0)


Four = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Camera:
    """What must be known of a camera to search its events.

    Attributes
    ----------
    name : str
        As in :attr:`InputFile.camera`.
    instrume : str
        INSTRUME of its files.
    label : str
        As people write it.
    columns, rows : int
        Raw pixels of a CCD: RAWX and RAWY run from 1 to these.
    pixel_arcsec : float
        Side of a raw pixel.
    n_ccds : int
    frame_s : float
        Time between two read-outs, s, unless ``frame_s_by_submode`` says another.
    core, slope : (float, float, float, float)
        Core (arcsec) and slope of its King profile are ``a + b E + c theta + d E theta``; E in keV, theta in arcmin.
    first : int
        Column and row that give events first.
    bad_columns : tuple of (int, int)
        CCD and RAWX of columns that give none.
    hole_step_arcsec : float or None
        Between the points that stand for areas without events; None: a raw pixel.
    frame_s_by_submode : mapping of str to float
    """

    name: str
    instrume: str
    label: str
    columns: int
    rows: int
    pixel_arcsec: float
    n_ccds: int
    frame_s: float
    core: Four
    slope: Four
    first: int = 1
    bad_columns: tuple[tuple[int, int], ...] = ()
    hole_step_arcsec: float | None = None
    frame_s_by_submode: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        most = PixelMask.SIZE - PixelMask.MARGIN - 1
        if not (1 <= self.columns <= most and 1 <= self.rows <= most):
            raise ConfigError(
                f"camera {self.name}: a CCD of {self.columns} x {self.rows} pixels; raw pixels are numbered on CCDs of "
                f"at most {most} x {most}: see PixelMask"
            )
        if not 1 <= self.n_ccds <= PixelMask.CCDS:
            raise ConfigError(f"camera {self.name}: {self.n_ccds} CCDs; there is room for 1 to {PixelMask.CCDS}")

    @property
    def step_arcsec(self) -> float:
        """Distance of the points that stand for areas without events."""
        return self.pixel_arcsec if self.hole_step_arcsec is None else self.hole_step_arcsec


@dataclass(frozen=True, slots=True)
class Instrument:
    """What must be known of a mission's cameras together; values that no record holds are refused.

    Attributes
    ----------
    name : str
        Of the cameras together.
    telescope : str
        TELESCOP of its files.
    cameras : tuple of Camera
        A camera's index in it is its number in ``camera`` columns.
    mjdref : float
        Mission time 0, MJD (TT).
    sky : SkyPixels
    pi_range : (int, int)
        Energies in its event lists, eV, both ends in.
    particle_band : (int, int)
        PI, eV, the second exclusive, in which the particle background is measured: mirrors focus next to nothing there.
    particle_rate_max : float
        Of it in one list, ct/s; time in which there is more is bad.

    Raises
    ------
    ConfigError
        If a value does not fit into the columns of :class:`EventList` and :class:`Photons`.
    """

    name: str
    telescope: str
    cameras: tuple[Camera, ...]
    mjdref: float
    sky: SkyPixels
    pi_range: tuple[int, int]
    particle_band: tuple[int, int]
    particle_rate_max: float

    def __post_init__(self) -> None:
        names, (low, high) = self.names, self.pi_range
        if not 1 <= len(names) <= 255 or len(set(names)) < len(names):
            raise ConfigError(f"{self.telescope}: {len(names)} cameras; there can be 1 to 255, each with its own name")
        if not 0 <= low <= high < 65_535:
            raise ConfigError(f"{self.telescope}: PI from {low} to {high} eV; 16 bits hold 0 to 65,534")
        if not 1 <= self.sky.n <= 65_535:
            raise ConfigError(f"{self.telescope}: {self.sky.n} sky pixels along a side; 16 bits hold up to 65,535")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cameras, in order."""
        return tuple(camera.name for camera in self.cameras)

    def number(self, name: str) -> int:
        """Return a camera's number.

        Raises
        ------
        ConfigError
            If there is no such camera.
        """
        if name not in self.names:
            raise ConfigError(f"{self.telescope}: no camera {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def camera(self, name: str) -> Camera:
        """Return a camera by name; else as :meth:`number`."""
        return self.cameras[self.number(name)]


@dataclass(frozen=True, slots=True)
class EventList:
    """The events of one camera in one exposure, after every cut but the band.

    Attributes
    ----------
    info : InputFile
    plane : TangentPlane
    revolution : int or None
    telapse_s : float
        TELAPSE of the header, s; 0 if absent. Real headers overstate it.
    time : float64, shape (n,)
        s, mission time (since the instrument's ``mjdref``, in ``time_system``); in the order of the file.
    x, y : uint16, shape (n,)
        Sky pixels, from 1.
    pi : uint16, shape (n,)
        Energy, eV.
    ccd : uint8, shape (n,)
        CCD, from 1.
    pixel : uint32, shape (n,)
        Raw pixel (CCD, RAWX, RAWY), as :func:`xscan.model.pixel_number` numbers it; 0 beyond any detector.
    event_span : (float, float)
        First and last TIME after the cuts in PI and PATTERN alone, s; without times far from all others.
    good_time : dict of int to CcdTime
        By CCD; empty if the list states none.
    instrument : Instrument
    time_system : str
        ``TT`` or ``TDB``.
    barycentred : bool
        True if times are at the barycentre of the solar system.
    pi_filter : (int, int) or None
        Lowest and highest PI, eV, to which a filter has cut the list, if its data subspace keywords state less than
        the instrument's ``pi_range``. Without its particle band no time can be found bad.
    bad_pixels : tuple of PixelMask
        Pixels whose events were cut.

    Raises
    ------
    ConfigError
        If the instrument has no such camera.
    DataError
        If the plane's pixels are not the instrument's.
    """

    info: InputFile
    plane: TangentPlane
    revolution: int | None
    telapse_s: float
    time: Floats
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    pi: NDArray[np.uint16]
    ccd: NDArray[np.uint8]
    pixel: NDArray[np.uint32]
    event_span: tuple[float, float]
    good_time: dict[int, CcdTime]
    instrument: Instrument
    time_system: str = "TT"
    barycentred: bool = False
    pi_filter: tuple[int, int] | None = None
    bad_pixels: tuple[PixelMask, ...] = ()

    def __post_init__(self) -> None:
        self.instrument.number(self.camera)
        step, side = self.plane.step_deg * 3600, self.instrument.sky.side_arcsec
        if abs(step - side) > SIDE_TOLERANCE * side:
            raise DataError(
                Reason.NO_TANGENT_PLANE,
                f"{self.info.file}: pixels of {step:g} arcsec on its tangent plane, {side:g} on that of "
                f"{self.instrument.telescope}; make X and Y anew",
            )

    @property
    def camera(self) -> str:
        """One of the instrument's."""
        return self.info.camera

    @property
    def clock(self) -> Clock:
        """What its times count."""
        return Clock(self.instrument.mjdref, self.time_system, self.barycentred)


@dataclass(frozen=True, slots=True)
class Sources:
    """Known sources in the field, one entry each, shape (m,).

    Attributes
    ----------
    ra_deg, dec_deg : float64
        Position, deg, ICRS.
    likelihood : float64
        Detection likelihood EP_DET_ML.
    extent_arcsec : float64
        Extent, arcsec; 0 for a point source.
    rate : float64
        EPIC count rate EP_TOT, ct/s.
    """

    ra_deg: Floats
    dec_deg: Floats
    likelihood: Floats
    extent_arcsec: Floats
    rate: Floats


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything read of one observation.

    Attributes
    ----------
    obsid : str
        Ten digits.
    lists : tuple of EventList
        Usable event lists.
    skipped : tuple of InputFile
        Event lists that cannot be used, each with its reason.
    sources : Sources or None
        None if there is no usable source list; ``source_file`` has the reason.
    source_file : InputFile or None
        None if the folder holds none.
    target : str
        OBJECT of the event lists.
    settings : str
        Digest of the settings with which it was read.
    """

    obsid: str
    lists: tuple[EventList, ...]
    skipped: tuple[InputFile, ...]
    sources: Sources | None
    source_file: InputFile | None
    target: str = ""
    settings: str = ""

    @property
    def instrument(self) -> Instrument | None:
        """That of all lists; None if there is no list.

        Raises
        ------
        DataError
            If lists are of several.
        """
        kinds = [events.instrument for events in self.lists]
        if any(kind != kinds[0] for kind in kinds):
            names = ", ".join(sorted({kind.telescope for kind in kinds}))
            raise DataError(
                Reason.OTHER_TELESCOPE, f"{self.obsid}: lists of several instruments ({names}); search each by itself"
            )
        return kinds[0] if kinds else None


@dataclass(frozen=True, slots=True)
class Photons:
    """The events of a subset on the integer grid shared by all its views, by cell and time.

    Attributes
    ----------
    box : Box
        The smallest box of cells of the plane that holds them all.
    offsets : int64, shape (ny * nx + 1,)
        Events ``offsets[c]`` to ``offsets[c + 1]`` lie in cell ``c = y * nx + x`` of the box.
    tick : int32, shape (n,)
        Milliseconds since t0, rounded down, rising within a cell; negative or late ones belong to
        no frame.
    x_px, y_px : uint16, shape (n,)
        Sky pixels, from 1.
    pi : uint16, shape (n,)
        Energy, eV.
    camera : uint8, shape (n,)
        Number of the camera among the instrument's.
    pixel : uint32, shape (n,)
        Raw pixel, as in :class:`EventList`.
    instrument : Instrument
    """

    box: Box
    offsets: NDArray[np.int64]
    tick: NDArray[np.int32]
    x_px: NDArray[np.uint16]
    y_px: NDArray[np.uint16]
    pi: NDArray[np.uint16]
    camera: NDArray[np.uint8]
    pixel: NDArray[np.uint32]
    instrument: Instrument

    def cells(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the cell (y, x) of the plane of each event, shape (n,) each."""
        cell = np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))
        y, x = np.divmod(cell, self.box.nx)
        return y + self.box.y0, x + self.box.x0

    def within(self, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return index and cell (y, x) of the events in a box of cells of the plane, in order, shape (k,) each."""
        both = box.intersect(self.box)
        x, y = np.arange(both.x0, both.x1), np.arange(both.y0, both.y1)
        index, number = self.of_cells(np.repeat(y, x.size), np.tile(x, y.size))
        return index, y[number // max(x.size, 1)], x[number % max(x.size, 1)]

    def of_cells(self, y: NDArray[np.integer], x: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of the events in chosen cells of the plane, within the box, and the cell of each event.

        In the order of the cells given, and of the events in each; shape (k,) each.
        """
        cell = (y.astype(np.int64) - self.box.y0) * self.box.nx + x - self.box.x0
        first, n = self.offsets[cell], self.offsets[cell + 1] - self.offsets[cell]
        index = np.repeat(first - np.cumsum(n) + n, n) + np.arange(n.sum())
        return index, np.repeat(np.arange(cell.size), n)


@dataclass(frozen=True, slots=True)
class Frames:
    """Properties of each frame of a view, shape (nt,) each.

    Attributes
    ----------
    bad : bool
        High particle background: the frame is searched with another template.
    rejected : bool
        Not searched: a camera or CCD was not taking data.
    live : float64
        Live fraction, all cameras together, 0..1.
    """

    bad: Bools
    rejected: Bools
    live: Floats

    def kind(self) -> NDArray[np.int8]:
        """Return 0 for good frames, 1 for bad ones and -1 for those rejected."""
        return np.where(self.rejected, -1, self.bad).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected counts of every voxel, stored as factors.

    ``mu[y, x, t] = template[k, y, x] * background_counts[t] + source[k, y, x] * live[t]``, ``k = kind[t]``,
    float64, two products and one sum, each rounded. Where mu is undefined (a cell without that
    template, a frame without counts or rejected) the factors are 0 and so is mu.

    Attributes
    ----------
    template : float64, shape (2, ny, nx)
        Background per count outside the source mask, in good (0) and bad (1) frames.
    source : float64, shape (2, ny, nx)
        Constant-source counts per full frame; 0 where template[k] is undefined.
    background_counts : float64, shape (nt,)
        Counts outside the source mask.
    live : float64, shape (nt,)
        Live fraction of each frame.
    kind : uint8, shape (nt,)
        1 in bad frames.
    """

    template: Floats
    source: Floats
    background_counts: Floats
    live: Floats
    kind: NDArray[np.uint8]

    def n_voxels(self) -> int:
        """Count the voxels where mu is defined."""
        cells = np.count_nonzero(self.template, axis=(1, 2))
        counted = self.live + self.background_counts > 0
        return int(sum(cells[kind] * np.count_nonzero(counted & (self.kind == kind)) for kind in (0, 1)))

    def within(self, cells: Bools) -> Expectation:
        """Return the expectation of the chosen cells (bool, shape (ny, nx)) alone; that of others is undefined."""
        template, source = (np.where(cells, factor, 0.0) for factor in (self.template, self.source))
        return replace(self, template=template, source=source)

    def without_sources(self) -> Expectation:
        """Return the expectation of the background alone."""
        return replace(self, source=np.zeros_like(self.source))

    def row(self, y: int, x0: int = 0, x1: int | None = None) -> Floats:
        """Return mu of the cells x0..x1 of a row (default: all of them), shape (x1 - x0, nt)."""
        bad = self.kind == 1
        template, source = (factor[:, y, x0:x1, None] for factor in (self.template, self.source))
        mu = np.where(bad, template[1], template[0])
        mu *= self.background_counts
        constant = np.where(bad, source[1], source[0])
        constant *= self.live
        mu += constant
        return mu

    def at(self, y: NDArray[np.integer], x: NDArray[np.integer], t: NDArray[np.integer]) -> Floats:
        """Return mu of chosen voxels; y and x count from the corner of the box."""
        kind = self.kind[t]
        background = self.template[kind, y, x] * self.background_counts[t]
        return np.asarray(background + self.source[kind, y, x] * self.live[t])


@dataclass(frozen=True, slots=True)
class Voxels:
    """Flagged voxels, ordered by (y, x, t), shape (k,) each.

    Attributes
    ----------
    x, y : int32
        Cell, counted from the box's corner.
    t : int32
        Frame.
    n : int32
        Counts.
    mu : float64
        Expected counts.
    eclipse : bool
        True for too few counts, False for too many.
    """

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    t: NDArray[np.int32]
    n: NDArray[np.int32]
    mu: Floats
    eclipse: Bools

    def __len__(self) -> int:
        return len(self.n)
