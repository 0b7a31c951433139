"""Search photons for transients: the method of the paper, from merged event lists to regions.

Contract: every function takes data and returns data. No module here opens a file, and none depends on how a
backend counts: ``observation`` is handed a :class:`xscan.backends.Backend`, a step only the part of it that it needs.
``observation`` loops over subsets and views; each other module is one step of that loop, and those that come after
the voxels are flagged take one :class:`~xscan.search.view.ViewData`. What the profile ``exod2`` does differently is
in ``exod2``; one line in each step chooses. ``results``, ``report``, ``pipeline`` and the packages
above them may import this package; it imports ``backends``, ``pointsource``, ``events`` and the flat modules only.
"""
