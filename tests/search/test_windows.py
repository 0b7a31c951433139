"""The search by windows, on observations made in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from helpers.held import FIELD_RATE, Events, event_list, field, source, three_cameras
from helpers.lists import CENTRE
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaincinv
from scipy.stats import nbinom

from xscan.backends import Backend, get_backend
from xscan.backends.windows import cell_models, passing_windows
from xscan.bayes import log10_negative_binomial_tail
from xscan.config import load_config
from xscan.errors import Reason
from xscan.model import EventList, Observation
from xscan.pointsource.ratio import SPECTRA, WindowRatio
from xscan.search.candidates import distinct
from xscan.search.components import NARROW_EV, band_models
from xscan.search.falsealarms import false_events, likelihood_threshold
from xscan.search.observation import WindowResult, search_observation
from xscan.search.ratios import Weighed, _not_in_wings
from xscan.search.windows import Judged
from xscan.windows import BASE_S, CELL, LENGTHS, PHASES, WindowLimits

SECONDS = 12_000.0
FAR = 1e-4  # so that nothing is found by chance
NAMES = ("band", "phase", "y", "x", "start", "stop", "n", "mu")


def spread(lists: Sequence[EventList]) -> list[EventList]:
    """The same lists with energies of a source's spectrum."""
    rng, edges = np.random.default_rng(99), np.array(NARROW_EV)
    made = []
    for events in lists:
        band = rng.choice(5, events.time.size, p=SPECTRA[1])
        pi = edges[band] + rng.random(band.size) * (edges[band + 1] - edges[band] - 1)
        made.append(replace(events, pi=pi.astype(np.uint16)))
    return made


def results(lists: Sequence[EventList], backend: str | Backend = "numba", far: float = FAR) -> list[WindowResult]:
    used = get_backend(backend) if isinstance(backend, str) else backend
    observation = Observation("0999999901", tuple(spread(lists)), (), None, None)
    searches, _ = search_observation(observation, load_config(far=far), used)
    return [result for one in searches for result in one.windows]


def found(lists: Sequence[EventList], backend: str | Backend = "numba", far: float = FAR) -> list[Judged]:
    (result,) = results(lists, backend, far)
    assert result.search.reason is None
    return list(result.search.found)


def test_a_burst_is_found_where_and_when_it_is(backend: Backend) -> None:
    """And nothing else; every backend finds the same, to the last bit."""
    at = (CENTRE + 1500.0, CENTRE - 2300.0)
    lists = three_cameras(np.random.default_rng(1), 4000.0, [(30, at, 2000.0, 40.0)], reach_px=5000)
    (one,) = found(lists, backend)
    event = one.event
    assert event.kind == "peak"
    assert not event.variable
    assert event.llr > 60
    assert math.hypot(event.position.x_px - at[0], event.position.y_px - at[1]) * 0.05 < 4 * event.position.error_arcsec
    assert 1990 < event.start < 2015
    assert 2025 < event.stop < 2045
    assert one.n_false < 1e-10
    assert event.by_camera.sum() == pytest.approx(30, abs=12)
    (same,) = found(lists, "numpy")
    assert (event.llr, event.position, event.start, event.stop) == (
        same.event.llr, same.event.position, same.event.start, same.event.stop,
    )  # fmt: skip
    assert np.array_equal(event.curve.n, same.event.curve.n)
    assert np.array_equal(event.curve.mu, same.event.curve.mu)


@pytest.mark.parametrize(("counts", "width"), [(25, 5.0), (40, 200.0), (90, 1500.0)])
def test_every_time_scale(counts: int, width: float) -> None:
    at = (CENTRE - 3000.0, CENTRE + 1000.0)
    for seed in range(2):
        (one,) = found(three_cameras(np.random.default_rng(seed), SECONDS, [(counts, at, 5000.0, width)]))
        assert one.event.start < 5000 + width
        assert one.event.stop > 5000
        assert math.hypot(one.event.position.x_px - at[0], one.event.position.y_px - at[1]) * 0.05 < 10


def test_an_eclipse_is_found() -> None:
    """A source of 0.3 ct/s vanishes for 500 s."""
    at, rng = (CENTRE + 500.0, CENTRE + 500.0), np.random.default_rng(2)
    shining = [(0.3 * 6000, at, 0.0, 6000.0), (0.3 * 5500, at, 6500.0, 5500.0)]
    eclipses = [one.event for one in found(three_cameras(rng, SECONDS, shining)) if one.event.kind == "eclipse"]
    (event,) = eclipses
    assert event.start < 6300 < event.stop
    assert event.n < 30 < event.mu
    assert math.hypot(event.position.x_px - at[0], event.position.y_px - at[1]) * 0.05 < 2


def test_a_bright_burst_eclipses_nothing() -> None:
    at = (CENTRE, CENTRE)
    steady = (0.02 * SECONDS, at, 0.0, SECONDS)
    kinds = [
        one.event.kind
        for one in found(three_cameras(np.random.default_rng(3), SECONDS, [steady, (2000, at, 7000.0, 300.0)]))
    ]
    assert kinds == ["peak"]


def test_a_dead_ccd_takes_nothing_from_the_others() -> None:
    """For 900 s of 12 ks one of two CCDs is dead: on the other a burst is found all the same; nothing else."""
    rng = np.random.default_rng(4)
    dead = (5000.0, 5900.0)
    parts = [field(rng, SECONDS, 4.0), source(rng, 25, (CENTRE + 3000.0, CENTRE), 5300.0, 60.0)]
    joined = Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("time", "x", "y")))
    joined.ccd = np.where(joined.x > CENTRE, 2, 1)
    silent = (joined.ccd == 1) & (joined.time >= dead[0]) & (joined.time < dead[1])
    kept = Events(joined.time[~silent], joined.x[~silent], joined.y[~silent], joined.ccd[~silent])
    (one,) = found([event_list("m1", [kept], SECONDS)])
    assert 5290 < one.event.start < 5370
    assert one.event.position.x_px > CENTRE


def test_the_wings_of_a_bright_burst_are_no_events() -> None:
    """Wherever it is, and however bright."""
    for seed, (counts, width) in enumerate([(1600, 2.0), (400, 20.0), (2700, 20.0), (2700, 200.0)]):
        at = (CENTRE + 900.0 * seed, CENTRE - 700.0)
        lists = three_cameras(np.random.default_rng(seed), SECONDS, [(counts, at, 6000.0, width)], core=5.0)
        assert len(found(lists)) == 1, counts


def test_what_wings_explain_and_what_they_do_not() -> None:
    """Beside 1,600 counts: 30 more that are spread over 40 arcsec at 84 arcsec, where the wings are; and 80."""
    burst = WindowRatio(9000.0, 1600.0, 0.0, 0.0, 100.0, 104.0, 1, 0.0)
    for counts, kept in ((30.0, 1), (80.0, 2)):
        beside = WindowRatio(37.0, counts, 84.0, 0.0, 99.0, 104.0, 1, 0.0)
        assert len(_not_in_wings([Weighed(0, burst), Weighed(1, beside)])) == kept
    later = WindowRatio(37.0, 30.0, 84.0, 0.0, 105.0, 110.0, 1, 0.0)
    assert len(_not_in_wings([Weighed(0, burst), Weighed(1, later)])) == 2


def test_more_counts_are_never_found_less() -> None:
    at = (CENTRE + 2000.0, CENTRE + 2000.0)
    for width in (20.0, 2000.0):
        ratios = []
        for counts in (20, 40, 80, 160, 800, 2700):
            rng = np.random.default_rng(5)
            events = found(three_cameras(rng, SECONDS, [(counts, at, 6000.0, width)]))
            near = [one.event.llr for one in events if one.event.kind == "peak"]
            ratios.append(max(near, default=0.0))
        assert ratios == sorted(ratios), width
        assert ratios[-1] > 1000, width


def test_a_quiet_field_is_quiet() -> None:
    assert not found(
        three_cameras(np.random.default_rng(6), SECONDS, [(300, (CENTRE, CENTRE), 0.0, SECONDS)]), far=0.01
    )


# ---------------------------------------------------------------------------------------------------------------------
# what can hardly be searched


def test_too_short_for_any_window() -> None:
    rng = np.random.default_rng(7)
    (result,) = results([event_list("m1", [Events(rng.uniform(0, 4, 50), *rng.uniform(20_000, 30_000, (2, 50)))], 4.0)])
    assert result.search.reason is Reason.DT_TOO_LONG


@pytest.mark.parametrize("seconds", [5.1, 11.0, 60.0, 500.0])
def test_exposures_shorter_than_most_windows(seconds: float) -> None:
    (result,) = results(three_cameras(np.random.default_rng(8), seconds, []))
    assert result.search.reason is None
    assert not result.search.found


def test_a_million_events_in_one_cell() -> None:
    rng = np.random.default_rng(9)
    spot = Events(rng.uniform(0, 2000, 1_000_000), *(CENTRE + rng.uniform(-50, 50, (2, 1_000_000))))
    (result,) = results([event_list("m1", [field(rng, 2000, 1.5), spot], 2000.0)])
    assert result.search.reason is None
    assert not [one for one in result.search.found if one.event.kind == "peak"]


def test_all_photons_in_one_cell() -> None:
    rng = np.random.default_rng(10)
    (result,) = results(
        [event_list("m1", [Events(rng.uniform(0, 900, 40), *(CENTRE + rng.uniform(-30, 30, (2, 40))))], 900.0)]
    )
    assert result.search.reason in (None, Reason.NO_BACKGROUND)
    assert not result.search.found


def test_one_camera_with_few_photons() -> None:
    rng = np.random.default_rng(11)
    lists = [event_list("m2", [field(rng, 2000, 0.3), source(rng, 25, (CENTRE, CENTRE), 700.0, 30.0)], 2000.0)]
    (one,) = found(lists)
    assert 690 < one.event.start < 730


def test_energies_beyond_the_bands_are_left_out() -> None:
    """As another mission's lists may have; EPIC's are cut before."""
    lists = three_cameras(np.random.default_rng(14), 1000.0, [], reach_px=3000)
    strange = []
    for events in spread(lists):
        pi = events.pi.copy()
        pi[::5], pi[1::5] = 20_000, 100
        strange.append(replace(events, pi=pi))
    observation = Observation("0999999901", tuple(strange), (), None, None)
    searches, _ = search_observation(observation, load_config(), get_backend("numba"))
    (result,) = [result for one in searches for result in one.windows]
    assert result.search.reason is None
    assert result.search.n_photons == sum(np.count_nonzero((one.pi >= 200) & (one.pi <= 12_000)) for one in strange)


# ---------------------------------------------------------------------------------------------------------------------
# parts


def test_windows_against_counting_them_all() -> None:
    """Every window of every cell counted one by one."""
    rng = np.random.default_rng(12)
    lists = three_cameras(
        rng,
        1000.0,
        [(20, (CENTRE, CENTRE), 300.0, 20.0), (30, (CENTRE + 900, CENTRE - 900), 600.0, 80.0)],
        reach_px=1200,
    )
    (result,) = results(lists)
    whole = result.search.field
    assert whole is not None
    bands, p = band_models(whole), whole.photons
    limits = WindowLimits(np.concatenate([[0], gammaincinv(np.arange(1, 500), 0.02)]), whole.mask)  # many pass
    windows = passing_windows(p, whole.grid, bands, limits)
    listed = {
        (b, f, y, x, start, stop): (n, mu)
        for b, f, y, x, start, stop, n, mu in zip(
            *(getattr(windows, name).tolist() for name in ("band", "phase", "y", "x", "start", "stop", "n", "mu")),
            strict=True,
        )
    }
    seen = {}
    for model in cell_models(whole.grid, bands, limits):
        band, (oy, ox) = bands[model.band], PHASES[model.phase]
        inside = (p.band >= band.lo) & (p.band < band.hi) & (p.y >= oy) & (p.x >= ox)
        for y in range(model.ny):
            for x in range(model.nx):
                mine = inside & ((p.y - oy) // CELL == y) & ((p.x - ox) // CELL == x)
                bins, cell = p.bin[mine], y * model.nx + x
                for length in LENGTHS:
                    for start in range(0, whole.grid.nt - length + 1, length // 2) if bins.size > 1 else ():
                        n = int(np.count_nonzero((bins >= start) & (bins < start + length)))
                        mu = sum(
                            w * (c[start + length] - c[start])
                            for w, c in zip(model.weights[cell], model.curves, strict=True)
                        )
                        if n < 2 or mu <= 0:
                            continue
                        mean = mu * (model.a0[cell] + bins.size - n) / (model.a0[cell] + model.total[cell] - mu)
                        if mean < limits.mu_peak[n] * (1 - 1e-12):
                            seen[model.band, model.phase, y, x, start, start + length] = n, mean
    assert seen.keys() == listed.keys()
    assert len(seen) > 100
    assert all(listed[key] == pytest.approx(value) for key, value in seen.items())


def test_what_is_expected_adds_up() -> None:
    """The components of a band give the photons outside the mask, within what in-painting and smoothing move."""
    (result,) = results(three_cameras(np.random.default_rng(13), SECONDS, [(1500, (CENTRE, CENTRE), 0.0, SECONDS)]))
    whole = result.search.field
    assert whole is not None
    assert whole.mask.any()
    for model in band_models(whole):
        p = whole.photons
        n = np.count_nonzero((p.band >= model.lo) & (p.band < model.hi))
        mu = sum(float(one.sum() * curve[-1]) for one, curve in zip(model.maps, model.curves, strict=True))
        assert mu == pytest.approx(n, rel=0.03) if n else mu == 0


def test_the_tail_against_a_sum() -> None:
    for n, mu, a in ((1, 0.3, 1.0), (4, 0.01, 3.0), (300, 100.0, 50.0)):
        expected = math.log10(nbinom.sf(n - 1, a, a / (a + mu)))
        assert log10_negative_binomial_tail(n, mu, a) == pytest.approx(expected, rel=1e-9)
    far = log10_negative_binomial_tail([2000, 2001], [1.0, 1.0], [1e4, 1e4])
    assert np.isfinite(far).all()
    assert far[1] < far[0] < -290


def test_what_belongs_together() -> None:
    x, start = np.array([0.0, 44.0, 46.0, 0.0]), np.array([0.0, 0.0, 0.0, 400.0])
    assert distinct(x, np.zeros(4), start, start + 100).tolist() == [0, 2, 3]
    assert distinct(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)).tolist() == []


@given(far=st.floats(1e-6, 10), tried=st.floats(1.0, 1e12))
def test_the_threshold_gives_the_rate_asked_for(far: float, tried: float) -> None:
    assert false_events(likelihood_threshold(far, tried), tried) == pytest.approx(far)


@settings(max_examples=8)
@given(
    seed=st.integers(0, 1000),
    seconds=st.floats(20, 3000),
    cameras=st.sampled_from([["m1"], ["pn"], ["m1", "m2", "pn"]]),
)
def test_compiled_alike(seed: int, seconds: float, cameras: list[str]) -> None:
    rng = np.random.default_rng(seed)
    place = (CENTRE + rng.uniform(-3000, 3000), CENTRE + rng.uniform(-3000, 3000))
    lists = [
        event_list(
            name,
            [
                field(rng, seconds, FIELD_RATE[name], 4000),
                source(rng, rng.poisson(15), place, seconds / 3, seconds / 10),
            ],
            seconds,
        )
        for name in cameras
    ]
    one, other = (results(lists, name, 10.0)[0].search for name in ("numpy", "numba"))
    assert (one.n_candidates, one.llr_min, one.trials) == (other.n_candidates, other.llr_min, other.trials)
    for a, b in zip(one.found, other.found, strict=True):
        assert (a.n_false, a.event.llr, a.event.position, a.event.log10_p) == (
            b.n_false, b.event.llr, b.event.position, b.event.log10_p,
        )  # fmt: skip


def test_the_base_of_the_lengths() -> None:
    assert [length * BASE_S for length in LENGTHS] == [5 * 2.0**k for k in range(11)]
