"""Weigh a point source that shines for some time against a constant one: an unbinned likelihood ratio.

The null hypothesis is the background with a constant source at the same place, fitted to the photons outside the
window; the other is a source of s counts more within a window, at any place near, with one of three spectra. With the
density b of the null at each photon, f the image of a point source and h its spectrum,

    LLR = sum log(1 + s f h / (W (b + lambda f h'))) - s F

W: length of the window; F: part of the image within :data:`REACH_ARCSEC`; lambda, h': rate and spectrum of the constant
source. Place, window, rate and spectrum are those of the largest ratio. For a given rate s / W the best window is found
in one pass over the photons (a running maximum), of all windows that there are.

Sums run in the order of the photons, and the logarithm is made of sums, products and quotients, so that every backend
and every processor has the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["REACH_ARCSEC", "SPECTRA", "Nearby", "WindowRatio", "inside", "natural_log", "window_ratio"]

Floats = NDArray[np.float64]
Span = tuple[float, float]

REACH_ARCSEC = 40.0
"""Photons within this distance of a place are weighed."""

SPECTRA = np.array([[0.35, 0.35, 0.20, 0.08, 0.02], [0.08, 0.25, 0.34, 0.24, 0.09], [0.02, 0.05, 0.13, 0.40, 0.40]])
"""Part of a source's photons in each narrow band: soft, middle, hard."""

MIDDLE = 1
STEP_ARCSEC = 5.0
GRID_PHOTONS = 2000  # in the window: with more, the place is found from any start, and a grid costs too much
STEPS = 2  # places on either side, along each axis, of the first guess
ROUNDS = 4
GUESS_ROUNDS, FIT_ROUNDS = 4, 6  # of expectation maximisation, then of Newton's method
PLACE_ROUNDS, PLACE_MOVED_ARCSEC = 6, 0.1
CONSTANT_ROUNDS, CONSTANT_MOVED, CONSTANT_LEAST = 25, 1e-4, 1e-9  # the latter: ct/s
SHRINK_MOST = 0.1  # of a step of Newton's method
CONSTANT_PRIOR = 2.0  # counts with the middle spectrum
OUTSIDE_MIN = 0.05  # of the live time
RATES = range(-6, 7)
RATE_STEP = 1.5
EDGE_S = 1.25  # a window begins and ends half a read-out frame of MOS before and after its photons
COUNTS_MIN = 1e-3
NOTHING = -1e9

_LN2 = math.log(2.0)
_ROOT_HALF = math.sqrt(0.5)
_TERMS = tuple(1.0 / k for k in range(21, 0, -2))


@dataclass(frozen=True, slots=True)
class Nearby:
    """The photons near a place, in order of time, shape (n,) each.

    Attributes
    ----------
    x, y : float64
        arcsec, on the tangent plane.
    time : float64
        s, since the start of the search.
    band : int64
        Narrow band.
    core2 : float64
        Square of the core of a point source's image, arcsec^2 (:func:`xscan.pointsource.psf.cores_arcsec`).
    own, everything : float64
        Density of background and constant sources, 1/arcsec^2/s: in the photon's narrow band, and in all.
    """

    x: Floats
    y: Floats
    time: Floats
    band: NDArray[np.int64]
    core2: Floats
    own: Floats
    everything: Floats


@dataclass(frozen=True, slots=True)
class WindowRatio:
    """The best window of a source.

    Attributes
    ----------
    llr : float
        Natural logarithm of the likelihood ratio.
    counts : float
        Counts that the source has more than its constant rate, the parts beyond the reach included.
    x, y : float
        arcsec, on the tangent plane.
    start, stop : float
        s, since the start of the search.
    spectrum : int
        Row of :data:`SPECTRA`.
    constant : float
        Rate of the constant source, ct/s.
    """

    llr: float
    counts: float
    x: float
    y: float
    start: float
    stop: float
    spectrum: int
    constant: float


def natural_log(values: Floats) -> Floats:
    """Return the natural logarithm of numbers of at least 1, the same bits on every processor.

    Examples
    --------
    >>> natural_log(np.array([1.0, 10.0])).round(12).tolist()
    [0.0, 2.302585092994]
    """
    mantissa, exponent = np.frexp(values)
    low = mantissa < _ROOT_HALF
    mantissa, exponent = np.where(low, 2 * mantissa, mantissa), np.where(low, exponent - 1, exponent)
    s = (mantissa - 1) / (mantissa + 1)
    z = s * s
    series = np.zeros(s.shape)
    for term in _TERMS:
        series = series * z + term
    return np.asarray(exponent * _LN2 + 2 * s * series)


def inside(core2: float) -> float:
    """Return F, the part of a point source's image within :data:`REACH_ARCSEC`.

    Examples
    --------
    >>> round(inside(core2=25.0), 3)
    0.876
    """
    return 1 - 1 / math.sqrt(1 + REACH_ARCSEC * REACH_ARCSEC / core2)


def window_ratio(
    near: Nearby, place: tuple[float, float], window: Span, at_hand: Span, live_s: float, part: float, constant: bool
) -> WindowRatio | None:
    """Return the best window, place, rate and spectrum near a candidate.

    Parameters
    ----------
    near : Nearby
        Photons within :data:`REACH_ARCSEC`, and some more, of the candidate.
    place : (float, float)
        First guess, arcsec.
    window : (float, float)
        First guess, s.
    at_hand : (float, float)
        Time in which windows are looked for, s.
    live_s : float
        Time in which the constant source is seen.
    part : float
        F, from :func:`inside`.
    constant : bool
        False: without a constant source, which gives a larger ratio in less time.

    Returns
    -------
    WindowRatio or None
        None if there are never two photons.

    Examples
    --------
    Four photons at one place within 6 s, where 0.0004 of all energies are expected in a square arcsecond and a day:

    >>> at, band, one = np.zeros(4), np.full(4, 2), np.ones(4)
    >>> near = Nearby(at, at, np.array([100.0, 102.0, 105.0, 106.0]), band, 25 * one, 1e-9 * one, 5e-9 * one)
    >>> best = window_ratio(near, (0.0, 0.0), (100.0, 110.0), (0.0, 500.0), 20_000.0, inside(25.0), constant=False)
    >>> best.start, best.stop, round(best.counts, 2), round(best.llr, 1)
    (98.75, 107.25, 4.57, 51.9)
    """
    x, y, (start, stop) = place[0], place[1], window
    first, end = np.searchsorted(near.time, at_hand).tolist()
    now = Nearby(*(getattr(near, name)[first:end] for name in Nearby.__slots__))
    rate, shares = 0.0, SPECTRA[MIDDLE].copy()
    best: WindowRatio | None = None
    for number in range(ROUNDS):
        if constant:
            rate, shares = _constant_source(near, x, y, start, stop, live_s, part)
        null = _Null(now, rate, shares)
        chosen = (now.time >= start) & (now.time < stop)
        few = np.count_nonzero(chosen) <= GRID_PHOTONS
        places = _grid(x, y) if number == 0 and few else np.array([[x, y]])
        found = _strength(null, places, chosen, stop - start, part)
        if found is None:
            break
        llr, counts, k, spectrum = found
        x, y = places[k].tolist()
        if number > 0 and (best is None or llr > best.llr):
            best = WindowRatio(llr, counts, x, y, start, stop, spectrum, rate)
        if number == ROUNDS - 1:
            break
        x, y = _moved(null, x, y, chosen, stop - start, counts, spectrum)
        start, stop = _best_window(null, x, y, counts / (stop - start), part, (start, stop))
    return best


def _grid(x: float, y: float) -> Floats:
    steps = np.arange(-STEPS, STEPS + 1) * STEP_ARCSEC
    return np.stack([np.repeat(x + steps, steps.size), np.tile(y + steps, steps.size)], axis=1)


def _in_order(values: Floats) -> Floats:
    """Return the sums over the first axis, adding one value after the other, as a loop does."""
    return np.add.accumulate(values, axis=0)[-1] if len(values) else np.zeros(values.shape[1:])


def _image(r2: Floats, core2: Floats) -> Floats:
    """Return f, the density of a point source's photons, 1/arcsec^2; 0 beyond the reach."""
    near = 1 + r2 / core2
    return np.where(r2 < REACH_ARCSEC * REACH_ARCSEC, 0.5 / (math.pi * core2) / (near * np.sqrt(near)), 0.0)


def _constant_source(
    near: Nearby, x: float, y: float, start: float, stop: float, live_s: float, part: float
) -> tuple[float, Floats]:
    """Fit rate and spectrum of a constant source to the photons outside a window, by Newton's method.

    Expectation maximisation comes to a halt far from the maximum where the background already holds most of a source.
    """
    out = (near.time < start) | (near.time >= stop)
    dx, dy = near.x[out] - x, near.y[out] - y
    f = _image(dx * dx + dy * dy, near.core2[out])
    everything, band = near.everything[out], near.band[out]
    seconds = max(live_s - (stop - start), OUTSIDE_MIN * live_s)
    rate, shares = np.count_nonzero(f) / seconds, SPECTRA[MIDDLE]
    for _ in range(CONSTANT_ROUNDS):
        term = f / (rate * f + everything)
        slope = float(_in_order(term * term))
        if slope <= 0:
            break
        new = max(rate + (float(_in_order(term)) - part * seconds) / slope, SHRINK_MOST * rate)
        settled = abs(new - rate) < CONSTANT_MOVED * rate + CONSTANT_LEAST
        rate = new
        if settled:
            break
    light = rate * f
    members = np.bincount(band, light / (light + everything), shares.size)
    total = 0.0
    for each in members.tolist():
        total += each
    return rate, (members + CONSTANT_PRIOR * shares) / (total + CONSTANT_PRIOR)


@dataclass(frozen=True, slots=True)
class _Null:
    """Photons at hand, and what is expected of them without the transient."""

    now: Nearby
    rate: float
    shares: Floats

    def excess(self, x: float, y: float) -> tuple[Floats, Floats]:
        """Return r^2 and f / (b + lambda f h') of each photon for a source at a place."""
        now = self.now
        dx, dy = now.x - x, now.y - y
        r2 = dx * dx + dy * dy
        f = _image(r2, now.core2)
        return r2, f / (now.own + self.rate * f * self.shares[now.band])


def _strength(
    null: _Null, places: Floats, chosen: NDArray[np.bool_], width: float, part: float
) -> tuple[float, float, int, int] | None:
    """Return ratio, counts, place and spectrum of the largest ratio in a window; the first of equals."""
    best: tuple[float, float, int, int] | None = None
    band = null.now.band[chosen]
    for k, (x, y) in enumerate(places.tolist()):
        r2, excess = null.excess(x, y)
        excess = excess[chosen]
        n = int(np.count_nonzero(r2[chosen] < REACH_ARCSEC * REACH_ARCSEC))
        if n < 2:
            continue
        g = SPECTRA[:, band].T * excess[:, None] / width
        s = np.full(len(SPECTRA), max(n - 1.0, 1.0) * 0.6)
        for _ in range(GUESS_ROUNDS):
            s = np.maximum(s * _in_order(g / (1 + s * g)) / part, COUNTS_MIN)
        for _ in range(FIT_ROUNDS):
            term = g / (1 + s * g)
            step = (_in_order(term) - part) / _in_order(term * term)
            s = np.maximum(np.maximum(s + step, SHRINK_MOST * s), COUNTS_MIN)
        llr = _in_order(natural_log(1 + s * g)) - s * part
        for spectrum in range(len(SPECTRA)):
            if best is None or llr[spectrum] > best[0]:
                best = float(llr[spectrum]), float(s[spectrum]), k, spectrum
    return best


def _moved(
    null: _Null, x: float, y: float, chosen: NDArray[np.bool_], width: float, counts: float, spectrum: int
) -> tuple[float, float]:
    """Return the place that explains the photons of a window best: weighted means, as of a t distribution."""
    now = null.now
    share = SPECTRA[spectrum][now.band[chosen]]
    for _ in range(PLACE_ROUNDS):
        r2, excess = null.excess(x, y)
        v = counts * excess[chosen] * share / width
        weight = v / (1 + v) / (r2[chosen] + now.core2[chosen])
        total = float(_in_order(weight))
        if total <= 0:
            break
        new_x = float(_in_order(weight * now.x[chosen])) / total
        new_y = float(_in_order(weight * now.y[chosen])) / total
        moved = abs(new_x - x) + abs(new_y - y)
        x, y = new_x, new_y
        if moved < PLACE_MOVED_ARCSEC:
            break
    return x, y


def _best_window(null: _Null, x: float, y: float, rate: float, part: float, otherwise: Span) -> Span:
    """Return the window of the largest ratio, of all windows, some rates and all spectra."""
    r2, excess = null.excess(x, y)
    near = r2 < REACH_ARCSEC * REACH_ARCSEC
    time, band, excess = null.now.time[near], null.now.band[near], excess[near]
    if time.size == 0:
        return otherwise
    best, span = NOTHING, otherwise
    for share in SPECTRA:
        q = excess * share[band]
        for power in RATES:
            rho = rate * RATE_STEP**power
            lost = rho * part
            until = np.add.accumulate(natural_log(1 + rho * q)) - lost * time
            before = np.concatenate([[0.0], np.add.accumulate(natural_log(1 + rho * q))[:-1]]) - lost * time
            least = np.minimum.accumulate(before)
            gain = until - least
            j = int(np.argmax(gain))
            value = float(gain[j]) - lost * 2 * EDGE_S
            if value > best:
                best = value
                i = int(np.argmin(before[: j + 1]))
                span = float(time[i]) - EDGE_S, float(time[j]) + EDGE_S
    return span
