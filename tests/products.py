"""Small products of an observation, as an archive has them."""

from __future__ import annotations

import gzip
import io
import random

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
