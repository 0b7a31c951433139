"""Scan one observation, from its folder to its tables."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

from xscan import __version__
from xscan.backends import Backend, get_backend
from xscan.backends.cuda.device import DeviceLost
from xscan.config import ScanConfig
from xscan.errors import DataError, MachineError, Reason, is_shortage
from xscan.missions import HotPixels, Place, mission_of
from xscan.model import Observation
from xscan.pipeline.digests import code_digest, inputs_digest
from xscan.results.tables import Provenance, TableBuilder, Tables, failed_tables
from xscan.search.observation import search_observation

__all__ = [
    "Reading",
    "ScanSettings",
    "Scanner",
    "failure",
    "read_folder",
    "scan_folder",
    "search_reading",
    "search_to_tables",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """All settings of a scan. Picklable: holds no data and no open device."""

    config: ScanConfig
    profile: str
    hot_pixels: HotPixels
    backend: str

    def by_name(self) -> dict[str, str]:
        """Return every setting by name, as text; hot-pixel tables are represented by their digest."""
        return self.config.by_name() | {"--hot-pixels": self.hot_pixels.digest() or "none"}

    def provenance(self) -> Provenance:
        """Return the version, profile, digests and backend that results are labelled with."""
        digest = self.config.digest()
        hot = self.hot_pixels.digest()
        return Provenance(__version__, self.profile, f"{digest}-{hot}" if hot else digest, code_digest(), self.backend)

    def scanner(self) -> Scanner:
        """Return a scanner: these settings, with a backend that is open in this process.

        Raises
        ------
        ConfigError
            If the backend is unknown.
        DeviceError
            If it does not work here.
        """
        return Scanner(self, get_backend(self.backend))


@dataclass(frozen=True, slots=True)
class Scanner:
    """The settings of a scan, and a backend that is open in this process: what ``auto`` has chosen, for example."""

    settings: ScanSettings
    backend: Backend

    def provenance(self) -> Provenance:
        """Return what results are labelled with, as :meth:`ScanSettings.provenance`; with the name of this backend."""
        return replace(self.settings.provenance(), backend=self.backend.name)


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


def read_folder(place: Place, scanner: Scanner, obsid: str | None = None) -> Reading:
    """Read and clean one observation; errors in it are returned, not raised.

    Parameters
    ----------
    place : Path or Files
        ``<obsid>/`` or ``<obsid>/pps/``, or the files themselves.
    scanner : Scanner
    obsid : str, optional
        The caller's name of the observation; default: taken from the files.

    Raises
    ------
    MachineError
        If the machine lacks what any observation needs.

    Examples
    --------
    An observation that is there, and one that is not:

    >>> read_folder(folder, scanner).observation.obsid
    '0990000001'
    >>> reading = read_folder(folder / "nowhere", scanner)
    >>> reading.observation, str(reading.reason)
    (None, 'no_folder')
    """
    started = time.perf_counter()
    provenance = replace(scanner.provenance(), inputs_digest=inputs_digest(place))
    name = obsid or place.name or "unnamed"
    try:
        mission = mission_of(place)
        name = obsid or mission.observation_name(place)
        observation = mission.read(place, scanner.settings.config, scanner.settings.hot_pixels, scanner.backend.events)
        if observation.obsid != (obsid or observation.obsid):
            raise DataError(
                Reason.CONTRADICTORY, f"{place}: holds observation {observation.obsid}; give {obsid} its own folder"
            )
    except Exception as error:  # errors of one observation must not stop the others
        reason, message = _why(name, error)
        return Reading(name, provenance, time.perf_counter() - started, None, reason, message)
    return Reading(obsid or observation.obsid, provenance, time.perf_counter() - started, observation)


def search_reading(reading: Reading, scanner: Scanner) -> Tables:
    """Search an observation that was read; errors become a row of ``runs``, not an exception.

    Parameters
    ----------
    reading : Reading
    scanner : Scanner
        The one with which it was read.

    Raises
    ------
    MachineError
        If the machine lacks what any observation needs.
    DeviceLost
        If the GPU no longer answers this process, perhaps because of this observation.

    Examples
    --------
    An observation that could not be read is a row of ``runs``:

    >>> missing = search_reading(read_folder(folder / "nowhere", scanner), scanner)
    >>> missing.runs.select(["obsid", "state", "reason"]).to_pylist()
    [{'obsid': 'nowhere', 'state': 'failed', 'reason': 'no_folder'}]
    """
    started = time.perf_counter()
    if reading.observation is not None:
        try:
            return search_to_tables(reading.observation, scanner, reading.provenance, reading.seconds)
        except DeviceLost:
            raise
        except Exception as error:
            return failure(reading, error, time.perf_counter() - started)
    reason = reading.reason or Reason.ERROR
    return failed_tables(reading.obsid, "failed", reason, reading.message, reading.provenance, reading.seconds)


def search_to_tables(
    observation: Observation,
    scanner: Scanner,
    provenance: Provenance,
    seconds_read: float,
) -> Tables:
    """Search an observation and make its tables: the loop over subsets and views that everybody takes.

    Parameters
    ----------
    observation : Observation
    scanner : Scanner
        The one it was read with.
    provenance : Provenance
    seconds_read : float
        Wall time spent on reading, s.

    Examples
    --------
    >>> found = search_to_tables(observation, scanner, scanner.provenance(), 0.0)
    >>> found.runs.select(["dt_s", "state"]).to_pylist(), found.regions.num_rows == tables.regions.num_rows
    ([{'dt_s': 50.0, 'state': 'done'}], True)
    """
    searches, skipped = search_observation(observation, scanner.settings.config, scanner.backend)
    builder = TableBuilder(observation, skipped, provenance, seconds_read)
    started = time.perf_counter()
    for search in searches:
        for of_windows in search.windows:
            spent, started = time.perf_counter() - started, time.perf_counter()
            builder.add_windows(search, of_windows, spent)
        for result in search.views:
            spent, started = time.perf_counter() - started, time.perf_counter()
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

    Examples
    --------
    >>> reading = Reading("0990000001", scanner.provenance(), 0.1, None)
    >>> failed = failure(reading, DataError(Reason.NO_EVENTS, "nothing is left"), 0.0)
    >>> failed.runs.select(["state", "reason"]).to_pylist()
    [{'state': 'failed', 'reason': 'no_events'}]
    """
    reason, message = _why(reading.obsid, error)
    return failed_tables(reading.obsid, "failed", reason, message, reading.provenance, reading.seconds + seconds)


def scan_folder(place: Place, scanner: Scanner, obsid: str | None = None) -> tuple[str, Tables]:
    """Read and search one observation; return its obsid and its tables. Errors as in the two functions above.

    Examples
    --------
    >>> obsid, found = scan_folder(folder, scanner)
    >>> obsid, found.runs.select(["dt_s", "state"]).to_pylist()
    ('0990000001', [{'dt_s': 50.0, 'state': 'done'}])
    """
    reading = read_folder(place, scanner, obsid)
    return reading.obsid, search_reading(reading, scanner)


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
