from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake import CENTRE, OBSID, quiet_list, with_burst, write_list

import xscan
from xscan.errors import Reason, StoreError
from xscan.schema import SCHEMAS
from xscan.store import ResultsWriter
from xscan.tables import Provenance, Tables, failed_tables

SETTINGS = {"search.sigma": "3", "search.views": "5:0.2-12"}
PROVENANCE = Provenance("0.1.0", "default", "0123456789abcdef", "numpy")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("data") / OBSID
    write_list(folder, with_burst(quiet_list(rng, "m1", 600.0), rng, 30, 100.0, 4.0, CENTRE, CENTRE))
    return xscan.scan(folder, views=["5:0.2-12", "50:0.2-12"])


def test_what_is_written_is_read(tmp_path: Path, tables: Tables) -> None:
    writer = ResultsWriter(tmp_path / "out", PROVENANCE, SETTINGS)
    writer.write(OBSID, tables)
    writer.write("0999999900", failed_tables("0999999900", "failed", Reason.NO_FOLDER, "gone", PROVENANCE, 0.1))
    held = xscan.open_results(tmp_path / "out")
    assert held.observations() == ["0999999900", OBSID]
    for name, schema in SCHEMAS.items():
        table = held.table(name)
        assert table.schema.equals(schema, check_metadata=True), name
        if name != "runs":
            assert table.equals(tables.table(name))
    assert held.table("runs")["state"].to_pylist() == ["failed", "done", "done"]
    with pytest.raises(KeyError, match="there are runs"):
        held.table("stars")


def test_units_are_in_the_files(tmp_path: Path, tables: Tables) -> None:
    ResultsWriter(tmp_path, PROVENANCE, SETTINGS).write(OBSID, tables)
    schema = pq.read_schema(tmp_path / "regions" / f"{OBSID}.parquet")
    assert schema.field("ra_deg").metadata[b"unit"] == b"deg"
    assert b"mission time" in schema.field("t_start_s").metadata[b"description"]


def test_rewriting_leaves_nothing_stale(tmp_path: Path, tables: Tables) -> None:
    writer = ResultsWriter(tmp_path, PROVENANCE, SETTINGS)
    writer.write(OBSID, tables)
    writer.write(
        OBSID, replace(tables, **{name: tables.table(name)[:0] for name in ("regions", "voxels", "lightcurves")})
    )
    assert xscan.open_results(tmp_path).table("regions").num_rows == 0
    assert list((tmp_path / "regions").iterdir()) == []


def test_a_crash_in_between_leaves_the_observation_absent(
    tmp_path: Path, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ResultsWriter(tmp_path, PROVENANCE, SETTINGS)
    writer.write(OBSID, tables)
    calls = []

    def fail_third(source: str, target: Path) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr("xscan.store.os.replace", fail_third)
    with pytest.raises(StoreError, match="No space left"):
        writer.write(OBSID, tables)
    held = xscan.open_results(tmp_path)
    assert held.observations() == []
    assert held.table("regions").num_rows == 0
    assert not list(tmp_path.rglob(".*parquet*"))  # no temporary file is left
    monkeypatch.undo()
    writer.write(OBSID, tables)
    assert held.observations() == [OBSID]


def test_results_of_another_configuration_are_refused(tmp_path: Path) -> None:
    ResultsWriter(tmp_path, PROVENANCE, SETTINGS)
    ResultsWriter(tmp_path, replace(PROVENANCE, xscan_version="0.1.1"), SETTINGS)
    other = SETTINGS | {"search.sigma": "5"}
    with pytest.raises(StoreError, match=r"search\.sigma is 3 there, 5 here") as caught:
        ResultsWriter(tmp_path, replace(PROVENANCE, config_digest="feed", profile="exod2"), other)
    assert caught.value.exit_code == 2


def test_folders_without_results(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results"):
        xscan.open_results(tmp_path)
    (tmp_path / "_xscan.json").write_text('{"format": 99, "xscan_version": "9.0"}')
    with pytest.raises(StoreError, match=r"format 99.*xscan 9\.0"):
        xscan.open_results(tmp_path)
    (tmp_path / "_xscan.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        xscan.open_results(tmp_path)
