"""Draw a simulated sky: constant and variable sources, and transients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLEARANCE_ARCSEC",
    "FIELD_RADIUS_ARCSEC",
    "TRANSIENT_RADIUS_ARCSEC",
    "Sky",
    "Source",
    "Transient",
    "apart",
    "draw_sky",
    "start_within",
]

FIELD_RADIUS_ARCSEC = 780.0
TRANSIENT_RADIUS_ARCSEC = 660.0
CLEARANCE_ARCSEC = 60.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Source:
    """A source that is present all the time.

    Attributes
    ----------
    dx_arcsec, dy_arcsec : float
        Position on the tangent plane: toward smaller RA and larger Dec.
    rate : float
        Count rate on axis, all three cameras together, ct/s, 0.2-12 keV.
    spectrum : str
        ``soft``, ``middle`` or ``hard``: a peak at 0.9, 1.4 or 3.5 keV.
    extent_arcsec : float
        Gaussian sigma; 0 for a point.
    period_s, amplitude : float
        Sinusoidal variation; amplitude 0 for a constant source.
    """

    dx_arcsec: float
    dy_arcsec: float
    rate: float
    spectrum: str = "soft"
    extent_arcsec: float = 0.0
    period_s: float = 5000.0
    amplitude: float = 0.0


@dataclass(frozen=True, slots=True)
class Transient:
    """An event that happens once.

    Attributes
    ----------
    kind : str
        ``burst`` (a box in time), ``flare`` (fast rise, slow decay) or ``eclipse`` (a source vanishes).
    dx_arcsec, dy_arcsec : float
        Position on the tangent plane.
    start_s, width_s : float
        Since the start of the observation, s. The rise of a flare takes a fifth of its width.
    counts : float
        Expected counts on axis, all three cameras together; for an eclipse, the missing counts.
    eclipsed : int
        Number of the source that an eclipse hides; -1 otherwise.
    spectrum : str
        As of a source.
    decays : float
        Decay times of a flare between its peak and its end.
    """

    kind: str
    dx_arcsec: float
    dy_arcsec: float
    start_s: float
    width_s: float
    counts: float
    eclipsed: int = -1
    spectrum: str = "soft"
    decays: float = 4.0


@dataclass(frozen=True, slots=True)
class Sky:
    """Sources, transients, and flares of soft protons.

    Attributes
    ----------
    sources : tuple of Source
    transients : tuple of Transient
    proton_flares : float64 array, shape (k, 3)
        Peak time (s since the start), decay time (s) and peak rate (ct/s in pn) of each.
    diffuse_spectrum, proton_spectrum : str
        Spectra of the diffuse sky (``diffuse`` or the harder ``wide``) and of protons (``protons``, a broad peak at
        2.5 keV, or ``flat``, as many in each octave).
    """

    sources: tuple[Source, ...]
    transients: tuple[Transient, ...]
    proton_flares: Floats
    diffuse_spectrum: str = "diffuse"
    proton_spectrum: str = "protons"


def draw_sky(rng: np.random.Generator, exposure_s: float, quiet: bool = False, n_sources: int = 60) -> Sky:
    """Draw sources, transients and proton flares.

    Parameters
    ----------
    rng : numpy.random.Generator
    exposure_s : float
        Length of the observation, s.
    quiet : bool
        No transients, no variable sources, no proton flares.
    n_sources : int
        Number of sources in the field, two of them bright; 1 to 200.

    Examples
    --------
    >>> sky = draw_sky(np.random.default_rng(1), exposure_s=10_000.0, n_sources=20)
    >>> len(sky.sources), [transient.kind for transient in sky.transients]
    (20, ['burst', 'burst', 'burst', 'flare', 'flare', 'eclipse'])
    """
    if not 1 <= n_sources <= 200:
        raise ValueError(f"n_sources is {n_sources}; more than 200 do not fit apart from each other")
    n_bright = min(2, n_sources)  # an eclipse needs something to hide
    bright = apart(rng, n_bright, 0.6 * FIELD_RADIUS_ARCSEC, [])
    places = np.concatenate([bright, apart(rng, n_sources - n_bright, FIELD_RADIUS_ARCSEC, list(bright))])
    rates = np.minimum(0.002 * rng.pareto(1.2, n_sources) + 0.001, 0.2)
    rates[:n_bright] = rng.uniform(0.4, 1.0, n_bright)
    variable = rng.random(n_sources) < (0.0 if quiet else 0.1)
    extended = rng.random(n_sources) < 0.05
    variable[:n_bright] = extended[:n_bright] = False
    sources = tuple(
        Source(
            dx_arcsec=float(places[i, 0]),
            dy_arcsec=float(places[i, 1]),
            rate=float(rates[i]),
            spectrum="hard" if rng.random() < 0.3 else "soft",
            extent_arcsec=float(rng.uniform(10, 40)) if extended[i] else 0.0,
            period_s=float(rng.uniform(1000, 10_000)),
            amplitude=float(rng.uniform(0.3, 0.8)) if variable[i] else 0.0,
        )
        for i in range(n_sources)
    )
    if quiet:
        return Sky(sources, (), np.empty((0, 3)))
    n_flares = rng.poisson(exposure_s / 12_000)
    protons = np.column_stack(
        [rng.uniform(0, exposure_s, n_flares), rng.uniform(100, 700, n_flares), rng.uniform(20, 80, n_flares)]
    )
    return Sky(sources, _draw_transients(rng, exposure_s, sources, places), protons.reshape(-1, 3))


def _draw_transients(
    rng: np.random.Generator, exposure_s: float, sources: tuple[Source, ...], taken: Floats
) -> tuple[Transient, ...]:
    places = apart(rng, 5, TRANSIENT_RADIUS_ARCSEC, list(taken))
    out = []
    for i in range(3):
        width = float(np.exp(rng.uniform(np.log(3), np.log(60))))
        counts = float(np.exp(rng.uniform(np.log(10), np.log(100))))
        out.append(_transient("burst", places[i], rng, exposure_s, width, counts))
    for i in range(3, 5):
        width = min(float(rng.uniform(300, 1500)), 0.3 * exposure_s)
        counts = float(np.exp(rng.uniform(np.log(40), np.log(300))))
        out.append(_transient("flare", places[i], rng, exposure_s, width, counts))
    hidden = int(rng.integers(0, min(2, len(sources))))
    source = sources[hidden]
    width = min(float(rng.uniform(100, 800)), 0.2 * exposure_s)
    place = np.array([source.dx_arcsec, source.dy_arcsec])
    out.append(_transient("eclipse", place, rng, exposure_s, width, source.rate * width, hidden))
    return tuple(out)


def _transient(
    kind: str,
    place: Floats,
    rng: np.random.Generator,
    exposure_s: float,
    width_s: float,
    counts: float,
    eclipsed: int = -1,
) -> Transient:
    start = start_within(rng, exposure_s, width_s)
    return Transient(kind, float(place[0]), float(place[1]), start, width_s, counts, eclipsed)


def start_within(rng: np.random.Generator, exposure_s: float, width_s: float) -> float:
    """Draw the start of a transient, s since the start of an observation; it keeps clear of both ends.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> starts = [start_within(rng, exposure_s=1000.0, width_s=100.0) for _ in range(100)]
    >>> min(starts) > 80, max(starts) < 820
    (True, True)
    """
    return float(rng.uniform(0.08 * exposure_s, 0.92 * exposure_s - width_s))


def apart(rng: np.random.Generator, n: int, radius: float, taken: list[Floats]) -> Floats:
    """Return positions, uniform in a disk, with a least distance from each other; shape (n, 2), arcsec.

    Examples
    --------
    >>> places = apart(np.random.default_rng(1), 3, radius=600.0, taken=[np.zeros(2)])
    >>> places.shape, bool((np.hypot(*places.T) > CLEARANCE_ARCSEC).all())
    ((3, 2), True)
    """
    found: list[Floats] = []
    while len(found) < n:
        r, angle = radius * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        place = np.array([r * np.cos(angle), r * np.sin(angle)])
        others = np.array(taken + found).reshape(-1, 2)
        if not (np.hypot(*(others - place).T) < CLEARANCE_ARCSEC).any():
            found.append(place)
    return np.array(found).reshape(n, 2)
