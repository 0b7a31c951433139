"""Read a tar as it arrives, without trusting its content.

The standard library's reader accepts a tar that ends between two members, and reads headers of any length into
memory. This one supports fewer features and requires the end mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Member", "TarError", "looks_like_tar", "members"]

BLOCK = 512
_MOST_NAME = 64 << 10  # bytes of a header that only holds a long name
_REGULAR = {b"0", b"\0", b"7"}
_FOLDER = b"5"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL = b"L", b"K", b"x", b"g"
_KINDS = {b"1": "a link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}

Read = Callable[[int], bytes]
"""Return the bytes that have arrived, at most this many; nothing at the end."""


class TarError(Exception):
    """The tar is damaged or cut short."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a tar.

    Attributes
    ----------
    name : str
        As in the tar: it may be absolute, or lead out of the folder.
    kind : str
        ``file``, ``folder``, or a word for any other kind.
    size : int
        Bytes.
    read : callable
        Return its next bytes, at most this many; nothing at its end.
    """

    name: str
    kind: str
    size: int
    read: Read


def looks_like_tar(head: bytes) -> bool:
    """Return whether the first block of a file is that of a tar.

    Examples
    --------
    >>> import io, tarfile
    >>> packed = io.BytesIO()
    >>> tarfile.open(fileobj=packed, mode="w").addfile(tarfile.TarInfo("0990000001/list.FTZ"))
    >>> looks_like_tar(packed.getvalue()), looks_like_tar(b"SIMPLE  =".ljust(2880))
    (True, False)
    """
    return len(head) >= BLOCK and head[257:262] == b"ustar"


def members(read: Read) -> Iterator[Member]:
    """Yield the entries of a tar; bytes of an entry that are not read are skipped.

    Parameters
    ----------
    read : callable

    Raises
    ------
    TarError
        If it is damaged, or ends without its end mark.

    Examples
    --------
    >>> import io, tarfile
    >>> packed = io.BytesIO()
    >>> with tarfile.open(fileobj=packed, mode="w") as tar:
    ...     told = tarfile.TarInfo("0990000001/list.FTZ")
    ...     told.size = 5
    ...     tar.addfile(told, io.BytesIO(b"bytes"))
    >>> [(member.name, member.kind, member.read(100)) for member in members(io.BytesIO(packed.getvalue()).read)]
    [('0990000001/list.FTZ', 'file', b'bytes')]
    """
    long_name = ""
    while True:
        header = _exactly(read, BLOCK)
        if header == bytes(BLOCK):
            return
        size, flag = _size(header), header[156:157]
        if flag in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL):
            if size > _MOST_NAME:
                raise TarError(f"a header of {size} bytes")
            text = _exactly(read, _padded(size))[:size]
            long_name = _long_name(flag, text) or long_name
            continue
        body = _Body(read, 0 if flag in _KINDS or flag == _FOLDER else size)
        kind = "file" if flag in _REGULAR else "folder" if flag == _FOLDER else _KINDS.get(flag, "of an unknown kind")
        yield Member(long_name or _name(header), kind, body.left, body.read)
        body.skip()
        long_name = ""


class _Body:
    """The bytes of one member, and the padding after them."""

    def __init__(self, read: Read, size: int) -> None:
        self.left = size
        self._padding = _padded(size) - size
        self._read = read

    def read(self, most: int) -> bytes:
        if self.left == 0:
            return b""
        piece = self._read(min(most, self.left))
        if not piece:
            raise TarError(f"it is cut short, {self.left} bytes before the end of a file")
        self.left -= len(piece)
        return piece

    def skip(self) -> None:
        while self.read(1 << 20):
            pass
        _exactly(self._read, self._padding)


def _exactly(read: Read, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = read(size - len(data))
        if not piece:
            raise TarError("it is cut short, its end mark is missing")
        data += piece
    return bytes(data)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _size(header: bytes) -> int:
    """Return the size of an entry; raise TarError if its checksum is wrong."""
    blanked = header[:148] + b" " * 8 + header[156:]
    if _number(header[148:156]) != sum(blanked):
        raise TarError("a header is damaged: its checksum is wrong")
    size = _number(header[124:136])
    if size < 0:
        raise TarError("a header is damaged: its size is no number")
    return size


def _number(field: bytes) -> int:
    """Return the value of an octal number, or of a binary one if the first bit is set; -1 if it is neither."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _name(header: bytes) -> str:
    name, prefix = (header[a:b].split(b"\0", 1)[0] for a, b in ((0, 100), (345, 500)))
    whole = prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
    return whole.decode("utf-8", "replace")


def _long_name(flag: bytes, text: bytes) -> str:
    """Return the name that a header of its own gives to the next entry; empty if it holds something else."""
    if flag == _LONG_NAME:
        return text.split(b"\0", 1)[0].decode("utf-8", "replace")
    if flag == _PAX:
        for line in text.split(b"\n"):  # "28 path=..."
            _, _, record = line.partition(b" ")
            if record.startswith(b"path="):
                return record[5:].decode("utf-8", "replace")
    return ""
