"""What decides results is noticed when it changes, and nothing else is."""

from __future__ import annotations

import ast
import gzip
import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from test_architecture import modules

from xscan.pipeline import digests
from xscan.pipeline.digests import DECIDES, code_digest, inputs_digest

MAKERS = {"pipeline.scan", "backends.cuda.counts", "backends.numba.counts", "backends.numpy"}
EVENTS = "P0000000001M1S001MIEVLI0000.FTZ"
SOURCES = "P0000000001EPX000OBSMLI0000.FTZ"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "0000000001"
    place.mkdir()
    for name in (EVENTS, SOURCES):
        (place / name).write_bytes(gzip.compress(b"some content, some content", 0, mtime=0))
    return place


def test_whatever_makes_results_counts() -> None:
    trees = modules()
    seen: set[str] = set()
    waiting = set(MAKERS)
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in ast.walk(trees[name]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xscan"):
                base = (node.module or "").removeprefix("xscan").lstrip(".")
                names = {base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)}
                waiting |= (names & trees.keys()) - seen
    decides = tuple(name.replace("/", ".") for name in DECIDES)
    assert not {name for name in seen if not f"{name}.".startswith(tuple(f"{one}." for one in decides))}
    assert {"bayes", "events.cuts", "backends.numba.events", "search.background", "results.tables"} <= seen


def test_all_that_decides_is_there() -> None:
    names = set(modules())
    assert all(any(f"{name}.".startswith(one.replace("/", ".") + ".") for name in names) for one in DECIDES)


def test_code_has_a_fingerprint() -> None:
    assert len(code_digest()) == 16


def test_files_that_are_not_searched_do_not_count(folder: Path) -> None:
    before = inputs_digest(folder)
    (folder / "P0000000001M1S001IMAGE_1000.FTZ").write_bytes(b"an image")
    (folder / "notes.txt").write_text("mine")
    assert inputs_digest(folder) == before


@pytest.mark.parametrize("name", [EVENTS, SOURCES])
def test_another_content_of_the_same_size_counts(folder: Path, name: str) -> None:
    before = inputs_digest(folder)
    path = folder / name
    size = path.stat().st_size
    path.write_bytes(gzip.compress(b"some content, sane content", 0, mtime=0))
    assert path.stat().st_size == size
    assert inputs_digest(folder) != before


def test_names_and_places_count(folder: Path) -> None:
    seen = {inputs_digest(folder)}
    (folder / EVENTS).rename(folder / EVENTS.replace("S001", "S002"))
    seen.add(inputs_digest(folder))
    (folder / SOURCES).unlink()
    seen.add(inputs_digest(folder))
    assert len(seen - {""}) == 3


def test_files_that_are_not_here_say_nothing(folder: Path, tmp_path: Path) -> None:
    """A cache that was emptied, a disk that is not mounted: no reason to search again and find nothing."""
    kept = (folder / EVENTS).rename(tmp_path / "kept")
    assert inputs_digest(folder) == ""  # a source list alone is no observation
    (folder / EVENTS).symlink_to(kept)
    assert inputs_digest(folder) != ""
    (folder / EVENTS.replace("S001", "S002")).symlink_to(tmp_path / "not mounted")
    assert inputs_digest(folder) == ""
    (folder / EVENTS.replace("S001", "S002")).unlink()
    (folder / SOURCES).unlink()
    (folder / SOURCES).symlink_to(folder / SOURCES)
    assert inputs_digest(folder) == ""
    shutil.rmtree(folder)
    assert inputs_digest(folder) == ""


def test_names_that_are_no_text_count_too(folder: Path) -> None:
    before = inputs_digest(folder)
    (folder / os.fsdecode(SOURCES.encode().replace(b"0000.FTZ", b"\xff.FTZ"))).write_bytes(b"a source list")
    assert inputs_digest(folder) not in ("", before)


def test_a_folder_that_cannot_be_looked_at_says_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "is_dir", refused)
    assert inputs_digest(folder) == ""


def test_the_number_of_the_version_does_not_count() -> None:
    """Else no release would carry anything over from one before it."""
    counted = [name for name, _ in digests._modules(files("xscan"), "")]
    assert "__init__.py" not in counted
    assert {"bayes.py", "backends/__init__.py", "missions/xmm/observation.py"} <= set(counted)


def test_where_the_folder_is_does_not_count(folder: Path) -> None:
    before = inputs_digest(folder)
    assert inputs_digest(folder.rename(folder.with_name("0000000002"))) == before
