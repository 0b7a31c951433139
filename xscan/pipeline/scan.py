"""Scan one observation, from its folder to its tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from xscan import __version__
from xscan.backends import Backend, get_backend
from xscan.backends.cuda.device import DeviceLost
from xscan.config import ScanConfig
from xscan.errors import DataError, MachineError, Reason, is_shortage
from xscan.missions.xmm.files import Place, observation_name
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.missions.xmm.observation import read
from xscan.model import Observation
from xscan.pipeline.digests import code_digest, inputs_digest
from xscan.results.tables import Provenance, TableBuilder, Tables, failed_tables
from xscan.search.observation import SubsetSearch, ViewResult, search_observation

__all__ = ["Order", "Reading", "Recipe", "failure", "read_folder", "scan_folder", "search_reading", "search_to_tables"]

log = logging.getLogger(__name__)

Watch = Callable[[SubsetSearch, ViewResult], None]


@dataclass(frozen=True, slots=True)
class Order:
    """All settings of a scan. Picklable: holds no data and no open device."""

    config: ScanConfig
    profile: str
    hot_pixels: HotPixels
    backend: str

    def settings(self) -> dict[str, str]:
        """Return every setting by name, as text; hot-pixel tables are represented by their digest."""
        return self.config.settings() | {"--hot-pixels": self.hot_pixels.digest() or "none"}

    def provenance(self) -> Provenance:
        """Return the version, profile, digests and backend that results are labelled with."""
        digest = self.config.digest()
        hot = self.hot_pixels.digest()
        return Provenance(__version__, self.profile, f"{digest}-{hot}" if hot else digest, code_digest(), self.backend)

    def recipe(self) -> Recipe:
        """Return these settings with an open backend, for this process.

        Raises
        ------
        ConfigError
            If the backend is unknown.
        DeviceError
            If it does not work here.
        """
        return Recipe(self.config, self.profile, self.hot_pixels, get_backend(self.backend))


@dataclass(frozen=True, slots=True)
class Recipe:
    """All settings of a scan, with a backend that is open in this process."""

    config: ScanConfig
    profile: str
    hot_pixels: HotPixels
    backend: Backend

    def order(self) -> Order:
        """Return the settings with the name of the backend in place of the backend."""
        return Order(self.config, self.profile, self.hot_pixels, self.backend.name)

    def settings(self) -> dict[str, str]:
        """Return every setting by name; as :meth:`Order.settings`."""
        return self.order().settings()

    def provenance(self) -> Provenance:
        """Return the version, profile, digests and backend that results are labelled with."""
        return self.order().provenance()


@dataclass(frozen=True, slots=True)
class Reading:
    """An observation that was read, or the reason why it could not be read.

    Attributes
    ----------
    obsid : str
        Name under which its results are stored.
    provenance : Provenance
    seconds : float
        Wall time of reading, s.
    observation : Observation, optional
        None if it could not be read; then ``reason`` and ``message`` say why.
    reason : Reason, optional
    message : str
    """

    obsid: str
    provenance: Provenance
    seconds: float
    observation: Observation | None
    reason: Reason | None = None
    message: str = ""


def read_folder(place: Place, recipe: Recipe, obsid: str | None = None) -> Reading:
    """Read and clean one observation; errors in it are returned, not raised.

    Parameters
    ----------
    place : Path or Files
        ``<obsid>/`` or ``<obsid>/pps/``, or the files themselves.
    recipe : Recipe
    obsid : str, optional
        The caller's name of the observation; default: taken from the files.

    Raises
    ------
    MachineError
        If the machine lacks what any observation needs.
    """
    started = time.perf_counter()
    provenance = replace(recipe.provenance(), inputs_digest=inputs_digest(place))
    name = obsid or place.name or "unnamed"
    try:
        name = obsid or observation_name(place)
        observation = read(place, recipe.config, recipe.hot_pixels, recipe.backend.events)
        if observation.obsid != (obsid or observation.obsid):
            raise DataError(
                Reason.CONTRADICTORY, f"{place}: holds observation {observation.obsid}; give {obsid} its own folder"
            )
    except Exception as error:  # errors of one observation must not stop the others
        reason, message = _why(name, error)
        return Reading(name, provenance, time.perf_counter() - started, None, reason, message)
    return Reading(obsid or observation.obsid, provenance, time.perf_counter() - started, observation)


def search_reading(reading: Reading, recipe: Recipe, watch: Watch | None = None) -> Tables:
    """Search an observation that was read; errors become a row of ``runs``, not an exception.

    Parameters
    ----------
    reading : Reading
    recipe : Recipe
        The one with which it was read.
    watch : callable, optional
        Called with each view's result while its counts are in memory: for pictures.

    Raises
    ------
    MachineError
        If the machine lacks what any observation needs.
    DeviceLost
        If the GPU no longer answers this process, perhaps because of this observation.
    """
    started = time.perf_counter()
    if reading.observation is not None:
        try:
            return search_to_tables(reading.observation, recipe, reading.provenance, reading.seconds, watch)
        except DeviceLost:
            raise
        except Exception as error:
            return failure(reading, error, time.perf_counter() - started)
    reason = reading.reason or Reason.ERROR
    return failed_tables(reading.obsid, "failed", reason, reading.message, reading.provenance, reading.seconds)


def search_to_tables(
    observation: Observation,
    recipe: Recipe,
    provenance: Provenance,
    seconds_read: float,
    watch: Watch | None = None,
) -> Tables:
    """Search an observation and make its tables: the loop over subsets and views that everybody takes.

    Parameters
    ----------
    observation : Observation
    recipe : Recipe
        The one it was read with.
    provenance : Provenance
    seconds_read : float
        Wall time spent on reading, s.
    watch : callable, optional
        Shown each view's result while its counts are in memory: for pictures.
    """
    searches, skipped = search_observation(observation, recipe.config, recipe.backend)
    builder = TableBuilder(observation, skipped, provenance, seconds_read)
    started = time.perf_counter()
    for search in searches:
        for result in search.views:
            spent, started = time.perf_counter() - started, time.perf_counter()
            if watch is not None:
                watch(search, result)
            builder.add(search, result, spent)
    return builder.tables()


def failure(reading: Reading, error: Exception, seconds: float) -> Tables:
    """Return the tables of an observation that failed after reading: one row of ``runs`` with the error.

    Parameters
    ----------
    reading : Reading
    error : Exception
    seconds : float
        Wall time since it was read, s.

    Raises
    ------
    MachineError
        If the same error would occur in any other observation.
    """
    reason, message = _why(reading.obsid, error)
    return failed_tables(reading.obsid, "failed", reason, message, reading.provenance, reading.seconds + seconds)


def scan_folder(
    place: Place, recipe: Recipe, obsid: str | None = None, watch: Watch | None = None
) -> tuple[str, Tables]:
    """Read and search one observation; return its obsid and its tables. Errors as in the two functions above."""
    reading = read_folder(place, recipe, obsid)
    return reading.obsid, search_reading(reading, recipe, watch)


def _why(name: str, error: Exception) -> tuple[Reason, str]:
    """Return the reason and message of an observation's failure; raise an error that any other would meet too."""
    if isinstance(error, DataError):
        return error.reason, str(error)
    if isinstance(error, DeviceLost):
        return Reason.DEVICE_LOST, f"{name}: the GPU stopped answering ({error}); see nvidia-smi"
    if isinstance(error, MemoryError):
        return Reason.MEMORY_LIMIT, f"{name}: this process may have no more memory ({error}); see docs/operations.md"
    if is_shortage(error):
        raise MachineError(
            f"{name}: {error}; raise the limit (ulimit -n) and run the same command again: it goes on from here"
        ) from None
    log.exception("%s: unforeseen error", name)
    return Reason.ERROR, f"{type(error).__name__}: {error}"
