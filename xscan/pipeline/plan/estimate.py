"""From what a sample took to what all will take: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "Line", "Measured", "Run", "estimate", "fit_line"]

_HEADROOM = 1.5  # on memory: two large observations may meet in one worker, and larger ones may be fetched


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
    """What searching a sample took.

    Attributes
    ----------
    runs : tuple of Run
        Each observation that ended when code and libraries were loaded.
    window : tuple of int
        Sizes of the observations that ended while every worker had enough to do, bytes.
    window_s : float
        How long that was, s.
    warming : tuple of int
        Sizes of those that ended before, bytes.
    warming_s : float
        How long that was, from before the first worker was started, s.
    ending_s : float
        From the last observation until the crew was gone, s.
    storing_s : float
        Writing the Parquet files, s.
    stored : tuple of int
        Sizes of the observations whose results were stored, bytes.
    stored_bytes : int
        Of the Parquet files.
    idle_memory_bytes, peak_memory_bytes : int, optional
        Of the largest process, before the sample and in all; None where the system does not say.
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
    """``fixed + per_byte * n_bytes``, both at least 0 and not both 0."""

    fixed: float
    per_byte: float

    def at(self, n_bytes: float) -> float:
        """Return the value for so many bytes."""
        return self.fixed + self.per_byte * n_bytes

    def total(self, sizes: Sequence[float]) -> float:
        """Return the sum of the values."""
        return math.fsum(map(self.at, sizes))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    start_s : float
        Starting workers, loading code, ending workers, s.
    search_s : float
        Searching, with the whole crew, s.
    result_bytes : int
        Of the Parquet files.
    worker_memory_bytes : int, optional
    """

    start_s: float
    search_s: float
    result_bytes: int
    worker_memory_bytes: int | None


def fit_line(runs: Sequence[Run]) -> Line:
    """Fit seconds by a line in bytes that falls nowhere and is nowhere negative, by least squares.

    Parameters
    ----------
    runs : sequence of Run
        If they have no seconds at all, each observation counts the same.
    """
    if not any(run.seconds > 0 for run in runs):
        return Line(1.0, 0.0)
    n = len(runs)
    mean_x, mean_y = math.fsum(run.n_bytes for run in runs) / n, math.fsum(run.seconds for run in runs) / n
    spread = math.fsum((run.n_bytes - mean_x) ** 2 for run in runs)
    slope = math.fsum((run.n_bytes - mean_x) * (run.seconds - mean_y) for run in runs) / spread if spread else 0.0
    if slope <= 0:
        return Line(mean_y, 0.0)
    if mean_y - slope * mean_x < 0:  # then the best line through the origin is the best of all that are allowed
        through = math.fsum(run.n_bytes * run.seconds for run in runs) / math.fsum(run.n_bytes**2 for run in runs)
        return Line(0.0, through)
    return Line(mean_y - slope * mean_x, slope)


def estimate(measured: Measured, todo: Sequence[float]) -> Estimate:
    """Say what observations of these sizes will take.

    The line only says how observations compare; how many a crew does in an hour is what the sample
    took of its time. So whatever is shared, cores, disks, memory, counts as it does in the run.

    Parameters
    ----------
    measured : Measured
    todo : sequence of float
        Sizes, bytes; expected ones of what is not here.
    """
    if not todo:
        return Estimate(0.0, 0.0, 0, measured.peak_memory_bytes)
    line = fit_line(measured.runs)
    work = line.total(todo)
    pace = measured.window_s / line.total(measured.window)
    start_s = max(0.0, measured.warming_s - pace * line.total(measured.warming)) + measured.ending_s
    n, crew = len(todo), measured.n_workers
    rounds = math.ceil(n / crew) * crew / n  # the last round leaves workers without
    search_s = pace * work * rounds + measured.storing_s * work / line.total(measured.stored)
    result_bytes = round(measured.stored_bytes * math.fsum(todo) / math.fsum(measured.stored))
    return Estimate(start_s, search_s, result_bytes, _memory(measured, max(todo)))


def _memory(measured: Measured, largest: float) -> int | None:
    idle, peak = measured.idle_memory_bytes, measured.peak_memory_bytes
    if idle is None or peak is None:
        return None
    scale = max(1.0, largest / max(measured.stored))
    return round(_HEADROOM * (idle + (peak - idle) * scale))
