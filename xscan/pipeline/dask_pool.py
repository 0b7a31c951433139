"""Observations sent to the workers of a Dask cluster, and what comes back.

Every observation is sent to a worker by name, so that it is known what was lost with it; Dask's own
retries never come to act.
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
from xscan.pipeline.dispatch import Landed
from xscan.pipeline.local import Task
from xscan.pipeline.outcome import Summary
from xscan.pipeline.worker import Post, Worker, on_post
from xscan.results.lock import read_lock

__all__ = ["DaskPool", "take_post"]

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_NOBODY_S = 60.0  # after which workers of this machine are not coming
_AWAITED_S = 10.0  # before it is said that those of others do not come
_ANSWER_S = 30.0
_MEMORY_EVENTS = "worker-restart-memory"  # a nanny says so of the worker that it kills
_DEVICE_EVENTS = "xscan-device-lost"  # a worker of ours says so before it ends
_WHY_LOST = {_MEMORY_EVENTS: Reason.MEMORY_LIMIT, _DEVICE_EVENTS: Reason.DEVICE_LOST}
_TO_TELL_S = 1.0  # until that is on its way


class DaskPool:
    """The workers of a Dask cluster, for :func:`xscan.pipeline.dispatch.dispatch`.

    Parameters
    ----------
    client : distributed.Client
    post : Post
        Each worker hears of it once, before it gets any observation.
    local : bool
        Whether the workers are of this process, so that some must be there.
    look : callable
        Called several times a second; what it raises ends the run.
    """

    def __init__(self, client: Client, post: Post, local: bool, look: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._post = post
        self._local = local
        self._look = look
        self._name = f"xscan-{uuid4().hex}"
        self._futures: dict[int, tuple[str, Future]] = {}  # each with its worker
        self._ended: SimpleQueue[tuple[int | None, float]] = SimpleQueue()
        self._enlisting: dict[str, Future] = {}
        self._ready: dict[str, str] = {}  # worker: its backend
        self._told: dict[str, dict[str, int]] = {}  # events of a worker's address when it was enlisted, by topic
        self._refused: set[str] = set()
        self._looked_s = 0.0
        self._seen_s = time.monotonic()
        self._waiting = False

    @property
    def dashboard(self) -> str:
        """Address of Dask's dashboard, which is empty pages without bokeh."""
        needs = " (pip install 'xscan[dashboard]' to see it)" if self._local and find_spec("bokeh") is None else ""
        return f"{self._client.dashboard_link or ''}{needs}"

    def backend(self) -> str:
        """Name of the backend that the workers have."""
        return next(iter(self._ready.values()), self._post.order.backend)

    def workers(self) -> frozenset[str]:
        """Return the workers that can take observations now."""
        self._look()  # a signal may have ended them too: that is not their fault
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            there = self._there()
            self._looked_s = now_s
            for known in (self._enlisting, self._ready):
                for worker in known.keys() - there:
                    del known[worker]
            self._refused &= there
            for worker in there - self._enlisting.keys() - self._ready.keys() - self._refused:
                self._enlist(worker)
        for worker, future in list(self._enlisting.items()):
            if future.done():
                del self._enlisting[worker]
                self._welcome(worker, future)
        self._complain(now_s)
        return frozenset(self._ready)

    def _there(self) -> set[str]:
        """Return the workers that the scheduler has, each by address and by the folder that is made for its process.

        One that is started again may have the address of the one before (``dask worker --worker-port``).
        """
        try:
            held = self._client.sync(self._client.scheduler.identity)["workers"]
            return {f"{address} {facts['local_directory']}" for address, facts in held.items()}
        except (OSError, RuntimeError) as error:
            raise MachineError(
                f"the Dask scheduler does not answer any more ({first_line(error)}); start it anew and run the same "
                f"command again: it goes on from here"
            ) from None

    def _enlist(self, worker: str) -> None:
        packed = pickle.dumps((self._name, self._post, read_lock(self._post.out)))
        future = self._submit(_by_value(), worker, __version__, packed)
        self._enlisting[worker] = future
        future.add_done_callback(lambda _: self._ended.put((None, 0.0)))

    def _submit(self, function: Callable[..., Any], worker: str, *arguments: Any) -> Future:
        key = f"{self._name}-{uuid4().hex}"
        return self._client.submit(
            function, *arguments, key=key, workers=[_address(worker)], allow_other_workers=False, pure=False
        )

    def _welcome(self, worker: str, future: Future) -> None:
        """Take a worker in, or say why not; if none is left that could be, nothing can be done."""
        try:
            self._ready[worker] = future.result(_ANSWER_S)
            self._told[worker] = {topic: self._n_told(topic, worker) for topic in _WHY_LOST}
        except (KilledWorker, FutureCancelledError, TimeoutError):  # gone again
            return
        except Exception as error:
            self._refused.add(worker)
            refused = error if isinstance(error, XscanError) else MachineError(first_line(error))
            if not self._ready and not self._enlisting:
                raise type(refused)(f"worker {_address(worker)}: {refused}") from None
            log.warning("worker %s is not used: %s", _address(worker), refused)

    def _complain(self, now_s: float) -> None:
        """Tell once that there is nobody to work, or give up where nobody can come."""
        if self._ready:
            self._seen_s, self._waiting = now_s, False
        elif self._local and now_s - self._seen_s > _NOBODY_S:
            raise MachineError(
                f"no worker process has come up for {_NOBODY_S:g} s; is there memory for it (--memory-limit), "
                f"are there open files (ulimit -n)?"
            )
        elif not self._local and not self._enlisting and not self._waiting and now_s - self._seen_s > _AWAITED_S:
            log.warning("no worker is there; waiting for one (`dask worker ADDRESS`)")
            self._waiting = True

    def send(self, number: int, task: Task, worker: str) -> None:
        """Have an observation searched and stored by this worker, and no other."""
        future = self._submit(_scan, worker, self._name, task)
        self._futures[number] = worker, future
        future.add_done_callback(lambda _: self._ended.put((number, time.monotonic())))

    def forget(self, number: int) -> None:
        """Hear no more of a flight."""
        _, future = self._futures.pop(number)
        future.cancel()

    def wait(self, seconds: float) -> list[Landed]:
        """Wait for flights to end, at most so long.

        Raises
        ------
        XscanError
            That a worker met and that stops the whole run.
        """
        ended = []
        try:
            ended.append(self._ended.get(timeout=seconds))
            while True:
                ended.append(self._ended.get_nowait())
        except Empty:
            pass
        self._look()
        known = [(number, at_s) for number, at_s in ended if number is not None and number in self._futures]
        return [Landed(number, at_s, self._result(*self._futures.pop(number))) for number, at_s in known]

    def _result(self, worker: str, future: Future) -> Summary | None:
        try:
            summary: Summary = future.result(_ANSWER_S)
        except StrangerError:  # it was lost, and another has its address
            self._ready.pop(worker, None)
            self._looked_s = 0.0
            return None
        except (KilledWorker, FutureCancelledError, TimeoutError):  # lost with its worker
            return None
        return summary

    def restart(self, worker: str) -> None:
        """Kill a worker's process without waiting for its end; its nanny starts another."""

        def restart() -> None:
            try:
                self._client.restart_workers([_address(worker)], timeout=_ANSWER_S, raise_for_error=False)
            except (OSError, RuntimeError, ValueError, KeyError) as error:  # it is gone already, or its nanny is
                log.debug("worker %s: %s", worker, error)

        Thread(target=restart, name="xscan-restart", daemon=True).start()

    def why_lost(self, worker: str) -> Reason:
        """Say of a worker that is lost whether it took too much memory, lost its GPU, or died of what nobody knows."""
        before = self._told.get(worker, {})  # of others that had its address
        for topic, reason in _WHY_LOST.items():
            if self._n_told(topic, worker) > before.get(topic, 0):
                return reason
        return Reason.WORKER_DIED

    def _n_told(self, topic: str, worker: str) -> int:
        return sum(event["worker"] == _address(worker) for _, event in self._client.get_events(topic))


class StrangerError(Exception):
    """A worker was sent an observation and does not know of us: it is not the one that was enlisted."""


def _address(worker: str) -> str:
    return worker.partition(" ")[0]


def _by_value() -> Callable[[str, bytes], str]:
    """Return a function that is sent whole: the worker may have no xscan, or another one."""

    def enlist(version: str, packed: bytes) -> str:
        try:
            import xscan
        except ImportError as error:
            raise RuntimeError(f"xscan cannot be imported there ({error}); install xscan {version}") from None
        if xscan.__version__ != version:
            raise RuntimeError(f"it has xscan {xscan.__version__}, here is {version}; install the same version")
        from xscan.pipeline.dask_pool import take_post

        return take_post(packed)

    return enlist


def take_post(packed: bytes) -> str:
    """Make this worker ready for observations; give the name of its backend."""
    name, post, lock = pickle.loads(packed)
    dask_worker = get_worker()
    if dask_worker.nanny is None:
        raise MachineError("it has no nanny, so that nothing could end an observation that hangs; leave out --no-nanny")
    worker = on_post(post, lock)
    # the observations to come find it by this name; it goes with the process
    setattr(dask_worker, name, worker)
    return worker.recipe.backend.name


def _scan(name: str, task: Task) -> Summary:
    """Search one observation on the worker that this runs on; a process without its device ends."""
    dask_worker = get_worker()
    worker: Worker | None = getattr(dask_worker, name, None)
    if worker is None:
        raise StrangerError
    try:
        return worker.scan(task)
    except DeviceLost as error:
        log.error("%s: the GPU answers no more (%s): this worker process ends", task[0], error)
        dask_worker.log_event(_DEVICE_EVENTS, {"worker": dask_worker.address})
        time.sleep(_TO_TELL_S)
        os._exit(1)  # its nanny starts another; what was on it is tried again, each alone
