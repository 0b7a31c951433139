"""Make FITS tables and gzip streams byte for byte as XMM-Newton's pipeline: cards, columns, flush markers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import ArrayLike, NDArray

__all__ = ["Card", "Column", "compress", "make_rows", "primary_hdu", "table_hdu"]

BLOCK = 2880
CARD = 80
TEXT_ROOM = 67
"""Characters of a long string in one card, before the sign that announces its continuation."""

NUMPY_TYPE = {"D": ">f8", "E": ">f4", "J": ">i4", "I": ">i2", "B": "u1"}

FLUSH_WINDOW = 4096
FLUSH_LEAST = 258
"""Least distance of two flush markers: the longest match of deflate."""

PIECE = 1 << 22
LEVEL = 2


class Card(NamedTuple):
    """One keyword of a header; a string too long for one card is continued."""

    keyword: str
    value: str | float | bool
    comment: str = ""


class Column(NamedTuple):
    """One column of a table: TTYPE, TFORM (one letter, or a number and A), TUNIT."""

    name: str
    form: str
    unit: str = ""


def primary_hdu(cards: Iterable[Card], history: Iterable[str] = ()) -> bytes:
    """Return a primary header without data.

    Examples
    --------
    >>> header = primary_hdu([Card("TELESCOP", "XMM", "mission")], ["made by hand"])
    >>> len(header), header[:30].decode(), header[320:360].decode().rstrip()
    (2880, 'SIMPLE  =                    T', "TELESCOP= 'XMM     '           / mission")
    """
    first = [Card("SIMPLE", True, "FITS standard"), Card("BITPIX", 8), Card("NAXIS", 0), Card("EXTEND", True)]
    return _header([*first, *cards], history)


def make_rows(columns: Sequence[Column], values: Mapping[str, ArrayLike]) -> NDArray[np.void]:
    """Return the rows of a table; scalars are repeated in every row.

    Examples
    --------
    >>> rows = make_rows([Column("TIME", "D", "s"), Column("PI", "I", "eV")], {"TIME": [1.0, 2.0], "PI": 500})
    >>> rows.tolist(), rows.dtype.itemsize
    ([(1.0, 500), (2.0, 500)], 10)
    """
    dtype = np.dtype([(column.name, NUMPY_TYPE.get(column.form, f"S{column.form[:-1]}")) for column in columns])
    rows = np.zeros(np.broadcast_shapes(*(np.shape(values[column.name]) for column in columns)), dtype)
    for column in columns:
        rows[column.name] = values[column.name]
    return rows


def table_hdu(name: str, columns: Sequence[Column], rows: NDArray[np.void], cards: Iterable[Card]) -> bytes:
    """Return a binary table.

    Parameters
    ----------
    name : str
        EXTNAME.
    columns : sequence of Column
    rows : structured array
        From :func:`make_rows`.
    cards : iterable of Card
        The keywords after EXTNAME.

    Examples
    --------
    Two blocks of 2880 bytes, the header and the rows:

    >>> columns = [Column("TIME", "D", "s"), Column("PI", "I", "eV")]
    >>> made = table_hdu("EVENTS", columns, make_rows(columns, {"TIME": [1.0, 2.0], "PI": 500}), [])
    >>> len(made), made[2880:2888] == np.array(1.0, ">f8").tobytes()
    (5760, True)
    """
    sizes = {"NAXIS1": rows.dtype.itemsize, "NAXIS2": len(rows), "PCOUNT": 0, "GCOUNT": 1, "TFIELDS": len(columns)}
    made = [Card("XTENSION", "BINTABLE"), Card("BITPIX", 8), Card("NAXIS", 2)]
    made += [Card(keyword, value) for keyword, value in sizes.items()]
    for number, column in enumerate(columns, start=1):
        made += [Card(f"TTYPE{number}", column.name), Card(f"TFORM{number}", column.form)]
        if column.unit:
            made.append(Card(f"TUNIT{number}", column.unit))
    return _header([*made, Card("EXTNAME", name), *cards]) + _padded(rows.tobytes(), b"\0")


def _header(cards: Iterable[Card], history: Iterable[str] = ()) -> bytes:
    lines = [line for card in cards for line in _lines(card)]
    lines += [f"HISTORY {text[at : at + CARD - 8]}" for text in history for at in range(0, len(text), CARD - 8)]
    return _padded("".join(f"{line:{CARD}.{CARD}}" for line in [*lines, "END"]).encode("ascii"), b" ")


def _lines(card: Card) -> list[str]:
    comment = f" / {card.comment}" if card.comment else ""
    if isinstance(card.value, bool):
        return [f"{card.keyword:8}= {'FT'[card.value]:>20}{comment}"]
    if isinstance(card.value, int):
        return [f"{card.keyword:8}= {card.value:20d}{comment}"]
    if isinstance(card.value, float):
        return [f"{card.keyword:8}= {card.value:20.14E}{comment}"]
    text = card.value.replace("'", "''")
    if len(text) <= TEXT_ROOM + 1:
        quoted = f"'{text:8}'"
        return [f"{card.keyword:8}= {quoted:20}{comment}"]
    pieces = []
    while len(text) > TEXT_ROOM:
        # a doubled quote must not be split between two cards
        end = TEXT_ROOM - (len(text[:TEXT_ROOM]) - len(text[:TEXT_ROOM].rstrip("'"))) % 2
        pieces.append(f"'{text[:end]}&'")
        text = text[end:]
    last = f"'{text}'{comment}"
    return [f"{card.keyword:8}= {pieces[0]}", *(f"CONTINUE  {piece}" for piece in [*pieces[1:], last])]


def _padded(data: bytes, filler: bytes) -> bytes:
    return data + filler * (-len(data) % BLOCK)


def compress(data: bytes, name: str, seconds: int) -> bytes:
    """Compress as ``gzip --rsyncable`` does, which made the pipeline's FTZ files.

    The stream is flushed (Z_SYNC_FLUSH: byte boundary, an empty stored block, the window kept)
    wherever the sum of the last 4096 bytes is a multiple of 4096, about every 4 kB.

    Parameters
    ----------
    data : bytes
    name : str
        Name of the file before compression; stored in the gzip header.
    seconds : int
        Its modification time, Unix time.

    Examples
    --------
    >>> import gzip
    >>> data = bytes(range(256)) * 100
    >>> packed = compress(data, "list.FIT", seconds=0)
    >>> gzip.decompress(packed) == data, packed[10:18]
    (True, b'list.FIT')
    """
    head = struct.pack("<4BI2B", 0x1F, 0x8B, 8, 8, seconds, 0, 3) + name.encode("ascii") + b"\0"
    deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -15)
    view = memoryview(data)
    parts = [head]
    last = 0
    for point in _flush_points(data):
        parts += [deflate.compress(view[last:point]), deflate.flush(isal_zlib.Z_SYNC_FLUSH)]
        last = point
    parts += [
        deflate.compress(view[last:]),
        deflate.flush(),
        struct.pack("<2I", isal_zlib.crc32(data), len(data) % (1 << 32)),
    ]
    return b"".join(parts)


def _flush_points(data: bytes) -> list[int]:
    """Return the lengths after which the sum of the last 4096 bytes is a multiple of 4096."""
    content = np.frombuffer(data, np.uint8)
    points = [0]
    for first in range(0, len(content) - FLUSH_WINDOW, PIECE):
        total = np.cumsum(content[first : first + PIECE + FLUSH_WINDOW], dtype=np.uint32)  # modulo 2^32 is harmless
        ends = np.flatnonzero(((total[FLUSH_WINDOW:] - total[:-FLUSH_WINDOW]) & (FLUSH_WINDOW - 1)) == 0)
        for point in (ends + (first + FLUSH_WINDOW + 1)).tolist():
            if point - points[-1] >= FLUSH_LEAST:
                points.append(point)
    return points[1:]
