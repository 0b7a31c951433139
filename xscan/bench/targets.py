"""List the targets for speed and memory, and check whether they are reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xscan.bench.record import Measurement, Report, ratio
from xscan.bench.table import Table

__all__ = ["TARGETS", "Target", "target_table", "verdict"]


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table.

    Attributes
    ----------
    text : str
    exod2 : str
        Value for EXOD2, from its own runs on another machine.
    key : tuple of str
        What, workload, backend and quantity of the measurement (:class:`Measurement`).
    reach, aim : float
        In ``unit``.
    unit : str
        ``x gunzip``: relative to inflating the same files, measured alternately. Otherwise the measurement's own unit.
    most : bool
        True if larger values are better.
    gpu : bool
        True if it can only be measured with a GPU.
    """

    text: str
    exod2: str
    key: tuple[str, str, str, str]
    reach: float
    aim: float
    unit: str
    most: bool = False
    gpu: bool = False


TARGETS = (
    Target("A, nine views, files to Parquet", "67 s", ("scan", "A", "numba", "cpu"), 4, 2.2, "x gunzip"),
    Target("L, nine views, files to Parquet", "325 s", ("scan", "L", "numba", "cpu"), 1.6, 1.25, "x gunzip"),
    Target("L, peak of five scans in a process", "10.9 GiB", ("peak memory", "L", "numba", "memory"), 450, 380, "MiB"),
    Target("L, three bands at 5 s, read before", "225 s", ("bands", "L", "numba", "cpu"), 0.25, 0.15, "x gunzip"),
    Target("A, fresh process, code compiled before", "68 s", ("fresh process", "A", "numba", "cpu"), 1.5, 0.9, "s"),
    Target(
        "flag kernel, 1e9 voxels, of copy bandwidth", "-", ("flag kernel", "cube", "cuda", "bandwidth"), 70, 85, "%",
        most=True, gpu=True,
    ),
    Target("L, nine views after upload", "-", ("views", "L", "cuda", "wall"), 30, 10, "ms", gpu=True),
)  # fmt: skip
"""The targets, in the order in which they are printed."""


def target_table(reports: Iterable[Report]) -> Table:
    """Return the table, one row a target, with the value from the first report that measured it.

    Examples
    --------
    >>> target_table([report]).rows[0][4:]
    ('2 x gunzip', '4 x gunzip', '2.2 x gunzip', 'reached, and the aim')
    """
    held = list(reports)
    columns = ("", "EXOD2", "CPU (s)", "wall (s)", "measured", "reach", "aim", "verdict")
    return Table("Speed and memory to reach", columns, [_row(target, held) for target in TARGETS])


def _row(target: Target, reports: list[Report]) -> tuple[str, ...]:
    report = next((r for r in reports if r.find(*target.key) is not None), None)
    found = report.find(*target.key) if report is not None else None
    limits = (_value(target.reach, target.unit), _value(target.aim, target.unit))
    if report is None or found is None:
        why = "not measured (no GPU)" if target.gpu else "not measured"
        return (target.text, target.exod2, "", "", "", *limits, why)
    value = _in_unit(target, report, found)
    times = [_seconds(report.find(*target.key[:3], clock)) for clock in ("cpu", "wall")]
    return (target.text, target.exod2, *times, _value(value, target.unit), *limits, verdict(target, value))


def _in_unit(target: Target, report: Report, found: Measurement) -> float:
    if target.unit == "x gunzip":
        _, workload, backend, quantity = target.key
        below = report.find("gunzip", workload, backend, quantity)
        assert below is not None  # taken in turn with it
        return ratio(found, below)
    return found.median


def verdict(target: Target, value: float) -> str:
    """Return whether a value reaches its target, in words.

    Examples
    --------
    >>> memory = next(target for target in TARGETS if target.unit == "MiB")
    >>> memory.aim, memory.reach, [verdict(memory, value) for value in (300.0, 400.0, 500.0)]
    (380, 450, ['reached, and the aim', 'reached', 'not reached'])
    """
    sign = -1 if target.most else 1
    if sign * value <= sign * target.aim:
        return "reached, and the aim"
    return "reached" if sign * value <= sign * target.reach else "not reached"


def _seconds(found: Measurement | None) -> str:
    return "" if found is None or found.unit != "s" else f"{found.median:.3f}"


def _value(value: float, unit: str) -> str:
    number = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} {unit}"
