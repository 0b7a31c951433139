from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xscan.archives.tar import BLOCK, TarError, looks_like_tar, members

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = st.text("abcXYZ019._-/é", min_size=1, max_size=90).filter(lambda name: name.strip("/") == name)


def packed(files: list[tuple[str, bytes]], form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def unpacked(data: bytes, step: int = 100) -> list[tuple[str, bytes]]:
    stream = io.BytesIO(data)
    found = []
    for member in members(lambda most: stream.read(min(most, step))):
        content = b""
        while piece := member.read(step):
            content += piece
        assert len(content) == member.size or member.kind != "file"
        found.append((member.name, content))
    return found


@given(st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=4), st.sampled_from(FORMATS), st.integers(1, 600))
def test_what_the_standard_library_packs(files: list[tuple[str, bytes]], form: int, step: int) -> None:
    assert unpacked(packed(files, form), step) == files


@pytest.mark.parametrize("form", FORMATS[1:])
def test_long_names(form: int) -> None:
    files = [("a" * 150 + "/" + "b" * 120, b"first"), ("short", b"second")]
    assert unpacked(packed(files, form)) == files


@given(st.sampled_from(FORMATS), st.data())
def test_the_end_mark_must_be_there(form: int, data: st.DataObject) -> None:
    whole = packed([("one", bytes(700)), ("d" * 99, b"x")], form)
    end = len(whole.rstrip(b"\0")) // BLOCK * BLOCK + BLOCK
    cut = data.draw(st.integers(0, end + BLOCK - 1))
    with pytest.raises(TarError, match="cut short"):
        unpacked(whole[:cut])
    assert len(unpacked(whole[: end + BLOCK])) == 2


@given(st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_a_header_that_was_damaged(place: int, flip: int) -> None:
    """No change to a header passes, but one that leaves the same checksum or the same number."""
    whole = packed([("one", b"content")], tarfile.USTAR_FORMAT)
    damaged = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
    try:
        found = unpacked(damaged)
    except TarError:
        return
    assert 148 <= place < 156
    assert found == [("one", b"content")]


def test_a_header_that_promises_too_much() -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 10**12
    with pytest.raises(TarError, match="1000000000000 bytes"):
        unpacked(member.tobuf(tarfile.GNU_FORMAT) + bytes(5 * BLOCK))


def test_other_things_are_named_and_empty() -> None:
    kinds = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a link", tarfile.CHRTYPE: "a device"}
    for flag, kind in kinds.items():
        member = tarfile.TarInfo("x")
        member.type, member.linkname = flag, "/etc/passwd"
        stream = io.BytesIO(member.tobuf() + bytes(2 * BLOCK))
        (found,) = members(stream.read)
        assert (found.kind, found.size, found.read(10)) == (kind, 0, b"")


def test_a_tar_is_told_by_its_first_block() -> None:
    whole = packed([("one", b"content")], tarfile.PAX_FORMAT)
    assert looks_like_tar(whole[:BLOCK])
    assert not looks_like_tar(whole[: BLOCK - 1])
    assert not looks_like_tar(bytes(BLOCK))
