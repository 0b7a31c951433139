"""Draw the skies on which searches are compared: A, without any drop-out, and B, with drop-outs.

Numbers of sources, background, protons and transients follow one sky of 30 ks that others had simulated, of which
docs/simulator.md holds the comparison; places, times, widths and counts are drawn anew for each sky.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xscan.simulate.detector import CAMERA
from xscan.simulate.events import DropOut
from xscan.simulate.scene import (
    FIELD_RADIUS_ARCSEC,
    TRANSIENT_RADIUS_ARCSEC,
    Sky,
    Source,
    Transient,
    apart,
    start_within,
)

__all__ = [
    "DENSE_WIDTHS_S",
    "FLARE_LENGTH",
    "N_DENSE",
    "PRESETS",
    "PRESET_CAMERA",
    "Preset",
    "draw_drop_outs",
    "draw_preset",
]

Floats = NDArray[np.float64]

WHOLE_S = 30_000.0
N_POINTS = 70
N_BURSTS, N_FLARES = 9, 7
FLARE_LENGTH = 1.55
"""Length of a flare from its first photon to its last over the width by which it is named."""

FLARE_DECAYS = 2.7
DENSE_WIDTHS_S = (2.0, 5.0, 50.0, 200.0, 800.0, 2500.0)
DENSE_COUNTS = ((4, 40), (4, 40), (6, 60), (8, 100), (12, 250), (15, 400))
N_DENSE = 12
"""Transients of each width on a dense sky."""

STORMY = 8.0

PRESET_CAMERA = {
    "pn": replace(CAMERA["pn"], king_arcsec=4.9, particle_rate=2.95, sky_rate=5.0, noise_rate=0.7),
    "m1": replace(CAMERA["m1"], particle_rate=0.8, sky_rate=1.05, noise_rate=0.2),
    "m2": replace(CAMERA["m2"], particle_rate=0.8, sky_rate=1.05, noise_rate=0.2),
}
"""The cameras of these skies: pn sees as sharply as MOS does, and has more background than in other simulations."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of sky.

    Attributes
    ----------
    name : str
        Two kinds have nothing in common with the same seed.
    drop_outs : bool
        Whether CCDs fall silent.
    dense : bool
        12 transients of each of six widths, to measure depth, instead of bursts, flares and eclipses.
    storms : float
        Factor on the number of proton flares, which is 3 in 30 ks.
    """

    name: str
    drop_outs: bool = False
    dense: bool = False
    storms: float = 1.0


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("A"),
        Preset("B", drop_outs=True),
        Preset("A dense", dense=True),
        Preset("B dense", drop_outs=True, dense=True),
        Preset("A calm", storms=0.0),
        Preset("B calm", drop_outs=True, storms=0.0),
        Preset("A stormy", storms=STORMY),
        Preset("B stormy", drop_outs=True, storms=STORMY),
    )
}


def draw_preset(rng: np.random.Generator, preset: Preset, exposure_s: float, quiet: bool = False) -> Sky:
    """Draw a sky of a kind.

    Parameters
    ----------
    rng : numpy.random.Generator
    preset : Preset
    exposure_s : float
        Length of the observation, s. Below 30 ks there are fewer transients, and they are shorter; above it there are
        as many. Proton flares are as frequent in all.
    quiet : bool
        No transients; everything else is the same.

    Examples
    --------
    >>> sky = draw_preset(np.random.default_rng(1), PRESETS["A"], 30_000.0)
    >>> len(sky.sources), len(sky.transients), len(sky.proton_flares)
    (74, 19, 3)
    >>> draw_preset(np.random.default_rng(1), PRESETS["A"], 30_000.0, quiet=True).transients
    ()
    """
    sources, places = _draw_sources(rng)
    n = int(preset.storms * exposure_s / 10_000 + rng.random())
    protons = np.column_stack(
        [rng.uniform(0, exposure_s, n), rng.uniform(300, 700, n), CAMERA["pn"].share * rng.uniform(25, 70, n)]
    )
    transients: tuple[Transient, ...] = ()
    if not quiet:
        dense = preset.dense
        transients = (
            _draw_dense(rng, exposure_s, places) if dense else _draw_transients(rng, exposure_s, sources, places)
        )
    return Sky(sources, transients, protons, "wide", "flat")


def draw_drop_outs(rng: np.random.Generator, preset: Preset, exposure_s: float) -> tuple[DropOut, ...]:
    """Draw when CCDs fall silent, without any table saying so.

    Examples
    --------
    >>> [out.camera for out in draw_drop_outs(np.random.default_rng(1), PRESETS["B"], 30_000.0)]
    ['pn', 'pn', 'm2']
    >>> draw_drop_outs(np.random.default_rng(1), PRESETS["A"], 30_000.0)
    ()
    """
    if not preset.drop_outs:
        return ()
    out = []
    for camera, ccds, length in (("pn", (4, 5, 6), 260.0), ("pn", tuple(range(1, 13)), 65.0), ("m2", (7,), 900.0)):
        length *= min(1.0, exposure_s / WHOLE_S)
        start = float(rng.uniform(0.08 * exposure_s, 0.95 * exposure_s - length))
        out.append(DropOut(camera, ccds, start, start + length))
    return tuple(out)


def _draw_sources(rng: np.random.Generator) -> tuple[tuple[Source, ...], Floats]:
    """Draw constant sources, three bright ones first and an extended one last, and their places."""
    bright = apart(rng, 3, 0.6 * FIELD_RADIUS_ARCSEC, [])
    places = np.concatenate([bright, apart(rng, N_POINTS + 1, FIELD_RADIUS_ARCSEC, list(bright))])
    rates = np.concatenate(
        [
            _spread(rng, 3, 0.13, 0.95),
            np.minimum(0.0016 * (1 + rng.pareto(1.15, N_POINTS)), 0.1),
            [rng.uniform(0.1, 0.2)],
        ]
    )
    hard = rng.random(rates.size) < 0.1
    hard[:3] = False
    sources = tuple(
        Source(
            dx_arcsec=float(places[i, 0]),
            dy_arcsec=float(places[i, 1]),
            rate=float(rates[i]),
            spectrum="hard" if hard[i] else "middle",
            extent_arcsec=float(rng.uniform(20, 35)) if i == N_POINTS + 3 else 0.0,
        )
        for i in range(rates.size)
    )
    return sources, places


def _draw_transients(
    rng: np.random.Generator, exposure_s: float, sources: tuple[Source, ...], taken: Floats
) -> tuple[Transient, ...]:
    """Draw bursts, flares and eclipses; counts grow with the width, as far as they are found alike."""
    part = min(1.0, exposure_s / WHOLE_S)
    n_bursts, n_flares, n_eclipses = (max(1, round(part * n)) for n in (N_BURSTS, N_FLARES, 3))
    places = apart(rng, n_bursts + n_flares, TRANSIENT_RADIUS_ARCSEC, list(taken))
    out = []
    widths = _spread(rng, n_bursts, 5, 50)
    counts = np.clip(15 * (widths / 5) ** 0.47 * _spread(rng, n_bursts, 0.5, 2), 8, 80)
    for place, width, count in zip(places, widths, counts, strict=False):
        out.append(_planted(rng, "burst", place, exposure_s, width, count))
    widths = _spread(rng, n_flares, 500, 2000)
    counts = np.clip(52 * (widths / 500) ** 0.8 * _spread(rng, n_flares, 0.45, 2.25), 30, 400)
    lengths = np.minimum(FLARE_LENGTH * widths, 0.3 * exposure_s)
    for place, width, count in zip(places[n_bursts:], lengths, counts, strict=True):
        out.append(_planted(rng, "flare", place, exposure_s, width, count))
    for i, missing in enumerate(_spread(rng, n_eclipses, 225, 875)):
        source = sources[i]
        width = min(float(np.clip(missing / source.rate, 600, 2500)), 0.2 * exposure_s)
        start = start_within(rng, exposure_s, width)
        out.append(
            Transient("eclipse", source.dx_arcsec, source.dy_arcsec, start, width, source.rate * width, i, "middle")
        )
    return tuple(out)


def _draw_dense(rng: np.random.Generator, exposure_s: float, taken: Floats) -> tuple[Transient, ...]:
    """Draw as many transients of each width, from those that nothing finds to those that everything should."""
    places = apart(rng, N_DENSE * len(DENSE_WIDTHS_S), TRANSIENT_RADIUS_ARCSEC, list(taken))
    out = []
    for k, (width, (low, high)) in enumerate(zip(DENSE_WIDTHS_S, DENSE_COUNTS, strict=True)):
        kind, length = ("burst", width) if width < 500 else ("flare", FLARE_LENGTH * width)
        for place, count in zip(places[k * N_DENSE :], _spread(rng, N_DENSE, low, high), strict=False):
            out.append(_planted(rng, kind, place, exposure_s, min(length, 0.5 * exposure_s), count))
    return tuple(out)


def _planted(
    rng: np.random.Generator, kind: str, place: Floats, exposure_s: float, width_s: float, counts: float
) -> Transient:
    x, y = place.tolist()
    start = start_within(rng, exposure_s, float(width_s))
    return Transient(kind, x, y, start, float(width_s), float(counts), spectrum="middle", decays=FLARE_DECAYS)


def _spread(rng: np.random.Generator, n: int, low: float, high: float) -> Floats:
    """Draw n values, one from each n-th of the range of their logarithm, in random order."""
    part = (rng.permutation(n) + rng.random(n)) / n
    return np.asarray(low * (high / low) ** part)
