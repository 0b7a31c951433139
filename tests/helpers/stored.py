"""Results to store: of one small observation searched, of one that failed, and in small parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xscan
from helpers.lists import CENTRE, OBSID, quiet_list, with_burst, write_list
from xscan.errors import Reason
from xscan.results import compaction, writer
from xscan.results.tables import Provenance, Tables, failed_tables
from xscan.results.writer import ResultsWriter
from xscan.schema import SCHEMAS

SETTINGS = {"search.sigma": "3", "search.views": "5:0.2-12"}
PROVENANCE = Provenance("0.1.0", "default", "0123456789abcdef", "code", "numpy")


def open_writer(folder: Path) -> ResultsWriter:
    return ResultsWriter(folder, PROVENANCE, SETTINGS)


def failed(obsid: str, message: str = "gone") -> Tables:
    return failed_tables(obsid, "failed", Reason.NO_FOLDER, message, PROVENANCE, 0.1)


def renamed(tables: Tables, obsid: str) -> Tables:
    """The same results under another name."""

    def column(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("obsid")
        return table.set_column(place, table.schema.field(place), pa.array([obsid] * table.num_rows, pa.string()))

    return Tables(*(column(tables.table(name)) for name in SCHEMAS))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("data") / OBSID
    write_list(folder, with_burst(quiet_list(rng, "m1", 600.0), rng, 30, 100.0, 4.0, CENTRE, CENTRE))
    config = folder.parent / "both.toml"
    config.write_text('[search]\nviews = ["5:0.2-12", "50:0.2-12"]\n')  # beside the windows: rows in every table
    return xscan.scan(folder, config=config)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of four observations; those of less than two are written anew."""
    monkeypatch.setattr(compaction, "FULL", 4)
    monkeypatch.setattr(compaction, "_SMALL", 2)
    monkeypatch.setattr(writer, "FULL", 4)


def parts(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "_manifest.json").read_text())["parts"]


def files(folder: Path) -> set[str]:
    """What is in the folder, the lock aside."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"_lock"}


def check_whole(folder: Path) -> dict[str, pa.Table]:
    """Nothing is left over, and what any Parquet reader finds by the manifest is what we read, which is given."""
    listed = [name for part in parts(folder) for name in part["files"].values()]
    assert files(folder) == {"_xscan.json", "_manifest.json", *listed}
    held = xscan.open_results(folder)
    tables = {name: held.table(name) for name in SCHEMAS}
    for name, ours in tables.items():
        outside = pa.concat_tables([pq.read_table(folder / part["files"][name]) for part in parts(folder)])
        assert outside.sort_by([("obsid", "ascending")]).equals(ours)
    assert set(tables["runs"]["obsid"].to_pylist()) == set(held.observations())
    return tables
