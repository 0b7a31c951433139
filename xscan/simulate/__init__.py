"""Skies whose truth is known, seen through a detector as messy as the real one, as PPS files.

Nothing that reads or searches knows that a file was made here. What is real enough and what is
not stands in docs/simulator.md.
"""

from xscan.simulate.observation import simulate_archive, simulate_observation
from xscan.simulate.scene import Sky, draw_sky

__all__ = ["Sky", "draw_sky", "simulate_archive", "simulate_observation"]
