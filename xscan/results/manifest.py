"""Read and write the manifest: the list of valid files. Only replacing it changes what readers see."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xscan.errors import StoreError
from xscan.io.atomic import sync_folder, write_whole

__all__ = ["ParquetPart", "begin_manifest", "read_json", "read_manifest", "write_manifest"]

_NAME = "_manifest.json"


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """One part: some hundred observations, in one Parquet file for each table.

    Attributes
    ----------
    observations : tuple of str
        Obsids, sorted; no other part contains them.
    files : dict of str to str
        For each table, the name of its file relative to the folder of results.
    """

    observations: tuple[str, ...]
    files: dict[str, str]


def read_manifest(folder: Path) -> tuple[ParquetPart, ...]:
    """Return the valid parts; none before the first was made.

    Raises
    ------
    StoreError
        If the manifest cannot be read, or is missing although part files exist.

    Examples
    --------
    >>> (part,) = read_manifest(results)
    >>> part.observations, sorted(part.files)
    (('0990000001',), ['events', 'images', 'inputs', 'lightcurves', 'regions', 'runs', 'voxels'])
    """
    path = folder / _NAME
    if not path.exists():
        if not any(folder.glob("*/part-*.parquet")):
            return ()
        raise StoreError(
            f"{path}: missing, and nothing else says which files count; restore it from a copy, or choose another "
            f"folder"
        )
    held = read_json(path)
    try:
        return tuple(ParquetPart(tuple(part["observations"]), dict(part["files"])) for part in held["parts"])
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"{path}: not a manifest of xscan; restore it, or scan into another folder") from None


def begin_manifest(folder: Path) -> None:
    """Write the manifest of a new folder, without parts; keep one that an interrupted process has left.

    Examples
    --------
    >>> begin_manifest(scratch)
    >>> read_manifest(scratch)
    ()
    """
    if not (folder / _NAME).exists():
        write_manifest(folder, [])


def write_manifest(folder: Path, parts: list[ParquetPart]) -> None:
    """Replace the manifest; when this returns, the change survives a loss of power.

    Examples
    --------
    >>> write_manifest(scratch, [ParquetPart(("0990000001",), {"runs": "runs/part-1f.parquet"})])
    >>> [part.observations for part in read_manifest(scratch)]
    [('0990000001',)]
    """
    text = json.dumps({"parts": [asdict(part) for part in parts]}, indent=1)
    write_whole(folder / _NAME, f"{text}\n".encode())
    sync_folder(folder)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of the results folder that holds one object.

    Raises
    ------
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> n = (scratch / "note.json").write_text('{"format": 5}', "utf-8")
    >>> read_json(scratch / "note.json")
    {'format': 5}
    """
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); restore it, or choose another folder") from None
    return held if isinstance(held, dict) else {}
