"""Convert between the tangent plane of event lists and RA, Dec.

XMM-Newton's lists have X and Y in pixels of 0.05 arcsec on a gnomonic (TAN) plane whose axes are
FK5, equinox J2000; positions that this module returns are in ICRS unless named FK5. The two frames differ by a
rotation of some 20 mas, which moves a source across a cell's edge often enough to matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import erfa
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "PLANE_TOLERANCE_ARCSEC",
    "SAME_PLACE_ARCSEC",
    "Position",
    "SkyPixels",
    "TangentPlane",
    "separation_arcsec",
]

PLANE_TOLERANCE_ARCSEC = 0.05  # reference points this close are one plane

SAME_PLACE_ARCSEC = 30.0
"""What lies this close is taken for one source on the sky: regions of other views, or a region and what was planted.

A cell and a half: centroids of the same photons in cells of other views, and of few photons, lie so far apart.
"""


@dataclass(frozen=True, slots=True)
class SkyPixels:
    """The square of pixels on the tangent plane in which event lists give positions.

    Attributes
    ----------
    n : int
        X and Y run from 1 to this.
    side_arcsec : float
        Side of a pixel, arcsec.
    """

    n: int
    side_arcsec: float


@dataclass(frozen=True, slots=True)
class Position:
    """A position on the sky.

    Attributes
    ----------
    x_px, y_px : float
        Sky pixel.
    ra_deg, dec_deg : float
        deg, ICRS (FK5 with EXOD2's positions).
    error_arcsec : float
        1-sigma error along each axis, arcsec, without the error of the attitude.
    """

    x_px: float
    y_px: float
    ra_deg: float
    dec_deg: float
    error_arcsec: float


@dataclass(frozen=True, slots=True)
class TangentPlane:
    """A gnomonic projection with square pixels, X toward smaller RA, Y toward larger Dec.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Reference point, deg, FK5 J2000 (REFXCRVL, REFYCRVL).
    crpix : float
        Pixel of the reference point on both axes, counted from 1 (REFXCRPX).
    step_deg : float
        Side of a pixel, deg (REFYCDLT).
    """

    ra_deg: float
    dec_deg: float
    crpix: float = 25_921.0
    step_deg: float = 0.05 / 3600

    def to_fk5(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return RA, Dec (deg, FK5 J2000) of pixels x, y (float, counted from 1)."""
        step = np.radians(self.step_deg)
        xi = -(np.asarray(x, float) - self.crpix) * step
        eta = (np.asarray(y, float) - self.crpix) * step
        ra, dec = erfa.tpsts(xi, eta, np.radians(self.ra_deg), np.radians(self.dec_deg))
        return np.degrees(ra), np.degrees(dec)

    def to_icrs(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return RA, Dec (deg, ICRS) of pixels x, y (float, counted from 1).

        Examples
        --------
        >>> plane = TangentPlane(150.0, 2.0)
        >>> ra, dec = plane.to_icrs(plane.crpix, plane.crpix + 1200)  # a minute of arc to the north
        >>> print(f"{ra:.4f} {dec:.4f}")
        150.0000 2.0167
        """
        ra, dec = self.to_fk5(x, y)
        return _rotate(ra, dec, _fk5_to_icrs())

    def from_icrs(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return pixels x, y (float, counted from 1) of RA, Dec (deg, ICRS).

        Positions 90 deg or more from the reference point have no pixel: NaN.
        """
        ra, dec = _rotate(np.asarray(ra_deg, float), np.asarray(dec_deg, float), _fk5_to_icrs().T)
        xi, eta, status = erfa.ufunc.tpxes(
            np.radians(ra), np.radians(dec), np.radians(self.ra_deg), np.radians(self.dec_deg)
        )
        step = np.radians(self.step_deg)
        behind = np.asarray(status) != 0
        x = np.where(behind, np.nan, self.crpix - xi / step)
        y = np.where(behind, np.nan, self.crpix + eta / step)
        return x, y


def separation_arcsec(ra1: ArrayLike, dec1: ArrayLike, ra2: ArrayLike, dec2: ArrayLike) -> NDArray[np.float64]:
    """Return the angle, arcsec, between positions in deg.

    Examples
    --------
    >>> float(separation_arcsec(150.0, 60.0, 150.002, 60.0).round(3))
    3.6
    """
    angles = erfa.seps(np.radians(ra1), np.radians(dec1), np.radians(ra2), np.radians(dec2))
    return np.asarray(np.degrees(angles) * 3600)


def _fk5_to_icrs() -> NDArray[np.float64]:
    # the Hipparcos frame realises the ICRS; the spin from fk5hip does not matter at the epoch J2000
    matrix, _ = erfa.fk5hip()
    return np.asarray(matrix)


def _rotate(
    ra_deg: ArrayLike, dec_deg: ArrayLike, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    vector = erfa.s2c(np.radians(ra_deg), np.radians(dec_deg))
    ra, dec = erfa.c2s(erfa.rxp(matrix, vector))
    return np.degrees(erfa.anp(ra)), np.degrees(dec)
