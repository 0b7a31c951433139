"""Check the arrays that are passed to a backend: compiled code would misread a wrong one, or read beyond its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscan.bayes import Thresholds

__all__ = ["check_limits", "checked"]


def checked(values: NDArray[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array if it has this shape and type; else raise ValueError.

    Examples
    --------
    >>> checked(np.zeros(3), (2,), np.float64)
    Traceback (most recent call last):
    ...
    ValueError: an array of float64, shape (3,), where float64, (2,) is needed
    """
    if values.shape != shape or values.dtype != dtype:
        raise ValueError(
            f"an array of {values.dtype}, shape {values.shape}, where {np.dtype(dtype)}, {shape} is needed"
        )
    return values


def check_limits(limits: Thresholds, n_max: int) -> None:
    """Raise ValueError if there is not a limit for each number of counts.

    Examples
    --------
    >>> from xscan.bayes import thresholds
    >>> check_limits(thresholds(3.0, 10), 12)
    Traceback (most recent call last):
    ...
    ValueError: the limits reach to 10 counts; 12 occur
    """
    held = min(limits.mu_peak.size, limits.mu_eclipse.size) - 1
    if held < n_max:
        raise ValueError(f"the limits reach to {held} counts; {n_max} occur")
