"""Provide the observations that are measured: simulated ones, made once and kept, or one of the user's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from xscan import simulate
from xscan.api import read
from xscan.bench.gunzip import inflated_bytes
from xscan.errors import BenchError
from xscan.model import Observation
from xscan.simulate import simulate_archive

__all__ = ["LIKE_A", "LIKE_L", "Simulation", "Workload", "default_work", "made", "opened"]

MARKER = "made-with.json"


@dataclass(frozen=True, slots=True)
class Simulation:
    """Parameters of a simulated observation.

    Attributes
    ----------
    name : str
    exposure_s : float
    background : float
        Factor on the background.
    seed : int
    """

    name: str
    exposure_s: float
    background: float
    seed: int = 5


LIKE_A = Simulation("A", 30_000.0, 1.0)
"""A typical observation: 30 ks, 0.45 million rows."""

LIKE_L = Simulation("L", 100_000.0, 1.68)
"""A long and busy one: 100 ks, 2.6 million rows."""


@dataclass(frozen=True, slots=True)
class Workload:
    """An observation on disk and in memory.

    Attributes
    ----------
    name : str
    folder : Path
    files : tuple of Path
        Files that a scan inflates: event lists and the source list.
    observation : Observation
        As read with the default profile.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    observation: Observation

    def size(self) -> dict[str, float]:
        """Return how much there is to read and to search."""
        lists = self.observation.lists
        return {
            "rows": sum(events.info.n_rows for events in lists),
            "events": sum(events.time.size for events in lists),
            "compressed_bytes": sum(path.stat().st_size for path in self.files),
            "inflated_bytes": inflated_bytes(self.files),
        }


def default_work() -> Path:
    """Return the default folder for simulated observations: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "xscan" / "bench"


def made(simulation: Simulation, work: Path, say: Callable[[str], None]) -> Workload:
    """Simulate an observation, or use an existing one of the same simulation and version of the simulator.

    Raises
    ------
    BenchError
        If it cannot be written.
    """
    folder = work / f"{simulation.name}-{simulation.exposure_s:g}s"
    marker = folder / MARKER
    text = json.dumps(asdict(simulation) | {"simulator": _simulator_digest()})
    try:
        if not marker.is_file() or marker.read_text("utf-8") != text:
            say(f"{simulation.name}: simulating {simulation.exposure_s / 1000:g} ks, kept in {folder}")
            if marker.is_file():  # another simulator's; nothing else is ever removed
                shutil.rmtree(folder)
            simulate_archive(folder, 1, simulation.seed, simulation.exposure_s, background=simulation.background)
            marker.write_text(text, "utf-8")  # last: half an observation is never taken for a whole one
    except OSError as error:
        raise BenchError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; give --work a folder that can"
        ) from None
    return opened(next(folder.glob("0*/")), simulation.name)


def opened(folder: Path, name: str | None = None) -> Workload:
    """Take an observation that is there.

    Raises
    ------
    DataError
        If the folder is no observation.

    Examples
    --------
    >>> workload = opened(folder)
    >>> workload.name, len(workload.files), workload.size()["rows"] >= workload.size()["events"]
    ('0990000001', 4, True)
    """
    observation = read(folder)
    used = [events.info for events in observation.lists]  # others are left after their header, or never opened
    used += [observation.source_file] if observation.source_file is not None else []
    files = tuple(_found(folder, info.file) for info in used)
    return Workload(name or observation.obsid, folder, files, observation)


def _found(folder: Path, file: str) -> Path:
    path = folder / file
    return path if path.is_file() else folder / "pps" / file


def _simulator_digest() -> str:
    """Digest of the simulator's source: after a change, new observations are made."""
    parts = sorted(Path(simulate.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()[:16]
