"""Copy observations from another folder of results, with hard links where possible."""

from __future__ import annotations

import os
import shutil
from collections.abc import Set
from pathlib import Path

from xscan.errors import StoreError
from xscan.io.atomic import named_trouble, sync_folder
from xscan.results.manifest import ParquetPart, read_manifest, write_manifest
from xscan.results.parquet import check_files, without
from xscan.results.staging import staged
from xscan.schema import SCHEMAS

__all__ = ["carry"]


def carry(source: Path, target: Path, observations: Set[str]) -> None:
    """Copy observations that the target lacks from another folder of results.

    A file all of whose observations are copied is shared between both folders by a hard link (copied where the
    file system has no links): result files never change. Other files are written anew with the chosen observations
    only. If interrupted, the target is unchanged, and the next call starts again.

    Parameters
    ----------
    source : Path
    target : Path
        Opened by a :class:`~xscan.results.ResultsWriter`, with nothing staged.
    observations : set of str
        Those that ``source`` does not have are ignored.

    Raises
    ------
    StoreError
        If a file cannot be read or written, or ``source`` has staged results that are not in parts yet.

    Examples
    --------
    >>> from xscan.results.compaction import drop
    >>> target = Path(shutil.copytree(results, scratch / "target"))
    >>> drop(target, {"0990000001"})
    >>> carry(results, target, {"0990000001"})
    >>> [part.observations for part in read_manifest(target)]
    [('0990000001',)]
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


def _taken(source: Path, target: Path, part: ParquetPart, observations: Set[str]) -> ParquetPart:
    left = set(part.observations) - observations
    if len(left) == len(part.observations):
        return ParquetPart((), {})
    if left:
        return without(source, part, left, target)
    check_files(source, [part], f"restore it, or remove {source} and all that is in it")
    for file in part.files.values():
        _share(source / file, target / file)
    return part


def _share(source: Path, target: Path) -> None:
    if target.exists():  # made before an interruption; its name is the digest of its content
        return
    try:
        os.link(source, target)
    except OSError:
        temporary = target.with_name(f".tmp-{target.name}")
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
