"""Who gets what, on workers that only exist here: no process, no clock but the time limit's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xscan.errors import ArchiveError, Reason
from xscan.pipeline.dispatch import Abandoned, Ended, dispatch
from xscan.pipeline.outcome import ObservationSummary
from xscan.pipeline.task import Task
from xscan.results.ledger import Outcome


def tasks(*names: str) -> list[Task]:
    return [Task(name, Path(name)) for name in names]


class FakePool:
    """Workers that search in turns, one observation each, and are replaced when they are lost.

    What an observation does to its worker is the first letter of its name: ``k`` kills it, ``m`` has it killed
    for memory, ``h`` hangs until it is restarted, ``i`` hangs and does not even then let go.
    """

    def __init__(self, n: int) -> None:
        self.held: dict[str, list[tuple[int, str]]] = {f"w{k}": [] for k in range(n)}
        self.most = 0
        self.sent: list[tuple[str, tuple[str, ...]]] = []  # each with what the worker had already
        self.under_way: set[int] = set()  # neither ended nor forgotten
        self.restarted: set[str] = set()
        self.killed_for_memory: set[str] = set()
        self.born = n

    def workers(self) -> frozenset[str]:
        return frozenset(self.held)

    def send(self, number: int, task: Task, worker: str) -> None:
        assert worker not in self.restarted
        beside = [name for _, name in self.held[worker]]
        assert not any(sum(name == sent for sent, _ in self.sent) > 1 for name in beside)  # alone it stays
        self.under_way.add(number)
        self.sent.append((task.name, tuple(name for _, name in self.held[worker])))
        self.held[worker].append((number, task.name))
        self.most = max(self.most, len(self.held[worker]))

    def forget(self, number: int) -> None:
        self.under_way.remove(number)
        for held in self.held.values():
            held[:] = [item for item in held if item[0] != number]

    def wait(self, seconds: float) -> list[Ended]:
        ended = []
        for worker, held in list(self.held.items()):
            if not held:
                continue
            number, name = held[0]
            if name[0] in "km":
                self.lose(worker)
                self.killed_for_memory |= {worker} if name[0] == "m" else set()
            elif name[0] not in "hi":
                held.pop(0)
                self.under_way.remove(number)
                ended.append(Ended(number, time.monotonic(), summary(name)))
        return ended

    def lose(self, worker: str) -> None:
        del self.held[worker]
        self.held[f"w{self.born}"] = []
        self.born += 1

    def restart(self, worker: str) -> None:
        self.restarted.add(worker)
        if not any(name[0] == "i" for _, name in self.held[worker]):
            self.lose(worker)

    def why_lost(self, worker: str) -> Reason:
        return Reason.MEMORY_LIMIT if worker in self.killed_for_memory else Reason.WORKER_DIED

    def backend(self) -> str:
        return "none"


def summary(name: str) -> ObservationSummary:
    return ObservationSummary(Outcome(name, "done"), (), (), (), 1, 0, 1, 1)


def ended(pool: FakePool, todo: list[Task], time_limit_s: float = 60.0) -> dict[str, Reason | None]:
    """How each ended, and each just once."""
    found: dict[str, Reason | None] = {}
    for end in dispatch(todo, pool, time_limit_s):
        name, reason = (end.task.name, end.reason) if isinstance(end, Abandoned) else (end.outcome.obsid, None)
        assert name not in found
        found[name] = reason
    assert not pool.under_way
    return found


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_a_lost_worker_costs_what_killed_it(n_workers: int) -> None:
    names = ["a", "b", "k1", "c", "k2", "k3", "d", "m1", "e", "f", "g"]
    pool = FakePool(n_workers)
    found = ended(pool, tasks(*names))
    expected = {"k1": Reason.WORKER_DIED, "k2": Reason.WORKER_DIED, "k3": Reason.WORKER_DIED}
    assert found == dict.fromkeys(names) | expected | {"m1": Reason.MEMORY_LIMIT}
    assert pool.most <= 2
    for name in ("k1", "k2", "k3", "m1"):
        tries = [beside for sent, beside in pool.sent if sent == name]
        assert len(tries) == 2
        assert tries[1] == ()  # alone
    alone = {number for number, (sent, _) in enumerate(pool.sent) if sent == "k1"}
    assert max(alone) > 2  # not at once: it waits until a worker has run empty


@pytest.mark.parametrize("names", [["a", "k1"], ["a", "k1", "b"]])
def test_what_is_in_doubt_waits_for_a_worker(names: list[str]) -> None:
    """The only worker is lost with the last observations, and its successor takes a while."""

    class Slow(FakePool):
        away = 0

        def workers(self) -> frozenset[str]:
            self.away -= 1
            return frozenset() if self.away > 0 else super().workers()

        def lose(self, worker: str) -> None:
            super().lose(worker)
            self.away = 5

    assert ended(Slow(1), tasks(*names)) == dict.fromkeys(names) | {"k1": Reason.WORKER_DIED}


def test_two_are_on_a_worker_and_no_more_are_taken_than_fit() -> None:
    taken = []

    def lazy() -> Iterator[Task]:
        for task in tasks(*"abcdefgj"):
            taken.append(task)
            yield task

    pool = FakePool(2)
    ends = dispatch(lazy(), pool, 60.0)
    next(ends)
    assert len(taken) == 4
    assert sorted(len(held) for held in pool.held.values()) in ([1, 1], [1, 2], [2, 2])
    assert len(list(ends)) == 7
    assert pool.most == 2


def test_work_is_spread() -> None:
    pool = FakePool(4)
    next(dispatch(tasks(*"abcd"), pool, 60.0))
    assert [beside for _, beside in pool.sent] == [()] * 4


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_hangs_is_ended(stubborn: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("xscan.pipeline.dispatch._TO_DIE_S", 0.05)
    name = "i1" if stubborn else "h1"
    pool = FakePool(3)  # a stubborn one keeps each worker that it was on
    found = ended(pool, tasks("a", name, "b", "c", "d"), time_limit_s=0.1)
    assert found == dict.fromkeys("abcd") | {name: Reason.TIME_LIMIT}
    assert ("i1: its worker does not end when killed" in caplog.text) == stubborn


def test_a_busy_worker_is_not_a_hung_one() -> None:
    """The limit is on one observation, not on the two that share a worker, nor on the worker."""

    class SlowPool(FakePool):
        def wait(self, seconds: float) -> list[Ended]:
            time.sleep(0.06)
            return super().wait(seconds)

    pool = SlowPool(1)
    assert ended(pool, tasks(*"abcdef"), time_limit_s=0.05) == dict.fromkeys("abcdef")
    assert pool.born == 1


@pytest.mark.parametrize("n_workers", [1, 3])
def test_nothing_there_at_the_moment(n_workers: int) -> None:
    """Where no observation has come yet, those that workers have are heard of, and nothing spins."""
    pool = FakePool(n_workers)
    waited = 0
    wait = pool.wait

    def counted(seconds: float) -> list[Ended]:
        nonlocal waited
        waited += 1
        return wait(seconds)

    pool.wait = counted  # type: ignore[method-assign]
    heard: list[str] = []

    def halting() -> Iterator[Task | None]:
        for name in ["a", "k1", "b", "c"]:
            before = waited
            yield None
            assert waited > before
            yield None
            if name == "c":
                while "b" not in heard:
                    yield None
            yield Task(name, Path(name))
        yield None

    for end in dispatch(halting(), pool, 60.0):
        heard.append((end.task.name) if isinstance(end, Abandoned) else end.outcome.obsid)
    assert sorted(heard) == ["a", "b", "c", "k1"]


def test_what_the_iterator_raises_ends_it() -> None:
    def broken() -> Iterator[Task | None]:
        yield from tasks("a", "b", "c")
        raise ArchiveError(Reason.DISK, "full")

    ends = dispatch(broken(), FakePool(1), 60.0)
    assert isinstance(next(ends), ObservationSummary)  # what had ended is told
    with pytest.raises(ArchiveError, match="full"):
        list(ends)


def test_no_tasks() -> None:
    assert ended(FakePool(1), []) == {}
