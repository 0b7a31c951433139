"""A preload for Dask workers: observations that harm the process which searches them.

``XSCAN_POISON`` says which: ``0000000002=exit,0000000003=hang``; ``exit`` ends the process, ``hang`` never ends,
``memory`` takes a gigabyte and keeps it, ``lost`` costs the GPU, ``odd`` cannot be stored.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Any

import numpy as np

from xscan.backends.cuda.device import DeviceLost
from xscan.pipeline import scan, worker
from xscan.results import staging, writer

HARM = dict(item.split("=") for item in os.environ["XSCAN_POISON"].split(","))
search = getattr(scan, "unharmed", scan.search_observation)  # Dask loads a file twice


stage = getattr(staging, "unharmed", staging.stage)


def pick(out: Any, obsid: str, tables: Any) -> None:
    if HARM.get(obsid) == "odd" and tables.events.num_rows:
        raise ValueError("not to be stored")
    stage(out, obsid, tables)


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def harmful(observation: Any, *others: Any) -> Any:
    harm = HARM.get(observation.obsid)
    if harm == "exit":
        os._exit(7)
    if harm == "lost":
        raise DeviceLost("cudaErrorIllegalAddress")
    if harm == "full":
        os.replace = no_space
    while harm == "hang":
        time.sleep(1)
    if harm == "memory":
        taken = np.ones(2**27)
        while taken.any():
            time.sleep(1)
    return search(observation, *others)


scan.unharmed = search  # type: ignore[attr-defined]
scan.search_observation = harmful
staging.unharmed = stage  # type: ignore[attr-defined]
worker.stage = writer.stage = pick
