"""Take observations over from another folder of results, without reading what need not be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Set
from pathlib import Path

from xscan.errors import StoreError
from xscan.io.atomic import named_trouble, sync_folder
from xscan.results.manifest import Part, read_manifest, write_manifest
from xscan.results.parquet import check_files, without
from xscan.results.staging import staged
from xscan.schema import SCHEMAS

__all__ = ["carry"]


def carry(source: Path, target: Path, observations: Set[str]) -> None:
    """Take observations that a folder of results does not have from another.

    Files of which all observations are taken are shared between both folders (hard links; copies
    where the file system has none): a file of results never changes. The others are written anew
    without the rest. Stopped anywhere, the target stays as it was, and the next call begins again.

    Parameters
    ----------
    source : Path
    target : Path
        Opened by a :class:`~xscan.results.ResultsWriter`, nothing of it staged.
    observations : set of str
        Those that ``source`` does not have are passed over.

    Raises
    ------
    StoreError
        If a file cannot be read or written, or results in ``source`` are not in parts yet.
    """
    held = read_manifest(target)
    lacking = observations - {obsid for part in held for obsid in part.observations}
    if not lacking:
        return
    if staged(source):
        raise StoreError(f"{source}: a run of it was stopped; finish it first: run its command again")
    with named_trouble(target):
        parts = [_taken(source, target, part, lacking) for part in read_manifest(source)]
        for name in SCHEMAS:
            sync_folder(target / name)
        write_manifest(target, [*held, *(part for part in parts if part.observations)])


def _taken(source: Path, target: Path, part: Part, observations: Set[str]) -> Part:
    left = set(part.observations) - observations
    if len(left) == len(part.observations):
        return Part((), {})
    if left:
        return without(source, part, left, target)
    check_files(source, [part], f"restore it, or remove {source} and all that is in it")
    for file in part.files.values():
        _share(source / file, target / file)
    return part


def _share(source: Path, target: Path) -> None:
    if target.exists():  # made before this was stopped; its name is the hash of what is in it
        return
    try:
        os.link(source, target)
    except OSError:
        temporary = target.with_name(f".tmp-{target.name}")
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
