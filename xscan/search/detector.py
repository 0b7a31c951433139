"""Find where on the detector a region's photons fell, and in which read-outs: separates detector from sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscan.backends import EventLoops
from xscan.config import Rules
from xscan.model import Camera, EventList, PixelMask
from xscan.search.frames import LiveTime
from xscan.search.regions import Region
from xscan.search.subsets import Subset
from xscan.search.view import ViewData

__all__ = ["Detector", "DetectorFacts"]

READOUT_ROW = 1.5
"""Rows of EXPOSUnn that last on average longer than this many frame times are not single read-outs."""

_CAMERA, _PIXEL = 8, 24  # bits of a camera's and of a raw pixel's number
_ANY_CAMERA = (1 << _CAMERA) - 1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DetectorFacts:
    """Properties of a region on the detector; those of photons are None where no voxel has too many counts.

    The photons are those of the voxels with too many counts, in the view's band.

    Attributes
    ----------
    n_pixels, n_ccds : int or None
        Distinct raw pixels and CCDs of all cameras.
    n_readouts : int or None
        Distinct read-outs; those of all CCDs of a camera at one moment count as one.
    share_pixel, share_readout : float or None
        Largest fraction of the photons in one raw pixel, and in one read-out of one camera.
    edge_px : float or None
        Distance, pixels, of the median raw position to the edge of the CCD, on the CCD with most photons.
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

    def __init__(self, subset: Subset, live: LiveTime, rules: Rules, loops: EventLoops) -> None:
        self._subset, self._live, self._rules, self._loops = subset, live, rules, loops
        self._cameras = subset.lists[0].instrument.cameras
        self._readouts: dict[tuple[int, int], Floats] = {}  # when each began, by camera and CCD

    def facts(self, regions: Sequence[Region], data: ViewData) -> list[DetectorFacts]:
        """Return the detector facts of each region of a view.

        Parameters
        ----------
        regions : sequence of Region
            All of the view.
        data : ViewData
        """
        voxels, nt = data.voxels, data.grid.nt
        region_of = np.empty(len(voxels), np.int64)
        for number, region in enumerate(regions):
            region_of[region.members] = number
        cell = data.cell_numbers()  # rising: voxels are in order of cell
        cells = cell[np.append(True, np.diff(cell) > 0)]
        index, which, frame = data.photons_of_cells(cells)
        live = self._live_fractions(region_of, np.searchsorted(cells, cell), index, which, data)
        inside = frame >= 0
        index, key = index[inside], cells[which[inside]] * nt + frame[inside]
        peak = np.flatnonzero(~voxels.eclipse)
        flagged = np.append(cell[peak] * nt + voxels.t[peak], -1)
        voxel = np.searchsorted(flagged[:-1], key)
        mine = flagged[voxel] == key
        return self._of_photons(region_of[peak[voxel[mine]]], index[mine], live, data)

    def _of_photons(
        self, region: Ints, index: Ints, live: list[dict[str, float]], data: ViewData
    ) -> list[DetectorFacts]:
        """Build the facts of each region; ``region`` is the number of the region in which each photon lies."""
        photons = data.photons
        camera, pixel = photons.camera[index].astype(np.int64), photons.pixel[index].astype(np.int64)
        pixels, in_pixel = np.unique((region << _CAMERA | camera) << _PIXEL | pixel, return_counts=True)
        ccds, in_ccd = np.unique((region << _CAMERA | camera) << _PIXEL | _ccd(pixel), return_counts=True)
        readouts, in_readout = self._in_readouts(region, camera, index, data)
        whole = _CAMERA + _PIXEL
        n_pixels, n_ccds, n_readouts, n = (
            np.bincount(of, minlength=len(live)).tolist() for of in (pixels >> whole, ccds >> whole, readouts, region)
        )
        most_pixel, most_readout = np.zeros(len(live), np.int64), np.zeros(len(live), np.int64)
        np.maximum.at(most_pixel, pixels >> whole, in_pixel)
        np.maximum.at(most_readout, readouts, in_readout)
        order = np.argsort(region, kind="stable")
        facts, at, at_ccd = [], 0, 0
        for number, fractions in enumerate(live):
            if n[number] == 0:
                facts.append(DetectorFacts(None, None, None, None, None, None, fractions))
                continue
            own, at = order[at : at + n[number]], at + n[number]
            most = int(ccds[at_ccd + int(np.argmax(in_ccd[at_ccd : at_ccd + n_ccds[number]]))])
            at_ccd += n_ccds[number]
            of_most = (camera[own] == (most >> _PIXEL & _ANY_CAMERA)) & (_ccd(pixel[own]) == most & 15)
            facts.append(
                DetectorFacts(
                    n_pixels[number],
                    n_ccds[number],
                    n_readouts[number],
                    float(most_pixel[number] / n[number]),
                    float(most_readout[number] / n[number]),
                    _to_edge(self._cameras[most >> _PIXEL & _ANY_CAMERA], pixel[own][of_most]),
                    fractions,
                )
            )
        return facts

    def _in_readouts(self, region: Ints, camera: Ints, index: Ints, data: ViewData) -> tuple[Ints, Ints]:
        """Count photons by region, camera and read-out; return the region and the count of each such read-out."""
        time = data.grid.t0 + (data.photons.tick[index] + 0.5) / 1000
        ccd = _ccd(data.photons.pixel[index].astype(np.int64))
        frame_s = {number: self._frame_s(number) for number in np.unique(camera).tolist()}
        known, begun = np.ones(time.size, bool), time.copy()
        for number in np.unique(camera << 4 | ccd).tolist():
            mine, starts = (camera << 4 | ccd) == number, self._readout_starts(number >> 4, number & 15)
            if starts.size:
                length_s = frame_s[number >> 4]
                last = starts[np.maximum(np.searchsorted(starts, time[mine], side="right") - 1, 0)]
                begun[mine] = last + np.floor((time[mine] - last) / length_s) * length_s
            else:
                known[mine] = False
        # without tables for all its CCDs: photons within a frame time may be of one read-out
        group = region << _CAMERA | camera
        unknown = np.isin(group, group[~known])
        time = np.where(unknown, time, begun)
        order = np.lexsort((time, group))
        regions: list[int] = []
        counts: list[int] = []
        last_group, since = -1, -np.inf
        for one, moment, whole in zip(
            group[order].tolist(), time[order].tolist(), unknown[order].tolist(), strict=True
        ):
            # the CCDs of one read-out differ by hundredths of a second
            reach = frame_s[one & _ANY_CAMERA] if whole else frame_s[one & _ANY_CAMERA] / 2
            if one != last_group or moment - since >= reach:
                regions.append(one >> _CAMERA)
                counts.append(0)
                last_group, since = one, moment
            counts[-1] += 1
        return np.array(regions, np.int64), np.array(counts, np.int64)

    def _lists(self, camera: int) -> list[EventList]:
        return [events for events in self._subset.lists if events.camera == self._cameras[camera].name]

    def _frame_s(self, camera: int) -> float:
        """Return the time between two read-outs of a camera, s."""
        one = self._cameras[camera]
        return one.frame_s_by_submode.get(self._lists(camera)[0].info.submode, one.frame_s)

    def _readout_starts(self, camera: int, ccd: int) -> Floats:
        """Return when each read-out of a CCD began, s, from EXPOSUnn; empty if its rows are no single read-outs."""
        if (camera, ccd) not in self._readouts:
            found = [np.empty(0)]
            for events in self._lists(camera):
                good = events.good_time.get(ccd)
                if good is not None and good.livetime is not None:
                    start, stop = good.livetime[0, 0::2], good.livetime[0, 1::2]
                    if (stop - start).mean() < READOUT_ROW * self._frame_s(camera):
                        found.append(start)
            self._readouts[camera, ccd] = np.sort(np.concatenate(found))
        return self._readouts[camera, ccd]

    def _live_fractions(
        self, region: Ints, cell: Ints, index: Ints, which: Ints, data: ViewData
    ) -> list[dict[str, float]]:
        """Return each camera's live fraction in each region's frames, on the CCD that saw most photons of its cells.

        ``region`` and ``cell`` (from 0) are those of each voxel; ``index`` selects the photons of all these cells, and
        ``which`` is the cell of each.
        """
        photons, grid = data.photons, data.grid
        n_regions, n_cells = int(region.max()) + 1, int(cell.max()) + 1
        n_cameras, n_ccds = len(self._cameras), PixelMask.CCDS
        # few and narrow passes: these may be all photons of a bright source
        ccd = which * (n_cameras * n_ccds)
        ccd += photons.camera[index] * np.uint16(n_ccds)
        ccd += photons.pixel[index] // np.uint32(PixelMask.SIZE**2)
        seen = np.bincount(ccd, minlength=n_cells * n_cameras * n_ccds).reshape(n_cells, n_cameras, n_ccds)
        of, its_cell = np.divmod(np.unique(region * n_cells + cell), n_cells)
        by_ccd = np.zeros((n_regions, n_cameras, n_ccds), np.int64)
        np.add.at(by_ccd, of, seen[its_cell])
        most = by_ccd.argmax(axis=2)
        frames, number = np.unique(data.voxels.t, return_inverse=True)
        of, its_frame = np.divmod(np.unique(region * frames.size + number), frames.size)
        edges = np.asarray(grid.t0 + np.column_stack([frames, frames + 1]).ravel() * grid.dt_s, np.float64)
        live: list[dict[str, float]] = [{} for _ in range(n_regions)]
        for name in dict.fromkeys(events.camera for events in self._subset.lists):
            camera = self._subset.lists[0].instrument.number(name)
            fraction = np.zeros(of.size)
            for ccd_number in np.unique(most[:, camera]).tolist():
                mine = (most[of, camera] == ccd_number) & (by_ccd[of, camera, ccd_number] > 0)
                if mine.any():
                    seconds = self._live_seconds(name, ccd_number, edges)
                    fraction[mine] = np.minimum(seconds[its_frame[mine]] / grid.dt_s, 1.0)
            mean = np.bincount(of, fraction) / np.bincount(of)
            for facts, value in zip(live, mean.tolist(), strict=True):
                facts[name] = round(value, 6)
        return live

    def _live_seconds(self, camera: str, ccd: int, edges: Floats) -> Floats:
        """Return the live time of a CCD, s, between every other pair of edges: the 1st and 2nd, 3rd and 4th, ..."""
        if not self._rules.live_time_rejection:  # no live time is kept
            return edges[1::2] - edges[::2]
        seconds = np.zeros(edges.size // 2)
        for events, working in zip(self._subset.lists, self._live, strict=True):
            if events.camera == camera and ccd in working:
                until = self._loops.livetime_until(edges, working[ccd].good)
                seconds += until[1::2] - until[::2]
        return seconds


def _ccd(pixel: Ints) -> Ints:
    """Return the CCD that a pixel number of :func:`xscan.model.pixel_number` stands for."""
    return pixel // PixelMask.SIZE**2


def _to_edge(camera: Camera, pixel: Ints) -> float:
    """Return the distance of the median raw position to the edge of its CCD, pixels."""
    rawx = pixel // PixelMask.SIZE % PixelMask.SIZE - PixelMask.MARGIN
    rawy = pixel % PixelMask.SIZE - PixelMask.MARGIN
    x, y = (float(column[(column.size - 1) // 2] + column[column.size // 2]) / 2 for column in np.sort([rawx, rawy]))
    return min(x - 1, camera.columns - x, y - 1, camera.rows - y)
