"""Measure CPU time and wall time, in a suitable number of rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from xscan.bench.record import Measurement

__all__ = ["Seconds", "measured", "now", "rounds", "timed"]


@dataclass(frozen=True, slots=True)
class Seconds:
    """CPU time of the process (all threads, user and system), and wall time, s."""

    cpu: float = 0.0
    wall: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu - other.cpu, self.wall - other.wall)


def now() -> Seconds:
    """Return both clocks."""
    return Seconds(time.process_time(), time.perf_counter())


def timed(action: Callable[[], object]) -> Seconds:
    """Call ``action`` and return how long it took.

    Examples
    --------
    >>> timed(lambda: time.sleep(0.01)).wall >= 0.01
    True
    """
    start = now()
    action()
    return now() - start


def rounds(most: int, budget_s: float) -> Iterator[int]:
    """Yield the numbers of rounds: ``most`` of them, fewer if together they take longer than ``budget_s``.

    Examples
    --------
    >>> list(rounds(3, budget_s=60.0)), list(rounds(3, budget_s=-1.0))
    ([0, 1, 2], [0])
    """
    start = time.perf_counter()
    for number in range(most):
        yield number
        if time.perf_counter() - start > budget_s:
            return


def measured(
    what: str, workload: str, backend: str, samples: Sequence[Seconds], at: dict[str, float] | None = None
) -> list[Measurement]:
    """Return CPU and wall of some samples as two measurements, s.

    Examples
    --------
    >>> cpu, wall = measured("scan", "A", "numba", [Seconds(2.0, 1.0), Seconds(3.0, 1.5)])
    >>> cpu.quantity, cpu.samples, wall.quantity, wall.samples
    ('cpu', (2.0, 3.0), 'wall', (1.0, 1.5))
    """
    cpu, wall = tuple(s.cpu for s in samples), tuple(s.wall for s in samples)
    return [
        Measurement(what, workload, backend, quantity, "s", values, at or {})
        for quantity, values in (("cpu", cpu), ("wall", wall))
    ]
