"""Search on the CPU with compiled loops over sorted photons; results are identical to NumPy's, bit for bit."""
