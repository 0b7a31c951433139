"""The content hash: of all that was found, and of nothing else."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.stored import tables

from xscan.results.content_digest import _feed, digest_by_observation
from xscan.results.tables import Tables
from xscan.schema import CIRCUMSTANCES, LIGHTCURVES, SCHEMAS

__all__ = ["tables"]  # fixtures


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_but_the_times_is_in_the_hash(tables: Tables, name: str) -> None:
    expected = digest_by_observation(tables)
    for column, kind in zip(SCHEMAS[name].names, SCHEMAS[name].types, strict=True):
        rows = tables.table(name).to_pylist()
        rows[-1][column] = different(rows[-1][column], kind)
        changed = replace(tables, **{name: pa.Table.from_pylist(rows, SCHEMAS[name])})
        assert (digest_by_observation(changed) == expected) == (column in CIRCUMSTANCES), column


def different(value: Any, kind: pa.DataType) -> Any:
    """Another value of the same type."""
    if value is None:
        return "?" if pa.types.is_string(kind) else 7
    if isinstance(value, str):
        return value[:-1] + "?"
    if isinstance(value, bool):
        return not value
    if isinstance(value, datetime.datetime):
        return value + datetime.timedelta(seconds=1)
    if isinstance(value, list):
        return [different(value[0], kind.value_type), *value[1:]]
    return value + 1


def test_null_is_not_zero(tables: Tables) -> None:
    rows = tables.lightcurves.to_pylist()
    rows[0]["mu"][3] = 0.0
    zero = digest_by_observation(replace(tables, lightcurves=pa.Table.from_pylist(rows, LIGHTCURVES)))
    rows[0]["mu"][3] = None
    null = digest_by_observation(replace(tables, lightcurves=pa.Table.from_pylist(rows, LIGHTCURVES)))
    hidden = pa.array([5.0] * len(rows[0]["mu"]), mask=np.arange(len(rows[0]["mu"])) == 3)  # 5.0 under the null
    shown = pa.array([5.0] * 3 + [None] + [5.0] * (len(hidden) - 4))
    assert zero != null
    assert _hash_of(hidden) == _hash_of(shown)


def test_the_hash_tells_where_one_value_ends() -> None:
    for one, other in (([[1], [2, 3]], [[1, 2], [3]]), (["a", "bc"], ["ab", "c"])):
        assert _hash_of(pa.array(one)) != _hash_of(pa.array(other))


def _hash_of(values: pa.Array) -> bytes:
    hasher = hashlib.sha256()
    _feed(hasher, values)
    return hasher.digest()
