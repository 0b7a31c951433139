from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xscan.config import PROFILES, Rules, ScanConfig, View, load_config
from xscan.errors import ConfigError

NINE = [(dt, lo, hi) for dt in (5.0, 50.0, 200.0) for lo, hi in ((0.2, 2.0), (2.0, 12.0), (0.2, 12.0))]


def test_profiles() -> None:
    default, views, exod2 = (load_config(profile) for profile in PROFILES)
    assert (default.windows, default.views) == (True, ())
    assert [(view.dt_s, view.lo_kev, view.hi_kev) for view in views.views] == NINE
    assert views.views == exod2.views
    assert (views.windows, exod2.windows) == (False, False)
    assert default.rules == views.rules == Rules()
    assert not any(dataclasses.asdict(exod2.rules).values())
    assert len({default.digest(), views.digest(), exod2.digest()}) == 3
    assert default.digest() == load_config().digest()


def test_views_are_searched_in_place_of_windows() -> None:
    view = View(50.0, 0.2, 12.0)
    assert (load_config(views=(view,)).windows, load_config(views=(view,)).views) == (False, (view,))


def test_a_rate_of_false_events_is_of_windows() -> None:
    assert load_config().far == 0.1
    assert load_config(far=1.0).far == 1.0
    assert load_config(far=1.0).digest() != load_config().digest()
    for profile, views in (("views", ()), ("exod2", ()), ("default", (View(50.0, 0.2, 12.0),))):
        with pytest.raises(ConfigError, match="belongs to the search by windows"):
            load_config(profile, None, views, 1.0)


@pytest.mark.parametrize("far", [0.0, -1.0, 1e9, float("nan"), float("inf")])
def test_a_rate_of_false_events_that_was_not_measured(far: float) -> None:
    with pytest.raises(ConfigError, match=r"search.far is .*; it must lie between 1e-06 and 10"):
        load_config(far=far)


def test_every_rule_is_in_both_profiles() -> None:
    import tomllib

    for name in ("default", "exod2"):
        text = (Path(__file__).parents[1] / "xscan" / "profiles" / f"{name}.toml").read_text()
        assert set(tomllib.loads(text)["rules"]) == set(Rules.__dataclass_fields__)


def test_a_users_file_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[search]\nwindows = false\nsigma = 5\nviews = ["10:0.5-2"]\n[rules]\nflag_cut = false\n')
    config = load_config("default", path)
    assert (config.sigma, config.views) == (5.0, (View(10.0, 0.5, 2.0),))
    assert config.rules == Rules(flag_cut=False)
    assert load_config("default", path, (View(7.0, 1.0, 2.0),)).views == (View(7.0, 1.0, 2.0),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[search]\nsigam = 3", "unknown key search.sigam; did you mean sigma?"),
        ("[serach]\nsigma = 3", "unknown key 'serach'; did you mean search?"),
        ("sigma = 3", "unknown key 'sigma'; did you mean search.sigma?"),
        ("[rules]\nflagcut = true", "did you mean flag_cut?"),
        ("[search]\nxyzzy = 3", "known: windows, far, sigma, cell_arcsec, views"),
        ("search = 3", "search is a section"),
        ('[search]\nsigma = "three"', "search.sigma is 'three'; it must be a number"),
        ("[search]\nsigma = true", "must be a number"),
        ("[rules]\nflag_cut = 1", "must be true or false"),
        ("[search]\nviews = [5]", "views in quotes"),
        ("[search]\nwindows = false", "nothing to search for: set search.windows = true, or give at least one view"),
        ("[search]\nfar = 0", "search.far is 0 false events an observation"),
        ("[rules]\nlive_time_rejection = false", "search.windows needs rules.live_time_rejection"),
        ('[search]\nviews = ["5:0.2-2", "5.0:0.2-2.0"]', "asked for twice"),
        ('[search]\nviews = ["5:2-0.2"]', "give the lower energy first"),
        ("[search]\nsigma = 0", "between 0.5 and 10"),
        ("[search]\ncell_arcsec = nan", "between 1 and 600"),
        ("[clean]\npn_singles_below_kev = -1", "between 0 and 12"),
        ("[search\n", "not valid TOML"),
        ("[rules]\nbest_exposures = false", "needs rules.best_exposures"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config("default", path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config("default", tmp_path / "gone.toml")
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        load_config("default", tmp_path / "a.toml")
    with pytest.raises(ConfigError, match="did you mean default"):
        load_config("defualt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "not of the form"),
        ("5:0.2", "not of the form"),
        ("five:0.2-2", "not of the form"),
        ("0:0.2-2", "greater than 0"),
        ("-5:0.2-2", "greater than 0"),
        ("nan:0.2-2", "finite"),
        ("5:0.2-inf", "finite"),
        ("0.0004:0.2-2", "whole number of milliseconds"),
        ("5:2-2", "lower energy first"),
        ("5:0.2-0.2001", "narrower than 1 eV"),
        ("5:0.1-2", "outside 0.2-12 keV are not searched"),
        ("5:2-15", "outside 0.2-12 keV are not searched"),
        ("5:2-65.536", "energies are kept in 16 bits, 0 to 65.535 keV"),
    ],
)
def test_views_that_are_none(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(views=(View.parse(text),))


@given(st.integers(1, 10**7), st.integers(200, 11_998), st.integers(1, 12_000))
def test_views_survive_their_text(dt_ms: int, lo: int, width: int) -> None:
    hi = min(lo + width, 12_000)
    view = View(dt_ms / 1000, lo / 1000, hi / 1000)
    assert (view.dt_ms, view.pi_lo, view.pi_hi) == (dt_ms, lo, hi)
    assert View.parse(f"{view.dt_s!r}:{view.lo_kev!r}-{view.hi_kev!r}") == view


@pytest.mark.parametrize("text", ["0.001:0-65.535", "1000000:0.001-0.002"])
def test_the_least_and_the_most_that_a_view_can_be(text: str) -> None:
    view = View.parse(text)
    assert str(View.parse(str(view))) == str(view)


@pytest.mark.parametrize("text", ["1000001:0.2-12", "0.0005:0.2-12", "5:0.2-65.536", "5:-0.001-12"])
def test_a_little_more_is_no_view(text: str) -> None:
    with pytest.raises(ConfigError):
        View.parse(text)


def test_settings_at_their_limits() -> None:
    views = (View(5.0, 0.2, 12.0),)
    for name, low, high, step in (
        ("sigma", 0.5, 10.0, 0.01), ("cell_arcsec", 1.0, 600.0, 0.1), ("pn_singles_below_kev", 0.0, 12.0, 0.01),
    ):  # fmt: skip
        for inside in (low, high):
            assert getattr(ScanConfig(views, **{name: inside}), name) == inside
        for outside in (low - step, high + step):
            with pytest.raises(ConfigError, match="must lie between"):
                ScanConfig(views, **{name: outside})


def test_what_is_not_told_is_xscans_own() -> None:
    config = ScanConfig((View(5.0, 0.2, 12.0),))
    assert (config.sigma, config.cell_arcsec, config.pn_singles_below_kev) == (3.0, 20.0, 0.0)
    assert set(dataclasses.asdict(config.rules).values()) == {True}
    assert load_config().rules == config.rules
    assert set(dataclasses.asdict(load_config("exod2").rules).values()) == {False}


def test_label() -> None:
    assert View(5.0, 0.2, 12.0).label == "5_0.2_12.0"
    assert View(1000.001, 0.2, 12.0).label == "1000.001_0.2_12.0"


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config().sigma = 2.0
    with pytest.raises(ConfigError, match="nothing to search for"):
        ScanConfig(())
