"""Read and write Parquet files of some hundred observations each."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Sequence, Set
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xscan.errors import StoreError, first_line
from xscan.io.atomic import write_whole
from xscan.results.manifest import ParquetPart
from xscan.results.tables import Tables
from xscan.schema import SCHEMAS

__all__ = ["REMEDY", "by_obsid", "check_files", "read_files", "rows_without", "without", "write_part"]

REMEDY = "restore it from a copy; docs/operations.md says how to go on without it"
"""What to do about a missing or damaged file of a part; for error messages."""

_END = b"PAR1"  # last bytes of any complete Parquet file

_ROWS_IN_GROUP = {
    "runs": 2000,
    "inputs": 2000,
    "events": 2000,
    "regions": 2000,
    "voxels": 20_000,
    "lightcurves": 32,
    "images": 64,
}
"""Reading one observation means reading the row groups that may hold it; a light curve or an image is a long row."""


def write_part(folder: Path, observations: Sequence[str], tables: Tables) -> ParquetPart:
    """Write the rows of some observations, a file per table.

    Parameters
    ----------
    folder : Path
    observations : sequence of str
        Sorted obsids.
    tables : Tables
        Ordered by obsid; rows of other observations are left out.

    Examples
    --------
    >>> for name in SCHEMAS:
    ...     (scratch / name).mkdir()
    >>> part = write_part(scratch, ["0990000001"], tables)
    >>> read_files(scratch, "regions", [part]).equals(tables.regions)
    True
    """
    first, last = observations[0], observations[-1]
    files = {}
    for name in SCHEMAS:
        table = tables.table(name)
        obsid = table["obsid"].to_numpy().astype(np.str_)
        start, stop = np.searchsorted(obsid, first), np.searchsorted(obsid, last, side="right")
        files[name] = _write(folder, name, table.slice(start, stop - start))
    return ParquetPart(tuple(observations), files)


def without(folder: Path, part: ParquetPart, observations: Set[str], target: Path | None = None) -> ParquetPart:
    """Return the part without some of its observations, with new files in this folder or in another.

    A file of this folder without rows of these observations is kept.

    Examples
    --------
    >>> from xscan.results.manifest import read_manifest
    >>> for name in SCHEMAS:
    ...     (scratch / name).mkdir()
    >>> (part,) = read_manifest(results)
    >>> less = without(results, part, {"0990000001"}, scratch)
    >>> less.observations, read_files(scratch, "regions", [less]).num_rows
    ((), 0)
    """
    files = dict(part.files)
    for name in SCHEMAS:
        table = read_files(folder, name, [part])
        kept = rows_without(table, observations)
        if kept.num_rows < table.num_rows or target is not None:
            files[name] = _write(target or folder, name, kept)
    return ParquetPart(tuple(obsid for obsid in part.observations if obsid not in observations), files)


def read_files(
    folder: Path,
    name: str,
    parts: Sequence[ParquetPart],
    obsid: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read one table of some parts, in the order of the parts.

    Parameters
    ----------
    folder : Path
    name : str
    parts : sequence of ParquetPart
    obsid : str, optional
        Only the rows of this observation.
    columns : sequence of str, optional
        Only these columns, in this order.

    Raises
    ------
    FileNotFoundError
        If a file does not exist any more.
    StoreError
        If a file is damaged.

    Examples
    --------
    >>> from xscan.results.manifest import read_manifest
    >>> read_files(results, "runs", read_manifest(results), columns=["obsid", "state"]).to_pylist()
    [{'obsid': '0990000001', 'state': 'done'}]
    """
    schema = SCHEMAS[name] if columns is None else pa.schema([SCHEMAS[name].field(column) for column in columns])
    if not parts:
        return schema.empty_table()
    paths = [str(folder / part.files[name]) for part in parts]
    only = None if obsid is None else [("obsid", "==", obsid)]
    try:
        return pq.read_table(paths, schema=SCHEMAS[name], columns=schema.names, filters=only).cast(schema)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:  # an error of the system, not of Arrow
            raise StoreError(f"{folder}: a file of {name} cannot be read: {first_line(error)}") from None
        raise StoreError(f"{folder}: a file of {name} is damaged ({first_line(error)}); {REMEDY}") from None


def check_files(folder: Path, parts: Iterable[ParquetPart], remedy: str) -> None:
    """Check that the files of parts exist, and were not cut short.

    Parameters
    ----------
    folder : Path
    parts : iterable of ParquetPart
    remedy : str
        What to do if not.

    Raises
    ------
    StoreError
        Names the first file that is missing or damaged, and the remedy.

    Examples
    --------
    >>> check_files(Path("results"), [ParquetPart(("0990000001",), {"runs": "runs/part-1f.parquet"})], REMEDY)
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: results/runs/part-1f.parquet: missing; restore it from a copy; docs/operations.md ...
    """
    for path in (folder / file for part in parts for file in part.files.values()):
        try:
            with path.open("rb") as stream:
                stream.seek(-len(_END), os.SEEK_END)
                whole = stream.read() == _END
        except FileNotFoundError:
            raise StoreError(f"{path}: missing; {remedy}") from None
        except OSError as error:
            if error.errno != errno.EINVAL:  # the file may be whole; it cannot be read
                raise StoreError(
                    f"{path}: cannot be read: {error.strerror}; mend that and run the same command again"
                ) from None
            whole = False  # shorter than the mark
        if not whole:
            raise StoreError(f"{path}: damaged; {remedy}")


def rows_without(table: pa.Table, observations: Set[str]) -> pa.Table:
    """Return the rows of a table without those of some observations.

    Examples
    --------
    >>> table = pa.table({"obsid": ["0000000002", "0000000001", "0000000002"], "n": [1, 2, 3]})
    >>> rows_without(table, {"0000000002"})["n"].to_pylist()
    [2]
    """
    if not observations:
        return table
    return table.filter(pc.invert(pc.is_in(table["obsid"], pa.array(sorted(observations), pa.string()))))


def by_obsid(table: pa.Table) -> pa.Table:
    """Return the rows ordered by obsid; those of one observation keep their order.

    Examples
    --------
    >>> table = pa.table({"obsid": ["0000000002", "0000000001", "0000000002"], "n": [1, 2, 3]})
    >>> by_obsid(table)["n"].to_pylist()
    [2, 1, 3]
    """
    return table.take(pc.sort_indices(table, [("obsid", "ascending")]))  # Arrow's sort is stable, as documented


def _write(folder: Path, name: str, table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(_told_to_astropy(name, table))
    # dictionary encoding makes such columns larger and slower, strings included (measured)
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, row_group_size=_ROWS_IN_GROUP[name])
    content = sink.getvalue()
    file = f"{name}/part-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    write_whole(folder / file, content)
    return file


@cache
def _columns_told(name: str) -> str:
    columns = [
        {"name": field.name, **{key.decode(): text.decode() for key, text in field.metadata.items() if text}}
        for field in SCHEMAS[name]
    ]
    return json.dumps({"datatype": columns})  # JSON is YAML


def _told_to_astropy(name: str, table: pa.Table) -> dict[str, str]:
    """Return the metadata that astropy's Table reads from Parquet: units, descriptions, and lengths of texts.

    Without the lengths astropy measures the texts itself, and fails at the first null.
    """
    told = {"table_meta_yaml": _columns_told(name)}
    for field in table.schema:
        if pa.types.is_string(field.type):
            longest = pc.max(pc.utf8_length(table[field.name])).as_py() or 0
            told[f"table::len::{field.name}"] = str(max(longest, len("None")))  # astropy turns a null into "None"
    return told
