"""One observation from an archive that behaves badly: every file intact, or a reason."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest
from helpers.archive_server import BadArchive, Fault, Reply, changed, edited, file_reply, make_tar, page, status
from helpers.fetching import (
    IMPATIENT,
    FakeClock,
    Fetch,
    archive,
    assert_intact,
    clock,
    fetch,
    fetch_nxsa,
    make_fetch,
    refused,
)
from helpers.products import OBSID, fits_bytes, mos, observation, pn, product, sources

from xscan.archives import Fetcher, RequestLimits, open_archive, open_web
from xscan.archives import fetch as fetch_module
from xscan.archives.fetch import JOURNAL, WORK
from xscan.archives.marker import read_marker
from xscan.errors import ArchiveError, ConfigError, Reason

__all__ = ["archive", "clock", "fetch", "fetch_nxsa"]  # fixtures


def test_all_products_arrive(fetch: Fetch, archive: BadArchive, tmp_path: Path) -> None:
    outcome = fetch(OBSID)
    assert_intact(outcome, archive.files[OBSID])
    assert (outcome.n_files, outcome.n_bytes) == (4, sum(map(len, archive.files[OBSID].values())))
    assert {headers["Accept-Encoding"] for _, headers in archive.asked} == {"identity"}
    agents = {headers["User-Agent"] for _, headers in archive.asked}
    assert len(agents) == 1
    assert agents.pop().startswith("xscan/")
    n_asked = len(archive.asked)
    assert fetch(OBSID).state == "present"
    assert len(archive.asked) == n_asked
    lines = [json.loads(line) for line in (tmp_path / "data" / JOURNAL).read_text().splitlines()]
    assert [(line["obsid"], line["state"], line["files"]) for line in lines] == [(OBSID, "fetched", 4)]


def test_several_lists_of_a_camera_come_as_a_tar(fetch: Fetch, archive: BadArchive) -> None:
    archive.files[OBSID] |= {pn(exposure="U002"): product(7), mos("M2", exposure="S099"): product(8)}
    assert_intact(fetch(OBSID), archive.files[OBSID])


@pytest.mark.parametrize("faults", [{"chunked": True}, {"chunked": True, "trickle": 1000}, {"declare_length": False}])
def test_lengths_that_are_not_told(fetch: Fetch, archive: BadArchive, faults: dict[str, object]) -> None:
    """An archive that packs on demand does not know them; nor does it for products that it has not."""
    del archive.files[OBSID][mos("M1")]
    archive.files[OBSID][mos("M2", exposure="U009")] = product(4)
    archive.misbehave("PPS", *[changed(**faults)] * 20)
    outcome = fetch(OBSID)
    if "chunked" in faults:
        assert_intact(outcome, archive.files[OBSID])
    else:  # nothing, and a list of names, may be whole or cut: no one can tell
        said = refused(outcome, Reason.ARCHIVE_TROUBLE)
        assert "before the first byte" in said or "it may be cut short" in said


def test_other_products_are_left_alone(fetch: Fetch, archive: BadArchive) -> None:
    wanted = dict(archive.files[OBSID])
    archive.files[OBSID] |= {f"P{OBSID}PNS003FBKTSR0000.FTZ": b"x", f"P{OBSID}PNX000OBSMLI0000.FTZ": product(7)}
    assert_intact(fetch(OBSID), wanted)


def test_a_camera_that_is_missing_is_a_fact(fetch: Fetch, archive: BadArchive) -> None:
    del archive.files[OBSID][mos("M2")], archive.files[OBSID][sources()]
    outcome = fetch(OBSID)
    assert_intact(outcome, archive.files[OBSID])
    assert read_marker(outcome.folder).absent == ("m2", "sources")
    assert "no m2, sources" in outcome.message
    assert fetch(OBSID).state == "present"


def test_no_event_list_at_all(fetch: Fetch, archive: BadArchive, tmp_path: Path) -> None:
    archive.files[OBSID] = {sources(): product(3)}
    outcome = fetch(OBSID)
    assert (outcome.state, outcome.reason, outcome.folder) == ("absent", Reason.NO_PRODUCTS, None)
    assert not (tmp_path / "data" / OBSID).exists()
    archive.files[OBSID] = observation()
    assert_intact(fetch(OBSID), archive.files[OBSID])  # asked anew: it may have been made since


def test_an_observation_that_does_not_exist(fetch: Fetch) -> None:
    assert "does not know it" in refused(fetch("0999999999"), Reason.NO_SUCH_OBSERVATION)


def test_an_observation_that_is_not_public(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    archive.files[OBSID], archive.private = {}, {OBSID}
    refused(fetch_nxsa(OBSID), Reason.NOT_PUBLIC)


@pytest.mark.parametrize("answer", ["No products found for your request", "The file was not found"])
def test_words_that_say_there_is_none(fetch_nxsa: Fetch, archive: BadArchive, answer: str) -> None:
    archive.misbehave("M1", page(answer))
    outcome = fetch_nxsa(OBSID)
    assert read_marker(outcome.folder).absent == ("m1",)


def test_another_file_than_asked_for(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    archive.replies["instname=PN"] = file_reply(pn("0000000007"), product(1))
    assert "0000000007" in refused(fetch_nxsa(OBSID), Reason.BAD_PRODUCT)
    assert archive.count("PIEVLI") == 1


@pytest.mark.parametrize("name", [f"../{pn()}", f"/tmp/{pn()}", f"x/{pn()}", "../../.bashrc", ""])
def test_a_name_with_a_path_is_no_name(fetch_nxsa: Fetch, archive: BadArchive, tmp_path: Path, name: str) -> None:
    archive.replies["instname=PN"] = file_reply(name, product(1))
    refused(fetch_nxsa(OBSID), Reason.BAD_PRODUCT)
    assert {path.name for path in tmp_path.iterdir()} <= {"data"}


def evil(name: str, kind: bytes = tarfile.REGTYPE, link: str = "/etc/passwd", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


EVIL = [
    evil("../outside"),
    evil("/absolute"),
    evil("a/../../outside", size=700),
    evil("link", tarfile.SYMTYPE),
    evil("hard", tarfile.LNKTYPE),
    evil("device", tarfile.CHRTYPE),
    evil("block", tarfile.BLKTYPE),
    evil("pipe", tarfile.FIFOTYPE),
    evil(f"{OBSID}/pps", tarfile.DIRTYPE),
    evil("a" * 200 + "/" + "b" * 200),
]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_with_evil_members(fetch_nxsa: Fetch, archive: BadArchive, tmp_path: Path, form: int) -> None:
    """What was asked for arrives; of the rest nothing is written, and it is told."""
    archive.files[OBSID][pn(exposure="U002")] = product(6)
    wanted = {name: data for name, data in archive.files[OBSID].items() if "PIEVLI" in name}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for member in EVIL[: -1 if form == tarfile.USTAR_FORMAT else None]:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        for name, data in wanted.items():
            tar.addfile(evil(f"{OBSID}/pps/{name}", size=len(data)), io.BytesIO(data))
    archive.replies["instname=PN"] = Reply(stream.getvalue())
    outcome = fetch_nxsa(OBSID)
    assert_intact(outcome, archive.files[OBSID])
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    for name in ("../outside", "/absolute", "link", "hard", "device", "block", "pipe"):
        assert repr(name) in outcome.message


@pytest.mark.parametrize("member", [evil(f"../{pn()}"), evil(f"/{pn()}"), evil(pn(), tarfile.SYMTYPE)])
def test_an_evil_member_with_the_name_of_a_product(
    fetch_nxsa: Fetch, archive: BadArchive, member: tarfile.TarInfo
) -> None:
    archive.replies["instname=PN"] = Reply(make_tar({}, member))
    assert pn() in refused(fetch_nxsa(OBSID), Reason.BAD_PRODUCT)


def test_a_tar_that_ends_early_never_counts(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    """Also where it ends between two members, which the standard library takes for its end."""
    both = {pn(): product(0), pn(exposure="U002"): product(6)}
    whole = make_tar(both)
    first = len(make_tar({pn(): both[pn()]}).rstrip(b"\0")) // 512 * 512 + 512
    archive.files[OBSID] |= both
    with tarfile.open(fileobj=io.BytesIO(whole[:first])) as tar:
        assert tar.getnames() == [pn()]
    archive.misbehave("PIEVLI", changed(body=whole[:first]), changed(body=whole[: first + 700]))
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])
    assert archive.count("PIEVLI") == 3


def test_a_damaged_file_in_a_tar(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    damaged = product(0)[:-8] + bytes(8)
    archive.replies["instname=PN"] = Reply(make_tar({pn(): damaged, pn(exposure="U002"): product(6)}))
    refused(fetch_nxsa(OBSID), Reason.BAD_PRODUCT)


@pytest.mark.parametrize(
    ("fault", "says"),
    [(changed(), "no product is so large"), (changed(chunked=True), "no end after 3000"), (None, "tar")],
)
def test_no_product_is_endless(
    fetch_nxsa: Fetch, archive: BadArchive, monkeypatch: pytest.MonkeyPatch, fault: Fault | None, says: str
) -> None:
    """One that says so, one that does not, and a tar."""
    monkeypatch.setattr("xscan.archives.download._MOST_BYTES", 3000)
    if fault is None:
        archive.files[OBSID] |= {pn(exposure="U002"): product(6), pn(): product(0, 100)}
    else:
        archive.misbehave("PIEVLI", fault)
    assert says in refused(fetch_nxsa(OBSID), Reason.BAD_PRODUCT)
    assert archive.count("PIEVLI") == 1


def test_plain_fits_is_a_product_too(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    name = pn().replace("FTZ", "FIT")
    archive.files[OBSID] = {name: fits_bytes(1)}
    archive.misbehave("PIEVLI", edited(lambda body: body[:-3000]))
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])


def test_a_page_with_links_is_no_listing(archive: BadArchive, tmp_path: Path) -> None:
    archive.misbehave("PPS/", page('<html>Down. <a href="/help/">Help</a></html>'))
    with make_fetch("heasarc", archive, tmp_path, FakeClock().clock()) as fetch:
        assert_intact(fetch(OBSID), archive.files[OBSID])


def test_a_listed_file_that_is_not_given_is_trouble(archive: BadArchive, tmp_path: Path) -> None:
    archive.misbehave(mos("M1"), status(404))
    with make_fetch("heasarc", archive, tmp_path, FakeClock().clock()) as fetch:
        assert mos("M1") in refused(fetch(OBSID), Reason.ARCHIVE_TROUBLE)
        assert_intact(fetch(OBSID), archive.files[OBSID])


def test_tables_that_do_not_answer_are_no_fact(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    archive.replies["/tap/"] = Reply(b"<html>maintenance</html>")
    assert "something else than rows" in refused(fetch_nxsa("0999999999"), Reason.ARCHIVE_TROUBLE)
    archive.replies["/tap/"] = Reply(b"observation_id\n", declare_length=False)
    assert "it may be cut short" in refused(fetch_nxsa("0999999999"), Reason.ARCHIVE_TROUBLE)
    archive.replies["/tap/"] = Reply(b"moved", 404)
    assert "404" in refused(fetch_nxsa("0999999999"), Reason.ARCHIVE_TROUBLE)


def test_another_process_that_was_faster(archive: BadArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_fetch("nxsa", archive, tmp_path, FakeClock().clock()) as fetch:
        locked = fetch_module._locked

        def late(work: Path, obsid: str) -> object:
            monkeypatch.undo()
            fetch(obsid)
            work.mkdir()
            return locked(work, obsid)

        monkeypatch.setattr(fetch_module, "_locked", late)
        assert fetch(OBSID).state == "present"
    assert len(archive.asked) == 4
    assert list((tmp_path / WORK).iterdir()) == []


@pytest.mark.parametrize("place", ["", "pps"])
def test_files_of_your_own_are_left_alone(fetch: Fetch, archive: BadArchive, tmp_path: Path, place: str) -> None:
    mine = tmp_path / "data" / OBSID / place / pn()
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    outcome = fetch(OBSID)
    assert (outcome.state, outcome.folder) == ("present", tmp_path / "data" / OBSID)
    assert "your own" in outcome.message
    assert mine.read_bytes() == b"mine"
    assert archive.asked == []


def test_a_folder_of_something_else_is_in_the_way(fetch_nxsa: Fetch, archive: BadArchive, tmp_path: Path) -> None:
    other = tmp_path / "data" / OBSID / "thesis.tex"
    other.parent.mkdir(parents=True)
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])  # an empty folder is not
    other = tmp_path / "data" / "0000000005" / "thesis.tex"
    other.parent.mkdir()
    other.touch()
    refused(fetch_nxsa("0000000005"), Reason.NO_EVENT_LISTS)


def test_a_mirror_on_disk(archive: BadArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror" / OBSID / "pps"
    mirror.mkdir(parents=True)
    for name, data in archive.files[OBSID].items():
        (mirror / name).write_bytes(data)
    (mirror / "INDEX.HTM").touch()
    monkeypatch.chdir(tmp_path)
    with open_web(IMPATIENT) as web:
        fetch = Fetcher(open_archive("folder:mirror", web), tmp_path / "data").fetch
        outcome = fetch(OBSID)
        assert_intact(outcome, archive.files[OBSID])
        assert (outcome.folder / pn()).is_symlink()
        assert fetch(OBSID).state == "present"
        refused(fetch("0999999999"), Reason.NO_SUCH_OBSERVATION)
        (tmp_path / "mirror" / "0000000002").mkdir()
        assert fetch("0000000002").reason == Reason.NO_PRODUCTS
        (tmp_path / "mirror" / "0000000003").mkdir()
        (tmp_path / "mirror" / "0000000003" / pn("0000000003")).write_bytes(product(1)[:-9])
        assert pn("0000000003") in refused(fetch("0000000003"), Reason.BAD_PRODUCT)
        with pytest.raises(ConfigError, match="no such folder"):
            Fetcher(open_archive("folder:elsewhere", web), tmp_path / "data").fetch("0999999999")


@pytest.mark.parametrize("text", ["esa", "folder", "folder:", "nxsa:ftp://somewhere", ""])
def test_a_source_that_is_none(text: str) -> None:
    with open_web(IMPATIENT) as web, pytest.raises(ConfigError):
        open_archive(text, web)


def test_a_full_disk_ends_it_in_one_line(
    fetch_nxsa: Fetch, archive: BadArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveError, match="No space left on device") as caught:
        fetch_nxsa(OBSID)
    monkeypatch.undo()
    assert caught.value.reason is Reason.DISK
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / OBSID).exists()
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])


def test_an_unforeseen_error_is_one_observation(
    fetch_nxsa: Fetch, archive: BadArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("xscan.archives.download.check_fits", broken)
    assert "ZeroDivisionError" in refused(fetch_nxsa(OBSID), Reason.ERROR)


def test_two_at_once_do_not_meet(archive: BadArchive, tmp_path: Path) -> None:
    archive.misbehave("PIEVLI", changed(hang_at=1000))
    outcomes = []

    def run() -> None:
        with make_fetch(
            "nxsa", archive, tmp_path, FakeClock().clock(), RequestLimits(requests_per_s=1e6, read_s=50)
        ) as fetch:
            outcomes.append(fetch(OBSID))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    while not archive.asked:
        time.sleep(0.005)
    threads[1].start()
    threads[1].join()
    archive.released.set()  # the first has waited for its answer till now
    threads[0].join()
    assert [outcome.reason for outcome in outcomes] == [Reason.BUSY, None]
    assert (tmp_path / OBSID).is_dir()
