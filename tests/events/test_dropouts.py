"""Constants of the silences, held at their edges."""

from __future__ import annotations

import numpy as np
import pytest

from xscan.events.dropouts import faint_cells, silent_together


def test_a_cell_is_bright_above_three_times_the_75th_percentile() -> None:
    image = np.array([0, 0, 0, *[1, 2, 3, 4, 4, 4, 4, 12, 13]])  # of the nine occupied cells the seventh has 4
    assert np.percentile(image[image > 0], 75) == 4
    assert faint_cells(image).tolist() == [True] * 11 + [False]
    assert not faint_cells(np.zeros(3, int)).any()


def one_a_second(n: int, silent: int) -> np.ndarray:
    """Counts of n seconds, one in each but the last ones."""
    return np.where(np.arange(n) < n - silent, 1, 0)


@pytest.mark.parametrize(("silent", "found"), [(15, []), (16, [[284, 300]])])
def test_all_are_silent_where_16_counts_are_missing(silent: int, found: list[list[int]]) -> None:
    assert silent_together(one_a_second(300, silent)).tolist() == found


def test_the_usual_rate_is_the_median_of_stretches_of_100_s() -> None:
    """Of less than three stretches it is the mean, which the silence itself lowers: 16 s of 283/299 ct/s."""
    assert silent_together(one_a_second(300, 16)).tolist() == [[284, 300]]
    assert silent_together(one_a_second(299, 16)).tolist() == []
    counts = one_a_second(400, 16)
    counts[:100] = 9  # a flare changes the median no more than the silence does
    assert silent_together(counts).tolist() == [[384, 400]]
