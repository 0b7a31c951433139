"""Describe the cameras: positions of CCDs, sensitivity, read-out times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CAMERA", "Camera", "Ccd"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ccd:
    """One CCD: a rectangle on the focal plane.

    Attributes
    ----------
    number : int
        CCDNR.
    u0, v0 : float
        Lower left corner, arcsec from the optical axis.
    columns, rows : int
        Pixels along RAWX and RAWY.
    flip : bool
        Read out toward larger v: RAWX and RAWY count in the opposite direction.
    """

    number: int
    u0: float
    v0: float
    columns: int
    rows: int
    flip: bool


@dataclass(frozen=True, slots=True)
class Camera:
    """One EPIC camera.

    Attributes
    ----------
    name : str
        pn, m1 or m2.
    ccds : tuple of Ccd
    pixel_arcsec : float
        Side of a pixel.
    share : float
        Fraction of all counts of a source that this camera receives.
    frame_s : float
        Read-out time.
    roll_deg : float
        Rotation of the camera against the pointing's position angle.
    fov_arcsec : float
        Radius of the field of view.
    king_arcsec : float
        Core radius of the point spread function.
    particle_rate : float
        Particle background of all CCDs, ct/s.
    sky_rate : float
        Diffuse sky background in the field of view, ct/s.
    noise_rate : float
        Electronic noise below 300 eV, ct/s.
    out_of_time : float
        Fraction of events that arrive during read-out and get a wrong RAWY.
    """

    name: str
    ccds: tuple[Ccd, ...]
    pixel_arcsec: float
    share: float
    frame_s: float
    roll_deg: float
    fov_arcsec: float
    king_arcsec: float
    particle_rate: float
    sky_rate: float
    noise_rate: float
    out_of_time: float

    def rotation(self, pa_deg: float) -> Floats:
        """Return the matrix from (u, v) on the focal plane to offsets (x, y) on the sky, for a position angle."""
        angle = np.radians(pa_deg + self.roll_deg)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def locate(self, u: Floats, v: Floats) -> tuple[Ints, Ints, Ints]:
        """Return CCD, RAWX and RAWY of positions on the focal plane; CCD 0 in gaps and outside."""
        ccd = np.zeros(u.size, np.int64)
        rawx, rawy = np.zeros(u.size, np.int64), np.zeros(u.size, np.int64)
        for chip in self.ccds:
            column = np.floor((u - chip.u0) / self.pixel_arcsec).astype(np.int64)
            row = np.floor((v - chip.v0) / self.pixel_arcsec).astype(np.int64)
            inside = (column >= 0) & (column < chip.columns) & (row >= 0) & (row < chip.rows)
            ccd[inside] = chip.number
            if chip.flip:
                column, row = chip.columns - 1 - column, chip.rows - 1 - row
            rawx[inside], rawy[inside] = column[inside] + 1, row[inside] + 1
        return ccd, rawx, rawy

    def place(self, ccd: Ints, rawx: Ints, rawy: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return random positions, arcsec on the focal plane, within the given pixels."""
        table = np.zeros((16, 5))
        for chip in self.ccds:
            table[chip.number] = chip.u0, chip.v0, chip.columns, chip.rows, chip.flip
        u0, v0, columns, rows, flip = table[ccd].T
        column = np.where(flip > 0, columns - rawx, rawx - 1)
        row = np.where(flip > 0, rows - rawy, rawy - 1)
        jitter = rng.random((2, ccd.size))
        return u0 + (column + jitter[0]) * self.pixel_arcsec, v0 + (row + jitter[1]) * self.pixel_arcsec

    def vignetting(self, u: Floats, v: Floats) -> Floats:
        """Return the relative effective area; 0 outside the field of view."""
        off_axis = np.hypot(u, v)
        area = 1 / (1 + (off_axis / 640) ** 2.4)  # about a half at 10.7 arcmin, 0.3 at 14
        return np.where(off_axis <= self.fov_arcsec, area, 0.0)


def _pn() -> tuple[Ccd, ...]:
    """Twelve CCDs of 64 x 200 pixels in two rows, read out at their outer edges.

    The optical axis falls on CCD 4 near RAWX 37, RAWY 190, clear of the gaps between the rows and
    quadrants.
    """
    width, height, gap, middle = 64 * 4.1, 200 * 4.1, 1.6, 6.2
    axis_u, axis_v = middle / 2 + (64 - 37 + 0.5) * 4.1, middle / 2 + (200 - 190 + 0.5) * 4.1
    ccds = []
    for numbers, upper in (((3, 2, 1, 4, 5, 6), True), ((9, 8, 7, 10, 11, 12), False)):
        for along, number in enumerate(numbers):
            u0 = (along - 3) * (width + gap) + (middle if along >= 3 else -middle) / 2
            v0 = middle / 2 if upper else -middle / 2 - height
            ccds.append(Ccd(number, u0 - axis_u, v0 - axis_v, 64, 200, flip=upper))
    return tuple(sorted(ccds, key=lambda chip: chip.number))


def _mos() -> tuple[Ccd, ...]:
    """Seven CCDs of 600 x 600 pixels: a row of three, and two above and below."""
    side, gap = 600 * 1.1, 11.0
    step = side + gap
    middles = [(0, 0), (-0.5, 1), (0.5, 1), (1, 0), (0.5, -1), (-0.5, -1), (-1, 0)]
    return tuple(
        Ccd(number, x * step - side / 2, y * step - side / 2, 600, 600, flip=y > 0)
        for number, (x, y) in enumerate(middles, start=1)
    )


def _camera_mos(name: str, roll_deg: float) -> Camera:
    return Camera(
        name=name,
        ccds=_mos(),
        pixel_arcsec=1.1,
        share=0.21,
        frame_s=2.6,
        roll_deg=roll_deg,
        fov_arcsec=840.0,
        king_arcsec=4.9,
        particle_rate=0.95,
        sky_rate=1.05,
        noise_rate=0.25,
        out_of_time=0.003,
    )


CAMERA = {
    "pn": Camera(
        name="pn",
        ccds=_pn(),
        pixel_arcsec=4.1,
        share=0.58,
        frame_s=0.0733645,
        roll_deg=90.0,
        fov_arcsec=830.0,
        king_arcsec=6.6,
        particle_rate=2.6,
        sky_rate=3.4,
        noise_rate=1.2,
        out_of_time=0.063,
    ),
    "m1": _camera_mos("m1", 0.0),
    "m2": _camera_mos("m2", -90.0),
}
"""The three cameras; their rates are round numbers chosen for a realistic total, not measured."""
