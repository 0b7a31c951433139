"""Make tables of the measurements of a run."""

from __future__ import annotations

from itertools import pairwise

from xscan.bench.growth import CURVES, Curve
from xscan.bench.record import Measurement, Report, ratio
from xscan.bench.stages import REST, STAGES
from xscan.bench.table import Table

__all__ = ["device_tables", "growth_tables", "process_tables", "size_table", "stage_tables"]

RATIOS = (
    ("whole scan over gunzip", "scan", "gunzip"),
    ("whole scan over streamed gunzip", "scan", "gunzip, streamed"),
    ("three bands over gunzip", "bands", "gunzip"),
    ("whole scan by windows over gunzip", "scan by windows", "gunzip"),
)
LATER = ("windows", "scan by windows")
"""What reports before version 0.4.0 do not hold."""

PEAK = "peak memory"
PROCESSES = ("fresh process", "first process")


def size_table(report: Report) -> Table:
    """Return the table of sizes: what was read and searched, and the time for inflating it.

    Examples
    --------
    >>> print(size_table(report).markdown().splitlines()[-1])
    | A   | 450,000 |     300,000 | 9.0 |        20.0 | 1,000 (1,000-1,500) |          |             2222 |
    """
    first = report.backends()[0]
    rows = []
    for workload, size in report.workloads.items():
        inflated = report.find("gunzip", workload, first, "cpu")
        rows.append(
            (
                workload,
                f"{size['rows']:,.0f}",
                f"{size['events']:,.0f}",
                f"{size['compressed_bytes'] / 1e6:.1f}",
                f"{size['inflated_bytes'] / 1e6:.1f}",
                _milliseconds(inflated),
                _milliseconds(report.find("gunzip, streamed", workload, first, "cpu")),
                f"{inflated.median / size['rows'] * 1e9:.0f}" if inflated else "",
            )
        )
    columns = ("", "rows", "events kept", "MB", "MB inflated", "gunzip (CPU ms)", "streamed", "gunzip, ns a row")
    return Table("What was measured", columns, rows)


def stage_tables(report: Report) -> list[Table]:
    """Return where the time of a scan is spent: one table a workload, one column a backend.

    Examples
    --------
    >>> (table,) = stage_tables(report)
    >>> [row for row in table.rows if row[0] in ("whole scan", "whole scan over gunzip")]
    [['whole scan', '2,200 (2,000-3,000)'], ['whole scan over gunzip', '2.00 x']]
    """
    return [_stages(report, workload) for workload in report.workloads]


def _stages(report: Report, workload: str) -> Table:
    names = report.backends()
    stages = [(f"{name}: {text}", f"stage: {name}") for name, text in STAGES.items()]
    lines = [(text, what, "cpu") for text, what in [*stages, (f"{REST}: all else", f"stage: {REST}")]]
    lines += [("whole scan", "scan", "cpu"), ("whole scan, wall", "scan", "wall")]
    lines += [("three bands at 5 s, read before", "bands", "cpu")]
    lines += [("windows, read before", "windows", "cpu"), ("whole scan by windows", "scan by windows", "cpu")]
    rows = []
    for text, what, quantity in lines:
        found = [report.find(what, workload, name, quantity) for name in names]
        if what in LATER and not any(found):
            continue
        over = [f"{b.median / a.median:.1f}" if a and b and a.median > 0 else "" for a, b in pairwise(found)]
        rows.append([text, *map(_milliseconds, found), *over])
    blank = [""] * (len(names) - 1)
    for text, above, below in RATIOS:
        found_ratios = [_over(report, workload, name, above, below) for name in names]
        if above not in LATER or any(found_ratios):
            rows.append([text, *found_ratios, *blank])
    scans = [report.find("scan", workload, name, "cpu") for name in names]
    rows.append(["rounds", *(str(len(m.samples)) if m else "" for m in scans), *blank])
    columns = ["", *(f"{name} (CPU ms)" for name in names), *(f"{b} / {a}" for a, b in pairwise(names))]
    return Table(f"{workload}: where the time goes", columns, rows)


def _over(report: Report, workload: str, backend: str, above: str, below: str) -> str:
    upper, lower = (report.find(what, workload, backend, "cpu") for what in (above, below))
    return f"{ratio(upper, lower):.2f} x" if upper and lower else ""


def device_tables(report: Report) -> list[Table]:
    """Return how fast a GPU searched; no table if there was none.

    Examples
    --------
    >>> device_tables(report)  # nothing was measured on a GPU
    []
    """
    rows = []
    for m in report.measurements:
        if m.quantity in ("bandwidth", "rate") or m.what == "views":
            voxels = f"{m.at['voxels'] / 1e6:,.0f}" if "voxels" in m.at else ""
            low, high = _short(min(m.samples)), _short(max(m.samples))
            rows.append((f"{m.workload}: {m.what}", voxels, f"{_short(m.median)} ({low}-{high})", m.unit))
    title = "On the device: searching a cube beside copying it, and views after upload"
    return [Table(title, ("", "voxels (M)", "measured", ""), rows)] if rows else []


def process_tables(report: Report) -> list[Table]:
    """Return peak memory, and the time of a fresh start; no table if neither was measured.

    Examples
    --------
    >>> from dataclasses import replace
    >>> peak = Measurement(PEAK, "A", "numba", "memory", "MiB", (380.0,))
    >>> process_tables(replace(report, measurements=(peak,)))[0].rows
    [['A, numba', '380', '', '', '', '']]
    """
    if not any(m.what in (PEAK, *PROCESSES) for m in report.measurements):
        return []
    rows = []
    for workload in report.workloads:
        for name in report.backends():
            peak = report.find(PEAK, workload, name, "memory")
            times = [report.find(what, workload, name, clock) for what in PROCESSES for clock in ("cpu", "wall")]
            cells = [f"{peak.median:.0f}" if peak else "", *(f"{m.median:.2f}" if m else "" for m in times)]
            rows.append([f"{workload}, {name}", *cells])
    columns = ("", "peak, five scans (MiB)", "fresh: CPU (s)", "wall", "nothing compiled: CPU (s)", "wall")
    return [Table("Processes of their own", columns, rows)]


def growth_tables(report: Report) -> list[Table]:
    """Return how cost grows, one table a curve; none if growth was not measured.

    Examples
    --------
    >>> from dataclasses import replace
    >>> at = {"events": 2e6, "voxels": 1e8, "eligible": 0.5, "regions": 3}
    >>> cpu = Measurement("growth: brighter", "A", "numba", "cpu", "s", (0.8,), at)
    >>> (table,) = growth_tables(replace(report, measurements=(cpu,)))
    >>> dict(zip(table.columns, table.rows[0], strict=True))["ns an event"]
    '400'
    """
    made = []
    for what, curve in CURVES.items():
        taken = {name: report.curve(what, name, "cpu") for name in report.backends()}
        if any(taken.values()):
            made.append(_growth(curve, taken))
    return made


def _growth(curve: Curve, taken: dict[str, list[Measurement]]) -> Table:
    rows = []
    longest = max(taken.values(), key=len)
    for i, point in enumerate(longest):
        events, voxels, eligible, regions = (point.at[key] for key in ("events", "voxels", "eligible", "regions"))
        cells = [f"{point.at[curve.varied]:.3g}"] if curve.varied else []
        cells += [f"{events / 1e6:.3g}", f"{voxels / 1e6:,.0f}", f"{100 * eligible:.2g}", f"{regions:.0f}"]
        for points in taken.values():
            here = points[i] if i < len(points) else None
            cells.append(_milliseconds(here))
            if not curve.varied:
                cells.append(f"{here.median / events * 1e9:,.0f}" if here else "")
        rows.append(cells)
    columns = [curve.heading] if curve.varied else []
    columns += ["events (M)", "voxels (M)", "could be eclipses (%)", "regions"]
    for name in taken:
        columns += [f"{name} (CPU ms)"] + ["ns an event"] * (not curve.varied)
    return Table(f"Growth: {curve.title}", columns, rows)


def _milliseconds(found: Measurement | None) -> str:
    """Return median, least and largest of a measurement in milliseconds, as text."""
    if found is None:
        return ""
    middle, low, high = (_short(1000 * value) for value in (found.median, min(found.samples), max(found.samples)))
    return f"{middle} ({low}-{high})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
