"""Choose where to search (this process, worker processes of this machine, or a cluster), and do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xscan.backends import cpu_backend
from xscan.backends.cuda.driver import visible_devices
from xscan.errors import ConfigError, DeviceError, Reason
from xscan.pipeline.digests import inputs_digest
from xscan.pipeline.dispatch import Abandoned, Pool, dispatch
from xscan.pipeline.local import LOST_REMEDY, OnEnded, run
from xscan.pipeline.outcome import summarize
from xscan.pipeline.scan import Scanner, ScanSettings
from xscan.pipeline.signals import StopSignal
from xscan.pipeline.task import Task
from xscan.pipeline.units import parse_size
from xscan.results.tables import failed_tables
from xscan.results.writer import ResultsWriter

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["TIME_LIMIT_S", "Executor", "ExecutorOptions", "run_on"]

TIME_LIMIT_S = 1800.0
"""Time limit for one observation, s: hundreds of times what the longest one takes."""

_REMEDIES = {
    Reason.WORKER_DIED: "its worker process died of it, twice, the second time with nothing else to do; look what the "
    "system says of it (memory?), search it with xscan scan, or again with --retry-failed",
    Reason.TIME_LIMIT: "nothing came of it within {time_limit_s:g} s, twice; give it more with --time-limit and "
    "--retry-failed",
    Reason.MEMORY_LIMIT: "its worker was ended for taking too much memory, twice; give workers more with "
    "--memory-limit, or with fewer --workers, and --retry-failed",
    Reason.DEVICE_LOST: "the GPU stopped answering while its worker searched it, twice; see nvidia-smi, then "
    "--retry-failed",
}

_LOST_MOST = 3  # GPUs lost one after the other: then the observations are not the cause


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """Where to search. At most one of the first three is given; none of them means this process.

    Attributes
    ----------
    workers : int, optional
        Worker processes of this machine.
    gpus : str, optional
        A number of CUDA devices of this machine, or ``all``; one worker process is started for each.
    scheduler : str, optional
        Address of an existing Dask cluster.
    time_limit_s : float, optional
        Limit for one observation, s; default :data:`TIME_LIMIT_S`.
    memory_limit : str, optional
        Limit for one worker of this machine, such as 4GB; default: an equal share of the machine's memory.
    """

    workers: int | None = None
    gpus: str | None = None
    scheduler: str | None = None
    time_limit_s: float | None = None
    memory_limit: str | None = None

    def in_this_process(self) -> bool:
        """Return whether this process itself searches."""
        return self.workers is None and self.gpus is None and self.scheduler is None

    def n_workers(self) -> int | None:
        """Return the number of processes that search; None for a cluster, whose workers come and go.

        Raises
        ------
        ConfigError, DeviceError
            As :meth:`devices`.
        """
        if self.scheduler is not None:
            return None
        return len(self.devices()) if self.gpus is not None else self.workers or 1

    def devices(self) -> tuple[str, ...]:
        """Return the CUDA devices to use.

        Raises
        ------
        ConfigError
            If ``gpus`` is neither a number nor ``all``.
        DeviceError
            If fewer devices work than are asked for.
        """
        asked = self.gpus or ""
        if asked != "all" and (not asked.isdecimal() or int(asked) < 1):
            raise ConfigError(f"--gpus {asked}: give a number of devices, or all")
        there = visible_devices()
        n = len(there) if asked == "all" else int(asked)
        if n > len(there):
            raise DeviceError(f"--gpus {n}: this machine shows {len(there)}; ask for no more, or for all")
        return there[:n]

    def memory_bytes(self) -> int | None:
        """Return the memory limit of one worker, bytes; None for the default.

        Raises
        ------
        ConfigError
            If it is not a size, or 0.
        """
        if self.memory_limit is None:
            return None
        memory = parse_size("--memory-limit", self.memory_limit)
        if memory == 0:
            raise ConfigError(f"--memory-limit {self.memory_limit}: a worker needs some; leave it out for a fair share")
        return memory

    def resolve(self, settings: ScanSettings) -> Executor:
        """Check that the options work here, and return what searches with these settings.

        Raises
        ------
        ConfigError
            If options contradict each other.
        DeviceError
            If the devices do not exist, or the backend does not work here.
        """
        given = {"--workers": self.workers, "--gpus": self.gpus, "--scheduler": self.scheduler}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise ConfigError(f"{' and '.join(names)} cannot go together; give one of them")
        if self.in_this_process():
            if self.time_limit_s is not None or self.memory_limit is not None:
                raise ConfigError("--time-limit and --memory-limit need a worker process to end: add --workers 1")
            scanner = settings.scanner()
            return Executor(self, replace(settings, backend=scanner.backend.name), scanner)
        if self.scheduler is not None and self.memory_limit is not None:
            raise ConfigError("--memory-limit is for workers of this machine; give it to `dask worker`")
        self.memory_bytes()
        if self.gpus is not None:
            if settings.backend not in ("auto", "cuda"):
                raise ConfigError(f"--gpus means --backend cuda, not {settings.backend}; use --workers")
            self.devices()
            settings = replace(settings, backend="cuda")
        elif self.workers is not None and settings.backend == "auto":
            settings = replace(settings, backend=cpu_backend().name)  # several processes on one device do not help
        return Executor(self, settings, None)


@dataclass(frozen=True, slots=True)
class Executor:
    """Searches observations in this process or with workers; made by :meth:`ExecutorOptions.resolve`.

    Attributes
    ----------
    options : ExecutorOptions
    settings : ScanSettings
        With the backend that searches, where it is known.
    scanner : Scanner, optional
        Searches in this process; None if workers do.
    """

    options: ExecutorOptions
    settings: ScanSettings
    scanner: Scanner | None

    def run(
        self,
        tasks: Iterable[Task | None],
        data: Path,
        writer: ResultsWriter,
        on_ended: OnEnded,
        plots: Path | None,
        say: Callable[[str], None],
        stop_signal: StopSignal,
    ) -> None:
        """Search observations, and store the results.

        Parameters
        ----------
        tasks : iterable of Task or None
            Taken when needed; None if there is none at the moment.
        data : Path
            The folder that contains the observations, absolute.
        writer : ResultsWriter
            Open, for an absolute folder.
        on_ended : callable
            Called with the summary of each observation when it has ended.
        plots : Path, optional
        say : callable
            Called with a line that gives the address of the dashboard.
        stop_signal : StopSignal
            Signals are delayed while workers are started and while they work; then the pool polls for them.
        """
        if self.scanner is not None:
            run(tasks, self.scanner, writer, on_ended, plots)
            return
        from xscan.pipeline.dask_pool import DaskPool
        from xscan.pipeline.worker import WorkerSetup

        # Dask cannot abort a half-started cluster and swallows exceptions raised in its finalizers. So signals are
        # delayed, and the pool polls for them.
        with stop_signal.defer(), self._cluster() as client:
            setup = WorkerSetup(self.settings, data, writer.folder, plots)
            pool = DaskPool(client, setup, local=self.options.scheduler is None, check_signals=stop_signal.check)
            if pool.dashboard:
                say(f"Dask dashboard: {pool.dashboard}")
            run_on(pool, tasks, self.settings, writer, on_ended, self.options.time_limit_s or TIME_LIMIT_S)

    def _cluster(self) -> AbstractContextManager[Client]:
        """Return a context manager that starts the workers, or connects to them."""
        from xscan.pipeline.dask_cluster import connected, on_devices, on_processes

        options = self.options
        if options.scheduler is not None:
            return connected(options.scheduler)
        memory = options.memory_bytes()
        if options.gpus is not None:
            return on_devices(options.devices(), memory)
        return on_processes(options.workers or 1, memory)


def run_on(
    pool: Pool,
    tasks: Iterable[Task | None],
    settings: ScanSettings,
    writer: ResultsWriter,
    on_ended: OnEnded,
    time_limit_s: float,
) -> None:
    """Search observations on a pool. Workers store what they find; abandoned observations are stored as failed.

    Parameters
    ----------
    pool : Pool
    tasks : iterable of Task
    settings : ScanSettings
    writer : ResultsWriter
    on_ended : callable
    time_limit_s : float

    Raises
    ------
    DeviceError
        If GPUs are lost one after the other, whatever they search.
    StoreError, MachineError
        As :func:`~xscan.pipeline.dispatch.dispatch`.
    """
    n_lost = 0
    for ended in dispatch(tasks, pool, time_limit_s):
        if isinstance(ended, Abandoned):
            name = ended.task.name
            digest = inputs_digest(ended.task.place)
            provenance = replace(settings.provenance(), backend=pool.backend(), inputs_digest=digest)
            message = f"{name}: {_REMEDIES[ended.reason].format(time_limit_s=time_limit_s)}"
            tables = failed_tables(name, "failed", ended.reason, message, provenance, ended.seconds)
            writer.write(name, tables)
            on_ended(summarize(tables, ended.seconds))
            n_lost = n_lost + 1 if ended.reason is Reason.DEVICE_LOST else 0
            if n_lost == _LOST_MOST:
                raise DeviceError(f"GPUs stop answering whatever they search, as with {name}; {LOST_REMEDY}")
        else:
            n_lost = 0
            writer.took()
            on_ended(ended)
