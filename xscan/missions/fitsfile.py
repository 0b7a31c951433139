"""Read FITS tables from gzip files as fast as they decompress.

Only what event lists need: the file is inflated in one go (ISA-L), headers are scanned card by
card without building objects, and a table is one structured view of the bytes, converted column
by column when asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from xscan.errors import DataError, Reason

__all__ = ["Header", "Table", "read_tables"]

_BLOCK = 2880
MOST = 999  # axes or columns, says the standard
_CARD = 80
_FORMAT = re.compile(r"(\d*)([LXBIJKAEDCMPQ])")
_DTYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_BROKEN_GZIP: Any = (EOFError, OSError, IsalError)
_WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}


class Header:
    """The keywords of one FITS header; values are parsed when asked for.

    A keyword that stands twice keeps its first value. Long strings (CONTINUE) are joined.
    """

    def __init__(self, block: bytes) -> None:
        self._cards: dict[str, str] = {}
        last = None
        for i in range(0, len(block), _CARD):
            card = block[i : i + _CARD].decode("latin-1")
            if card[8:10] == "= ":
                last = card[:8].rstrip()
                if last in self._cards:
                    last = None
                else:
                    self._cards[last] = card[10:]
            elif card.startswith("CONTINUE") and last is not None:
                self._cards[last] += "\0" + card[8:]

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._cards

    def __iter__(self) -> Any:
        return iter(self._cards)

    def get(self, keyword: str, default: Any = None) -> Any:
        """Give a keyword's value (str, bool, int or float), or the default if it is not there."""
        text = self._cards.get(keyword)
        return default if text is None else _value(text)

    def text(self, keyword: str) -> str:
        """Give a keyword's value as text without surrounding blanks; empty if it is absent or undefined."""
        value = self.get(keyword)
        return value.strip() if isinstance(value, str) else "" if value is None else str(value)

    def number(self, keyword: str) -> float | None:
        """Give a keyword's value as a float; None if it is not there or not a finite number.

        Real lists quote some numbers (``TLMIN6  = '1       '``): those count as numbers.
        """
        value = self.get(keyword)
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        return number if np.isfinite(number) else None


def _value(text: str) -> str | bool | int | float | None:
    parts = [_string(part) for part in text.split("\0")]
    if parts[0] is not None:
        joined = parts[0]
        for part in parts[1:]:
            if not joined.endswith("&"):
                break
            joined = joined[:-1] + (part or "")
        return joined
    bare = text.split("\0")[0].split("/")[0].strip()
    if bare in ("T", "F"):
        return bare == "T"
    for convert in (int, lambda number: float(number.replace("D", "E"))):
        try:
            return convert(bare)
        except ValueError:
            continue
    return bare or None


def _string(text: str) -> str | None:
    text = text.lstrip()
    if not text.startswith("'"):
        return None
    out, i = [], 1
    while i < len(text):
        if text[i] == "'":
            if text[i + 1 : i + 2] != "'":
                break
            i += 1
        out.append(text[i])
        i += 1
    return "".join(out).rstrip()


@dataclass(frozen=True, slots=True)
class Table:
    """One extension of a file.

    Attributes
    ----------
    file : str
        Name of the file, for messages.
    name : str
        EXTNAME, in capitals; ``PRIMARY`` for the first header.
    header : Header
    rows : int
        NAXIS2 of a binary table; 0 for anything else.
    """

    file: str
    name: str
    header: Header
    rows: int
    _bytes: memoryview
    _row_bytes: int
    _columns: dict[str, tuple[int, str, int]]  # name -> (offset, letter, number of the column)

    def __contains__(self, column: str) -> bool:
        return column in self._columns

    def number(self, column: str) -> int:
        """Give a column's number, from 1, as it stands in TTYPEn."""
        return self._columns[column][2]

    def null(self, column: str) -> int | None:
        """Give the value by which :meth:`column` marks a missing number, or None."""
        null = self.header.number(f"TNULL{self.number(column)}")
        if null is None:
            return None
        scale, zero = self._scaling(self.number(column))
        return int(null * scale + zero)

    def _scaling(self, number: int) -> tuple[float, float]:
        return self.header.number(f"TSCAL{number}") or 1.0, self.header.number(f"TZERO{number}") or 0.0

    def column(self, name: str, kind: str = "iuf") -> NDArray[Any]:
        """Give one scalar column, shape (rows,), in the file's byte order unless it is scaled.

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
        if name not in self._columns:
            known = ", ".join(self._columns)
            raise DataError(
                Reason.NO_EVENTS_TABLE,
                f"{self.file}: the table {self.name} has no column {name} (found {known or 'none'}); "
                f"download the file again",
            )
        offset, letter, number = self._columns[name]
        scale, zero = self._scaling(number)
        dtype = np.dtype(_DTYPES.get(letter, "S1"))
        plain = scale == 1.0 and zero == 0.0
        if dtype.kind not in kind or (not plain and scale != int(scale) and "f" not in kind):
            raise DataError(
                Reason.NO_EVENTS_TABLE,
                f"{self.file}: column {name} of {self.name} has format "
                f"{self.header.text(f'TFORM{number}')}, not one number a row; download the file again",
            )
        if self.rows == 0:
            return np.empty(0, dtype)
        values: NDArray[Any] = np.ndarray((self.rows,), dtype, self._bytes, offset=offset, strides=(self._row_bytes,))
        if plain:
            return values
        if scale == int(scale) and zero == int(zero) and dtype.kind in "iu":
            return values.astype(np.int64) * int(scale) + int(zero)
        return values * scale + zero


def read_tables(path: Path) -> list[Table]:
    """Read a FITS file, gzip or plain.

    Returns
    -------
    list of Table
        The primary header first, then every extension, in the order of the file.

    Raises
    ------
    DataError
        ``unreadable``: the file is missing, cut short, corrupt or not FITS; the message says which.
    """
    data = _inflate(path)
    if not data.startswith(b"SIMPLE  ="):
        looks = data[:200].lstrip().lower()
        what = "an HTML page" if looks.startswith((b"<!doctype", b"<html", b"<?xml")) else "no FITS file"
        raise DataError(Reason.UNREADABLE, f"{path.name}: this is {what}; download the file again")
    tables: list[Table] = []
    view = memoryview(data)
    start = 0
    while start < len(data) and (start == 0 or data.startswith(b"XTENSION", start)):
        table, start = _read_table(path.name, data, view, start)
        tables.append(table)
    return tables


def _inflate(path: Path) -> bytes:
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DataError(Reason.UNREADABLE, f"{path.name}: cannot be read: {error.strerror}") from None
    if not packed.startswith(b"\x1f\x8b"):
        return packed
    try:
        return igzip.decompress(packed)
    except _BROKEN_GZIP as error:
        whole = "is cut short" if isinstance(error, EOFError) else f"is corrupt ({error})"
        raise DataError(Reason.UNREADABLE, f"{path.name}: the gzip stream {whole}; download the file again") from None


def _read_table(file: str, data: bytes, view: memoryview, start: int) -> tuple[Table, int]:
    end = start
    while True:
        block = data[end : end + _BLOCK]
        if len(block) < _BLOCK:
            raise DataError(
                Reason.UNREADABLE,
                f"{file}: a header at byte {start} has no END; the file is cut short, download it again",
            )
        end += _BLOCK
        if any(block[i : i + 8] == b"END     " for i in range(0, _BLOCK, _CARD)):
            break
    header = Header(data[start:end])
    axes = [_size(header, file, f"NAXIS{i + 1}") for i in range(_size(header, file, "NAXIS", MOST))]
    size = abs(_size(header, file, "BITPIX")) // 8 if axes else 0
    for axis in axes:
        size *= axis
    size += _size(header, file, "PCOUNT")
    stop = end + size
    if stop > len(data):
        raise DataError(
            Reason.UNREADABLE,
            f"{file}: the table {header.text('EXTNAME') or 'PRIMARY'} should end at byte {stop}, "
            f"the file does at {len(data)}; it is cut short, download it again",
        )
    name = header.text("EXTNAME").upper() if start else "PRIMARY"
    is_table = header.text("XTENSION") == "BINTABLE" and len(axes) == 2
    if is_table and header.get("BITPIX") != 8:
        raise DataError(
            Reason.UNREADABLE, f"{file}: BITPIX of a table is {header.get('BITPIX')!r}, not 8; download the file again"
        )
    columns = _columns(header, file, axes[0]) if is_table else {}
    table = Table(file, name, header, axes[1] if is_table else 0, view[end:stop], axes[0] if is_table else 0, columns)
    return table, stop + -stop % _BLOCK


def _size(header: Header, file: str, keyword: str, most: int = 1 << 40) -> int:
    value = header.get(keyword, 0)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or abs(value) > most or (value < 0 and keyword != "BITPIX"):
        raise DataError(
            Reason.UNREADABLE, f"{file}: the keyword {keyword} is {value!r}, no size; download the file again"
        )
    return value


def _columns(header: Header, file: str, row_bytes: int) -> dict[str, tuple[int, str, int]]:
    columns: dict[str, tuple[int, str, int]] = {}
    offset = 0
    for number in range(1, _size(header, file, "TFIELDS", MOST) + 1):
        match = _FORMAT.match(header.text(f"TFORM{number}"))
        if match is None:
            raise DataError(Reason.UNREADABLE, f"{file}: TFORM{number} is missing or odd; download the file again")
        count = int(match[1]) if match[1] else 1
        letter = match[2] if count == 1 else "A"  # a vector is skipped like a string
        columns.setdefault(header.text(f"TTYPE{number}").upper(), (offset, letter, number))
        offset += (count + 7) // 8 if match[2] == "X" else count * _WIDTHS[match[2]]
    if offset != row_bytes:
        raise DataError(
            Reason.UNREADABLE,
            f"{file}: the columns take {offset} bytes, a row has {row_bytes}; download the file again",
        )
    return columns
