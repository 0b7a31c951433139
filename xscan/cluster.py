"""Workers as Dask keeps them: processes of this machine, one per device, or a cluster that exists.

The one module that knows Dask. Every observation is sent to a worker by name, so that it is known
what was lost with it; Dask's own retries never come to act.
"""

from __future__ import annotations

import logging
import os
import pickle
import resource
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from uuid import uuid4

import dask
import dask.config
from distributed import Client, Future, LocalCluster, get_worker
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker
from distributed.system import MEMORY_LIMIT

from xscan import __version__
from xscan.backends.device import DeviceLost
from xscan.dispatch import Landed
from xscan.errors import ConfigError, MachineError, Reason, XscanError
from xscan.memory import HEAP
from xscan.runner import Task
from xscan.store.lock import read_lock
from xscan.summary import Summary
from xscan.threads import ONE_THREAD
from xscan.worker import Post, Worker, on_post

__all__ = ["DaskPool", "connected", "on_devices", "on_processes", "take_post"]

log = logging.getLogger(__name__)

_FILES, _FILES_A_WORKER = 128, 20  # that this process has open; a worker has fewer
_THREADS = 2  # one searches, one reads ahead
_LOOK_S = 0.5
_NOBODY_S = 60.0  # after which workers of this machine are not coming
_ANSWER_S = 30.0
_DASHBOARD = "127.0.0.1:8787"
_MEMORY_EVENTS = "worker-restart-memory"  # a nanny says so of the worker that it kills
_DEVICE_EVENTS = "xscan-device-lost"  # a worker of ours says so before it ends
_TO_TELL_S = 1.0  # until that is on its way

_CONFIG = {
    # a worker holds one observation or two: spilling and pausing could not help
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.profile.enabled": False,
    # a nanny starts its worker again however often; Dask would close one whose worker is between two lives
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # Dask's own would have each worker give back to the system what the next observation needs again
    "distributed.nanny.pre-spawn-environ": ONE_THREAD | HEAP,
}


class OnePerDevice(LocalCluster):  # type: ignore[misc]  # Dask has no types to speak of
    """A worker process for each CUDA device, which sees no other.

    Taken where dask-cuda's does not work; each worker of that sees all devices, its own first, which is all it uses.

    Parameters
    ----------
    CUDA_VISIBLE_DEVICES : sequence of str
        The devices, as NVIDIA's driver names them.
    **options
        Of :class:`distributed.LocalCluster`.
    """

    def __init__(self, CUDA_VISIBLE_DEVICES: Sequence[str], **options: Any) -> None:  # noqa: N803  dask-cuda's name
        self._devices = list(CUDA_VISIBLE_DEVICES)
        super().__init__(n_workers=0, **options)
        self.scale(len(self._devices))
        self.sync(self._correct_state)

    def new_worker_spec(self) -> dict[Any, Any]:
        """Give the next worker a device that no other has."""
        device = next(device for device in self._devices if device not in self.worker_spec)
        options = self.new_spec["options"] | {"env": {"CUDA_VISIBLE_DEVICES": device}}
        return {device: self.new_spec | {"options": options}}


@contextmanager
def on_processes(n: int, memory: int | None) -> Iterator[Client]:
    """Start worker processes on this machine, and end them.

    Parameters
    ----------
    n : int
    memory : int, optional
        Bytes that each may take; else all of the machine's, shared.

    Raises
    ------
    MachineError
        If they cannot be started.
    """
    with _started(lambda options: LocalCluster(n_workers=n, **options), n, memory) as client:
        yield client


@contextmanager
def on_devices(devices: Sequence[str], memory: int | None) -> Iterator[Client]:
    """Start a worker process for each CUDA device, and end them.

    With dask-cuda a worker also keeps to the cores near its device.

    Parameters
    ----------
    devices : sequence of str
        As they stand in CUDA_VISIBLE_DEVICES.
    memory : int, optional
        Bytes that each may take; else all of the machine's, shared.

    Raises
    ------
    MachineError
        If they cannot be started.
    """

    def start(options: dict[str, Any]) -> LocalCluster:
        options = {"CUDA_VISIBLE_DEVICES": list(devices), "resources": {"GPU": 1}} | options
        if find_spec("dask_cuda") is not None:
            try:
                from dask_cuda import LocalCUDACluster

                return LocalCUDACluster(**options)
            except (OSError, RuntimeError):  # processes that do not start: others would not
                raise
            # whatever a broken installation raises, or the driver that it asks for more than a search needs
            except Exception as error:
                log.warning("dask-cuda does not work here (%s); workers may run far from their device", _line(error))
        return OnePerDevice(**options)

    with _started(start, len(devices), memory) as client:
        yield client


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to the scheduler of a cluster that exists; it stays as it is.

    Raises
    ------
    ConfigError
        If nobody answers there.
    """
    with _quiet():
        try:
            client = Client(address, timeout=_ANSWER_S / 3, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--scheduler {address}: no Dask scheduler answers ({_line(error)}); start one with `dask scheduler`, "
                f"and give the address it prints"
            ) from None
        with client:
            yield client


@contextmanager
def _started(start: Callable[[dict[str, Any]], LocalCluster], n: int, memory: int | None) -> Iterator[Client]:
    _see_to_files(n)
    preload = dask.config.get("distributed.worker.preload")
    options = {
        "processes": True,
        "threads_per_worker": _THREADS,
        "memory_limit": MEMORY_LIMIT // n if memory is None else memory,
        "dashboard_address": _DASHBOARD,
        "silence_logs": logging.CRITICAL,
        "preload": [*([preload] if isinstance(preload, str) else preload), "xscan.worker"],
    }
    with _quiet(), dask.config.set(_CONFIG):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Port 8787 is already in use")  # what is taken instead is told
                warnings.filterwarnings("ignore", "Creating scratch directories")  # that it takes long on this disk
                cluster = start(options)
        except (OSError, RuntimeError) as error:
            raise MachineError(f"cannot start {n} worker processes: {_line(error)}") from None
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


def _see_to_files(n: int) -> None:
    """Raise this process's limit of open files as far as it may; Dask would hang where it meets it."""
    needed = _FILES + _FILES_A_WORKER * n
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise MachineError(
            f"{n} workers need {needed} open files, and this process may have {hard}; raise the limit "
            f"(ulimit -n {needed}), or ask for fewer workers"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask, which tells of each lost worker in many lines; what matters of it is told in one."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class DaskPool:
    """The workers of a Dask cluster, for :func:`xscan.dispatch.dispatch`.

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
        self._futures: dict[int, Future] = {}
        self._ended: SimpleQueue[tuple[int | None, float]] = SimpleQueue()
        self._enlisting: dict[str, Future] = {}
        self._ready: dict[str, str] = {}  # worker: its backend
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
        """Give the workers that can take observations now."""
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
        try:
            return set(self._client.nthreads())
        except (OSError, RuntimeError) as error:
            raise MachineError(
                f"the Dask scheduler does not answer any more ({_line(error)}); start it anew and run the same "
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
            function, *arguments, key=key, workers=[worker], allow_other_workers=False, pure=False
        )

    def _welcome(self, worker: str, future: Future) -> None:
        """Take a worker in, or say why not; if none is left that could be, nothing can be done."""
        try:
            self._ready[worker] = future.result(_ANSWER_S)
        except (KilledWorker, FutureCancelledError, TimeoutError):  # gone again
            return
        except Exception as error:
            self._refused.add(worker)
            refused = error if isinstance(error, XscanError) else MachineError(_line(error))
            if not self._ready and not self._enlisting:
                raise type(refused)(f"worker {worker}: {refused}") from None
            log.warning("worker %s is not used: %s", worker, refused)

    def _complain(self, now_s: float) -> None:
        """Tell once that there is nobody to work, or give up where nobody can come."""
        if self._ready:
            self._seen_s, self._waiting = now_s, False
        elif self._local and now_s - self._seen_s > _NOBODY_S:
            raise MachineError(
                f"no worker process has come up for {_NOBODY_S:g} s; is there memory for it (--memory-limit), "
                f"are there open files (ulimit -n)?"
            )
        elif not self._local and not self._enlisting and not self._waiting and now_s - self._seen_s > _ANSWER_S / 3:
            log.warning("no worker is there; waiting for one (`dask worker ADDRESS`)")
            self._waiting = True

    def send(self, number: int, task: Task, worker: str) -> None:
        """Have an observation searched and stored by this worker, and no other."""
        future = self._submit(_scan, worker, self._name, task)
        self._futures[number] = future
        future.add_done_callback(lambda _: self._ended.put((number, time.monotonic())))

    def forget(self, number: int) -> None:
        """Hear no more of a flight."""
        self._futures.pop(number).cancel()

    def wait(self, seconds: float) -> list[Landed]:
        """Wait for flights to end, at most so long.

        Raises
        ------
        XscanError
            That a worker met and that stops the whole run.
        """
        self._look()
        ended = []
        try:
            ended.append(self._ended.get(timeout=seconds))
            while True:
                ended.append(self._ended.get_nowait())
        except Empty:
            pass
        known = [(number, at_s) for number, at_s in ended if number is not None and number in self._futures]
        return [Landed(number, at_s, _result(self._futures.pop(number))) for number, at_s in known]

    def restart(self, worker: str) -> None:
        """Kill a worker's process without waiting for its end; its nanny starts another."""

        def restart() -> None:
            try:
                self._client.restart_workers([worker], timeout=_ANSWER_S, raise_for_error=False)
            except (OSError, RuntimeError, ValueError, KeyError) as error:  # it is gone already, or its nanny is
                log.debug("worker %s: %s", worker, error)

        Thread(target=restart, name="xscan-restart", daemon=True).start()

    def why_lost(self, worker: str) -> Reason:
        """Say of a worker that is lost whether it took too much memory, lost its GPU, or died of what nobody knows."""
        for topic, reason in ((_MEMORY_EVENTS, Reason.MEMORY_LIMIT), (_DEVICE_EVENTS, Reason.DEVICE_LOST)):
            if any(event["worker"] == worker for _, event in self._client.get_events(topic)):
                return reason
        return Reason.WORKER_DIED


def _result(future: Future) -> Summary | None:
    try:
        summary: Summary = future.result(_ANSWER_S)
    except (KilledWorker, FutureCancelledError, TimeoutError):  # lost with its worker
        return None
    return summary


def _by_value() -> Callable[[str, bytes], str]:
    """Give a function that is sent whole: the worker may have no xscan, or another one."""

    def enlist(version: str, packed: bytes) -> str:
        try:
            import xscan
        except ImportError as error:
            raise RuntimeError(f"xscan cannot be imported there ({error}); install xscan {version}") from None
        if xscan.__version__ != version:
            raise RuntimeError(f"it has xscan {xscan.__version__}, here is {version}; install the same version")
        from xscan.cluster import take_post

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
    worker: Worker = getattr(dask_worker, name)
    try:
        return worker.scan(task)
    except DeviceLost as error:
        log.error("%s: the GPU answers no more (%s): this worker process ends", task[0], error)
        dask_worker.log_event(_DEVICE_EVENTS, {"worker": dask_worker.address})
        time.sleep(_TO_TELL_S)
        os._exit(1)  # its nanny starts another; what was on it is tried again, each alone


def _line(error: BaseException) -> str:
    while error.__cause__ is not None:  # Dask wraps what happened in what did not come of it
        error = error.__cause__
    return next(iter(str(error).splitlines()), "") or type(error).__name__
