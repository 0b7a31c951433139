from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xscan.bayes import power_of_ten, thresholds
from xscan.grid import Box, Grid
from xscan.plots import Image, counts_band, plot_image, plot_lightcurve
from xscan.sky import TangentPlane

GRID = Grid(0.0, 5000, 40, 129, Box(60, 70, 60, 68))


def region(number: int, kind: str = "peak", p: float = -12.0, cell: int = 63) -> dict[str, object]:
    return {
        "det_id": f"0999999901_0_5_0.2_12.0_{number}", "obsid": "0999999901", "subset": 0, "label": number,
        "kind": kind, "dt_s": 5.0, "band_lo_kev": 0.2, "band_hi_kev": 12.0, "ra_deg": 150.0 + number, "dec_deg": 2.0,
        "pos_err_arcsec": 1.0, "bbox_x0": cell, "bbox_x1": cell + 1, "bbox_y0": 63, "bbox_y1": 65, "n_max": 9,
        "mu_at_max": 0.1, "log10_p_min": p, "t_start_s": 50.0, "t_stop_s": 60.0,
    }  # fmt: skip


def test_bands_are_the_thresholds() -> None:
    mu = np.array([0.01, 0.5, 20.0, 300.0, np.nan])
    low, high = counts_band(mu, 3.0)
    limits = thresholds(3.0, 2000)
    for m, first, last in zip(mu[:4], low[:4].astype(int), high[:4].astype(int), strict=True):
        ordinary = ~((m < limits.mu_peak) | (m > limits.mu_eclipse))
        assert np.flatnonzero(ordinary)[[0, -1]].tolist() == [first, last]
    assert np.isnan([low[4], high[4]]).all()


@pytest.mark.parametrize("counts", [0, 1, 300])
def test_images_of_odd_skies(tmp_path: Path, counts: int) -> None:
    image = Image(np.full((8, 10), counts), np.zeros((8, 10), bool), GRID, TangentPlane(150.0, 2.0), (0.2, 12.0))
    image.mask[2:4, 3:5] = counts == 300
    path = tmp_path / "new" / "image.png"
    plot_image(image, [region(k, cell=61 + k % 8) for k in range(14)] if counts else [], "odd", path)
    assert path.stat().st_size > 5000


def test_an_image_of_one_row_of_cells(tmp_path: Path) -> None:
    grid = Grid(0.0, 5000, 40, 129, Box(60, 70, 60, 61))
    image = Image(np.ones((1, 10), int), np.ones((1, 10), bool), grid, TangentPlane(150.0, 2.0), (0.2, 12.0))
    assert plot_image(image, [], "one row", tmp_path / "row.png").stat().st_size > 5000


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_light_curves_of_any_length(tmp_path: Path, frames: int) -> None:
    curve = {
        "time_s": [5.0 * k for k in range(frames)],
        "n": [k % 3 for k in range(frames)],
        "mu": [None if k % 7 == 3 else 0.5 for k in range(frames)],
        "bad": [k > 20 for k in range(frames)],
        "rejected": [k % 7 == 3 for k in range(frames)],
    }
    row = region(0) | {"t_start_s": 0.0, "t_stop_s": 5.0}
    path = plot_lightcurve(row, curve, tmp_path / f"{frames}.png")
    assert path.stat().st_size > 5000


@pytest.mark.parametrize(
    ("exponent", "text"), [(-40.6198, "2.4e-41"), (-4.00001, "1.0e-04"), (0.0, "1.0e+00"), (-np.inf, "0")]
)
def test_powers_of_ten(exponent: float, text: str) -> None:
    assert power_of_ten(exponent) == text
