"""Describe what the search by windows found: place, time, counts, significance and light curve of each event."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.backends import PointSourceLoops
from xscan.pointsource.exposure import CameraMap
from xscan.pointsource.fit import PHOTONS_MIN, Spots
from xscan.pointsource.psf import KING_SLOPE, cores_arcsec, information
from xscan.search.candidates import Candidates
from xscan.search.components import BANDS, NARROW_EV
from xscan.search.dips import Dip
from xscan.search.lightcurve import LightCurve
from xscan.search.position import RADIUS_ARCSEC, find_source
from xscan.search.ratios import Surroundings, Weighed
from xscan.sky import Position
from xscan.windows import BASE_S, BandModel

__all__ = ["Event", "dip_event", "peak_event"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPECTRA = ("soft", "middle", "hard")
CIRCLE_ARCSEC = 20.0  # in which counts, light curve and detector facts are taken
CONSTANT_ARCSEC = 40.0  # in which the constant source is expected
MOVED_ARCSEC = 30.0  # a fit that leads further away has found another source
CURVE_BINS = 5  # bins of a light curve in the event's window
VARIABLE_S = 1000.0  # longer and weaker than its constant source: the source varies
FRAME_SLACK = 1.0  # of a read-out frame: photons within one frame time fell in one read-out


@dataclass(frozen=True, slots=True)
class Event:
    """Something that shone, or vanished, for a while.

    Attributes
    ----------
    kind : str
        ``peak`` or ``eclipse``.
    variable : bool
        A source that varies slowly, rather than something that appears or vanishes: the window is long, and the change
        smaller than what the constant source gives.
    position : Position
    start, stop : float
        s, since the start of the search.
    llr : float
        Natural logarithm of the likelihood ratio.
    counts : float
        Counts more (less, for an eclipse) than expected, the whole image of the source included.
    constant : float
        Counts that the constant source gives in the window.
    spectrum : str or None
        ``soft``, ``middle`` or ``hard``; None for an eclipse.
    band : (int, int)
        Of the window of the cell that was noticed, eV, the second exclusive.
    n : int
        Counts of that window.
    mu : float
        Its expected counts, given the cell's counts outside it.
    log10_p : float
        log10 of the probability of so many counts, or so few, before trials.
    by_camera : int64, shape (n_cameras,)
        Photons within 20 arcsec in the window.
    n_pixels : int
        Distinct raw pixels of these.
    share_pixel, share_readout : float
        Largest part of these in one raw pixel, and in one read-out of one camera; 0 if there is no photon.
    curve : LightCurve
        Of the circle of 20 arcsec.
    """

    kind: str
    variable: bool
    position: Position
    start: float
    stop: float
    llr: float
    counts: float
    constant: float
    spectrum: str | None
    band: tuple[int, int]
    n: int
    mu: float
    log10_p: float
    by_camera: Ints
    n_pixels: int
    share_pixel: float
    share_readout: float
    curve: LightCurve


Maps = Callable[[], Sequence[CameraMap]]
"""Returns where each camera sees nothing; made when it is first needed."""


def peak_event(
    weighed: Weighed, found: Candidates, around: Surroundings, full: BandModel, maps: Maps, loops: PointSourceLoops
) -> Event:
    """Describe a candidate that was weighed."""
    best, number = weighed.best, weighed.candidate
    near = around.around(best.x, best.y, RADIUS_ARCSEC)
    time = around.time[near]
    inside = near[(time >= best.start) & (time < best.stop)]
    place = _fitted(inside, (best.x, best.y), best.counts, best.stop - best.start, around, maps, loops)
    constant = best.constant * (best.stop - best.start)
    constant += _of_sources(best.x, best.y, best.start, best.stop, around, full)
    lo, hi = BANDS[int(found.band[number])]
    return Event(
        "peak",
        best.stop - best.start > VARIABLE_S and best.counts < constant,
        place, best.start, best.stop, best.llr, best.counts, constant, SPECTRA[best.spectrum],
        (NARROW_EV[lo], NARROW_EV[hi]), int(found.n[number]), float(found.mu[number]), float(found.log10_p[number]),
        *_on_detector(inside, best.x, best.y, around),
        _light_curve(best.x, best.y, best.start, best.stop, around, full),
    )  # fmt: skip


def dip_event(dip: Dip, around: Surroundings, full: BandModel, maps: Maps, loops: PointSourceLoops) -> Event:
    """Describe a window with too few counts: its place is that of the source, fitted to the photons of other times."""
    side, crpix = around.field.grid.sky.side_arcsec, around.plane.crpix
    x, y = (dip.x_px - crpix) * side, (dip.y_px - crpix) * side
    near = around.around(x, y, RADIUS_ARCSEC)
    hidden = (around.time[near] >= dip.start) & (around.time[near] < dip.stop)
    width = around.field.live_s - (dip.stop - dip.start)
    place = _fitted(near[~hidden], (x, y), float(np.count_nonzero(~hidden)), width, around, maps, loops, of_source=True)
    x, y = (place.x_px - crpix) * side, (place.y_px - crpix) * side
    constant = _of_sources(x, y, dip.start, dip.stop, around, full)
    missing = dip.mu - dip.n
    llr = (dip.n * math.log(dip.n / dip.mu) if dip.n > 0 else 0.0) + missing
    return Event(
        "eclipse", dip.stop - dip.start > VARIABLE_S and missing < dip.mu / 2,
        place, dip.start, dip.stop, llr, missing, constant, None, (NARROW_EV[0], NARROW_EV[-1]), dip.n, dip.mu,
        dip.log10_p, *_on_detector(near[hidden], x, y, around),
        _light_curve(x, y, dip.start, dip.stop, around, full),
    )  # fmt: skip


def _fitted(
    index: Ints, guess: tuple[float, float], counts: float, width_s: float, around: Surroundings, maps: Maps,
    loops: PointSourceLoops, of_source: bool = False,
) -> Position:  # fmt: skip
    """Return the place that explains some photons best; the guess where they do not determine one."""
    photons, timed = around.photons, around.field.photons
    of = timed.index[index]
    camera = photons.camera[of]
    x, y = around.x[index], around.y[index]
    core = cores_arcsec(camera, photons.pi[of], math.hypot(*guess) / 60, photons.instrument)
    fit = None
    if index.size >= PHOTONS_MIN:
        everything = (around.diffuse if of_source else around.everything)[index]
        share = np.bincount(camera, minlength=len(photons.instrument.cameras)) / index.size
        background = np.maximum(everything * width_s * share[camera], 1e-12)
        spots = Spots(x, y, camera, core, background, photons.instrument)
        bounds = guess[0] - MOVED_ARCSEC, guess[0] + MOVED_ARCSEC, guess[1] - MOVED_ARCSEC, guess[1] + MOVED_ARCSEC
        fit = find_source(spots, guess, bounds, maps(), loops)
    if fit is None:
        usual = float(np.mean(core * core)) if core.size else CIRCLE_ARCSEC**2
        fit = *guess, math.sqrt(usual / float(information(KING_SLOPE)) / max(counts, 1.0))
    side, crpix = around.field.grid.sky.side_arcsec, around.plane.crpix
    x_px, y_px = crpix + fit[0] / side, crpix + fit[1] / side
    ra, dec = around.plane.to_icrs([x_px], [y_px])
    return Position(x_px, y_px, float(ra[0]), float(dec[0]), fit[2])


def _circle(x: float, y: float, radius_arcsec: float, around: Surroundings) -> Bools:
    """Return the fine pixels whose centres lie within a circle, shape (ny, nx)."""
    grid = around.field.grid
    column, row = (
        ((first + np.arange(n) + 0.5) * grid.pixel - 0.5 - around.plane.crpix) * grid.sky.side_arcsec
        for first, n in ((grid.x0, grid.nx), (grid.y0, grid.ny))
    )
    return np.asarray((column - x) ** 2 + (row[:, None] - y) ** 2 < radius_arcsec**2)


def _of_sources(x: float, y: float, start: float, stop: float, around: Surroundings, full: BandModel) -> float:
    """Return the counts that the constant sources of the mask give near a place in a window."""
    first, last = (min(max(round(t / BASE_S), 0), around.field.grid.nt) for t in (start, stop))
    circle = _circle(x, y, CONSTANT_ARCSEC, around)
    total = 0.0
    for kind, one, curve in zip(full.kinds.tolist(), full.maps, full.curves, strict=True):
        if kind == 2:
            total += float(one[circle].sum() * (curve[last] - curve[first]))
    return total


def _on_detector(inside: Ints, x: float, y: float, around: Surroundings) -> tuple[Ints, int, float, float]:
    """Return photons by camera, distinct raw pixels, and the largest parts in one pixel and in one read-out."""
    photons = around.photons
    close = (around.x[inside] - x) ** 2 + (around.y[inside] - y) ** 2 < CIRCLE_ARCSEC**2
    index = around.field.photons.index[inside[close]]
    camera = photons.camera[index]
    by_camera = np.bincount(camera, minlength=len(photons.instrument.cameras)).astype(np.int64)
    if index.size == 0:
        return by_camera, 0, 0.0, 0.0
    _, per_pixel = np.unique(camera.astype(np.int64) << 32 | photons.pixel[index], return_counts=True)
    together = 1
    for number, one in enumerate(photons.instrument.cameras):
        tick = photons.tick[index[camera == number]]
        end = np.searchsorted(tick, tick + one.frame_s * 1000 * FRAME_SLACK, side="left")
        together = max(together, int((end - np.arange(tick.size)).max(initial=0)))
    return by_camera, per_pixel.size, float(per_pixel.max() / index.size), together / index.size


def _light_curve(x: float, y: float, start: float, stop: float, around: Surroundings, full: BandModel) -> LightCurve:
    """Return the light curve of the circle around a place, over the whole search."""
    field, grid = around.field, around.field.grid
    step = 1
    while 2 * step * BASE_S * CURVE_BINS <= stop - start:
        step *= 2
    circle = _circle(x, y, CIRCLE_ARCSEC, around)
    near = around.around(x, y, CIRCLE_ARCSEC + 2 * grid.side_arcsec)
    timed = field.photons
    mine = near[circle[timed.y[near], timed.x[near]]]
    edges = np.append(np.arange(0, grid.nt, step), grid.nt)
    if edges.size > 2 and edges[-1] - edges[-2] < step:
        edges = np.delete(edges, -1)  # the rest that fills no bin
    n = np.histogram(timed.bin[mine], edges)[0].astype(np.int64)
    mu = np.zeros(n.size)
    for one, curve in zip(full.maps, full.curves, strict=True):
        mu += float(one[circle].sum()) * np.diff(curve[edges])
    counts = np.bincount(timed.group, minlength=len(field.groups.live)).astype(np.float64)
    live = np.zeros(grid.nt)
    for weight, part in zip((counts / max(counts.sum(), 1.0)).tolist(), field.groups.live, strict=True):
        live += weight * part
    live = np.diff(np.concatenate([[0.0], np.cumsum(live)])[edges]) / np.diff(edges)
    bad = np.diff(np.concatenate([[0], np.cumsum(field.bad)])[edges]) > 0
    return LightCurve(grid.t0 + edges[:-1] * BASE_S, n, mu, live, bad, live <= 0)
