"""Write a plan as lines for a person, or as JSON for a program."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from xscan.pipeline.units import format_estimate, format_size

__all__ = ["Plan", "to_json", "to_lines"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    n_listed, n_searched, n_here, n_missing : int
        Observations on the list; those in the results already; of the rest, those on disk and those not on disk.
    here_bytes, fetch_bytes : int
        Bytes on disk, and bytes to be fetched.
    mean_bytes : int
        Assumed size of an observation that is not on disk.
    mean_is_known : bool
        Whether that is the mean of those on disk; else it is a typical size.
    fetch_s_min : float
        Time that the requests alone take at the allowed rate, s.
    n_sample : int
        Observations in the calibration; 0 if there is nothing to search.
    sample_is_made_up : bool
    calibration_s : float
        Duration of the calibration, s.
    n_workers : int
    start_s, search_s : float
        Starting and ending the workers; searching, s.
    hours : float
        Sum of both, without waiting for an archive.
    result_bytes, free_bytes : int
        Size of the results; free space where they will be stored.
    worker_memory_bytes : int, optional
        Memory of each worker; None where the system does not say.
    """

    n_listed: int
    n_searched: int
    n_here: int
    n_missing: int
    here_bytes: int
    fetch_bytes: int
    mean_bytes: int
    mean_is_known: bool
    fetch_s_min: float
    free_bytes: int
    n_sample: int = 0
    sample_is_made_up: bool = False
    calibration_s: float = 0.0
    n_workers: int = 0
    start_s: float = 0.0
    search_s: float = 0.0
    hours: float = 0.0
    result_bytes: int = 0
    worker_memory_bytes: int | None = None


def to_json(plan: Plan) -> str:
    """Return the plan as one JSON object.

    Examples
    --------
    >>> import json
    >>> plan = Plan(3, 1, 2, 0, 12_000_000, 0, 6_000_000, True, 0.0, 9_000_000_000, 2, n_workers=2, search_s=4.0)
    >>> json.loads(to_json(plan))["search_s"]
    4.0
    """
    return json.dumps(asdict(plan), indent=1)


def to_lines(plan: Plan) -> list[str]:
    """Return the plan as lines of two columns.

    Examples
    --------
    >>> plan = Plan(3, 1, 2, 0, 12_000_000, 0, 6_000_000, True, 0.0, 9_000_000_000, 2, n_workers=2, search_s=4.0)
    >>> to_lines(plan)[:2]
    ['on the list    3 observations; 1 searched before and left out', 'on disk        2 observations, 12 MB']
    """
    n_todo = plan.n_here + plan.n_missing
    facts = [("on the list", f"{_count(plan.n_listed)}; {plan.n_searched:,} searched before and left out")]
    if plan.n_here:
        facts.append(("on disk", f"{_count(plan.n_here)}, {format_size(plan.here_bytes)}"))
    if plan.n_missing:
        whence = "the mean of those on disk" if plan.mean_is_known else "a typical size, as none is on disk"
        facts += [
            ("to be fetched", f"{_count(plan.n_missing)}, about {format_size(plan.fetch_bytes)}"),
            ("", f"(each taken for {format_size(plan.mean_bytes)}, {whence})"),
            (
                "fetching",
                f"at least {format_estimate(plan.fetch_s_min)}: the requests alone; the archive decides the rest",
            ),
        ]
    if not n_todo:
        return _columns([*facts, ("searching", "nothing is left to do")])
    each_s = plan.search_s / n_todo
    what = "made up as none is on disk" if plan.sample_is_made_up else "of all sizes"
    workers = "this process" if plan.n_workers == 1 else f"{plan.n_workers} workers"
    memory = "this system does not say" if plan.worker_memory_bytes is None else format_size(plan.worker_memory_bytes)
    facts += [
        ("searching", f"{format_estimate(3600 * plan.hours)} with {workers}"),
        ("", f"({format_estimate(plan.start_s)} to start and end, then {each_s:.2g} s an observation)"),
        ("results", f"{format_size(plan.result_bytes)}, {format_size(plan.free_bytes)} are free there"),
        ("memory", f"{memory}, each worker"),
        ("measured on", f"{_count(plan.n_sample)}, {what}, in {format_estimate(plan.calibration_s)}"),
    ]
    return _columns(facts)


def _columns(facts: list[tuple[str, str]]) -> list[str]:
    return [f"{name:15}{text}" for name, text in facts]


def _count(n: int) -> str:
    return f"{n:,} observation{'s' * (n != 1)}"
