"""Do the heavy loops: every loop over events, read-out frames or voxels is a method of a backend.

A :class:`Backend` has four parts: the loops over events, those around a point source, those over windows of time, and
the search of voxels, ``load`` -> ``bin`` -> :class:`Counts`.

Contract: all backends return identical results, bit for bit. Events are selected and counted in integers, mu is
float64 from two products and a sum that are each rounded, and thresholds come from one table made on the host. The
NumPy backend is the definition; tests compare the others with it. ``search``, ``missions`` and the packages
above them may import this package; a backend is passed as an argument, never looked up from a global.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscan.backends.numba.cache import load_numba
from xscan.bayes import Thresholds
from xscan.errors import ConfigError, DeviceError
from xscan.events.cuts import Cuts, EventBuffer, RawEvents, Span
from xscan.events.dropouts import CcdSilences
from xscan.events.merge import GtiFilter
from xscan.grid import Box, Grid
from xscan.model import CcdTime, EventList, Expectation, Photons, PixelMask, Voxels
from xscan.pointsource.exposure import CameraMap
from xscan.pointsource.fit import Curvature, Fitted, Points, Settled, Spots
from xscan.pointsource.ratio import Nearby, WindowRatio
from xscan.windows import BandModel, FineGrid, TimedPhotons, WindowLimits, Windows

__all__ = [
    "BACKENDS",
    "Backend",
    "Counts",
    "EventLoops",
    "Loaded",
    "PointSourceLoops",
    "WindowLoops",
    "cpu_backend",
    "get_backend",
]

log = logging.getLogger(__name__)

BACKENDS = ("auto", "numpy", "numba", "cuda")


class EventLoops(Protocol):
    """Loops over events and read-out frames: what reading an event list and preparing a subset need.

    Each method gives what the function that it names gives.
    """

    def select(self, raw: RawEvents, cuts: Cuts, kept: EventBuffer, at: int) -> tuple[int, NDArray[np.int64], Span]:
        """Select the events of a part of a list; as :func:`xscan.events.cuts.select`."""
        ...

    def drop_bad_pixels(self, kept: EventBuffer, n: int, own: PixelMask | None) -> tuple[int, int, int]:
        """Remove events of bad pixels and without a position; as :func:`xscan.events.cuts.drop_bad_pixels`."""
        ...

    def cumulative_livetime(
        self, time: ArrayLike, timedel: ArrayLike, fracexp: ArrayLike
    ) -> NDArray[np.float64] | None:
        """Return the cumulative live time from read-out frames; as :func:`xscan.events.gti.cumulative_livetime`."""
        ...

    def livetime_until(self, time: NDArray[np.float64], good: CcdTime) -> NDArray[np.float64]:
        """Return the live time of one CCD until each of some times; as :func:`xscan.events.gti.livetime_until`."""
        ...

    def silences(self, lists: Sequence[EventList], t0: float, t1: float) -> tuple[dict[int, CcdSilences], ...]:
        """Find when each CCD sent nothing while others did; as :func:`xscan.events.dropouts.silences`."""
        ...

    def merge(
        self, lists: Sequence[EventList], filters: Sequence[GtiFilter], t0: float, t1: float, n_cells: int
    ) -> tuple[Photons, NDArray[np.int64]]:
        """Merge lists on the integer grid; as :func:`xscan.events.merge.merge`."""
        ...

    def band_curve(self, photons: Photons, pi_range: tuple[int, int], bin_ms: int, end_ms: int) -> NDArray[np.int64]:
        """Count the photons of a band in bins of time; as :func:`xscan.events.merge.band_curve`."""
        ...


class PointSourceLoops(Protocol):
    """Loops over the photons and holes around a point source: what fitting its position needs.

    Each method gives what the function that it names gives.
    """

    def spots_near(
        self,
        photons: Photons,
        box: Box,
        pi_range: tuple[int, int],
        expected: Expectation,
        chosen: NDArray[np.bool_],
        grid: Grid,
        crpix: float,
        off_axis_arcmin: float,
        hidden: NDArray[np.int64] | None,
    ) -> Spots:
        """Return the events of a box of cells in chosen frames; as :func:`xscan.pointsource.fit.spots_near`."""
        ...

    def dark(self, camera: CameraMap, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return where a camera sees nothing; as :func:`xscan.pointsource.exposure.dark`."""
        ...

    def likeliest(self, points: Points, strength: NDArray[np.float64], positions: NDArray[np.float64]) -> int:
        """Return the index of the most likely position of a source; as :func:`xscan.pointsource.fit.likeliest`."""
        ...

    def settle(self, points: Points, start: tuple[float, float]) -> Settled | None:
        """Fit the position of a source to photons; as :func:`xscan.pointsource.fit.settle`."""
        ...

    def curvature(self, points: Points, fitted: Fitted, strength: NDArray[np.float64]) -> Curvature:
        """Return the sums from which a position's error is computed; as :func:`xscan.pointsource.fit.curvature`."""
        ...

    def pulls(
        self,
        points: Points,
        fitted: Fitted,
        strength: NDArray[np.float64],
        freed: NDArray[np.float64],
        by_width: tuple[float, float],
        told: tuple[float, float, float],
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the scatter of the events' contributions to a position; as :func:`xscan.pointsource.fit.pulls`."""
        ...

    def window_ratio(
        self,
        near: Nearby,
        place: tuple[float, float],
        window: tuple[float, float],
        at_hand: tuple[float, float],
        live_s: float,
        part: float,
        constant: bool,
    ) -> WindowRatio | None:
        """Weigh a source that shines for a while; as :func:`xscan.pointsource.ratio.window_ratio`."""
        ...


class WindowLoops(Protocol):
    """Loops over the windows of cells: what the search by windows needs."""

    def passing_windows(
        self, photons: TimedPhotons, grid: FineGrid, bands: Sequence[BandModel], limits: WindowLimits
    ) -> Windows:
        """Return the windows with many counts; as :func:`xscan.backends.windows.passing_windows`."""
        ...


class Counts(Protocol):
    """The binned events of one view; how they are stored is up to the backend.

    Backends derive their class from this one, whose docstrings hold for all of them.
    """

    grid: Grid

    @abstractmethod
    def n_events(self) -> int:
        """Return the number of events in the voxels of the grid."""

    @abstractmethod
    def n_max(self) -> int:
        """Return the largest count of a voxel."""

    @abstractmethod
    def images(self, kind: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return counts summed over the frames of kind 0, and of kind 1 (int8, shape (nt,)); shape (2, ny, nx)."""

    @abstractmethod
    def counts_per_frame(self, cells: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return counts summed over the chosen cells (bool, shape (ny, nx)); shape (nt,)."""

    @abstractmethod
    def flag(self, expected: Expectation, limits: Thresholds) -> Voxels:
        """Return the voxels with too many or too few counts.

        ``limits`` reach at least to ``n_max()``; fewer than two counts are never too many by them.
        """

    @abstractmethod
    def by_camera(self, voxels: Voxels) -> NDArray[np.int64]:
        """Return the counts of each camera of the instrument in the given voxels, shape (k, n_cameras)."""

    @abstractmethod
    def dense_row(self, y: int) -> NDArray[np.int32]:
        """Return the counts of one row of cells, shape (nx, nt): to compare backends, not for the search."""

    def box(self, box: Box) -> NDArray[np.int64]:
        """Return the light curve of a rectangle, in cells counted from the grid's corner; shape (nt,)."""
        cells = np.zeros((self.grid.box.ny, self.grid.box.nx), bool)
        cells[box.y0 : box.y1, box.x0 : box.x1] = True
        return self.counts_per_frame(cells)


class Loaded(Protocol):
    """A subset's photons, prepared once for all its views."""

    def bin(self, grid: Grid, pi_from: int, pi_to: int) -> Counts:
        """Count the photons with ``pi_from <= PI < pi_to`` (eV, from 0 to 65,535) in the voxels of a grid."""
        ...


class Backend(Protocol):
    """The loops of xscan in NumPy, compiled or on a device; hand on the narrowest part that is needed."""

    name: str
    events: EventLoops
    pointsource: PointSourceLoops
    windows: WindowLoops

    def load(self, photons: Photons) -> Loaded:
        """Prepare the photons of a subset for binning."""
        ...


def get_backend(name: str = "auto") -> Backend:
    """Return a backend by name; ``auto`` is the fastest that works here.

    Raises
    ------
    ConfigError
        If the name is unknown.
    DeviceError
        If the backend asked for does not work here.

    Examples
    --------
    >>> counts = get_backend("numpy").load(data.photons).bin(data.grid, 200, 2000)
    >>> counts.n_events(), counts.n_max()  # one in each of 5 x 5 x 8 voxels, but 12 in one
    (211, 12)
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    if name == "numpy":
        return _numpy()
    if name == "numba":
        return _numba()
    if name == "cuda":
        return _cuda()
    from xscan.backends.cuda.driver import device_is_there

    if device_is_there():
        try:
            return _cuda()
        except DeviceError as error:
            host = cpu_backend()
            _warn_once(f"{error}; using {host.name} instead")
            return host
    return cpu_backend()


def cpu_backend() -> Backend:
    """Return the fastest backend that needs no device.

    Examples
    --------
    Compiled or not, the counts of every voxel are the same:

    >>> cpu_backend().load(data.photons).bin(data.grid, 200, 2000).dense_row(2)[2].tolist()
    [1, 1, 1, 12, 1, 1, 1, 1]
    """
    try:
        return _numba()
    except DeviceError as error:
        _warn_once(f"{error}; using numpy instead, which is slower")
        return _numpy()


@cache
def _warn_once(message: str) -> None:
    """Log a warning, but only the first time in this process."""
    log.warning(message)


def _numpy() -> Backend:
    from xscan.backends.numpy import NumpyBackend

    return NumpyBackend()


def _numba() -> Backend:
    try:
        numba = load_numba()
    except (ImportError, OSError, RuntimeError) as error:  # OSError: its library; RuntimeError: its cache
        raise DeviceError(
            f"the numba backend does not work here: {error}; install numba, or set NUMBA_CACHE_DIR to a "
            f"folder that can be written"
        ) from None
    backend: Backend = numba.NumbaBackend()
    return backend


def _cuda() -> Backend:
    from xscan.backends.cuda.counts import CudaBackend
    from xscan.backends.cuda.driver import open_device

    return CudaBackend(open_device(), cpu_backend())
