"""Define what to search for: views, thresholds, and the rules in which xscan differs from EXOD2."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from xscan.errors import ConfigError

__all__ = ["PROFILES", "SIGMA_MIN", "Rules", "ScanConfig", "View", "load_config"]

PROFILES = ("default", "views", "exod2")

BAND_KEV = (0.2, 12.0)
"""EPIC's events outside are cut before everything."""

PI_MOST = 65_535
"""Energies are whole numbers of eV in 16 bits."""

DT_MAX_S = 1e6
SIGMA_MIN = 0.5
FAR_MIN, FAR_MAX = 1e-6, 10.0

_VIEW = re.compile(r"\s*([^:\s]+)\s*:\s*([^-\s]+)\s*-\s*([^-\s]+)\s*")


@dataclass(frozen=True, slots=True)
class View:
    """A frame length and an energy band with which an observation is searched.

    Parameters
    ----------
    dt_s : float
        Length of a frame, s; a whole number of milliseconds.
    lo_kev, hi_kev : float
        The band, keV; a whole number of eV each.
    """

    dt_s: float
    lo_kev: float
    hi_kev: float

    def __post_init__(self) -> None:
        for name in ("dt_s", "lo_kev", "hi_kev"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ConfigError(f"view {self}: {name} is {value}; give a finite number")
        if self.dt_s <= 0:
            raise ConfigError(f"view {self}: the frame length is {self.dt_s:g} s; it must be greater than 0")
        if self.dt_s > DT_MAX_S:
            raise ConfigError(f"view {self}: the frame length is {self.dt_s:g} s; the longest is {DT_MAX_S:g} s")
        if abs(self.dt_s * 1000 - round(self.dt_s * 1000)) > 1e-6 or self.dt_ms == 0:
            raise ConfigError(
                f"view {self}: the frame length is {self.dt_s!r} s; it must be a whole number of milliseconds"
            )
        if not self.lo_kev < self.hi_kev:
            raise ConfigError(
                f"view {self}: the band runs from {self.lo_kev:g} to {self.hi_kev:g} keV; "
                f"give the lower energy first, as in 5:0.2-12"
            )
        if self.pi_lo < 0 or self.pi_hi > PI_MOST:
            raise ConfigError(
                f"view {self}: the band runs from {self.lo_kev:g} to {self.hi_kev:g} keV; "
                f"energies are kept in 16 bits, 0 to {PI_MOST / 1000:g} keV"
            )
        if self.pi_lo == self.pi_hi:
            raise ConfigError(f"view {self}: the band is narrower than 1 eV, the unit of the event lists")

    def __str__(self) -> str:
        return f"{self.dt_s:g}:{self.lo_kev:g}-{self.hi_kev:g}"

    @property
    def dt_ms(self) -> int:
        """Length of a frame, ms."""
        return round(self.dt_s * 1000)

    @property
    def pi_lo(self) -> int:
        """Lower end of the band, eV."""
        return round(self.lo_kev * 1000)

    @property
    def pi_hi(self) -> int:
        """Upper end of the band, eV."""
        return round(self.hi_kev * 1000)

    def check_within(self, lo_kev: float, hi_kev: float) -> None:
        """Raise ConfigError if the band reaches beyond the energies that a mission's lists have."""
        if self.lo_kev < lo_kev or self.hi_kev > hi_kev:
            raise ConfigError(
                f"view {self}: the band runs from {self.lo_kev:g} to {self.hi_kev:g} keV; "
                f"events outside {lo_kev:g}-{hi_kev:g} keV are not searched"
            )

    @property
    def label(self) -> str:
        """The view as it is in identifiers: ``dt_lo_hi``, for example ``5_0.2_12.0``."""
        return f"{self.dt_s:.3f}".rstrip("0").rstrip(".") + f"_{self.lo_kev}_{self.hi_kev}"

    @classmethod
    def parse(cls, text: str) -> View:
        """Return the view written as ``dt:lo-hi`` (s, keV), for example ``5:0.2-12``.

        Raises
        ------
        ConfigError
            If the text has another form, or the numbers are not valid for a view.

        Examples
        --------
        >>> View.parse("5:0.2-12")
        View(dt_s=5.0, lo_kev=0.2, hi_kev=12.0)
        """
        match = _VIEW.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            dt_s, lo_kev, hi_kev = (float(number) for number in match.groups())
        except ValueError:
            raise ConfigError(
                f"view {text!r} is not of the form dt:lo-hi (seconds, keV), for example 5:0.2-12"
            ) from None
        return cls(dt_s, lo_kev, hi_kev)


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in which xscan differs from EXOD2: True is the way of xscan, False that of EXOD2 (profile ``exod2``)."""

    flag_cut: bool = True
    """Drop events that are bad by the list's own XMMEA expression. EXOD2: no flag cut."""
    own_bad_pixels: bool = True
    """Drop events in the list's own BADPIXnn pixels. EXOD2: only its hot-pixel tables."""
    good_time: bool = True
    """Time range and live time from the good-time and exposure tables. EXOD2: first and last event."""
    best_exposures: bool = True
    """One list per camera, by good time in common. EXOD2: longest TELAPSE, only if more than three."""
    half_open_band: bool = True
    """lo <= PI < hi. EXOD2: lo < PI < hi."""
    one_box: bool = True
    """One crop box for all views of a subset. EXOD2: one per view."""
    shared_bad_time: bool = True
    """Bad time judged once, on bins of 100 s. EXOD2: on bins of min(dt, 100) s, runs one bin early."""
    live_time_rejection: bool = True
    """Frames rejected by live time. EXOD2: empty MOS frames and silent pn quadrants."""
    local_background: bool = True
    """Masks, templates and sources that hold for any number of counts, with local means. EXOD2: bare percentiles."""
    sky_source_mask: bool = True
    """Source disks at their true positions and scale. EXOD2: cells counted from their left edges."""
    edge_normalised: bool = True
    """Smoothing divides by the part of the kernel inside the box. EXOD2: zero outside."""
    labels_in_time: bool = True
    """Regions are limited in time, and hold only too many or only too few counts. EXOD2: one region per position."""
    fitted_places: bool = True
    """Positions fitted to the photons, else centres of cells, ICRS. EXOD2: left edges plus a fixed shift, FK5."""
    float64_lightcurves: bool = True
    """Expected counts of a region summed in float64. EXOD2: float32."""

    def __post_init__(self) -> None:
        if self.live_time_rejection and not self.best_exposures:
            raise ConfigError(
                "rules.live_time_rejection needs rules.best_exposures: live time is counted per camera; "
                "set both, or neither"
            )


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """All settings that decide the result of a scan.

    Parameters
    ----------
    views : tuple of View
        The views to search, in order.
    windows : bool
        Whether to search by windows: all lengths of time from 5 s to 5120 s.
    far : float
        Threshold of the search by windows: false events to expect in an observation.
    sigma : float
        Threshold of the views' Bayes factors in equivalent sigma at mu = 1000.
    cell_arcsec : float
        Nominal side of a cell, arcsec.
    pn_singles_below_kev : float
        Below this energy keep only single-pixel pn events; 0 keeps all.
    rules : Rules
        Where xscan differs from EXOD2.
    """

    views: tuple[View, ...]
    windows: bool = False
    far: float = 0.1
    sigma: float = 3.0
    cell_arcsec: float = 20.0
    pn_singles_below_kev: float = 0.0
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if not self.views and not self.windows:
            raise ConfigError(
                "nothing to search for: set search.windows = true, or give at least one view such as 5:0.2-12"
            )
        if self.windows and not self.rules.live_time_rejection:
            raise ConfigError(
                "search.windows needs rules.live_time_rejection: its expectation follows the live time of every CCD; "
                "set the rule, or search by views alone"
            )
        if not FAR_MIN <= self.far <= FAR_MAX:
            raise ConfigError(
                f"search.far is {self.far:g} false events an observation; it must lie between {FAR_MIN:g} and "
                f"{FAR_MAX:g}, for which the rate of false alarms was measured"
            )
        labels = [view.label for view in self.views]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"the view {label} is asked for twice; give each view once")
        if not SIGMA_MIN <= self.sigma <= 10:
            raise ConfigError(f"search.sigma is {self.sigma:g}; it must lie between {SIGMA_MIN:g} and 10")
        if not 1 <= self.cell_arcsec <= 600:
            raise ConfigError(f"search.cell_arcsec is {self.cell_arcsec:g}; it must lie between 1 and 600")
        if not 0 <= self.pn_singles_below_kev <= 12:
            raise ConfigError(
                f"clean.pn_singles_below_kev is {self.pn_singles_below_kev:g}; it must lie between 0 and 12"
            )

    def by_name(self) -> dict[str, str]:
        """Return every setting by its name in a configuration file, as text."""
        flat = {
            "search.windows": str(self.windows).lower(),
            "search.far": repr(self.far),
            "search.sigma": repr(self.sigma),
            "search.cell_arcsec": repr(self.cell_arcsec),
            "search.views": " ".join(f"{view.dt_s!r}:{view.lo_kev!r}-{view.hi_kev!r}" for view in self.views),
            "clean.pn_singles_below_kev": repr(self.pn_singles_below_kev),
        }
        rules = dataclasses.asdict(self.rules)
        return flat | {f"rules.{name}": str(value).lower() for name, value in rules.items()}

    def digest(self) -> str:
        """Return a digest of this configuration: 16 hexadecimal digits, the same on every machine."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# section -> key -> (name in ScanConfig, type)
_SEARCH: dict[str, type] = {"windows": bool, "far": float, "sigma": float, "cell_arcsec": float, "views": list}
_CLEAN: dict[str, type] = {"pn_singles_below_kev": float}
_RULES: dict[str, type] = {rule.name: bool for rule in dataclasses.fields(Rules)}
_SECTIONS: dict[str, dict[str, type]] = {"search": _SEARCH, "clean": _CLEAN, "rules": _RULES}


def load_config(
    profile: str = "default", path: Path | None = None, views: tuple[View, ...] = (), far: float | None = None
) -> ScanConfig:
    """Return a configuration made from a profile, the user's own file and the requested views.

    Parameters
    ----------
    profile : str
        One of :data:`PROFILES`; settings that it lacks are those of the default profile.
    path : Path, optional
        TOML file with the same sections; its settings override those of the profile.
    views : tuple of View, optional
        If given, these are searched, in place of what the profile searches for: other views, or windows.
    far : float, optional
        If given, it replaces the configured false events to expect in an observation; only of the search by windows.

    Raises
    ------
    ConfigError
        For an unknown profile, an unreadable file, an unknown key or a value out of range.

    Examples
    --------
    >>> [view.label for view in load_config(views=(View.parse("50:2-12"),)).views]
    ['50_2.0_12.0']
    """
    if profile not in PROFILES:
        raise ConfigError(f"unknown profile {profile!r}{_nearest(profile, PROFILES)}")
    layers = [(_preset(name), f"profile {name}") for name in dict.fromkeys(("default", profile))]
    if path is not None:
        layers.append((_read_toml(path), str(path)))
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for layer, where in layers:
        for section, keys in _checked(layer, where).items():
            values[section] |= keys
    search, clean = values["search"], values["clean"]
    windows = search["windows"] and not views
    if far is not None and not windows:
        raise ConfigError(
            "a rate of false events (--far) belongs to the search by windows, and only views are searched; leave it "
            "out, or leave out the views and take the default profile"
        )
    views = views or tuple(View.parse(text) for text in search["views"])
    for view in views:
        view.check_within(*BAND_KEV)
    return ScanConfig(
        views=views,
        windows=windows,
        far=search["far"] if far is None else far,
        sigma=search["sigma"],
        cell_arcsec=search["cell_arcsec"],
        pn_singles_below_kev=clean["pn_singles_below_kev"],
        rules=Rules(**values["rules"]),
    )


def _preset(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("xscan") / "profiles" / f"{name}.toml").read_text("utf-8"))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this configuration: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; a configuration is TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _checked(values: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Check the names and types of all settings in a configuration file, and return them."""
    for section, keys in values.items():
        if section not in _SECTIONS:
            # such a key probably lacks its section: the message names the full key
            known = [f"{name}.{key}" for name, table in _SECTIONS.items() for key in table]
            homes = [name for name in known if name.endswith(f".{section}")]
            hint = f"; did you mean {homes[0]}?" if homes else _nearest(section, [*_SECTIONS, *known])
            raise ConfigError(f"{where}: unknown key {section!r}{hint}")
        if not isinstance(keys, dict):
            raise ConfigError(f"{where}: {section} is a section; write [{section}] and its keys below")
        table = _SECTIONS[section]
        for key, value in keys.items():
            if key not in table:
                raise ConfigError(f"{where}: unknown key {section}.{key}{_nearest(key, table)}")
            keys[key] = _typed(value, table[key], f"{where}: {section}.{key}")
    return values


def _typed(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind):
        names: dict[type, str] = {float: "a number", bool: "true or false", list: "a list of views such as 5:0.2-12"}
        raise ConfigError(f"{where} is {value!r}; it must be {names[kind]}")
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ConfigError(f'{where} must be a list of views in quotes, such as "5:0.2-12"')
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]}?"
    return f"; known: {', '.join(known)}"
