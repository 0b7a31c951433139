"""Results on disk that somebody or the disk spoilt: noticed, named, and never made worse."""

from __future__ import annotations

import errno
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from helpers.lists import OBSID
from helpers.stored import check_whole, files, open_writer, parts, renamed, small_parts, tables

import xscan
from xscan.errors import StoreError
from xscan.results import compaction, staging
from xscan.results.reader import Results
from xscan.results.staging import stage
from xscan.results.tables import Tables
from xscan.schema import SCHEMAS

__all__ = ["small_parts", "tables"]  # fixtures


def test_a_file_that_is_missing_is_named(tmp_path: Path, tables: Tables) -> None:
    with open_writer(tmp_path) as out:
        out.write(OBSID, tables)
    (tmp_path / parts(tmp_path)[0]["files"]["regions"]).unlink()
    with pytest.raises(StoreError, match=r"a file is missing \(.*part-.*\); restore it"):
        xscan.open_results(tmp_path).table("regions")


def test_a_spoilt_staged_file_costs_its_observation(
    tmp_path: Path, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    with open_writer(tmp_path) as out:
        out.write("0000000001", renamed(tables, "0000000001"))
        out.write("0000000002", renamed(tables, "0000000002"))
        path = tmp_path / "staging" / "0000000001.arrow"
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(StoreError, match=r"0000000001\.arrow: damaged"):
            xscan.open_results(tmp_path).table("runs")
        with caplog.at_level(logging.WARNING):
            compaction.compact(tmp_path)
    assert "scans the observation anew" in caplog.text
    assert xscan.open_results(tmp_path).observations() == ["0000000002"]
    check_whole(tmp_path)


def test_whatever_is_spoilt_in_a_staged_file_is_noticed(tmp_path: Path, tables: Tables) -> None:
    (tmp_path / "staging").mkdir()
    stage(tmp_path, OBSID, tables)
    path = tmp_path / "staging" / f"{OBSID}.arrow"
    whole = path.read_bytes()
    assert staging.read_staged(path).regions.equals(tables.regions)
    place = random.Random(1)
    spoilt = [whole[: place.randrange(len(whole))] for _ in range(50)]
    for _ in range(200):
        bit = place.randrange(8 * len(whole))
        spoilt.append(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
    for content in [*spoilt, b"", bytes(len(whole))]:
        path.write_bytes(content)
        with pytest.raises(StoreError, match="damaged; xscan archive removes it"):
            staging.read_staged(path)


def test_a_new_folder_without_its_list_of_files_has_lost_nothing(tmp_path: Path, tables: Tables) -> None:
    with open_writer(tmp_path):
        pass
    stage(tmp_path, OBSID, tables)
    (tmp_path / "_manifest.json").unlink()
    assert xscan.open_results(tmp_path).observations() == [OBSID]
    with open_writer(tmp_path):
        pass
    check_whole(tmp_path)


@pytest.mark.parametrize("staged", [True, False])
def test_a_lost_list_of_files_loses_no_results(tmp_path: Path, tables: Tables, staged: bool) -> None:
    """Without the manifest no file would count, without the other any configuration would do: neither is made anew."""
    with open_writer(tmp_path) as out:
        out.write(OBSID, tables)
    if staged:
        stage(tmp_path, "0000000002", renamed(tables, "0000000002"))
    for name in ("_manifest.json", "_xscan.json"):
        there = files(tmp_path)
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        with pytest.raises(StoreError, match=rf"{name}: missing, and nothing else says .*; restore it from a copy"):
            open_writer(tmp_path).__enter__()
        with pytest.raises(StoreError, match="missing"):
            xscan.open_results(tmp_path).table("runs")
        (tmp_path / name).write_bytes(kept)
        assert files(tmp_path) == there
    with open_writer(tmp_path):
        pass
    assert len(xscan.open_results(tmp_path).observations()) == 1 + staged


def test_a_part_that_cannot_be_read_now_is_not_called_damaged(
    tmp_path: Path, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever believed it would throw away what is whole."""
    with open_writer(tmp_path) as out:
        out.write(OBSID, tables)

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name.startswith("part-"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match=r"part-.*: cannot be read: Permission denied; mend that and run the same"):
        open_writer(tmp_path).__enter__()


@pytest.mark.parametrize("table", SCHEMAS)
@pytest.mark.parametrize("cut", [None, 9, 10**9])
def test_a_part_that_was_spoilt_stops_a_run_before_it_begins(
    tmp_path: Path, tables: Tables, small_parts: None, table: str, cut: int | None
) -> None:
    obsids = [f"{number:010d}" for number in range(8)]
    with open_writer(tmp_path) as out:
        for obsid in obsids:
            out.write(obsid, renamed(tables, obsid))
    path = tmp_path / parts(tmp_path)[1]["files"][table]
    content = path.read_bytes()[:-cut] if cut else b""
    path.unlink()
    if cut:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{path}: {'damaged' if cut else 'missing'}; restore .* or take its part out"):
        open_writer(tmp_path).__enter__()
    manifest = tmp_path / "_manifest.json"
    manifest.write_text(json.dumps({"parts": parts(tmp_path)[:1]}))  # as the line says
    with open_writer(tmp_path) as out:
        assert xscan.open_results(tmp_path).observations() == obsids[:4]
        for obsid in obsids[4:]:
            out.write(obsid, renamed(tables, obsid))
    check_whole(tmp_path)
    assert xscan.open_results(tmp_path).table("regions").num_rows == 8 * tables.regions.num_rows


def test_a_damaged_part_is_named(tmp_path: Path, tables: Tables) -> None:
    with open_writer(tmp_path) as out:
        out.write(OBSID, tables)
    path = tmp_path / parts(tmp_path)[0]["files"]["regions"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="a file of regions is damaged"):
        Results(tmp_path).table("regions")
    (tmp_path / "_manifest.json").write_text('{"parts": [7]}')
    with pytest.raises(StoreError, match="not a manifest"):
        Results(tmp_path).table("regions")
