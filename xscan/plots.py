"""Pictures of an observation: the image of its counts, and the light curve of every region."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xscan.bayes import power_of_ten, thresholds
from xscan.grid import Grid
from xscan.search import SubsetSearch, ViewResult
from xscan.sky import SKY_PIXEL_ARCSEC, TangentPlane
from xscan.tables import Tables, distinct_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Image", "Images", "counts_band", "draw", "plot_image", "plot_lightcurve"]

COLOUR = {"peak": "#D55E00", "eclipse": "#56B4E9", "both": "#CC79A7"}
BANDS = ((5.0, "#DCE9F2"), (3.0, "#B3D1E6"))  # widest first
ZOOM_FRAMES = 15
LISTED = 11  # regions named below an image
MARKED = 100  # regions marked in it

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """Counts of a subset, all frames, shape (ny, nx), with the grid and plane they lie on."""

    counts: NDArray[np.int64]
    mask: NDArray[np.bool_]
    grid: Grid
    plane: TangentPlane
    band_kev: tuple[float, float]


class Images:
    """Collects the image of each subset while one observation is searched."""

    def __init__(self) -> None:
        self.by_subset: dict[int, Image] = {}

    def watch(self, search: SubsetSearch, result: ViewResult) -> None:
        """Keep the image of a subset in its widest band."""
        number, found = search.subset.number, result.search
        if found is None:
            return
        band = (result.view.lo_kev, result.view.hi_kev)
        held = self.by_subset.get(number)
        if held is None or band[1] - band[0] > held.band_kev[1] - held.band_kev[0]:
            counts = found.counts.images(np.zeros(found.grid.nt, np.int8))[0]
            plane = search.subset.lists[0].plane
            self.by_subset[number] = Image(counts, found.mask, found.grid, plane, band)


def draw(folder: Path, obsid: str, tables: Tables, images: Images) -> list[Path]:
    """Write ``<obsid>_<subset>_image.png`` and ``<det_id>.png`` into a folder; give their paths.

    Pictures of an earlier scan of the observation are removed: its regions may be others now.
    """
    for old in folder.glob(f"{obsid}_*.png"):
        old.unlink()
    regions, curves = tables.regions.to_pylist(), {row["det_id"]: row for row in tables.lightcurves.to_pylist()}
    paths = []
    for number, image in images.by_subset.items():
        mine = [row for row in regions if row["subset"] == number]
        paths.append(plot_image(image, mine, f"{obsid}, subset {number}", folder / f"{obsid}_{number}_image.png"))
    for row in regions:
        paths.append(plot_lightcurve(row, curves[row["det_id"]], folder / f"{row['det_id']}.png"))
    return paths


@contextmanager
def _figure(path: Path, rows: int, columns: int, size: tuple[float, float], **options: Any) -> Iterator[Any]:
    """Make a figure in our style, and write it; no window, no global state of pyplot."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = str(resources.files("xscan") / "xscan.mplstyle")
    with rc_context(fname=style):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        yield figure.subplots(rows, columns, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight")


def plot_image(image: Image, regions: list[Row], title: str, path: Path) -> Path:
    """Draw the counts of a subset with its regions.

    Parameters
    ----------
    image : Image
    regions : list of dict
        Rows of the table ``regions``; regions of several views at one place are drawn once,
        with the view in which they are most significant.
    title : str
    path : Path
        Where the PNG goes; the folder is made.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

    grid, box = image.grid, image.grid.box

    def arcmin(cells: Any) -> Any:
        """From the edge of a cell to arcmin from the reference point."""
        pixel = np.asarray(grid.to_pixel(np.asarray(cells, float) - 0.5))
        return (pixel - image.plane.crpix) * SKY_PIXEL_ARCSEC / 60

    with _figure(path, 1, 1, (7.4, 7.2)) as axes:
        shown = np.ma.masked_equal(image.counts, 0)
        extent = (arcmin(box.x0), arcmin(box.x1), arcmin(box.y0), arcmin(box.y1))
        # the sky, not the brightest source, decides the scale
        low, high = np.percentile(shown.compressed(), [2, 99.5]) if shown.count() else (1, 2)
        drawn = axes.imshow(shown, extent=extent, norm=LogNorm(vmin=max(low, 1), vmax=max(high, 2 * low, 2)))
        bar = axes.figure.colorbar(drawn, ax=axes, label="counts per cell", pad=0.02, shrink=0.85, extend="both")
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_locator(NullLocator())
        edges_x = arcmin(np.arange(box.x0, box.x1) + 0.5)
        edges_y = arcmin(np.arange(box.y0, box.y1) + 0.5)
        if image.mask.any() and min(image.mask.shape) > 1:
            axes.contour(edges_x, edges_y, image.mask, levels=[0.5], colors="white", linewidths=0.9)
        handles = _mark_regions(axes, regions, arcmin)
        handles.append(Line2D([], [], color="0.6", linewidth=0.8, label="masked as constant sources"))
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.08, -0.1), ncol=2, columnspacing=1.2)
        band = f"{image.band_kev[0]:g}-{image.band_kev[1]:g} keV"
        axes.set_title(f"{title}: {int(image.counts.sum()):,} events, {band}")
        ra, dec = image.plane.to_icrs(image.plane.crpix, image.plane.crpix)
        axes.set_xlabel(f"toward west of RA {float(ra):.4f} deg (arcmin)")
        axes.set_ylabel(f"toward north of Dec {float(dec):+.4f} deg (arcmin)")
        axes.set_aspect("equal")
    return path


def _mark_regions(axes: Axes, regions: list[Row], arcmin: Callable[[Any], Any]) -> list[Any]:
    """Box and number the regions, the most significant first; give what the legend says of them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    handles = []
    for number, row in enumerate(distinct_places(regions, MARKED), start=1):
        # half a cell wider than the region, so that its cells can be seen
        x0, x1 = arcmin(row["bbox_x0"] - 0.5), arcmin(row["bbox_x1"] + 0.5)
        y0, y1 = arcmin(row["bbox_y0"] - 0.5), arcmin(row["bbox_y1"] + 0.5)
        colour = COLOUR[row["kind"]]
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.8))
        axes.annotate(
            str(number), (x1, y1), (2, 2), textcoords="offset points", color=colour, fontsize=9, weight="bold",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
        view = f"{row['dt_s']:g} s, {row['band_lo_kev']:g}-{row['band_hi_kev']:g} keV"
        label = f"{number}: {row['kind']} {row['label']} of {view}, p {power_of_ten(row['log10_p_min'])}"
        if number <= LISTED:
            handles.append(Line2D([], [], color=colour, label=label))
    return handles


def counts_band(mu: NDArray[np.float64], sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the fewest and most counts that are ordinary at each expectation.

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
    """
    known = np.isfinite(mu)
    limits = thresholds(sigma, int(np.nanmax(mu, initial=0) * 3 + 200))
    low, high = np.full(mu.size, np.nan), np.full(mu.size, np.nan)
    low[known] = np.searchsorted(limits.mu_eclipse, mu[known], side="left")
    high[known] = np.searchsorted(limits.mu_peak, mu[known], side="right") - 1
    return low, high


def plot_lightcurve(region: Row, curve: Row, path: Path) -> Path:
    """Draw a region's counts against its expectation: the whole range, and the time of the event.

    Parameters
    ----------
    region, curve : dict
        Rows of the tables ``regions`` and ``lightcurves``.
    path : Path
        Where the PNG goes; the folder is made.
    """
    dt = region["dt_s"]
    time = np.array(curve["time_s"]) - curve["time_s"][0]
    first = round((region["t_start_s"] - curve["time_s"][0]) / dt)
    last = round((region["t_stop_s"] - curve["time_s"][0]) / dt)
    around = slice(max(first - ZOOM_FRAMES, 0), min(last + ZOOM_FRAMES, time.size))
    with _figure(path, 2, 1, (8.6, 5.8), height_ratios=(1, 1.25)) as (whole, near):
        scale, unit = (1000.0, "ks") if time[-1] > 5000 else (1.0, "s")
        _curve(whole, region, curve, slice(None), scale)
        if time[around].size < 0.5 * time.size:
            whole.axvspan(
                time[around][0] / scale,
                (time[around][-1] + dt) / scale,
                color="#E69F00",
                alpha=0.18,
                lw=0,
                label="below",
            )
        whole.set_xlabel(f"time since the start of the range ({unit})")
        _curve(near, region, curve, around, 1.0)
        near.set_xlabel(f"time since {curve['time_s'][0]:.3f} s, mission time TT (s)")
        for axes in (whole, near):
            axes.set_ylabel(f"counts per {dt:g} s")
        whole.set_title(
            f"{region['det_id']}: {region['kind']} at RA {region['ra_deg']:.4f}, Dec {region['dec_deg']:+.4f} "
            f'+- {region["pos_err_arcsec"]:.1f}", {region["band_lo_kev"]:g}-{region["band_hi_kev"]:g} keV'
        )
        near.set_title(
            f"counts of the whole box; its most significant cell: {region['n_max']} where {region['mu_at_max']:.3g} "
            f"are expected, p {power_of_ten(region['log10_p_min'])}"
        )
        named = dict(zip(*reversed(whole.get_legend_handles_labels()), strict=True))
        named |= dict(zip(*reversed(near.get_legend_handles_labels()), strict=True))
        near.legend(
            named.values(), named.keys(), loc="upper left", bbox_to_anchor=(0.0, -0.2), ncol=4, columnspacing=1.2
        )
    return path


def _curve(axes: Axes, region: Row, curve: Row, part: slice, scale: float) -> None:
    dt = region["dt_s"]
    start = (np.array(curve["time_s"]) - curve["time_s"][0])[part]
    edges = np.append(start, start[-1] + dt) / scale
    n = np.array(curve["n"], float)[part]
    mu = np.array([np.nan if value is None else value for value in curve["mu"]], float)[part]
    rejected, bad = np.array(curve["rejected"])[part], np.array(curve["bad"])[part]
    for sigma, colour in BANDS:
        low, high = counts_band(mu, sigma)
        axes.stairs(
            high + 0.5,
            edges,
            baseline=np.maximum(low - 0.5, 0),
            fill=True,
            color=colour,
            label=f"within {sigma:g} sigma",
        )
    for marked, colour, hatch, label in (
        (bad, "#8C8C8C", "//", "high background"),
        (rejected, "#CC79A7", "xx", "not searched"),
    ):
        for first, end in _runs(marked):
            axes.axvspan(
                edges[first],
                edges[end],
                facecolor=colour,
                alpha=0.22,
                hatch=hatch,
                edgecolor="white",
                lw=0,
                label=label,
            )
            label = "_"
    n[rejected] = np.nan
    axes.stairs(n, edges, color="black", linewidth=1.0, label="counts", baseline=None)
    axes.stairs(mu, edges, color="#0072B2", linewidth=1.2, label="expected", baseline=None)
    flagged = (start + dt / 2 > region["t_start_s"] - curve["time_s"][0]) & (
        start + dt / 2 < region["t_stop_s"] - curve["time_s"][0]
    )
    middle = (edges[:-1] + edges[1:]) / 2
    axes.plot(
        middle[flagged],
        n[flagged],
        "o",
        color=COLOUR[region["kind"]],
        markersize=4,
        label=region["kind"],
        clip_on=False,
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    change = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return list(zip(change[0::2].tolist(), change[1::2].tolist(), strict=True))
