"""Search on a GPU: kernels search a cube of counts on a device; results are identical to NumPy's, bit for bit."""
