"""Where on the detector a region's photons fell, and in which read-outs: what tells an instrument from the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.backends import Backend
from xscan.clean import PixelMask
from xscan.config import Rules
from xscan.detect import Region
from xscan.frames import LiveTime
from xscan.grid import Grid
from xscan.model import CAMERAS, EventList, Photons, Voxels
from xscan.subsets import Subset

__all__ = ["Detector", "DetectorFacts"]

MOS_FRAME_S = 2.6
PN_FRAME_S = {"PrimeFullWindow": 0.0734, "PrimeFullWindowExtended": 0.1991, "PrimeLargeWindow": 0.0477}
"""Time between two read-outs (XMM-Newton Users' Handbook, table of EPIC's science modes).

Of MOS in a window mode these are the outer CCDs, the only ones that are searched."""

READOUT_ROW = 1.5
"""Rows of EXPOSUnn that last longer than so many frame times on the average are no single read-outs."""

PIXELS = {"pn": (64, 200), "m1": (600, 600), "m2": (600, 600)}
"""RAWX and RAWY of a CCD run from 1 to these."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DetectorFacts:
    """What the detector says of a region; about photons it is None where no voxel has too many counts.

    The photons are those of the voxels with too many counts, in the view's band.

    Attributes
    ----------
    n_pixels, n_ccds : int or None
        Distinct raw pixels and CCDs of all cameras.
    n_readouts : int or None
        Distinct read-outs; those of all CCDs of a camera at one moment are one.
    share_pixel, share_readout : float or None
        Largest part of the photons in one raw pixel, and in one read-out of one camera.
    edge_px : float or None
        Distance of the median raw position to the edge of the CCD, pixels; of the CCD with most photons.
    live : dict of str to float
        By camera: live fraction of the CCD on which the region lies, averaged over the flagged frames; 0 if
        that camera never saw a photon there.
    """

    n_pixels: int | None
    n_ccds: int | None
    n_readouts: int | None
    share_pixel: float | None
    share_readout: float | None
    edge_px: float | None
    live: dict[str, float]


class Detector:
    """The detector of a subset: its read-outs and the live time of its CCDs."""

    def __init__(self, subset: Subset, live: LiveTime, rules: Rules, backend: Backend) -> None:
        self._subset, self._live, self._rules, self._backend = subset, live, rules, backend
        self._readouts: dict[tuple[int, int], Floats] = {}  # when each began, by camera and CCD

    def facts(
        self, region: Region, voxels: Voxels, photons: Photons, pi_range: tuple[int, int], grid: Grid
    ) -> DetectorFacts:
        """Gather what the detector says of a region.

        Parameters
        ----------
        region : Region
        voxels : Voxels
            All flagged voxels of the view.
        photons : Photons
        pi_range : (int, int)
            The view's band, eV, the second exclusive.
        grid : Grid
        """
        members = region.members
        cell = voxels.y[members].astype(np.int64) * grid.box.nx + voxels.x[members]
        cells = cell[np.append(True, np.diff(cell) > 0)]  # voxels are in order of their cells
        y, x = np.divmod(cells, grid.box.nx)
        index, place = photons.of_cells(y + grid.box.y0, x + grid.box.x0)
        live = self._live_fractions(np.unique(voxels.t[members]), photons, index, grid)
        peak = np.flatnonzero(~voxels.eclipse[members])
        if peak.size == 0:
            return DetectorFacts(None, None, None, None, None, None, live)
        frame, pi = photons.tick[index] // grid.dt_ms, photons.pi[index]
        inside = (frame >= 0) & (frame < grid.nt) & (pi >= pi_range[0]) & (pi < pi_range[1])
        voxel, wanted = cells[place] * grid.nt + frame, cell[peak] * grid.nt + voxels.t[members[peak]]
        index = index[inside & (wanted[np.minimum(np.searchsorted(wanted, voxel), wanted.size - 1)] == voxel)]
        camera, pixel = photons.camera[index].astype(np.int64), photons.pixel[index].astype(np.int64)
        _, in_pixel = np.unique(camera << 32 | pixel, return_counts=True)
        ccds, in_ccd = np.unique(camera << 32 | _ccd(pixel), return_counts=True)
        in_readout = np.concatenate(
            [self._in_readouts(number, photons, index[camera == number], grid) for number in np.unique(camera).tolist()]
        )
        most = ccds[np.argmax(in_ccd)]
        return DetectorFacts(
            in_pixel.size,
            ccds.size,
            in_readout.size,
            float(in_pixel.max() / index.size),
            float(in_readout.max() / index.size),
            _to_edge(CAMERAS[most >> 32], pixel[(camera << 32 | _ccd(pixel)) == most]),
            live,
        )

    def _in_readouts(self, camera: int, photons: Photons, index: Ints, grid: Grid) -> Ints:
        """Count the photons of a camera in each of its read-outs."""
        frame_s = self._frame_s(camera)
        time = grid.t0 + (photons.tick[index] + 0.5) / 1000
        ccd = _ccd(photons.pixel[index].astype(np.int64))
        tables = {number: self._readout_starts(camera, number) for number in set(ccd.tolist())}
        reach = frame_s  # without tables: photons within a frame time may be of one read-out
        if all(starts.size for starts in tables.values()):
            reach = frame_s / 2  # the CCDs of one read-out differ by hundredths of a second
            for number, starts in tables.items():
                mine = ccd == number
                last = starts[np.maximum(np.searchsorted(starts, time[mine], side="right") - 1, 0)]
                time[mine] = last + np.floor((time[mine] - last) / frame_s) * frame_s
        counts: list[int] = []
        begun = -np.inf
        for moment in np.sort(time).tolist():
            if moment - begun >= reach:
                counts.append(0)
                begun = moment
            counts[-1] += 1
        return np.array(counts, np.int64)

    def _lists(self, camera: int) -> list[EventList]:
        return [events for events in self._subset.lists if events.camera == CAMERAS[camera]]

    def _frame_s(self, camera: int) -> float:
        """Give the time between two read-outs of a camera, s."""
        submode = self._lists(camera)[0].info.submode
        return PN_FRAME_S.get(submode, PN_FRAME_S["PrimeFullWindow"]) if CAMERAS[camera] == "pn" else MOS_FRAME_S

    def _readout_starts(self, camera: int, ccd: int) -> Floats:
        """Give when each read-out of a CCD began, as far as EXPOSUnn says; none if its rows are no read-outs."""
        if (camera, ccd) not in self._readouts:
            found = [np.empty(0)]
            for events in self._lists(camera):
                good = events.good_time.get(ccd)
                if good is not None and good.exposures is not None:
                    start, stop = good.exposures[0, 0::2], good.exposures[0, 1::2]
                    if (stop - start).mean() < READOUT_ROW * self._frame_s(camera):
                        found.append(start)
            self._readouts[camera, ccd] = np.sort(np.concatenate(found))
        return self._readouts[camera, ccd]

    def _live_fractions(self, frames: NDArray[np.int32], photons: Photons, index: Ints, grid: Grid) -> dict[str, float]:
        """Give each camera's live fraction in some frames, on the CCD that saw most of the given photons."""
        edges = grid.t0 + np.column_stack([frames, frames + 1]).ravel() * grid.dt_s
        camera, ccd = photons.camera[index], _ccd(photons.pixel[index].astype(np.int64))
        fractions = {}
        for events in self._subset.lists:
            mine = ccd[camera == CAMERAS.index(events.camera)]
            fractions[events.camera] = 0.0
            if mine.size:
                seconds = self._live_seconds(events.camera, int(np.argmax(np.bincount(mine))), edges)[::2]
                fractions[events.camera] = round(float(np.minimum(seconds / grid.dt_s, 1.0).mean()), 6)
        return fractions

    def _live_seconds(self, camera: str, ccd: int, edges: Floats) -> Floats:
        """Give the live time of a CCD between edges, s."""
        if not self._rules.live_time_rejection:  # no live time is kept
            return np.diff(edges)
        seconds = np.zeros(edges.size - 1)
        for place, events in enumerate(self._subset.lists):
            if events.camera == camera and (place, ccd) in self._live:
                seconds += self._backend.live_seconds(edges, self._live[place, ccd].good)
        return seconds


def _ccd(pixel: Ints) -> Ints:
    """Undo :func:`xscan.clean.pixel_number`."""
    return pixel // PixelMask.SIZE**2


def _to_edge(camera: str, pixel: Ints) -> float:
    """Give the distance of the median raw position to the edge of its CCD, pixels."""
    rawx = pixel // PixelMask.SIZE % PixelMask.SIZE - PixelMask.MARGIN
    rawy = pixel % PixelMask.SIZE - PixelMask.MARGIN
    x, y = (float(column[(column.size - 1) // 2] + column[column.size // 2]) / 2 for column in np.sort([rawx, rawy]))
    columns, rows = PIXELS[camera]
    return min(x - 1, columns - x, y - 1, rows - y)
