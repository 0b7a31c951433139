"""From photons to regions: the method of the paper, data in and data out.

``observation`` is the loop over subsets and views; every other module is one step of it. Nothing here opens a
file or knows how a backend counts.
"""
