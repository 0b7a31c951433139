"""Extract counts and expected counts of a region, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.backends import Counts
from xscan.config import Rules
from xscan.grid import Box, Grid
from xscan.model import Expectation, Frames
from xscan.search import exod2

__all__ = ["LightCurve", "light_curve"]


@dataclass(frozen=True, slots=True)
class LightCurve:
    """The light curve of a bounding box, shape (nt,) each.

    Attributes
    ----------
    time_s : float64
        Start of each frame, s, mission time.
    n : int64
        Counts; 0 in rejected frames, which are not searched.
    mu : float64
        Expected counts; 0 where undefined.
    live : float64
        Live fraction, all cameras together.
    bad, rejected : bool
        As in :class:`~xscan.model.Frames`.
    """

    time_s: NDArray[np.float64]
    n: NDArray[np.int64]
    mu: NDArray[np.float64]
    live: NDArray[np.float64]
    bad: NDArray[np.bool_]
    rejected: NDArray[np.bool_]


def light_curve(
    box: Box, counts: Counts, expected: Expectation, frames: Frames, grid: Grid, rules: Rules
) -> LightCurve:
    """Return the light curve of a box, which is given in cells of the whole plane."""
    inner = Box(box.x0 - grid.box.x0, box.x1 - grid.box.x0, box.y0 - grid.box.y0, box.y1 - grid.box.y0)
    n = counts.box(inner)
    n[frames.rejected] = 0
    rows = [expected.row(y, inner.x0, inner.x1) for y in range(inner.y0, inner.y1)]
    cells = np.concatenate(rows)
    mu = cells.sum(axis=0) if rules.float64_lightcurves else exod2.sum_of_cells(cells)
    return LightCurve(grid.frame_edges()[:-1], n, mu, frames.live, frames.bad, frames.rejected)
