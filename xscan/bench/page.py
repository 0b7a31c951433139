"""Tables of what was measured, and the page that is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from xscan.bench.growth import CURVES
from xscan.bench.record import Measurement, Report, ratio
from xscan.bench.stages import STAGES
from xscan.bench.table import Table
from xscan.bench.targets import target_table

__all__ = ["page", "tables", "title"]

INTRODUCTION = """\
# Speed and memory

Written by `scripts/performance-doc` from what `xscan bench` measured (`benchmarks/results/`), never by hand.
`xscan bench --help` says how to measure your machine, and `--observation FOLDER` your data.

CPU is user and system time of the whole process, all threads. A number is the median of all rounds, the range in
brackets goes from the least to the largest. In each round inflating the files (`gunzip`: ISA-L, each file as a whole)
is measured right before the scan, and a ratio is the median of the rounds' ratios: it holds on other machines too.
Observations are simulated ([simulator](simulator.md)), as long and as full as EXOD2's test cases A and L.
EXOD2's numbers are from its own runs, on A and L themselves and on another machine."""

GROWTH_NOTE = """\
Cost grows with events, not with voxels, but for one thing: where more is expected than the first eclipse threshold
(13.1 counts in a frame) every voxel must be looked at, occupied or not. The last column is the share of such voxels."""


def title(report: Report) -> str:
    """Say what was measured where, in a line."""
    machine, versions = report.machine, report.versions
    commit = f", commit {versions['commit']}" if versions["commit"] else ""
    changed = " with changes that are not committed" if versions["dirty"] else ""
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("numpy", "numba", "isal"))
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB; {report.date}; "
        f"xscan {versions['xscan']}{commit}{changed}; Python {versions['python']}, {libraries}"
    )


def page(reports: Sequence[Report]) -> str:
    """Give the page: targets first, then all that each run measured.

    Parameters
    ----------
    reports : sequence of Report
        The first that has a measurement gives it to the table of targets.
    """
    parts = [INTRODUCTION, _section(target_table(reports))]
    if any(
        report.curve(what, backend, "cpu") for report in reports for what in CURVES for backend in report.backends()
    ):
        parts.append("![CPU time against events and voxels](images/growth.png)")
    for report in reports:
        parts += [f"## {report.machine['cpu']}", f"{title(report)}."]
        parts += [_section(table, "###") for table in tables(report)]
    return "\n\n".join(parts) + "\n"


def _section(table: Table, level: str = "##") -> str:
    return f"{level} {table.markdown()}"


def tables(report: Report) -> list[Table]:
    """Give all tables of a run but the targets."""
    made = [_sizes(report)]
    made += [_stages(report, workload) for workload in report.workloads]
    made.append(_processes(report))
    made += [table for what in CURVES if (table := _growth(report, what)) is not None]
    return made


def _sizes(report: Report) -> Table:
    rows = []
    for workload, size in report.workloads.items():
        inflated, in_pieces = (
            next(m for m in report.measurements if (m.what, m.workload, m.quantity) == (what, workload, "cpu"))
            for what in ("gunzip", "gunzip, streamed")
        )
        rows.append(
            (
                workload, f"{size['rows']:,.0f}", f"{size['events']:,.0f}", f"{size['compressed_bytes'] / 1e6:.1f}",
                f"{size['inflated_bytes'] / 1e6:.1f}", _milliseconds(inflated), _milliseconds(in_pieces),
                f"{inflated.median / size['rows'] * 1e9:.0f}",
            )
        )  # fmt: skip
    columns = ("", "rows", "events kept", "MB", "MB inflated", "gunzip (CPU ms)", "streamed", "gunzip, ns a row")
    return Table("What was measured", columns, rows)


def _stages(report: Report, workload: str) -> Table:
    names = [name for name in report.backends() if report.find("scan", workload, name, "cpu")]
    columns = ["", *(f"{name} (CPU ms)" for name in names), *(f"{b} / {a}" for a, b in pairwise(names))]
    rows = []
    for text, what in [*((f"{name}: {STAGES.get(name, 'all else')}", f"stage: {name}") for name in [*STAGES, "rest"])]:
        rows.append(_compared(report, text, what, workload, names, "cpu"))
    rows.append(_compared(report, "whole scan", "scan", workload, names, "cpu"))
    rows.append(_compared(report, "whole scan, wall", "scan", workload, names, "wall"))
    rows.append(_compared(report, "three bands at 5 s, read before", "bands", workload, names, "cpu"))
    for what, floor, text in (
        ("scan", "gunzip", "whole scan over gunzip"),
        ("scan", "gunzip, streamed", "whole scan over streamed gunzip"),
        ("bands", "gunzip", "three bands over gunzip"),
    ):
        over = []
        for name in names:
            above, below = report.find(what, workload, name, "cpu"), report.find(floor, workload, name, "cpu")
            over.append(f"{ratio(above, below):.2f} x" if above and below else "")
        rows.append([text, *over, *[""] * (len(names) - 1)])
    return Table(f"{workload}: where the time goes", columns, rows)


def _compared(report: Report, text: str, what: str, workload: str, names: list[str], quantity: str) -> list[str]:
    found = [report.find(what, workload, name, quantity) for name in names]
    over = [f"{b.median / a.median:.1f}" if a and b and a.median > 0 else "" for a, b in pairwise(found)]
    return [text, *(_milliseconds(m) if m else "" for m in found), *over]


def _processes(report: Report) -> Table:
    rows = []
    for workload in report.workloads:
        for name in report.backends():
            peak = report.find("peak memory", workload, name, "memory")
            cells = [f"{peak.median:.0f}" if peak else ""]
            for what in ("fresh process", "first process"):
                for quantity in ("cpu", "wall"):
                    found = report.find(what, workload, name, quantity)
                    cells.append(f"{found.median:.2f}" if found else "")
            rows.append([f"{workload}, {name}", *cells])
    columns = ("", "peak, five scans (MiB)", "fresh: CPU (s)", "wall", "nothing compiled: CPU (s)", "wall")
    return Table("Processes of their own", columns, rows)


def _growth(report: Report, what: str) -> Table | None:
    key, heading = {"growth: frames": ("frame_s", "frame (s)"), "growth: empty": ("empty", "empty frames (%)")}.get(
        what, ("", "")
    )
    curves = {name: report.curve(what, name, "cpu") for name in report.backends()}
    points = max(curves.values(), key=len, default=[])
    if not points:
        return None
    rows = []
    for i, point in enumerate(points):
        cells = [f"{point.at['events'] / 1e6:.3g}", f"{point.at['voxels'] / 1e6:,.0f}"]
        if key:
            cells.insert(0, f"{point.at[key] * (100 if key == 'empty' else 1):.3g}")
        for curve in curves.values():
            taken = curve[i] if i < len(curve) else None
            cells.append(_milliseconds(taken) if taken else "")
            if what in ("growth: brighter", "growth: longer"):
                cells.append(f"{taken.median / taken.at['events'] * 1e9:.0f}" if taken else "")
        rows.append([*cells, f"{100 * point.at['eligible']:.2g}"])
    columns = ["events (M)", "voxels (M)"]
    if key:
        columns.insert(0, heading)
    for name in curves:
        columns.append(f"{name} (CPU ms)")
        if what in ("growth: brighter", "growth: longer"):
            columns.append("ns an event")
    return Table(f"Growth: {CURVES[what]}", [*columns, "could be eclipses (%)"], rows)


def _milliseconds(found: Measurement) -> str:
    low, high = min(found.samples) * 1000, max(found.samples) * 1000
    return f"{_short(found.median * 1000)} ({_short(low)}-{_short(high)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2f}"
