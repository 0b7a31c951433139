"""Say how many events as strong as one are expected by chance, and where the threshold of a search lies.

On skies without transients the likelihood ratios of the strongest candidates follow an exponential distribution. Their
number grows with the number of places and windows that are tried, which is not the number of voxels: in one cell of
rate r it grows as r to the power of 0.35 and in proportion to the live time. Both were measured with the search itself
on skies without transients (``scripts/depth calibrate``; docs/depth.md has the figures and how well they hold).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xscan.search.components import Field
from xscan.windows import CELL, BandModel

__all__ = ["eclipse_probability", "false_eclipses", "false_events", "likelihood_threshold", "trials"]


RATE_POWER = 0.35
RATE_UNIT = 1e-3  # ct/s per cell
KNOWN_COUNTS = 9.0  # in a cell: with as many, the constant source that few photons allow halves what chance gives

LLR_OF_ONE = 18.3
"""Log likelihood ratio above which one false event is expected in TRIALS_UNIT (:func:`trials`)."""

SLOPE = 0.9  # per unit of the log likelihood ratio
TRIALS_UNIT = 1e8  # s

ECLIPSES_OF_ONE = 2e4
"""Inverse probability below which at most one false eclipse is expected in TRIALS_UNIT: two were seen where this says
ten. It depends on how many bright sources there are, so it is on the safe side."""


def trials(field: Field, full_band: BandModel) -> float:
    """Return the trials of a search: by cell and kind of time, (rate / 0.001 ct/s)**0.35 times live s, added up.

    Each is multiplied by N / (N + 9) for N counts expected in the cell.

    Parameters
    ----------
    field : Field
    full_band : BandModel
        Of all energies.

    Examples
    --------
    By these 0.008 events of a log likelihood ratio of 18.3 are expected by chance in an observation of 1000 s:

    >>> from xscan.search.components import band_models
    >>> full = band_models(field)[0]
    >>> tried = trials(field, full)
    >>> f"{tried:.1e}", float(false_events(18.3, tried).round(3))
    ('7.8e+05', 0.008)
    """
    everything = _by_cell(field, full_band, (0, 1, 2))
    known = everything / (everything + KNOWN_COUNTS)
    total = 0.0
    for k, chosen in enumerate((~field.bad, field.bad)):
        live_s = field.live_s_of(chosen)
        if live_s <= 0:
            continue
        rate = _by_cell(field, full_band, (k,)) / live_s
        total += float((np.power(rate / RATE_UNIT, RATE_POWER) * known).sum()) * live_s
    return total


def _by_cell(field: Field, band: BandModel, kinds: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the counts that some kinds of components give each cell in the whole time."""
    counts = np.zeros(field.mask.shape)
    for kind, one, curve in zip(band.kinds.tolist(), band.maps, band.curves, strict=True):
        if kind in kinds:
            counts += one * curve[-1]
    ny, nx = field.grid.ny // CELL, field.grid.nx // CELL
    return np.asarray(counts.reshape(ny, CELL, nx, CELL).sum(axis=(1, 3)))


def false_events(llr: float | NDArray[np.float64], tried: float) -> NDArray[np.float64]:
    """Return how many events of at least this log likelihood ratio are expected by chance, in so many trials.

    Examples
    --------
    >>> false_events([18.3, 30.0], tried=1e8).round(7).tolist()
    [1.0, 2.67e-05]
    """
    return np.asarray(tried / TRIALS_UNIT * np.exp(-SLOPE * (np.asarray(llr) - LLR_OF_ONE)))


def likelihood_threshold(far: float, tried: float) -> float:
    """Return the log likelihood ratio above which ``far`` events are expected by chance.

    Examples
    --------
    The ratio of which 0.1 events are expected by chance:

    >>> round(likelihood_threshold(0.1, tried=1e8), 2), round(float(false_events(20.86, tried=1e8)), 2)
    (20.86, 0.1)
    """
    return LLR_OF_ONE + math.log(max(tried, 1e-300) / TRIALS_UNIT / far) / SLOPE


def eclipse_probability(far: float, tried: float) -> float:
    """Return the probability below which at most ``far`` eclipses are expected by chance.

    Examples
    --------
    >>> eclipse_probability(0.1, tried=1e8), float(false_eclipses(np.log10(5e-6), tried=1e8).round(6))
    (5e-06, 0.1)
    """
    return far * TRIALS_UNIT / max(tried, 1e-300) / ECLIPSES_OF_ONE


def false_eclipses(log10_p: float | NDArray[np.float64], tried: float) -> NDArray[np.float64]:
    """Return how many eclipses at most this probable are expected by chance, in so many trials.

    Examples
    --------
    >>> false_eclipses([-5.0, -8.0], tried=1e8).round(6).tolist()
    [0.2, 0.0002]
    """
    return np.asarray(tried / TRIALS_UNIT * ECLIPSES_OF_ONE * np.power(10.0, log10_p))
