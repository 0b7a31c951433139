"""Simulate observations with known sources: skies seen through a realistic detector, written as PPS files.

Contract: nothing that reads or searches knows that a file was simulated. docs/simulator.md describes what is
realistic and what is not. ``bench`` and ``cli`` may import this package.
"""

from xscan.simulate.observation import simulate_archive, simulate_observation
from xscan.simulate.scene import Sky, draw_sky

__all__ = ["Sky", "draw_sky", "simulate_archive", "simulate_observation"]
