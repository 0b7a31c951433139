"""Search photons for transients: the method of the paper, from merged event lists to regions.

Contract: every function takes data and returns data. No module here opens a file, and none depends on how a
backend counts: all counting goes through :class:`xscan.backends.Backend`. ``observation`` loops over subsets and
views; each other module is one step of that loop. ``results``, ``report``, ``pipeline`` and the packages
above them may import this package; it imports ``backends``, ``pointsource``, ``events`` and the flat modules only.
"""
