"""Trouble of an archive that passes or stays: how often it is asked again, and how long is waited."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.archive_server import BadArchive, Fault, changed, declared, edited, page, status
from helpers.fetching import (
    IMPATIENT,
    NOON,
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
from helpers.products import OBSID, pn, product

from xscan.archives import RequestLimits, open_web
from xscan.archives.answer import MissingError
from xscan.archives.request_limits import Clock
from xscan.errors import Reason

__all__ = ["archive", "clock", "fetch", "fetch_nxsa"]  # fixtures


@pytest.mark.parametrize("fault", [status(401), status(403), page("<p>Data protected by proprietary rights</p>")])
def test_refusals_are_not_repeated(fetch_nxsa: Fetch, archive: BadArchive, fault: Fault) -> None:
    archive.misbehave("PIEVLI", fault)
    assert "PIEVLI" in refused(fetch_nxsa(OBSID), Reason.NOT_PUBLIC)
    assert archive.count("PIEVLI") == 1


def test_a_request_that_is_wrong_is_not_repeated(fetch_nxsa: Fetch, archive: BadArchive) -> None:
    archive.misbehave("PIEVLI", status(400))
    assert "400" in refused(fetch_nxsa(OBSID), Reason.ARCHIVE_TROUBLE)
    assert archive.count("PIEVLI") == 1


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
    limits = replace(IMPATIENT, first_wait_s=0.01, stall_s=1.0)
    with make_fetch("heasarc", archive, tmp_path / "data", clock, limits) as fetch:
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
    limits = RequestLimits(requests_per_s=1e6, tries=5, first_wait_s=2.0, longest_wait_s=6.0)
    with make_fetch("nxsa", archive, tmp_path, clock.clock(), limits) as fetch:
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
    with make_fetch("nxsa", archive, tmp_path, clock.clock(), RequestLimits(requests_per_s=0.25)) as fetch:
        fetch(OBSID)
    assert clock.slept == [4.0] * 3
