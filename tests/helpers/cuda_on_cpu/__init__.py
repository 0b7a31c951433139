"""Run the CUDA kernels' own text without a GPU: for tests, and to try the CUDA backend anywhere."""

from helpers.cuda_on_cpu.compiler import NO_COMPILER, build, find_compiler
from helpers.cuda_on_cpu.device import CpuDevice, HostArray
from xscan.backends import Backend, get_backend
from xscan.backends.cuda.counts import CudaBackend
from xscan.backends.numpy import NumpyBackend

__all__ = ["NO_COMPILER", "CpuDevice", "HostArray", "build", "find_compiler", "make_backend"]


def make_backend(name: str) -> Backend:
    """Give a backend by name; the CUDA backend runs on the CPU, ``cuda in slabs`` with a tiny cube."""
    if name.startswith("cuda"):
        return CudaBackend(CpuDevice(), NumpyBackend(), cube_bytes=512 if name == "cuda in slabs" else None)
    return get_backend(name)
