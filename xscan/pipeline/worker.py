"""Search observations in a worker process: read ahead, search one at a time, store."""

from __future__ import annotations

import signal
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

from xscan.errors import MachineError
from xscan.pipeline.local import draw_pictures, store
from xscan.pipeline.outcome import ObservationSummary, summarize
from xscan.pipeline.scan import ScanSettings, read_folder, search_reading
from xscan.pipeline.task import Task
from xscan.results.lock import read_lock
from xscan.results.staging import stage

__all__ = ["Worker", "WorkerSetup", "dask_setup", "start_worker"]


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Everything a worker needs to start: settings and folders, absolute.

    Attributes
    ----------
    settings : ScanSettings
    data : Path
        Folder of observations, which the worker must see.
    out : Path
        Folder of results, locked by the coordinator; the worker must be able to write there.
    plots : Path, optional
        Folder for pictures.
    """

    settings: ScanSettings
    data: Path
    out: Path
    plots: Path | None


class Worker:
    """Searches observations in this process. Two threads may call it at a time: one reads while the other searches.

    Parameters
    ----------
    settings : ScanSettings
        The settings; their backend is opened here.
    out : Path
        Folder of results, locked by the coordinator.
    plots : Path, optional
        Folder for pictures.

    Raises
    ------
    DeviceError
        If the backend does not work here.
    """

    def __init__(self, settings: ScanSettings, out: Path, plots: Path | None) -> None:
        self.scanner = settings.scanner()
        self._out = out
        self._plots = plots
        self._reading = Lock()
        self._searching = Lock()  # a backend serves one search at a time, and so does matplotlib

    def scan(self, task: Task) -> ObservationSummary:
        """Search one observation and store what was found.

        Raises
        ------
        StoreError
            If it cannot be stored.
        MachineError
            If the machine lacks what any observation needs.
        """
        with self._reading:
            reading = read_folder(task.place, self.scanner, task.obsid)
        with self._searching:
            started = time.perf_counter()
            tables = search_reading(reading, self.scanner)
            seconds = reading.seconds + time.perf_counter() - started
        tables = store(partial(stage, self._out), reading, tables)
        with self._searching:
            draw_pictures(self._plots, reading.obsid, tables)
        return summarize(tables, seconds)


def start_worker(setup: WorkerSetup, lock: str) -> Worker:
    """Return a worker, after checking that this process can do its work.

    Parameters
    ----------
    setup : WorkerSetup
    lock : str
        Content of the coordinator's lock file. A worker that reads another text sees a different folder under the same
        path.

    Raises
    ------
    MachineError
        If it does not see the coordinator's folders, or cannot write.
    DeviceError
        If the backend does not work here.
    """
    if not setup.data.is_dir():
        raise MachineError(f"it does not see {setup.data}; --data must be on a file system that all workers share")
    try:
        seen = read_lock(setup.out) == lock
        if seen:
            tempfile.TemporaryFile(dir=setup.out / "staging").close()
    except OSError as error:
        raise MachineError(f"it cannot write to {setup.out}: {error.strerror}") from None
    if not seen:
        raise MachineError(f"it does not see {setup.out}; --out must be on a file system that all workers share")
    return Worker(setup.settings, setup.out, setup.plots)


def dask_setup(_dask_worker: object) -> None:
    """Ignore SIGINT in a worker: Ctrl-C reaches every process of a terminal, and the coordinator handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
