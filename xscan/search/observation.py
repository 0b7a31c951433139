"""Search one observation: every subset of its lists, every view of it.

For each subset: group the lists, judge the frames, bin the photons, build the expectation, flag voxels and gather
them into regions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from xscan.backends import Backend, Counts, EventLoops, Loaded
from xscan.bayes import thresholds
from xscan.config import SIGMA_MIN, ScanConfig, View
from xscan.errors import DataError, Reason
from xscan.events.gti import Floats, intersect
from xscan.events.merge import CUT_BY, GtiFilter
from xscan.grid import Box, Grid, cells_across
from xscan.model import Expectation, Frames, InputFile, Observation, Photons, Sources, Voxels
from xscan.pointsource.exposure import CameraMap
from xscan.search import exod2
from xscan.search.background import expectation, source_disks, source_mask, without_flagged
from xscan.search.detector import Detector, DetectorFacts
from xscan.search.frames import BadTime, LiveTime, bad_intervals, judge_frames, live_time
from xscan.search.lightcurve import LightCurve, light_curve
from xscan.search.moves import FRAMES_MIN, remark_on_moves
from xscan.search.position import region_centroids, region_positions
from xscan.search.regions import Region, regions
from xscan.search.subsets import Subset, good_intervals, make_subsets
from xscan.search.view import ViewData
from xscan.search.windows import WindowSearch, search_grid, search_windows
from xscan.search.wings import parents
from xscan.sky import Position, TangentPlane
from xscan.windows import BASE_MS

__all__ = ["CameraSeconds", "Found", "SubsetSearch", "ViewResult", "WindowResult", "search_observation"]


Bools = NDArray[np.bool_]

SETTLE_ROUNDS = 5
MANY_FRAMES = 20
REST_SHARE = 0.1  # a larger share of the time that fills no frame is worth a remark


@dataclass(frozen=True, slots=True)
class CameraSeconds:
    """How one camera's time was spent in one view, live seconds.

    ``lost`` is good time outside the frames searched: before or after the time the lists have in
    common, or in the rest that fills no frame.
    """

    good: float
    bad: float
    rejected: float
    lost: float


@dataclass(frozen=True, slots=True)
class Found:
    """One region with everything measured of it.

    Attributes
    ----------
    region : Region
    position : Position
        Fitted to the photons.
    centroid : Position
        Of the cells.
    curve : LightCurve
    by_camera : int array, shape (n_cameras,)
        Counts of each camera of the instrument in the flagged voxels.
    counts : int
        Counts of the region's cells in all frames not rejected.
    detector : DetectorFacts
    parent : int or None
        Label of the brighter region in whose wings this one lies.
    """

    region: Region
    position: Position
    centroid: Position
    curve: LightCurve
    by_camera: NDArray[np.int64]
    counts: int
    detector: DetectorFacts
    parent: int | None


@dataclass(frozen=True, slots=True)
class ViewResult:
    """The result of one view of a subset.

    ``reason`` is None if the view was searched; then ``search`` holds what it worked with, and ``found`` lists its
    regions, perhaps none. ``remarks`` are sentences on what may be wrong with them.
    """

    view: View
    reason: Reason | None = None
    message: str = ""
    n_events: int = 0
    camera_seconds: dict[str, CameraSeconds] = field(default_factory=dict)
    search: ViewData | None = None
    found: tuple[Found, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowResult:
    """The result of the search by windows of a subset.

    Attributes
    ----------
    search : WindowSearch
    camera_seconds : dict of str to CameraSeconds
        ``rejected`` is the time in which no eclipse was looked for.
    grid : Grid
        Cells of the image.
    image : int64 array, shape (ny, nx)
        Counts in all energies, in the whole time.
    mask : bool array, shape (ny, nx)
        Cells of listed sources, and bright ones.
    plane : TangentPlane
    """

    search: WindowSearch
    camera_seconds: dict[str, CameraSeconds]
    grid: Grid
    image: NDArray[np.int64]
    mask: Bools
    plane: TangentPlane


@dataclass(frozen=True, slots=True)
class SubsetSearch:
    """One subset; its search by windows, if there is one, and its views, as they are searched one after the other."""

    subset: Subset
    files: tuple[InputFile, ...]
    windows: Iterator[WindowResult]
    views: Iterator[ViewResult]


def search_observation(
    observation: Observation, config: ScanConfig, backend: Backend
) -> tuple[Iterator[SubsetSearch], list[InputFile]]:
    """Search an observation.

    Parameters
    ----------
    observation : Observation
    config : ScanConfig
    backend : Backend

    Returns
    -------
    searches : iterator of SubsetSearch
        To be consumed in order; memory for a view is freed when the next one is asked for.
    skipped : list of InputFile
        Lists that are in no subset, each with its reason.

    Raises
    ------
    ConfigError
        If a view's band reaches beyond the instrument's energies.
    DataError
        If lists are of several instruments.

    Examples
    --------
    Three lists, one of each camera, are one subset, here searched in one view:

    >>> from xscan.backends import get_backend
    >>> searches, skipped = search_observation(observation, scanner.settings.config, get_backend("numpy"))
    >>> [(search.subset.number, [result.view.label for result in search.views]) for search in searches], skipped
    ([(0, ['50_0.2_12.0'])], [])
    """
    instrument = observation.instrument
    if instrument is not None:
        for view in config.views:
            view.check_within(*(energy / 1000 for energy in instrument.pi_range))
    subsets, skipped = make_subsets(observation.lists, config.rules)
    return (_search_subset(subset, observation, config, backend) for subset in subsets), skipped


def _search_subset(subset: Subset, observation: Observation, config: ScanConfig, backend: Backend) -> SubsetSearch:
    live = live_time(subset, backend.events) if config.rules.live_time_rejection else ()
    photons, files = _photons(subset, live, config, backend.events)
    bad_time = bad_intervals(subset, photons, backend.events)
    box = photons.box if config.rules.one_box else None
    loaded = backend.load(photons)
    maps = cache(lambda: _camera_maps(subset))
    detector = Detector(subset, live, config.rules, backend.events)
    shared = _Shared(subset, photons, bad_time, live, detector, loaded, observation.sources, box, maps, config, backend)
    return SubsetSearch(subset, files, _by_windows(shared), _search_views(shared))


def _camera_maps(subset: Subset) -> tuple[CameraMap, ...]:
    """Build the map of blind spots of each camera whose events suffice for one."""
    return tuple(made for made in map(CameraMap.of, subset.lists) if made is not None)


def _photons(
    subset: Subset, live: LiveTime, config: ScanConfig, loops: EventLoops
) -> tuple[Photons, tuple[InputFile, ...]]:
    """Merge the lists of a subset on the integer grid.

    Events outside good time and events of CCDs that do not work are left out. Return the photons, and the files
    with the number of events that each cut removed.
    """
    filters = [GtiFilter.everything() for _ in subset.lists]
    applied: tuple[str, ...] = CUT_BY[2:]
    if config.rules.live_time_rejection:
        filters = [GtiFilter.of(events.good_time, list(ccds)) for events, ccds in zip(subset.lists, live, strict=True)]
        applied = CUT_BY
    n_cells = cells_across(config.cell_arcsec, subset.lists[0].instrument.sky)
    photons, removed = loops.merge(subset.lists, filters, subset.t0, subset.t1, n_cells)
    files = []
    for events, counts in zip(subset.lists, removed.tolist(), strict=True):
        cuts = {name: n for name, n in zip(CUT_BY, counts, strict=True) if name in applied}
        files.append(dataclasses.replace(events.info, cuts=events.info.cuts | cuts))
    return photons, tuple(files)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all views of a subset share."""

    subset: Subset
    photons: Photons
    bad_time: BadTime
    live: LiveTime
    detector: Detector
    loaded: Loaded
    sources: Sources | None
    box: Box | None  # None: each view has its own box
    maps: Callable[[], tuple[CameraMap, ...]]  # built when the first region needs them
    config: ScanConfig
    backend: Backend
    moves: dict[tuple[int, int], str | None] = field(default_factory=dict)  # remark by band (PI in eV)


WINDOW_FRAME_MS = 4 * BASE_MS
"""Frames in which live and bad time is judged for the search by windows."""


def _by_windows(shared: _Shared) -> Iterator[WindowResult]:
    """Search the subset by windows, if the configuration says so."""
    subset, config, photons = shared.subset, shared.config, shared.photons
    if not config.windows:
        return
    grid = search_grid(subset, photons, WINDOW_FRAME_MS, config.cell_arcsec)
    judged = _judge([grid], shared)
    frames, spent = judged[grid.dt_ms] if judged else (None, {})
    rejected = np.empty(0, bool) if frames is None else np.repeat(frames.rejected, grid.dt_ms // BASE_MS)
    search = search_windows(
        subset, photons, shared.live, shared.bad_time, rejected, shared.sources, shared.maps, config.far, shared.backend
    )
    image = np.diff(photons.offsets).reshape(photons.box.ny, photons.box.nx)
    plane = subset.lists[0].plane
    mask = source_mask(image, source_disks(shared.sources, plane, grid, config.rules))
    yield WindowResult(search, spent, grid, image, mask, plane)


def _search_views(shared: _Shared) -> Iterator[ViewResult]:
    subset, config = shared.subset, shared.config
    disks: dict[Box, Bools] = {}  # one for each box; views with the same box share it
    grids = [_grid(view, shared) for view in config.views]
    judged = _judge(grids, shared)
    for view, grid in zip(config.views, grids, strict=True):
        if grid.nt < 1:
            message = f"one frame of {view.dt_s:g} s is longer than the {subset.t1 - subset.t0:.1f} s in common"
            yield ViewResult(view, Reason.DT_TOO_LONG, message)
            continue
        if grid.box not in disks:
            disks[grid.box] = source_disks(shared.sources, subset.lists[0].plane, grid, config.rules)
        frames, spent = judged[view.dt_ms]
        try:
            result = _search_view(view, grid, frames, spent, disks[grid.box], shared)
        except DataError as error:  # a device too small for this view may be large enough for the next
            result = ViewResult(view, error.reason, str(error), camera_seconds=spent)
        yield result


def _search_view(
    view: View, grid: Grid, frames: Frames, spent: dict[str, CameraSeconds], disks: Bools, shared: _Shared
) -> ViewResult:
    rules = shared.config.rules
    if rules.live_time_rejection and not any(shared.live):
        message = "no CCD was live at any time, by good time, read-out frames (EXPOSUnn) and silences together"
        return ViewResult(view, Reason.NO_LIVE_FRAME, message, camera_seconds=spent)
    pi_from = view.pi_lo if rules.half_open_band else view.pi_lo + 1
    counts = shared.loaded.bin(grid, pi_from, view.pi_hi)
    n_events = counts.n_events()
    if n_events == 0:
        return ViewResult(view, Reason.EMPTY_BAND, f"no event in the view {view}", camera_seconds=spent)
    if frames.rejected.all():
        message = f"all {grid.nt} frames were rejected: in each of them a CCD was dead or silent, or all were"
        return ViewResult(view, Reason.NO_LIVE_FRAME, message, n_events, spent)
    images = counts.images(frames.kind())
    expected, mask = expectation(images, counts, frames, disks, rules)
    if not expected.template.any():
        message = (
            f"all {mask.size} cells are masked as sources or empty: nothing to build an expectation from; "
            f"try longer frames or a wider band"
        )
        return ViewResult(view, Reason.NO_BACKGROUND, message, n_events, spent)
    expected, voxels = _flagged(expected, images, mask, counts, shared.config)
    band, plane = (pi_from, view.pi_hi), shared.subset.lists[0].plane
    data = ViewData(shared.photons, band, plane, grid, frames, counts, images, disks, mask, expected, voxels)
    found = _describe(data, shared)
    remarks = _unsearched(grid, shared.subset), _moved(data, found, shared)
    return ViewResult(view, None, "", n_events, spent, data, found, tuple(filter(None, remarks)))


def _flagged(
    expected: Expectation, images: NDArray[np.int64], mask: Bools, counts: Counts, config: ScanConfig
) -> tuple[Expectation, Voxels]:
    """Flag voxels, after taking flagged voxels out of the constant sources until these no longer change.

    Where at least ``MANY_FRAMES`` frames are live, the voxels taken out are flagged at one sigma less than
    ``config.sigma``: leaving out a few of many frames by chance does no harm, and a slow flare whose frames only
    just fail to be flagged would otherwise raise its own constant source and stay hidden.
    """
    n_max = counts.n_max()
    limits = thresholds(config.sigma, n_max)
    if config.rules.local_background:
        many = np.count_nonzero(expected.live) >= MANY_FRAMES
        out = thresholds(max(config.sigma - 1, SIGMA_MIN), n_max) if many else limits
        of_all = expected
        for _ in range(SETTLE_ROUNDS):
            again = without_flagged(of_all, images, mask, counts.flag(expected.within(mask), out))
            if np.array_equal(again.source, expected.source):
                break
            expected = again
    return expected, counts.flag(expected, limits)


def _unsearched(grid: Grid, subset: Subset) -> str | None:
    """Return a remark if the rest that fills no frame is more than a tenth of the time; None if not."""
    total = subset.t1 - subset.t0
    rest = total - grid.nt * grid.dt_s
    if rest <= REST_SHARE * total:
        return None
    return f"the last {rest:.0f} of {total:.0f} s fill no frame and were not searched"


def _moved(data: ViewData, found: tuple[Found, ...], shared: _Shared) -> str | None:
    """Return a remark if the whole field moved or changed; None if not, or if there are fewer than two regions.

    Judged once for each band: frames of any length show it.
    """
    if sum(one.parent is None for one in found) < 2 or data.grid.nt < FRAMES_MIN:
        return None
    if data.pi_range not in shared.moves:
        shared.moves[data.pi_range] = remark_on_moves(data)
    return shared.moves[data.pi_range]


def _grid(view: View, shared: _Shared) -> Grid:
    subset, photons = shared.subset, shared.photons
    nt = int((subset.t1 - subset.t0) / view.dt_s)
    box = shared.box
    if box is None:
        inside = (photons.tick >= 0) & (photons.tick <= nt * view.dt_ms)
        box = _box(photons, inside & (photons.pi > view.pi_lo) & (photons.pi < view.pi_hi))
    sky = photons.instrument.sky
    return Grid(subset.t0, view.dt_ms, nt, cells_across(shared.config.cell_arcsec, sky), box, sky)


def _box(photons: Photons, chosen: NDArray[np.bool_]) -> Box:
    y, x = photons.cells()
    return Box.around(x[chosen], y[chosen]) if chosen.any() else Box(0, 1, 0, 1)


def _judge(grids: Sequence[Grid], shared: _Shared) -> dict[int, tuple[Frames, dict[str, CameraSeconds]]]:
    """Judge the frames of each length (ms); they do not depend on the band."""
    lengths = {grid.dt_ms: grid for grid in grids if grid.nt > 0}
    if not lengths:
        return {}
    subset, of_lengths = shared.subset, list(lengths.values())
    good = {events.camera: good_intervals(events) for events in subset.lists}
    found = {}
    for grid, (frames, seconds) in zip(
        of_lengths,
        judge_frames(subset, shared.bad_time, shared.live, of_lengths, shared.config.rules, shared.backend.events),
        strict=True,
    ):
        spent = {
            camera: _camera_seconds(seconds[camera], frames, grid, intervals) for camera, intervals in good.items()
        }
        found[grid.dt_ms] = frames, spent
    return found


def _camera_seconds(live: Floats, frames: Frames, grid: Grid, good: Floats) -> CameraSeconds:
    searched = np.array([[grid.t0, grid.t0 + grid.nt * grid.dt_s]])
    total = float(np.diff(good).sum())
    kept = ~frames.rejected
    return CameraSeconds(
        good=float(live[kept & ~frames.bad].sum()),
        bad=float(live[kept & frames.bad].sum()),
        rejected=float(live[frames.rejected].sum()),
        lost=total - float(np.diff(intersect(good, searched)).sum()),
    )


def _describe(data: ViewData, shared: _Shared) -> tuple[Found, ...]:
    """Gather voxels into regions, and compute each region's position, light curve, parent and detector facts."""
    rules, grid, plane = shared.config.rules, data.grid, data.plane
    if len(data.voxels) == 0:
        return ()
    image = data.image.ravel()
    by_camera = data.counts.by_camera(data.voxels)
    gathered = regions(data, rules.labels_in_time)
    centroids = region_centroids(gathered, grid, plane)
    if rules.fitted_places:
        positions = region_positions(gathered, centroids, data, shared.maps(), shared.backend.pointsource)
    else:
        positions = [exod2.position(region.x, region.y, region.area, grid, plane) for region in gathered]
    parent = parents(gathered, positions, data, by_camera)
    facts = shared.detector.facts(gathered, data)
    found = []
    for region, position, centroid, said in zip(gathered, positions, centroids, facts, strict=True):
        found.append(
            Found(
                region,
                position,
                centroid,
                light_curve(region.box, data, rules.float64_lightcurves),
                by_camera[region.members].sum(axis=0),
                int(image[np.unique(data.cell_numbers(region.members))].sum()),
                said,
                parent[region.label],
            )
        )
    return tuple(found)
