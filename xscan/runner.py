"""From folders to results: one observation after the other, every one accounted for."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xscan import __version__
from xscan.backends import Backend
from xscan.config import ScanConfig
from xscan.errors import ConfigError, DataError, Reason
from xscan.ledger import Outcome, outcomes
from xscan.missions.hotpixels import HotPixels
from xscan.missions.xmm import read
from xscan.search import SubsetSearch, ViewResult, search_observation
from xscan.store import ResultsWriter
from xscan.tables import Provenance, Tables, failed_tables, tabulate

if TYPE_CHECKING:
    from xscan.plots import Images

__all__ = ["Obslist", "Recipe", "inputs_digest", "read_obslist", "run", "scan_folder", "unfinished"]

log = logging.getLogger(__name__)

Task = tuple[str | None, Path]
"""Obsid, if known, and folder of an observation."""

Watch = Callable[[SubsetSearch, ViewResult], None]

_OBSID = re.compile(r"\d{10}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a scan, but the data."""

    config: ScanConfig
    profile: str
    hot_pixels: HotPixels
    backend: Backend

    def settings(self) -> dict[str, str]:
        """Give every setting by name, as text; hot-pixel tables by their fingerprint."""
        return self.config.settings() | {"--hot-pixels": self.hot_pixels.digest() or "none"}

    def provenance(self) -> Provenance:
        """Say what makes the results."""
        digest = self.config.digest()
        hot = self.hot_pixels.digest()
        return Provenance(__version__, self.profile, f"{digest}-{hot}" if hot else digest, self.backend.name)


@dataclass(frozen=True, slots=True)
class Obslist:
    """The observations to scan, in order, each once."""

    obsids: tuple[str, ...]
    duplicates: int
    comments: int
    blank: int


def read_obslist(path: Path) -> Obslist:
    """Read a list of observations: one obsid a line; ``#`` begins a comment.

    Raises
    ------
    ConfigError
        If the file cannot be read, a line is no obsid (all such lines are named), or none is left.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this list of observations: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; a list has one obsid (ten digits) a line") from None
    obsids: dict[str, None] = {}
    duplicates = comments = blank = 0
    malformed = []
    for number, line in enumerate(lines, start=1):
        entry, _, _ = line.partition("#")
        entry = entry.strip()
        if not entry:
            comments, blank = comments + ("#" in line), blank + ("#" not in line)
        elif not _OBSID.fullmatch(entry):
            malformed.append(f"line {number}: {entry!r}")
        elif entry in obsids:
            duplicates += 1
        else:
            obsids[entry] = None
    if malformed:
        shown = "; ".join(malformed[:5]) + (f"; and {len(malformed) - 5} more" if len(malformed) > 5 else "")
        raise ConfigError(f"{path}: {shown}: an obsid is ten digits, one a line")
    if not obsids:
        raise ConfigError(f"{path}: no observation in this list")
    return Obslist(tuple(obsids), duplicates, comments, blank)


def unfinished(
    tasks: Iterable[Task], held: Mapping[str, Outcome], retry_failed: bool = False
) -> tuple[list[Task], list[Outcome]]:
    """Tell what is to be searched from what was searched before, in whatever state it ended.

    Parameters
    ----------
    tasks : iterable of Task
    held : mapping of str to Outcome
        From :func:`xscan.ledger.read_ledger`: what the folder of results has of this configuration.
    retry_failed : bool
        Search again what failed.

    Returns
    -------
    todo : list of Task
        What is not held, has other files now, or has no obsid yet.
    kept : list of Outcome
        The others.
    """
    todo: list[Task] = []
    kept: list[Outcome] = []
    for obsid, folder in tasks:
        before = None if obsid is None else held.get(obsid)
        if (
            before is None
            or (retry_failed and before.state == "failed")
            or before.inputs_digest != inputs_digest(folder)
        ):
            todo.append((obsid, folder))
        else:
            kept.append(before)
    return todo, kept


def inputs_digest(folder: Path) -> str:
    """Fingerprint of the names and sizes of the files of an observation.

    Any file counts, whether or not it would be searched: one too many costs a search, one too few
    would leave results that are not of these files.
    """
    try:
        paths = [path for place in (folder, folder / "pps") if place.is_dir() for path in place.iterdir()]
        files = sorted((str(path.relative_to(folder)), path.stat().st_size) for path in paths if path.is_file())
    except OSError:  # reading it will tell what is wrong
        files = []
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def scan_folder(
    folder: Path, recipe: Recipe, obsid: str | None = None, watch: Watch | None = None
) -> tuple[str, Tables]:
    """Read and search one observation; trouble becomes a row of ``runs``, never an exception.

    Parameters
    ----------
    folder : Path
        ``<obsid>/`` or ``<obsid>/pps/``.
    recipe : Recipe
    obsid : str, optional
        What the caller calls the observation; else the folder's files say it.
    watch : callable, optional
        Shown each view's result while its counts are in memory: for pictures.

    Returns
    -------
    obsid : str
    tables : Tables
    """
    started = time.perf_counter()
    provenance = replace(recipe.provenance(), inputs_digest=inputs_digest(folder))
    resolved = folder.resolve()
    name = obsid or (resolved.parent.name if resolved.name == "pps" else resolved.name)
    try:
        observation = read(folder, recipe.config, recipe.hot_pixels, recipe.backend)
        if observation.obsid != (obsid or observation.obsid):
            raise DataError(
                Reason.CONTRADICTORY, f"{folder}: holds observation {observation.obsid}; give {obsid} its own folder"
            )
        seconds_read = time.perf_counter() - started
        searches, skipped = search_observation(observation, recipe.config, recipe.backend)
        return obsid or observation.obsid, tabulate(observation, searches, skipped, provenance, seconds_read, watch)
    except DataError as error:
        state, reason, message = "failed", error.reason, str(error)
    except Exception as error:  # one observation's trouble must not stop the others
        log.exception("%s: unforeseen error", name)
        state, reason, message = "failed", Reason.ERROR, f"{type(error).__name__}: {error}"
    return name, failed_tables(name, state, reason, message, provenance, time.perf_counter() - started)


def run(
    folders: Iterable[Task],
    recipe: Recipe,
    writer: ResultsWriter,
    finished: Callable[[Outcome, Tables], None],
    plots: Path | None = None,
) -> list[Outcome]:
    """Scan observations one after the other and store each when it is done.

    Parameters
    ----------
    folders : iterable of Task
    recipe : Recipe
    writer : ResultsWriter
    finished : callable
        Told of each outcome, for progress; it gets the tables too.
    plots : Path, optional
        Folder for pictures; they are drawn after the results are stored, and trouble with them is
        only logged.
    """
    done = []
    for obsid, folder in folders:
        started = time.perf_counter()
        images = _images(plots)
        name, tables = scan_folder(folder, recipe, obsid, images.watch if images is not None else None)
        writer.write(name, tables)
        if images is not None and plots is not None:
            _draw(plots / name, name, tables, images)
        outcome = replace(outcomes(tables.runs)[name], seconds=time.perf_counter() - started)
        done.append(outcome)
        finished(outcome, tables)
    return done


def _images(plots: Path | None) -> Images | None:
    if plots is None:
        return None
    from xscan.plots import Images

    return Images()


def _draw(folder: Path, name: str, tables: Tables, images: Images) -> None:
    from xscan.plots import draw

    try:
        draw(folder, name, tables, images)
    except Exception as error:  # the results are stored: no picture is worth losing the rest of the run
        log.warning("%s: no pictures in %s: %s: %s", name, folder, type(error).__name__, error)
