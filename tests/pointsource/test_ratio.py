"""The likelihood ratio of a source that shines for a while: by hand, against slow oracles, and compiled alike."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from xscan.backends.numba import ratio as compiled
from xscan.pointsource import ratio
from xscan.pointsource.ratio import EDGE_S, REACH_ARCSEC, SPECTRA, Nearby, inside, natural_log, window_ratio

CORE2 = 25.0
LIVE_S = 20_000.0


def sky(
    seed: int, background: float = 60, steady: float = 0.0, burst: float = 0.0, at: tuple[float, float] = (3.0, -4.0),
    start: float = 9000.0, width: float = 200.0,
) -> Nearby:  # fmt: skip
    """Photons within 55 arcsec: of an even background, of a steady source, and of one that shines for a while."""
    rng = np.random.default_rng(seed)
    n = rng.poisson([background, steady, burst])
    r, angle = 55 * np.sqrt(rng.random(n[0])), rng.uniform(0, 2 * np.pi, n[0])
    x, y, t = [r * np.cos(angle)], [r * np.sin(angle)], [rng.uniform(0, LIVE_S, n[0])]
    for k, (first, length) in ((1, (0.0, LIVE_S)), (2, (start, width))):
        radius, angle = 5 * np.sqrt((1 - 0.99 * rng.random(n[k])) ** -2 - 1), rng.uniform(0, 2 * np.pi, n[k])
        x.append(at[0] + radius * np.cos(angle))
        y.append(at[1] + radius * np.sin(angle))
        t.append(rng.uniform(first, first + length, n[k]))
    x_, y_, t_ = (np.concatenate(parts) for parts in (x, y, t))
    order = np.argsort(t_, kind="stable")
    band = rng.choice(5, x_.size, p=SPECTRA[1] / SPECTRA[1].sum())
    density = max(background, 1.0) / (np.pi * 55**2) / LIVE_S
    own = density * np.full(5, 0.2)[band]
    return Nearby(
        x_[order], y_[order], t_[order], band.astype(np.int64), np.full(x_.size, CORE2), own, np.full(x_.size, density)
    )


def weigh(
    near: Nearby, constant: bool = True, window: tuple[float, float] = (9000.0, 9200.0)
) -> ratio.WindowRatio | None:
    return window_ratio(near, (0.0, 0.0), window, (window[0] - 500, window[1] + 500), LIVE_S, inside(CORE2), constant)


def test_the_logarithm_is_exact() -> None:
    values = np.concatenate([1 + np.geomspace(1e-16, 1, 5000), np.geomspace(1, 1e300, 5000)])
    expected = np.array([math.log(value) for value in values])
    assert np.abs(natural_log(values) - expected).max() <= 2e-16 * np.maximum(1, np.abs(expected)).max()
    assert np.abs(natural_log(values) - expected)[expected < 1].max() < 2e-16
    assert [compiled._log(value) for value in values.tolist()] == natural_log(values).tolist()


def test_part_of_the_image_within_reach() -> None:
    """Against the integral of the image."""
    r = np.linspace(0, REACH_ARCSEC, 400_001)
    f = ratio._image(r[:-1] ** 2, np.full(r.size - 1, CORE2))
    assert inside(CORE2) == pytest.approx(float(np.sum(f * 2 * np.pi * r[:-1]) * r[1]), rel=1e-4)


def test_four_photons_by_hand() -> None:
    """Four photons at one place within 6 s, of one band, on a background so low that it hardly matters which."""
    time = np.array([100.0, 102.0, 105.0, 106.0])
    at = np.zeros(4)
    near = Nearby(at, at, time, np.full(4, 2), np.full(4, CORE2), np.full(4, 1e-9), np.full(4, 5e-9))
    found = window_ratio(near, (0.0, 0.0), (100.0, 110.0), (0.0, 500.0), LIVE_S, inside(CORE2), False)
    assert found is not None
    assert (found.start, found.stop) == (100.0 - EDGE_S, 106.0 + EDGE_S)
    assert (found.x, found.y) == pytest.approx((0.0, 0.0), abs=1e-9)
    width, f = 6 + 2 * EDGE_S, 0.5 / (math.pi * CORE2)
    for spectrum, share in enumerate(SPECTRA[:, 2]):
        g = f * share / (width * 1e-9)
        best = minimize_scalar(
            lambda s, g=g: inside(CORE2) * s - 4 * math.log1p(s * g), bounds=(0.1, 50), method="bounded"
        )
        assert -best.fun <= found.llr + 1e-6
        if spectrum == found.spectrum:
            assert found.llr == pytest.approx(-best.fun, abs=1e-3)
            assert found.counts == pytest.approx(best.x, rel=0.01)
    assert SPECTRA[found.spectrum, 2] == SPECTRA[:, 2].max()


def test_the_window_is_the_best_of_all() -> None:
    """The running maximum against every pair of photons."""
    near = sky(3, burst=25)
    null = ratio._Null(near, 0.0, SPECTRA[1])
    part, rate = inside(CORE2), 0.1
    found = ratio._best_window(null, 3.0, -4.0, rate, part, (0.0, 1.0))
    r2, excess = null.excess(3.0, -4.0)
    close = np.flatnonzero(r2 < REACH_ARCSEC**2)
    best, span = -np.inf, (0.0, 0.0)
    for share in SPECTRA:
        q = excess[close] * share[near.band[close]]
        for power in ratio.RATES:
            rho = rate * ratio.RATE_STEP**power
            for i in range(close.size):
                for j in range(i, close.size):
                    first, last = near.time[close[i]], near.time[close[j]]
                    value = np.log1p(rho * q[i : j + 1]).sum() - rho * part * (last - first + 2 * EDGE_S)
                    if value > best + 1e-9:
                        best, span = value, (first - EDGE_S, last + EDGE_S)
    assert found == pytest.approx(span)


def test_a_steady_source_is_no_event() -> None:
    """Its photons make a large ratio only as long as no constant source is thought of."""
    with_it, without = [], []
    for seed in range(8):
        near = sky(seed, steady=400)
        found, blind = weigh(near), weigh(near, constant=False)
        with_it.append(0.0 if found is None else found.llr)
        without.append(0.0 if blind is None else blind.llr)
    assert max(with_it) < 13 < np.median(without)


def test_the_source_is_found_where_and_when_it_is() -> None:
    for seed in range(5):
        found = weigh(sky(seed, burst=60, steady=100), window=(8900.0, 9500.0))
        assert found is not None
        assert found.llr > 60
        assert math.hypot(found.x - 3, found.y + 4) < 3
        assert 8985 < found.start < 9050
        assert 9150 < found.stop < 9215
        assert found.constant * LIVE_S == pytest.approx(100, rel=0.35)
        assert found.counts == pytest.approx(60, rel=0.4)


def test_fewer_than_two_photons_are_nothing() -> None:
    near = sky(1, background=0, burst=0)
    assert weigh(near) is None
    one = Nearby(*(np.zeros(1), np.zeros(1), np.full(1, 9100.0), np.zeros(1, int), np.full(1, CORE2), *np.ones((2, 1))))
    assert weigh(one) is None
    assert weigh(one, constant=False) is None


@given(seed=st.integers(0, 10_000), burst=st.integers(0, 40), steady=st.integers(0, 300), more=st.integers(1, 5))
def test_more_photons_are_never_less(seed: int, burst: int, steady: int, more: int) -> None:
    """Photons added in a window at the source's place raise the ratio of that window there."""
    near = sky(seed, burst=burst, steady=steady)
    null = ratio._Null(near, 1e-3, SPECTRA[1])
    chosen = (near.time >= 9000) & (near.time < 9200)
    before = ratio._strength(null, np.array([[3.0, -4.0]]), chosen, 200.0, inside(CORE2))
    index = np.searchsorted(near.time, 9100.0)
    added = {
        "x": 3.0,
        "y": -4.0,
        "time": 9100.0,
        "band": 2,
        "core2": CORE2,
        "own": near.own.min(),
        "everything": near.everything.min(),
    }
    columns = {name: np.insert(getattr(near, name), index, [value] * more) for name, value in added.items()}
    many = Nearby(**columns)
    chosen = (many.time >= 9000) & (many.time < 9200)
    after = ratio._strength(ratio._Null(many, 1e-3, SPECTRA[1]), np.array([[3.0, -4.0]]), chosen, 200.0, inside(CORE2))
    assert after is None or before is None or after[0] >= before[0] - 1e-9


@given(
    seed=st.integers(0, 10_000), background=st.integers(0, 300), burst=st.integers(0, 60), steady=st.integers(0, 500),
    constant=st.booleans(), width=st.sampled_from([5.0, 200.0, 5000.0]),
)  # fmt: skip
def test_compiled_to_the_last_bit(
    seed: int, background: int, burst: int, steady: int, constant: bool, width: float
) -> None:
    near = sky(seed, background, steady, burst)
    near = replace(near, core2=near.core2 * np.random.default_rng(seed).uniform(0.5, 2, near.x.size))
    args = (1.0, 2.0), (9000.0, 9000.0 + width), (8000.0, 9500.0 + width), LIVE_S, 0.88, constant
    assert window_ratio(near, *args) == compiled.window_ratio(near, *args)
