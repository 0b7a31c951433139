"""Write docs/performance.md from measurements."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from xscan.bench.record import Report, ratio
from xscan.bench.summary import device_tables, growth_tables, process_tables, size_table, stage_tables
from xscan.bench.targets import target_table

__all__ = ["headline", "page", "title", "with_headline"]

WIDTH = 110  # columns of the README's paragraph
BEGIN, END = "<!-- speed: written by scripts/performance-doc -->", "<!-- /speed -->"

INTRODUCTION = """\
# Speed and memory

`scripts/performance-doc` writes this page from what `xscan bench --json` measured (`benchmarks/results/`); it is
never edited by hand. `xscan bench` measures your machine, and with `--observation FOLDER` your data.

- CPU is user and system time of the whole process, all threads. A number is the median of all rounds; the brackets
  hold the least and the largest.
- `gunzip` is inflating the files of the observation, each as a whole (ISA-L), in a process that does nothing else;
  "streamed" is the same through one small buffer, the least that any reader must spend. Both are measured in every
  round right before the scan, and a ratio is the median of the rounds' ratios, so that it means the same on other
  machines.
- A and L are simulated ([simulator](simulator.md)): 30 ks and 100 ks, about as many rows as two observations on which
  EXOD2 was measured. EXOD2's numbers are CPU time, on those two and on another machine."""

STAGES_NOTE = """\
Every instant of a scan belongs to one stage, the innermost one under way; so does the CPU time of threads that are
still busy with an earlier one."""

GROWTH_NOTE = """\
After reading, nine views unless the table says otherwise. A curve ends with the first point above ten seconds of CPU.
"Could be eclipses" is the share of voxels in which more counts are expected than the first eclipse threshold (13.1 at
3 sigma): those have to be looked at even if they are empty. Placing a region costs time too: they are counted."""


def title(report: Report) -> str:
    """Return one line on what was measured and where.

    Examples
    --------
    >>> title(report).partition(";")[0]
    'Xeon 8480, 2 cores, 8 GiB, load 0.1 before'
    """
    machine, versions = report.machine, report.versions
    commit = f", commit {versions['commit']}" if versions["commit"] else ""
    changed = " with changes that are not committed" if versions["dirty"] else ""
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("numpy", "numba", "isal"))
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, load {machine['load']:g} before; "
        f"{report.date}; xscan {versions['xscan']}{commit}{changed}; Python {versions['python']}, {libraries}"
    )


def headline(report: Report) -> str:
    """Return a summary of a few lines, for the README.

    Examples
    --------
    Of three scans, each with the inflating beside it (3.0 over 1.5 s, 2.0 over 1.0 s, 2.2 over 1.0 s):

    >>> print(headline(report))
    From files to Parquet, nine views, CPU time on Xeon 8480: 30 ks with 0.45 million events in 2.2 s, 2 times
    what inflating its files takes.
    """
    parts = []
    for workload, what in (("A", "30 ks"), ("L", "100 ks")):
        scan, gunzip = (report.find(name, workload, "numba", "cpu") for name in ("scan", "gunzip"))
        if scan is not None and gunzip is not None:
            events = report.workloads[workload]["rows"] / 1e6
            times = f"{ratio(scan, gunzip):.2g} times what inflating its files takes"
            parts.append(f"{what} with {events:.2g} million events in {scan.median:.2g} s, {times}")
    peak = report.find("peak memory", "L", "numba", "memory")
    memory = ""
    if peak is not None:
        memory = (
            f" Scans one after the other take at most {peak.median:.0f} MiB of memory; an archive's reads one ahead."
        )
    text = f"From files to Parquet, nine views, CPU time on {report.machine['cpu']}: {'; '.join(parts)}.{memory}"
    return "\n".join(textwrap.wrap(text, WIDTH))


def page(reports: Sequence[Report]) -> str:
    """Return the page: first the targets, then the measurements of each run.

    Parameters
    ----------
    reports : sequence of Report
        For the table of targets, each measurement is taken from the first report that contains it.

    Examples
    --------
    >>> [line for line in page([report]).splitlines() if line.startswith("## ")]
    ['## Speed and memory to reach', '## Xeon 8480']
    """
    parts = [INTRODUCTION, f"## {target_table(reports).markdown()}"]
    if any(growth_tables(report) for report in reports):
        parts.append("![CPU time against events and against voxels](images/growth.png)")
    for report in reports:
        parts += [f"## {report.device()}", f"{title(report)}."]
        parts += [f"### {table.markdown()}" for table in (size_table(report), *stage_tables(report))]
        parts.append(STAGES_NOTE)
        parts += [f"### {table.markdown()}" for table in (*device_tables(report), *process_tables(report))]
        if growth := growth_tables(report):
            parts += [f"### {table.markdown()}" for table in growth] + [GROWTH_NOTE]
    return "\n\n".join(parts) + "\n"


def with_headline(readme: str, reports: Sequence[Report]) -> str:
    """Return the README with a new summary between the two marks; ``reports`` are the newest first.

    Examples
    --------
    >>> readme = f"Fast. {BEGIN} of another machine {END} Read on."
    >>> made = with_headline(readme, [report])
    >>> made.startswith(f"Fast. {BEGIN}"), "another machine" in made, made.endswith(f"{END} Read on.")
    (True, False, True)
    """
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    measured = next((report for report in reports if report.find("scan", "L", "numba", "cpu") is not None), reports[0])
    return f"{before}{BEGIN}\n{headline(measured)}\n{END}{after}"
