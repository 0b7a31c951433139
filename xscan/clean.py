"""Which events count: cuts on energy, pattern, flags, place on the detector and bad pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.config import ScanConfig

__all__ = ["FlagCut", "PixelMask", "RawEvents", "clean"]

PI_MIN, PI_MAX = 200, 12_000  # eV, both ends in
PATTERN_MAX = {"pn": 4, "m1": 12, "m2": 12}
PN_BAD_COLUMNS = ((4, 12), (5, 11), (10, 28))  # (CCDNR, RAWX)

Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RawEvents:
    """Columns of an event list as they stand in the file, shape (n,) each (any byte order)."""

    time: NDArray[np.floating]
    rawx: Ints
    rawy: Ints
    x: Ints
    y: Ints
    pi: Ints
    flag: Ints
    pattern: Ints
    ccd: Ints  # 1..12, without the MOS node


@dataclass(frozen=True, slots=True)
class FlagCut:
    """The flags that make an event bad: kept if ``flag & mask == 0`` and ``rawy > rawy_above``."""

    mask: int
    rawy_above: int | None = None

    _FLAG = re.compile(r"\(?\s*FLAG\s*&\s*(0x[0-9a-fA-F]+|\d+)\s*\)?\s*==\s*0")
    _RAWY = re.compile(r"\(?\s*RAWY\s*>\s*(\d+)\s*\)?")

    @classmethod
    def standard(cls, camera: str) -> FlagCut:
        """Give the cut for lists whose header defines none."""
        return cls(0x2FB0024, 12) if camera == "pn" else cls(0x766BA000)

    @classmethod
    def parse(cls, expression: str) -> FlagCut | None:
        """Read an XMMEA_EM or XMMEA_EP expression; None if it has another form.

        Accepted: ``(FLAG & 0x766ba000) == 0``, alone or joined by ``&&`` with ``RAWY > 12``.
        """
        mask, rawy = 0, None
        for term in expression.split("&&"):
            term = re.sub(r"^\s*\(\s*(\(.*)\)\s*$", r"\1", term).strip()
            if match := cls._FLAG.fullmatch(term):
                mask |= int(match[1], 0)
            elif match := cls._RAWY.fullmatch(term):
                rawy = int(match[1])
            else:
                return None
        return cls(mask, rawy) if mask else None


class PixelMask:
    """Pixels of one camera whose events do not count, by CCD, RAWX and RAWY."""

    _MARGIN = 16  # RAWX of MOS begins at -4
    _SIZE = 640

    def __init__(self) -> None:
        self._bad = np.zeros((16, self._SIZE, self._SIZE), bool)

    def add(self, ccd: Ints | int, rawx: Ints, rawy: Ints, run: Ints | int = 1) -> None:
        """Mark pixels; ``run`` is the number of pixels in a row toward larger RAWY."""
        ccd, rawx, rawy, run = np.broadcast_arrays(
            *(np.asarray(values).astype(np.int64) for values in (ccd, rawx, rawy, run))
        )
        run = np.clip(run, 0, self._SIZE)
        step = np.arange(run.sum()) - np.repeat(np.cumsum(run) - run, run)
        ccd, rawx, rawy = (np.repeat(values, run) for values in (ccd, rawx, rawy))
        index = self._index(ccd, rawx, rawy + step)
        self._bad[index] = True
        self._bad[:, 0, :] = self._bad[:, :, 0] = False  # where pixels beyond the table land

    def __call__(self, ccd: Ints, rawx: Ints, rawy: Ints) -> Bools:
        """Tell for each event whether its pixel is bad."""
        return np.asarray(self._bad[self._index(ccd, rawx, rawy)])

    def _index(self, ccd: Ints, rawx: Ints, rawy: Ints) -> tuple[Ints, Ints, Ints]:
        place = []
        for values in (rawx, rawy):
            shifted = values.astype(np.int64) + self._MARGIN
            place.append(np.where((shifted > 0) & (shifted < self._SIZE), shifted, 0))
        return np.asarray(ccd).astype(np.int64) % 16, place[0], place[1]


def clean(
    raw: RawEvents,
    camera: str,
    submode: str,
    flags: FlagCut | None,
    hot: PixelMask | None,
    own: PixelMask | None,
    null: tuple[int | None, int | None],
    config: ScanConfig,
) -> tuple[NDArray[np.intp], tuple[float, float] | None, dict[str, int]]:
    """Apply the cuts one after the other, and count what each removed.

    Parameters
    ----------
    raw : RawEvents
    camera, submode : str
        One of the cameras, and SUBMODE: pn borders and MOS CCD 1 depend on it.
    flags : FlagCut or None
        None for no flag cut.
    hot, own : PixelMask or None
        The user's hot pixels, and the list's own bad pixels.
    null : pair of int or None
        TNULL of X and Y.
    config : ScanConfig

    Returns
    -------
    index : array of int, shape (k,)
        Rows that are kept.
    span : (float, float) or None
        First and last TIME after the cuts in TIME, PI and PATTERN; None if nothing is left.
    cuts : dict of str to int
        Events removed by each cut, in order.
    """
    cuts: dict[str, int] = {}
    index = np.arange(len(raw.time))

    def cut(name: str, keep: Bools) -> None:
        nonlocal index
        cuts[name] = int(keep.size - np.count_nonzero(keep))
        index = index[keep]

    def values(column: Ints) -> NDArray[np.int64]:
        return np.asarray(column[index]).astype(np.int64)

    cut("time", np.isfinite(raw.time))
    pi = values(raw.pi)
    cut("pi", (pi >= PI_MIN) & (pi <= PI_MAX))
    pattern = values(raw.pattern)
    largest = np.full(pattern.size, PATTERN_MAX[camera])
    if camera == "pn" and config.pn_singles_below_kev > 0:
        largest[values(raw.pi) < config.pn_singles_below_kev * 1000] = 0
    cut("pattern", pattern <= largest)
    times = raw.time[index]
    span = (float(times.min()), float(times.max())) if times.size else None

    if flags is not None:
        keep = (values(raw.flag) & flags.mask) == 0
        if flags.rawy_above is not None:
            keep &= values(raw.rawy) > flags.rawy_above
        cut("flag", keep)
    ccd, rawx, rawy = values(raw.ccd), values(raw.rawx), values(raw.rawy)
    if camera == "pn":
        bad_column = np.zeros(index.size, bool)
        for bad_ccd, bad_rawx in PN_BAD_COLUMNS:
            bad_column |= (ccd == bad_ccd) & (rawx == bad_rawx)
        border = (rawy >= 197) | (rawx <= 4) | (rawx >= 61)
        if submode.startswith("PrimeFullWindow"):
            border |= rawy <= 23
        cut("detector", ~(bad_column | border))
    else:
        cut("detector", (ccd != 1) | (submode == "PrimeFullWindow"))
    for name, mask in (("hot_pixel", hot), ("bad_pixel", own)):
        if mask is not None:
            cut(name, ~mask(values(raw.ccd), values(raw.rawx), values(raw.rawy)))
    on_plane = np.ones(index.size, bool)
    for column, missing in ((raw.x, null[0]), (raw.y, null[1])):
        place = values(column)
        on_plane &= (place >= 1) & (place <= 51_840)
        if missing is not None:
            on_plane &= place != missing
    cut("null_xy", on_plane)
    return index, span, cuts
