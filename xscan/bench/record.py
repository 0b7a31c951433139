"""Store measurements with their machine and code, as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xscan.errors import ConfigError

__all__ = ["SCHEMA", "Measurement", "Report", "file_name", "from_json", "ratio", "read_reports", "to_json"]

SCHEMA = 1
"""Version of the JSON; a reader rejects any other."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One quantity, with every sample taken of it.

    Attributes
    ----------
    what : str
        What was measured: ``scan``, ``gunzip``, ``stage: flag``, ``growth: brighter``...
    workload : str
        On which observation: ``A``, ``L``, or the folder's name.
    backend : str
        With which backend; empty if none was involved.
    quantity : str
        ``cpu`` (user and system time of the whole process), ``wall``, or ``memory``.
    unit : str
    samples : tuple of float
        In the order in which they were taken.
    at : mapping of str to float
        Position on a growth curve: ``events``, ``voxels``...
    """

    what: str
    workload: str
    backend: str
    quantity: str
    unit: str
    samples: tuple[float, ...]
    at: Mapping[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median of the samples."""
        return statistics.median(self.samples)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run measured.

    Attributes
    ----------
    date : str
        ISO 8601, UTC.
    machine, versions : mapping of str to str, number or None
        CPU, cores and memory, GPU if one was measured; Python, libraries, xscan and its commit.
    workloads : mapping of str to mapping of str to number
        Size of each observation: rows, events, bytes.
    measurements : tuple of Measurement
    """

    date: str
    machine: Mapping[str, Any]
    versions: Mapping[str, Any]
    workloads: Mapping[str, Mapping[str, float]]
    measurements: tuple[Measurement, ...]

    def find(self, what: str, workload: str, backend: str, quantity: str) -> Measurement | None:
        """Return a measurement, or None if this run did not take it."""
        key = (what, workload, backend, quantity)
        found = (m for m in self.measurements if (m.what, m.workload, m.backend, m.quantity) == key)
        return next(found, None)

    def curve(self, what: str, backend: str, quantity: str) -> list[Measurement]:
        """Return the points of a growth curve, in the order in which they were taken."""
        return [m for m in self.measurements if (m.what, m.backend, m.quantity) == (what, backend, quantity)]

    def device(self) -> str:
        """Name the GPU that was measured, or the CPU."""
        return str(self.machine.get("gpu") or self.machine["cpu"])

    def backends(self) -> list[str]:
        """Return the names of the backends that were measured, in order."""
        return list(dict.fromkeys(m.backend for m in self.measurements if m.backend))


def ratio(above: Measurement, below: Measurement) -> float:
    """Return the median ratio of samples that were taken one right after the other.

    A machine's speed drifts from one second to the next; samples close in time share it.

    Examples
    --------
    The machine was slow in the first round, when both were measured:

    >>> above, below = (report.find(what, "A", "numba", "cpu") for what in ("scan", "gunzip"))
    >>> above.samples, below.samples, ratio(above, below)
    ((3.0, 2.0, 2.2), (1.5, 1.0, 1.0), 2.0)
    """
    return statistics.median(a / b for a, b in zip(above.samples, below.samples, strict=True))


def file_name(report: Report) -> str:
    """Return a file name for a report: its date and its GPU, or else its CPU.

    Examples
    --------
    >>> file_name(report)
    '2026-01-31-xeon-8480.json'
    """
    device = re.sub(r"[^a-z0-9]+", "-", report.device().lower()).strip("-")
    return f"{report.date}-{device}.json"


def to_json(report: Report) -> str:
    """Return a report as JSON, one measurement a line.

    Examples
    --------
    >>> to_json(report).splitlines()[:3]
    ['{', ' "schema": 1,', ' "date": "2026-01-31",']
    """
    head = {"schema": SCHEMA, "date": report.date, "machine": report.machine, "versions": report.versions}
    text = json.dumps(head | {"workloads": report.workloads}, indent=1)[:-2]
    rows = ",\n".join("  " + json.dumps(dataclasses.asdict(m)) for m in report.measurements)
    return f'{text},\n "measurements": [\n{rows}\n ]\n}}\n'


def from_json(text: str, name: str) -> Report:
    """Read a report that :func:`to_json` wrote.

    Raises
    ------
    ConfigError
        If the text, called ``name`` in the message, is no report or of another version.

    Examples
    --------
    >>> from_json(to_json(report), "report.json") == report
    True
    >>> from_json("{}", "report.json")
    Traceback (most recent call last):
    ...
    xscan.errors.ConfigError: report.json: not the results of xscan bench (KeyError: 'schema')
    """
    try:
        held = json.loads(text)
        if held["schema"] != SCHEMA:
            raise ConfigError(f"{name}: results of schema {held['schema']}, this version reads {SCHEMA}; measure again")
        taken = tuple(Measurement(**row | {"samples": tuple(row["samples"])}) for row in held["measurements"])
        return Report(held["date"], held["machine"], held["versions"], held["workloads"], taken)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{name}: not the results of xscan bench ({type(error).__name__}: {error})") from None


def read_reports(paths: Iterable[Path]) -> list[Report]:
    """Read the reports of several files, the newest first.

    Examples
    --------
    >>> import dataclasses
    >>> for number, date in enumerate(("2026-01-31", "2026-02-28")):
    ...     n = (scratch / f"{number}.json").write_text(to_json(dataclasses.replace(report, date=date)), "utf-8")
    >>> [held.date for held in read_reports(scratch.glob("*.json"))]
    ['2026-02-28', '2026-01-31']
    """
    reports = [from_json(path.read_text("utf-8"), path.name) for path in sorted(paths)]
    return sorted(reports, key=lambda report: report.date, reverse=True)
