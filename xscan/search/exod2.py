"""Do what the profile ``exod2`` does differently: each step in which EXOD2 and the method of this package differ.

Contract: every function here gives what EXOD2 gives, its mistakes included, and is called where one of
:class:`xscan.config.Rules` says so; docs/parity.md lists the differences. Functions stand in the order of the steps:
lists, frames, expectation, regions, positions, light curves. No other module of ``search`` is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xscan.backends import Counts
from xscan.config import Rules
from xscan.grid import Grid, ticks_of
from xscan.model import EventList, Expectation, Frames, Voxels
from xscan.sky import Position, TangentPlane

__all__ = [
    "bad_frames",
    "choose_lists",
    "expectation",
    "inpaint",
    "judged",
    "labels_of_cells",
    "position",
    "smooth",
    "source_disks",
    "source_mask",
    "sum_of_cells",
]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

BAD_RATE_PER_LIST = 0.5  # ct/s of 10-12 keV and list
BAD_BIN_S = 100.0  # longest bin of the curve of 10-12 keV
BRIGHT_FACTOR = 3.0  # cells above this many times the 75th percentile are masked
INPAINT_RADIUS = 2  # cells
KERNEL_SIGMA = 0.5  # cells
KERNEL_SIZE = 5  # cells
IMAGE_PIXELS = 80  # sky pixels along a pixel of the image in which EXOD2 works out positions
CELL_ARCSEC = 20.0  # side of a cell as EXOD2 takes it, whatever its true side
SHIFT_ARCSEC, SHIFT_ANGLE_DEG = np.sqrt(2) * 10, 315.0  # of every position


def choose_lists(group: list[EventList], by_camera: list[list[EventList]]) -> tuple[EventList, ...]:
    """Choose the lists that are searched together: all of a group, or one per camera if it has more than three.

    Then the list of longest TELAPSE is chosen. ``by_camera`` are the lists of the group, one entry for each camera.

    Examples
    --------
    Of four lists the one of longest TELAPSE of each camera; three are taken together, whatever their cameras:

    >>> from dataclasses import replace
    >>> short, long = (replace(events, telapse_s=seconds) for seconds in (100.0, 500.0))
    >>> [chosen.telapse_s for chosen in choose_lists([short, short, long, short], [[short, long], [short, short]])]
    [500.0, 100.0]
    >>> len(choose_lists([short, short, long], [[short, short, long]]))
    3
    """
    if len(group) <= 3:
        return tuple(group)
    return tuple(max(lists, key=lambda events: events.telapse_s) for lists in by_camera)


def bad_frames(lists: Sequence[EventList], t1: float, grid: Grid) -> Bools:
    """Return which frames are bad: one curve of 10-12 keV per view; each run of bad bins lies one bin too early.

    Parameters
    ----------
    lists : sequence of EventList
        Those searched together.
    t1 : float
        End of the time searched, s; it begins with the first frame.
    grid : Grid

    Returns
    -------
    bool array, shape (nt,)

    Examples
    --------
    A flare of 11 keV fills frames 6 and 7; the frame that is called bad is frame 5:

    >>> from dataclasses import replace
    >>> time, pi = np.linspace(300.0, 399.0, 100), np.full(100, 11_000)
    >>> grid = Grid(0.0, 50_000, 10, 129, data.grid.box, EPIC.sky)
    >>> np.flatnonzero(bad_frames([replace(events, time=time, pi=pi)], 500.0, grid)).tolist()
    [5]
    """
    bin_s = min(grid.dt_s, BAD_BIN_S)
    edges = np.arange(grid.t0, t1, bin_s)
    times = np.concatenate([e.time[(e.pi > 10_000) & (e.pi < 12_000)] for e in lists])
    bad = np.zeros(grid.nt, bool)
    if edges.size < 2:
        return bad
    counts, _ = np.histogram(times, edges)
    over = counts / bin_s > BAD_RATE_PER_LIST * len(lists)
    change = np.flatnonzero(np.diff(np.concatenate([[0], over.astype(np.int8), [0]])))
    frame_edges = grid.frame_edges()
    for first, end in zip(change[0::2], change[1::2], strict=True):
        last = end - 1
        if over.all():
            start, stop = edges[0], edges[-1]
        else:
            start = edges[max(first - 1, 0)]
            stop = edges[-1] if last == over.size - 1 else edges[last]
        end_frame = max(int(np.searchsorted(frame_edges, stop)) - 1, 0)
        bad[np.searchsorted(frame_edges, start) : end_frame] = True
    return bad


def judged(lists: Sequence[EventList], grid: Grid, bad: Bools) -> tuple[Frames, dict[str, Floats]]:
    """Return the frames of a view, rejected by their counts, and the live seconds of each camera in each frame.

    No live time is kept: every frame counts as live from end to end.

    Examples
    --------
    A list of MOS without events from 4 to 6 s, in frames of 2 s:

    >>> from dataclasses import replace
    >>> sparse = replace(events, time=np.where((events.time > 4) & (events.time < 6), 0.5, events.time))
    >>> grid = Grid(0.0, 2000, 5, 129, data.grid.box, EPIC.sky)
    >>> frames, seconds = judged([sparse], grid, np.zeros(5, bool))
    >>> frames.rejected.tolist(), seconds["m1"].tolist()
    ([False, False, True, False, False], [2.0, 2.0, 2.0, 2.0, 2.0])
    """
    seconds = {events.camera: np.full(grid.nt, grid.dt_s) for events in lists}
    return Frames(bad, _rejected(lists, grid, bad), np.ones(grid.nt)), seconds


def _rejected(lists: Sequence[EventList], grid: Grid, bad: Bools) -> Bools:
    """Return which frames are rejected: empty ones of MOS; those of pn with a silent quadrant, and the next."""
    rejected = np.zeros(grid.nt, bool)
    for events in lists:
        frame = ticks_of(events.time, grid.t0) // grid.dt_ms
        inside = (frame >= 0) & (frame < grid.nt)
        if events.camera != "pn":
            rejected |= np.bincount(frame[inside], minlength=grid.nt) == 0
            continue
        ccd_counts = np.zeros((13, grid.nt), np.int64)
        np.add.at(ccd_counts, (np.minimum(events.ccd[inside], 12), frame[inside]), 1)
        quadrants = ccd_counts[1:].reshape(4, 3, grid.nt)
        total, median = quadrants.sum(axis=1), np.median(quadrants, axis=1)
        high, low = median.max(axis=0), median.min(axis=0)
        with np.errstate(invalid="ignore"):
            uneven = (high - low) / (high + low) > 0.5  # 0 / 0 counts as even
        silent = (total == 0).any(axis=0) | (bad & uneven)
        found = (total == 0).all(axis=0) | ((total.max(axis=0) > 10) & silent)
        rejected |= found | np.roll(found, 1)
    return rejected


def source_disks(x_px: Floats, y_px: Floats, radius_arcsec: Floats, grid: Grid) -> Bools:
    """Return the cells whose left edges lie within a source; none at the edges of the box. Shape (ny, nx).

    Parameters
    ----------
    x_px, y_px : float64 array, shape (m,)
        Sources, in sky pixels; not a number where there is none.
    radius_arcsec : float64 array, shape (m,)
    grid : Grid

    Examples
    --------
    A source in the middle of the box, of a radius of 25 arcsec; cells count from their left edges:

    >>> middle = np.array([float(data.grid.to_pixel(64.0))])
    >>> source_disks(middle, middle, np.array([25.0]), data.grid).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    side = grid.sky.n / grid.n_cells
    # pixel p of the plane (from 1, reference CRPIX) is pixel (p - CRPIX) / 80 + CRPIX / 80 of the image, from 0
    x, y = (p / IMAGE_PIXELS - 1 for p in (x_px, y_px))
    x = (IMAGE_PIXELS * x - grid.box.x0 * side) / side
    y = (IMAGE_PIXELS * y - grid.box.y0 * side) / side
    radius = radius_arcsec / CELL_ARCSEC
    inside = np.isfinite(x) & np.isfinite(y) & (x >= 0) & (y >= 0)
    mask = np.zeros((grid.box.ny, grid.box.nx), bool)
    column, row = np.arange(grid.box.nx), np.arange(grid.box.ny)[:, None]
    for xc, yc, r in zip(x[inside], y[inside], radius[inside], strict=True):
        mask |= (column - xc) ** 2 + (row - yc) ** 2 < r**2
    mask[[0, -1], :] = False
    mask[:, [0, -1]] = False
    return mask


def expectation(
    images: NDArray[np.int64], counts: Counts, frames: Frames, disks: Bools, rules: Rules
) -> tuple[Expectation, Bools]:
    """Build the expectation of every voxel as EXOD2 does.

    Parameters
    ----------
    images : int64 array, shape (2, ny, nx)
        Counts of the good and of the bad frames, from ``counts.images(frames.kind())``.
    counts : Counts
        The binned events of one view.
    frames : Frames
    disks : bool array, shape (ny, nx)
        Cells covered by listed sources (:func:`xscan.search.background.source_disks`).
    rules : Rules

    Returns
    -------
    expected : Expectation
    mask : bool array, shape (ny, nx)
        The source mask: listed sources and bright cells.

    Notes
    -----
    Khan et al. (2025): the image of the good (bad) frames, its masked cells in-painted, divided by
    the counts outside the mask and smoothed, is the template of the good (bad) frames; it is
    scaled by each frame's counts outside the mask. What the image has above the template inside
    the mask is a constant source.

    Examples
    --------
    Each voxel holds one count, but the 8 frames of the cell in the middle, where a source is listed, 19 together:

    >>> disks = np.zeros((5, 5), bool)
    >>> disks[2, 2] = True
    >>> expected, mask = expectation(data.images, data.counts, data.frames, disks, Rules())
    >>> expected.row(2).round(1)[1:3].tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4]]
    """
    kept = ~frames.rejected
    of_kind = [kept & ~frames.bad, kept & frames.bad]
    mask = source_mask(images[0], disks)
    outside_counts = counts.counts_per_frame(~mask)
    outside_counts[frames.rejected] = 0
    templates, defined, outside = [], [], []
    for chosen, image in zip(of_kind, images, strict=True):
        total = int(outside_counts[chosen].sum())
        templates.append(_template(image, mask, total, rules.edge_normalised))
        # an empty cell has no template, whatever smoothing or in-painting put there
        defined.append((image > 0) & (total > 0))
        outside.append(total)
    n_bad = np.count_nonzero(frames.bad)
    main = 0 if frames.bad.size - n_bad > n_bad else 1
    source = _source(images[main], templates[main], outside[main], mask & defined[main])
    live_frames = float(frames.live[of_kind[main]].sum())
    source = source / live_frames if live_frames > 0 else np.zeros_like(source)
    counted = (counts.counts_per_frame(np.ones_like(mask)) > 0) & kept
    return (
        Expectation(
            template=np.where(defined, np.array(templates), 0.0),
            source=np.where(defined, source, 0.0),
            background_counts=outside_counts.astype(np.float64),
            live=np.where(counted, frames.live, 0.0),
            kind=frames.bad.astype(np.uint8),
        ),
        mask,
    )


def _template(image: NDArray[np.integer], mask: Bools, total: int, normalised: bool) -> Floats:
    if total == 0:
        return np.zeros(image.shape)
    share = inpaint(image.astype(np.float32), mask).astype(np.float64) / total
    # float32 as EXOD2 stores it: part of the definition, so that all backends agree bit for bit
    return smooth(share, normalised).astype(np.float32).astype(np.float64)


def _source(image: NDArray[np.integer], template: Floats, total: int, where: Bools) -> Floats:
    return np.where(where, np.maximum(image - template * total, 0.0), 0.0)


def inpaint(image: NDArray[np.float32], mask: Bools) -> NDArray[np.float32]:
    """Return the image with masked cells filled from their surroundings (Navier-Stokes, radius 2 cells), float32.

    The result depends on the order of the axes; as in EXOD2 it is computed on (x, y).

    Examples
    --------
    >>> image = np.full((5, 5), 4.0, np.float32)
    >>> image[2, 2] = 60
    >>> inpaint(image, image > 12)[2].tolist()
    [4.0, 4.0, 4.0, 4.0, 4.0]
    """
    holes = np.ascontiguousarray(mask.T, np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(image.T), holes, INPAINT_RADIUS, cv2.INPAINT_NS)
    return np.ascontiguousarray(filled.T, np.float32)


def smooth(image: Floats, normalised: bool) -> Floats:
    """Return the image convolved with a 5 x 5 Gaussian of sigma 0.5 cell.

    Parameters
    ----------
    image : float64 array, shape (ny, nx)
    normalised : bool
        Divide by the part of the kernel that lies inside the image; without it cells at an edge lose 11 %, and those in
        a corner 20 %.

    Examples
    --------
    The corner of a flat image, with and without normalisation:

    >>> flat = np.ones((5, 5))
    >>> [smooth(flat, normalised)[0, 0].round(2).tolist() for normalised in (True, False)]
    [1.0, 0.8]
    """
    out: Floats = ndimage.convolve(image, _kernel(), mode="constant", cval=0.0)
    return out / _part_inside(image.shape) if normalised else out


def _kernel() -> Floats:
    offset = np.arange(KERNEL_SIZE) - KERNEL_SIZE // 2
    kernel = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * KERNEL_SIGMA**2))
    return kernel / kernel.sum()


@lru_cache(maxsize=8)
def _part_inside(shape: tuple[int, ...]) -> Floats:
    """Return the part of the kernel that lies inside an image, for each cell."""
    part: Floats = ndimage.convolve(np.ones(shape), _kernel(), mode="constant", cval=0.0)
    part.setflags(write=False)
    return part


def source_mask(image_good: NDArray[np.integer], disks: Bools) -> Bools:
    """Return the cells that hold sources: listed ones, and those far brighter than the rest.

    Parameters
    ----------
    image_good : int array, shape (ny, nx)
        Counts of the good frames.
    disks : bool array, shape (ny, nx)

    Examples
    --------
    >>> source_mask(np.array([[4, 4, 4], [4, 13, 4], [4, 4, 12]]), np.zeros((3, 3), bool)).astype(int).tolist()
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    elsewhere = image_good[~disks]
    if elsewhere.size == 0:
        return disks
    bright: Bools = image_good > BRIGHT_FACTOR * np.percentile(elsewhere, 75)
    return disks | bright


def labels_of_cells(voxels: Voxels, grid: Grid) -> NDArray[np.intp]:
    """Return a label for each voxel, from 0: that of its group of touching flagged cells (eight neighbours).

    Examples
    --------
    Cells (0, 0) and (1, 1) touch, whatever the time; cell (4, 4) is another region:

    >>> x = np.array([0, 1, 4], np.int32)
    >>> voxels = Voxels(x, x, np.array([0, 7, 0], np.int32), x, np.ones(3), np.zeros(3, bool))
    >>> labels_of_cells(voxels, data.grid).tolist()
    [0, 0, 1]
    """
    ny, nx, _ = grid.shape
    flagged = np.zeros((ny, nx), bool)
    flagged[voxels.y, voxels.x] = True
    # labels run with x slowest, as in EXOD2, whose arrays are (x, y)
    labels, _ = ndimage.label(flagged.T, structure=np.ones((3, 3), bool))
    return np.asarray(labels.T[voxels.y, voxels.x] - 1, np.intp)


def position(x: float, y: float, area: int, grid: Grid, plane: TangentPlane) -> Position:
    """Return the position of a region: left edges of cells, then a shift to the north-west.

    Parameters
    ----------
    x, y : float
        Centroid of the region's cells, in cells of the plane.
    area : int
        Number of its cells.
    grid : Grid
    plane : TangentPlane

    Examples
    --------
    The pixel is that of the left edge of a cell, half of its 402 pixels from the centre:

    >>> place = position(64.0, 64.0, 1, data.grid, data.plane)
    >>> round(float(data.grid.to_pixel(64.0)) - place.x_px), round(place.error_arcsec, 2)
    (200, 5.8)
    """
    side = grid.cell_arcsec / grid.sky.side_arcsec
    x_px, y_px = x * side, y * side
    # the image's pixels are counted from 0, and its reference pixel is CRPIX / 80
    corner_ra, corner_dec = plane.to_fk5(x_px + IMAGE_PIXELS, y_px + IMAGE_PIXELS)
    ra, dec = _offset(float(corner_ra), float(corner_dec), SHIFT_ANGLE_DEG, SHIFT_ARCSEC)
    return Position(x_px, y_px, ra, dec, grid.cell_arcsec / float(np.sqrt(12 * area)))


def _offset(ra: float, dec: float, position_angle_deg: float, distance_arcsec: float) -> tuple[float, float]:
    """Return the point at a distance and position angle from another, along a great circle; deg."""
    angle, distance = np.radians(position_angle_deg), np.radians(distance_arcsec / 3600)
    dec0 = np.radians(dec)
    sin_dec = np.sin(dec0) * np.cos(distance) + np.cos(dec0) * np.sin(distance) * np.cos(angle)
    east = np.sin(angle) * np.sin(distance) * np.cos(dec0)
    north = np.cos(distance) - np.sin(dec0) * sin_dec
    return float((ra + np.degrees(np.arctan2(east, north))) % 360), float(np.degrees(np.arcsin(sin_dec)))


def sum_of_cells(mu: Floats) -> Floats:
    """Return the expected light curve of some cells, shape (nt,), from that of each, (n, nt): summed in float32.

    Examples
    --------
    One count more than 2**24 is lost in float32:

    >>> sum_of_cells(np.array([[2.0**24, 1.0], [1.0, 1.0]])).tolist()
    [16777216.0, 2.0]
    """
    return np.asarray(mu.astype(np.float32).sum(axis=0, dtype=np.float32), np.float64)
