"""Read XMM-Newton EPIC: from the files of an observation to event lists and sources.

Its facts are in :mod:`~xscan.missions.xmm.instrument`; the functions below are its :class:`xscan.missions.Mission`.
"""

from __future__ import annotations

from xscan.missions.xmm.files import files_of, holds, observation_name, places
from xscan.missions.xmm.observation import read, reading_digest

__all__ = ["files_of", "holds", "observation_name", "places", "read", "reading_digest"]
