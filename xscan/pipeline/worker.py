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
from xscan.pipeline.local import Task, draw_pictures, store
from xscan.pipeline.outcome import Summary, summarize
from xscan.pipeline.scan import Order, read_folder, search_reading
from xscan.results.lock import read_lock
from xscan.results.staging import stage

__all__ = ["Post", "Worker", "dask_setup", "on_post"]


@dataclass(frozen=True, slots=True)
class Post:
    """Everything a worker needs to start: settings and folders, absolute.

    Attributes
    ----------
    order : Order
    data : Path
        Folder of observations; a worker must see it.
    Folder of observations; must be visible to the worker.
        Folder of results, opened by this process; a worker must write there.
    Folder of results, locked by this process; the worker must be able to write there.
    """

    order: Order
    data: Path
    out: Path
    plots: Path | None


class Worker:
    """Searches observations in this process. Two threads may call it at a time: one reads while the other searches.

    Parameters
    ----------
    order : Order
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

    def __init__(self, order: Order, out: Path, plots: Path | None) -> None:
        self.recipe = order.recipe()
        self._out = out
        self._plots = plots
        self._reading = Lock()
        self._searching = Lock()  # a backend serves one search at a time, and so does matplotlib

    def scan(self, task: Task) -> Summary:
        """Search one observation and store what was found.

        Raises
        ------
        StoreError
            If it cannot be stored.
        MachineError
            If the machine lacks what any observation needs.
        """
        obsid, folder = task
        with self._reading:
            reading = read_folder(folder, self.recipe, obsid)
        with self._searching:
            started = time.perf_counter()
            tables = search_reading(reading, self.recipe)
            seconds = reading.seconds + time.perf_counter() - started
        tables = store(partial(stage, self._out), reading, tables)
        with self._searching:
            draw_pictures(self._plots, reading.obsid, tables)
        return summarize(tables, seconds)


def on_post(post: Post, lock: str) -> Worker:
    """Return a worker, after checking that this process can do its work.

    Parameters
    ----------
    post : Post
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
    if not post.data.is_dir():
        raise MachineError(f"it does not see {post.data}; --data must be on a file system that all workers share")
    try:
        seen = read_lock(post.out) == lock
        if seen:
            tempfile.TemporaryFile(dir=post.out / "staging").close()
    except OSError as error:
        raise MachineError(f"it cannot write to {post.out}: {error.strerror}") from None
    if not seen:
        raise MachineError(f"it does not see {post.out}; --out must be on a file system that all workers share")
    return Worker(post.order, post.out, post.plots)


def dask_setup(_dask_worker: object) -> None:
    """Ignore SIGINT in a worker: Ctrl-C reaches every process of a terminal, and the coordinator handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
