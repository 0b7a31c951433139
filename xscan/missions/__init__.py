"""Read the files of an observatory into an :class:`~xscan.model.Observation`; one package for each mission.

Contract: everything that knows a mission's file names, headers and keywords is in its package, and its face is what
:class:`Mission` asks for; the rest of xscan sees only the Observation. A file that cannot be used is returned with a
reason, and does not stop the others. ``archives``, ``report``, ``pipeline``, ``api``, ``bench``, ``cli`` and what makes
up skies may import it; loops over events are called through :class:`xscan.backends.EventLoops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from xscan.backends import EventLoops
from xscan.config import ScanConfig
from xscan.missions import xmm
from xscan.missions.place import Files, Place
from xscan.missions.xmm.hot_pixels import HotPixels
from xscan.model import Observation

__all__ = ["MISSIONS", "Files", "HotPixels", "Mission", "Place", "mission_of"]


class Mission(Protocol):
    """What a mission's package offers. Each of these raises DataError where the files are at fault."""

    def holds(self, place: Place) -> bool:
        """Return whether a place is or holds an event list of this mission; raises nothing."""
        ...

    def places(self, paths: Sequence[Path], sources: Path | None = None) -> list[Place]:
        """Group folders and event lists by observation; ``sources`` is a source list in place of a folder's."""
        ...

    def observation_name(self, place: Place) -> str:
        """Return the name of an observation before it is read."""
        ...

    def files_of(self, place: Place) -> list[Path]:
        """Return the files on which the result of reading depends, in order; empty if there is no event list.

        Raises OSError if the folder cannot be read.
        """
        ...

    def read(self, place: Place, config: ScanConfig, hot_pixels: HotPixels, loops: EventLoops) -> Observation:
        """Read and clean all files of an observation; ``Observation.settings`` is the :meth:`reading_digest`."""
        ...

    def reading_digest(self, config: ScanConfig, hot_pixels: HotPixels) -> str:
        """Return a digest of the settings that decide the result of :meth:`read`."""
        ...


MISSIONS: dict[str, Mission] = {"xmm": xmm}
"""Missions by name, in the order in which they are asked whether a place is theirs."""


def mission_of(place: Place) -> Mission:
    """Return the mission whose event lists a place holds.

    The last mission is taken where no other one's are: reading the place then says what is wrong.

    Examples
    --------
    >>> mission_of(folder).observation_name(folder)
    '0990000001'
    """
    *others, last = MISSIONS.values()
    return next((mission for mission in others if mission.holds(place)), last)
