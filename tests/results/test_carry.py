"""Observations taken over from another folder of results: all, some, and with the power failing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.stored import failed, files, open_writer, parts, small_parts

from xscan import open_results
from xscan.errors import StoreError
from xscan.results.staging import stage
from xscan.schema import SCHEMAS

__all__ = ["small_parts"]  # fixtures

OBSIDS = [f"{number:010d}" for number in range(10)]


@pytest.fixture
def source(tmp_path: Path, small_parts: None) -> Path:
    with open_writer(tmp_path / "source") as out:
        for obsid in OBSIDS:
            out.write(obsid, failed(obsid))
    assert len(parts(tmp_path / "source")) > 1
    return tmp_path / "source"


def carried(source: Path, target: Path, observations: list[str]) -> None:
    with open_writer(target) as out:
        out.carry(source, set(observations))


def test_everything_is_shared(source: Path, tmp_path: Path) -> None:
    carried(source, tmp_path / "target", OBSIDS)
    assert files(source) == files(tmp_path / "target")
    assert open_results(source).content_digest() == open_results(tmp_path / "target").content_digest()
    for part in parts(source):
        for file in part["files"].values():
            assert (source / file).samefile(tmp_path / "target" / file)


def test_files_are_copied_where_links_cannot_be(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", link)
    carried(source, tmp_path / "target", OBSIDS)
    assert open_results(source).content_digest() == open_results(tmp_path / "target").content_digest()
    assert not any((source / file).samefile(tmp_path / "target" / file) for file in files(source))


def test_only_what_is_asked_for(source: Path, tmp_path: Path) -> None:
    some = [*OBSIDS[:5], "9999999999"]
    carried(source, tmp_path / "target", some)
    held = open_results(tmp_path / "target")
    assert held.observations() == OBSIDS[:5]
    with open_writer(tmp_path / "scratch") as out:
        for obsid in OBSIDS[:5]:
            out.write(obsid, failed(obsid))
    assert held.content_digest() == open_results(tmp_path / "scratch").content_digest()
    listed = {name for part in parts(tmp_path / "target") for name in part["files"].values()}
    assert files(tmp_path / "target") == {"_xscan.json", "_manifest.json", *listed}
    assert open_results(source).observations() == OBSIDS


def test_what_is_there_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    """Also what was just staged; the rest comes to it."""
    with open_writer(tmp_path / "target") as out:
        out.carry(source, set(OBSIDS[:3]))
        out.write(OBSIDS[5], failed(OBSIDS[5], "another message"))
        out.carry(source, set(OBSIDS[:7]))
    held = open_results(tmp_path / "target")
    assert held.observations() == OBSIDS[:7]
    assert held.table("runs")["obsid"].to_pylist() == OBSIDS[:7]
    messages = [held.table("runs", obsid)["message"].to_pylist() for obsid in OBSIDS[4:7]]
    assert messages[1] == ["another message"] != messages[0] == messages[2]


@pytest.mark.parametrize("trouble", ["missing", "damaged"])
def test_a_spoilt_file_is_named_and_not_shared(source: Path, tmp_path: Path, trouble: str) -> None:
    spoilt = source / parts(source)[0]["files"]["lightcurves"]
    content = spoilt.read_bytes()
    spoilt.unlink()
    if trouble == "damaged":
        spoilt.write_bytes(content[:-9])
    with pytest.raises(StoreError, match=f"{spoilt}: {trouble}; restore it, or remove {source} and all that is in it"):
        carried(source, tmp_path / "target", OBSIDS)


def test_neither_folder_changes_the_other(source: Path, tmp_path: Path) -> None:
    """Files are shared: whatever either does later, the other reads what it read."""
    carried(source, tmp_path / "target", OBSIDS)
    before = open_results(source).content_digest()
    with open_writer(tmp_path / "target") as out:
        out.drop({OBSIDS[0]})
        out.write(OBSIDS[1], failed(OBSIDS[1], "another message"))
        out.write("1111111111", failed("1111111111"))
    assert open_results(source).content_digest() == before
    after = open_results(tmp_path / "target").content_digest()
    assert after != before
    with open_writer(source) as out:
        for obsid in OBSIDS:
            out.write(obsid, failed(obsid, "a third message"))
    assert open_results(tmp_path / "target").content_digest() == after
    shutil.rmtree(source)
    assert open_results(tmp_path / "target").content_digest() == after


@pytest.mark.parametrize("gone", [[], ["9999999999"], OBSIDS[:1], OBSIDS[2:7], OBSIDS])
def test_observations_are_dropped(source: Path, tmp_path: Path, gone: list[str]) -> None:
    left = [obsid for obsid in OBSIDS if obsid not in gone]
    with open_writer(source) as out:
        out.drop(set(gone))
    assert open_results(source).observations() == left
    listed = {name for part in parts(source) for name in part["files"].values()}
    assert files(source) == {"_xscan.json", "_manifest.json", *listed}
    carried(source, tmp_path / "target", OBSIDS)
    assert open_results(source).content_digest() == open_results(tmp_path / "target").content_digest()


def test_a_folder_whose_run_was_stopped_is_refused(source: Path, tmp_path: Path) -> None:
    stage(source, "1111111111", failed("1111111111"))
    with pytest.raises(StoreError, match="finish it first"):
        carried(source, tmp_path / "target", OBSIDS)


def test_stopped_at_any_change_it_begins_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(BaseException):
        """As the power failing: nobody handles it."""

    some = OBSIDS[:7]
    carried(source, tmp_path / "whole", some)
    left, stops = 0, 0
    while True:
        target = tmp_path / f"target {stops}"
        left = stops

        def mortal(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                if left == 0:
                    raise Stop
                left -= 1
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("link", "replace", "fsync", "mkdir", "unlink"):
                patch.setattr(os, name, mortal(getattr(os, name)))
            try:
                carried(source, target, some)
                finished = True
            except Stop:
                finished = False
        carried(source, target, some)
        assert files(target) == files(tmp_path / "whole")
        assert open_results(target).content_digest() == open_results(tmp_path / "whole").content_digest()
        if finished:
            break
        stops += 1
    assert stops > 3 * len(SCHEMAS)
