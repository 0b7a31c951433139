"""Observations made in memory: fields, point sources and bursts with a King profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.lists import CENTRE, T0
from xscan.backends import get_backend
from xscan.config import View, load_config
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CcdTime, EventList, InputFile, Observation, pixel_number
from xscan.search.observation import ViewResult, search_observation
from xscan.sky import TangentPlane

SHARE = {"pn": 0.58, "m1": 0.21, "m2": 0.21}
FIELD_RATE = {"pn": 4.0, "m1": 1.5, "m2": 1.5}  # ct/s
REACH_ARCSEC = 300.0


@dataclass
class Events:
    """Events of one camera; time in s since T0, places in sky pixels."""

    time: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    ccd: ArrayLike = 2
    rawx: ArrayLike = 100
    rawy: ArrayLike = 100

    def moved(self, after_s: float, dx: float, dy: float) -> Events:
        """The same, from some time on elsewhere."""
        late = self.time > after_s
        return Events(self.time, self.x + late * dx, self.y + late * dy, self.ccd, self.rawx, self.rawy)


def field(rng: np.random.Generator, seconds: float, rate: float, reach_px: int = 9000) -> Events:
    """A flat square field of constant rate (ct/s)."""
    n = rng.poisson(rate * seconds)
    x, y = rng.uniform(CENTRE - reach_px, CENTRE + reach_px, (2, n))
    return Events(rng.uniform(0, seconds, n), x, y)


def source(
    rng: np.random.Generator, n: int, place: tuple[float, float], start: float, width: float, core: float = 5.0
) -> Events:
    """Photons of a point source, even in time: a King profile of slope 1.5, within 300 arcsec."""
    within = 1 - (1 + (REACH_ARCSEC / core) ** 2) ** -0.5
    radius = core * np.sqrt((1 - within * rng.random(n)) ** -2 - 1) / 0.05
    angle = rng.uniform(0, 2 * np.pi, n)
    x, y = place[0] + radius * np.cos(angle), place[1] + radius * np.sin(angle)
    return Events(rng.uniform(start, start + width, n), x, y)


def event_list(
    camera: str,
    parts: Sequence[Events],
    seconds: float,
    submode: str = "PrimeFullWindow",
    good_time: Mapping[int, CcdTime] | None = None,
) -> EventList:
    """A cleaned list."""
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("time", "x", "y")}
    raw = [
        np.concatenate([np.broadcast_to(getattr(part, name), part.time.size) for part in parts])
        for name in ("ccd", "rawx", "rawy")
    ]
    on_plane = (np.minimum(columns["x"], columns["y"]) >= 1) & (np.maximum(columns["x"], columns["y"]) <= 51_840)
    inside = on_plane & (columns["time"] >= 0) & (columns["time"] < seconds)
    x, y = (columns[name][inside].astype(np.uint16) for name in "xy")
    return EventList(
        InputFile(camera, 1, camera=camera, submode=submode), TangentPlane(150.0, 2.0), 850, 0.0,
        T0 + columns["time"][inside], x, y, np.full(x.size, 1000, np.uint16), raw[0][inside].astype(np.uint8),
        pixel_number(*raw)[inside].astype(np.uint32), (T0, T0 + seconds), dict(good_time or {}), EPIC,
    )  # fmt: skip


def three_cameras(
    rng: np.random.Generator,
    seconds: float,
    sources: Sequence[tuple[float, tuple[float, float], float, float]],
    shift: tuple[float, float, float] | None = None,
    core: float = 5.0,
    reach_px: int = 9000,
) -> list[EventList]:
    """A field with sources (counts, place, start, width) in all cameras; ``shift`` is (after s, dx, dy)."""
    lists = []
    for camera, share in SHARE.items():
        parts = [field(rng, seconds, FIELD_RATE[camera], reach_px)]
        parts += [source(rng, rng.poisson(n * share), place, t, width, core) for n, place, t, width in sources]
        if shift is not None:
            parts = [part.moved(*shift) for part in parts]
        lists.append(event_list(camera, parts, seconds))
    return lists


def search(lists: Sequence[EventList], *views: str, backend: str = "numba") -> list[ViewResult]:
    """Search some views."""
    config = load_config(views=tuple(View.parse(view) for view in views))
    searches, _ = search_observation(
        Observation("0999999901", tuple(lists), (), None, None), config, get_backend(backend)
    )
    return [result for one in searches for result in one.views]
