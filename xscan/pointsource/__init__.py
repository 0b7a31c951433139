"""How the image of a point source looks, where cameras see nothing, and the fit of a place to photons.

Data in, data out; sums are made in order, so that every backend returns the same bits.
"""
