"""Download one URL to verified files in a folder: streamed, resumed, checked, then renamed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from email.message import Message
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from xscan.archives.answer import Answer, AttemptError, MissingError
from xscan.archives.offer import Delivery, Offer, SavedFile
from xscan.archives.partial import PartialFile, find_partial
from xscan.archives.tar import BLOCK, Member, TarError, looks_like_tar, members
from xscan.archives.verify import check_fits
from xscan.archives.web import UNCHANGED, Web
from xscan.errors import DataError, Reason

__all__ = ["download", "unchanged"]

_MOST_BYTES = 16 << 30  # of one answer; much more than any product has
_PIECE = 1 << 20
_MOST_TEXT = 64 << 10  # bytes read of a page that explains why there is no file
_GZIP, _FITS = b"\x1f\x8b", b"SIMPLE  ="
_PRIVATE = re.compile(r"proprietary|not (?:yet )?public|not authori[sz]ed|your credentials", re.I)
_NOTHING = re.compile(
    r"\bno (?:\w+ ){0,2}(?:product|file|result)s? (?:(?:was|were|is|are) )?(?:found|match|available)"
    r"|\b(?:product|file|result)s? (?:(?:was|were|is|are) not found|(?:does|do) not exist)",
    re.I,
)


def download(web: Web, offer: Offer, into: Path) -> Delivery:
    """Download the files of an offer into a folder.

    The server may send one file, a tar of several, or an answer that it has none. A file gets its name only when it is
    complete, verified and on disk. The beginning of an incomplete file is kept and continued, now or by another
    process, where the server allows it.

    Parameters
    ----------
    web : Web
    offer : Offer
    into : Path

    Returns
    -------
    Delivery
        Without files if the archive has none.

    Raises
    ------
    ArchiveError
        ``archive_trouble``, ``bad_product`` or ``not_public``.
    OSError
        If the disk does not accept it.
    """
    return web.persist(offer, lambda: _attempt(web, offer, into))


def unchanged(web: Web, offer: Offer, files: tuple[SavedFile, ...]) -> bool:
    """Return whether the archive still has the same file that was taken, without downloading it.

    Compared are ETag, Last-Modified, or at least the length. Files of a tar have none of these, and
    count as changed.
    """
    return len(files) == 1 and web.persist(offer, lambda: _is_same(web, offer, files[0]))


def _is_same(web: Web, offer: Offer, file: SavedFile) -> bool:
    known = {"If-None-Match": file.etag, "If-Modified-Since": file.last_modified}
    try:
        with web.get(offer.place, {name: value for name, value in known.items() if value}) as answer:
            if answer.status == UNCHANGED:
                return True
            now = SavedFile(file.name, answer.length or 0, answer.header("ETag"), answer.header("Last-Modified"))
            return answer.status == 200 and now == file
    except MissingError:
        return False


def _attempt(web: Web, offer: Offer, into: Path) -> Delivery:
    partial = find_partial(into, offer.place)
    try:
        with web.get(offer.place, partial.range() if partial else {}) as answer:
            if answer.status == 200:
                return _receive(answer, offer, into)
            if partial is None or not partial.is_continued_by(answer):
                if partial is not None:
                    partial.remove()
                raise AttemptError(f"the archive answers with another range than asked for ({answer.status})")
            _write(partial.path, answer.read, "ab")
            return Delivery((_finish(partial),))
    except MissingError:
        return Delivery()


def _receive(answer: Answer, offer: Offer, into: Path) -> Delivery:
    """Store an answer from its beginning: a file, a tar, or a page."""
    stream = _Stream(answer.read)
    head = stream.peek(BLOCK)
    if not head:
        if answer.shows_its_end:
            return Delivery()
        raise AttemptError("the connection broke before the first byte")  # else it would count as empty
    if looks_like_tar(head):
        return _unpack(stream.read, offer, into)
    if not head.startswith((_GZIP, _FITS)):
        return _page(stream)
    name = _file_name(answer, offer)
    if not offer.wants(name):
        raise AttemptError(f"the archive sends {name!r}, which was not asked for", Reason.BAD_PRODUCT, again=False)
    if (answer.length or 0) > _MOST_BYTES:
        raise AttemptError(f"{name}: {answer.length} bytes, no product is so large", Reason.BAD_PRODUCT, again=False)
    partial = PartialFile(into, offer.place, name, answer.length, answer.header("ETag"), answer.header("Last-Modified"))
    partial.begin()
    _write(partial.path, stream.read, "wb")
    return Delivery((_finish(partial),))


class _Stream:
    """A body whose beginning can be examined before it is read."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (piece := self._read(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead[:size]

    def read(self, most: int) -> bytes:
        if not self._ahead:
            return self._read(most)
        piece, self._ahead = self._ahead[:most], self._ahead[most:]
        return piece


def _file_name(answer: Answer, offer: Offer) -> str:
    """Return the name that the server gives to the file."""
    message = Message()
    message["Content-Disposition"] = answer.header("Content-Disposition")
    return message.get_filename() or unquote(urlsplit(offer.place).path.rpartition("/")[2])


def _page(stream: _Stream) -> Delivery:
    """Interpret a page that was sent instead of a file.

    Only clear words count as "there is none", because that is stored as a fact. Any other page, such as one about
    maintenance, is an error of the archive.
    """
    text = " ".join(re.sub(r"<[^>]*>", " ", stream.peek(_MOST_TEXT).decode("utf-8", "replace")).split())
    if not text.isprintable():
        raise AttemptError("the archive sends neither FITS nor tar", Reason.BAD_PRODUCT)
    if _PRIVATE.search(text):
        raise AttemptError(f"the archive says: {text[:200]}", Reason.NOT_PUBLIC, again=False)
    if _NOTHING.search(text):
        return Delivery()
    raise AttemptError(f"the archive sends a page, not a file: {text[:200]}")


def _write(path: Path, read: Callable[[int], bytes], mode: str) -> None:
    with path.open(mode) as stream:
        while piece := read(_PIECE):
            stream.write(piece)
            if stream.tell() > _MOST_BYTES:
                raise AttemptError(f"{path.name}: no end after {_MOST_BYTES} bytes", Reason.BAD_PRODUCT, again=False)
        stream.flush()
        os.fsync(stream.fileno())


def _finish(partial: PartialFile) -> SavedFile:
    """Verify a file that has arrived, and give it its name; raise AttemptError if it is not a complete file."""
    try:
        check_fits(partial.path)
    except DataError as error:
        partial.remove()
        raise AttemptError(str(error), Reason.BAD_PRODUCT) from None
    size = partial.path.stat().st_size
    os.replace(partial.path, partial.folder / partial.name)
    partial.note.unlink(missing_ok=True)
    return SavedFile(partial.name, size, partial.etag, partial.last_modified)


def _unpack(read: Callable[[int], bytes], offer: Offer, into: Path) -> Delivery:
    """Take the requested files out of a tar; only their bare names are used, so that they stay in the folder."""
    saved: dict[str, SavedFile] = {}
    remarks = []
    taken = 0
    try:
        for member in members(read):
            name = PurePosixPath(member.name).name
            odd = _oddity(member)
            taken += member.size
            if taken > _MOST_BYTES:
                raise AttemptError(f"the tar holds more than {_MOST_BYTES} bytes", Reason.BAD_PRODUCT, again=False)
            if odd and offer.wants(name):
                raise AttemptError(f"the tar's {member.name!r} {odd}", Reason.BAD_PRODUCT, again=False)
            if odd:
                remarks.append(f"{offer.key}: left out of the tar: {member.name!r} {odd}")
            elif member.kind == "file" and offer.wants(name):
                partial = PartialFile(into, offer.place, name, member.size, "", "")
                partial.begin()
                _write(partial.path, member.read, "wb")
                saved[name] = _finish(partial)
    except TarError as error:
        raise AttemptError(f"the tar is damaged: {error}", Reason.BAD_PRODUCT) from None
    return Delivery(tuple(saved.values()), tuple(remarks))


def _oddity(member: Member) -> str:
    """Return why a member cannot belong to a tar of products; empty if it can."""
    if member.kind not in ("file", "folder"):
        return f"is {member.kind}"
    path = PurePosixPath(member.name)
    return "leads out of the folder" if path.is_absolute() or ".." in path.parts else ""
