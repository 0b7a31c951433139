"""Start Dask clusters (worker processes of this machine, or one per device), or connect to an existing one."""

from __future__ import annotations

import logging
import resource
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

import dask
import dask.config
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from xscan.errors import ConfigError, MachineError, first_line
from xscan.pipeline.process import ARROW, HEAP
from xscan.pipeline.threads import ONE_THREAD

__all__ = ["connected", "on_devices", "on_processes"]

log = logging.getLogger(__name__)

_FILES, _FILES_A_WORKER = 128, 20  # files that this process has open; each worker adds at most this many
_THREADS = 2  # one searches, one reads ahead
_ANSWER_S = 10.0
_DASHBOARD = "127.0.0.1:8787"

_CONFIG = {
    # a worker holds one or two observations: spilling and pausing could not help
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.profile.enabled": False,
    # a nanny restarts its worker without limit; by default Dask would drop one that is between two processes
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # Dask's own values would make each worker return memory to the system that the next observation needs again
    "distributed.nanny.pre-spawn-environ": ONE_THREAD | HEAP | ARROW,
}


class OnePerDevice(LocalCluster):  # type: ignore[misc]  # Dask has no types to speak of
    """A worker process for each CUDA device, which sees no other device.

    Used where dask-cuda's cluster does not work. Each worker of dask-cuda sees all devices, but its own one first, and
    a search uses only the first.

    Parameters
    ----------
    CUDA_VISIBLE_DEVICES : sequence of str
        The devices, as NVIDIA's driver names them.
    **options
        As for :class:`distributed.LocalCluster`.
    """

    def __init__(self, CUDA_VISIBLE_DEVICES: Sequence[str], **options: Any) -> None:  # noqa: N803  dask-cuda's name
        self._devices = list(CUDA_VISIBLE_DEVICES)
        super().__init__(n_workers=0, **options)
        self.scale(len(self._devices))
        self.sync(self._correct_state)

    def new_worker_spec(self) -> dict[Any, Any]:
        """Return the specification of the next worker, with a device that no other has."""
        device = next(device for device in self._devices if device not in self.worker_spec)
        options = self.new_spec["options"] | {"env": {"CUDA_VISIBLE_DEVICES": device}}
        return {device: self.new_spec | {"options": options}}


@contextmanager
def on_processes(n: int, memory: int | None) -> Iterator[Client]:
    """Start worker processes on this machine, yield a client, and end the processes.

    Parameters
    ----------
    n : int
    memory : int, optional
        Bytes that each worker may take; default: an equal share of the machine's memory.

    Raises
    ------
    MachineError
        If they cannot be started.
    """
    with _started(lambda options: LocalCluster(n_workers=n, **options), n, memory) as client:
        yield client


@contextmanager
def on_devices(devices: Sequence[str], memory: int | None) -> Iterator[Client]:
    """Start a worker process for each CUDA device, yield a client, and end the processes.

    With dask-cuda each worker also runs on the cores near its device.

    Parameters
    ----------
    devices : sequence of str
        As they stand in CUDA_VISIBLE_DEVICES.
    memory : int, optional
        Bytes that each worker may take; default: an equal share of the machine's memory.

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
            except (OSError, RuntimeError):  # processes that do not start: OnePerDevice's would not either
                raise
            # anything that a broken installation raises, or a driver lacking something that only dask-cuda needs
            except Exception as error:
                log.warning(
                    "dask-cuda does not work here (%s); workers may run far from their device", first_line(error)
                )
        return OnePerDevice(**options)

    with _started(start, len(devices), memory) as client:
        yield client


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to the scheduler of an existing cluster, which is not changed.

    Raises
    ------
    ConfigError
        If no scheduler answers at this address.
    """
    with _quiet():
        try:
            client = Client(address, timeout=_ANSWER_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--scheduler {address}: no Dask scheduler answers ({first_line(error)}); start one with "
                f"`dask scheduler`, and give the address it prints"
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
        "preload": [*([preload] if isinstance(preload, str) else preload), "xscan.pipeline.worker"],
    }
    with _quiet(), dask.config.set(_CONFIG):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Port 8787 is already in use")  # the address taken instead is shown
                warnings.filterwarnings("ignore", "Creating scratch directories")  # it warns of a slow disk
                with ThreadPoolExecutor(1, "xscan-start", _deafen) as starter:
                    resource_tracker.ensure_running()  # started later, it would unblock SIGINT in that thread
                    cluster = starter.submit(start, options).result()
        except (OSError, RuntimeError) as error:
            raise MachineError(f"cannot start {n} worker processes: {first_line(error)}") from None
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


def _deafen() -> None:
    """Block SIGINT in this thread, in threads started from it, and in all processes that these ever start.

    Ctrl-C reaches every process of a terminal and would end workers while they start; once running, a worker
    ignores it (``xscan.pipeline.worker``).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _see_to_files(n: int) -> None:
    """Raise this process's limit of open files to what the workers need; Dask hangs when it reaches the limit."""
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
    """Silence Dask's loggers, which report each lost worker in many lines; xscan reports it in one."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
