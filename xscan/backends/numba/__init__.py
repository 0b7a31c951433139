"""The CPU's fast path: compiled loops over sorted photons; the same results as NumPy's, bit for bit."""
