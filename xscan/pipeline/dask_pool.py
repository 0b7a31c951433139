"""Send observations to the workers of a Dask cluster, and receive the results.

Every observation is sent to one worker by name, so that it is known which ones were lost with a worker. Dask's own
retries are never used.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from uuid import uuid4

from distributed import Client, Future, get_worker
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from xscan import __version__
from xscan.backends.cuda.device import DeviceLost
from xscan.errors import MachineError, Reason, XscanError, first_line
from xscan.pipeline.dispatch import Ended
from xscan.pipeline.outcome import ObservationSummary
from xscan.pipeline.task import Task
from xscan.pipeline.worker import Worker, WorkerSetup, start_worker
from xscan.results.lock import read_lock

__all__ = ["DaskPool", "register"]

log = logging.getLogger(__name__)

_CHECK_S = 0.5
_NO_WORKERS_S = 60.0  # after this time without workers of this machine, the run fails
_AWAITED_S = 10.0  # after this time without workers of a cluster, a warning is logged
_ANSWER_S = 30.0
_MEMORY_EVENTS = "worker-restart-memory"  # topic under which a nanny reports the worker that it kills
_DEVICE_EVENTS = "xscan-device-lost"  # topic under which a worker of xscan reports its lost device before it ends
_WHY_LOST = {_MEMORY_EVENTS: Reason.MEMORY_LIMIT, _DEVICE_EVENTS: Reason.DEVICE_LOST}
_TO_TELL_S = 1.0  # time for that report to be sent


class DaskPool:
    """The workers of a Dask cluster, for :func:`xscan.pipeline.dispatch.dispatch`.

    Parameters
    ----------
    client : distributed.Client
    setup : WorkerSetup
        Sent once to each worker, before it gets any observation.
    local : bool
        Whether the workers were started by this process, so that some must exist.
    check_signals : callable
        Called several times a second; an exception from it ends the run.
    """

    def __init__(
        self, client: Client, setup: WorkerSetup, local: bool, check_signals: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._setup = setup
        self._local = local
        self._check_signals = check_signals
        self._name = f"xscan-{uuid4().hex}"
        self._futures: dict[int, tuple[str, Future]] = {}  # by number: its worker and its future
        self._ended: SimpleQueue[tuple[int | None, float]] = SimpleQueue()
        self._registering: dict[str, Future] = {}
        self._ready: dict[str, str] = {}  # worker: its backend
        self._events_before: dict[str, dict[str, int]] = {}  # worker: by topic, events of its address when registered
        self._refused: set[str] = set()
        self._checked_s = 0.0
        self._seen_s = time.monotonic()
        self._waiting = False

    @property
    def dashboard(self) -> str:
        """Address of Dask's dashboard, whose pages are empty without bokeh."""
        needs = " (pip install 'xscan[dashboard]' to see it)" if self._local and find_spec("bokeh") is None else ""
        return f"{self._client.dashboard_link or ''}{needs}"

    def backend(self) -> str:
        """Name of the backend that the workers have."""
        return next(iter(self._ready.values()), self._setup.settings.backend)

    def workers(self) -> frozenset[str]:
        """Return the workers that can take observations now."""
        self._check_signals()  # first: a signal may have ended the workers too, which is then not their fault
        now_s = time.monotonic()
        if now_s - self._checked_s >= _CHECK_S:
            there = self._there()
            self._checked_s = now_s
            for known in (self._registering, self._ready):
                for worker in known.keys() - there:
                    del known[worker]
            self._refused &= there
            for worker in there - self._registering.keys() - self._ready.keys() - self._refused:
                self._register(worker)
        for worker, future in list(self._registering.items()):
            if future.done():
                del self._registering[worker]
                self._accept(worker, future)
        self._check_any_left(now_s)
        return frozenset(self._ready)

    def _there(self) -> set[str]:
        """Return the workers that the scheduler has, each named by its address and the local folder of its process.

        The folder is needed because a restarted worker may have the same address (``dask worker --worker-port``).
        """
        try:
            held = self._client.sync(self._client.scheduler.identity)["workers"]
            return {f"{address} {facts['local_directory']}" for address, facts in held.items()}
        except (OSError, RuntimeError) as error:
            raise MachineError(
                f"the Dask scheduler does not answer any more ({first_line(error)}); start it anew and run the same "
                f"command again: it goes on from here"
            ) from None

    def _register(self, worker: str) -> None:
        packed = pickle.dumps((self._name, self._setup, read_lock(self._setup.out)))
        future = self._submit(_by_value(), worker, __version__, packed)
        self._registering[worker] = future
        future.add_done_callback(lambda _: self._ended.put((None, 0.0)))

    def _submit(self, function: Callable[..., Any], worker: str, *arguments: Any) -> Future:
        key = f"{self._name}-{uuid4().hex}"
        return self._client.submit(
            function, *arguments, key=key, workers=[_address(worker)], allow_other_workers=False, pure=False
        )

    def _accept(self, worker: str, future: Future) -> None:
        """Accept a worker, or log why it is refused; raise the reason if no other worker is left."""
        try:
            self._ready[worker] = future.result(_ANSWER_S)
            self._events_before[worker] = {topic: self._n_events(topic, worker) for topic in _WHY_LOST}
        except (KilledWorker, FutureCancelledError, TimeoutError):  # the worker is gone again
            return
        except Exception as error:
            self._refused.add(worker)
            refused = error if isinstance(error, XscanError) else MachineError(first_line(error))
            if not self._ready and not self._registering:
                raise type(refused)(f"worker {_address(worker)}: {refused}") from None
            log.warning("worker %s is not used: %s", _address(worker), refused)

    def _check_any_left(self, now_s: float) -> None:
        """Warn once that there are no workers, or raise an error if none of this machine has come up."""
        if self._ready:
            self._seen_s, self._waiting = now_s, False
        elif self._local and now_s - self._seen_s > _NO_WORKERS_S:
            raise MachineError(
                f"no worker process has come up for {_NO_WORKERS_S:g} s; is there memory for it (--memory-limit), "
                f"are there open files (ulimit -n)?"
            )
        elif not self._local and not self._registering and not self._waiting and now_s - self._seen_s > _AWAITED_S:
            log.warning("no worker is there; waiting for one (`dask worker ADDRESS`)")
            self._waiting = True

    def send(self, number: int, task: Task, worker: str) -> None:
        """Have an observation searched and stored by this worker, and no other."""
        future = self._submit(_scan, worker, self._name, task)
        self._futures[number] = worker, future
        future.add_done_callback(lambda _: self._ended.put((number, time.monotonic())))

    def forget(self, number: int) -> None:
        """Ignore the end of an assignment from now on."""
        _, future = self._futures.pop(number)
        future.cancel()

    def wait(self, seconds: float) -> list[Ended]:
        """Wait for assignments to end, at most this long, and return them.

        Raises
        ------
        XscanError
            An error of a worker that stops the whole run.
        """
        ended = []
        try:
            ended.append(self._ended.get(timeout=seconds))
            while True:
                ended.append(self._ended.get_nowait())
        except Empty:
            pass
        self._check_signals()
        known = [(number, at_s) for number, at_s in ended if number is not None and number in self._futures]
        return [Ended(number, at_s, self._result(*self._futures.pop(number))) for number, at_s in known]

    def _result(self, worker: str, future: Future) -> ObservationSummary | None:
        try:
            summary: ObservationSummary = future.result(_ANSWER_S)
        except UnregisteredError:  # the registered worker was lost, and another has its address
            self._ready.pop(worker, None)
            self._checked_s = 0.0
            return None
        except (KilledWorker, FutureCancelledError, TimeoutError):  # lost with its worker
            return None
        return summary

    def restart(self, worker: str) -> None:
        """Kill a worker's process without waiting for its end; its nanny starts another."""

        def restart() -> None:
            try:
                self._client.restart_workers([_address(worker)], timeout=_ANSWER_S, raise_for_error=False)
            except (OSError, RuntimeError, ValueError, KeyError) as error:  # it or its nanny is gone already
                log.debug("worker %s: %s", worker, error)

        Thread(target=restart, name="xscan-restart", daemon=True).start()

    def why_lost(self, worker: str) -> Reason:
        """Return why a worker was lost: it took too much memory, it lost its GPU, or the cause is unknown."""
        before = self._events_before.get(worker, {})  # events of earlier workers at this address
        for topic, reason in _WHY_LOST.items():
            if self._n_events(topic, worker) > before.get(topic, 0):
                return reason
        return Reason.WORKER_DIED

    def _n_events(self, topic: str, worker: str) -> int:
        return sum(event["worker"] == _address(worker) for _, event in self._client.get_events(topic))


class UnregisteredError(Exception):
    """A worker that was sent an observation has no :class:`Worker`: it is not the process that was registered."""


def _address(worker: str) -> str:
    return worker.partition(" ")[0]


def _by_value() -> Callable[[str, bytes], str]:
    """Return a function that is pickled with its code: the worker may have no xscan, or another version."""

    def check_and_register(version: str, packed: bytes) -> str:
        try:
            import xscan
        except ImportError as error:
            raise RuntimeError(f"xscan cannot be imported there ({error}); install xscan {version}") from None
        if xscan.__version__ != version:
            raise RuntimeError(f"it has xscan {xscan.__version__}, here is {version}; install the same version")
        from xscan.pipeline.dask_pool import register

        return register(packed)

    return check_and_register


def register(packed: bytes) -> str:
    """Make the worker that runs this ready for observations; return the name of its backend."""
    name, setup, lock = pickle.loads(packed)
    dask_worker = get_worker()
    if dask_worker.nanny is None:
        raise MachineError("it has no nanny, so that nothing could end an observation that hangs; leave out --no-nanny")
    worker = start_worker(setup, lock)
    # later observations find the worker under this name; the attribute goes with the process
    setattr(dask_worker, name, worker)
    return worker.scanner.backend.name


def _scan(name: str, task: Task) -> ObservationSummary:
    """Search one observation on the worker that runs this; end the process if it has lost its device."""
    dask_worker = get_worker()
    worker: Worker | None = getattr(dask_worker, name, None)
    if worker is None:
        raise UnregisteredError
    try:
        return worker.scan(task)
    except DeviceLost as error:
        log.error("%s: the GPU answers no more (%s): this worker process ends", task.obsid, error)
        dask_worker.log_event(_DEVICE_EVENTS, {"worker": dask_worker.address})
        time.sleep(_TO_TELL_S)
        os._exit(1)  # its nanny starts another; each of its observations is tried again alone
