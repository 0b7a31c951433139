"""The result tables: every column with its type, unit and meaning.

Unit and description stand in each Arrow field's metadata (keys ``unit`` and ``description``) and
travel with the Parquet files.
"""

from __future__ import annotations

import pyarrow as pa

from xscan.model import CAMERAS

__all__ = ["CUTS", "LIGHTCURVES", "REGIONS", "RUNS", "SCHEMAS", "VOXELS"]

FORMAT_VERSION = 1

CUTS = {
    "time": "TIME not a finite number",
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

_NOTE = "mission time (TT, MJDREF 50814, not barycentred)"


def _field(name: str, kind: pa.DataType, unit: str, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"unit": unit, "description": description})


_ID = [
    _field("obsid", pa.string(), "", "observation identifier, ten digits"),
]
_VIEW = [
    _field("subset", pa.int32(), "", "group of event lists searched together, from 0 in order of time"),
    _field("dt_s", pa.float64(), "s", "length of a frame"),
    _field("band_lo_kev", pa.float64(), "keV", "lower end of the band, inclusive"),
    _field("band_hi_kev", pa.float64(), "keV", "upper end of the band, exclusive"),
]

_INPUT = pa.struct(
    [
        _field("file", pa.string(), "", "name of the file"),
        _field("role", pa.string(), "", "events or sources"),
        _field("bytes", pa.int64(), "byte", "size on disk"),
        _field("date", pa.string(), "", "when the pipeline made it, ISO 8601; empty if the file does not say"),
        _field("camera", pa.string(), "", f"{', '.join(CAMERAS)}; empty for a source list"),
        _field("exposure", pa.string(), "", "exposure identifier, such as S003"),
        _field("submode", pa.string(), "", "SUBMODE"),
        _field("filter", pa.string(), "", "FILTER"),
        _field("n_rows", pa.int64(), "", "rows read"),
        *(
            _field(f"cut_{name}", pa.int64(), "", f"events removed: {meaning}; null if not applied", True)
            for name, meaning in CUTS.items()
        ),
        _field("reason", pa.string(), "", "why the file was not used; null if it was", True),
        _field("message", pa.string(), "", "the sentence for the reason, or a remark", True),
    ]
)

_CAMERA_SECONDS = [
    _field(f"{what}_s_{camera}", pa.float64(), "s", f"{camera}: {meaning}; null if the camera is absent", True)
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
        _field("state", pa.string(), "", "done, empty (no event), skipped (cannot be searched) or failed"),
        _field("reason", pa.string(), "", "reason code where the state is not done", True),
        _field("message", pa.string(), "", "the sentence for the reason", True),
        _field("target", pa.string(), "", "OBJECT of the event lists"),
        _field("n_regions", pa.int32(), "", "regions found"),
        _field("n_voxels", pa.int64(), "", "voxels flagged"),
        _field("n_events", pa.int64(), "", "events of the band in the frames and box of this view"),
        _field("n_events_rejected", pa.int64(), "", "of these, events in rejected frames", True),
        _field("n_voxels_searched", pa.int64(), "", "voxels with an expectation: the number of trials", True),
        _field("n_frames", pa.int32(), "", "frames", True),
        _field("n_frames_bad", pa.int32(), "", "frames of high particle background", True),
        _field("n_frames_rejected", pa.int32(), "", "frames not searched", True),
        _field("n_cells", pa.int32(), "", "cells of the box searched", True),
        _field("n_cells_masked", pa.int32(), "", "cells in the source mask", True),
        _field("t_start_s", pa.float64(), "s", f"start of the first frame, {_NOTE}", True),
        _field("t_stop_s", pa.float64(), "s", f"end of the last frame, {_NOTE}", True),
        *_CAMERA_SECONDS,
        _field("source_list", pa.string(), "", "used, absent, or the reason code why it could not be used"),
        _field("inputs", pa.list_(_INPUT), "", "files of the observation and what became of them"),
        _field("xscan_version", pa.string(), "", "version of xscan"),
        _field("profile", pa.string(), "", "configuration profile"),
        _field("config_digest", pa.string(), "", "fingerprint of the configuration and hot-pixel tables"),
        _field("backend", pa.string(), "", "backend that searched"),
        _field("seconds_read", pa.float64(), "s", "wall time spent reading the observation"),
        _field(
            "seconds_spent",
            pa.float64(),
            "s",
            "wall time spent on this view, its subset's preparation counted to the first",
        ),
        _field("finished_utc", pa.timestamp("ms", "UTC"), "", "when this observation was finished"),
    ]
)

_DET_ID = _field("det_id", pa.string(), "", "region identifier: obsid_subset_dt_lo_hi_label")

REGIONS = pa.schema(
    [
        _DET_ID,
        *_ID,
        *_VIEW,
        _field("label", pa.int32(), "", "number of the region in its view, from 0"),
        _field("ra_deg", pa.float64(), "deg", "right ascension, ICRS, fitted to the photons of the flagged time"),
        _field("dec_deg", pa.float64(), "deg", "declination, ICRS, fitted to the photons of the flagged time"),
        _field("pos_err_arcsec", pa.float64(), "arcsec", "statistical 1-sigma error of the place along each axis"),
        _field(
            "ra_cells_deg", pa.float64(), "deg", "right ascension, ICRS, of the count-weighted centroid of the cells"
        ),
        _field("dec_cells_deg", pa.float64(), "deg", "declination, ICRS, of the count-weighted centroid of the cells"),
        _field("x_sky", pa.float64(), "0.05 arcsec", "X of the place, sky pixel"),
        _field("y_sky", pa.float64(), "0.05 arcsec", "Y of the place, sky pixel"),
        _field("bbox_x0", pa.int32(), "cell", "bounding box: first cell along X, of the whole plane"),
        _field("bbox_x1", pa.int32(), "cell", "bounding box: end along X, exclusive"),
        _field("bbox_y0", pa.int32(), "cell", "bounding box: first cell along Y, of the whole plane"),
        _field("bbox_y1", pa.int32(), "cell", "bounding box: end along Y, exclusive"),
        _field("cell_arcsec", pa.float64(), "arcsec", "true side of a cell"),
        _field("area_cells", pa.int32(), "cell", "cells with a flagged voxel"),
        _field("kind", pa.string(), "", "peak, eclipse or both"),
        _field("n_peak", pa.int32(), "", "voxels with too many counts"),
        _field("n_eclipse", pa.int32(), "", "voxels with too few counts"),
        _field("n_pn", pa.int64(), "count", "counts of pn in the flagged voxels"),
        _field("n_m1", pa.int64(), "count", "counts of MOS1 in the flagged voxels"),
        _field("n_m2", pa.int64(), "count", "counts of MOS2 in the flagged voxels"),
        _field("t_start_s", pa.float64(), "s", f"start of the first flagged frame, {_NOTE}"),
        _field("t_stop_s", pa.float64(), "s", f"end of the last flagged frame, {_NOTE}"),
        _field("n_max", pa.int64(), "count", "counts of the most significant voxel (largest log10 B)"),
        _field("mu_at_max", pa.float64(), "count", "expected counts of that voxel"),
        _field("log10_b_max", pa.float64(), "", "log10 of the Bayes factor of that voxel"),
        _field("sigma_max", pa.float64(), "sigma", "equivalent of log10_b_max at mu = 1000, 0..10; a label: see p_min"),
        _field("p_min", pa.float64(), "", "smallest exact Poisson tail of a flagged voxel, before trials"),
        _field("log10_p_min", pa.float64(), "", "log10 of p_min, also where p_min itself underflows to 0"),
        _field("counts_total", pa.int64(), "count", "counts of the region's cells in all frames not rejected"),
    ]
)

VOXELS = pa.schema(
    [
        _DET_ID,
        *_ID,
        _field("x", pa.int32(), "cell", "cell along X, of the whole plane"),
        _field("y", pa.int32(), "cell", "cell along Y, of the whole plane"),
        _field("t_index", pa.int32(), "frame", "frame, from 0"),
        _field("t_start_s", pa.float64(), "s", f"start of the frame, {_NOTE}"),
        _field("n", pa.int32(), "count", "counts"),
        _field("mu", pa.float64(), "count", "expected counts"),
        _field("kind", pa.string(), "", "peak or eclipse"),
        _field("p", pa.float64(), "", "exact Poisson tail, before trials"),
    ]
)


def _list(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return _field(name, pa.list_(pa.field("item", kind, True)), unit, description)


LIGHTCURVES = pa.schema(
    [
        _DET_ID,
        *_ID,
        _field("dt_s", pa.float64(), "s", "length of a frame"),
        _list("time_s", pa.float64(), "s", f"start of each frame, {_NOTE}"),
        _list("n", pa.int32(), "count", "counts in the region's bounding box; 0 in rejected frames"),
        _list("mu", pa.float64(), "count", "expected counts; null where undefined"),
        _list("bad", pa.bool_(), "", "frame of high particle background"),
        _list("rejected", pa.bool_(), "", "frame not searched"),
        _list("log10_b_peak", pa.float64(), "", "log10 of the Bayes factor for too many counts; null where undefined"),
        _list(
            "log10_b_eclipse", pa.float64(), "", "log10 of the Bayes factor for too few counts; null where undefined"
        ),
    ]
)

SCHEMAS = {"runs": RUNS, "regions": REGIONS, "voxels": VOXELS, "lightcurves": LIGHTCURVES}


def markdown() -> str:
    """Describe all tables, for docs/tables.md."""
    lines = [
        "# Tables",
        "",
        "Written by `scripts/tables-doc` from `xscan/schema.py`; unit and description also stand in each column's",
        "metadata. Times are mission time: seconds (TT) since MJDREF 50814, not barycentred. `x`, `y` and `bbox` are",
        "cells of the whole plane, the same for every view of one cell size.",
    ]
    for name, schema in SCHEMAS.items():
        lines += ["", f"## {name}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        for field in schema:
            lines += _markdown_row(field)
            if field.name == "inputs":
                for child in field.type.value_type:
                    lines += _markdown_row(child, "inputs.")
    return "\n".join(lines)


def _markdown_row(field: pa.Field, prefix: str = "") -> list[str]:
    kind = "list of struct" if field.name == "inputs" else str(field.type).replace("<item: ", " of ").rstrip(">")
    unit, meaning = (field.metadata[key].decode() for key in (b"unit", b"description"))
    return [f"| `{prefix}{field.name}` | {kind}{', nullable' if field.nullable else ''} | {unit} | {meaning} |"]


if __name__ == "__main__":
    print(markdown())
