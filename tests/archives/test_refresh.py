"""What was fetched before is asked for again: only what the archive has anew is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.archive_server import BadArchive, changed, status
from helpers.fetching import IMPATIENT, FakeClock, archive
from helpers.products import OBSID, mos, pn, product, sources

from xscan.archives import Fetched, Fetcher, open_archive, open_web
from xscan.archives.fetch import WORK
from xscan.archives.marker import MARKER, read_marker

__all__ = ["archive"]  # fixtures


@pytest.fixture(params=["nxsa:{}", "heasarc:{}/tree"])
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fetch(archive: BadArchive, source: str, data: Path, refresh: bool = True) -> Fetched:
    with open_web(IMPATIENT, FakeClock().clock()) as web:
        return Fetcher(open_archive(source.format(archive.url), web), data, refresh).fetch(OBSID)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MARKER}


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir() if path.name != MARKER}


@pytest.mark.parametrize("conditional", [True, False])
def test_what_is_as_it_was_is_not_taken(archive: BadArchive, source: str, tmp_path: Path, conditional: bool) -> None:
    """By a server that answers 304, and by one that begins to send the file and is not listened to."""
    assert fetch(archive, source, tmp_path).state == "fetched"
    before = inodes(tmp_path / OBSID)
    archive.misbehave("EVLI", *[changed(if_changed=conditional)] * 20)
    archive.misbehave("OBSMLI", *[changed(if_changed=conditional)] * 20)
    again = fetch(archive, source, tmp_path)
    assert (again.state, inodes(tmp_path / OBSID)) == ("present", before)
    assert not (tmp_path / WORK / OBSID).exists()


def test_only_what_is_new_is_taken(archive: BadArchive, source: str, tmp_path: Path) -> None:
    fetch(archive, source, tmp_path)
    before = inodes(tmp_path / OBSID)
    size = len(archive.files[OBSID][pn()])
    archive.files[OBSID][pn()] = product(99)
    assert len(product(99)) == size
    del archive.files[OBSID][sources()]
    again = fetch(archive, source, tmp_path)
    assert again.state == "fetched"
    assert contents(tmp_path / OBSID) == archive.files[OBSID]
    after = inodes(tmp_path / OBSID)
    assert {name for name in after if after[name] == before[name]} == {mos("M1"), mos("M2")}
    marker = read_marker(tmp_path / OBSID)
    assert marker is not None
    assert marker.absent == ("sources",)
    archive.files[OBSID][sources()] = product(98)  # and back
    assert fetch(archive, source, tmp_path).state == "fetched"
    assert contents(tmp_path / OBSID) == archive.files[OBSID]


def test_without_being_asked_to_nothing_is_asked(archive: BadArchive, source: str, tmp_path: Path) -> None:
    fetch(archive, source, tmp_path)
    archive.asked.clear()
    assert fetch(archive, source, tmp_path, refresh=False).state == "present"
    assert archive.asked == []


def test_trouble_leaves_what_is_here(archive: BadArchive, source: str, tmp_path: Path) -> None:
    fetch(archive, source, tmp_path)
    before = contents(tmp_path / OBSID)
    archive.files[OBSID] |= {pn(): product(97), mos("M1"): product(96)}
    archive.misbehave("M1", *[status(503)] * 10)
    failed = fetch(archive, source, tmp_path)
    assert failed.state == "failed"
    assert contents(tmp_path / OBSID) == before
    assert fetch(archive, source, tmp_path, refresh=False).state == "present"
    archive.behave()
    assert fetch(archive, source, tmp_path).state == "fetched"
    assert contents(tmp_path / OBSID) == archive.files[OBSID]


def test_several_lists_of_one_camera(archive: BadArchive, tmp_path: Path) -> None:
    """ESA's archive packs them into a tar, whose files have no version: they are taken again."""
    archive.files[OBSID][mos("M1", exposure="S009")] = product(50)
    fetch(archive, "nxsa:{}", tmp_path)
    archive.files[OBSID][mos("M1", exposure="S009")] = product(51)
    assert fetch(archive, "nxsa:{}", tmp_path).state == "fetched"
    assert contents(tmp_path / OBSID) == archive.files[OBSID]


def test_files_of_ones_own_stay(archive: BadArchive, source: str, tmp_path: Path) -> None:
    (tmp_path / OBSID).mkdir()
    (tmp_path / OBSID / pn()).write_bytes(product(5))
    assert fetch(archive, source, tmp_path).state == "present"
    assert archive.asked == []
