"""Read FITS tables from gzip files as fast as they decompress.

Only what event lists need is supported. The file is inflated as a stream (ISA-L), headers are scanned card by
card without building objects, and a column is a strided view of the bytes, in the file's byte order.
A long table is read in parts of a mebibyte that share one buffer: it stays in the processor's cache,
and inflating into it is a quarter cheaper than into fresh memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from xscan.errors import DataError, Reason, is_shortage

__all__ = ["Header", "StreamedTable", "Table", "read_tables", "stream_tables"]

_BLOCK = 2880
_PART_BYTES = 1 << 20
_TAKEN_BYTES = 1 << 23  # more bytes than any table other than EVENTS has, so that these are read without a copy
_MOST_INTEGER = 2.0**62
_MOST_BYTES = 1 << 40  # a larger size means a damaged keyword
MOST = 999  # axes or columns, says the standard
_CARD = 80
_END = b"END     "
_AGAIN = "copy it again, or fetch it again"
_DAMAGED = "the header is damaged; take another copy of the file"
_FORMAT = re.compile(r"(\d*)([LXBIJKAEDCMPQ])")
_QUOTED = re.compile(r"'([^']*(?:''[^']*)*)'")
_CARDS = re.compile(r"(.{8})(..)(.{70})", re.DOTALL)  # a file has thousands: one pass in C, no slices in Python
_DTYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_BROKEN_GZIP: Any = (EOFError, OSError, IsalError)
_WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}


class Header:
    """The keywords of one FITS header; values are parsed when requested.

    Of a keyword that occurs twice the first value counts. Long strings (CONTINUE) are joined.
    """

    def __init__(self, block: bytes) -> None:
        self._cards: dict[str, str] = {}
        last = None
        for keyword, mark, rest in _CARDS.findall(block.decode("latin-1")):
            if mark == "= ":
                last = keyword.rstrip()
                if last in self._cards:
                    last = None
                else:
                    self._cards[last] = rest
            elif keyword == "CONTINUE" and last is not None:
                self._cards[last] += "\0" + mark + rest

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._cards

    def __iter__(self) -> Any:
        return iter(self._cards)

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return a keyword's value (str, bool, int or float), or the default if it is absent."""
        text = self._cards.get(keyword)
        return default if text is None else _value(text)

    def text(self, keyword: str) -> str:
        """Return a keyword's value as text without surrounding blanks; empty if it is absent or undefined."""
        value = self.get(keyword)
        return value.strip() if isinstance(value, str) else "" if value is None else str(value)

    def number(self, keyword: str) -> float | None:
        """Return a keyword's value as a float; None if it is absent or not a finite number.

        Real lists quote some numbers (``TLMIN6  = '1       '``): those count as numbers.
        """
        value = self.get(keyword)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None


def _value(text: str) -> str | bool | int | float | None:
    first, joint, more = text.partition("\0")
    string = _string(first)
    if string is None:
        return _bare(first)
    return _joined(string, more) if joint else string


def _joined(string: str, more: str) -> str:
    for part in more.split("\0"):
        if not string.endswith("&"):
            break
        string = string[:-1] + (_string(part) or "")
    return string


def _bare(text: str) -> str | bool | int | float | None:
    bare = text.partition("/")[0].strip()
    if bare in ("T", "F"):
        return bare == "T"
    try:
        return int(bare)
    except ValueError:
        pass
    try:
        return float(bare.replace("D", "E"))
    except ValueError:
        return bare or None


def _string(text: str) -> str | None:
    text = text.lstrip()
    if not text.startswith("'"):
        return None
    match = _QUOTED.match(text)
    return match[1].replace("''", "'").rstrip() if match else text[1:].rstrip()


@dataclass(frozen=True, slots=True)
class _Column:
    """Position of a column in a row, and how its bytes are converted to numbers."""

    number: int  # as in TTYPEn, from 1
    offset: int
    dtype: np.dtype[Any]
    scale: float
    zero: float

    @property
    def plain(self) -> bool:
        return self.scale == 1.0 and self.zero == 0.0

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.dtype.kind in "iu" and self.scale == int(self.scale) and self.zero == int(self.zero)


@dataclass(frozen=True, slots=True)
class Table:
    """One extension of a file, or a part of its rows.

    Attributes
    ----------
    file : str
        Name of the file, for messages.
    name : str
        EXTNAME, in capitals; ``PRIMARY`` for the first header.
    header : Header
    rows : int
        Rows of a binary table that were read; 0 for anything else.
    """

    file: str
    name: str
    header: Header
    rows: int
    _row_bytes: int
    _places: dict[str, tuple[int, str, int]]  # name -> (offset, letter, number of the column)
    _bytes: memoryview = field(default_factory=lambda: memoryview(b""))
    _columns: dict[str, _Column] = field(default_factory=dict)  # columns used so far, shared by all parts

    def __contains__(self, column: str) -> bool:
        return column in self._places

    def number(self, column: str) -> int:
        """Return a column's number, from 1, as in TTYPEn."""
        return self._places[column][2]

    def null(self, column: str) -> int | None:
        """Return the value by which :meth:`column` marks a missing number, or None."""
        null = self.header.number(f"TNULL{self.number(column)}")
        if null is None:
            return None
        described = self._describe(column)
        value = null * described.scale + described.zero
        return int(value) if abs(value) < _MOST_INTEGER else None  # larger than any number of a column

    def column(self, name: str, kind: str = "iuf") -> NDArray[Any]:
        """Return one scalar column, shape (rows,), in the file's byte order unless it is scaled.

        Parameters
        ----------
        name : str
            TTYPE of the column.
        kind : str
            NumPy kinds that are acceptable: ``"iu"`` where only integers make sense.

        Raises
        ------
        DataError
            If the column is missing, or is not a scalar number of an acceptable kind.
        """
        column = self._describe(name)
        if column.dtype.kind not in kind or not (column.plain or column.whole or "f" in kind):
            raise DataError(
                Reason.NO_EVENTS_TABLE,
                f"{self.file}: column {name} of {self.name} has format "
                f"{self.header.text(f'TFORM{column.number}')}, not one number a row; take the list as "
                f"SAS or the pipeline made it",
            )
        if self.rows == 0:
            return np.empty(0, column.dtype)
        strides = (self._row_bytes,)
        values: NDArray[Any] = np.ndarray((self.rows,), column.dtype, self._bytes, column.offset, strides)
        if column.plain:
            return values
        if column.whole:
            return values.astype(np.int64) * int(column.scale) + int(column.zero)
        return values * column.scale + column.zero

    def _describe(self, name: str) -> _Column:
        if name not in self._columns:
            if name not in self._places:
                known = ", ".join(self._places)
                raise DataError(
                    Reason.NO_EVENTS_TABLE,
                    f"{self.file}: the table {self.name} has no column {name} (found {known or 'none'}); the tool that "
                    f"made the file left it out: SAS's evselect keeps all columns",
                )
            offset, letter, number = self._places[name]
            scale, zero = (self.header.number(f"{key}{number}") for key in ("TSCAL", "TZERO"))
            if max(abs(scale or 0.0), abs(zero or 0.0)) > _MOST_INTEGER:
                raise DataError(
                    Reason.NO_EVENTS_TABLE,
                    f"{self.file}: column {name} of {self.name} has TSCAL {scale} and TZERO {zero}, no numbers "
                    f"to scale by; {_DAMAGED}",
                )
            self._columns[name] = _Column(
                number, offset, np.dtype(_DTYPES.get(letter, "S1")), scale or 1.0, zero or 0.0
            )
        return self._columns[name]


class StreamedTable:
    """An extension whose rows have not been read yet: call one of the two reading methods, or neither.

    Attributes
    ----------
    head : Table
        Name, header, columns and number of rows; without the rows.
    n_bytes : int
        Size of the data behind the header.
    """

    def __init__(self, head: Table, source: _Source, n_bytes: int) -> None:
        self.head = head
        self._source = source
        self.n_bytes = n_bytes
        self._left = n_bytes

    def whole(self) -> Table:
        """Read all rows."""
        head = self.head
        size = head.rows * head._row_bytes
        return replace(head, _bytes=self._take(size))

    def parts(self) -> Iterator[Table]:
        """Yield the rows in parts; each part is valid until the next one is requested."""
        head = self.head
        if head.rows == 0 or head._row_bytes == 0:
            return
        most = max(_PART_BYTES // head._row_bytes, 1)
        buffer = memoryview(bytearray(min(most, head.rows) * head._row_bytes))
        left = head.rows
        while left:
            rows = min(most, left)
            part = buffer[: rows * head._row_bytes]
            self._fill(part)
            left -= rows
            yield replace(head, rows=rows, _bytes=part)

    def skip(self) -> None:
        """Skip the data that has not been read."""
        waste = memoryview(bytearray(max(min(self._left, _PART_BYTES), _BLOCK)))
        while self._left:
            self._fill(waste[: min(self._left, len(waste))])
        self._source.fill(waste[: -self._source.at % _BLOCK])  # the last block of a file may lack its padding

    def _take(self, size: int) -> memoryview:
        data = bytearray()
        while len(data) < size:  # piece by piece, because a damaged keyword may state any size
            piece = bytearray(min(size - len(data), _TAKEN_BYTES))
            self._fill(memoryview(piece))
            if data:
                data += piece
            else:
                data = piece
        return memoryview(data).toreadonly()

    def _fill(self, part: memoryview) -> None:
        got = self._source.fill(part)
        self._left -= got
        if got < len(part):
            head, at = self.head, self._source.at
            raise DataError(
                Reason.UNREADABLE,
                f"{head.file}: the table {head.name} should end at byte {at + self._left}, the file does at {at}; "
                f"it is cut short; {_AGAIN}",
            )


class _Source:
    """The bytes of a file, inflated if it is gzip; errors become DataErrors of one line."""

    def __init__(self, path: Path) -> None:
        self.file = path.name
        self.at = 0
        try:
            raw = path.open("rb")
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
        except OSError as error:
            if is_shortage(error):
                raise
            raise DataError(Reason.UNREADABLE, f"{path.name}: cannot be read: {error.strerror}") from None
        self._stream = cast(BinaryIO, igzip.IGzipFile(fileobj=raw) if packed else raw)
        self._raw = raw

    def close(self) -> None:
        self._raw.close()

    def fill(self, part: memoryview) -> int:
        """Read until a buffer is full or the file ends; return the number of bytes read."""
        filled = 0
        try:
            while filled < len(part) and (got := self._stream.readinto(part[filled:])):  # type: ignore[attr-defined]
                filled += got
        except _BROKEN_GZIP as error:
            whole = "is cut short" if isinstance(error, EOFError) else f"is corrupt ({error})"
            raise DataError(Reason.UNREADABLE, f"{self.file}: the gzip stream {whole}; {_AGAIN}") from None
        self.at += filled
        return filled


def stream_tables(path: Path) -> Generator[StreamedTable, None, None]:
    """Yield the extensions of a FITS file, gzip or plain, beginning with the primary header.

    Data of a table that was not read is skipped when the next table is requested; at the end the checksum
    of a gzip file is checked.

    Raises
    ------
    DataError
        ``unreadable``: the file is missing, cut short, corrupt or not FITS; the message says which.

    Examples
    --------
    Names of the first extensions of an event list; no row of them is kept:

    >>> tables = stream_tables(next(folder.glob("*M1S*EVLI*")))
    >>> [next(tables).head.name for _ in range(3)]
    ['PRIMARY', 'EVENTS', 'OFFSETS']
    """
    source = _Source(path)
    try:
        block = _block(source)
        if not block.startswith(b"SIMPLE  ="):
            looks = block[:200].lstrip().lower()
            page = looks.startswith((b"<!doctype", b"<html", b"<?xml"))
            what = "an HTML page, which a server sent in place of the file" if page else "no FITS file"
            raise DataError(Reason.UNREADABLE, f"{path.name}: this is {what}; {_AGAIN if page else 'take it away'}")
        while block.startswith((b"SIMPLE  =", b"XTENSION")):
            table = _read_head(source, block)
            yield table
            table.skip()
            block = _block(source)
        while block:  # to the end of the file, where the checksum is
            block = _block(source)
    finally:
        source.close()


def read_tables(path: Path) -> list[Table]:
    """Read a FITS file, gzip or plain: the primary header first, then every extension.

    Raises
    ------
    DataError
        As :func:`stream_tables`.

    Examples
    --------
    >>> [(table.name, "RA" in table) for table in read_tables(next(folder.glob("*OBSMLI*")))]
    [('PRIMARY', False), ('SRCLIST', True)]
    """
    return [table.whole() for table in stream_tables(path)]


def _block(source: _Source) -> bytes:
    block = bytearray(_BLOCK)
    return bytes(block[: source.fill(memoryview(block))])


def _has_end(block: bytes) -> bool:
    at = block.find(_END)
    while at >= 0 and at % _CARD:  # within a text
        at = block.find(_END, at + 1)
    return at >= 0


def _read_head(source: _Source, block: bytes) -> StreamedTable:
    """Read a header whose first block is known; return its table, whose data follows in the stream."""
    start, blocks = source.at - len(block), [block]
    while not _has_end(blocks[-1]):
        blocks.append(_block(source))
        if len(blocks[-1]) < _BLOCK:
            raise DataError(
                Reason.UNREADABLE,
                f"{source.file}: a header at byte {start} has no END; the file is cut short; {_AGAIN}",
            )
    file, header = source.file, Header(b"".join(blocks))
    axes = [_size(header, file, f"NAXIS{i + 1}") for i in range(_size(header, file, "NAXIS", MOST))]
    size = abs(_size(header, file, "BITPIX")) // 8 if axes else 0
    for axis in axes:
        size *= axis
    size += _size(header, file, "PCOUNT")
    if size > _MOST_BYTES:
        raise DataError(Reason.UNREADABLE, f"{file}: a table of {size} bytes cannot be; {_DAMAGED}")
    name = header.text("EXTNAME").upper() if start else "PRIMARY"
    is_table = header.text("XTENSION") == "BINTABLE" and len(axes) == 2
    if is_table and header.get("BITPIX") != 8:
        raise DataError(Reason.UNREADABLE, f"{file}: BITPIX of a table is {header.get('BITPIX')!r}, not 8; {_DAMAGED}")
    columns = _columns(header, file, axes[0]) if is_table else {}
    head = Table(file, name, header, axes[1] if is_table else 0, axes[0] if is_table else 0, columns)
    return StreamedTable(head, source, size)


def _size(header: Header, file: str, keyword: str, most: int = 1 << 40) -> int:
    value = header.get(keyword, 0)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or abs(value) > most or (value < 0 and keyword != "BITPIX"):
        raise DataError(Reason.UNREADABLE, f"{file}: the keyword {keyword} is {value!r}, no size; {_DAMAGED}")
    return value


def _columns(header: Header, file: str, row_bytes: int) -> dict[str, tuple[int, str, int]]:
    columns: dict[str, tuple[int, str, int]] = {}
    offset = 0
    for number in range(1, _size(header, file, "TFIELDS", MOST) + 1):
        match = _FORMAT.match(header.text(f"TFORM{number}"))
        if match is None:
            raise DataError(Reason.UNREADABLE, f"{file}: TFORM{number} is missing or odd; {_DAMAGED}")
        count = int(match[1]) if match[1] else 1
        letter = match[2] if count == 1 else "A"  # a vector is skipped like a string
        columns.setdefault(header.text(f"TTYPE{number}").upper(), (offset, letter, number))
        offset += (count + 7) // 8 if match[2] == "X" else count * _WIDTHS[match[2]]
    if offset != row_bytes:
        raise DataError(
            Reason.UNREADABLE,
            f"{file}: the columns take {offset} bytes, a row has {row_bytes}; {_DAMAGED}",
        )
    return columns
