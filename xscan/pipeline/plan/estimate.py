"""Estimate from a sample what all observations will take; numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "Line", "Measured", "Run", "estimate", "fit_line"]

_HEADROOM = 1.5  # factor on memory: two large observations may meet in a worker; files to be fetched may be larger


@dataclass(frozen=True, slots=True)
class Run:
    """One observation of the sample.

    Attributes
    ----------
    n_bytes : int
        Size of its files.
    seconds : float
        Wall time of reading and searching it, s.
    """

    n_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of searching a sample.

    Attributes
    ----------
    runs : tuple of Run
        Each observation that ended after code and libraries were loaded.
    window : tuple of int
        Sizes of the observations that ended while every worker was busy, bytes.
    window_s : float
        Duration of that period, s.
    warming : tuple of int
        Sizes of the observations that ended before that period, bytes.
    warming_s : float
        Duration from before the first worker was started until that period, s.
    ending_s : float
        From the end of the last observation until the workers had ended, s.
    storing_s : float
        Time for writing the Parquet files, s.
    stored : tuple of int
        Sizes of the observations whose results were stored, bytes.
    stored_bytes : int
        Size of the Parquet files.
    idle_memory_bytes, peak_memory_bytes : int, optional
        Memory of the largest process: before the sample, and the peak; None where the system does not say.
    n_workers : int
    """

    runs: tuple[Run, ...]
    window: tuple[int, ...]
    window_s: float
    warming: tuple[int, ...]
    warming_s: float
    ending_s: float
    storing_s: float
    stored: tuple[int, ...]
    stored_bytes: int
    idle_memory_bytes: int | None
    peak_memory_bytes: int | None
    n_workers: int


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line ``fixed + per_byte * n_bytes``; both at least 0, and not both 0."""

    fixed: float
    per_byte: float

    def at(self, n_bytes: float) -> float:
        """Return the value at this many bytes."""
        return self.fixed + self.per_byte * n_bytes

    def total(self, sizes: Sequence[float]) -> float:
        """Return the sum of the values at these sizes."""
        return math.fsum(map(self.at, sizes))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will need.

    Attributes
    ----------
    start_s : float
        Starting workers, loading code, ending workers, s.
    search_s : float
        Searching with all workers, s.
    result_bytes : int
        Size of the Parquet files.
    worker_memory_bytes : int, optional
    """

    start_s: float
    search_s: float
    result_bytes: int
    worker_memory_bytes: int | None


def fit_line(runs: Sequence[Run]) -> Line:
    """Fit seconds by a line in bytes, by least squares, with a slope and an intercept of at least 0.

    Parameters
    ----------
    runs : sequence of Run
        If all seconds are 0, each observation counts the same.

    Examples
    --------
    >>> fit_line([Run(1_000_000, 1.5), Run(3_000_000, 2.5)])
    Line(fixed=1.0, per_byte=5e-07)
    """
    if not any(run.seconds > 0 for run in runs):
        return Line(1.0, 0.0)
    n = len(runs)
    mean_x, mean_y = math.fsum(run.n_bytes for run in runs) / n, math.fsum(run.seconds for run in runs) / n
    spread = math.fsum((run.n_bytes - mean_x) ** 2 for run in runs)
    slope = math.fsum((run.n_bytes - mean_x) * (run.seconds - mean_y) for run in runs) / spread if spread else 0.0
    if slope <= 0:
        return Line(mean_y, 0.0)
    if mean_y - slope * mean_x < 0:  # then the least-squares line through the origin is the best allowed one
        through = math.fsum(run.n_bytes * run.seconds for run in runs) / math.fsum(run.n_bytes**2 for run in runs)
        return Line(0.0, through)
    return Line(mean_y - slope * mean_x, slope)


def estimate(measured: Measured, todo: Sequence[float]) -> Estimate:
    """Estimate what observations of these sizes will need.

    The fitted line is only used to compare observations with each other; the pace is that at which all workers
    together searched the sample. So shared cores, disks and memory have the same effect as in the run.

    Parameters
    ----------
    measured : Measured
    todo : sequence of float
        Sizes, bytes; expected sizes for observations that are not on disk.

    Examples
    --------
    Two workers search four observations of 1 MB in 2 s; 100 such take 50 s, and 25 times the disk:

    >>> megabyte = 1_000_000
    >>> runs, window = (Run(megabyte, 1.0),) * 4, (megabyte,) * 4
    >>> measured = Measured(runs, window, 2.0, (), 3.0, 1.0, 0.0, window, 8000, None, None, 2)
    >>> estimate(measured, [megabyte] * 100)
    Estimate(start_s=4.0, search_s=50.0, result_bytes=200000, worker_memory_bytes=None)
    """
    if not todo:
        return Estimate(0.0, 0.0, 0, measured.peak_memory_bytes)
    line = fit_line(measured.runs)
    work = line.total(todo)
    pace = measured.window_s / line.total(measured.window)
    start_s = max(0.0, measured.warming_s - pace * line.total(measured.warming)) + measured.ending_s
    n, n_workers = len(todo), measured.n_workers
    rounds = math.ceil(n / n_workers) * n_workers / n  # in the last round some workers are idle
    search_s = pace * work * rounds + measured.storing_s * work / line.total(measured.stored)
    result_bytes = round(measured.stored_bytes * math.fsum(todo) / math.fsum(measured.stored))
    return Estimate(start_s, search_s, result_bytes, _memory(measured, max(todo)))


def _memory(measured: Measured, largest: float) -> int | None:
    idle, peak = measured.idle_memory_bytes, measured.peak_memory_bytes
    if idle is None or peak is None:
        return None
    scale = max(1.0, largest / max(measured.stored))
    return round(_HEADROOM * (idle + (peak - idle) * scale))
