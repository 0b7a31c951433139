"""One observation, from its folder to its tables."""

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
from xscan.results.tables import Provenance, Tables, failed_tables, tabulate
from xscan.search.observation import SubsetSearch, ViewResult, search_observation

__all__ = ["Order", "Reading", "Recipe", "failure", "read_folder", "scan_folder", "search_reading"]

log = logging.getLogger(__name__)

Watch = Callable[[SubsetSearch, ViewResult], None]


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that decides a scan, but the data and the machine: can be sent anywhere."""

    config: ScanConfig
    profile: str
    hot_pixels: HotPixels
    backend: str

    def settings(self) -> dict[str, str]:
        """Return every setting by name, as text; hot-pixel tables by their fingerprint."""
        return self.config.settings() | {"--hot-pixels": self.hot_pixels.digest() or "none"}

    def provenance(self) -> Provenance:
        """Say what makes the results."""
        digest = self.config.digest()
        hot = self.hot_pixels.digest()
        return Provenance(__version__, self.profile, f"{digest}-{hot}" if hot else digest, code_digest(), self.backend)

    def recipe(self) -> Recipe:
        """Give it with its backend, for this process.

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
    """An order with the backend that carries it out in this process."""

    config: ScanConfig
    profile: str
    hot_pixels: HotPixels
    backend: Backend

    def order(self) -> Order:
        """Give it without the backend itself."""
        return Order(self.config, self.profile, self.hot_pixels, self.backend.name)

    def settings(self) -> dict[str, str]:
        """Return every setting by name; as :meth:`Order.settings`."""
        return self.order().settings()

    def provenance(self) -> Provenance:
        """Say what makes the results."""
        return self.order().provenance()


@dataclass(frozen=True, slots=True)
class Reading:
    """An observation that was read, or why it could not be.

    Attributes
    ----------
    obsid : str
        What its results are called.
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
    """Read and clean one observation; trouble with it is told, not raised.

    Parameters
    ----------
    place : Path or Files
        ``<obsid>/`` or ``<obsid>/pps/``, or the files themselves.
    recipe : Recipe
    obsid : str, optional
        What the caller calls the observation; else the folder's files say it.

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
        observation = read(place, recipe.config, recipe.hot_pixels, recipe.backend)
        if observation.obsid != (obsid or observation.obsid):
            raise DataError(
                Reason.CONTRADICTORY, f"{place}: holds observation {observation.obsid}; give {obsid} its own folder"
            )
    except Exception as error:  # one observation's trouble must not stop the others
        reason, message = _why(name, error)
        return Reading(name, provenance, time.perf_counter() - started, None, reason, message)
    return Reading(obsid or observation.obsid, provenance, time.perf_counter() - started, observation)


def search_reading(reading: Reading, recipe: Recipe, watch: Watch | None = None) -> Tables:
    """Search what was read; trouble becomes a row of ``runs``, never an exception.

    Parameters
    ----------
    reading : Reading
    recipe : Recipe
        The one it was read with.
    watch : callable, optional
        Shown each view's result while its counts are in memory: for pictures.

    Raises
    ------
    MachineError
        If the machine lacks what any observation needs.
    DeviceLost
        If the GPU answers this process no more, perhaps because of this observation.
    """
    started = time.perf_counter()
    if reading.observation is not None:
        try:
            searches, skipped = search_observation(reading.observation, recipe.config, recipe.backend)
            return tabulate(reading.observation, searches, skipped, reading.provenance, reading.seconds, watch)
        except DeviceLost:
            raise
        except Exception as error:
            return failure(reading, error, time.perf_counter() - started)
    reason = reading.reason or Reason.ERROR
    return failed_tables(reading.obsid, "failed", reason, reading.message, reading.provenance, reading.seconds)


def failure(reading: Reading, error: Exception, seconds: float) -> Tables:
    """Make an error that came after reading the row of ``runs`` of an observation that failed.

    Parameters
    ----------
    reading : Reading
    error : Exception
    seconds : float
        Wall time since it was read, s.

    Raises
    ------
    MachineError
        If any other observation would fail too.
    """
    reason, message = _why(reading.obsid, error)
    return failed_tables(reading.obsid, "failed", reason, message, reading.provenance, reading.seconds + seconds)


def scan_folder(
    place: Place, recipe: Recipe, obsid: str | None = None, watch: Watch | None = None
) -> tuple[str, Tables]:
    """Read and search one observation: its obsid, and its tables; as the two functions above."""
    reading = read_folder(place, recipe, obsid)
    return reading.obsid, search_reading(reading, recipe, watch)


def _why(name: str, error: Exception) -> tuple[Reason, str]:
    """Return the reason for which an observation failed, unless any other would fail too."""
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
