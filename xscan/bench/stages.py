"""Measure where the time of a scan is spent, with timers put around named functions from outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from xscan.bench.clock import Seconds, now
from xscan.errors import BenchError
from xscan.missions import MISSIONS, Mission
from xscan.pipeline import scan as scanner
from xscan.results import writer
from xscan.results.tables import TableBuilder
from xscan.search import observation as search

__all__ = ["REST", "STAGES", "Stopwatch", "Watched", "watching"]

STAGES = {
    "read": "inflate, columns, cuts",
    "prepare": "good time, judging frames",
    "merge": "photons on the grid, sorted by cell",
    "load": "upload, where there is a device",
    "bin": "counts of each view, images and rates",
    "expectation": "mask, templates, constant sources",
    "flag": "every voxel against its threshold",
    "regions": "gather, place, light curves",
    "tables": "Arrow tables, significances",
    "write": "Parquet on disk",
}
"""The stages of a scan, in order, and what belongs to each."""

REST = "rest"

Hooks = Mapping[str, tuple[str | None, Any]]

COUNTS_HOOKS: Hooks = {
    "flag": ("flag", {}),
    "n_events": ("bin", {}),
    "images": ("bin", {}),
    "counts_per_frame": ("bin", {}),
}
EVENTS_HOOKS: Hooks = {"merge": ("merge", {})}
BACKEND_HOOKS: Hooks = {"events": (None, EVENTS_HOOKS), "load": ("load", {"bin": ("bin", COUNTS_HOOKS)})}
"""Method of a backend: its stage, and the hooks of the object it returns. A part of a backend has no stage, but the
hooks of its methods."""

FUNCTIONS: tuple[tuple[ModuleType | type | Mission, str, str], ...] = (
    *((mission, "read", "read") for mission in MISSIONS.values()),
    (search, "expectation", "expectation"),
    (search, "_describe", "regions"),
    (TableBuilder, "add", "tables"),
    (TableBuilder, "tables", "tables"),
    (writer, "stage", "write"),
    (writer, "compact", "write"),
)
"""Module, class or mission in which a function is looked up, its name there, and its stage."""


class Stopwatch:
    """Splits time among stages; each moment belongs to the innermost active stage."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys([*STAGES, REST], Seconds())
        self._calls = dict.fromkeys(STAGES, 0)
        self._under_way = [REST]
        self._since = now()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of this block to a stage, without that of stages inside it."""
        self._calls[name] += 1
        self._settle()
        self._under_way.append(name)
        try:
            yield
        finally:
            self._settle()
            self._under_way.pop()

    def _settle(self) -> None:
        instant = now()
        name = self._under_way[-1]
        self.spent[name] += instant - self._since
        self._since = instant

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with the time of its calls added to a stage."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return call

    def iterate(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items, with the time for making each added to a stage."""
        end = object()
        while True:
            with self.stage(name):
                item = next(items, end)
            if item is end:
                return
            yield item

    def stop(self) -> dict[str, Seconds]:
        """Return the time of each stage and of the rest.

        Raises
        ------
        BenchError
            If a stage never occurred: its function is not called from where it is looked up, or the
            observation was not searched.
        """
        self._settle()
        missing = [name for name, calls in self._calls.items() if calls == 0]
        if missing:
            raise BenchError(
                f"no time was spent in {', '.join(missing)}: the observation was not searched, or "
                f"xscan.bench.stages looks for a function that is no longer called there"
            )
        return self.spent


class Watched:
    """An object some of whose methods are timed; in everything else it is the object."""

    def __init__(self, inner: Any, stopwatch: Stopwatch, hooks: Hooks) -> None:
        self._inner, self._stopwatch, self._hooks = inner, stopwatch, hooks

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in self._hooks:
            return value
        stage, inside = self._hooks[name]
        if stage is None:
            return Watched(value, self._stopwatch, inside)
        call = self._stopwatch.wrap(stage, value)
        if not inside:
            return call
        return lambda *args, **kwargs: Watched(call(*args, **kwargs), self._stopwatch, inside)


@contextmanager
def watching(opened: scanner.Scanner, stopwatch: Stopwatch) -> Iterator[scanner.Scanner]:
    """Put timers around the stages of scans that run in this block with the yielded scanner."""
    found: Callable[..., Any] = scanner.search_observation  # type: ignore[attr-defined]

    def search_observation(*args: Any) -> Any:
        """Search lazily, as the real function does: the time between the other stages is preparation."""
        searches, skipped = found(*args)
        watched = (
            dataclasses.replace(subset, views=stopwatch.iterate("prepare", subset.views))
            for subset in stopwatch.iterate("prepare", searches)
        )
        return watched, skipped

    replaced: list[tuple[Any, str, Any, Any]] = [(scanner, "search_observation", found, search_observation)]
    for owner, name, stage in FUNCTIONS:
        function = getattr(owner, name)
        replaced.append((owner, name, function, stopwatch.wrap(stage, function)))
    try:
        for owner, name, _, ours in replaced:
            setattr(owner, name, ours)
        backend: Any = Watched(opened.backend, stopwatch, BACKEND_HOOKS)
        yield dataclasses.replace(opened, backend=backend)
    finally:
        for owner, name, theirs, _ in replaced:
            setattr(owner, name, theirs)
