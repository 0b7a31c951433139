"""Search a subset by windows: every length of time from 5 s to 5120 s, everywhere in the field.

Candidates are windows of cells with improbably many counts (:mod:`xscan.backends.windows`); each is weighed by the
likelihood ratio of a point source (:mod:`xscan.pointsource.ratio`), and those are events that chance gives less often
than the false-alarm rate asked for. Then the sources are searched for eclipses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.backends import Backend
from xscan.errors import Reason
from xscan.grid import Grid, cells_across
from xscan.model import Photons, Sources
from xscan.search.candidates import candidates, probability_of_candidates, window_limits
from xscan.search.components import Field, counted_field, field_of
from xscan.search.dips import P_DIP_MOST, Shining, dips
from xscan.search.events import Event, Maps, dip_event, peak_event
from xscan.search.falsealarms import eclipse_probability, false_eclipses, false_events, likelihood_threshold, trials
from xscan.search.frames import BadTime, LiveTime
from xscan.search.ratios import LLR_MIN, Surroundings, weigh
from xscan.search.subsets import Subset
from xscan.windows import CELL

__all__ = ["Judged", "WindowSearch", "search_windows"]


@dataclass(frozen=True, slots=True)
class Judged:
    """An event, and how many as strong are expected by chance in its observation."""

    event: Event
    n_false: float


@dataclass(frozen=True, slots=True)
class WindowSearch:
    """The result of the search by windows of a subset.

    Attributes
    ----------
    reason : Reason or None
        Why it was not searched; None if it was.
    message : str
    n_photons : int
        Photons in the time searched.
    n_candidates : int
        Windows that were weighed.
    far : float
        False events asked for.
    llr_min : float
        Log likelihood ratio from which on a candidate is an event.
    trials : float
        As :func:`xscan.search.falsealarms.trials`.
    field : Field or None
    found : tuple of Judged
        In order of time.
    """

    reason: Reason | None = None
    message: str = ""
    n_photons: int = 0
    n_candidates: int = 0
    far: float = 0.0
    llr_min: float = 0.0
    trials: float = 0.0
    field: Field | None = None
    found: tuple[Judged, ...] = ()


def search_windows(
    subset: Subset,
    photons: Photons,
    live: LiveTime,
    bad_time: BadTime,
    rejected: NDArray[np.bool_],
    sources: Sources | None,
    maps: Maps,
    far: float,
    backend: Backend,
) -> WindowSearch:
    """Search a subset by windows.

    Parameters
    ----------
    subset : Subset
    photons : Photons
    live : LiveTime
    bad_time : BadTime
    rejected : bool, shape (nt,)
        Base bins in which no eclipse is looked for; those missing at the end are rejected too.
    sources : Sources or None
    maps : function
        Returns where each camera sees nothing.
    far : float
        Expected false events.
    backend : Backend
    """
    field = field_of(subset, photons, live, bad_time, sources, backend.events)
    if field is None:
        return WindowSearch(Reason.DT_TOO_LONG, f"no window of 5 s in the {subset.t1 - subset.t0:.1f} s in common")
    n_photons = field.photons.bin.size
    bands, density = counted_field(field)
    full = bands[0]
    tried = trials(field, full)
    if tried <= 0:
        return WindowSearch(
            Reason.NO_BACKGROUND, "nothing outside the sources: no expectation can be built", n_photons, field=field
        )
    p = probability_of_candidates(tried)
    limits = window_limits(p, _most_in_a_cell(field), field.mask)
    found = candidates(backend.windows.passing_windows(field.photons, field.grid, bands, limits), field.grid, p)
    around = Surroundings.of(field, photons, subset.lists[0].plane, density)
    least = max(likelihood_threshold(far, tried), LLR_MIN)
    judged = []
    for one in weigh(found, around, backend.pointsource):
        if one.best.llr >= least:
            event = peak_event(one, found, around, full, maps, backend.pointsource)
            judged.append(Judged(event, float(false_events(event.llr, tried))))
    shone = [Shining(j.event.position.x_px, j.event.position.y_px, j.event.start, j.event.stop) for j in judged]
    bins = np.ones(field.grid.nt, bool)
    bins[: rejected.size] = rejected[: bins.size]
    p = min(eclipse_probability(far, tried), P_DIP_MOST)
    for dip in dips(field, full, limits, bins, shone, p):
        n_false = float(false_eclipses(dip.log10_p, tried))
        judged.append(Judged(dip_event(dip, around, full, maps, backend.pointsource), n_false))
    judged.sort(key=lambda one: (one.event.start, one.event.position.x_px, one.event.position.y_px))
    return WindowSearch(None, "", n_photons, len(found), far, least, tried, field, tuple(judged))


def _most_in_a_cell(field: Field) -> int:
    """Return a bound of the counts of a cell of any phase: those of a square of two by two of its cells."""
    grid, p = field.grid, field.photons
    nx = grid.nx // CELL + 1
    cells = np.bincount((p.y // CELL).astype(np.int64) * nx + p.x // CELL)
    return int(4 * cells.max(initial=0))


def search_grid(subset: Subset, photons: Photons, dt_ms: int, cell_arcsec: float) -> Grid:
    """Return the frames by which time is judged for the search by windows."""
    nt = int((subset.t1 - subset.t0) * 1000) // dt_ms
    sky = photons.instrument.sky
    return Grid(subset.t0, dt_ms, nt, cells_across(cell_arcsec, sky), photons.box, sky)
