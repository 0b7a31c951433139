"""Compute the width of a point source's image: published King profiles by camera, energy and off-axis angle.

Profiles are fitted to photons with one slope, 1.5, whose power is a product and a root. Every processor rounds
these alike, so that a position is the same number everywhere; a variable power is not. A published core and slope
are converted to the core that, with a slope of 1.5, contains as much information about a position.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xscan.model import Camera, Instrument

__all__ = [
    "ENERGY_MAX_KEV",
    "KING_SLOPE",
    "OFF_AXIS_MAX_ARCMIN",
    "cores_arcsec",
    "information",
    "king",
    "published",
]

Floats = NDArray[np.float64]

KING_SLOPE = 1.5
"""Slope of the profile ``(1 + (r / core)**2)**-slope`` that is fitted; :func:`king` is written for it."""

ENERGY_MAX_KEV = 6.0
OFF_AXIS_MAX_ARCMIN = 12.0
"""Limits of the linear formulas: beyond them these give cores of one arcsec and slopes near 1."""


def published(camera: Camera, energy_kev: Floats, off_axis_arcmin: float) -> tuple[Floats, Floats]:
    """Return core (arcsec) and slope of a camera's King profile as they are published.

    Parameters
    ----------
    camera : Camera
    energy_kev : float64, shape (n,)
    off_axis_arcmin : float

    Returns
    -------
    core, slope : float64, shape (n,)

    Examples
    --------
    The core of pn on axis is 6.636 - 0.305 E arcsec, its slope 1.525 - 0.015 E:

    >>> core, slope = published(EPIC.camera("pn"), np.array([1.0, 2.0]), 0.0)
    >>> core.round(3).tolist(), slope.round(3).tolist()
    ([6.331, 6.026], [1.51, 1.495])
    """
    energy = np.minimum(energy_kev, ENERGY_MAX_KEV)
    theta = min(off_axis_arcmin, OFF_AXIS_MAX_ARCMIN)
    core, slope = (a + b * energy + c * theta + d * energy * theta for a, b, c, d in (camera.core, camera.slope))
    return core, slope


def cores_arcsec(
    camera: NDArray[np.uint8], pi: NDArray[np.integer], off_axis_arcmin: float, instrument: Instrument
) -> Floats:
    """Return the core of the profile of slope 1.5 that stands for each photon's, arcsec, shape (n,).

    Parameters
    ----------
    camera : uint8, shape (n,)
        Number of the camera among the instrument's.
    pi : integer, shape (n,)
        Energy, eV.
    off_axis_arcmin : float
    instrument : Instrument

    Notes
    -----
    One photon contains the information ``2 a (a - 1) / (a + 1) / core**2`` on its source's position along each
    axis, where a is the slope; both profiles agree in this number.

    Examples
    --------
    Of photons of 1.5 keV in each camera, on axis:

    >>> cores_arcsec(np.array([0, 1, 2], np.uint8), np.full(3, 1500), 0.0, EPIC).round(1).tolist()
    [6.2, 5.0, 5.0]
    """
    cores = np.empty(len(camera))
    for number, one in enumerate(instrument.cameras):
        mine = camera == number
        core, slope = published(one, pi[mine] / 1000, off_axis_arcmin)
        cores[mine] = core * np.sqrt(information(KING_SLOPE) / information(slope))
    return cores


def information(slope: Floats | float) -> Floats | float:
    """Return the information of one photon on its source's position, times the square of the core.

    Examples
    --------
    >>> round(information(KING_SLOPE), 3)
    0.6
    """
    return 2 * slope * (slope - 1) / (slope + 1)


def king(near: Floats, core2: Floats) -> Floats:
    """Return the density, 1/arcsec^2, where ``1 + (r / core)**2`` is ``near``; its integral is 1.

    Examples
    --------
    In the middle, and at sqrt(3) cores of 1 arcsec:

    >>> king(np.array([1.0, 4.0]), np.array([1.0, 1.0])).round(4).tolist()
    [0.1592, 0.0199]
    """
    return np.asarray((KING_SLOPE - 1) / (np.pi * core2) / (near * np.sqrt(near)))
