"""Move staged observations, one small file each, into parts: few files of about a hundred observations."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from xscan.errors import StoreError
from xscan.io.atomic import remove_temporaries, sync_folder
from xscan.results.manifest import ParquetPart, read_manifest, write_manifest
from xscan.results.parquet import by_obsid, read_files, without, write_part
from xscan.results.staging import read_staged, staged
from xscan.results.tables import Tables
from xscan.schema import SCHEMAS

__all__ = ["FULL", "compact", "drop", "sweep"]

log = logging.getLogger(__name__)

FULL = 100
"""Observations in a part. 17,000 observations make 170 files for each table."""

_SMALL = FULL // 2  # smaller parts are merged with the next observations and written anew


def compact(folder: Path, known: Mapping[str, Tables] = MappingProxyType({})) -> None:
    """Move all staged observations into parts, and remove their earlier rows, if any.

    ``known`` holds the tables of those that need not be read back from disk.

    Readers see the change at the moment when the manifest is replaced. If interrupted, this leaves either files that
    the manifest does not name, which :func:`sweep` removes, or staged observations that are already in a part, which
    the next call removes.

    Examples
    --------
    An observation that was stored once more replaces its earlier rows:

    >>> import shutil
    >>> from xscan.results.staging import stage
    >>> copy = Path(shutil.copytree(results, scratch / "copy"))
    >>> stage(copy, "0990000001", tables)
    >>> compact(copy)
    >>> list(staged(copy)), [part.observations for part in read_manifest(copy)]
    ([], [('0990000001',)])
    """
    while waiting := dict(list(staged(folder).items())[:FULL]):  # so that a bounded number is in memory
        _compact(folder, waiting, known)


def _compact(folder: Path, waiting: dict[str, Path], known: Mapping[str, Tables]) -> None:
    fresh = _read(waiting, known)
    kept: list[ParquetPart] = []
    small: list[ParquetPart] = []  # to be written anew
    for part in read_manifest(folder):
        replaced = fresh.keys() & set(part.observations)
        left = len(part.observations) - len(replaced)
        if left:
            part = without(folder, part, replaced) if replaced else part
            (kept if left >= _SMALL else small).append(part)
    observations = sorted([*fresh, *(obsid for part in small for obsid in part.observations)])
    if observations:
        tables = Tables(*(_together(folder, name, small, fresh) for name in SCHEMAS))
        groups = np.array_split(np.array(observations), max(1, len(observations) // FULL))
        kept += [write_part(folder, group.tolist(), tables) for group in groups]
    for name in SCHEMAS:
        sync_folder(folder / name)
    write_manifest(folder, sorted(kept, key=lambda part: part.observations))
    for path in waiting.values():
        path.unlink(missing_ok=True)
    sweep(folder)


def drop(folder: Path, observations: Set[str]) -> None:
    """Remove the results of some observations: all of them at once, or none if interrupted.

    Examples
    --------
    >>> import shutil
    >>> copy = Path(shutil.copytree(results, scratch / "copy"))
    >>> drop(copy, {"0990000001"})
    >>> read_manifest(copy)
    ()
    """
    parts = read_manifest(folder)
    if observations.isdisjoint(obsid for part in parts for obsid in part.observations):
        return
    kept = [without(folder, part, observations) for part in parts if set(part.observations) - observations]
    for name in SCHEMAS:
        sync_folder(folder / name)
    write_manifest(folder, kept)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove files of the tables that the manifest does not name, and half-written files.

    ``staging`` is left alone: a half-written file there may be one that a worker is still writing.

    Examples
    --------
    A file that an interrupted compaction has left:

    >>> import shutil
    >>> copy = Path(shutil.copytree(results, scratch / "copy"))
    >>> left = copy / "runs" / "part-left.parquet"
    >>> left.touch()
    >>> sweep(copy)
    >>> left.exists(), len(list(copy.glob("runs/*.parquet")))
    (False, 1)
    """
    named = {file for part in read_manifest(folder) for file in part.files.values()}
    for name in SCHEMAS:
        for path in (folder / name).glob("part-*.parquet"):
            if f"{name}/{path.name}" not in named:
                path.unlink(missing_ok=True)
    for place in (folder, *(folder / name for name in SCHEMAS)):
        remove_temporaries(place)


def _read(waiting: dict[str, Path], known: Mapping[str, Tables]) -> dict[str, Tables]:
    tables = {}
    for obsid, path in waiting.items():
        try:
            tables[obsid] = known[obsid] if obsid in known else read_staged(path)
        except StoreError as error:
            log.warning("%s", error)
    return tables


def _together(folder: Path, name: str, parts: list[ParquetPart], fresh: dict[str, Tables]) -> pa.Table:
    rows = pa.concat_tables([read_files(folder, name, parts), *(tables.table(name) for tables in fresh.values())])
    return by_obsid(rows) if parts else rows  # the staged ones are in order already
