"""Six events a second apart, written as an XMM-Newton list and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.lists import OBSID, T0, FakeList, write_list
from xscan.backends import get_backend
from xscan.config import ScanConfig, load_config
from xscan.missions.xmm import observation as xmm
from xscan.missions.xmm.event_list import read_event_list
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.model import EventList, InputFile, Observation

DEFAULT = load_config()
TIMES = T0 + np.arange(6.0)


def read(folder: Path, config: ScanConfig) -> Observation:
    return xmm.read(folder, config, HotPixels(), get_backend("auto").events)


def read_one(folder: Path, fake: FakeList, config: ScanConfig = DEFAULT, hot: HotPixels | None = None) -> EventList:
    path = write_list(folder, fake)
    info = InputFile(path.name, 1, camera=fake.camera, exposure=fake.exposure)
    return read_event_list(path, info, OBSID, config, hot or HotPixels(), get_backend("auto").events)[0]
