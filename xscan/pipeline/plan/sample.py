"""Find how much of a list of observations is on disk, and choose a sample that represents all of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from xscan.missions import mission_of

__all__ = ["choose", "stock"]


def stock(data: Path, obsids: Iterable[str]) -> dict[str, int]:
    """Return the bytes that a search reads of each observation that is on disk; others are left out.

    Parameters
    ----------
    data : Path
        Folder of observations; it need not exist.
    obsids : iterable of str

    Examples
    --------
    >>> on_disk = stock(folder.parent, ["0990000001", "0990000002"])
    >>> {obsid: size == sum(path.stat().st_size for path in folder.glob("P*")) for obsid, size in on_disk.items()}
    {'0990000001': True}
    """
    sizes = {obsid: _size(data / obsid) for obsid in obsids}
    return {obsid: size for obsid, size in sizes.items() if size > 0}


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in mission_of(folder).files_of(folder))
    except OSError:  # the search will report what is wrong
        return 0


def choose(sizes: Mapping[str, int], n: int) -> list[str]:
    """Choose observations of all sizes, including the smallest and the largest.

    Parameters
    ----------
    sizes : mapping of str to int
        By obsid, bytes.
    n : int
        How many, at least 1.

    Returns
    -------
    list of str
        Those at even quantiles of size (for n = 1 the median), or all if there are no more than n. Always the same, and
        in an order in which the first ones are of mixed size.

    Examples
    --------
    The smallest, the largest, and the one in the middle:

    >>> sizes = {"a": 10, "b": 20, "c": 30, "d": 40, "e": 50}
    >>> sorted(choose(sizes, 3)), choose(sizes, 1)
    (['a', 'c', 'e'], ['c'])
    """
    ordered = sorted(sizes, key=lambda obsid: (sizes[obsid], obsid))
    last = len(ordered) - 1
    chosen = (
        ordered if last < n else [ordered[last * k // (n - 1)] for k in range(n)] if n > 1 else [ordered[last // 2]]
    )
    random.Random(n).shuffle(chosen)
    return chosen
