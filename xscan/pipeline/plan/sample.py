"""How much of a list of observations is on disk, and which of it stand for all."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from xscan.missions.xmm.files import files_of

__all__ = ["choose", "stock"]


def stock(data: Path, obsids: Iterable[str]) -> dict[str, int]:
    """Return the bytes that a search reads of each observation that is here; the others are left out.

    Parameters
    ----------
    data : Path
        Folder of observations; need not be there.
    obsids : iterable of str
    """
    sizes = {obsid: _size(data / obsid) for obsid in obsids}
    return {obsid: size for obsid, size in sizes.items() if size > 0}


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in files_of(folder))
    except OSError:  # a search will tell what is wrong with it
        return 0


def choose(sizes: Mapping[str, int], n: int) -> list[str]:
    """Choose observations of all sizes, the smallest and the largest among them.

    Parameters
    ----------
    sizes : mapping of str to int
        By obsid, bytes.
    n : int
        How many, at least 1.

    Returns
    -------
    list of str
        At even quantiles of size (of one, the median), or all if there are no more; the same each time, in
        an order in which any beginning is a mixture.
    """
    ordered = sorted(sizes, key=lambda obsid: (sizes[obsid], obsid))
    last = len(ordered) - 1
    chosen = (
        ordered if last < n else [ordered[last * k // (n - 1)] for k in range(n)] if n > 1 else [ordered[last // 2]]
    )
    random.Random(n).shuffle(chosen)
    return chosen
