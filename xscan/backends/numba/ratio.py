"""Weigh candidates in compiled loops; results as :mod:`xscan.pointsource.ratio`, to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from xscan.pointsource.ratio import (
    CONSTANT_FIRST,
    CONSTANT_LEAST,
    CONSTANT_MOVED,
    CONSTANT_PRIOR,
    CONSTANT_ROUNDS,
    COUNTS_MIN,
    EDGE_S,
    FIT_ROUNDS,
    MIDDLE,
    NOTHING,
    OUTSIDE_MIN,
    PLACE_MOVED_ARCSEC,
    PLACE_ROUNDS,
    RATE_STEP,
    RATES,
    REACH_ARCSEC,
    ROUNDS,
    SPECTRA,
    STEP_ARCSEC,
    STEPS,
    Nearby,
    Span,
    WindowRatio,
)

__all__ = ["window_ratio"]

REACH2 = REACH_ARCSEC * REACH_ARCSEC
LN2, ROOT_HALF = math.log(2.0), math.sqrt(0.5)
FACTORS = np.array([RATE_STEP**power for power in RATES])


def window_ratio(
    near: Nearby, place: tuple[float, float], window: Span, at_hand: Span, live_s: float, part: float, constant: bool
) -> WindowRatio | None:
    """As :func:`xscan.pointsource.ratio.window_ratio`."""
    first, end = np.searchsorted(near.time, at_hand).tolist()
    columns = near.x, near.y, near.time, near.band, near.core2, near.own, near.everything
    found = _ratio(columns, first, end, *place, *window, live_s, part, constant, SPECTRA, FACTORS)
    return WindowRatio(*found[:6], int(found[6]), found[7]) if found[8] else None


@njit(cache=True, error_model="numpy", inline="always")
def _log(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    if mantissa < ROOT_HALF:
        mantissa, exponent = 2 * mantissa, exponent - 1
    s = (mantissa - 1) / (mantissa + 1)
    z = s * s
    series = 1.0 / 21
    for k in (19, 17, 15, 13, 11, 9, 7, 5, 3, 1):
        series = series * z + 1.0 / k
    return exponent * LN2 + 2 * s * series


@njit(cache=True, error_model="numpy", inline="always")
def _image(r2: float, core2: float) -> float:
    near = 1 + r2 / core2
    return 0.5 / (math.pi * core2) / (near * math.sqrt(near))


@njit(cache=True, error_model="numpy")
def _ratio(
    columns: Any, first: int, end: int, x: float, y: float, start: float, stop: float, live_s: float, part: float,
    constant: bool, spectra: Any, factors: Any,
) -> Any:  # fmt: skip
    px, py, time, band, core2, own, everything = columns
    n_spectra, n_bands = spectra.shape
    n = end - first
    f, r2, excess = np.empty(px.size), np.empty(max(n, 1)), np.empty(max(n, 1))
    g, logs = np.empty(max(n, 1)), np.empty(max(n, 1))
    members, shares = np.empty(n_bands), spectra[MIDDLE].copy()
    rate = 0.0
    done, llr_best, s_best, x_best, y_best, start_best, stop_best, h_best, rate_best = (
        False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0,
    )  # fmt: skip
    for number in range(ROUNDS):
        width = stop - start
        if constant:
            for i in range(px.size):
                dx, dy = px[i] - x, py[i] - y
                d2 = dx * dx + dy * dy
                outside = time[i] < start or time[i] >= stop
                f[i] = _image(d2, core2[i]) if d2 < REACH2 and outside else 0.0
            seconds = max(live_s - width, OUTSIDE_MIN * live_s)
            rate, total = CONSTANT_FIRST, 0.0
            for _ in range(CONSTANT_ROUNDS):
                members[:] = 0.0
                for i in range(px.size):
                    if f[i] > 0:
                        light = rate * f[i]
                        members[band[i]] += light / (light + everything[i])
                total = 0.0
                for k in range(n_bands):
                    total += members[k]
                new = total / (part * seconds)
                settled = abs(new - rate) < CONSTANT_MOVED * rate + CONSTANT_LEAST
                rate = new
                if settled:
                    break
            for k in range(n_bands):
                shares[k] = (members[k] + CONSTANT_PRIOR * spectra[MIDDLE, k]) / (total + CONSTANT_PRIOR)
        low, high = first, first
        while low < end and time[low] < start:
            low += 1
        high = low
        while high < end and time[high] < stop:
            high += 1
        # the strength at some places
        found, llr, counts, best_x, best_y, spectrum = False, 0.0, 0.0, x, y, 0
        side = 2 * STEPS + 1 if number == 0 else 1
        for a in range(side):
            for b in range(side):
                qx = x + (a - STEPS) * STEP_ARCSEC if number == 0 else x
                qy = y + (b - STEPS) * STEP_ARCSEC if number == 0 else y
                m = 0
                for i in range(low, high):
                    dx, dy = px[i] - qx, py[i] - qy
                    d2 = dx * dx + dy * dy
                    if d2 < REACH2:
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
                    for _ in range(FIT_ROUNDS):
                        total = 0.0
                        for i in range(m):
                            logs[i] = g[i] / (1 + s * g[i])
                        for i in range(m):
                            total += logs[i]
                        s = max(s * total / part, COUNTS_MIN)
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
        if number == ROUNDS - 1:
            break
        # the place
        for _ in range(PLACE_ROUNDS):
            total, sum_x, sum_y = 0.0, 0.0, 0.0
            for i in range(low, high):
                dx, dy = px[i] - x, py[i] - y
                d2 = dx * dx + dy * dy
                if d2 < REACH2:
                    light = _image(d2, core2[i])
                    v = counts * (light / (own[i] + rate * light * shares[band[i]])) * spectra[spectrum, band[i]] / width
                    weight = v / (1 + v) / (d2 + core2[i])
                    total += weight
                    sum_x += weight * px[i]
                    sum_y += weight * py[i]
            if total <= 0:
                break
            moved = abs(sum_x / total - x) + abs(sum_y / total - y)
            x, y = sum_x / total, sum_y / total
            if moved < PLACE_MOVED_ARCSEC:
                break
        # the window
        m = 0
        for i in range(first, end):
            dx, dy = px[i] - x, py[i] - y
            d2 = dx * dx + dy * dy
            if d2 < REACH2:
                light = _image(d2, core2[i])
                excess[m] = light / (own[i] + rate * light * shares[band[i]])
                r2[m] = i
                m += 1
        best, rho0 = NOTHING, counts / width
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
                value = top - lost * 2 * EDGE_S
                if value > best:
                    best = value
                    start, stop = time[int(r2[i_top])] - EDGE_S, time[int(r2[j_top])] + EDGE_S
    return llr_best, s_best, x_best, y_best, start_best, stop_best, h_best, rate_best, done
