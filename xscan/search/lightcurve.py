"""Extract counts and expected counts of a region, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.grid import Box
from xscan.search import exod2
from xscan.search.view import ViewData

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


def light_curve(box: Box, data: ViewData, in_float64: bool = True) -> LightCurve:
    """Return the light curve of a box.

    Parameters
    ----------
    box : Box
        Cells of the whole plane, within the grid's.
    data : ViewData
    in_float64 : bool
        False to sum the expected counts of cells as EXOD2 does.

    Examples
    --------
    Of a cell that has a count in each frame, and 12 in one:

    >>> curve = light_curve(Box(64, 65, 64, 65), data)
    >>> curve.n.tolist(), curve.mu.tolist()
    ([1, 1, 1, 12, 1, 1, 1, 1], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    """
    frames, inner = data.frames, box.relative_to(data.grid.box)
    n = data.counts.box(inner)
    n[frames.rejected] = 0
    cells = np.concatenate([data.expected.row(y, inner.x0, inner.x1) for y in range(inner.y0, inner.y1)])
    mu = cells.sum(axis=0) if in_float64 else exod2.sum_of_cells(cells)
    return LightCurve(data.grid.frame_edges()[:-1], n, mu, frames.live, frames.bad, frames.rejected)
