"""Build the expectation where nothing varies: background templates and constant sources.

Every step is defined for any number of counts, down to zero. Means are local and bounded from below. A cell is bright
if Poisson statistics make its counts improbable. Where one kind of frames (good or bad) has too little live time to
determine its template, the template of the other kind is used in part.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from xscan.backends import Counts
from xscan.config import Rules
from xscan.grid import Grid
from xscan.model import Expectation, Frames, Sources, Voxels
from xscan.search import exod2
from xscan.search.smoothing import Surroundings, smooth
from xscan.sky import TangentPlane

__all__ = [
    "BRIGHT_COUNTS",
    "BRIGHT_FACTOR",
    "LIKELIHOOD_MIN",
    "constant_sources",
    "expectation",
    "most_around",
    "on_detector",
    "source_disks",
    "source_mask",
    "source_radius",
    "without_flagged",
]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

LIKELIHOOD_MIN = 8.0
POINT_RADII_ARCSEC = ((0.1, 20.0), (1.0, 40.0), (np.inf, 80.0))  # up to this rate (ct/s): this radius
BRIGHT_FACTOR = 3.0  # a cell is bright if it has more than this many times the mean of its surroundings,
BRIGHT_P = 1e-4  # and if that mean gives its counts with less than this probability (one cell of a field by chance)
BRIGHT_COUNTS = 40  # from here on the factor alone decides: three times the mean is always less probable
MASK_ROUNDS = 10
OWN_COUNTS = 0.5  # weight of the surroundings in a cell's template, counts
SHRINK_COUNTS = (
    10.0  # expected counts in a cell at which its template is half its own and half that of the other kind of frames
)


def expectation(
    images: NDArray[np.int64], counts: Counts, frames: Frames, disks: Bools, rules: Rules
) -> tuple[Expectation, Bools]:
    """Build the expectation of every voxel from the counts themselves.

    Parameters
    ----------
    images : int64 array, shape (2, ny, nx)
        Counts of the good and of the bad frames, from ``counts.images(frames.kind())``.
    counts : Counts
        The binned events of one view.
    frames : Frames
    disks : bool array, shape (ny, nx)
        Cells covered by listed sources (:func:`source_disks`).
    rules : Rules

    Returns
    -------
    expected : Expectation
    mask : bool array, shape (ny, nx)
        The source mask: listed sources and bright cells.

    Notes
    -----
    Khan et al. (2025): the image of the good (bad) frames, its masked cells filled, divided by the
    counts outside the mask and smoothed, is the template of the good (bad) frames; it is scaled by
    each frame's counts outside the mask. What the image has above the template inside the mask is a
    constant source.

    Where counts are few, xscan differs. Masked cells are filled with the mean of their surroundings. A
    template's cell is the mean of a Gamma distribution whose prior is that mean with a weight of half a
    count. The template of the rarer kind of frames, by live time, is ``w`` times its own and ``1 - w`` times the
    other kind's, ``w = m / (m + 10)`` for ``m`` counts expected in the cell: with much live time it is its
    own. A frame's counts are at least the mean of a Gamma distribution too, whose prior is the mean of its kind
    of frames with a weight of one count. A constant source has one strength in all frames
    (:func:`constant_sources`).

    Examples
    --------
    Each voxel holds one count, but the 8 frames of the cell in the middle, where a source is listed, 19 together:

    >>> disks = np.zeros((5, 5), bool)
    >>> disks[2, 2] = True
    >>> expected, mask = expectation(data.images, data.counts, data.frames, disks, Rules())
    >>> expected.row(2).round(1)[1:3].tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4]]
    """
    if not rules.local_background:
        return exod2.expectation(images, counts, frames, disks, rules)
    both = images.sum(axis=0)
    detector = on_detector(both)
    mask, around = _masked(both, disks, detector)
    kept = ~frames.rejected
    counted = (counts.counts_per_frame(np.ones_like(mask)) > 0) & kept
    kind = frames.bad.astype(np.uint8)
    live = np.where(counted, frames.live, 0.0)
    outside_counts = np.where(counted, counts.counts_per_frame(~mask), 0).astype(np.float64)
    seconds = np.array([live[kind == k].sum() for k in (0, 1)])
    outside = np.array([outside_counts[kind == k].sum() for k in (0, 1)])
    if outside.any():
        template = _shrunk(_templates(images, mask, detector, around), outside, seconds, mask)
    else:  # every count lies in the mask: the background rate is 0 in all frames, whatever the template
        template = np.stack([detector, detector]).astype(np.float64)
    for k in (0, 1):
        if seconds[k] > 0:
            chosen = (kind == k) & counted
            outside_counts[chosen] = _at_least_usual(outside_counts[chosen], live[chosen] * outside[k] / seconds[k])
    expected = Expectation(template, np.zeros_like(template), outside_counts, live, kind)
    return replace(expected, source=constant_sources(expected, images, mask)), mask


def source_mask(image: NDArray[np.integer], disks: Bools) -> Bools:
    """Return the cells that hold sources: listed ones, and those far brighter than their surroundings.

    Parameters
    ----------
    image : int array, shape (ny, nx)
        Counts of all frames, good and bad.
    disks : bool array, shape (ny, nx)

    Notes
    -----
    A cell is bright where it has more than three times the mean of the unmasked cells around it, and
    more than Poisson statistics allow there (p = 1e-4). The first bright cells are found by comparison with the
    75th percentile of the occupied ones; then the search is repeated until it finds no further cell.

    Examples
    --------
    >>> image = np.full((9, 9), 4)
    >>> image[4, 5] = 60
    >>> np.argwhere(source_mask(image, np.zeros((9, 9), bool))).tolist()
    [[4, 5]]
    """
    return _masked(image, disks, on_detector(image))[0]


def _masked(image: NDArray[np.integer], disks: Bools, detector: Bools) -> tuple[Bools, Surroundings]:
    """Return the source mask, and the cells of the detector outside it."""
    elsewhere = image[(image > 0) & ~disks]
    if elsewhere.size == 0:
        return disks, Surroundings.of(detector & ~disks, image)[0]
    mask: Bools = disks | _bright(image, _third_quartile(elsewhere))
    for _ in range(MASK_ROUNDS):
        around, mean = Surroundings.of(detector & ~mask, image)
        grown = mask | _bright(image, mean)
        if np.array_equal(grown, mask):
            return mask, around
        mask = grown
    return mask, Surroundings.of(detector & ~mask, image)[0]


def _third_quartile(counts: NDArray[np.integer]) -> float:
    """Return the 75th percentile of counts, equal to ``numpy.percentile`` but without sorting."""
    below = np.cumsum(np.bincount(counts))
    rank, rest = divmod(3 * (counts.size - 1), 4)
    low, high = np.searchsorted(below, [rank, min(rank + 1, counts.size - 1)], side="right").tolist()
    return float(low + (high - low) * rest / 4)


def _bright(image: NDArray[np.integer], around: Floats | float) -> Bools:
    return (image > BRIGHT_FACTOR * around) & (around < most_around()[np.minimum(image, BRIGHT_COUNTS)])


@lru_cache(maxsize=1)
def most_around() -> Floats:
    """Return for each n up to BRIGHT_COUNTS the largest mean for which P(n or more counts) is below BRIGHT_P.

    The last is infinite: from there on the factor alone decides.

    Examples
    --------
    Two counts are too many where 0.014 are usual, ten where 2.2 are:

    >>> most_around()[[2, 10]].round(3).tolist()
    [0.014, 2.198]
    """
    limits: Floats = gammaincinv(np.maximum(np.arange(BRIGHT_COUNTS + 1), 1), BRIGHT_P)
    limits[0], limits[-1] = 0.0, np.inf
    limits.setflags(write=False)
    return limits


def on_detector(image: NDArray[np.integer]) -> Bools:
    """Return the cells that see the sky: those with a count, and their neighbours.

    Examples
    --------
    >>> on_detector(np.array([[0, 0, 0, 0], [5, 0, 0, 0], [0, 0, 0, 0]])).astype(int).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    """
    seen = np.pad(image > 0, 1)
    rows = seen[:-2] | seen[1:-1] | seen[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _templates(images: NDArray[np.int64], mask: Bools, detector: Bools, around: Surroundings) -> Floats:
    """Return the template of each kind of frames, in counts of its image; 0 off the detector. Shape (2, ny, nx)."""
    templates = np.zeros(images.shape)
    some = np.array([image.any() for image in images])
    mean = around.mean(images[some])
    own = smooth(np.where(mask, mean, images[some]))
    templates[some] = np.where(detector, mean * (own + OWN_COUNTS) / (mean + OWN_COUNTS), 0.0)
    return templates


def _shrunk(background: Floats, outside: Floats, seconds: Floats, mask: Bools) -> Floats:
    """Return the templates per count outside the mask, that of the rarer kind of frames drawn toward the other.

    Parameters
    ----------
    background : float64 array, shape (2, ny, nx)
        From :func:`_templates`.
    outside, seconds : float64 array, shape (2,)
        Counts outside the mask, and live frames, of each kind.
    mask : bool array, shape (ny, nx)
    """
    main = int(np.argmax(np.where(outside > 0, seconds, -1.0)))
    template = np.zeros_like(background)
    template[main] = _normalised(background[main], mask)
    known = template[main] * outside[1 - main]
    if outside[1 - main] > 0:
        own = _normalised(background[1 - main], mask)
        template[1 - main] = (known * own + SHRINK_COUNTS * template[main]) / (known + SHRINK_COUNTS)
        template[1 - main] = _normalised(template[1 - main], mask)
    else:
        template[1 - main] = template[main]
    return template


def _normalised(background: Floats, mask: Bools) -> Floats:
    total = float(background[~mask].sum())
    return background / total if total > 0 else background


def _at_least_usual(counts: Floats, usual: Floats) -> Floats:
    """Return the counts of frames, raised toward the usual ones where counting statistics explain that they are low."""
    return np.maximum(counts, usual * (counts + 1) / (usual + 1))


def constant_sources(expected: Expectation, images: NDArray[np.int64], mask: Bools) -> Floats:
    """Fit the strength of the constant source in each masked cell: one strength for good and bad frames together.

    Parameters
    ----------
    expected : Expectation
        Its ``source`` is ignored.
    images : int64 array, shape (2, ny, nx)
        Counts of the good and of the bad frames.
    mask : bool array, shape (ny, nx)

    Returns
    -------
    float64 array, shape (2, ny, nx)
        Counts per full frame, the same in both kinds.

    Notes
    -----
    The strength s with the largest Poisson likelihood, given the background b_k and the live time l_k of both
    kinds: ``sum n_k l_k / (b_k + s l_k) = sum l_k``, a quadratic equation; 0 where it has no positive root.

    Examples
    --------
    In each cell one count of background is expected in each of 10 frames; 30 counts are 2 a frame more:

    >>> template = np.full((2, 1, 2), 0.01)
    >>> expected = Expectation(template, 0 * template, np.full(10, 100.0), np.ones(10), np.zeros(10, np.uint8))
    >>> images = np.array([[[10, 30]], [[0, 0]]])
    >>> constant_sources(expected, images, mask=np.array([[False, True]]))[0].round(6).tolist()
    [[0.0, 2.0]]
    """
    y, x = np.nonzero(mask)
    strength = np.zeros(mask.shape)
    strength[y, x] = _one_strength(*_known(expected, images, y, x))
    return np.stack([strength, strength])


def _known(
    expected: Expectation, images: NDArray[np.int64], y: NDArray[np.intp], x: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats]:
    """Return counts, background counts and live time of cells in good and in bad frames, shape (2, m) each."""
    n = images[:, y, x].astype(np.float64)
    background, live = np.empty_like(n), np.empty_like(n)
    for k in (0, 1):
        chosen = expected.kind == k
        background[k] = expected.template[k, y, x] * expected.background_counts[chosen].sum()
        live[k] = expected.live[chosen].sum()
    return n, background, live


def _one_strength(n: Floats, background: Floats, live: Floats) -> Floats:
    """Solve for the strength that :func:`constant_sources` describes; arguments of shape (2, m)."""
    (n1, n2), (b1, b2), (l1, l2) = n, background, live
    total = l1 + l2
    a = total * l1 * l2
    b = total * (b1 * l2 + b2 * l1) - l1 * l2 * (n1 + n2)
    c = total * b1 * b2 - n1 * l1 * b2 - n2 * l2 * b1
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    alone = (n1 + n2 - np.where(l1 > 0, b1, b2)) / np.where(total > 0, total, 1.0)  # one kind of frames only
    with np.errstate(divide="ignore", invalid="ignore"):
        # the larger root, in the form without cancellation
        both = np.where(b > 0, -2 * c / (b + root), (root - b) / (2 * a))
    strength = np.where((l1 > 0) & (l2 > 0), both, np.where(total > 0, alone, 0.0))
    return np.maximum(np.nan_to_num(strength), 0.0)


def without_flagged(expected: Expectation, images: NDArray[np.int64], mask: Bools, voxels: Voxels) -> Expectation:
    """Fit the constant sources again without the flagged voxels, so that an event does not hide itself.

    The flux that a source shows for most of the time is its constant flux. So a cell's flagged voxels are left
    out if at least half of the live time remains; otherwise only those of the kind (peaks or eclipses) that covers
    less live time are left out. Without this rule a bright burst would turn all other time into an eclipse.

    Parameters
    ----------
    expected : Expectation
        Its sources are those of :func:`constant_sources`, with all voxels.
    images : int64 array, shape (2, ny, nx)
    mask : bool array, shape (ny, nx)
    voxels : Voxels

    Returns
    -------
    Expectation
        ``expected`` itself where no masked cell was flagged.

    Examples
    --------
    A cell with 29 counts in 10 frames, in each of which one is background; 9 frames hold 18 without the 11 of a burst:

    >>> template = np.full((2, 1, 1), 0.01)
    >>> expected = Expectation(template, 0 * template, np.full(10, 100.0), np.ones(10), np.zeros(10, np.uint8))
    >>> zero, true = np.zeros(1, np.int32), np.ones((1, 1), bool)
    >>> burst = Voxels(zero, zero, zero + 3, zero + 11, np.array([1.0]), np.array([False]))
    >>> without_flagged(expected, np.array([[[29]], [[0]]]), true, burst).source[0].round(6).tolist()
    [[1.0]]
    """
    inside = np.flatnonzero(mask[voxels.y, voxels.x])
    if inside.size == 0:
        return expected
    y, x, t, eclipse = (getattr(voxels, name)[inside] for name in ("y", "x", "t", "eclipse"))
    cells, cell = np.unique(y * np.int64(mask.shape[1]) + x, return_inverse=True)
    live_s = expected.live[t]
    peaks, eclipses = (np.bincount(cell, np.where(eclipse == kind, live_s, 0.0), cells.size) for kind in (False, True))
    enough = peaks + eclipses <= expected.live.sum() / 2
    left_out = enough[cell] | (eclipse != (peaks < eclipses)[cell])
    y, x, t, cell = y[left_out], x[left_out], t[left_out], cell[left_out]
    cell_y, cell_x = np.divmod(cells, mask.shape[1])
    known = n, background, live = _known(expected, images, cell_y, cell_x)
    kind = expected.kind[t]
    np.subtract.at(n, (kind, cell), voxels.n[inside[left_out]])
    np.subtract.at(background, (kind, cell), expected.template[kind, y, x] * expected.background_counts[t])
    np.subtract.at(live, (kind, cell), expected.live[t])
    source = expected.source.copy()
    source[:, cell_y, cell_x] = _one_strength(*(np.maximum(values, 0) for values in known))
    return replace(expected, source=source)


def source_radius(rate: Floats, extent_arcsec: Floats) -> Floats:
    """Return the radius, arcsec, in which sources are masked: by count rate (ct/s) of a point, else the extent.

    Examples
    --------
    >>> source_radius(np.array([0.05, 0.5, 5.0, 0.5]), np.array([0.0, 0.0, 0.0, 30.0])).tolist()
    [20.0, 40.0, 80.0, 30.0]
    """
    steps, radii = zip(*POINT_RADII_ARCSEC, strict=True)
    return np.where(extent_arcsec > 0, extent_arcsec, np.array(radii)[np.searchsorted(steps, rate)])


def source_disks(sources: Sources | None, plane: TangentPlane, grid: Grid, rules: Rules) -> Bools:
    """Return the cells whose centres lie within a listed source, shape (ny, nx).

    Used are sources with a detection likelihood above 8. The radius of a point source depends on its count rate; for
    an extended source it is the extent itself.

    Examples
    --------
    Of two listed sources of 0.5 ct/s one is hardly detected; the radius of the other is 40 arcsec, two cells:

    >>> middle = data.grid.to_pixel([64.0, 62.0])
    >>> ra, dec = data.plane.to_icrs(middle, middle)
    >>> sources = Sources(ra, dec, np.array([100.0, 2.0]), np.zeros(2), np.array([0.5, 0.5]))
    >>> source_disks(sources, data.plane, data.grid, Rules()).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    ny, nx, _ = grid.shape
    mask = np.zeros((ny, nx), bool)
    if sources is None:
        return mask
    listed = sources.likelihood > LIKELIHOOD_MIN
    x_px, y_px = plane.from_icrs(sources.ra_deg[listed], sources.dec_deg[listed])
    rate, extent = sources.rate[listed], sources.extent_arcsec[listed]
    radius_arcsec = source_radius(rate, extent)
    if not rules.sky_source_mask:
        return exod2.source_disks(x_px, y_px, radius_arcsec, grid)
    x = (x_px + 0.5) * grid.n_cells / grid.sky.n - 0.5 - grid.box.x0
    y = (y_px + 0.5) * grid.n_cells / grid.sky.n - 0.5 - grid.box.y0
    radius = radius_arcsec / grid.cell_arcsec
    inside = np.isfinite(x) & np.isfinite(y)
    column, row = np.arange(nx), np.arange(ny)[:, None]
    for xc, yc, r in zip(x[inside], y[inside], radius[inside], strict=True):
        mask |= (column - xc) ** 2 + (row - yc) ** 2 <= r**2
    return mask
