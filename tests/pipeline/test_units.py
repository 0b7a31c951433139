"""Sizes for people."""

from __future__ import annotations

import pytest

from xscan.pipeline.units import format_size


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (999_400_000, "999 MB"),
        (999_600_000, "1 GB"),
        (12_100_000_000, "12.1 GB"),
        (999_600_000_000, "1 TB"),
    ],
)
def test_a_size_is_given_in_the_unit_that_it_rounds_to(n_bytes: int, text: str) -> None:
    assert format_size(n_bytes) == text
