from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from xscan.bayes import power_of_ten, thresholds
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.report.plots import Image, counts_band, draw_event, draw_image, draw_lightcurve
from xscan.sky import TangentPlane

GRID = Grid(0.0, 5000, 40, 129, Box(60, 70, 60, 68), EPIC.sky)
IMAGE = Image(np.ones((8, 10), int), np.zeros((8, 10), bool), GRID, TangentPlane(150.0, 2.0), (0.2, 12.0))


def region(number: int, kind: str = "peak", p: float = -12.0, cell: int = 63) -> dict[str, object]:
    return {
        "det_id": f"0999999901_0_5_0.2_12.0_{number}", "obsid": "0999999901", "subset": 0, "label": number,
        "kind": kind, "dt_s": 5.0, "band_lo_kev": 0.2, "band_hi_kev": 12.0, "ra_deg": 150.0 + number, "dec_deg": 2.0,
        "pos_err_arcsec": 1.0, "bbox_x0": cell, "bbox_x1": cell + 1, "bbox_y0": 63, "bbox_y1": 65, "n_max": 9,
        "mu_at_max": 0.1, "log10_p_min": p, "t_start_s": 50.0, "t_stop_s": 60.0, "x_sky": 25_500.0, "y_sky": 25_700.0,
        "t_start_utc": "1997-12-31T23:59:46.816", "parent": None,
    }  # fmt: skip


def event(number: int = 0, **columns: object) -> dict[str, object]:
    return {
        "event_id": f"0999999901_0_{number}", "obsid": "0999999901", "subset": 0, "kind": "peak", "variable": False,
        "ra_deg": 150.0, "dec_deg": 2.0, "pos_err_arcsec": 1.0, "t_start_s": 52.0, "t_stop_s": 61.0,
        "t_start_utc": "1997-12-31T23:59:46.816", "x_sky": 25_500.0 + 100 * number, "y_sky": 25_700.0,
        "n_false": 2e-9, "llr": 30.0, "counts": 21.3, "constant": 4.5,
    } | columns  # fmt: skip


def test_bands_are_the_thresholds() -> None:
    mu = np.array([0.01, 0.5, 20.0, 300.0, np.nan])
    low, high = counts_band(mu, 3.0)
    limits = thresholds(3.0, 2000)
    for m, first, last in zip(mu[:4], low[:4].astype(int), high[:4].astype(int), strict=True):
        ordinary = ~((m < limits.mu_peak) | (m > limits.mu_eclipse))
        assert np.flatnonzero(ordinary)[[0, -1]].tolist() == [first, last]
    assert np.isnan([low[4], high[4]]).all()


@pytest.mark.parametrize("counts", [0, 1, 300])
def test_images_of_odd_skies(counts: int) -> None:
    image = Image(np.full((8, 10), counts), np.zeros((8, 10), bool), GRID, TangentPlane(150.0, 2.0), (0.2, 12.0))
    image.mask[2:4, 3:5] = counts == 300
    figure = Figure()
    n = 14 if counts else 0
    draw_image(figure, image, [region(k, cell=61 + k % 8) for k in range(n)], "odd")
    axes, legend = figure.axes[0], figure.legends[0]
    assert axes.get_title() == f'odd\n{80 * counts:,} counts in the time searched, 0.2-12 keV, cells of 20.1"'
    assert [text.get_text() for text in axes.texts] == [str(k) for k in range(1, n + 1)]
    assert len(axes.patches) == n
    assert bool(axes.images[0].get_array().mask.all()) is (counts == 0)
    assert len(axes.collections[0].get_segments()) == (8 if counts == 300 else 0)  # around 2 x 2 masked cells
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[-1] == "masked: bright cells and listed sources"
    assert len(texts) == 1 + min(n, 10)
    if n:
        assert texts[0] == "1: peak 0 of 5 s, 0.2-12 keV, 23:59:46 UTC, p 1.0e-12"
        assert (
            legend.get_title().get_text().startswith("places in their most significant view (the first 10 of 14); p of")
        )
    saved(figure)


def test_an_image_of_one_row_of_cells() -> None:
    grid = Grid(0.0, 5000, 40, 129, Box(60, 70, 60, 61), EPIC.sky)
    image = Image(np.ones((1, 10), int), np.ones((1, 10), bool), grid, TangentPlane(150.0, 2.0), (0.2, 12.0))
    figure = Figure()
    draw_image(figure, image, [], "one row")
    assert figure.axes[0].images[0].get_array().shape == (1, 10)
    assert len(figure.axes[0].collections[0].get_segments()) == 22  # ten cells in a row, all masked
    saved(figure)


def test_the_mask_is_outlined_cell_by_cell() -> None:
    """One masked cell is a square, as wide as a cell, and in the legend's colour."""
    image = Image(np.ones((8, 10), int), np.zeros((8, 10), bool), GRID, TangentPlane(150.0, 2.0), (0.2, 12.0))
    image.mask[2, 3] = True
    figure = Figure()
    draw_image(figure, image, [], "one masked cell")
    (outline,) = figure.axes[0].collections
    corners = np.unique(np.round(np.concatenate(outline.get_segments()), 9), axis=0)
    assert len(outline.get_segments()) == len(corners) == 4
    np.testing.assert_allclose(np.ptp(corners, axis=0) * 60, GRID.cell_arcsec)
    # cell (x 63, y 62) of the plane; RA grows to the left
    pixel = np.array([63, 62]) * 51_840 / 129 - 0.5
    lower_right = corners[(corners[:, 0] == corners[:, 0].max()) & (corners[:, 1] == corners[:, 1].min())][0]
    np.testing.assert_allclose(lower_right, (pixel - 25_921.0) * 0.05 / 60 * [-1, 1], rtol=1e-6)
    assert to_rgba(figure.legends[0].get_lines()[-1].get_color()) == tuple(outline.get_color()[0])


@pytest.mark.parametrize("frames", [1, 3, 40, 900])
def test_light_curves_of_any_length(frames: int) -> None:
    figure = Figure()
    curve = lightcurve(frames)
    draw_lightcurve(figure, region(0), curve, flags(0), "any", IMAGE)
    whole = figure.axes[0]
    assert [axes.get_label() for axes in figure.axes] == ["whole", *["near"] * (frames > 32), "sky"]
    assert whole.get_xlim() == (0.0, 5.0 * frames)
    shown = next(patch for patch in whole.patches if patch.get_label() == "counts").get_data()
    if frames < 900:
        np.testing.assert_array_equal(shown.values, np.where(curve["rejected"], np.nan, curve["n"]))
        assert whole.get_ylabel() == "counts per 5 s"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == len(set(labels))  # what stands in both panels is told once
    always = {"not flagged at 5 sigma", "not flagged at 3 sigma", "counts", "expected", "peak: frames flagged"}
    later = {"high background", "not searched", "enlarged below"} if frames > 32 else set()
    assert set(labels) == always | later | {"68 % interval of the counts"}
    colours = {
        text.get_text(): handle.get_facecolor() if text.get_text() in later else None
        for text, handle in zip(figure.legends[0].get_texts(), figure.legends[0].legend_handles, strict=True)
    }
    if later:
        assert colours["not searched"][:3] == to_rgba("#CC79A7")[:3]
        assert colours["high background"][:3] == to_rgba("#8C8C8C")[:3]
    saved(figure)


def test_dots_stand_on_flagged_frames_only() -> None:
    """Two bursts far apart at one place: two frames are flagged, 288 between and around them are not."""
    curve = lightcurve(300) | {"n": [9 if k in (5, 295) else 0 for k in range(300)]}
    figure = Figure()
    row = region(0) | {"t_start_s": 25.0, "t_stop_s": 1480.0}
    draw_lightcurve(figure, row, curve, flags(5, 295, best=295), "two bursts", IMAGE)
    whole, near = (dots(axes, "peak") for axes in figure.axes[:2])
    np.testing.assert_array_equal(whole, [[5.5 * 5.0, 9], [295.5 * 5.0, 9]])
    np.testing.assert_array_equal(near, [[295.5 * 5.0, 9]])  # the time around the most significant
    assert figure.axes[1].get_xlim() == (280 * 5.0, 300 * 5.0)
    assert "1997-12-31T23:58:56.816 UTC" in figure.axes[1].get_xlabel()


def test_peaks_and_eclipses_of_one_region_have_their_own_dots() -> None:
    figure = Figure()
    marks = [*flags(3), {"t_index": 8, "kind": "eclipse", "p": 1e-6}]
    draw_lightcurve(figure, region(0, "both"), lightcurve(40), marks, "both", IMAGE)
    assert dots(figure.axes[0], "peak")[:, 0].tolist() == [3.5 * 5.0]
    assert dots(figure.axes[0], "eclipse")[:, 0].tolist() == [8.5 * 5.0]


def test_frames_not_searched_have_no_counts() -> None:
    figure = Figure()
    draw_lightcurve(figure, region(0), lightcurve(40), flags(1), "gaps", IMAGE)
    counts = next(patch for patch in figure.axes[0].patches if patch.get_label() == "counts").get_data().values
    np.testing.assert_array_equal(np.isnan(counts), [k % 7 == 3 for k in range(40)])


def test_many_frames_are_drawn_together() -> None:
    """Gaps are made up for, so that a constant source stays constant."""
    curve = lightcurve(900) | {"n": [0 if k % 7 == 3 else 2 for k in range(900)]}
    figure = Figure()
    draw_lightcurve(figure, region(0), curve, flags(400), "long", IMAGE)
    shown = next(patch for patch in figure.axes[0].patches if patch.get_label() == "counts").get_data()
    np.testing.assert_allclose(shown.values, 2 * 5)
    assert figure.axes[0].get_ylabel() == "counts per 25 s"
    assert dots(figure.axes[0], "peak")[:, 0].tolist() == [400.5 * 5.0]


def test_events_are_circles_in_order_of_strength() -> None:
    figure = Figure()
    found = [event(0, n_false=1e-3), event(1, kind="eclipse"), event(2, variable=True, n_false=0.02)]
    draw_image(figure, IMAGE, found, "three events")
    axes, legend = figure.axes[0], figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()][:3] == [
        "1: eclipse of 9 s, 23:59:46 UTC, 2.0e-09 by chance",
        "2: peak of 9 s, 23:59:46 UTC, 0.001 by chance",
        "3: variable of 9 s, 23:59:46 UTC, 0.02 by chance",
    ]
    assert legend.get_title().get_text() == "events; how many as strong are expected by chance"
    x, y = axes.patches[0].get_center()
    assert (x * 60, y * 60) == pytest.approx(((25_921 - 25_600) * 0.05, (25_700 - 25_921) * 0.05))
    saved(figure)


@pytest.mark.parametrize("frames", [1, 3, 40, 900])
def test_an_event_and_its_light_curve(frames: int) -> None:
    """Its time is shaded; where it is short it is enlarged. Frames without live time have no counts."""
    figure = Figure()
    curve = lightcurve(frames) | {"rejected": [False] * frames}
    draw_event(figure, event(), curve, "any", IMAGE)
    assert [axes.get_label() for axes in figure.axes] == ["whole", *["near"] * (frames > 64), "sky"]
    for axes in figure.axes[:-1]:
        (window,) = [patch for patch in axes.patches if patch.get_label() == "the event, 9 s"]
        assert (window.get_x(), window.get_width()) == (52.0, 9.0)
        assert to_rgba(window.get_facecolor())[:3] == to_rgba("#D55E00")[:3]
    if frames == 900:
        assert figure.axes[1].get_xlim() == (0.0, (13 + 15) * 5.0)
    counts = next(patch for patch in figure.axes[-2].patches if patch.get_label() == "counts").get_data().values
    np.testing.assert_array_equal(np.isnan(counts), [k % 7 == 3 for k in range(len(counts))])
    title = figure.axes[0].get_title()
    assert '0999999901_0_0: peak at RA 150.0000, Dec +2.0000 +- 1.0"; counts within 20 arcsec, 0.2-12 keV' in title
    assert "21.3 counts more than the 4.5 of the constant source; 2.0e-09 as strong expected by chance" in title
    saved(figure)


def lightcurve(frames: int) -> dict[str, object]:
    return {
        "time_s": [5.0 * k for k in range(frames)],
        "dt_s": 5.0,
        "n": [k % 3 for k in range(frames)],
        "mu": [None if k % 7 == 3 else 0.5 for k in range(frames)],
        "bad": [k > 20 for k in range(frames)],
        "live": [0.0 if k % 7 == 3 else 1.0 for k in range(frames)],
        "rejected": [k % 7 == 3 for k in range(frames)],
    }


def flags(*frames: int, best: int = 0) -> list[dict[str, object]]:
    return [{"t_index": frame, "kind": "peak", "p": 1e-9 if frame == best else 1e-7} for frame in frames]


def dots(axes: Axes, kind: str) -> np.ndarray:
    (line,) = [line for line in axes.get_lines() if line.get_gid() == f"flagged {kind}"]
    return line.get_xydata()


def saved(figure: Figure) -> None:
    """It can be drawn, and there is ink in every panel."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    for axes in figure.axes:
        (x0, y0), (x1, y1) = np.rint(axes.get_window_extent().get_points()).astype(int)
        assert np.ptp(pixels[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2]) > 100


@pytest.mark.parametrize(
    ("exponent", "text"), [(-40.6198, "2.4e-41"), (-4.00001, "1.0e-04"), (0.0, "1.0e+00"), (-np.inf, "0")]
)
def test_powers_of_ten(exponent: float, text: str) -> None:
    assert power_of_ten(exponent) == text
