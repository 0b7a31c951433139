"""Model point sources: the width of their images, where cameras see nothing, and the fit of a position to photons.

Contract: functions take data and return data, and nothing here opens a file. The loops are defined here once, in NumPy
(:class:`xscan.backends.PointSourceLoops`); sums are made in a fixed order, so that every backend returns the same
bits. ``backends``, ``search`` and the packages above them may import it.
"""
