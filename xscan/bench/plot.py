"""Draw how cost grows."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from xscan.bench.record import Report

__all__ = ["plot_growth"]

STYLE = {"growth: brighter": ("o-", "same time"), "growth: longer": ("s--", "same rate"), "growth: frames": ("o-", "")}


def plot_growth(report: Report, path: Path) -> None:
    """Draw CPU time against events and against voxels, for every backend.

    Parameters
    ----------
    report : Report
        With growth curves.
    path : Path
        The PNG to write.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with resources.as_file(resources.files("xscan.report") / "xscan.mplstyle") as style, mpl.rc_context(fname=style):
        figure = Figure(figsize=(9, 3.8))
        events, voxels = figure.subplots(1, 2)
        for place, backend in enumerate(report.backends()):
            for axes, key, whats in (
                (events, "events", ("growth: brighter", "growth: longer")),
                (voxels, "voxels", ("growth: frames",)),
            ):
                for what in whats:
                    curve = report.curve(what, backend, "cpu")
                    marks, how = STYLE[what]
                    at, cpu = [m.at[key] for m in curve], [m.median for m in curve]
                    axes.loglog(at, cpu, marks, color=f"C{place}", label=", ".join(filter(None, (backend, how))))
        fastest = report.curve("growth: brighter", report.backends()[0], "cpu")[-1]
        line = np.array([1 / 300, 1.0])
        events.loglog(
            fastest.at["events"] * line, fastest.median * line, ":", color="0.5", label="proportional to events"
        )
        events.set(xlabel="events", ylabel="CPU (s)", title="nine views, after reading")
        voxels.set(xlabel="voxels", ylabel="CPU (s)", title="one view of L, frames of 200 s to 0.5 s")
        for axes in (events, voxels):
            axes.grid(color="0.9")
            axes.legend()
        figure.savefig(path)
