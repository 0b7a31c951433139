"""Small products of an observation, as an archive has them."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

from astropy.io import fits

OBSID = "0001730201"


def fits_bytes(seed: int = 0, n: int = 4000) -> bytes:
    """A FITS file with a table of bytes that do not compress."""
    column = fits.Column("PI", "B", array=list(random.Random(seed).randbytes(n)))
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column], name="EVENTS")]).writeto(stream)
    return stream.getvalue()


def product(seed: int = 0, n: int = 4000) -> bytes:
    """The same as the archives keep it."""
    return gzip.compress(fits_bytes(seed, n), 1, mtime=0)


def pn(obsid: str = OBSID, exposure: str = "S003") -> str:
    return f"P{obsid}PN{exposure}PIEVLI0000.FTZ"


def mos(camera: str, obsid: str = OBSID, exposure: str = "S001") -> str:
    return f"P{obsid}{camera}{exposure}MIEVLI0000.FTZ"


def sources(obsid: str = OBSID) -> str:
    return f"P{obsid}EPX000OBSMLI0000.FTZ"


def observation(obsid: str = OBSID, n: int = 4000) -> dict[str, bytes]:
    """All four products."""
    names = [pn(obsid), mos("M1", obsid), mos("M2", obsid), sources(obsid)]
    return {name: product(seed + 10 * int(obsid) % 1000, n) for seed, name in enumerate(names)}


def huge(n_bytes: int) -> tuple[int, Callable[[], Iterator[bytes]]]:
    """Make a product too large to hold: its length, and what gives its bytes anew.

    A table of random bytes in a gzip file that stores them as they are.
    """
    piece = random.Random(1).randbytes(65_535)
    rows = n_bytes // len(piece) * len(piece)
    cards = {"SIMPLE": "T", "BITPIX": "8", "NAXIS": "0", "END": ""}
    table = {
        "XTENSION": "'BINTABLE'", "BITPIX": "8", "NAXIS": "2", "NAXIS1": "1", "NAXIS2": str(rows), "PCOUNT": "0",
        "GCOUNT": "1", "TFIELDS": "1", "TTYPE1": "'PI'", "TFORM1": "'B'", "END": "",
    }  # fmt: skip
    head = header(cards) + header(table)
    tail = bytes(-rows % 2880)

    def stored(data: bytes, last: bool = False) -> bytes:
        return bytes([last]) + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data

    def pieces() -> Iterator[bytes]:
        checksum = zlib.crc32(head)
        yield bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255]) + stored(head)
        block = stored(piece)
        for _ in range(rows // len(piece)):
            checksum = zlib.crc32(piece, checksum)
            yield block
        size = (len(head) + rows + len(tail)) & 0xFFFFFFFF
        yield stored(tail, last=True) + struct.pack("<II", zlib.crc32(tail, checksum), size)

    n_blocks = 2 + rows // len(piece)
    return 10 + 8 + 5 * n_blocks + len(head) + rows + len(tail), pieces


def header(cards: dict[str, str]) -> bytes:
    """One FITS header."""
    text = "".join((f"{key:8}= {value:>20}" if value else key).ljust(80) for key, value in cards.items())
    return text.ljust(2880).encode()
