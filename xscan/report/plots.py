"""Draw an observation: the image of its counts, and the light curve of every event and region."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from xscan.bayes import power_of_ten, thresholds
from xscan.grid import Box, Grid
from xscan.io.atomic import write_whole
from xscan.missions.xmm.instrument import EPIC
from xscan.missiontime import Clock, utc_text
from xscan.results.reader import Results
from xscan.results.tables import Tables, distinct_places, event_kind, expected_by_chance, strongest_events
from xscan.sky import SkyPixels, TangentPlane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Image", "counts_band", "draw", "draw_event", "draw_image", "draw_lightcurve", "without_pictures"]

COLOUR = {"peak": "#D55E00", "eclipse": "#56B4E9", "both": "#CC79A7", "variable": "#882255"}
MASK = "#009E73"
BANDS = ((5.0, "#DCE9F2"), (3.0, "#B3D1E6"))  # widest first
CIRCLE_ARCSEC = 20.0  # radius in which an event's counts are taken
ZOOM_FRAMES = 15  # before and after an event
FINE_FRAMES = 400  # more frames are drawn in groups: lines closer than pixels cannot be told apart
ERROR_BARS = 120  # largest number of frames drawn with error bars
CHART_CELLS = 4.5  # half the side of the chart of the surroundings
IN_90_PERCENT = 2.146  # radius that contains 90 % of a two-dimensional Gaussian, in units of its sigma along each axis
LISTED = 10  # events or regions named below an image
MARKED = 100  # marked in it

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """Counts of a subset in all searched frames, shape (ny, nx), with their grid and tangent plane."""

    counts: NDArray[np.int64]
    mask: NDArray[np.bool_]
    grid: Grid
    plane: TangentPlane
    band_kev: tuple[float, float]

    @classmethod
    def of(cls, row: Row) -> Image:
        """Return the image of a row of the table ``images``."""
        box = Box(row["x0"], row["x0"] + row["nx"], row["y0"], row["y0"] + row["ny"])
        duration_ms = round((row["t_stop_s"] - row["t_start_s"]) * 1000)  # an image is one long frame
        sky = SkyPixels(row["sky_n"], row["sky_arcsec"])
        grid = Grid(row["t_start_s"], duration_ms, 1, row["n_cells"], box, sky)
        plane = TangentPlane(row["ra_ref_deg"], row["dec_ref_deg"], row["xy_ref"], row["sky_arcsec"] / 3600)
        counts, mask = (np.array(row[name]).reshape(box.ny, box.nx) for name in ("counts", "mask"))
        return cls(counts, mask, grid, plane, (row["band_lo_kev"], row["band_hi_kev"]))


def draw(folder: Path, obsid: str, tables: Tables) -> list[Path]:
    """Write the picture of each subset, event and region into a folder; return their paths.

    Pictures of an earlier scan of the observation are removed, because what was found may have changed.

    Parameters
    ----------
    folder : Path
    obsid : str
    tables : Tables
        Those of this observation.
    """
    for old in folder.glob(f"{obsid}_*.png"):
        old.unlink()
    events, regions = tables.events.to_pylist(), tables.regions.to_pylist()
    runs, inputs = tables.runs.to_pylist(), tables.inputs.to_pylist()
    curves = {row["det_id"]: row for row in tables.lightcurves.to_pylist()}
    images = {row["subset"]: (Image.of(row), row) for row in tables.images.to_pylist()}
    flagged: dict[str, list[Row]] = {det_id: [] for det_id in curves}
    for row in tables.voxels.select(["det_id", "t_index", "kind", "p"]).to_pylist():
        flagged[row["det_id"]].append(row)
    paths = []
    for number, (image, view) in images.items():
        mine = [row for row in [*events, *regions] if row["subset"] == number]
        paths.append(folder / _image_name(obsid, number))
        with _figure(paths[-1], (7.4, 7.6)) as figure:
            draw_image(figure, image, mine, "\n".join(_title(view, runs, inputs)))
    for row in events:
        image, searched = images[row["subset"]]
        title = ", ".join(_title(searched, runs, inputs))
        paths.append(folder / _curve_name(row["event_id"]))
        with _figure(paths[-1], (9.0, 6.4)) as figure:
            draw_event(figure, row, curves[row["event_id"]], title, image)
    for row in regions:
        image, title = images[row["subset"]][0], ", ".join(_title(row, runs, inputs))
        paths.append(folder / _curve_name(row["det_id"]))
        with _figure(paths[-1], (9.0, 6.4)) as figure:
            draw_lightcurve(figure, row, curves[row["det_id"]], flagged[row["det_id"]], title, image)
    return paths


def _image_name(obsid: str, subset: int) -> str:
    return f"{obsid}_{subset}_image.png"


def _curve_name(name: str) -> str:
    return f"{name}.png"


def without_pictures(results: Results, plots: Path) -> list[str]:
    """Return the observations of which a picture is missing in their folder below ``plots``, sorted.

    Examples
    --------
    >>> without_pictures(held, scratch)
    ['0990000001']
    """
    images = results.table("images", columns=["obsid", "subset"]).to_pylist()
    regions = results.table("regions", columns=["obsid", "det_id"]).to_pylist()
    events = results.table("events", columns=["obsid", "event_id"]).to_pylist()
    names = [(row["obsid"], _image_name(row["obsid"], row["subset"])) for row in images]
    names += [(row["obsid"], _curve_name(row["det_id"])) for row in regions]
    names += [(row["obsid"], _curve_name(row["event_id"])) for row in events]
    return sorted({obsid for obsid, name in names if not (plots / obsid / name).exists()})


def _title(of: Row, runs: list[Row], inputs: list[Row]) -> tuple[str, str]:
    """Return the title of a picture: target, obsid and exposures; and the time searched in its view.

    ``of`` is the row of ``images`` or ``regions`` that is drawn.
    """
    view = ("subset", "dt_s", "band_lo_kev", "band_hi_kev")
    run = next(row for row in runs if all(row[name] == of[name] for name in view))
    exposures = [
        f"{EPIC.camera(row['camera']).label} {row['exposure']}" for row in inputs if row["subset"] == of["subset"]
    ]
    when = f"mission time {run['t_start_s']:.0f} to {run['t_stop_s']:.0f} s"
    if run["t_start_utc"]:
        start, stop = (run[name][:19] for name in ("t_start_utc", "t_stop_utc"))
        when = f"{start} to {stop[11:] if stop[:10] == start[:10] else stop} UTC"
    return f"{run['target'] or 'no target named'}, {run['obsid']}: {' + '.join(exposures)}", when


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """Yield a figure in xscan's style, then write it; uses no window, and no global state of pyplot."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = str(resources.files("xscan.report") / "xscan.mplstyle")
    with rc_context(fname=style):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", bbox_inches="tight")
        write_whole(path, picture.getvalue())


@dataclass(frozen=True, slots=True)
class _Offsets:
    """Offsets on the sky from a position, in units of ``unit_arcsec``; those in RA grow to the east."""

    grid: Grid
    x_px: float
    y_px: float
    unit_arcsec: float

    def ra(self, edge: Any) -> NDArray[np.float64]:
        """Return the offsets in RA of edges of cells: edge k is between the cells k - 1 and k."""
        return -self._of(edge, self.x_px)

    def dec(self, edge: Any) -> NDArray[np.float64]:
        """Return the offsets in Dec of edges of cells."""
        return self._of(edge, self.y_px)

    def extent(self) -> tuple[float, float, float, float]:
        """Return the offsets of left, right, bottom and top of the box of cells."""
        box = self.grid.box
        return float(self.ra(box.x0)), float(self.ra(box.x1)), float(self.dec(box.y0)), float(self.dec(box.y1))

    def of_place(self, row: Row) -> tuple[float, float]:
        """Return the offsets of the place of an event or region."""
        unit = self.unit_arcsec / self.grid.sky.side_arcsec
        return -(row["x_sky"] - self.x_px) / unit, (row["y_sky"] - self.y_px) / unit

    def _of(self, edge: Any, centre: float) -> NDArray[np.float64]:
        pixel = np.asarray(self.grid.to_pixel(np.asarray(edge, float) - 0.5))
        return np.asarray((pixel - centre) * self.grid.sky.side_arcsec / self.unit_arcsec)


def draw_image(figure: Figure, image: Image, found: list[Row], title: str) -> None:
    """Draw the counts of a subset with its events and regions.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    image : Image
    found : list of dict
        Rows of the tables ``events`` and ``regions``; regions of several views at one place are drawn once,
        with the view in which they are most significant.
    title : str
    """
    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

    axes = figure.subplots()
    offsets = _Offsets(image.grid, image.plane.crpix, image.plane.crpix, 60.0)
    shown = np.ma.masked_equal(image.counts, 0)
    # the colour scale follows the sky background, not the brightest source
    low, high = np.percentile(shown.compressed(), [2, 99.5]) if shown.count() else (1, 2)
    drawn = axes.imshow(shown, extent=offsets.extent(), norm=LogNorm(vmin=max(low, 1), vmax=max(high, 2 * low, 2)))
    bar = figure.colorbar(drawn, ax=axes, label="counts per cell", pad=0.02, shrink=0.85, extend="both")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.yaxis.set_minor_locator(NullLocator())
    _outline(axes, image, offsets)
    events, regions = ([row for row in found if ("event_id" in row) is yes] for yes in (True, False))
    places = [*strongest_events(events, MARKED), *distinct_places(regions, MARKED)]
    handles = _mark_places(axes, places, offsets)
    handles.append(Line2D([], [], color=MASK, linewidth=1.0, label="masked: bright cells and listed sources"))
    more = f" (the first {LISTED} of {len(places)})" if len(places) > LISTED else ""
    kinds = {
        f"events{more}; how many as strong are expected by chance": bool(events),
        f"places in their most significant view{more}; p of one voxel, before trials": bool(regions),
    }
    title_of_legend = "\n".join(text for text, yes in kinds.items() if yes) or None
    figure.legend(handles=handles, loc="outside lower left", ncol=2, columnspacing=1.2, title=title_of_legend)
    band = f"{image.band_kev[0]:g}-{image.band_kev[1]:g} keV"
    cell = f'cells of {image.grid.cell_arcsec:.1f}"'
    axes.set_title(f"{title}\n{int(image.counts.sum()):,} counts in the time searched, {band}, {cell}")
    ra, dec = image.plane.to_icrs(image.plane.crpix, image.plane.crpix)
    axes.set_xlabel(f"offset from RA {float(ra):.4f} deg (arcmin; east is left)")
    axes.set_ylabel(f"offset from Dec {float(dec):+.4f} deg (arcmin)")
    axes.set_aspect("equal")


def _outline(axes: Axes, image: Image, offsets: _Offsets) -> None:
    """Draw the border of the source mask, cell by cell."""
    from matplotlib.collections import LineCollection

    mask = np.pad(image.mask, 1)
    box = image.grid.box
    y, x = np.nonzero(mask[1:] != mask[:-1])  # below cell y
    level = [[(i, j), (i + 1, j)] for i, j in zip(x - 1 + box.x0, y + box.y0, strict=True)]
    y, x = np.nonzero(mask[:, 1:] != mask[:, :-1])
    upright = [[(i, j), (i, j + 1)] for i, j in zip(x + box.x0, y - 1 + box.y0, strict=True)]
    edges = np.array([*level, *upright], float).reshape(-1, 2, 2)
    lines = np.stack([offsets.ra(edges[..., 0]), offsets.dec(edges[..., 1])], axis=-1)
    axes.add_collection(LineCollection(list(lines), colors=MASK, linewidths=1.0), autolim=False)


def _mark_places(axes: Axes, places: list[Row], offsets: _Offsets) -> list[Any]:
    """Draw circles or boxes, and numbers, for events and regions; return the entries of the legend."""
    from matplotlib.lines import Line2D

    handles = []
    for number, row in enumerate(places, start=1):
        colour = COLOUR[_kind(row)]
        # half a cell wider than the event or region, so that its cells can be seen
        corner = _mark(axes, row, offsets, 0.5)
        axes.annotate(
            str(number), corner, (2, 2), textcoords="offset points", color=colour, fontsize=9, weight="bold",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
        if number <= LISTED:
            handles.append(Line2D([], [], color=colour, label=f"{number}: {_entry(row)}"))
    return handles


def _kind(row: Row) -> str:
    return event_kind(row) if "event_id" in row else row["kind"]


def _entry(row: Row) -> str:
    """Return what the legend of an image says of an event or region."""
    when = f"{row['t_start_utc'][11:19]} UTC" if row["t_start_utc"] else f"{row['t_start_s']:.0f} s"
    if "event_id" in row:
        return f"{event_kind(row)} of {_seconds(row)}, {when}, {expected_by_chance(row)} by chance"
    view = f"{row['dt_s']:g} s, {row['band_lo_kev']:g}-{row['band_hi_kev']:g} keV"
    return f"{row['kind']} {row['label']} of {view}, {when}, p {power_of_ten(row['log10_p_min'])}"


def _seconds(event: Row) -> str:
    seconds = event["t_stop_s"] - event["t_start_s"]
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def _mark(axes: Axes, row: Row, offsets: _Offsets, margin: float = 0.0) -> tuple[float, float]:
    """Draw an event's circle or a region's box, with a margin in cells; return the upper right corner."""
    from matplotlib.patches import Circle

    if "event_id" not in row:
        return _box(axes, row, offsets, margin)
    x, y = offsets.of_place(row)
    radius = (CIRCLE_ARCSEC + margin * offsets.grid.cell_arcsec) / offsets.unit_arcsec
    axes.add_patch(Circle((x, y), radius, fill=False, edgecolor=COLOUR[_kind(row)], linewidth=1.8, zorder=3))
    return x - radius, y + radius


def _box(axes: Axes, region: Row, offsets: _Offsets, margin: float) -> tuple[float, float]:
    """Draw a region's box and return its upper right corner."""
    from matplotlib.patches import Rectangle

    left, right = (float(offsets.ra(x)) for x in (region["bbox_x0"] - margin, region["bbox_x1"] + margin))
    low, top = (float(offsets.dec(y)) for y in (region["bbox_y0"] - margin, region["bbox_y1"] + margin))
    colour = COLOUR[region["kind"]]
    axes.add_patch(
        Rectangle((left, low), right - left, top - low, fill=False, edgecolor=colour, linewidth=1.8, zorder=3)
    )
    return right, top


def counts_band(mu: NDArray[np.float64], sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest and largest counts that are not flagged at each expectation.

    Parameters
    ----------
    mu : float64 array, shape (n,)
        Expected counts; NaN where undefined.
    sigma : float
        Threshold in equivalent sigma.

    Returns
    -------
    low, high : float64 array, shape (n,)
        NaN where mu is undefined.

    Examples
    --------
    Where 100 counts are expected, 59 to 149 are not flagged at 3 sigma:

    >>> low, high = counts_band(np.array([100.0, np.nan]), 3.0)
    >>> low.tolist(), high.tolist()
    ([59.0, nan], [149.0, nan])
    """
    known = np.isfinite(mu)
    limits = thresholds(sigma, int(np.nanmax(mu, initial=0) * 3 + 200))
    low, high = np.full(mu.size, np.nan), np.full(mu.size, np.nan)
    low[known] = np.searchsorted(limits.mu_eclipse, mu[known], side="left")
    high[known] = np.searchsorted(limits.mu_peak, mu[known], side="right") - 1
    return low, high


def draw_lightcurve(figure: Figure, region: Row, curve: Row, flagged: list[Row], title: str, image: Image) -> None:
    """Draw a region's counts with their expectation and, for a short event, the time around it in detail.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    region, curve : dict
        Rows of the tables ``regions`` and ``lightcurves``.
    flagged : list of dict
        The region's rows of ``voxels``: their frames are marked, and no others.
    title : str
        Target and time of the observation.
    image : Image
        For the chart of the surroundings.
    """
    panels = _panels(figure, curve, _event(flagged, len(curve["time_s"])))
    for panel in panels.curves:
        _unflagged(panel, curve)
        _curve(panel, curve)
        _flags(panel, curve, flagged)
    band = f"{region['band_lo_kev']:g}-{region['band_hi_kev']:g} keV"
    heading = f"{title}\n{region['det_id']}: {region['kind']} at {_place(region)}, {band}; {_cells(region)}"
    _finish(figure, panels, region, curve, heading, image)


def draw_event(figure: Figure, event: Row, curve: Row, title: str, image: Image) -> None:
    """Draw the counts around an event's place with their expectation and, if it is short, its time in detail.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    event, curve : dict
        Rows of the tables ``events`` and ``lightcurves``. The event's time is shaded.
    title : str
        Target and time of the observation.
    image : Image
        For the chart of the surroundings.
    """
    n_frames, start, colour = len(curve["time_s"]), curve["time_s"][0], COLOUR[_kind(event)]
    window = event["t_start_s"] - start, event["t_stop_s"] - start
    first, end = int(window[0] // curve["dt_s"]), int(-(-window[1] // curve["dt_s"]))
    panels = _panels(figure, curve, (max(first - ZOOM_FRAMES, 0), min(end + ZOOM_FRAMES, n_frames)))
    for panel in panels.curves:
        panel.axes.axvspan(*window, facecolor=colour, alpha=0.3, lw=0, label=f"the event, {_seconds(event)}")
        _curve(panel, curve)
    band = f"{image.band_kev[0]:g}-{image.band_kev[1]:g} keV"
    more = "fewer" if event["kind"] == "eclipse" else "more"
    heading = (
        f"{title}\n{event['event_id']}: {event_kind(event)} at {_place(event)}; "
        f"counts within {CIRCLE_ARCSEC:g} arcsec, {band}\n{event['counts']:.1f} counts {more} than the "
        f"{event['constant']:.1f} of the constant source; {expected_by_chance(event)} as strong expected by chance"
    )
    _finish(figure, panels, event, curve, heading, image)


@dataclass(frozen=True, slots=True)
class _Panel:
    """Part of a light curve: its frames, and how many of them are drawn together."""

    axes: Axes
    part: slice
    together: int


@dataclass(frozen=True, slots=True)
class _Panels:
    """The whole light curve and, if an event is short, the time around it; and the chart of the surroundings."""

    curves: tuple[_Panel, ...]
    sky: Axes


def _panels(figure: Figure, curve: Row, around: tuple[int, int]) -> _Panels:
    """Lay a figure out, for the frames around an event."""
    n_frames, (first, end) = len(curve["time_s"]), around
    zoomed = end - first < n_frames / 2
    rows = [["whole", "whole"], ["near", "sky"]] if zoomed else [["whole", "sky"]]
    axes: dict[str, Axes] = figure.subplot_mosaic(rows, width_ratios=(3.0, 1.0))
    together = 1 if n_frames <= FINE_FRAMES else -(-n_frames // (FINE_FRAMES // 2))
    curves = [_Panel(axes["whole"], slice(0, n_frames), together)]
    if zoomed:
        edges = np.array([first, end]) * curve["dt_s"]
        axes["whole"].axvspan(*edges, color="#F0E442", alpha=0.35, lw=0, zorder=0, label="enlarged below")
        curves.append(_Panel(axes["near"], slice(first, end), 1))
    return _Panels(tuple(curves), axes["sky"])


def _finish(figure: Figure, panels: _Panels, row: Row, curve: Row, heading: str, image: Image) -> None:
    """Add titles, the chart and the legend."""
    start = curve["time_s"][0]
    utc = utc_text(start, Clock(EPIC.mjdref))[0] if row["t_start_utc"] else None
    panels.curves[-1].axes.set_xlabel(
        f"time (s) since {utc} UTC, mission time {start:.3f} s" if utc else f"mission time - {start:.3f} s (s)"
    )
    panels.curves[0].axes.set_title(heading)
    _chart(panels.sky, row, image)
    handles, labels = zip(*_legend(*(panel.axes for panel in panels.curves)).items(), strict=True)
    figure.legend(labels, handles, loc="outside lower left", ncol=4, columnspacing=1.2)


def _place(row: Row) -> str:
    return f'RA {row["ra_deg"]:.4f}, Dec {row["dec_deg"]:+.4f} +- {row["pos_err_arcsec"]:.1f}"'


def _cells(region: Row) -> str:
    """Return what the counts are of, and the numbers of the most significant voxel."""
    nx, ny = (region[f"bbox_{axis}1"] - region[f"bbox_{axis}0"] for axis in "xy")
    what = "counts of its one cell" if nx == ny == 1 else f"counts of its box of {nx} x {ny} cells"
    best = f"{region['n_max']} in one frame where {region['mu_at_max']:.3g} are expected"
    one = "" if nx == ny == 1 else "the most significant cell has "
    return f"{what}\n{one}{best}, p {power_of_ten(region['log10_p_min'])} before trials"


def _event(flagged: list[Row], n_frames: int) -> tuple[int, int]:
    """Return the frames to show around the most significant one: its group of flagged frames, and some more.

    Frames are of one group if no two neighbours are more than :data:`ZOOM_FRAMES` apart.
    """
    frames = np.unique([row["t_index"] for row in flagged])
    best = min(flagged, key=lambda row: row["p"])["t_index"]
    group = np.cumsum(np.diff(frames, prepend=frames[0]) > ZOOM_FRAMES)
    mine = frames[group == group[np.searchsorted(frames, best)]]
    return max(int(mine[0]) - ZOOM_FRAMES, 0), min(int(mine[-1]) + 1 + ZOOM_FRAMES, n_frames)


def _curve(panel: _Panel, curve: Row) -> None:
    """Draw part of a light curve against the time since its beginning."""
    axes, part, together, dt = panel.axes, panel.part, panel.together, curve["dt_s"]
    index = np.arange(part.start, part.stop)
    n, mu = _counts(curve, part)
    rejected, bad = _not_searched(curve)[part], np.array(curve["bad"])[part]
    edges = np.append(index[::together], part.stop) * dt
    shown, expected = _together(n, together), _together(mu, together)
    for marked, colour, hatch, label in (
        (bad & ~rejected, "#8C8C8C", "//", "high background"),
        (rejected, "#CC79A7", "xx", "not searched"),
    ):
        for first, end in _runs(marked):
            span = (index[first] * dt, (index[end - 1] + 1) * dt)
            axes.axvspan(*span, facecolor=colour, alpha=0.22, hatch=hatch, edgecolor="white", lw=0, label=label)
            label = "_"
    axes.stairs(shown, edges, color="black", linewidth=1.0, label="counts", baseline=None)
    axes.stairs(expected, edges, color="#0072B2", linewidth=1.2, label="expected", baseline=None)
    if index.size <= ERROR_BARS:
        error = np.abs(_poisson_interval(n) - n)
        middle = (index + 0.5) * dt
        axes.errorbar(middle, n, error, fmt="none", ecolor="0.35", elinewidth=0.8, label="68 % interval of the counts")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    axes.set_ylabel(f"counts per {dt * together:g} s")


def _not_searched(curve: Row) -> NDArray[np.bool_]:
    """Return which frames were rejected, or had no live time."""
    return np.asarray(np.array(curve["rejected"]) | (np.array(curve["live"], float) <= 0))


def _counts(curve: Row, part: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return counts and expectation of some frames; NaN where they were not searched."""
    n, mu = (np.array(curve[name], float)[part] for name in ("n", "mu"))  # None becomes NaN
    rejected = _not_searched(curve)[part]
    n[rejected] = np.nan
    mu[rejected] = np.nan
    return n, mu


def _unflagged(panel: _Panel, curve: Row) -> None:
    """Draw which counts of a frame would not be flagged."""
    if panel.together > 1:
        return
    _, mu = _counts(curve, panel.part)
    edges = np.arange(panel.part.start, panel.part.stop + 1) * curve["dt_s"]
    for sigma, colour in BANDS:
        low, high = counts_band(mu, sigma)
        label = f"not flagged at {sigma:g} sigma"
        panel.axes.stairs(high + 0.5, edges, baseline=np.maximum(low - 0.5, 0), fill=True, color=colour, label=label)


def _flags(panel: _Panel, curve: Row, flagged: list[Row]) -> None:
    """Mark the frames that are flagged."""
    axes, part, dt = panel.axes, panel.part, curve["dt_s"]
    n, _ = _counts(curve, part)
    for kind in ("peak", "eclipse"):
        frames = np.unique([row["t_index"] for row in flagged if row["kind"] == kind]).astype(int)
        frames = frames[(frames >= part.start) & (frames < part.stop)]
        if frames.size == 0:
            continue
        x = (frames + 0.5) * dt
        if panel.together == 1:
            y, where, marker = n[frames - part.start], axes.transData, "o"
        else:  # a single frame's counts do not fit on a curve of several frames: draw them at the top
            y, where, marker = np.ones(frames.size), axes.get_xaxis_transform(), "v"
        (dots,) = axes.plot(x, y, marker, color=COLOUR[kind], markersize=4.5, transform=where, clip_on=False)
        dots.set(label=f"{kind}: frames flagged", gid=f"flagged {kind}")
    axes.set_ylim(0, None)


def _together(values: NDArray[np.float64], together: int) -> NDArray[np.float64]:
    """Return sums of ``together`` frames each; frames with NaN count as the mean of the others, if there are any."""
    if together == 1:
        return values
    full = np.concatenate([values, np.full(-values.size % together, np.nan)]).reshape(-1, together)
    known = np.isfinite(full)
    n_known = known.sum(axis=1)
    return np.where(n_known > 0, np.where(known, full, 0).sum(axis=1) * together / np.maximum(n_known, 1), np.nan)


def _poisson_interval(n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means, shape (2, n), at which counts this low, or this high, have a probability of 16 %."""
    tail = special.ndtr(-1)
    low = np.where(n > 0, special.gammaincinv(np.maximum(n, 1), tail), 0 * n)
    return np.array([low, special.gammaincinv(n + 1, 1 - tail)])


def _chart(axes: Axes, row: Row, image: Image) -> None:
    """Draw the counts around an event or region, its circle or box, and the error of its place."""
    from matplotlib.colors import PowerNorm
    from matplotlib.patches import Circle

    offsets = _Offsets(image.grid, row["x_sky"], row["y_sky"], 1.0)
    reach = CHART_CELLS * image.grid.cell_arcsec
    shown = np.ma.masked_equal(image.counts, 0)
    scale = PowerNorm(
        0.5, vmin=0, vmax=_brightest(image, offsets, row)
    )  # a bright source nearby must not hide the rest
    axes.imshow(shown, extent=offsets.extent(), cmap="Greys", norm=scale)
    _outline(axes, image, offsets)
    _mark(axes, row, offsets)
    radius = IN_90_PERCENT * row["pos_err_arcsec"]
    axes.add_patch(Circle((0.0, 0.0), radius, fill=False, edgecolor=COLOUR[_kind(row)], linewidth=1.4))
    axes.set_xlim(reach, -reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    band = f"{image.band_kev[0]:g}-{image.band_kev[1]:g} keV"
    drawn = f'{CIRCLE_ARCSEC:g}" circle' if "event_id" in row else "box"
    axes.set_title(f"counts at {band}, time searched;\n{drawn}, 90 % error circle, mask (green)", fontsize=8.5)
    axes.set_xlabel("offset in RA (arcsec)")
    axes.set_ylabel("offset in Dec (arcsec)")


def _brightest(image: Image, offsets: _Offsets, row: Row) -> float:
    """Return the largest counts of a cell in and around an event or region."""
    box, reach = image.grid.box, int(CHART_CELLS)
    if "event_id" in row:
        middle = (offsets.ra(np.arange(box.x0, box.x1) + 0.5), offsets.dec(np.arange(box.y0, box.y1) + 0.5))
        x, y = (int(np.argmin(np.abs(distances))) for distances in middle)
        x0, x1, y0, y1 = x, x + 1, y, y + 1
    else:
        x0, x1, y0, y1 = (row[f"bbox_{axis}{k}"] - getattr(box, f"{axis}0") for axis in "xy" for k in (0, 1))
    near = image.counts[max(y0 - reach, 0) : y1 + reach, max(x0 - reach, 0) : x1 + reach]
    return float(near.max(initial=1))


def _legend(*panels: Axes) -> dict[str, Any]:
    """Return the legend entries of the panels, each label once."""
    named: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    return named


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    change = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return list(zip(change[0::2].tolist(), change[1::2].tolist(), strict=True))
