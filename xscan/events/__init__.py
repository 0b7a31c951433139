"""Turn event lists into photons on a grid: cuts, good time, silent CCDs, merging.

Contract: every loop over events or read-out frames is defined here once, in NumPy, and every backend must return
exactly the same (:class:`xscan.backends.EventLoops`). Nothing here opens a file. ``pointsource`` and all packages
above it may import this package; it imports the flat modules only.
"""
