"""Compute a digest of the content of results, independent of how they are divided into files."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xscan.results.tables import Tables
from xscan.schema import CIRCUMSTANCES, SCHEMAS

__all__ = ["digest_by_observation"]


def digest_by_observation(tables: Tables) -> dict[str, str]:
    """Return a digest of the rows of each observation.

    It covers all columns except :data:`xscan.schema.CIRCUMSTANCES`, and the order of rows within an
    observation. It does not depend on the memory under a null, or on how arrays are divided into chunks.

    Parameters
    ----------
    tables : Tables
        Ordered by obsid.

    Returns
    -------
    dict of str to str

    Examples
    --------
    Times of searching do not count; what was found does:

    >>> import dataclasses
    >>> later = tables.runs.drop_columns("seconds_spent").append_column("seconds_spent", pa.array([99.0]))
    >>> digest_by_observation(dataclasses.replace(tables, runs=later)) == digest_by_observation(tables)
    True
    >>> nothing = dataclasses.replace(tables, regions=tables.regions.slice(0, 0))
    >>> digest_by_observation(nothing) == digest_by_observation(tables)
    False
    """
    hashers: dict[str, Any] = {}
    for name, schema in SCHEMAS.items():
        table = tables.table(name).combine_chunks()
        obsids = np.array(table["obsid"].to_pylist(), dtype=np.str_)
        starts = np.flatnonzero(np.r_[obsids.size > 0, obsids[1:] != obsids[:-1]])
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), obsids.size], strict=False):
            hasher = hashers.setdefault(str(obsids[start]), hashlib.sha256())
            for column in schema.names:
                if column not in CIRCUMSTANCES:
                    hasher.update(f"{name}.{column}:{stop - start}:".encode())
                    _feed(hasher, table[column].slice(start, stop - start).combine_chunks())
    return {obsid: hasher.hexdigest() for obsid, hasher in hashers.items()}


def _feed(hasher: Any, values: pa.Array) -> None:
    kind = values.type
    hasher.update(_bytes(pc.is_valid(values)))
    if pa.types.is_list(kind):
        hasher.update(_bytes(pc.fill_null(pc.list_value_length(values), 0)))
        _feed(hasher, values.flatten())
    elif pa.types.is_string(kind):
        hasher.update(_bytes(pc.fill_null(pc.binary_length(values), 0)))
        hasher.update("".join(values.drop_null().to_pylist()).encode())
    else:
        hasher.update(_bytes(pc.fill_null(values, pa.scalar(0, kind) if not pa.types.is_boolean(kind) else False)))


def _bytes(values: pa.Array) -> bytes:
    return values.to_numpy(zero_copy_only=False).tobytes()
