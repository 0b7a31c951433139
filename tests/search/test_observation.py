from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.lists import OBSID, T0, FakeList, round_time, write_list

import xscan


def test_every_second_is_good_bad_rejected_or_lost(tmp_path: Path, rng: np.random.Generator) -> None:
    """Two CCDs, 2,010 s; the background is high for 200 s, and in 50 s of these one CCD sent nothing."""
    time = T0 + round_time(rng.uniform(0, 2010, 8000))
    hard = T0 + round_time(rng.uniform(1000, 1200, 4000))
    both = np.concatenate([time, hard])
    ccd = rng.integers(1, 3, both.size)
    silent = (ccd == 2) & (both >= T0 + 1050) & (both < T0 + 1100)
    pi = np.repeat([1000, 11_000], [time.size, hard.size])
    x, y = rng.integers(20_000, 30_000, (2, both.size))
    fake = FakeList(
        time=both, ccd=ccd, pi=pi, x=x, y=y,
        gti={1: [(T0, T0 + 2010)], 2: [(T0, T0 + 1050), (T0 + 1100, T0 + 2010)]},
    ).take(np.flatnonzero(~silent))  # fmt: skip
    write_list(tmp_path / OBSID, fake)
    (run,) = xscan.scan(tmp_path / OBSID, views=["50:0.2-12"]).runs.to_pylist()
    assert (run["n_frames"], run["n_frames_bad"], run["n_frames_rejected"]) == (40, 4, 1)
    seconds = {what: run[f"{what}_s_m1"] for what in ("good", "bad", "rejected", "lost")}
    # of the rejected frame one CCD of two was live; the last 10 s fill no frame
    assert seconds == pytest.approx({"good": 1800, "bad": 150, "rejected": 25, "lost": 10}, abs=0.1)
