"""From event lists to photons on a grid: cuts, good time, silent CCDs, merging.

Every loop over events or read-out frames is written here once, in NumPy: that is the definition of what
every backend must return. Nothing here opens a file.
"""
