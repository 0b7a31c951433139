"""Check the arrays that are passed to a backend: compiled code would misread a wrong one, or read beyond its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscan.bayes import Thresholds

__all__ = ["check_limits", "checked"]


def checked(values: NDArray[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array if it has this shape and type; else raise ValueError."""
    if values.shape != shape or values.dtype != dtype:
        raise ValueError(
            f"an array of {values.dtype}, shape {values.shape}, where {np.dtype(dtype)}, {shape} is needed"
        )
    return values


def check_limits(limits: Thresholds, n_max: int) -> None:
    """Raise ValueError if there is not a limit for each number of counts."""
    held = min(limits.mu_peak.size, limits.mu_eclipse.size) - 1
    if held < n_max:
        raise ValueError(f"the limits reach to {held} counts; {n_max} occur")
