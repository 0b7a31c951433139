"""The GPU's path: a cube of counts on a device, searched by the kernels; the same results, bit for bit."""
