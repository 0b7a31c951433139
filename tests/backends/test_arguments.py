from __future__ import annotations

import numpy as np
import pytest

from xscan.backends.arguments import check_limits, checked
from xscan.bayes import thresholds


def test_there_is_a_limit_for_each_number_of_counts() -> None:
    limits = thresholds(3.0, 40)
    n = min(limits.mu_peak.size, limits.mu_eclipse.size) - 1
    check_limits(limits, n)
    with pytest.raises(ValueError, match=f"the limits reach to {n} counts; {n + 1} occur"):
        check_limits(limits, n + 1)


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), np.int64), np.zeros((3, 2), np.int32), np.zeros(6, np.int32)])
def test_an_array_of_another_shape_or_type_is_refused(wrong: np.ndarray) -> None:
    right = np.zeros((2, 3), np.int32)
    assert checked(right, (2, 3), np.int32) is right
    with pytest.raises(ValueError, match=r"where int32, \(2, 3\) is needed"):
        checked(wrong, (2, 3), np.int32)
