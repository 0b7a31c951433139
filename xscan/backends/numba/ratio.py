"""Weigh candidates in compiled loops; results as :mod:`xscan.pointsource.ratio`, to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xscan.pointsource import ratio
from xscan.pointsource.ratio import Nearby, Span, WindowRatio

__all__ = ["window_ratio"]

FACTORS = np.array([ratio.RATE_STEP**power for power in ratio.RATES])


def window_ratio(
    near: Nearby, place: tuple[float, float], window: Span, at_hand: Span, live_s: float, part: float, constant: bool
) -> WindowRatio | None:
    """As :func:`xscan.pointsource.ratio.window_ratio`."""
    first, end = np.searchsorted(near.time, at_hand).tolist()
    columns = near.x, near.y, near.time, near.band, near.core2, near.own, near.everything
    rounds = ratio.ROUNDS, ratio.GUESS_ROUNDS, ratio.FIT_ROUNDS, ratio.PLACE_ROUNDS, ratio.CONSTANT_ROUNDS
    places = ratio.STEPS, ratio.STEP_ARCSEC, ratio.GRID_PHOTONS, ratio.PLACE_MOVED_ARCSEC, ratio.REACH_ARCSEC**2
    constants = (
        ratio.CONSTANT_MOVED, ratio.CONSTANT_LEAST, ratio.CONSTANT_PRIOR, ratio.OUTSIDE_MIN, ratio.SHRINK_MOST,
    )  # fmt: skip
    others = ratio.MIDDLE, ratio.COUNTS_MIN, ratio.EDGE_S, ratio.NOTHING
    found = _ratio(
        columns, (first, end), (*place, *window), (live_s, part, constant), ratio.SPECTRA, FACTORS, rounds, places,
        constants, others,
    )  # fmt: skip
    llr, counts, x, y, start, stop, spectrum, rate, done = found
    return WindowRatio(llr, counts, x, y, start, stop, spectrum, rate) if done else None


@njit(cache=True, error_model="numpy", inline="always")
def _log(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    if mantissa < math.sqrt(0.5):
        mantissa, exponent = 2 * mantissa, exponent - 1
    s = (mantissa - 1) / (mantissa + 1)
    z = s * s
    series = 1.0 / 21
    for k in (19, 17, 15, 13, 11, 9, 7, 5, 3, 1):
        series = series * z + 1.0 / k
    return exponent * math.log(2.0) + 2 * s * series


@njit(cache=True, error_model="numpy", inline="always")
def _image(r2: float, core2: float) -> float:
    near = 1 + r2 / core2
    return 0.5 / (math.pi * core2) / (near * math.sqrt(near))


@njit(cache=True, error_model="numpy")
def _ratio(
    columns: Any, span: Any, guess: Any, known: Any, spectra: Any, factors: Any, rounds: Any, places: Any,
    constants: Any, others: Any,
) -> Any:  # fmt: skip
    px, py, time, band, core2, own, everything = columns
    (first, end), (x, y, start, stop), (live_s, part, constant) = span, guess, known
    n_rounds, guess_rounds, fit_rounds, place_rounds, constant_rounds = rounds
    steps, step_arcsec, grid_photons, place_moved, reach2 = places
    constant_moved, constant_least, constant_prior, outside_min, shrink_most = constants
    middle, counts_min, edge_s, nothing = others
    n_spectra, n_bands = spectra.shape
    n = end - first
    f, r2, excess = np.empty(px.size), np.empty(max(n, 1)), np.empty(max(n, 1))
    g, logs = np.empty(max(n, 1)), np.empty(max(n, 1))
    members, shares = np.empty(n_bands), spectra[middle].copy()
    rate = 0.0
    done, llr_best, s_best, x_best, y_best, start_best, stop_best, h_best, rate_best = (
        False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0,
    )  # fmt: skip
    for number in range(n_rounds):
        width = stop - start
        if constant:
            for i in range(px.size):
                dx, dy = px[i] - x, py[i] - y
                d2 = dx * dx + dy * dy
                outside = time[i] < start or time[i] >= stop
                f[i] = _image(d2, core2[i]) if d2 < reach2 and outside else 0.0
            seconds = max(live_s - width, outside_min * live_s)
            n_near = 0
            for i in range(px.size):
                n_near += f[i] > 0
            rate = n_near / seconds
            for _ in range(constant_rounds):
                total, slope = 0.0, 0.0
                for i in range(px.size):
                    if f[i] > 0:
                        term = f[i] / (rate * f[i] + everything[i])
                        total += term
                        slope += term * term
                if slope <= 0:
                    break
                new = max(rate + (total - part * seconds) / slope, shrink_most * rate)
                settled = abs(new - rate) < constant_moved * rate + constant_least
                rate = new
                if settled:
                    break
            members[:] = 0.0
            for i in range(px.size):
                if f[i] > 0:
                    light = rate * f[i]
                    members[band[i]] += light / (light + everything[i])
            total = 0.0
            for k in range(n_bands):
                total += members[k]
            for k in range(n_bands):
                shares[k] = (members[k] + constant_prior * spectra[middle, k]) / (total + constant_prior)
        low, high = first, first
        while low < end and time[low] < start:
            low += 1
        high = low
        while high < end and time[high] < stop:
            high += 1
        # the strength at some places
        found, llr, counts, best_x, best_y, spectrum = False, 0.0, 0.0, x, y, 0
        many_places = number == 0 and high - low <= grid_photons
        side = 2 * steps + 1 if many_places else 1
        for a in range(side):
            for b in range(side):
                qx = x + (a - steps) * step_arcsec if many_places else x
                qy = y + (b - steps) * step_arcsec if many_places else y
                m = 0
                for i in range(low, high):
                    dx, dy = px[i] - qx, py[i] - qy
                    d2 = dx * dx + dy * dy
                    if d2 < reach2:
                        light = _image(d2, core2[i])
                        excess[m] = light / (own[i] + rate * light * shares[band[i]])
                        r2[m] = band[i]
                        m += 1
                if m < 2:
                    continue
                for h in range(n_spectra):
                    for i in range(m):
                        g[i] = spectra[h, int(r2[i])] * excess[i] / width
                    s = max(m - 1.0, 1.0) * 0.6
                    for _ in range(guess_rounds):
                        total = 0.0
                        for i in range(m):
                            logs[i] = g[i] / (1 + s * g[i])
                        for i in range(m):
                            total += logs[i]
                        s = max(s * total / part, counts_min)
                    for _ in range(fit_rounds):
                        total, slope = 0.0, 0.0
                        for i in range(m):
                            logs[i] = g[i] / (1 + s * g[i])
                        for i in range(m):
                            total += logs[i]
                            slope += logs[i] * logs[i]
                        s = max(max(s + (total - part) / slope, shrink_most * s), counts_min)
                    total = 0.0
                    for i in range(m):
                        logs[i] = _log(1 + s * g[i])
                    for i in range(m):
                        total += logs[i]
                    value = total - s * part
                    if not found or value > llr:
                        found, llr, counts, best_x, best_y, spectrum = True, value, s, qx, qy, h
        if not found:
            break
        x, y = best_x, best_y
        if number > 0 and (not done or llr > llr_best):
            done, llr_best, s_best, x_best, y_best = True, llr, counts, x, y
            start_best, stop_best, h_best, rate_best = start, stop, spectrum, rate
        if number == n_rounds - 1:
            break
        # the place
        for _ in range(place_rounds):
            total, sum_x, sum_y = 0.0, 0.0, 0.0
            for i in range(low, high):
                dx, dy = px[i] - x, py[i] - y
                d2 = dx * dx + dy * dy
                if d2 < reach2:
                    light = _image(d2, core2[i])
                    v = (
                        counts
                        * (light / (own[i] + rate * light * shares[band[i]]))
                        * spectra[spectrum, band[i]]
                        / width
                    )
                    weight = v / (1 + v) / (d2 + core2[i])
                    total += weight
                    sum_x += weight * px[i]
                    sum_y += weight * py[i]
            if total <= 0:
                break
            moved = abs(sum_x / total - x) + abs(sum_y / total - y)
            x, y = sum_x / total, sum_y / total
            if moved < place_moved:
                break
        # the window
        m = 0
        for i in range(first, end):
            dx, dy = px[i] - x, py[i] - y
            d2 = dx * dx + dy * dy
            if d2 < reach2:
                light = _image(d2, core2[i])
                excess[m] = light / (own[i] + rate * light * shares[band[i]])
                r2[m] = i
                m += 1
        best, rho0 = nothing, counts / width
        if m == 0:
            continue
        for h in range(n_spectra):
            for i in range(m):
                g[i] = excess[i] * spectra[h, band[int(r2[i])]]
            for k in range(factors.size):
                rho = rho0 * factors[k]
                lost = rho * part
                for i in range(m):
                    logs[i] = _log(1 + rho * g[i])
                sum_logs, least, at, top, i_top, j_top = 0.0, 0.0, 0, 0.0, 0, 0
                for i in range(m):
                    moment = lost * time[int(r2[i])]
                    before = sum_logs - moment
                    if i == 0 or before < least:
                        least, at = before, i
                    sum_logs += logs[i]
                    gain = (sum_logs - moment) - least
                    if i == 0 or gain > top:
                        top, i_top, j_top = gain, at, i
                value = top - lost * 2 * edge_s
                if value > best:
                    best = value
                    start, stop = time[int(r2[i_top])] - edge_s, time[int(r2[j_top])] + edge_s
    return llr_best, s_best, x_best, y_best, start_best, stop_best, h_best, rate_best, done
