"""Store each finished observation in a file of its own, until it is moved into a Parquet part."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from xscan.errors import StoreError
from xscan.io.atomic import named_trouble, write_whole
from xscan.results.tables import Tables
from xscan.schema import SCHEMAS

__all__ = ["STAGING", "read_staged", "stage", "staged"]

STAGING = "staging"
_SUFFIX = ".arrow"
_DIGEST_BYTES = sha256().digest_size


def stage(folder: Path, obsid: str, tables: Tables) -> None:
    """Store one observation in the staging folder; any process may. The appearance of the file is the commit.

    The file holds all tables as Arrow streams, in the order of :data:`xscan.schema.SCHEMAS`, and their SHA-256 digest
    at the end. So one write stores everything, and a partial or damaged file is noticed.

    Parameters
    ----------
    folder : Path
        Folder of results that a :class:`~xscan.results.ResultsWriter` has opened.
    obsid : str
        An earlier staged file of the same observation is replaced.
    tables : Tables

    Raises
    ------
    StoreError
        If it cannot be written; then nothing of it remains.

    Examples
    --------
    >>> (scratch / "staging").mkdir()
    >>> stage(scratch, "0990000001", tables)
    >>> list(staged(scratch))
    ['0990000001']
    """
    sink = pa.BufferOutputStream()
    for name, schema in SCHEMAS.items():
        # not compressed: it is soon removed, and with lz4 staging takes three to four times as much CPU time
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_table(tables.table(name))
    content = sink.getvalue()
    with named_trouble(folder):
        write_whole(folder / STAGING / f"{obsid}{_SUFFIX}", b"".join([content, sha256(content).digest()]))


def staged(folder: Path) -> dict[str, Path]:
    """Return the file of every staged observation, by obsid, in order.

    Examples
    --------
    Staged observations were moved to a part when the writer ended:

    >>> staged(results)
    {}
    """
    paths = sorted((folder / STAGING).glob(f"*{_SUFFIX}"))
    return {path.name.removesuffix(_SUFFIX): path for path in paths}


def read_staged(path: Path) -> Tables:
    """Read a staged observation.

    Raises
    ------
    FileNotFoundError
        If it does not exist any more, because it was compacted.
    StoreError
        If it is damaged.

    Examples
    --------
    What comes back is what was stored; a file that was changed is refused:

    >>> (scratch / "staging").mkdir()
    >>> stage(scratch, "0990000001", tables)
    >>> path = staged(scratch)["0990000001"]
    >>> read_staged(path).regions.equals(tables.regions)
    True
    >>> n = path.write_bytes(path.read_bytes()[:-1])
    >>> read_staged(path)
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: ...: damaged; xscan archive removes it and scans the observation anew
    """
    held = memoryview(path.read_bytes())
    content, digest = held[:-_DIGEST_BYTES], held[-_DIGEST_BYTES:]
    if sha256(content).digest() != digest:
        raise StoreError(f"{path}: damaged; xscan archive removes it and scans the observation anew")
    source = pa.BufferReader(content)
    return Tables(*(pa.ipc.open_stream(source).read_all().cast(schema) for schema in SCHEMAS.values()))
