"""Assign observations to workers, and find out which one is at fault when a worker is lost.

Each worker has two observations at a time: one is searched while the next is read. When a worker is lost, it is
unknown which of the two caused it, so each is tried again alone on a worker. An observation that loses a worker
again is abandoned; the others finish.
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
from xscan.pipeline.outcome import ObservationSummary
from xscan.pipeline.task import Task

__all__ = ["Abandoned", "Ended", "Pool", "dispatch"]

log = logging.getLogger(__name__)

_ON_A_WORKER = 2
_TO_DIE_S = 60.0  # a process that has not ended this long after it was killed is taken for lost
_POLL_S = 0.5  # between checks of which workers exist; the death of a worker is noticed this late


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one assignment: a summary, or None if the pool knows that it was lost with its worker."""

    number: int
    at_s: float  # time.monotonic()
    summary: ObservationSummary | None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An observation abandoned because it cost its worker twice, the second time as the only one there."""

    task: Task
    reason: Reason
    seconds: float


class Pool(Protocol):
    """Workers, wherever they are, each under a name; a worker that is started again has another name."""

    def workers(self) -> frozenset[str]:
        """Return the names of the workers that can take observations now."""
        ...

    def send(self, number: int, task: Task, worker: str) -> None:
        """Have an observation searched and stored by this worker, and no other."""
        ...

    def forget(self, number: int) -> None:
        """Ignore the end of an assignment from now on."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Wait for assignments to end, at most this long, and return them; raise an error that stops the whole run."""
        ...

    def restart(self, worker: str) -> None:
        """Kill a worker's process without waiting for its end; another process will replace it."""
        ...

    def backend(self) -> str:
        """Return the name of the backend that the workers have."""
        ...

    def why_lost(self, worker: str) -> Reason:
        """Return why a worker was lost: it took too much memory, it lost its GPU, or the cause is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class _Assignment:
    task: Task
    worker: str
    alone: bool
    since_s: float


def dispatch(tasks: Iterable[Task | None], pool: Pool, time_limit_s: float) -> Iterator[ObservationSummary | Abandoned]:
    """Search observations on a pool; yield each result when it is there.

    Parameters
    ----------
    tasks : iterable of Task or None
        Taken when a worker is free, never earlier; None if there is none at the moment.
    pool : Pool
    time_limit_s : float
        A worker that finishes nothing for this long is killed, s.

    Yields
    ------
    ObservationSummary or Abandoned
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
    assignments: dict[int, _Assignment] = {}
    latest_s: dict[str, float] = {}  # when each worker last finished an observation
    hung_s: dict[str, float] = {}  # since when each worker hangs
    more = True
    while True:
        now_s = time.monotonic()
        there = pool.workers()
        # a process that does not end when killed is treated as lost
        gone = {worker for worker in hung_s if worker not in there or now_s - hung_s[worker] > _TO_DIE_S}
        for number, assignment in list(assignments.items()):
            if assignment.worker in gone or assignment.worker not in there:
                if assignment.worker in there:
                    log.warning("%s: its worker does not end when killed; it gets no other", assignment.task.name)
                pool.forget(number)
                yield from _lost(assignments.pop(number), pool, hung_s.keys(), doubtful)
        for worker in hung_s.keys() - there:
            del hung_s[worker]
        while more or doubtful:
            held = Counter(assignment.worker for assignment in assignments.values())
            alone = {assignment.worker for assignment in assignments.values() if assignment.alone}
            free = min(there - hung_s.keys() - alone, key=lambda name: (held[name], name), default=None)
            # while some are in doubt, no worker gets a second observation, so that one becomes free for them
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
            assignments[number] = _Assignment(task, free, again, time.monotonic())
            pool.send(number, task, free)
        if not assignments and not doubtful and not more:
            return
        for ended in pool.wait(_POLL_S):
            assignment = assignments.pop(ended.number)
            latest_s[assignment.worker] = ended.at_s
            if ended.summary is None:
                yield from _lost(assignment, pool, hung_s.keys(), doubtful)
            else:
                yield ended.summary
        for assignment in assignments.values():
            since_s = max(assignment.since_s, latest_s.get(assignment.worker, 0.0))
            if time.monotonic() - since_s > time_limit_s and assignment.worker not in hung_s:
                hung_s[assignment.worker] = time.monotonic()
                pool.restart(assignment.worker)


def _lost(assignment: _Assignment, pool: Pool, hung: Collection[str], doubtful: deque[Task]) -> Iterator[Abandoned]:
    """Queue an observation of a lost worker to be tried alone, or abandon it if it was already alone there."""
    if not assignment.alone:
        doubtful.append(assignment.task)
        return
    reason = Reason.TIME_LIMIT if assignment.worker in hung else pool.why_lost(assignment.worker)
    yield Abandoned(assignment.task, reason, time.monotonic() - assignment.since_s)
