"""Which worker gets which observation, and whose fault it is when one is lost.

Two observations are on a worker at a time: one is searched while the next is read. When a worker is
lost, nobody can tell which of them it was, so each is tried again alone on a worker. One that
loses a worker again is given up; the others finish.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from xscan.errors import Reason
from xscan.pipeline.local import Task, name_of
from xscan.pipeline.outcome import Summary

__all__ = ["GivenUp", "Landed", "Pool", "dispatch"]

log = logging.getLogger(__name__)

_ON_A_WORKER = 2
_TO_DIE_S = 60.0  # after which a process that was to be killed is taken for lost
_POLL_S = 0.5  # between looks at who is there; a worker that died is missed for that long


@dataclass(frozen=True, slots=True)
class Landed:
    """The end of one flight: a summary, or None if the pool knows that it was lost with its worker."""

    number: int
    at_s: float  # time.monotonic()
    summary: Summary | None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An observation that twice cost the worker it was on, the second time alone."""

    task: Task
    reason: Reason
    seconds: float


class Pool(Protocol):
    """Workers, wherever they are, by name; a worker that is started again has another name."""

    def workers(self) -> frozenset[str]:
        """Return those that can take observations now."""
        ...

    def send(self, number: int, task: Task, worker: str) -> None:
        """Have an observation searched and stored by this worker, and no other."""
        ...

    def forget(self, number: int) -> None:
        """Hear no more of a flight."""
        ...

    def wait(self, seconds: float) -> list[Landed]:
        """Wait for flights to end, at most so long; raise what stops the whole run."""
        ...

    def restart(self, worker: str) -> None:
        """Kill a worker's process without waiting for its end; another will take its place."""
        ...

    def backend(self) -> str:
        """Name of the backend that the workers have."""
        ...

    def why_lost(self, worker: str) -> Reason:
        """Say of a worker that is lost whether it took too much memory, lost its GPU, or died of what nobody knows."""
        ...


@dataclass(frozen=True, slots=True)
class _Flight:
    task: Task
    worker: str
    alone: bool
    since_s: float


def dispatch(tasks: Iterable[Task | None], pool: Pool, time_limit_s: float) -> Iterator[Summary | GivenUp]:
    """Search observations on a pool; give each when it ended.

    Parameters
    ----------
    tasks : iterable of Task or None
        Taken from as workers get free, never further ahead; None if there is none at the moment.
    pool : Pool
    time_limit_s : float
        A worker that finishes nothing for so long is killed, s.

    Yields
    ------
    Summary or GivenUp
        One for each task, in the order of their ends.

    Raises
    ------
    StoreError
        If results cannot be stored.
    MachineError
        If there are no workers any more.
    """
    upcoming = iter(tasks)
    numbers = count()
    doubtful: deque[Task] = deque()
    flights: dict[int, _Flight] = {}
    latest_s: dict[str, float] = {}  # when something last landed
    hung_s: dict[str, float] = {}  # since when
    more = True
    while True:
        now_s = time.monotonic()
        there = pool.workers()
        # one that does not even die is left alone with what it has
        gone = {worker for worker in hung_s if worker not in there or now_s - hung_s[worker] > _TO_DIE_S}
        for number, flight in list(flights.items()):
            if flight.worker in gone or flight.worker not in there:
                if flight.worker in there:
                    log.warning("%s: its worker does not end when killed; it gets no other", name_of(flight.task))
                pool.forget(number)
                yield from _lost(flights.pop(number), pool, hung_s.keys(), doubtful)
        for worker in hung_s.keys() - there:
            del hung_s[worker]
        while more or doubtful:
            held = Counter(flight.worker for flight in flights.values())
            alone = {flight.worker for flight in flights.values() if flight.alone}
            free = min(there - hung_s.keys() - alone, key=lambda name: (held[name], name), default=None)
            # while some are in doubt, workers run empty for them
            if free is None or held[free] >= (1 if doubtful else _ON_A_WORKER):
                break
            again = bool(doubtful)
            try:
                task = doubtful.popleft() if again else next(upcoming)
            except StopIteration:
                more = False
                continue
            if task is None:
                break
            number = next(numbers)
            flights[number] = _Flight(task, free, again, time.monotonic())
            pool.send(number, task, free)
        if not flights and not doubtful and not more:
            return
        for landed in pool.wait(_POLL_S):
            flight = flights.pop(landed.number)
            latest_s[flight.worker] = landed.at_s
            if landed.summary is None:
                yield from _lost(flight, pool, hung_s.keys(), doubtful)
            else:
                yield landed.summary
        for flight in flights.values():
            since_s = max(flight.since_s, latest_s.get(flight.worker, 0.0))
            if time.monotonic() - since_s > time_limit_s and flight.worker not in hung_s:
                hung_s[flight.worker] = time.monotonic()
                pool.restart(flight.worker)


def _lost(flight: _Flight, pool: Pool, hung: Collection[str], doubtful: deque[Task]) -> Iterator[GivenUp]:
    """Put an observation whose worker is gone to those in doubt, or give it up if it was alone there."""
    if not flight.alone:
        doubtful.append(flight.task)
        return
    reason = Reason.TIME_LIMIT if flight.worker in hung else pool.why_lost(flight.worker)
    yield GivenUp(flight.task, reason, time.monotonic() - flight.since_s)
