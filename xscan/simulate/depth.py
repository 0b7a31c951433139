"""Hold events against what was planted: what is found, what is false, and how many counts it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from xscan.sky import SAME_PLACE_ARCSEC, separation_arcsec

__all__ = ["Alarms", "Curve", "Matched", "false_alarms", "fit_curve", "match", "merge_regions", "two_sided_p"]

Row = Mapping[str, Any]

MERGE_ARCSEC = 45.0
MERGE_S = 200.0
FALSE_ARCSEC = 60.0


@dataclass(frozen=True, slots=True)
class Matched:
    """What was planted in some observations, and what was found there.

    Attributes
    ----------
    planted : list of dict
        Rows of the table of transients, each with ``found``, the events that match it, and ``offset_arcsec``, the
        smallest of their distances, or None.
    false : list of dict
        Events further than 60 arcsec from everything that was planted in their observation.
    """

    planted: list[dict[str, Any]]
    false: list[dict[str, Any]]


def match(truth: Iterable[Row], events: Iterable[Row]) -> Matched:
    """Match events to planted transients by place, time and kind.

    An event matches a transient within :data:`xscan.sky.SAME_PLACE_ARCSEC` that it overlaps in time, if it is an
    eclipse as this one is, or none as this one is none.

    Parameters
    ----------
    truth : iterable of dict
        Rows as :data:`xscan.simulate.observation.TRUTH`.
    events : iterable of dict
        Rows with ``obsid``, ``kind`` (``peak``, ``eclipse``, or ``both``), ``ra_deg``, ``dec_deg``, ``t_start_s`` and
        ``t_stop_s``.

    Examples
    --------
    Of two events one is where and when something was planted:

    >>> planted = {"obsid": "0990000001", "kind": "burst", "ra_deg": 150.0, "dec_deg": 2.0}
    >>> planted |= {"t_start_s": 500.0, "t_stop_s": 520.0}
    >>> found = planted | {"kind": "peak", "dec_deg": 2.001}
    >>> matched = match([planted], [found, found | {"dec_deg": 2.1}])
    >>> [round(row["offset_arcsec"], 2) for row in matched.planted], [row["dec_deg"] for row in matched.false]
    ([3.6], [2.1])
    """
    by_obsid: dict[str, list[Row]] = {}
    for event in events:
        by_obsid.setdefault(event["obsid"], []).append(event)
    near: set[int] = set()
    planted = []
    for row in truth:
        here = by_obsid.get(row["obsid"], [])
        offsets = [_offset(row, event) for event in here]
        near |= {id(event) for event, offset in zip(here, offsets, strict=True) if offset <= FALSE_ARCSEC}
        found = [
            (offset, event)
            for event, offset in zip(here, offsets, strict=True)
            if offset <= SAME_PLACE_ARCSEC and _gap_s(row, event) < 0 and _same_kind(row["kind"], event["kind"])
        ]
        offset = min((offset for offset, _ in found), default=None)
        planted.append(dict(row) | {"found": [event for _, event in found], "offset_arcsec": offset})
    return Matched(planted, [dict(e) for rows in by_obsid.values() for e in rows if id(e) not in near])


def merge_regions(regions: Iterable[Row]) -> list[dict[str, Any]]:
    """Merge the regions of all views into events: within 45 arcsec and 200 s of each other, and of one kind.

    Parameters
    ----------
    regions : iterable of dict
        Rows of ``regions``, as :mod:`xscan.schema`.

    Returns
    -------
    list of dict
        ``obsid``, ``event_id``, ``kind``, ``t_start_s`` and ``t_stop_s`` of all regions of an event together; place,
        error and ``counts`` of the most significant one; ``llr`` and ``n_false`` are None: regions have none.

    Examples
    --------
    The same region in two views is one event, from the start of the one to the end of the other:

    >>> (region, *_) = held.table("regions").to_pylist()
    >>> later = region | {"dt_s": 5.0, "t_stop_s": region["t_stop_s"] + 30}
    >>> (event,) = merge_regions([region, later])
    >>> event["kind"], event["t_stop_s"] - region["t_stop_s"]
    ('peak', 30.0)
    """
    groups: list[list[Row]] = []
    for row in regions:
        mine = [group for group in groups if any(_one_event(row, other) for other in group)]
        groups = [group for group in groups if group not in mine]
        groups.append([row, *(other for group in mine for other in group)])
    return [_event(group) for group in groups]


def _event(group: Sequence[Row]) -> dict[str, Any]:
    best = min(group, key=lambda row: row["log10_p_min"])
    kinds = {row["kind"] for row in group}
    return {
        "obsid": best["obsid"],
        "event_id": best["det_id"],
        "kind": kinds.pop() if len(kinds) == 1 else "both",
        **{name: best[name] for name in ("ra_deg", "dec_deg", "pos_err_arcsec")},
        "t_start_s": min(row["t_start_s"] for row in group),
        "t_stop_s": max(row["t_stop_s"] for row in group),
        "llr": None,
        "n_false": None,
        "counts": best["n_pn"] + best["n_m1"] + best["n_m2"],
    }


def _one_event(a: Row, b: Row) -> bool:
    alike = a["kind"] == b["kind"] or "both" in (a["kind"], b["kind"])
    return bool(a["obsid"] == b["obsid"] and alike and _gap_s(a, b) <= MERGE_S and _offset(a, b) <= MERGE_ARCSEC)


def _same_kind(planted: str, found: str) -> bool:
    return found == "both" or (planted == "eclipse") == (found == "eclipse")


def _offset(a: Row, b: Row) -> float:
    return float(separation_arcsec(a["ra_deg"], a["dec_deg"], b["ra_deg"], b["dec_deg"]))


def _gap_s(a: Row, b: Row) -> float:
    """Return the time between two intervals; negative where they overlap."""
    return float(max(a["t_start_s"], b["t_start_s"]) - min(a["t_stop_s"], b["t_stop_s"]))


def two_sided_p(seen: int, expected: float) -> float:
    """Return the probability that a Poisson number is as far from what is expected as the one that was seen.

    Examples
    --------
    >>> two_sided_p(3, 3.0), round(two_sided_p(12, 3.0), 5)
    (1.0, 0.00014)
    """
    low, high = stats.poisson.cdf(seen, expected), stats.poisson.sf(seen - 1, expected)
    return float(min(1.0, 2 * min(low, high)))


@dataclass(frozen=True, slots=True)
class Alarms:
    """False events of quiet observations at a false-alarm rate.

    Attributes
    ----------
    rate, expected : float
        False events to expect in one observation, and in all of them.
    seen : int
    p : float
        Probability of such a difference: :func:`two_sided_p`.
    """

    rate: float
    expected: float
    seen: int
    p: float


def false_alarms(n_false: Sequence[float], n_observations: int, rates: Sequence[float]) -> list[Alarms]:
    """Hold the events of quiet observations against what was to expect at several false-alarm rates.

    Parameters
    ----------
    n_false : sequence of float
        For each event, the false events as strong that were expected in its observation.
    n_observations : int
        Observations searched, with and without events.
    rates : sequence of float
        False events expected in one observation.

    Examples
    --------
    Three events in 20 observations: two of them are seen where 2 are expected, one where 0.2 are:

    >>> [(one.seen, one.expected) for one in false_alarms([0.001, 0.05, 0.5], 20, rates=[0.1, 0.01])]
    [(2, 2.0), (1, 0.2)]
    """
    out = []
    for rate in rates:
        seen = sum(value <= rate for value in n_false)
        out.append(Alarms(rate, rate * n_observations, seen, two_sided_p(seen, rate * n_observations)))
    return out


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted probability to be found, logistic in the logarithm of counts.

    Attributes
    ----------
    log_half, log_half_error : float
        ln of the counts of which half are found, and its standard error; nan where nothing can be fitted.
    width : float
        Change of ln counts by which the odds grow by e.
    """

    log_half: float
    log_half_error: float
    width: float

    def counts(self, found: float) -> float:
        """Return the counts of which a fraction is found."""
        return float(np.exp(self.log_half + self.width * np.log(found / (1 - found))))


N_STEPS = 50


def fit_curve(counts: ArrayLike, found: ArrayLike) -> Curve:
    """Fit the probability to be found by maximum likelihood.

    Parameters
    ----------
    counts : array of float, shape (n,)
        Recorded counts; none is taken for half a count.
    found : array of bool, shape (n,)

    Returns
    -------
    Curve
        If all or none were found, there is nothing to fit, and all its values are nan. A prior of half an observation
        keeps the curve from getting steeper without end where counts part what was found from what was not.

    Examples
    --------
    What has 20 counts is found half of the time:

    >>> curve = fit_curve([5, 10, 20, 20, 40, 80], [False, False, False, True, True, True])
    >>> round(curve.counts(0.5)), bool(curve.counts(0.9) > 20)
    (20, True)
    """
    x = np.log(np.maximum(np.asarray(counts, float), 0.5))
    y = np.asarray(found, float)
    if y.size == 0 or y.min() == y.max():
        return Curve(np.nan, np.nan, np.nan)
    middle = float(np.mean(x))
    design = np.column_stack([np.ones(x.size), x - middle])
    beta = np.zeros(2)
    for _ in range(N_STEPS):  # Newton steps, with Firth's prior
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        inverse = np.linalg.inv(_information(design, p))
        leverage = p * (1 - p) * np.einsum("ij,jk,ik->i", design, inverse, design)
        step = inverse @ (design.T @ (y - p + leverage * (0.5 - p)))
        beta = beta + step * min(1.0, 2 / max(float(np.abs(step).max()), 1e-9))
    p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
    covariance = np.linalg.inv(_information(design, p))
    a, b = beta
    if b <= 0:  # what is brighter is not found more often: too few to tell
        return Curve(np.nan, np.nan, np.nan)
    gradient = np.array([-1 / b, a / b**2])
    return Curve(middle - a / b, float(np.sqrt(gradient @ covariance @ gradient)), 1 / b)


def _information(design: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    information: NDArray[np.float64] = (design * (p * (1 - p))[:, None]).T @ design
    return information + 1e-9 * np.eye(2)
