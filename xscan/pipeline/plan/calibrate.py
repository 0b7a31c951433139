"""Measure the speed of a run by searching a sample in the same way."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

from xscan.errors import MachineError
from xscan.pipeline.executor import Executor, ExecutorOptions
from xscan.pipeline.outcome import ObservationSummary
from xscan.pipeline.plan.estimate import Measured, Run
from xscan.pipeline.process import peak_bytes
from xscan.pipeline.signals import StopSignal
from xscan.pipeline.task import Task
from xscan.results.writer import ResultsWriter

__all__ = ["LEAST_S", "LIMIT_S", "calibrate", "sample_size"]

LEAST_S, LIMIT_S = 10.0, 60.0
"""Least and greatest duration of a calibration, s, if one search takes at most seconds."""

_AT_LEAST, _A_WORKER = 12, 8  # least number of observations in all, and for each worker; repeated ones count
_MANY = 100  # different observations; more do not improve the estimate
_AT_A_TIME = 2  # an observation is searched while the next is read


def sample_size(n_workers: int | None) -> int:
    """Return how many different observations suffice for this many workers; None: their number is not known yet.

    Examples
    --------
    >>> sample_size(2), sample_size(64), sample_size(None)
    (100, 512, 100)
    """
    return max(_MANY, _A_WORKER * (n_workers or 1))


def calibrate(
    sample: Sequence[Task],
    sizes: Mapping[str, int],
    executor: Executor,
    data: Path,
    folder: Path,
    least_s: float,
    limit_s: float,
    say: Callable[[str], None],
    stop_signal: StopSignal,
) -> Measured:
    """Search a sample as a run does, and measure the time.

    First the observation of median size is searched repeatedly, until every worker has loaded its code
    and libraries. Then the clock starts, and the sample is searched, repeatedly if necessary, until each worker has
    had enough. The clock stops when a worker first asks for more and gets nothing: from then on workers are idle,
    as they are in a run only at its very end.

    Parameters
    ----------
    sample : sequence of Task
        At least one, each with its obsid.
    sizes : mapping of str to int
        Bytes of their files, by obsid.
    executor : Executor
    data : Path
        The folder that contains the observations, absolute.
    folder : Path
        New folder for the results, absolute.
    least_s : float
        Least time that the clock runs, s.
    limit_s : float
        After this time from the start, s, no observation is begun, except one for each worker.
    say : callable
        Called with a line that gives the address of the dashboard.
    stop_signal : StopSignal

    Raises
    ------
    MachineError
        If no observation of the sample could be searched.
    """
    stream = _Stream(sample, sizes, executor.options, least_s, limit_s)
    writer = ResultsWriter(folder, executor.settings.provenance(), executor.settings.by_name())
    with writer:
        executor.run(stream.tasks(), data, writer, stream.ended, None, say, stop_signal)
        gone_s = time.perf_counter()
    stored_s = time.perf_counter() - gone_s
    stored_bytes = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    return stream.measured(gone_s, stored_s, stored_bytes)


class _Stream:
    """Provides the observations of a calibration one after the other, and records when each ended and how."""

    def __init__(
        self, sample: Sequence[Task], sizes: Mapping[str, int], options: ExecutorOptions, least_s: float, limit_s: float
    ) -> None:
        self._sample = sample
        self._sizes = sizes
        self._in_this_process = options.in_this_process()
        self._known_workers = options.n_workers()
        self._least_s = least_s
        self._limit_s = limit_s
        self._ended: list[tuple[float, ObservationSummary]] = []
        self._given = self._most_unfinished = 0
        self._begun_s = time.perf_counter()
        self._opened_s = self._closed_s = math.inf
        self._idle: int | None = None
        self._peak: int | None = None

    def tasks(self) -> Iterator[Task]:
        """Yield the observations to be searched."""
        ordered = sorted(self._sample, key=lambda task: self._sizes[task.name])
        middle = ordered[len(ordered) // 2]
        while len(self._ended) < self._n_workers() * (1 if self._late() else _AT_A_TIME):
            yield self._give(middle)
        self._idle = self._memory()
        self._opened_s = time.perf_counter()
        for number, task in enumerate(cycle(self._sample)):
            if self._enough(number):
                break
            yield self._give(task)
        self._closed_s = time.perf_counter()

    def ended(self, summary: ObservationSummary) -> None:
        """Record that an observation ended."""
        self._ended.append((time.perf_counter(), summary))
        if self._closed_s < math.inf:
            self._peak = self._memory()

    def measured(self, gone_s: float, storing_s: float, stored_bytes: int) -> Measured:
        """Return the measurement; ``gone_s``: when the workers had ended, ``storing_s``: how long storing took."""
        ends = [(at_s, summary.outcome) for at_s, summary in self._ended]
        if all(outcome.state == "failed" for _, outcome in ends):
            raise MachineError(
                f"nothing of the sample could be searched, so that nothing can be said: {ends[-1][1].message}"
            )
        warm = [(at_s, outcome) for at_s, outcome in ends if at_s > self._opened_s]
        inside = [outcome for at_s, outcome in warm if at_s <= self._closed_s]
        until_s = self._closed_s
        if not inside:
            inside, until_s = [outcome for _, outcome in warm], warm[-1][0]
        before = [outcome for at_s, outcome in ends if at_s <= self._opened_s]
        size = self._sizes
        return Measured(
            tuple(Run(size[outcome.obsid], outcome.seconds) for _, outcome in warm),
            tuple(size[outcome.obsid] for outcome in inside),
            until_s - self._opened_s,
            tuple(size[outcome.obsid] for outcome in before),
            self._opened_s - self._begun_s,
            gone_s - ends[-1][0],
            storing_s,
            tuple(size[obsid] for obsid in sorted({outcome.obsid for _, outcome in ends})),
            stored_bytes,
            self._idle,
            self._peak,
            self._n_workers(),
        )

    def _give(self, task: Task) -> Task:
        self._given += 1
        self._most_unfinished = max(self._most_unfinished, self._given - len(self._ended))
        return task

    def _n_workers(self) -> int:
        """Return the number of workers; for a cluster, as the observations sent and not yet ended show."""
        return self._known_workers or max(1, math.ceil(self._most_unfinished / _AT_A_TIME))

    def _enough(self, n: int) -> bool:
        """Return whether the clock may stop after ``n`` observations."""
        workers = self._n_workers()
        if self._late():
            return n >= workers
        return n >= max(_AT_LEAST, _A_WORKER * workers) and time.perf_counter() - self._opened_s >= self._least_s

    def _late(self) -> bool:
        return time.perf_counter() - self._begun_s > self._limit_s

    def _memory(self) -> int | None:
        """Return the peak memory of the largest searching process; None if it is on another machine or unknown."""
        here = [os.getpid()] if self._in_this_process else [child.pid for child in multiprocessing.active_children()]
        peaks = [peak_bytes(pid) for pid in here if pid is not None]
        return max(filter(None, peaks), default=None)
