"""Divide whole numbers by a constant in compiled loops, by multiplying and shifting."""

from __future__ import annotations

__all__ = ["cell_division", "division"]

_BITS = 31


def division(divisor: int) -> tuple[int, int]:
    """Return m and s with ``k // divisor == k * m >> s`` for all k from 0 to 2**31 - 1.

    With s = 31 + bits of the divisor less 1 and m = ceil(2**s / divisor) the error ``m * divisor - 2**s`` is less
    than the divisor, so that ``k * error < 2**s`` (Granlund & Montgomery 1994); the product stays below 2**63.

    Examples
    --------
    >>> m, s = division(3)
    >>> [k * m >> s for k in (0, 2, 3, 2**31 - 1)], (2**31 - 1) // 3
    ([0, 0, 1, 715827882], 715827882)
    """
    s = _BITS + (divisor - 1).bit_length()
    return -(-(1 << s) // divisor), s


def cell_division(n_cells: int, n_pixels: int) -> tuple[int, int, int]:
    """Return n, m and s with ``min(pixel * n * m >> s, n - 1)`` the cell of a pixel, as :func:`xscan.grid.cells_of`.

    Examples
    --------
    >>> n, m, s = cell_division(129, 51_840)
    >>> [min(pixel * n * m >> s, n - 1) for pixel in (1, 401, 402, 51_840)]
    [0, 0, 1, 128]
    """
    return n_cells, *division(n_pixels)
