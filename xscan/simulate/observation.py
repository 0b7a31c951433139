"""Simulate one observation, or an archive of observations, with a table of what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xscan.config import load_config
from xscan.events import cuts
from xscan.missions.xmm.cuts import make_cuts, parse_flag_cut
from xscan.model import CAMERAS, PixelMask
from xscan.schema import column
from xscan.simulate.detector import CAMERA, Camera
from xscan.simulate.events import DropOut, Faults, RawEvents, draw_events, draw_faults, draw_hidden, without_mishaps
from xscan.simulate.files import write_event_list, write_source_list
from xscan.simulate.headers import FLAG_EXPRESSION, SUBMODE, Pointing
from xscan.simulate.presets import PRESET_CAMERA, Preset, draw_drop_outs, draw_preset
from xscan.simulate.scene import Sky, draw_sky
from xscan.sky import TangentPlane

__all__ = ["TRUTH", "simulate_archive", "simulate_observation"]

EXPOSURES = {"m1": "S001", "m2": "S002", "pn": "S003"}
START_S = 130_000_000.0
DAY_S = 86_400.0
LIST_LIKELIHOOD_MIN = 6.0
LIST_ERROR_ARCSEC = 0.7
NEAR_ARCSEC = 60.0


TRUTH = pa.schema(
    [
        column("obsid", pa.string(), "", "observation identifier"),
        column("number", pa.int32(), "", "number of the transient in its observation"),
        column("kind", pa.string(), "", "burst, flare or eclipse"),
        column("ra_deg", pa.float64(), "deg", "right ascension, ICRS"),
        column("dec_deg", pa.float64(), "deg", "declination, ICRS"),
        column("x_sky", pa.float64(), "0.05 arcsec", "X, sky pixel"),
        column("y_sky", pa.float64(), "0.05 arcsec", "Y, sky pixel"),
        column("t_start_s", pa.float64(), "s", "start, mission time (TT, MJDREF 50814, not barycentred)"),
        column("t_stop_s", pa.float64(), "s", "end, mission time (TT, MJDREF 50814, not barycentred)"),
        column("width_s", pa.float64(), "s", "duration"),
        column(
            "counts_expected", pa.float64(), "count", "expected counts on axis, all cameras; missing ones of an eclipse"
        ),
        column("n_pn", pa.int64(), "count", "events of pn that the default cuts keep; of an eclipse 0"),
        column("n_m1", pa.int64(), "count", "events of MOS1 that the default cuts keep; of an eclipse 0"),
        column("n_m2", pa.int64(), "count", "events of MOS2 that the default cuts keep; of an eclipse 0"),
        column("n_near", pa.int64(), "count", "events that the default cuts keep within 60 arcsec; of an eclipse 0"),
        column(
            "n_hidden",
            pa.int64(),
            "count",
            "events within 60 arcsec that an eclipse hid and the default cuts would have kept, drawn beside the others",
        ),
    ]
)
"""Schema of the table of simulated transients."""


def simulate_archive(
    folder: Path,
    n: int,
    seed: int,
    exposure_s: float | Sequence[float],
    quiet: bool = False,
    background: float = 1.0,
    made: Callable[[str], None] | None = None,
    preset: Preset | None = None,
    cameras: Sequence[str] = CAMERAS,
) -> pa.Table:
    """Write ``n`` observations, ``observations.txt`` and ``truth.parquet``.

    Parameters
    ----------
    folder : Path
        Folder in which each observation gets a folder.
    n, seed : int
        Observation k of a seed is the same for any n.
    exposure_s : float or sequence of float
        Length of all observations, or of each, s.
    quiet : bool
        No transients, no variable sources, no proton flares; with a preset only no transients.
    background : float
        Factor on the background: 1 gives some 0.5 million rows in 30 ks.
    made : callable, optional
        Called with each observation when it is written, for progress.
    preset : Preset, optional
        Kind of sky (:data:`xscan.simulate.presets.PRESETS`), with its cameras and no faults but its drop-outs.
    cameras : sequence of str
        Cameras that observe.

    Returns
    -------
    pyarrow.Table
        The table of transients, schema :data:`TRUTH`.

    Examples
    --------
    A quiet sky of 1000 s in one observation, in which nothing is to be found:

    >>> truth = simulate_archive(scratch, n=1, seed=1, exposure_s=1000.0, quiet=True)
    >>> truth.num_rows, sorted(path.name[11:13] for path in scratch.glob("0*/P*"))
    (0, ['EP', 'M1', 'M2', 'PN'])
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = [TRUTH.empty_table()]
    obsids = []
    lengths_s = np.broadcast_to(np.asarray(exposure_s, float), n).tolist()
    entropy = seed if preset is None else [seed, *preset.name.encode()]
    for k, child in enumerate(np.random.SeedSequence(entropy).spawn(n)):
        rng = np.random.default_rng(child)
        pointing = draw_pointing(rng, f"{990_000_001 + k:010d}", lengths_s[k], k)
        drop_outs = None
        if preset is None:
            sky = draw_sky(rng, lengths_s[k], quiet)
        else:
            sky = draw_preset(rng, preset, lengths_s[k], quiet)
            drop_outs = draw_drop_outs(rng, preset, lengths_s[k])
        all_cameras = CAMERA if preset is None else PRESET_CAMERA
        used = {name: camera for name, camera in all_cameras.items() if name in cameras}
        tables.append(simulate_observation(folder / pointing.obsid, pointing, sky, rng, background, used, drop_outs))
        obsids.append(pointing.obsid)
        if made is not None:
            made(pointing.obsid)
    spread = dict.fromkeys(f"{length_s:g} s" for length_s in (min(lengths_s), max(lengths_s)))
    title = f"# {n} simulated observations: seed {seed}, {' to '.join(spread)} each"
    (folder / "observations.txt").write_text("\n".join([title, *obsids]) + "\n", "utf-8")
    truth = pa.concat_tables(tables)
    pq.write_table(truth, folder / "truth.parquet")
    return truth


def draw_pointing(rng: np.random.Generator, obsid: str, exposure_s: float, k: int = 0) -> Pointing:
    """Draw the pointing and the start time of an observation."""
    plane = TangentPlane(float(rng.uniform(0, 360)), float(np.degrees(np.arcsin(rng.uniform(-0.95, 0.95)))))
    start = START_S + 2 * DAY_S * k + float(rng.uniform(0, DAY_S))
    return Pointing(obsid, plane, float(rng.uniform(0, 360)), start, exposure_s, 850 + k)


def simulate_observation(
    folder: Path,
    pointing: Pointing,
    sky: Sky,
    rng: np.random.Generator,
    background: float = 1.0,
    cameras: Mapping[str, Camera] = CAMERA,
    drop_outs: tuple[DropOut, ...] | None = None,
) -> pa.Table:
    """Write one observation: an event list for each camera and the source list.

    Parameters
    ----------
    folder : Path
    pointing : Pointing
    sky : Sky
    rng : numpy.random.Generator
    background : float
        Factor on the background.
    cameras : mapping of str to Camera
        Cameras that observe.
    drop_outs : tuple of DropOut, optional
        The only times at which CCDs are silent, instead of missing CCDs, gaps and filters drawn at random.

    Returns
    -------
    pyarrow.Table
        Its transients, schema :data:`TRUTH`.

    Examples
    --------
    >>> from xscan.simulate.scene import Sky, Transient
    >>> sky = Sky((), (Transient("burst", 0.0, 0.0, 500.0, 10.0, 100.0),), np.empty((0, 3)))
    >>> truth = simulate_observation(scratch, exposure.pointing, sky, np.random.default_rng(1))
    >>> truth.select(["kind", "width_s", "counts_expected"]).to_pylist()
    [{'kind': 'burst', 'width_s': 10.0, 'counts_expected': 100.0}]
    """
    length = pointing.exposure_s
    gap = None
    if drop_outs is None and rng.random() < 0.3:
        at = float(rng.uniform(0.2, 0.8)) * length
        gap = (at, at + min(float(rng.uniform(40, 300)), 0.05 * length))
    filtered = None
    if drop_outs is None and rng.random() < 0.15:
        edges = np.sort(rng.uniform(0.05, 0.95, 2)) * length
        filtered = np.array([[0.0, edges[0]], [min(edges[0] + 0.1 * length, edges[1]), length]])
        filtered = filtered[filtered[:, 1] > filtered[:, 0]]
    recorded = {name: np.zeros(len(sky.transients), np.int64) for name in (*CAMERAS, "near", "hidden")}
    for name in [camera for camera in CAMERAS if camera in cameras]:
        camera = cameras[name]
        late = float(rng.uniform(0.02, 0.06)) * length if name == "pn" else float(rng.uniform(0, 10))
        early = float(rng.uniform(0, 0.01)) * length if name == "pn" else 0.0
        span = (late, length - early)
        faults = draw_faults(rng, camera, *span, gap, filtered)
        if drop_outs is not None:
            faults = without_mishaps(faults, camera, drop_outs)
        events = draw_events(rng, sky, camera, faults, span, pointing.pa_deg, background)
        write_event_list(folder, pointing, camera, EXPOSURES[name], span, events, faults, rng)
        kept = events.take(_kept(events, name, faults))
        recorded[name] += _count(kept, sky)
        recorded["near"] += _count(_near(kept, sky), sky)
        (aside,) = rng.spawn(1)  # what was hidden decides nothing of what is written
        hidden = draw_hidden(aside, sky, camera, faults, span, pointing.pa_deg)
        recorded["hidden"] += _count(_near(hidden.take(_kept(hidden, name, faults)), sky), sky)
    write_source_list(folder, pointing, _listed_sources(sky, pointing, rng))
    return _truth(sky, pointing, recorded)


def _kept(events: RawEvents, camera: str, faults: Faults) -> NDArray[np.intp]:
    """Return the indices of the events that the cuts of the default profile keep."""
    number = np.arange(events.time.size)
    raw = cuts.RawEvents(
        number.astype(np.float64), events.rawx, events.rawy, events.x, events.y, events.pi, events.flag,
        events.pattern, events.ccd,
    )  # fmt: skip
    own = PixelMask()
    own.add(*faults.hot_pixels[faults.listed].T)
    flags = parse_flag_cut(FLAG_EXPRESSION["pn" if camera == "pn" else "mos"][1])
    made = make_cuts(camera, SUBMODE, flags, None, (None, None), load_config())
    selection = cuts.select_all([raw], number.size, made, cuts.select)
    n, _, _ = cuts.drop_bad_pixels(selection.kept, selection.n, own)
    return selection.kept.time[:n].astype(np.intp)  # what stood for the time was the event's number


def _near(events: RawEvents, sky: Sky) -> RawEvents:
    """Return the events of transients that lie within 60 arcsec of theirs."""
    events = events.take(np.flatnonzero(events.origin >= 0))
    place = np.array([(t.dx_arcsec, t.dy_arcsec) for t in sky.transients]).reshape(-1, 2)[events.origin]
    offset = np.hypot(0.05 * (events.x - 25_921) - place[:, 0], 0.05 * (events.y - 25_921) - place[:, 1])
    return events.take(np.flatnonzero(offset < NEAR_ARCSEC))


def _count(events: RawEvents, sky: Sky) -> NDArray[np.int64]:
    """Return the number of events of each transient."""
    return np.bincount(events.origin[events.origin >= 0], minlength=len(sky.transients)).astype(np.int64)


def _listed_sources(sky: Sky, pointing: Pointing, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Return the sources that the pipeline would have found, with their errors."""
    place = np.array([(s.dx_arcsec, s.dy_arcsec) for s in sky.sources]).reshape(-1, 2)
    rate = np.array([s.rate for s in sky.sources])
    area = CAMERA["pn"].vignetting(*place.T)
    likelihood = 0.25 * rate * area * pointing.exposure_s * 0.7
    listed = likelihood > LIST_LIKELIHOOD_MIN
    place = place[listed] + rng.normal(0, LIST_ERROR_ARCSEC, (int(listed.sum()), 2))
    ra, dec = pointing.plane.to_icrs(*(pointing.plane.crpix + place.T / 0.05))
    return {
        "RA": ra,
        "DEC": dec,
        "RADEC_ERR": np.full(ra.size, LIST_ERROR_ARCSEC * np.sqrt(2)),
        "EP_DET_ML": likelihood[listed],
        "EP_EXTENT": np.array([s.extent_arcsec for s in sky.sources])[listed],
        "EP_TOT": rate[listed] * rng.normal(1, 0.05, ra.size),
    }


def _truth(sky: Sky, pointing: Pointing, recorded: Mapping[str, NDArray[np.int64]]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for i, transient in enumerate(sky.transients):
        x = pointing.plane.crpix + transient.dx_arcsec / 0.05
        y = pointing.plane.crpix + transient.dy_arcsec / 0.05
        ra, dec = pointing.plane.to_icrs(x, y)
        start = pointing.start_s + transient.start_s
        rows.append(
            {
                "obsid": pointing.obsid,
                "number": i,
                "kind": transient.kind,
                "ra_deg": float(ra),
                "dec_deg": float(dec),
                "x_sky": x,
                "y_sky": y,
                "t_start_s": start,
                "t_stop_s": start + transient.width_s,
                "width_s": transient.width_s,
                "counts_expected": transient.counts,
                **{f"n_{name}": int(counts[i]) for name, counts in recorded.items()},
            }
        )
    return pa.Table.from_pylist(rows, TRUTH)
