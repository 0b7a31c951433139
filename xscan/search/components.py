"""Build the expectation of the search by windows: a sum of maps, each times a curve.

The CCDs of a list that were live at the same times form a *live group*. A band is expected to have, of each group, the
background of good and of bad time (a map of its own, in proportion to the rate of the whole field and to the group's
live time), and the constant sources in the mask, in proportion to the live time. So a CCD that is dead for a while
takes nothing from the others, and no frame has to be left out because of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xscan.backends import EventLoops
from xscan.model import Photons, PixelMask, Sources
from xscan.search.background import BRIGHT_COUNTS, BRIGHT_FACTOR, LIKELIHOOD_MIN, most_around, source_radius
from xscan.search.frames import BadTime, LiveTime
from xscan.search.subsets import Subset
from xscan.sky import TangentPlane
from xscan.windows import BASE_MS, BASE_S, CELL, FINE_ARCSEC, BandModel, FineGrid, TimedPhotons

__all__ = ["BANDS", "NARROW_EV", "Densities", "Field", "LiveGroups", "band_models", "densities", "field_of"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

NARROW_EV = (200, 500, 1000, 2000, 4500, 12_001)
"""Edges of the narrow bands, in which the spectrum of a candidate is judged."""

BANDS = ((0, 5), (0, 3), (3, 5))
"""The bands in which windows are searched, in narrow bands: full, soft and hard."""

SIGMA_ARCSEC = 10.0  # of the smoothed maps in which windows are searched
DENSITY_SIGMA_ARCSEC = 15.0  # of those from which the density at a photon is read
SOURCE_SIGMA_ARCSEC = 4.0
FIELD_SIGMA_ARCSEC = 15.0  # what lies within four of these of a photon is in the field
KNOWN_PART = 0.3  # of the kernel outside the mask: where less is known, wider means fill in
WIDER_SIGMAS = (1.0, 2.0, 4.0, 8.0)  # cells
RATE_COUNTS = 20.0  # counts to expect in the time over which the rate of the field is averaged
GOOD_RATE_S, BAD_RATE_S = 100.0, 8.0  # sigma with which the rate is smoothed for the density at a photon
LIVE_PART_MIN = 0.02  # of the field: where less is live, its rate is not known
LIVE_APART_S = 30.0  # CCDs whose live times never differ by more than this form a group
COARSE = 2  # side of the pixels from which the density of the background is read, fine pixels
DENSITY_MIN = 1e-10  # 1/arcsec^2/s
MARGIN = 8  # fine pixels around the photons


@dataclass(frozen=True, slots=True)
class LiveGroups:
    """The CCDs of a subset, by when they were live.

    Attributes
    ----------
    live : float64, shape (n_groups, nt)
        Part of each bin in which a group was live, 1 for what is usual for it.
    of_ccd : int16, shape (n_cameras, 16)
        Group of each CCD (CCDNR modulo 16); -1 for those that do not work.
    """

    live: Floats
    of_ccd: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Field:
    """A subset's photons on the fine grid, and where and when they can be expected.

    Attributes
    ----------
    grid : FineGrid
    photons : TimedPhotons
    groups : LiveGroups
    bad : bool, shape (nt,)
        Bins of high particle background.
    seen : bool, shape (ny, nx)
        Fine pixels in the field of view.
    mask : bool, shape (ny, nx)
        Fine pixels of listed sources, and bright ones.
    """

    grid: FineGrid
    photons: TimedPhotons
    groups: LiveGroups
    bad: Bools
    seen: Bools
    mask: Bools

    @property
    def live_s(self) -> float:
        """Time in which any group was live."""
        return self.live_s_of(np.ones(self.bad.size, bool))

    def live_s_of(self, chosen: Bools) -> float:
        """Return the time, s, in which any group was live, of some bins."""
        return float(self.groups.live.max(axis=0, initial=0.0)[chosen].sum() * BASE_S)


def field_of(
    subset: Subset,
    photons: Photons,
    live: LiveTime,
    bad_time: BadTime,
    sources: Sources | None,
    loops: EventLoops,
) -> Field | None:
    """Prepare a subset for the search by windows.

    Returns
    -------
    Field or None
        None if there is no photon in the time searched, or less time than the shortest window.

    Examples
    --------
    The cameras' lists share somewhat less than 960 s, or 383 whole bins of 2.5 s; sources in the field are masked:

    >>> from xscan.backends import get_backend
    >>> made = field_of(subset, photons, live, bad_time, observation.sources, get_backend("numpy").events)
    >>> made.grid.nt, round(made.grid.side_arcsec, 2)
    (383, 5.0)
    >>> bool(made.mask.any()), bool((made.mask <= made.seen).all())
    (True, True)
    """
    nt = int((subset.t1 - subset.t0) * 1000) // BASE_MS
    tick = photons.tick
    in_bands = (photons.pi >= NARROW_EV[0]) & (photons.pi < NARROW_EV[-1])  # those of another mission may lie outside
    index = np.flatnonzero((tick >= 0) & (tick < nt * BASE_MS) & in_bands)
    if index.size == 0 or nt < 2:
        return None
    index = index[_by_time(tick[index])]
    pixel = max(round(FINE_ARCSEC / photons.instrument.sky.side_arcsec), 1)
    x, y = (column[index].astype(np.int32) // pixel for column in (photons.x_px, photons.y_px))
    (x0, nx), (y0, ny) = (_span(values) for values in (x, y))
    grid = FineGrid(subset.t0, nt, pixel, x0, y0, nx, ny, photons.instrument.sky)
    edges = grid.bin_edges()
    groups = _live_groups(subset, photons, live, edges, loops)
    band = np.searchsorted(NARROW_EV, photons.pi[index], side="right") - 1
    ccd = (photons.pixel[index] // PixelMask.SIZE**2).astype(np.int64)
    group = groups.of_ccd[photons.camera[index], ccd]
    timed = TimedPhotons(
        index, tick[index] // np.int32(BASE_MS), (x - x0).astype(np.int16), (y - y0).astype(np.int16),
        band.astype(np.uint8), np.maximum(group, 0).astype(np.uint8),
    )  # fmt: skip
    middle_ms = np.arange(nt) * BASE_MS + BASE_MS // 2
    bad = bad_time.bad[np.searchsorted(bad_time.edges_ms[1:-1], middle_ms, side="right")]
    image = _image(timed, grid, np.ones(index.size, bool))
    seen = _smoothed(image, FIELD_SIGMA_ARCSEC / grid.side_arcsec) > 0
    mask = _source_mask(image, seen, sources, subset.lists[0].plane, grid)
    return Field(grid, timed, groups, bad, seen, mask)


def _by_time(tick: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the order of ticks, which are not negative; 16 bits at a time, which NumPy sorts without comparisons."""
    order = np.argsort((tick & 0xFFFF).astype(np.uint16), kind="stable")
    return order[np.argsort((tick[order] >> 16).astype(np.uint16), kind="stable")]


def _span(values: NDArray[np.int32]) -> tuple[int, int]:
    """Return the first fine pixel and the number of them, whole cells with a margin."""
    first = int(values.min()) // MARGIN * MARGIN - MARGIN
    return first, ((int(values.max()) - first) // MARGIN + 2) * MARGIN


def _live_groups(subset: Subset, photons: Photons, live: LiveTime, edges: Floats, loops: EventLoops) -> LiveGroups:
    of_ccd = np.full((len(photons.instrument.cameras), PixelMask.CCDS), -1, np.int16)
    first: list[Floats] = []
    members: list[list[Floats]] = []
    cameras: list[int] = []
    for events, ccds in zip(subset.lists, live, strict=True):
        camera = photons.instrument.number(events.camera)
        for ccd, one in sorted(ccds.items()):
            part = np.diff(loops.livetime_until(edges, one.good)) / (BASE_S * one.usual_fraction)
            same = [g for g, other in enumerate(first) if cameras[g] == camera and _together(part, other)]
            if not same:
                first.append(part)
                members.append([])
                cameras.append(camera)
                same = [len(first) - 1]
            members[same[0]].append(part)
            of_ccd[camera, ccd % PixelMask.CCDS] = same[0]
    curves = [np.mean(parts, axis=0) for parts in members]
    return LiveGroups(np.stack(curves) if curves else np.zeros((0, edges.size - 1)), of_ccd)


def _together(one: Floats, other: Floats) -> bool:
    """Return whether the live times of two CCDs are about the same in every window."""
    apart = np.cumsum(one - other)
    return bool(max(apart.max(), 0.0) - min(apart.min(), 0.0) <= LIVE_APART_S / BASE_S)


def _source_mask(image: Floats, seen: Bools, sources: Sources | None, plane: TangentPlane, grid: FineGrid) -> Bools:
    """Return the fine pixels of listed sources, and those around which there is far more than in most of the field."""
    mask = np.zeros(image.shape, bool)
    if sources is not None:
        listed = np.flatnonzero(sources.likelihood > LIKELIHOOD_MIN)
        x_px, y_px = plane.from_icrs(sources.ra_deg[listed], sources.dec_deg[listed])
        radius = source_radius(sources.rate[listed], sources.extent_arcsec[listed]) / grid.side_arcsec + 0.5
        column, row = np.arange(grid.nx), np.arange(grid.ny)[:, None]
        for x, y, r in zip(x_px / grid.pixel - grid.x0 - 0.5, y_px / grid.pixel - grid.y0 - 0.5, radius, strict=True):
            if math.isfinite(x + y):
                mask |= (column - x) ** 2 + (row - y) ** 2 <= r * r
    around = ndimage.uniform_filter(image, CELL, mode="constant") * CELL**2
    elsewhere = around[seen & ~mask]
    if elsewhere.size:
        usual = max(float(np.percentile(elsewhere, 75)), float(elsewhere.mean()))
        n = np.rint(around).astype(np.int64)
        mask |= (n > BRIGHT_FACTOR * usual) & (usual < most_around()[np.minimum(n, BRIGHT_COUNTS)])
    return np.asarray(mask & seen)


def _image(photons: TimedPhotons, grid: FineGrid, chosen: Bools) -> Floats:
    pixel = photons.y[chosen].astype(np.int64) * grid.nx + photons.x[chosen]
    return np.bincount(pixel, minlength=grid.ny * grid.nx).reshape(grid.ny, grid.nx).astype(np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# smoothing


@lru_cache(maxsize=64)
def _kernel(sigma: float) -> Floats:
    """Return a Gaussian to four sigma, its sum 1."""
    reach = int(4 * sigma + 0.5)
    weights = np.array([math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)])  # as every machine has it
    weights /= sum(weights.tolist())
    weights.setflags(write=False)
    return weights


def _smoothed(image: Floats, sigma: float) -> Floats:
    """Return an image smoothed with a Gaussian of sigma pixels; nothing comes from outside."""
    kernel = _kernel(sigma)
    rows = ndimage.correlate1d(image, kernel, axis=0, output=np.float64, mode="constant")
    return np.asarray(ndimage.correlate1d(rows, kernel, axis=1, mode="constant"))


@dataclass(frozen=True, slots=True)
class _Smoother:
    """Smooths counts outside the mask, and fills the mask with wider and wider means.

    Attributes
    ----------
    n_open : float64, shape (ny, nx)
        Fine pixels outside the mask in each pixel of the image, which may be larger.
    seen : bool, shape (ny, nx)
        Pixels in the field.
    sigma : float
        Pixels.
    cell : int
        Side of a cell, pixels: the wider means are means of cells.
    part : float64, shape (ny, nx)
        ``n_open``, smoothed.
    wide_parts : tuple of float64 arrays, shape (ny / cell, nx / cell)
        The same for the wider means.
    """

    n_open: Floats
    seen: Bools
    sigma: float
    cell: int
    part: Floats
    wide_parts: tuple[Floats, ...]

    @classmethod
    def of(cls, field: Field, sigma_arcsec: float, side: int) -> _Smoother:
        """Return a smoother of images whose pixels are ``side`` fine ones wide."""
        n_open = _binned((field.seen & ~field.mask).astype(np.float64), side)
        seen, cell = _binned(field.seen.astype(np.float64), side) > 0, CELL // side
        sigma = sigma_arcsec / (field.grid.side_arcsec * side)
        cells = _binned(n_open, cell)
        wide = tuple(_smoothed(cells, wider) for wider in WIDER_SIGMAS)
        return cls(n_open, seen, sigma, cell, _smoothed(n_open, sigma), wide)

    def __call__(self, known: Floats) -> Floats:
        """Return the mean counts of the fine pixels around each pixel, from those outside the mask; 0 off the field."""
        if not known.any():
            return np.zeros(known.shape)
        mean = _smoothed(known, self.sigma) / np.maximum(self.part, 1e-6)
        most = float(self.part.max())
        need = self.seen & (self.part < KNOWN_PART * most)
        if need.any():
            mean[need] = self._filled(known)[need]
        return np.asarray(np.where(self.seen, mean, 0.0))

    def _filled(self, known: Floats) -> Floats:
        cells = _binned(known, self.cell)
        mean = np.full(cells.shape, float(known.sum()) / float(self.n_open.sum()))
        settled = np.zeros(cells.shape, bool)
        for sigma, part in zip(WIDER_SIGMAS, self.wide_parts, strict=True):
            enough = ~settled & (part >= KNOWN_PART * CELL**2)
            if enough.any():
                mean[enough] = (_smoothed(cells, sigma) / np.maximum(part, 1e-6))[enough]
                settled |= enough
        return np.repeat(np.repeat(mean, self.cell, axis=0), self.cell, axis=1)


def _binned(image: Floats, side: int) -> Floats:
    """Return the sums over squares of pixels."""
    ny, nx = image.shape
    return image if side == 1 else np.asarray(image.reshape(ny // side, side, nx // side, side).sum(axis=(1, 3)))


# ---------------------------------------------------------------------------------------------------------------------
# components


@dataclass(frozen=True, slots=True)
class _Counted:
    """The photons of a field, counted.

    Attributes
    ----------
    images : int32, shape (n_narrow, n_groups, 2, ny, nx)
        By narrow band, group and kind of time (good, bad).
    outside : float64, shape (n_narrow, n_groups, nt)
        Outside the mask, by bin.
    """

    images: NDArray[np.int32]
    outside: Floats


def _counted(field: Field) -> _Counted:
    p, grid, n_groups, n_narrow = field.photons, field.grid, len(field.groups.live), len(NARROW_EV) - 1
    shape = (n_narrow, 2, grid.ny, grid.nx)
    images = np.empty((n_groups, *shape), np.int32)
    outside = np.zeros((n_groups, n_narrow, grid.nt))
    is_open = ~field.mask
    for g in range(n_groups):
        of_group = np.flatnonzero(p.group == g)
        y, x, bins, band = (getattr(p, name)[of_group] for name in ("y", "x", "bin", "band"))
        pixel = y.astype(np.int64) * grid.nx + x
        where = (band.astype(np.int64) * 2 + field.bad[bins]) * (grid.ny * grid.nx) + pixel
        images[g] = np.bincount(where, minlength=math.prod(shape)).reshape(shape)
        counted = is_open[y, x]
        where = band[counted].astype(np.int64) * grid.nt + bins[counted]
        outside[g] = np.bincount(where, minlength=n_narrow * grid.nt).reshape(n_narrow, grid.nt)
    return _Counted(images.swapaxes(0, 1), outside.swapaxes(0, 1))


@dataclass(frozen=True, slots=True)
class _Rate:
    """The counts of a band outside the mask, in one kind of time.

    Attributes
    ----------
    counts : float64, shape (nt,)
    live : float64, shape (nt,)
        Part of the field, weighted by what it sends, that was live.
    share : float64, shape (n_groups,)
        What each group sends while it is live.
    """

    counts: Floats
    live: Floats
    share: Floats


def _rate(outside: Floats, live: Floats, chosen: Bools) -> _Rate:
    """``outside`` : counts by group and bin, shape (n_groups, nt); ``chosen`` : bins of this kind."""
    seconds = (live * chosen).sum(axis=1)
    sent = np.where(seconds > 0, (outside * chosen).sum(axis=1) / np.maximum(seconds, 1e-9), 0.0)
    total = float(sent.sum())
    share = sent / total if total > 0 else sent
    counts = np.zeros(live.shape[1])
    part = np.zeros(live.shape[1])
    for g in range(len(live)):
        counts += outside[g] * chosen
        part += share[g] * live[g] * chosen
    return _Rate(counts, part, share)


def _mean_rate(rate: _Rate) -> Floats:
    """Return the rate, counts per bin, as if all of the field were live: mean over as many bins as hold some counts."""
    known = rate.live > LIVE_PART_MIN
    usual = float(rate.counts[known].sum()) / max(float(rate.live[known].sum()), 1e-9)
    reach = min(math.ceil(RATE_COUNTS / max(usual, 1e-3)) // 2, rate.live.size)
    counts, live = (
        _running(values, reach) for values in (np.where(known, rate.counts, 0), np.where(known, rate.live, 0))
    )
    return np.where(known & (live > 0), counts / np.maximum(live, 1e-9), 0.0)


def _running(values: Floats, reach: int) -> Floats:
    """Return the sums of the values of each bin and of ``reach`` bins on either side."""
    if reach == 0:
        return values
    cumulative = np.concatenate([[0.0], np.cumsum(values)])
    k = np.arange(values.size)
    return np.asarray(cumulative[np.minimum(k + reach + 1, values.size)] - cumulative[np.maximum(k - reach, 0)])


def _cumulative(curve: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(curve)])


def band_models(field: Field, counted: _Counted | None = None) -> list[BandModel]:
    """Return what is expected of each of :data:`BANDS`.

    Examples
    --------
    About as many counts are expected in all as there are photons:

    >>> full = band_models(field)[0]
    >>> expected = sum(one.sum() * curve[-1] for one, curve in zip(full.maps, full.curves, strict=True))
    >>> bool(abs(expected / field.photons.bin.size - 1) < 0.1)
    True
    """
    counted = _counted(field) if counted is None else counted
    smoother = _Smoother.of(field, SIGMA_ARCSEC, 1)
    is_open = ~field.mask
    models = []
    for lo, hi in BANDS:
        kinds, maps, curves = [], [], []
        images, outside = counted.images[lo:hi].sum(axis=0), counted.outside[lo:hi].sum(axis=0)
        live = field.groups.live
        background = np.zeros(images.shape[:1] + images.shape[2:])
        for k, chosen in enumerate((~field.bad, field.bad)):
            rate = _rate(outside, live, chosen)
            mean = _mean_rate(rate)
            for g in range(len(live)):
                curve = mean * rate.share[g] * live[g] * chosen
                total = float(curve.sum())
                if total > 0:
                    counts = smoother(np.where(is_open, images[g, k], 0.0))
                    background[g] += counts
                    kinds.append(k)
                    maps.append(counts / total)
                    curves.append(_cumulative(curve))
        for g in range(len(live)):
            seconds = float(live[g].sum())
            if seconds > 0 and field.mask.any():
                seen = _smoothed(images[g].sum(axis=0), SOURCE_SIGMA_ARCSEC / field.grid.side_arcsec)
                source = np.where(field.mask, np.maximum(seen - background[g], 0.0), 0.0)
                if source.any():
                    kinds.append(2)
                    maps.append(source / seconds)
                    curves.append(_cumulative(live[g]))
        nothing = np.zeros((0, field.grid.ny, field.grid.nx)), np.zeros((0, field.grid.nt + 1))
        both = (np.stack(maps), np.stack(curves)) if maps else nothing
        models.append(BandModel(lo, hi, np.array(kinds, np.int8), *both))
    return models


@dataclass(frozen=True, slots=True)
class _Sum:
    """A density: a sum of maps, each times a curve.

    Attributes
    ----------
    side : int
        Side of a pixel of the maps, fine pixels.
    maps : float64, shape (n_components, n_narrow + 1, ny, nx)
        1/arcsec^2, by narrow band; the last is that of all bands together.
    curves : float64, shape (n_components, nt)
        1/s.
    """

    side: int
    maps: Floats
    curves: Floats

    def at(self, photons: TimedPhotons) -> tuple[Floats, Floats]:
        """As :meth:`Densities.at`."""
        y, x = photons.y // self.side, photons.x // self.side
        n_components, n_bands, ny, nx = self.maps.shape
        pixel = y.astype(np.int64) * nx + x
        of_own, of_all = photons.band.astype(np.int64) * (ny * nx) + pixel, (n_bands - 1) * (ny * nx) + pixel
        own, everything = np.zeros(pixel.size), np.zeros(pixel.size)
        for q in range(n_components):  # one after the other, so that sums run in this order
            rate, maps = self.curves[q][photons.bin], self.maps[q].ravel()
            own += maps[of_own] * rate
            everything += maps[of_all] * rate
        return own, everything


@dataclass(frozen=True, slots=True)
class Densities:
    """The density of photons of each narrow band: of the background, and of the constant sources in the mask."""

    background: _Sum
    sources: _Sum

    def at(self, photons: TimedPhotons) -> tuple[Floats, Floats, Floats]:
        """Return the density at each photon, 1/arcsec^2/s.

        In its narrow band; in all bands; and in all bands without the sources.
        """
        of_background, of_sources = self.background.at(photons), self.sources.at(photons)
        own, everything = (one + other for one, other in zip(of_background, of_sources, strict=True))
        own, everything, diffuse = (np.maximum(values, DENSITY_MIN) for values in (own, everything, of_background[1]))
        return own, everything, diffuse


def densities(field: Field, counted: _Counted | None = None) -> Densities:
    """Return the density of the background and of the constant sources.

    The maps are those of the narrow bands; the rate is that of all bands, since a narrow band's own is often 0 where
    a photon fell. It is smoothed, less in bad time.

    Examples
    --------
    >>> own, everything, diffuse = densities(field).at(field.photons)
    >>> bool((own > 0).all()), bool((everything >= diffuse).all())
    (True, True)
    """
    counted = _counted(field) if counted is None else counted
    smoother = _Smoother.of(field, DENSITY_SIGMA_ARCSEC, COARSE)
    live, grid, n_narrow = field.groups.live, field.grid, len(NARROW_EV) - 1
    area = grid.side_arcsec**2
    is_open = ~field.mask
    background = np.zeros((n_narrow, len(live), grid.ny // COARSE, grid.nx // COARSE))
    maps: list[Floats] = []
    curves: list[Floats] = []
    for k, (chosen, sigma_s) in enumerate(((~field.bad, GOOD_RATE_S), (field.bad, BAD_RATE_S))):
        if not chosen.any():
            continue
        rate = _rate(counted.outside.sum(axis=0), live, chosen)
        counts, part = (_smoothed_curve(values, sigma_s / BASE_S) for values in (rate.counts, rate.live))
        mean = np.where(chosen & (part > LIVE_PART_MIN), counts / np.maximum(part, LIVE_PART_MIN), 0.0)
        for g in range(len(live)):
            curve = mean * live[g] * chosen
            total = float(curve.sum())
            if total > 0:
                images = (np.where(is_open, counted.images[e, g, k], 0.0) for e in range(n_narrow))
                smooth = np.stack([smoother(_binned(image, COARSE)) for image in images])
                background[:, g] += smooth
                maps.append(smooth / (total * area))
                curves.append(curve / BASE_S)
    diffuse = _sum(COARSE, maps, curves, (n_narrow, *background.shape[2:]), grid.nt)
    maps, curves = [], []
    for g in range(len(live) if field.mask.any() else 0):
        seconds = float(live[g].sum())
        if seconds > 0:
            sigma = SOURCE_SIGMA_ARCSEC / grid.side_arcsec
            seen = np.stack([_smoothed(counted.images[e, g].sum(axis=0), sigma) for e in range(n_narrow)])
            below = np.repeat(np.repeat(background[:, g], COARSE, axis=1), COARSE, axis=2)
            maps.append(np.where(field.mask, np.maximum(seen - below, 0.0), 0.0) / (seconds * area))
            curves.append(live[g] / BASE_S)
    return Densities(diffuse, _sum(1, maps, curves, (n_narrow, grid.ny, grid.nx), grid.nt))


def _sum(side: int, maps: list[Floats], curves: list[Floats], shape: tuple[int, int, int], nt: int) -> _Sum:
    joined = np.empty((len(maps), shape[0] + 1, *shape[1:]))
    for q, one in enumerate(maps):
        joined[q, :-1] = one
        joined[q, -1] = np.add.reduce(one, axis=0)
    return _Sum(side, joined, np.stack(curves) if curves else np.zeros((0, nt)))


def _smoothed_curve(values: Floats, sigma: float) -> Floats:
    return np.asarray(ndimage.correlate1d(values, _kernel(sigma), mode="reflect"))


def counted_field(field: Field) -> tuple[Sequence[BandModel], Densities]:
    """Return both models of a field, whose photons are counted once."""
    counted = _counted(field)
    return band_models(field, counted), densities(field, counted)
