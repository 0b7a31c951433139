"""One observation from an archive that behaves badly: every file intact, or a reason."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archive_server import (
    BadArchive,
    Fault,
    Reply,
    changed,
    declared,
    edited,
    file_reply,
    make_tar,
    page,
    serving,
    status,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from products import OBSID, fits_bytes, mos, observation, pn, product, sources

from xscan.archives import Fetched, Fetcher, Manners, open_source, open_web
from xscan.archives import fetch as fetch_module
from xscan.archives.answer import MissingError
from xscan.archives.fetch import JOURNAL, WORK
from xscan.archives.manners import Clock
from xscan.archives.marker import MARKER, Marker, read_marker, write_marker
from xscan.errors import ArchiveError, ConfigError, Reason

IMPATIENT = Manners(requests_per_s=1e6, tries=4, connect_s=2.0, read_s=0.3, stall_s=0.2, stall_bytes=10_000)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class FakeClock:
    """Runs only while somebody sleeps; remembers how long."""

    time_s: float = 100.0
    slept: list[float] = field(default_factory=list)
    chance: float = 0.5

    def clock(self) -> Clock:
        return Clock(lambda: self.time_s, self.sleep, lambda: self.chance, lambda: NOON)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time_s += seconds


@pytest.fixture
def archive() -> Iterator[BadArchive]:
    held = BadArchive()
    held.files[OBSID] = observation()
    with serving(held):
        yield held


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["nxsa", "heasarc"])
def fetch(request: pytest.FixtureRequest, archive: BadArchive, tmp_path: Path, clock: FakeClock) -> Iterator[object]:
    """Fetch an observation from either source into ./data, without waiting."""
    with make_fetch(request.param, archive, tmp_path / "data", clock.clock()) as call:
        yield call


@pytest.fixture
def fetch_nxsa(archive: BadArchive, tmp_path: Path, clock: FakeClock) -> Iterator[Callable[[str], Fetched]]:
    with make_fetch("nxsa", archive, tmp_path / "data", clock.clock()) as call:
        yield call


class make_fetch:  # noqa: N801
    """An open connection, as a context; calling what it gives fetches."""

    def __init__(self, name: str, archive: BadArchive, data: Path, clock: Clock | None, manners: Manners = IMPATIENT):
        self._web = open_web(manners, clock)
        self._source = f"{name}:{archive.url}" + ("/tree" if name == "heasarc" else "")
        self._data = data

    def __enter__(self) -> Callable[[str], Fetched]:
        return Fetcher(open_source(self._source, self._web.__enter__()), self._data).fetch

    def __exit__(self, *error: object) -> None:
        self._web.__exit__(*error)


Fetch = Callable[[str], Fetched]


def assert_intact(outcome: Fetched, files: dict[str, bytes]) -> None:
    """What the folder holds is what the archive has, bit for bit, and its marker says so."""
    assert outcome.state == "fetched", outcome
    held = {path.name: path.read_bytes() for path in outcome.folder.iterdir() if path.name != MARKER}
    assert held == files
    marker = read_marker(outcome.folder)
    assert {file.name: file.bytes for file in marker.files} == {name: len(data) for name, data in files.items()}
    assert marker.holds(outcome.folder)
    assert list((outcome.folder.parent / WORK).iterdir()) == []


def refused(outcome: Fetched, reason: Reason) -> str:
    assert (outcome.state, outcome.reason, outcome.folder) == ("failed", reason, None), outcome
    assert outcome.obsid in outcome.message
    assert "\n" not in outcome.message
    return outcome.message


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


@pytest.mark.parametrize("fault", [status(401), status(403), page("<p>Data protected by proprietary rights</p>")])
def test_refusals_are_not_repeated(fetch_nxsa: Fetch, archive: BadArchive, fault: Fault) -> None:
    archive.misbehave("PIEVLI", fault)
    assert "PIEVLI" in refused(fetch_nxsa(OBSID), Reason.NOT_PUBLIC)
    assert archive.count("PIEVLI") == 1


def test_a_request_that_is_wrong_is_not_repeated(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    archive.misbehave("PIEVLI", status(400))
    assert "400" in refused(fetch_nxsa(OBSID), Reason.ARCHIVE_TROUBLE)
    assert archive.count("PIEVLI") == 1


@pytest.mark.parametrize("answer", ["No products found for your request", "The file was not found"])
def test_words_that_say_there_is_none(fetch_nxsa: Fetch, archive: BadArchive, answer: str) -> None:
    archive.misbehave("M1", page(answer))
    outcome = fetch_nxsa(OBSID)
    assert read_marker(outcome.folder).absent == ("m1",)


PASSING = {
    "503": status(503),
    "500": status(500),
    "429": status(429, Retry_After="7"),
    "html": page("<html><body>The archive is not available, please try later</body></html>"),
    "votable": page('<VOTABLE><INFO name="QUERY_STATUS" value="ERROR">Connection pool exhausted</INFO></VOTABLE>'),
    "hangs before the first byte": changed(hang_at=0),
    "hangs in the middle": changed(hang_at=1500),
    "trickles": changed(trickle=1),
    "cut before the first byte": changed(cut_at=0),
    "cut, no length": changed(cut_at=0, declare_length=False),
    "cut in the middle, no length": changed(cut_at=1500, declare_length=False),
    "cut before the first byte, chunked": changed(cut_at=0, chunked=True),
    "cut in the middle, chunked": changed(cut_at=1500, chunked=True),
    "longer than it is": declared(999_999),
    "shorter than it is": declared(2000),
    "a bit flipped": edited(lambda body: body[:2000] + bytes([body[2000] ^ 1]) + body[2001:]),
    "wrong checksum": edited(lambda body: body[:-8] + bytes(4) + body[-4:]),
    "gzip of something else": edited(lambda body: gzip.compress(b"hello" * 999)),
    "gzip of half a table": edited(lambda body: gzip.compress(gzip.decompress(body)[:6000])),
    "not gzip": edited(lambda body: bytes(9000)),
}


@pytest.mark.parametrize("fault", PASSING)
def test_trouble_that_passes(archive: BadArchive, tmp_path: Path, fault: str) -> None:
    """Each once, on a file: it arrives all the same. Trickling needs real seconds."""
    clock = None if fault == "trickles" else FakeClock().clock()
    name = pn()
    archive.files[OBSID] = {name: product(5, 60_000)}
    archive.misbehave(f"PPS/{name}", PASSING[fault])
    manners = Manners(**{key: getattr(IMPATIENT, key) for key in IMPATIENT.__slots__} | {"first_wait_s": 0.01})
    with make_fetch("heasarc", archive, tmp_path / "data", clock, manners) as fetch:
        assert_intact(fetch(OBSID), archive.files[OBSID])
    assert archive.count(name) == (3 if fault == "longer than it is" else 2)  # asks for bytes past its end first


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        ("503", Reason.ARCHIVE_TROUBLE, "503"),
        ("html", Reason.ARCHIVE_TROUBLE, "not available, please try later"),
        ("cut in the middle, no length", Reason.BAD_PRODUCT, "cut short"),
        ("hangs before the first byte", Reason.ARCHIVE_TROUBLE, "timed out"),
        ("wrong checksum", Reason.BAD_PRODUCT, "CRC"),
    ],
)
def test_trouble_that_stays(
    fetch_nxsa: Fetch, archive: BadArchive, tmp_path: Path, fault: str, reason: Reason, says: str
) -> None:
    """Tried a few times, then a reason that names observation, product and URL; the next run has the rest already."""
    archive.misbehave("MIEVLI", *[PASSING[fault]] * 4)
    said = refused(fetch_nxsa(OBSID), reason)
    assert f"{OBSID}: m1: {archive.url}" in said
    assert says in said
    assert "tried 4 times" in said
    assert not (tmp_path / "data" / OBSID).exists()
    assert_intact(fetch_nxsa(OBSID), archive.files[OBSID])
    assert archive.count("PIEVLI") == 1


def test_waits_grow_and_are_drawn(fetch_nxsa: Fetch, archive: BadArchive, clock: FakeClock) -> None:
    archive.misbehave("PIEVLI", *[status(503)] * 3)
    fetch_nxsa(OBSID)
    long = [seconds for seconds in clock.slept if seconds > 0.1]
    assert long == [0.5 * 2.0, 0.5 * 4.0, 0.5 * 8.0]


def test_waits_grow_to_a_limit(archive: BadArchive, tmp_path: Path, clock: FakeClock) -> None:
    archive.misbehave("PIEVLI", *[status(503)] * 4)
    manners = Manners(requests_per_s=1e6, tries=5, first_wait_s=2.0, longest_wait_s=6.0)
    with make_fetch("nxsa", archive, tmp_path, clock.clock(), manners) as fetch:
        assert fetch(OBSID).state == "fetched"
    assert [seconds for seconds in clock.slept if seconds > 0.1] == [1.0, 2.0, 3.0, 3.0]


def test_all_threads_heed_a_retry_after(archive: BadArchive) -> None:
    """Time stands still here, so that what one thread waits does not help another."""
    slept: list[float] = []
    archive.misbehave("/first", status(429, Retry_After="30"), status(410))
    with open_web(IMPATIENT, Clock(lambda: 0.0, slept.append, lambda: 0.0, lambda: NOON)) as web:

        def ask() -> None:
            with pytest.raises(MissingError), web.get(f"{archive.url}/first"):
                pass

        web.persist("first", ask)
        slept.clear()
        with pytest.raises(MissingError), web.get(f"{archive.url}/second"):
            pass
    assert slept[0] >= 30


@pytest.mark.parametrize("after", ["30", "Mon, 01 Jun 2026 12:00:30 GMT"])
def test_retry_after_is_honoured(fetch_nxsa: Fetch, archive: BadArchive, clock: FakeClock, after: str) -> None:
    archive.misbehave("PIEVLI", status(429, Retry_After=after))
    assert fetch_nxsa(OBSID).state == "fetched"
    assert [seconds for seconds in clock.slept if seconds > 0.1] == [30.0]


def test_an_archive_that_asks_for_an_hour_gets_it(fetch_nxsa: Fetch, archive: BadArchive, clock: FakeClock) -> None:
    archive.misbehave("PIEVLI", status(503, Retry_After="3600"))
    assert "3600 s" in refused(fetch_nxsa(OBSID), Reason.ARCHIVE_TROUBLE)
    assert max(clock.slept, default=0) < 1


def test_requests_are_spread_over_time_by_all_threads(archive: BadArchive, tmp_path: Path, clock: FakeClock) -> None:
    with make_fetch("nxsa", archive, tmp_path, clock.clock(), Manners(requests_per_s=0.25)) as fetch:
        fetch(OBSID)
    assert clock.slept == [4.0] * 3


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


def test_another_process_that_was_faster(archive: BadArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_fetch("nxsa", archive, tmp_path, FakeClock().clock()) as fetch:
        claimed = fetch_module._claimed

        def late(work: Path, obsid: str) -> object:
            monkeypatch.undo()
            fetch(obsid)
            work.mkdir()
            return claimed(work, obsid)

        monkeypatch.setattr(fetch_module, "_claimed", late)
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
        fetch = Fetcher(open_source("folder:mirror", web), tmp_path / "data").fetch
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
            Fetcher(open_source("folder:elsewhere", web), tmp_path / "data").fetch("0999999999")


@pytest.mark.parametrize("text", ["esa", "folder", "folder:", "nxsa:ftp://somewhere", ""])
def test_a_source_that_is_none(text: str) -> None:
    with open_web(IMPATIENT) as web, pytest.raises(ConfigError):
        open_source(text, web)


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
        with make_fetch("nxsa", archive, tmp_path, FakeClock().clock()) as fetch:
            outcomes.append(fetch(OBSID))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    while not archive.asked:
        time.sleep(0.005)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.reason or "" for outcome in outcomes) == ["", Reason.BUSY]
    assert (tmp_path / OBSID).is_dir()
