"""Convert mission time to UTC and MJD, with leap seconds.

The table of leap seconds is that of ERFA, so no network is needed; a leap second announced after the
installed version of ERFA was made needs a newer version.
"""

from __future__ import annotations

from dataclasses import dataclass

import erfa
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Clock", "mjd_utc", "utc_text"]

_DAY_S = 86_400.0
_MJD_0 = 2_400_000.5  # JD of MJD 0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clock:
    """What mission time counts.

    Attributes
    ----------
    mjdref : float
        Mission time 0, MJD (TT).
    time_system : str
        ``TT`` or ``TDB``.
    barycentred : bool
        Whether times are those of arrival at the barycentre of the solar system.
    """

    mjdref: float
    time_system: str = "TT"
    barycentred: bool = False

    @property
    def utc_is_known(self) -> bool:
        """Whether UTC at the spacecraft follows from its times."""
        return self.time_system == "TT" and not self.barycentred


def utc_text(time_s: ArrayLike, clock: Clock) -> list[str | None]:
    """Return UTC of mission times as ISO 8601 text, to the millisecond.

    Parameters
    ----------
    time_s : array_like of float, shape (n,)
        Mission time, s.
    clock : Clock

    Returns
    -------
    list of str or None, length n
        As ``2000-03-12T04:05:06.789``; a leap second is ``23:59:60``. None where the time is not finite, and
        everywhere if times are barycentred or not in TT: UTC at the spacecraft is then not known.

    Examples
    --------
    >>> utc_text([0.0, 69_000_000.5], Clock(mjdref=50_814.0))
    ['1997-12-31T23:58:56.816', '2000-03-09T14:38:56.316']
    """
    time, known = _known(time_s, clock)
    texts: list[str | None] = [None] * known.size
    year, month, day, hms, _ = erfa.ufunc.d2dtf(b"UTC", 3, *_utc(time[known], clock))
    moments = zip(year, month, day, hms["h"], hms["m"], hms["s"], hms["f"], strict=True)
    for place, moment in zip(np.flatnonzero(known).tolist(), moments, strict=True):
        texts[place] = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}.{:03d}".format(*moment)
    return texts


def mjd_utc(time_s: ArrayLike, clock: Clock) -> Floats:
    """Return MJD (UTC) of mission times.

    A day that ends with a leap second is 86,401 s long, as in astropy, so that no two moments share an MJD.

    Parameters
    ----------
    time_s, clock
        As in :func:`utc_text`.

    Returns
    -------
    float64, shape (n,)
        Days; NaN where :func:`utc_text` returns None.

    Examples
    --------
    >>> mjd_utc(0.0, Clock(mjdref=50_814.0)).round(6).tolist()
    [50813.999269]
    """
    time, known = _known(time_s, clock)
    mjd = np.full(known.size, np.nan)
    day, rest = _utc(time[known], clock)
    mjd[known] = (day - _MJD_0) + rest
    return mjd


def _known(time_s: ArrayLike, clock: Clock) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the times, and for which of them UTC is known."""
    time = np.atleast_1d(np.asarray(time_s, np.float64))
    return time, np.isfinite(time) & clock.utc_is_known


def _utc(time_s: Floats, clock: Clock) -> tuple[Floats, Floats]:
    """Return UTC as a Julian date in two parts."""
    whole = np.floor(time_s / _DAY_S)
    # plain ufuncs return a status; erfa's own functions would warn of dates some years after it was made
    tai_1, tai_2, _ = erfa.ufunc.tttai(_MJD_0 + clock.mjdref + whole, (time_s - whole * _DAY_S) / _DAY_S)
    utc_1, utc_2, _ = erfa.ufunc.taiutc(tai_1, tai_2)
    return utc_1, utc_2
