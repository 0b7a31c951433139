"""Fetching from an archive that a test plays, on a clock that a test holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helpers.archive_server import BadArchive, serving
from helpers.products import OBSID, observation
from xscan.archives import Fetched, Fetcher, RequestLimits, open_archive, open_web
from xscan.archives.fetch import WORK
from xscan.archives.marker import MARKER, read_marker
from xscan.archives.request_limits import Clock
from xscan.errors import Reason

IMPATIENT = RequestLimits(requests_per_s=1e6, tries=4, connect_s=2.0, read_s=0.3, stall_s=0.2, stall_bytes=10_000)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class FakeClock:
    """Runs only while somebody sleeps; remembers how long."""

    time_s: float = 100.0
    slept: list[float] = field(default_factory=list)
    chance: float = 0.5

    def clock(self) -> Clock:
        return Clock(lambda: self.time_s, self.sleep, lambda: self.chance, lambda: NOON)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time_s += seconds


@pytest.fixture
def archive() -> Iterator[BadArchive]:
    held = BadArchive()
    held.files[OBSID] = observation()
    with serving(held):
        yield held


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["nxsa", "heasarc"])
def fetch(request: pytest.FixtureRequest, archive: BadArchive, tmp_path: Path, clock: FakeClock) -> Iterator[object]:
    """Fetch an observation from either source into ./data, without waiting."""
    with make_fetch(request.param, archive, tmp_path / "data", clock.clock()) as call:
        yield call


@pytest.fixture
def fetch_nxsa(archive: BadArchive, tmp_path: Path, clock: FakeClock) -> Iterator[Callable[[str], Fetched]]:
    with make_fetch("nxsa", archive, tmp_path / "data", clock.clock()) as call:
        yield call


class make_fetch:  # noqa: N801
    """An open connection, as a context; calling what it gives fetches."""

    def __init__(
        self, name: str, archive: BadArchive, data: Path, clock: Clock | None, limits: RequestLimits = IMPATIENT
    ):
        self._web = open_web(limits, clock)
        self._source = f"{name}:{archive.url}" + ("/tree" if name == "heasarc" else "")
        self._data = data

    def __enter__(self) -> Callable[[str], Fetched]:
        return Fetcher(open_archive(self._source, self._web.__enter__()), self._data).fetch

    def __exit__(self, *error: object) -> None:
        self._web.__exit__(*error)


Fetch = Callable[[str], Fetched]


def assert_intact(outcome: Fetched, files: dict[str, bytes]) -> None:
    """What the folder holds is what the archive has, bit for bit, and its marker says so."""
    assert outcome.state == "fetched", outcome
    held = {path.name: path.read_bytes() for path in outcome.folder.iterdir() if path.name != MARKER}
    assert held == files
    marker = read_marker(outcome.folder)
    assert {file.name: file.bytes for file in marker.files} == {name: len(data) for name, data in files.items()}
    assert marker.holds(outcome.folder)
    assert list((outcome.folder.parent / WORK).iterdir()) == []


def refused(outcome: Fetched, reason: Reason) -> str:
    assert (outcome.state, outcome.reason, outcome.folder) == ("failed", reason, None), outcome
    assert outcome.obsid in outcome.message
    assert "\n" not in outcome.message
    return outcome.message
