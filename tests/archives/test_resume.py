"""What broke off goes on where it broke off, and is never patched together from two files."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.archive_server import BadArchive, Fault, Reply, changed, file_reply, serving, status
from helpers.fetching import FakeClock, Fetch, archive, assert_intact, clock, fetch, fetch_nxsa, make_fetch, refused
from helpers.products import OBSID, fits_bytes, pn, product
from hypothesis import given, settings
from hypothesis import strategies as st

from xscan.archives.fetch import WORK
from xscan.archives.marker import Marker, read_marker, write_marker
from xscan.errors import Reason

__all__ = ["archive", "clock", "fetch", "fetch_nxsa"]  # fixtures


def test_a_cut_is_resumed_where_it_happened(fetch: Fetch, archive: BadArchive) -> None:
    archive.files[OBSID][pn()] = product(1, 50_000)
    archive.misbehave("PIEVLI", changed(cut_at=10_000), changed(cut_at=30_000))
    assert_intact(fetch(OBSID), archive.files[OBSID])
    asked = [headers for path, headers in archive.asked if "PIEVLI" in path]
    assert [headers.get("Range") for headers in asked][-2:] == ["bytes=10000-", "bytes=30000-"]
    assert asked[-1]["If-Range"] == file_reply(pn(), archive.files[OBSID][pn()]).headers["ETag"]


def test_a_dead_process_is_resumed_where_it_died(archive: BadArchive, tmp_path: Path) -> None:
    archive.misbehave("PIEVLI", *[changed(cut_at=3000)] * 4)
    for _ in range(2):
        with make_fetch("nxsa", archive, tmp_path, FakeClock().clock()) as fetch:
            outcome = fetch(OBSID)
    assert_intact(outcome, archive.files[OBSID])
    assert archive.asked[4][1]["Range"] == "bytes=3000-"


@pytest.mark.parametrize(
    "fault",
    [changed(ranges=False), changed(range_start_error=7), changed(range_start_error=-7), status(416), status(206)],
)
def test_a_server_that_cannot_resume(fetch_nxsa: Fetch, archive: BadArchive, fault: Fault) -> None:
    archive.misbehave("PIEVLI", changed(cut_at=3000), fault)
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_is_not_patched_together(fetch_nxsa: Fetch, archive: BadArchive, if_range: bool) -> None:
    """Also by a server that does not know If-Range. Plain FITS: there is no checksum that would notice."""
    name = pn().replace("FTZ", "FIT")
    archive.files[OBSID] = {name: fits_bytes(1)}

    def replace(reply: Reply) -> None:
        archive.files[OBSID][name] = fits_bytes(2)
        reply.cut_at = 7000

    archive.misbehave("PIEVLI", replace, changed(if_range=if_range))
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])


@pytest.mark.parametrize("error", [-2880, -1])
def test_a_range_that_starts_elsewhere_is_not_appended(fetch_nxsa: Fetch, archive: BadArchive, error: int) -> None:
    """Plain FITS: there is no checksum that would notice."""
    archive.files[OBSID] = {pn().replace("FTZ", "FIT"): fits_bytes(1)}
    archive.misbehave("PIEVLI", changed(cut_at=7000), changed(range_start_error=error))
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])


def test_what_has_no_name_for_its_version_is_not_resumed(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    anonymous = {"Content-Disposition": f"attachment; filename={pn()}"}
    archive.misbehave("PIEVLI", changed(cut_at=3000, headers=anonymous))
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])
    assert all("Range" not in headers for _, headers in archive.asked)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 6000), max_size=3), ranges=st.booleans(), tar=st.booleans())
def test_cut_anywhere(cuts: list[int], ranges: bool, tar: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    archive = BadArchive()
    archive.files[OBSID] = {pn(): product(1, 3000)} | ({pn(exposure="U009"): product(2, 2000)} if tar else {})
    archive.misbehave("PIEVLI", *[changed(cut_at=cut, ranges=ranges) for cut in cuts])
    data = tmp_path_factory.mktemp("cut")
    with serving(archive), make_fetch("nxsa", archive, data, FakeClock().clock()) as fetch:
        assert_intact(fetch(OBSID), archive.files[OBSID])


def test_a_file_that_is_gone_is_fetched_again(fetch: Fetch, archive: BadArchive, tmp_path: Path) -> None:
    """What somebody put beside it stays."""
    folder = fetch(OBSID).folder
    (folder / pn()).unlink()
    (folder / "notes.txt").write_text("mine")
    assert fetch(OBSID).state == "fetched"
    assert (folder / pn()).read_bytes() == archive.files[OBSID][pn()]
    assert (folder / "notes.txt").read_text() == "mine"
    assert list((tmp_path / "data" / WORK).iterdir()) == []


def test_what_is_not_complete_is_not_taken_for_it(fetch_nxsa: Fetch, archive: BadArchive, tmp_path: Path) -> None:
    folder = tmp_path / "data" / OBSID
    folder.mkdir(parents=True)
    write_marker(folder, Marker(OBSID, "nxsa", archive.url))
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])


@pytest.mark.parametrize("lose", [False, True])
def test_going_on_with_the_other_archive(archive: BadArchive, tmp_path: Path, lose: bool) -> None:
    """Or with the same one, after a file was lost meanwhile."""
    archive.misbehave("M2", *[status(503)] * 4)
    with make_fetch("nxsa", archive, tmp_path, FakeClock().clock()) as fetch:
        refused(fetch(OBSID), Reason.ARCHIVE_TROUBLE)
    if lose:
        (tmp_path / WORK / OBSID / pn()).unlink()
    with make_fetch("nxsa" if lose else "heasarc", archive, tmp_path, FakeClock().clock()) as fetch:
        outcome = fetch(OBSID)
    assert_intact(outcome, archive.files[OBSID])
    assert len(read_marker(outcome.folder).taken) == 4


def test_a_mirror_is_another_archive(archive: BadArchive, tmp_path: Path) -> None:
    """The marker names one address for all files."""
    archive.misbehave("M2", *[status(503)] * 4)
    for host in ("127.0.0.1", "localhost"):
        archive.url = archive.url.replace("127.0.0.1", host)
        with make_fetch("nxsa", archive, tmp_path, FakeClock().clock()) as fetch:
            outcome = fetch(OBSID)
    assert_intact(outcome, archive.files[OBSID])
    assert archive.count("PIEVLI") == 2


def test_a_beginning_that_nobody_ends_is_thrown_away(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    """Of a file that the archive names otherwise since."""
    archive.misbehave("PIEVLI", *[changed(cut_at=3000)] * 4)
    refused(fetch_nxsa(OBSID), Reason.ARCHIVE_TROUBLE)
    archive.files[OBSID] = {name.replace("PNS003", "PNS009"): data for name, data in archive.files[OBSID].items()}
    archive.files[OBSID][pn(exposure="S009")] = product(9)
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])
