from __future__ import annotations

import numpy as np
import pytest
from fake import binned, chosen

from xscan.backends import get_backend
from xscan.background import expectation, inpaint, smooth, source_disks, source_mask
from xscan.config import Rules
from xscan.grid import Box, Grid
from xscan.model import Frames, Photons, Sources
from xscan.sky import TangentPlane

OURS = Rules()
LEGACY = Rules(**dict.fromkeys(Rules.__dataclass_fields__, False))
PLANE = TangentPlane(150.0, 2.0)
GRID = Grid(0.0, 10_000, 40, 129, Box(50, 80, 52, 77))


def test_smoothing_by_hand() -> None:
    image = np.zeros((7, 7))
    image[3, 3] = 1.0
    kernel = smooth(image, normalised=False)
    side, corner = np.exp(-2.0), np.exp(-4.0)
    assert kernel.sum() == pytest.approx(1)
    assert kernel[3, 4] / kernel[3, 3] == pytest.approx(side)
    assert kernel[4, 4] / kernel[3, 3] == pytest.approx(corner)
    assert kernel[3, 5] / kernel[3, 3] == pytest.approx(np.exp(-8.0))
    flat = np.ones((9, 9))
    assert smooth(flat, normalised=False)[0, 4] < 0.9  # EXOD2 loses up to 13 % at the edge
    np.testing.assert_allclose(smooth(flat, normalised=True), 1.0, rtol=1e-14)


def test_source_mask_counts_empty_cells() -> None:
    image = np.zeros((4, 4), np.int64)
    image[0] = [1, 4, 3, 9]
    disks = np.zeros((4, 4), bool)
    disks[3, 3] = True
    # eleven of the 15 cells outside the disk are empty: the 75th percentile is half way from 0 to 1
    assert np.flatnonzero(source_mask(image, disks)[0]).tolist() == [1, 2, 3]
    image[1:] = 1
    image[0, 2] = 3
    mask = source_mask(image, disks)  # 75th percentile 1: above 3 is bright, 3 is not
    assert np.argwhere(mask).tolist() == [[0, 1], [0, 3], [3, 3]]
    everything = np.ones((4, 4), bool)
    np.testing.assert_array_equal(source_mask(image, everything), everything)


def sources(offsets_arcsec: list[tuple[float, float]], rate: float = 0.05, extent: float = 0.0) -> Sources:
    x, y = (25_921 + np.array(axis) / 0.05 for axis in zip(*offsets_arcsec, strict=True))
    ra, dec = PLANE.to_icrs(x, y)
    n = len(ra)
    return Sources(ra, dec, np.full(n, 20.0), np.full(n, extent), np.full(n, rate))


@pytest.mark.parametrize(
    ("rate", "extent", "radius"), [(0.1, 0, 20), (0.11, 0, 40), (1.0, 0, 40), (1.1, 0, 80), (0.05, 65, 65)]
)
def test_source_disks_against_distances_on_the_sky(rate: float, extent: float, radius: float) -> None:
    offset = (13.0, -41.0)
    mask = source_disks(sources([offset], rate, extent), PLANE, GRID, OURS)
    y, x = np.mgrid[: GRID.box.ny, : GRID.box.nx]
    x_arcsec = (GRID.to_pixel(x + GRID.box.x0) - 25_921) * 0.05
    y_arcsec = (GRID.to_pixel(y + GRID.box.y0) - 25_921) * 0.05
    np.testing.assert_array_equal(mask, np.hypot(x_arcsec - offset[0], y_arcsec - offset[1]) <= radius)


def test_unlikely_sources_and_sources_outside_mask_nothing() -> None:
    faint = sources([(0.0, 0.0)])
    faint = Sources(faint.ra_deg, faint.dec_deg, np.array([8.0]), faint.extent_arcsec, faint.rate)
    assert not source_disks(faint, PLANE, GRID, OURS).any()
    far = sources([(5000.0, 0.0), (0.0, -5000.0)])
    for rules in (OURS, LEGACY):
        assert not source_disks(far, PLANE, GRID, rules).any()
    behind = Sources(*(np.array([v]) for v in (330.0, -2.0, 20.0, 0.0, 1.0)))
    assert not source_disks(behind, PLANE, GRID, OURS).any()
    assert not source_disks(None, PLANE, GRID, OURS).any()


def test_a_source_at_the_edge_masks_what_is_inside() -> None:
    edge = (GRID.to_pixel(GRID.box.x0 - 1) - 25_921) * 0.05
    mask = source_disks(sources([(float(edge), 0.0)], rate=0.5), PLANE, GRID, OURS)
    assert mask.any()
    assert not source_disks(sources([(float(edge), 0.0)], rate=0.5), PLANE, GRID, LEGACY).any()


def steady(rng: np.random.Generator, source_rate: float = 0.0) -> Photons:
    """A flat field of 2 counts a cell and frame, with a constant source in one cell."""
    n = 2 * GRID.box.nx * GRID.box.ny * GRID.nt
    extra = rng.poisson(source_rate * GRID.nt)
    x = np.concatenate([rng.integers(50, 80, n), np.full(extra, 60)])
    y = np.concatenate([rng.integers(52, 77, n), np.full(extra, 70)])
    tick = rng.integers(0, GRID.nt * GRID.dt_ms, n + extra)
    return binned(tick, x, y)


def frames(bad: list[int] | None = None, rejected: list[int] | None = None) -> Frames:
    flags = [np.isin(np.arange(GRID.nt), chosen or []) for chosen in (bad, rejected)]
    return Frames(flags[0], flags[1], np.ones(GRID.nt))


def test_expectation_recovers_a_flat_sky_and_a_source(rng: np.random.Generator) -> None:
    counts = get_backend("numpy").load(steady(rng, source_rate=200.0)).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    expected, mask = expectation(counts.images(frames().kind()), counts, frames(), none, OURS)
    assert np.argwhere(mask).tolist() == [[70 - 52, 60 - 50]]
    source = expected.source[0][mask][0]
    assert source == pytest.approx(200, rel=0.05)
    mu = expected.row(18)
    assert mu[10].mean() == pytest.approx(202, rel=0.05)
    assert np.delete(mu, 10, axis=0).mean() == pytest.approx(2, rel=0.05)
    np.testing.assert_array_equal(expected.rate, counts.rate(~mask))


def test_every_expected_count_was_counted(rng: np.random.Generator) -> None:
    """Summed over everything outside the mask, mu is the counts, whatever the frames."""
    counts = get_backend("numpy").load(steady(rng)).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    made = frames(bad=[3, 4, 5, 30], rejected=[7, 31])
    expected, mask = expectation(counts.images(made.kind()), counts, made, none, OURS)
    mu = np.stack([expected.row(y) for y in range(GRID.box.ny)])
    assert mu[~mask].sum() == pytest.approx(counts.images(made.kind()).sum(axis=0)[~mask].sum(), rel=2e-3)
    assert (mu[:, :, made.rejected] == 0).all()
    assert (mu[:, :, 3] > 0).all()


def test_cells_without_a_template_are_undefined(rng: np.random.Generator) -> None:
    p = steady(rng)
    y, x = p.cells()
    keep = ~((x == 55) & (y == 60) & (p.tick < 30 * GRID.dt_ms))
    p = chosen(p, keep)
    counts = get_backend("numpy").load(p).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    made = frames(bad=list(range(30, 40)))
    expected, _ = expectation(counts.images(made.kind()), counts, made, none, OURS)
    cell = expected.row(8)[5]
    assert (cell[:30] == 0).all()  # never a count in good frames
    assert (cell[30:] > 0).all()


def test_no_good_frame_and_no_frame_at_all(rng: np.random.Generator) -> None:
    counts = get_backend("numpy").load(steady(rng)).bin(GRID, 200, 900)
    none = np.zeros((GRID.box.ny, GRID.box.nx), bool)
    every = list(range(GRID.nt))
    expected, _ = expectation(counts.images(frames(bad=every).kind()), counts, frames(bad=every), none, OURS)
    assert np.isfinite(expected.template).all()
    assert expected.row(3).mean() == pytest.approx(2, rel=0.1)
    expected, _ = expectation(counts.images(frames(rejected=every).kind()), counts, frames(rejected=every), none, OURS)
    assert not np.any([expected.row(y) for y in range(GRID.box.ny)])


def test_inpainting_fills_from_the_surroundings() -> None:
    image = np.full((12, 15), 7, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[4:6, 5:8] = True
    image[mask] = 900
    np.testing.assert_allclose(inpaint(image, mask), 7, rtol=1e-5)
