"""Compute Bayes factors for too many or too few counts, Poisson tails, and the inverted thresholds.

A voxel with n counts where mu are expected is judged by (Khan et al. 2025, A&A 697, A50)

* peak: ``B = Q(n + 1, mu) / Poisson(n; mu)``,
* eclipse: ``B = P(n + 1, mu) / Poisson(n; mu)``,

with Q and P the regularised upper and lower incomplete gamma functions. A search never computes
them: for each integer n the rule "B passes the threshold" is a limit on mu, and these limits
are tabulated once (:func:`thresholds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = [
    "Thresholds",
    "equivalent_sigma",
    "log10_bayes",
    "log10_bayes_eclipse",
    "log10_bayes_peak",
    "log10_negative_binomial_tail",
    "log10_poisson_tail",
    "poisson_tail",
    "power_of_ten",
    "threshold_log10_bayes",
    "thresholds",
]

MU_REFERENCE = 1000.0  # mu at which a Gaussian sigma and a Bayes factor are equated
_TERMS = 4000  # of a series; its terms fall at least as fast as x**j
_TINY = 1e-290  # below this an incomplete gamma function has lost digits: its series is used


def _log10_poisson(n: NDArray[np.float64], mu: NDArray[np.float64]) -> NDArray[np.float64]:
    return (special.xlogy(n, mu) - mu - special.gammaln(n + 1)) / np.log(10)


def log10_bayes_peak(n: ArrayLike, mu: ArrayLike) -> NDArray[np.float64]:
    """Return the evidence that a voxel is brighter than expected.

    Parameters
    ----------
    n : array of number, any shape
        Observed counts, >= 0 (real numbers are allowed).
    mu : array of float, broadcastable with n
        Expected counts, > 0.

    Returns
    -------
    array of float64
        log10 of ``Q(n + 1, mu) / Poisson(n; mu)``; always finite.

    Notes
    -----
    Khan et al. (2025). The Poisson term is taken in log space. Where Q underflows (mu far above n)
    the same ratio is the series ``sum_j n! / (n - j)! mu**-j``, j = 0..n.

    Examples
    --------
    >>> log10_bayes_peak([0, 5, 20], 1.0).round(2).tolist()
    [0.0, 2.51, 18.82]
    """
    n_, mu_ = np.broadcast_arrays(np.asarray(n, float), np.asarray(mu, float))
    return _log10_bayes(n_, mu_, _log10_poisson(n_, mu_), eclipse=False)


def log10_bayes_eclipse(n: ArrayLike, mu: ArrayLike) -> NDArray[np.float64]:
    """Return the evidence that a voxel is fainter than expected.

    Parameters
    ----------
    n : array of number, any shape
        Observed counts, >= 0 (real numbers are allowed).
    mu : array of float, broadcastable with n
        Expected counts, > 0.

    Returns
    -------
    array of float64
        log10 of ``P(n + 1, mu) / Poisson(n; mu)``; always finite.

    Notes
    -----
    Khan et al. (2025). Where P underflows (mu far below n) the same ratio is the series
    ``sum_j mu**j n! / (n + j)!``, j >= 1.

    Examples
    --------
    >>> log10_bayes_eclipse([100, 60], 100.0).round(2).tolist()
    [1.07, 5.35]
    """
    n_, mu_ = np.broadcast_arrays(np.asarray(n, float), np.asarray(mu, float))
    return _log10_bayes(n_, mu_, _log10_poisson(n_, mu_), eclipse=True)


def log10_bayes(n: ArrayLike, mu: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return :func:`log10_bayes_peak` and :func:`log10_bayes_eclipse` of the same voxels.

    Examples
    --------
    Five counts where one is expected, and 60 where 100 are:

    >>> peak, eclipse = log10_bayes([5, 60], [1.0, 100.0])
    >>> peak.round(2).tolist(), eclipse.round(2).tolist()
    ([2.51, 0.38], [-0.71, 5.35])
    """
    n_, mu_ = np.broadcast_arrays(np.asarray(n, float), np.asarray(mu, float))
    at_n = _log10_poisson(n_, mu_)
    return _log10_bayes(n_, mu_, at_n, eclipse=False), _log10_bayes(n_, mu_, at_n, eclipse=True)


def _log10_bayes(
    n: NDArray[np.float64], mu: NDArray[np.float64], at_n: NDArray[np.float64], eclipse: bool
) -> NDArray[np.float64]:
    tail = np.asarray((special.gammainc if eclipse else special.gammaincc)(n + 1, mu))
    with np.errstate(divide="ignore"):
        out = np.asarray(np.log10(tail) - at_n)
    small = tail < _TINY
    if small.any():
        out[small] = np.log10(_series(n[small], mu[small], rising=eclipse))
    return out


def _series(n: NDArray[np.float64], mu: NDArray[np.float64], rising: bool) -> NDArray[np.float64]:
    """Return the sum of the positive, falling terms of a Bayes factor far out in the tail."""
    term = mu / (n + 1) if rising else np.ones_like(mu)
    total = term.copy()
    j = 1
    while np.any(term > 1e-17 * total):
        term = term * (mu / (n + 1 + j) if rising else np.maximum(n + 1 - j, 0) / mu)
        total += term
        j += 1
    return total


def poisson_tail(n: ArrayLike, mu: ArrayLike, eclipse: ArrayLike) -> NDArray[np.float64]:
    """Return the exact probability of counts at least as extreme, if only the expectation is present.

    Parameters
    ----------
    n : array of int, any shape
        Observed counts, >= 0.
    mu : array of float, broadcastable with n
        Expected counts, > 0.
    eclipse : array of bool, broadcastable with n
        True for P(N <= n), False for P(N >= n).

    Returns
    -------
    array of float64
        Per-voxel probability, not corrected for the number of voxels searched.

    Examples
    --------
    Five counts or more where one is expected, and none where ten are:

    >>> poisson_tail([5, 0], [1.0, 10.0], [False, True]).round(6).tolist()
    [0.00366, 4.5e-05]
    """
    n_, mu_, low = np.broadcast_arrays(np.asarray(n, float), np.asarray(mu, float), eclipse)
    above = special.gammainc(np.maximum(n_, 1), mu_)
    above = np.where(n_ == 0, 1.0, above)
    return np.where(low, special.gammaincc(n_ + 1, mu_), above)


def log10_poisson_tail(n: ArrayLike, mu: ArrayLike, eclipse: ArrayLike) -> NDArray[np.float64]:
    """Return log10 of :func:`poisson_tail`, finite also where the tail itself is too small for a float.

    Parameters as in :func:`poisson_tail`.

    Notes
    -----
    Both tails are the probability of n itself times a Bayes factor: ``P(N <= n) = Poisson(n) B_peak``
    and ``P(N >= n) = Poisson(n) (1 + B_eclipse)``.

    Examples
    --------
    >>> log10_poisson_tail(400, 1.0, False).round(1).tolist()
    -869.2
    """
    n_, mu_, low = np.broadcast_arrays(np.asarray(n, float), np.asarray(mu, float), eclipse)
    at_n = _log10_poisson(n_, mu_)
    above = at_n + np.logaddexp(0, log10_bayes_eclipse(n_, mu_) * np.log(10)) / np.log(10)
    return np.where(low, at_n + log10_bayes_peak(n_, mu_), above)


def power_of_ten(exponent: float) -> str:
    """Return 10**exponent as text with two digits, also where it is too small for a float: ``2.4e-41``.

    Examples
    --------
    >>> power_of_ten(-869.4), power_of_ten(-1.0)
    ('4.0e-870', '1.0e-01')
    """
    if not np.isfinite(exponent):
        return "0"
    whole = int(np.floor(exponent))
    digits = f"{10 ** (exponent - whole):.1f}"
    return f"1.0e{whole + 1:+03d}" if digits == "10.0" else f"{digits}e{whole:+03d}"


def _gaussian_n(mu: ArrayLike, sigma: ArrayLike, sign: int) -> NDArray[np.float64]:
    """Return the counts that differ from mu by sigma, with Gaussian errors of counts and expectation combined."""
    m, s = np.asarray(mu, float), np.asarray(sigma, float)
    return (2 * m + s**2 + sign * np.sqrt(8 * m * s**2 + s**4)) / 2


def threshold_log10_bayes(sigma: float) -> tuple[float, float]:
    """Return log10 of the Bayes factors (peak, eclipse) that correspond to a number of sigma.

    They are taken at mu = 1000 for the whole number of counts just outside ``sigma``: for 3 sigma
    5.940968916584189 and 5.708917345972507 (Khan et al. 2025).

    Examples
    --------
    >>> [round(limit, 2) for limit in threshold_log10_bayes(3.0)]
    [5.94, 5.71]
    """
    n_peak = np.ceil(_gaussian_n(MU_REFERENCE, sigma, +1))
    n_eclipse = np.floor(_gaussian_n(MU_REFERENCE, sigma, -1))
    return (
        float(log10_bayes_peak(n_peak, MU_REFERENCE)),
        float(log10_bayes_eclipse(n_eclipse, MU_REFERENCE)),
    )


@lru_cache(maxsize=1)
def _sigma_curves() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    sigma = np.linspace(0, 10, 2001)
    peak = log10_bayes_peak(_gaussian_n(MU_REFERENCE, sigma, +1), MU_REFERENCE)
    eclipse = log10_bayes_eclipse(_gaussian_n(MU_REFERENCE, sigma, -1), MU_REFERENCE)
    return sigma, peak, eclipse


def equivalent_sigma(log10_b: ArrayLike, eclipse: ArrayLike) -> NDArray[np.float64]:
    """Return the sigma that has the same Bayes factor at mu = 1000.

    Parameters
    ----------
    log10_b : array of float, any shape
        log10 of a Bayes factor.
    eclipse : array of bool, broadcastable with log10_b
        True for the Bayes factor of an eclipse.

    Returns
    -------
    array of float64
        Between 0 and 10, smooth in between. It is a label, not a false-alarm probability: at
        mu = 0.01 "3 sigma" is a tail of 4e-10 (so quote :func:`poisson_tail` too).

    Examples
    --------
    Of a peak and of an eclipse just above the thresholds for 3 sigma:

    >>> equivalent_sigma([5.95, 5.72], [False, True]).round(1).tolist()
    [3.0, 3.0]
    """
    sigma, peak, ecl = _sigma_curves()
    log10_b_ = np.asarray(log10_b, np.float64)
    return np.where(eclipse, np.interp(log10_b_, ecl, sigma), np.interp(log10_b_, peak, sigma))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits on mu for each number of counts.

    Attributes
    ----------
    mu_peak : array of float64, shape (n_max + 1,)
        A voxel of n counts is a peak where ``mu < mu_peak[n]``.
    mu_eclipse : array of float64, shape (n_max + 1,)
        It is an eclipse where ``mu > mu_eclipse[n]``.
    sigma : float
        The threshold in equivalent sigma.
    """

    mu_peak: NDArray[np.float64]
    mu_eclipse: NDArray[np.float64]
    sigma: float


def thresholds(sigma: float, n_max: int) -> Thresholds:
    """Return, for 0..n_max counts, the limits on mu between which a voxel is not flagged.

    Parameters
    ----------
    sigma : float
        Threshold in equivalent sigma.
    n_max : int
        Largest number of counts to tabulate.

    Notes
    -----
    EXOD2 tabulates, on 50,000 log-spaced mu in 1e-7..1e3, the smallest n above and the smallest n
    not below the thresholds, appends 1,000 mu in 1e3..1e6 by the Gaussian forms, interpolates n
    linearly in mu and flags ``n > n_peak(mu)`` and ``n < n_eclipse(mu)``. Here that table is
    inverted: for integer n both rules are limits on mu. Where the two parts join, the table steps
    back by one count; the last crossing (peaks) and the first (eclipses) are taken, so that the
    inverted rule differs from the interpolated one at mu = 1000 exactly and nowhere else.
    Beyond 1e6 the Gaussian forms are inverted directly.

    Examples
    --------
    With three counts in a voxel a peak is flagged where fewer than this are expected:

    >>> float(thresholds(3.0, 100).mu_peak[3].round(4))
    0.0015
    """
    # a power of two, so that few tables are built and kept
    size = 1 << max(11, int(n_max).bit_length())
    table = _table(float(sigma), size)
    return Thresholds(table.mu_peak[: n_max + 1], table.mu_eclipse[: n_max + 1], float(sigma))


@lru_cache(maxsize=8)
def _table(sigma: float, size: int) -> Thresholds:
    log10_peak, log10_eclipse = threshold_log10_bayes(sigma)
    exact = np.geomspace(1e-7, MU_REFERENCE, 50_000)
    coarse = np.geomspace(MU_REFERENCE, 1e6, 1000)
    coarse_peak = np.ceil(_gaussian_n(coarse, sigma, +1))
    coarse_eclipse = np.floor(_gaussian_n(coarse, sigma, -1))
    n = np.arange(size)

    # n > n_peak(mu)  <=>  mu lies before the first mu at which n is too few to pass, that is
    # where n - 1 does not pass (the interpolated table climbs from n - 1 to n up to that mu)
    first = _first_index(exact, lambda mu: log10_bayes_peak(np.maximum(n - 1, 0), mu) <= log10_peak, size)
    mu_peak = np.where(n <= 1, 0.0, exact[np.minimum(first, exact.size - 1)])
    # the last crossing: after the join the table is one count lower for a while
    late = n >= coarse_peak[0] + 1
    mu_peak[late] = np.interp(n[late], coarse_peak, coarse)
    beyond = n > coarse_peak[-1]
    s2 = sigma**2
    mu_peak[beyond] = n[beyond] - (-s2 + np.sqrt(s2**2 + 8 * n[beyond] * s2)) / 2

    # n < n_eclipse(mu)  <=>  mu lies beyond the last mu at which n is not below the threshold
    first = _first_index(exact, lambda mu: log10_bayes_eclipse(n, mu) >= log10_eclipse, size)
    mu_eclipse = exact[np.clip(first - 1, 0, exact.size - 1)]
    late = first >= exact.size
    mu_eclipse[late] = np.interp(n[late], coarse_eclipse, coarse)
    beyond = n > coarse_eclipse[-1]
    mu_eclipse[beyond] = n[beyond] + (s2 + np.sqrt(s2**2 + 8 * n[beyond] * s2)) / 2
    for array in (mu_peak, mu_eclipse):
        array.setflags(write=False)
    return Thresholds(mu_peak, mu_eclipse, sigma)


def _first_index(mu, passes, size: int) -> NDArray[np.int64]:  # type: ignore[no-untyped-def]
    """Return, for every n, the first grid index at which a monotone test passes, by bisection."""
    lo = np.zeros(size, np.int64)  # the test fails at all indices before lo
    hi = np.full(size, mu.size, np.int64)  # the test passes at hi and all later indices
    while np.any(lo < hi):
        mid = (lo + hi) // 2
        ok = passes(mu[np.minimum(mid, mu.size - 1)])
        active = lo < hi
        hi = np.where(active & ok, mid, hi)
        lo = np.where(active & ~ok, mid + 1, lo)
    return hi


def log10_negative_binomial_tail(n: ArrayLike, mu: ArrayLike, shape: ArrayLike) -> NDArray[np.float64]:
    """Return log10 of the probability of n counts or more where the expectation itself is Gamma distributed.

    Parameters
    ----------
    n : array_like of int
        Counts, at least 1.
    mu : array_like of float
        Mean of the expectation.
    shape : array_like of float
        Shape of its distribution: its variance is ``mu**2 / shape``.

    Notes
    -----
    With ``x = mu / (shape + mu)`` the probability is the regularised incomplete beta function ``I_x(n, shape)``. Where
    it underflows, it is the first term, times the sum of the ratios of the others to it.

    Examples
    --------
    >>> log10_negative_binomial_tail([1, 10], [1.0, 1.0], [2.0, 2.0]).round(3).tolist()
    [-0.255, -3.887]
    """
    n_, mu_, a = np.broadcast_arrays(*(np.asarray(values, np.float64) for values in (n, mu, shape)))
    x = mu_ / (a + mu_)
    p = special.betainc(n_, a, x)
    low = p < _TINY
    with np.errstate(divide="ignore"):
        result = np.where(low, -np.inf, np.log10(p))
    if low.any():
        n_, a, x = n_[low], a[low], x[low]
        term, total = np.ones(n_.size), np.ones(n_.size)
        for j in range(_TERMS):
            term = term * (n_ + a + j) / (n_ + 1 + j) * x
            total = total + term
            if (term < 1e-12 * total).all():
                break
        first = special.gammaln(n_ + a) - special.gammaln(a) - special.gammaln(n_ + 1)
        first = first + a * np.log1p(-x) + n_ * np.log(x)
        result[low] = (first + np.log(total)) / np.log(10)
    return np.asarray(result)
