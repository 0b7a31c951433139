from __future__ import annotations

import gzip
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xscan import bayes


def mp_log10_bayes(n: float, mu: float, eclipse: bool) -> float:
    """The definition, with 60 digits."""
    with mpmath.workdps(60):
        n_, mu_ = mpmath.mpf(n), mpmath.mpf(mu)
        log_poisson = n_ * mpmath.log(mu_) - mu_ - mpmath.loggamma(n_ + 1)
        limits = (0, mu_) if eclipse else (mu_, mpmath.inf)
        return float((mpmath.log(mpmath.gammainc(n_ + 1, *limits, regularized=True)) - log_poisson) / mpmath.log(10))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 30, 150, 999, 1200])
@pytest.mark.parametrize("mu", [1e-7, 1e-3, 0.4, 1.0, 13.2, 100.0, 999.0, 4000.0])
def test_log10_bayes_against_mpmath(n: int, mu: float) -> None:
    assert float(bayes.log10_bayes_peak(n, mu)) == pytest.approx(mp_log10_bayes(n, mu, False), rel=1e-9, abs=1e-10)
    assert float(bayes.log10_bayes_eclipse(n, mu)) == pytest.approx(mp_log10_bayes(n, mu, True), rel=1e-9, abs=1e-10)


@given(st.integers(0, 10_000), st.floats(1e-9, 1e5))
def test_log10_bayes_is_always_finite(n: int, mu: float) -> None:
    assert np.isfinite(bayes.log10_bayes_peak(n, mu))
    assert np.isfinite(bayes.log10_bayes_eclipse(n, mu))


def test_published_thresholds() -> None:
    assert bayes.threshold_log10_bayes(3) == pytest.approx((5.940968916584189, 5.708917345972507), abs=1e-12)
    assert bayes.threshold_log10_bayes(5) == pytest.approx((13.278830271385576, 12.380488516107011), abs=1e-12)


def test_published_limits() -> None:
    limits = bayes.thresholds(3, 10)
    expected = [0, 0, 1.146e-6, 1.515e-3, 1.914e-2, 7.378e-2, 1.7495e-1, 3.2324e-1]
    np.testing.assert_allclose(limits.mu_peak[:8], expected, rtol=1e-3)
    np.testing.assert_allclose(limits.mu_eclipse[:4], [13.145, 15.906, 18.254, 20.397], rtol=1e-4)
    assert bayes.thresholds(5, 1).mu_eclipse[0] == pytest.approx(28.5, abs=0.01)


@pytest.mark.parametrize("sigma", [3.0, 5.0])
def test_thresholds_against_brute_force(sigma: float) -> None:
    """Tabulate by looking at every n, interpolate, compare: the slow road of the paper."""
    peak, eclipse = bayes.threshold_log10_bayes(sigma)
    mu = np.geomspace(1e-7, 1000, 50_000)[::61]
    n = np.arange(1300)
    above = bayes.log10_bayes_peak(n, mu[:, None]) > peak
    below = bayes.log10_bayes_eclipse(n, mu[:, None]) < eclipse
    n_peak = above.argmax(axis=1)
    n_eclipse = below.argmax(axis=1)
    assert above.any(axis=1).all()
    limits = bayes.thresholds(sigma, n[-1])
    for i, m in enumerate(mu):  # at the points of the table nothing is interpolated
        np.testing.assert_array_equal(m < limits.mu_peak, n > n_peak[i])
        np.testing.assert_array_equal(m > limits.mu_eclipse, n < n_eclipse[i])


def test_thresholds_against_exod2s_own_table(golden: Path, rng: np.random.Generator) -> None:
    with gzip.open(golden / "bayes_limits_3sigma.txt.gz") as stream:
        mu, n_peak, n_eclipse = np.loadtxt(stream)
    limits = bayes.thresholds(3, 1_010_000)
    for n in [*range(1300), 2000, 10_000, 100_000, 900_000]:
        near = [limit[n] * (1 + rng.uniform(-1e-3, 1e-3, 100)) for limit in (limits.mu_peak, limits.mu_eclipse)]
        tried = np.concatenate([10 ** rng.uniform(-7, 6, 200), *near])
        tried = tried[(tried > 1e-7) & (tried < 1e6)]
        np.testing.assert_array_equal(tried < limits.mu_peak[n], n > np.interp(tried, mu, n_peak))
        np.testing.assert_array_equal(tried > limits.mu_eclipse[n], n < np.interp(tried, mu, n_eclipse))


def test_limits_grow_with_counts_also_beyond_the_table() -> None:
    limits = bayes.thresholds(3, 1_040_000)
    assert (np.diff(limits.mu_peak[1:]) >= 0).all()
    assert (np.diff(limits.mu_eclipse) >= 0).all()
    assert np.isfinite(limits.mu_peak).all()
    n = np.arange(len(limits.mu_peak))[100:]
    assert (limits.mu_peak[100:] < n).all()
    assert (limits.mu_eclipse[100:] > n).all()


@pytest.mark.parametrize(
    ("mu", "n", "tail"), [(0.01, 4, 4e-10), (0.1, 6, 1e-9), (1, 10, 1.1e-7), (10, 30, 2.5e-7), (100, 150, 1.9e-6)]
)
def test_poisson_tail_of_faintest_peaks(mu: float, n: int, tail: float) -> None:
    assert float(bayes.poisson_tail(n, mu, False)) == pytest.approx(tail, rel=0.35)  # quoted to one digit
    limits = bayes.thresholds(3, 200)
    assert mu < limits.mu_peak[n]
    assert not mu < limits.mu_peak[n - 1]


def test_poisson_tail_by_hand() -> None:
    assert float(bayes.poisson_tail(0, 2.0, True)) == pytest.approx(np.exp(-2))
    assert float(bayes.poisson_tail(1, 2.0, True)) == pytest.approx(3 * np.exp(-2))
    assert float(bayes.poisson_tail(0, 2.0, False)) == 1.0
    assert float(bayes.poisson_tail(2, 2.0, False)) == pytest.approx(1 - 3 * np.exp(-2))


def test_log10_of_the_tail(rng: np.random.Generator) -> None:
    n, mu = rng.integers(0, 200, 500), 10 ** rng.uniform(-3, 2.2, 500)
    for eclipse in (False, True):
        p = bayes.poisson_tail(n, mu, eclipse)
        some = p > 1e-280
        np.testing.assert_allclose(bayes.log10_poisson_tail(n, mu, eclipse)[some], np.log10(p[some]), atol=1e-9)
    assert float(bayes.poisson_tail(315, 0.65, False)) == 0.0
    exact = mpmath.log10(mpmath.gammainc(315, 0, mpmath.mpf("0.65"), regularized=True))
    assert float(bayes.log10_poisson_tail(315, 0.65, False)) == pytest.approx(float(exact), rel=1e-9)


def test_equivalent_sigma_is_smooth_and_inverts_the_reference() -> None:
    peak, eclipse = bayes.threshold_log10_bayes(4.0)
    assert float(bayes.equivalent_sigma(peak, False)) == pytest.approx(4, abs=0.04)  # a whole count off
    assert float(bayes.equivalent_sigma(eclipse, True)) == pytest.approx(4, abs=0.04)  # a whole count off
    np.testing.assert_array_equal(bayes.equivalent_sigma([-3.0, 1.59, 1e4], False), [0, 0, 10])
    np.testing.assert_array_equal(bayes.equivalent_sigma([-3.0, 1.58, 1e4], True), [0, 0, 10])
    values = bayes.equivalent_sigma(np.linspace(2.5, 48, 2000), False)
    assert (np.diff(values) > 0).all()
    assert np.diff(values).max() < 0.03


def test_a_voxel_weighs_the_same_whatever_stands_beside_it(rng: np.random.Generator) -> None:
    """Tables are made for all voxels of a view at once."""
    mu = 10 ** rng.uniform(-7, 4, 600)
    n = rng.poisson(mu * 10 ** rng.uniform(-2, 2, 600)) + rng.integers(0, 2, 600) * rng.integers(0, 3000, 600)
    eclipse = rng.random(600) < 0.5

    def weigh(which: slice) -> np.ndarray:
        of = n[which], mu[which]
        log10_b = np.where(eclipse[which], bayes.log10_bayes_eclipse(*of), bayes.log10_bayes_peak(*of))
        sigma = bayes.equivalent_sigma(log10_b, eclipse[which])
        tails = (tail(*of, eclipse[which]) for tail in (bayes.poisson_tail, bayes.log10_poisson_tail))
        return np.array([log10_b, sigma, *tails])

    together = weigh(np.s_[:])
    for few in (1, 3):
        apart = np.concatenate([weigh(np.s_[i : i + few]) for i in range(0, 600, few)], axis=1)
        np.testing.assert_array_equal(apart, together)
