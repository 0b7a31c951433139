"""Choose the cuts for an EPIC event list, by its camera, its submode and the expression of its good events."""

from __future__ import annotations

import math
import re

import numpy as np

from xscan.config import ScanConfig
from xscan.events.cuts import Cuts, FlagCut
from xscan.missions.xmm.instrument import EPIC
from xscan.model import PixelMask

__all__ = ["make_cuts", "parse_flag_cut", "standard_flag_cut"]

PATTERN_MAX = {"pn": 4, "m1": 12, "m2": 12}
ANYWHERE = (-(1 << 30), 1 << 30)

_FLAG = re.compile(r"\(?\s*FLAG\s*&\s*(0x[0-9a-fA-F]+|\d+)\s*\)?\s*==\s*0")
_RAWY = re.compile(r"\(?\s*RAWY\s*>\s*(\d+)\s*\)?")


def standard_flag_cut(camera: str) -> FlagCut:
    """Return the cut for lists whose header defines none.

    Examples
    --------
    >>> pn, m1 = standard_flag_cut("pn"), standard_flag_cut("m1")
    >>> hex(pn.mask), pn.rawy_above, hex(m1.mask), m1.rawy_above
    ('0x2fb0024', 12, '0x766ba000', None)
    """
    return FlagCut(0x2FB0024, 12) if camera == "pn" else FlagCut(0x766BA000)


def parse_flag_cut(expression: str) -> FlagCut | None:
    """Parse an XMMEA_EM or XMMEA_EP expression; None if it has another form or impossible numbers.

    Accepted: ``(FLAG & 0x766ba000) == 0``, alone or joined by ``&&`` with ``RAWY > 12``.

    Examples
    --------
    >>> parse_flag_cut("(FLAG & 0x100) == 0 && (RAWY > 12)")
    FlagCut(mask=256, rawy_above=12)
    >>> print(parse_flag_cut("#XMMEA_EP"))
    None
    """
    mask, rawy = 0, None
    for term in expression.split("&&"):
        term = re.sub(r"^\s*\(\s*(\(.*)\)\s*$", r"\1", term).strip()
        if match := _FLAG.fullmatch(term):
            mask |= int(match[1], 0)
        elif match := _RAWY.fullmatch(term):
            rawy = int(match[1])
        else:
            return None
    return FlagCut(mask, rawy) if 0 < mask < 1 << 32 and (rawy or 0) < 1 << 15 else None


def make_cuts(
    camera: str,
    submode: str,
    flags: FlagCut | None,
    hot: PixelMask | None,
    null: tuple[int | None, int | None],
    config: ScanConfig,
) -> Cuts:
    """Choose the cuts for a camera and its SUBMODE, on which pn borders and MOS CCD 1 depend.

    Examples
    --------
    Single and double events of pn away from the border of its CCDs, up to quadruple ones of MOS:

    >>> from xscan.config import load_config
    >>> of_all = "PrimeFullWindow", None, None, (None, None), load_config()
    >>> pn, m1 = make_cuts("pn", *of_all), make_cuts("m1", *of_all)
    >>> pn.windows[1].tolist(), pn.pattern_max, m1.pattern_max
    ([4, 61, 23, 197], 4, 12)
    """
    windows = np.tile(np.array([*ANYWHERE, *ANYWHERE], np.int32), (16, 1))
    bad_columns = np.array(EPIC.camera(camera).bad_columns, np.int32).reshape(-1, 2)
    if camera == "pn":
        windows[:] = (4, 61, 23 if submode.startswith("PrimeFullWindow") else ANYWHERE[0], 197)
    elif submode != "PrimeFullWindow":
        windows[1] = (0, 0, 0, 0)
    singles_below_ev = math.ceil(config.pn_singles_below_kev * 1000) if camera == "pn" else 0
    return Cuts(
        camera != "pn", PATTERN_MAX[camera], singles_below_ev, flags, windows, bad_columns, hot,
        (null[0] or 0, null[1] or 0), EPIC.pi_range, EPIC.sky.n,
    )  # fmt: skip
