"""Define the result tables: every column with its type, unit and meaning.

Unit and description are in the metadata of each Arrow field (keys ``unit`` and ``description``) and
are stored in the Parquet files.
"""

from __future__ import annotations

import pyarrow as pa

from xscan.model import CAMERAS

__all__ = [
    "CIRCUMSTANCES",
    "CUTS",
    "EVENTS",
    "IDENTIFIERS",
    "IMAGES",
    "INPUTS",
    "LIGHTCURVES",
    "REGIONS",
    "RUNS",
    "RUNS_WITH_INPUTS",
    "SCHEMAS",
    "VOXELS",
    "column",
]

FORMAT_VERSION = 6

CUTS = {
    "time": "TIME not a finite number, or days from all others",
    "pi": "PI outside 200..12000 eV",
    "pattern": "PATTERN above 4 (pn) or 12 (MOS)",
    "flag": "FLAG says bad, by the list's own XMMEA expression",
    "detector": "bad columns and borders of pn, central CCD of MOS in window modes",
    "hot_pixel": "in the user's hot-pixel tables",
    "bad_pixel": "in the list's BADPIXnn tables",
    "null_xy": "no place on the sky",
    "good_time": "outside the good time of its CCD",
    "ccd_not_working": "its CCD was live for less than half as long as the best of its camera",
    "common_time": "outside the time range that the lists have in common",
}
"""Cuts on events, in the order in which they are applied."""

_NOTE = "mission time (since MJD 50814, by timesys and timeref of runs)"
_UTC = "UTC, ISO 8601 to the millisecond; null if not known, as for barycentred times"


def column(name: str, kind: pa.DataType, unit: str, description: str, nullable: bool = False) -> pa.Field:
    """Return a column with its unit and meaning, which are in the field's metadata."""
    return pa.field(name, kind, nullable, {"unit": unit, "description": description})


_ID = [
    column("obsid", pa.string(), "", "observation identifier, ten digits"),
]
_VIEW = [
    column("subset", pa.int32(), "", "group of event lists searched together, from 0 in order of time"),
    column("dt_s", pa.float64(), "s", "length of a frame; in runs and images null for the search by windows"),
    column("band_lo_kev", pa.float64(), "keV", "lower end of the band, inclusive"),
    column("band_hi_kev", pa.float64(), "keV", "upper end of the band, exclusive"),
]

_FILE = [
    column("file", pa.string(), "", "name of the file"),
    column("role", pa.string(), "", "events or sources"),
    column("bytes", pa.int64(), "byte", "size on disk"),
    column("date", pa.string(), "", "when the pipeline made it, ISO 8601; empty if the file does not say"),
    column("camera", pa.string(), "", f"{', '.join(CAMERAS)}; empty for a source list"),
    column("exposure", pa.string(), "", "exposure identifier, such as S003"),
    column("submode", pa.string(), "", "SUBMODE"),
    column("filter", pa.string(), "", "FILTER"),
    column("n_rows", pa.int64(), "", "rows read"),
    *(
        column(f"cut_{name}", pa.int64(), "", f"events removed: {meaning}; null if not applied", True)
        for name, meaning in CUTS.items()
    ),
    column("reason", pa.string(), "", "why the file was not used; null if it was", True),
    column("message", pa.string(), "", "the sentence for the reason, or a remark", True),
]

_CAMERA_SECONDS = [
    column(f"{what}_s_{camera}", pa.float64(), "s", f"{camera}: {meaning}; null if the camera is absent", True)
    for camera in CAMERAS
    for what, meaning in (
        ("good", "live time in good frames"),
        ("bad", "live time in frames of high particle background, searched with their own template"),
        ("rejected", "live time in frames that were not searched"),
        ("lost", "good time outside the frames: before or after the time in common, or the rest"),
    )
]

RUNS = pa.schema(
    [
        *_ID,
        *(field.with_nullable(True) for field in _VIEW),
        column("state", pa.string(), "", "done, empty (no event), skipped (cannot be searched) or failed"),
        column("reason", pa.string(), "", "reason code where the state is not done", True),
        column("message", pa.string(), "", "the sentence for the reason", True),
        column("remarks", pa.string(), "", "what may be wrong with the regions, sentences joined by '; '", True),
        column("target", pa.string(), "", "OBJECT of the event lists"),
        column("n_found", pa.int32(), "", "events found by the search by windows; null for a view", True),
        column("n_regions", pa.int32(), "", "regions found"),
        column("n_voxels", pa.int64(), "", "voxels flagged"),
        column("n_events", pa.int64(), "", "events of the band in the frames and box of this view"),
        column("n_events_rejected", pa.int64(), "", "of these, events in rejected frames", True),
        column("n_candidates", pa.int32(), "", "windows that were weighed; null for a view", True),
        column("far", pa.float64(), "", "false events asked for; null for a view", True),
        column("llr_min", pa.float64(), "", "log likelihood ratio of the weakest event; null for a view", True),
        column(
            "trials",
            pa.float64(),
            "s",
            "sum over cells and time of (rate / 0.001 ct/s)**0.35, to which false events are proportional; null for a "
            "view",
            True,
        ),
        column("n_voxels_searched", pa.int64(), "", "voxels with an expectation: the number of trials", True),
        column("n_frames", pa.int32(), "", "frames", True),
        column("n_frames_bad", pa.int32(), "", "frames of high particle background", True),
        column("n_frames_rejected", pa.int32(), "", "frames not searched", True),
        column("n_cells", pa.int32(), "", "cells of the box searched", True),
        column("n_cells_masked", pa.int32(), "", "cells in the source mask", True),
        column("t_start_s", pa.float64(), "s", f"start of the first frame, {_NOTE}", True),
        column("t_stop_s", pa.float64(), "s", f"end of the last frame, {_NOTE}", True),
        column("timesys", pa.string(), "", "TIMESYS of mission time: TT, or TDB", True),
        column("timeref", pa.string(), "", "TIMEREF of mission time: LOCAL, or SOLARSYSTEM if barycentred", True),
        column("t_start_utc", pa.string(), "", f"start of the first frame, {_UTC}", True),
        column("t_stop_utc", pa.string(), "", f"end of the last frame, {_UTC}", True),
        *_CAMERA_SECONDS,
        column("source_list", pa.string(), "", "used, absent, or the reason code why it could not be used"),
        column(
            "inputs_digest",
            pa.string(),
            "",
            "digest of the files searched; empty if there was no folder or it was scanned from memory",
        ),
        column("xscan_version", pa.string(), "", "version of xscan"),
        column("profile", pa.string(), "", "configuration profile"),
        column("config_digest", pa.string(), "", "digest of the configuration and hot-pixel tables"),
        column("code_digest", pa.string(), "", "digest of the part of xscan that decides results"),
        column("backend", pa.string(), "", "backend that searched"),
        column("seconds_read", pa.float64(), "s", "wall time spent reading the observation"),
        column(
            "seconds_spent",
            pa.float64(),
            "s",
            "wall time spent on this view, its subset's preparation counted to the first",
        ),
        column("finished_utc", pa.timestamp("ms", "UTC"), "", "when this observation was finished"),
    ]
)

_PEAK = "of the photons in voxels with too many counts; null if there is none"

_DETECTOR = [
    column("n_pixels", pa.int32(), "", f"distinct raw pixels (camera, CCD, RAWX, RAWY) {_PEAK}", True),
    column("n_ccds", pa.int32(), "", f"distinct CCDs {_PEAK}", True),
    column(
        "n_readouts",
        pa.int32(),
        "",
        "distinct read-outs, those of all CCDs of a camera at one moment counted once (EXPOSUnn rows, else photons "
        f"within one frame time) {_PEAK}",
        True,
    ),
    column("share_pixel", pa.float64(), "", f"largest share in one raw pixel {_PEAK}", True),
    column("share_readout", pa.float64(), "", f"largest share in one read-out of one camera {_PEAK}", True),
    column(
        "edge_px",
        pa.float64(),
        "pixel",
        "distance of the median raw position to the edge of the CCD (pn 64 x 200, MOS 600 x 600), on the CCD with most "
        f"{_PEAK}",
        True,
    ),
    *(
        column(
            f"live_{camera}",
            pa.float64(),
            "",
            f"{camera}: live fraction, averaged over the flagged frames, of the CCD that sees most of the place; 0 if "
            "none ever saw a photon there, null if the camera is absent",
            True,
        )
        for camera in CAMERAS
    ),
]

INPUTS = pa.schema(
    [
        *_ID,
        column(
            "subset",
            pa.int32(),
            "",
            "group of event lists that this one was searched in; null of a source list, which serves all, and of a "
            "file that was not used",
            True,
        ),
        *_FILE,
    ]
)

RUNS_WITH_INPUTS = RUNS.append(
    column("inputs", pa.list_(pa.struct(_FILE)), "", "files of this row's subset and what became of them")
)
"""The rows of ``runs`` as a scan gives them in memory; what is stored is flat (:data:`RUNS`, :data:`INPUTS`)."""

_DET_ID = column("det_id", pa.string(), "", "region identifier: obsid_subset_dt_lo_hi_label")
_OF = column("det_id", pa.string(), "", "identifier of the region (det_id) or event (event_id)")

REGIONS = pa.schema(
    [
        _DET_ID,
        *_ID,
        *_VIEW,
        column("label", pa.int32(), "", "number of the region in its view, from 0"),
        column("ra_deg", pa.float64(), "deg", "right ascension, ICRS, fitted to the photons of the flagged time"),
        column("dec_deg", pa.float64(), "deg", "declination, ICRS, fitted to the photons of the flagged time"),
        column(
            "pos_err_arcsec",
            pa.float64(),
            "arcsec",
            "1-sigma error of the place along each axis, without the error of the attitude",
        ),
        column(
            "ra_cells_deg", pa.float64(), "deg", "right ascension, ICRS, of the count-weighted centroid of the cells"
        ),
        column("dec_cells_deg", pa.float64(), "deg", "declination, ICRS, of the count-weighted centroid of the cells"),
        column("x_sky", pa.float64(), "0.05 arcsec", "X of the place, sky pixel"),
        column("y_sky", pa.float64(), "0.05 arcsec", "Y of the place, sky pixel"),
        column("bbox_x0", pa.int32(), "cell", "bounding box: first cell along X, of the whole plane"),
        column("bbox_x1", pa.int32(), "cell", "bounding box: end along X, exclusive"),
        column("bbox_y0", pa.int32(), "cell", "bounding box: first cell along Y, of the whole plane"),
        column("bbox_y1", pa.int32(), "cell", "bounding box: end along Y, exclusive"),
        column("cell_arcsec", pa.float64(), "arcsec", "true side of a cell"),
        column("area_cells", pa.int32(), "cell", "cells with a flagged voxel"),
        column(
            "parent",
            pa.string(),
            "",
            "det_id of the brighter region of this view that explains this one: by its wings, or an eclipse because "
            "the expectation holds its counts; null if it stands for itself",
            True,
        ),
        column("kind", pa.string(), "", "peak or eclipse; with profile exod2 also both"),
        column("n_peak", pa.int32(), "", "voxels with too many counts"),
        column("n_eclipse", pa.int32(), "", "voxels with too few counts"),
        column("n_pn", pa.int64(), "count", "counts of pn in the flagged voxels"),
        column("n_m1", pa.int64(), "count", "counts of MOS1 in the flagged voxels"),
        column("n_m2", pa.int64(), "count", "counts of MOS2 in the flagged voxels"),
        *_DETECTOR,
        column("t_start_s", pa.float64(), "s", f"start of the first flagged frame, {_NOTE}"),
        column("t_stop_s", pa.float64(), "s", f"end of the last flagged frame, {_NOTE}"),
        column("t_start_utc", pa.string(), "", f"start of the first flagged frame, {_UTC}", True),
        column("t_stop_utc", pa.string(), "", f"end of the last flagged frame, {_UTC}", True),
        column("mjd_start", pa.float64(), "d", "start of the first flagged frame, MJD (UTC); null where UTC is", True),
        column("mjd_stop", pa.float64(), "d", "end of the last flagged frame, MJD (UTC); null where UTC is", True),
        column("n_max", pa.int64(), "count", "counts of the most significant voxel (largest log10 B)"),
        column("mu_at_max", pa.float64(), "count", "expected counts of that voxel"),
        column("log10_b_max", pa.float64(), "", "log10 of the Bayes factor of that voxel"),
        column("sigma_max", pa.float64(), "sigma", "equivalent of log10_b_max at mu = 1000, 0..10; a label: see p_min"),
        column("p_min", pa.float64(), "", "smallest exact Poisson tail of a flagged voxel, before trials"),
        column("log10_p_min", pa.float64(), "", "log10 of p_min, also where p_min itself underflows to 0"),
        column("counts_total", pa.int64(), "count", "counts of the region's cells in all frames not rejected"),
    ]
)

EVENTS = pa.schema(
    [
        column("event_id", pa.string(), "", "event identifier: obsid_subset_start_place"),
        *_ID,
        _VIEW[0],
        column("kind", pa.string(), "", "peak or eclipse"),
        column(
            "variable",
            pa.bool_(),
            "",
            "a known source that varies slowly: the event is longer than 1 ks and changes it by less than what it "
            "gives",
        ),
        column("ra_deg", pa.float64(), "deg", "right ascension, ICRS, fitted to the photons"),
        column("dec_deg", pa.float64(), "deg", "declination, ICRS, fitted to the photons"),
        column(
            "pos_err_arcsec",
            pa.float64(),
            "arcsec",
            "1-sigma error of the place along each axis, without the error of the attitude",
        ),
        column("x_sky", pa.float64(), "0.05 arcsec", "X of the place, sky pixel"),
        column("y_sky", pa.float64(), "0.05 arcsec", "Y of the place, sky pixel"),
        column("t_start_s", pa.float64(), "s", f"start of the likeliest window, {_NOTE}"),
        column("t_stop_s", pa.float64(), "s", f"end of the likeliest window, {_NOTE}"),
        column("t_start_utc", pa.string(), "", f"start of the likeliest window, {_UTC}", True),
        column("t_stop_utc", pa.string(), "", f"end of the likeliest window, {_UTC}", True),
        column("mjd_start", pa.float64(), "d", "start of the likeliest window, MJD (UTC); null where UTC is", True),
        column("mjd_stop", pa.float64(), "d", "end of the likeliest window, MJD (UTC); null where UTC is", True),
        column(
            "llr",
            pa.float64(),
            "",
            "natural logarithm of the likelihood ratio: a source in the window against a constant one; for an eclipse "
            "of the counts n against mu",
        ),
        column("n_false", pa.float64(), "", "events at least as strong expected by chance in this observation"),
        column(
            "counts",
            pa.float64(),
            "count",
            "counts that the source has more (for an eclipse: fewer) than its constant rate, its whole image included",
        ),
        column("constant", pa.float64(), "count", "counts that the constant source at the place gives in the window"),
        column("spectrum", pa.string(), "", "the likeliest of soft, middle and hard; null for an eclipse", True),
        column("n", pa.int32(), "count", "counts of the least probable window of a cell of 20 arcsec"),
        column("mu", pa.float64(), "count", "expected counts of that window, given the cell's counts outside it"),
        column("log10_p", pa.float64(), "", "log10 of the probability of n or more (eclipse: fewer), before trials"),
        column("band_lo_kev", pa.float64(), "keV", "lower end of the band of that window, inclusive"),
        column("band_hi_kev", pa.float64(), "keV", "upper end of the band of that window, exclusive"),
        *(
            column(f"n_{camera}", pa.int64(), "count", f"counts of {camera} within 20 arcsec in the likeliest window")
            for camera in CAMERAS
        ),
        column("n_pixels", pa.int32(), "", "distinct raw pixels (camera, CCD, RAWX, RAWY) of these"),
        column("share_pixel", pa.float64(), "", "largest share of these in one raw pixel"),
        column("share_readout", pa.float64(), "", "largest share of these within one read-out time of one camera"),
    ]
)

VOXELS = pa.schema(
    [
        _DET_ID,
        *_ID,
        column("x", pa.int32(), "cell", "cell along X, of the whole plane"),
        column("y", pa.int32(), "cell", "cell along Y, of the whole plane"),
        column("t_index", pa.int32(), "frame", "frame, from 0"),
        column("t_start_s", pa.float64(), "s", f"start of the frame, {_NOTE}"),
        column("n", pa.int32(), "count", "counts"),
        column("mu", pa.float64(), "count", "expected counts"),
        column("kind", pa.string(), "", "peak or eclipse"),
        column("p", pa.float64(), "", "exact Poisson tail, before trials"),
    ]
)


def _list(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return column(name, pa.list_(pa.field("item", kind, True)), unit, description)


LIGHTCURVES = pa.schema(
    [
        _OF,
        *_ID,
        column("dt_s", pa.float64(), "s", "length of a frame"),
        _list("time_s", pa.float64(), "s", f"start of each frame, {_NOTE}"),
        _list(
            "n",
            pa.int32(),
            "count",
            "counts in a region's bounding box, or within 20 arcsec of an event; 0 in rejected frames",
        ),
        _list("mu", pa.float64(), "count", "expected counts; null where undefined"),
        _list("live", pa.float32(), "", "live fraction of the frame, all cameras together, dead time included"),
        _list("bad", pa.bool_(), "", "frame of high particle background"),
        _list("rejected", pa.bool_(), "", "frame not searched"),
    ]
)
"""The Bayes factors of a frame are not stored, because they follow from its counts and expectation
(:func:`xscan.bayes.log10_bayes`). :func:`xscan.report.export.write_lightcurves` writes them too."""

IMAGES = pa.schema(
    [
        *_ID,
        _VIEW[0],
        _VIEW[1].with_nullable(True),
        *_VIEW[2:],
        column("t_start_s", pa.float64(), "s", f"start of the time in which the counts were taken, {_NOTE}"),
        column("t_stop_s", pa.float64(), "s", f"end of that time, {_NOTE}"),
        column("ra_ref_deg", pa.float64(), "deg", "right ascension, FK5, of the reference point of the tangent plane"),
        column("dec_ref_deg", pa.float64(), "deg", "declination, FK5, of the reference point of the tangent plane"),
        column("xy_ref", pa.float64(), "sky pixel", "X and Y of the reference point"),
        column("sky_n", pa.int32(), "sky pixel", "sky pixels along a side of the plane"),
        column("sky_arcsec", pa.float64(), "arcsec", "side of a sky pixel"),
        column("n_cells", pa.int32(), "cell", "cells along a side of the plane"),
        column("x0", pa.int32(), "cell", "first cell of the image along X, of the whole plane"),
        column("y0", pa.int32(), "cell", "first cell of the image along Y, of the whole plane"),
        column("nx", pa.int32(), "cell", "cells along X"),
        column("ny", pa.int32(), "cell", "cells along Y"),
        _list("counts", pa.int32(), "count", "counts of each cell in all searched frames, X fastest"),
        _list("mask", pa.bool_(), "", "cell in the source mask: bright cells and listed sources"),
    ]
)
"""One image of each subset, that of the search by windows, else of the view with the widest band and then with most
events: what pictures need beside the other tables."""

CIRCUMSTANCES = {"xscan_version", "backend", "seconds_read", "seconds_spent", "finished_utc"}
"""Columns that may differ between two runs of the same search."""

SCHEMAS = {
    "runs": RUNS,
    "inputs": INPUTS,
    "events": EVENTS,
    "regions": REGIONS,
    "voxels": VOXELS,
    "lightcurves": LIGHTCURVES,
    "images": IMAGES,
}


IDENTIFIERS = {"events": "event_id", "regions": "det_id"}
"""Tables of what was found, and the column that names each row; both names stand in ``det_id`` of ``lightcurves``."""


def markdown() -> str:
    """Return the description of all tables, for docs/tables.md."""
    lines = [
        "# Tables",
        "",
        "Written by `scripts/tables-doc` from `xscan/schema.py`; unit and description also stand in each column's",
        "metadata. Times are mission time: seconds since MJD 50814, in TT at the satellite unless `timesys` and",
        "`timeref` of `runs` say else. `x`, `y` and `bbox` are cells of the whole plane, the same for every view of",
        "one cell size.",
    ]
    for name, schema in SCHEMAS.items():
        lines += ["", f"## {name}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [_markdown_row(field) for field in schema]
    return "\n".join(lines)


def _markdown_row(field: pa.Field) -> str:
    kind = str(field.type).replace("<item: ", " of ").rstrip(">")
    unit, meaning = (field.metadata[key].decode() for key in (b"unit", b"description"))
    return f"| `{field.name}` | {kind}{', nullable' if field.nullable else ''} | {unit} | {meaning} |"


if __name__ == "__main__":
    print(markdown())
