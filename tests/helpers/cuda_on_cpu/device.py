"""A device of the CUDA backend that runs the kernels' own text on the CPU."""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from helpers.cuda_on_cpu.compiler import build
from xscan.backends.cuda.device import OutOfMemory
from xscan.backends.cuda.source import Parameter, check_arguments, kernel_parameters, kernel_text

GUARD = 4096  # bytes before and behind every array: a kernel that writes there is found out
GUARD_BYTE, JUNK_BYTE = 0x5A, 0x57  # as doubles large and positive, so that reading them is seen too


class HostArray:
    """Memory of the pretended device: no NumPy array, so that only kernels and copies reach it."""

    def __init__(self, values: NDArray[Any], block: NDArray[np.uint8] | None = None) -> None:
        self.values, self.block = values, block

    size = property(lambda self: self.values.size)
    dtype = property(lambda self: self.values.dtype)
    flags = property(lambda self: self.values.flags)

    def __getitem__(self, part: slice) -> HostArray:
        return HostArray(self.values[part], self.block)


class CpuDevice:
    """Runs kernels on the CPU, and is strict where a GPU would be silent.

    New memory holds junk, arrays lie between guards that each launch checks, arguments must be of
    exactly the kernel's types, and memory can be as short as a test wants.
    """

    def __init__(self, text: str | None = None, total_bytes: int = 1 << 40, optimise: str = "-O2") -> None:
        text = kernel_text() if text is None else text
        self.name, self.multiprocessors = "CPU pretending to be a GPU", 1
        self.total_bytes, self.used_bytes = total_bytes, 0
        self.launches: list[str] = []
        self._kernels = kernel_parameters(text)
        self._library = ctypes.CDLL(str(build(launchers(text), "kernels.so", [optimise, "-shared", "-fPIC"])))

    def free_bytes(self) -> int:
        return max(self.total_bytes - self.used_bytes, 0)

    def empty(self, size: int, dtype: DTypeLike) -> HostArray:
        n_bytes = size * np.dtype(dtype).itemsize
        if n_bytes > self.free_bytes():
            raise OutOfMemory(f"{n_bytes} bytes asked for, {self.free_bytes()} free")
        block = np.full(n_bytes + 2 * GUARD, JUNK_BYTE, np.uint8)
        block[:GUARD] = block[GUARD + n_bytes :] = GUARD_BYTE
        self.used_bytes += n_bytes
        array = HostArray(block[GUARD : GUARD + n_bytes].view(dtype), block)
        weakref.finalize(block, self._freed, n_bytes)
        return array

    def _freed(self, n_bytes: int) -> None:
        self.used_bytes -= n_bytes

    def zero(self, array: HostArray) -> None:
        array.values[:] = 0

    def put(self, array: HostArray, values: NDArray[Any]) -> None:
        assert (array.values.shape, array.dtype) == (values.shape, values.dtype)
        array.values[:] = values

    def get(self, array: HostArray) -> NDArray[Any]:
        return array.values.copy()

    def copy(self, target: HostArray, source: HostArray) -> None:
        assert (target.size, target.dtype) == (source.size, source.dtype)
        target.values[:] = source.values

    def seconds(self, work: Callable[[], None]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        check_arguments(self._kernels, kernel, arguments)
        dims = [(*sizes, 1, 1)[:2] for sizes in (grid, block)]
        assert all(size > 0 for pair in dims for size in pair), f"{kernel}: an empty grid or block"
        assert dims[0][1] < 1 << 16, f"{kernel}: a GPU's grid has at most 65535 blocks along y"
        assert dims[1][0] * dims[1][1] <= 1024, f"{kernel}: a GPU's block has at most 1024 threads"
        passed = [ctypes.c_uint(size) for pair in dims for size in pair]
        for parameter, value in zip(self._kernels[kernel], arguments, strict=True):
            if parameter.pointer:
                address = value.values.ctypes.data
                assert parameter.ctype != "uint4" or address % 16 == 0, f"{kernel}: {parameter.name} is not aligned"
                passed.append(ctypes.c_void_p(address))
            else:
                passed.append(np.ctypeslib.as_ctypes_type(value.dtype)(value.item()))
        self.launches.append(kernel)
        getattr(self._library, f"run_{kernel}")(*passed)
        for parameter, value in zip(self._kernels[kernel], arguments, strict=True):
            if parameter.pointer and value.block is not None:
                guards = (value.block[:GUARD], value.block[-GUARD:])
                beyond = any((guard != GUARD_BYTE).any() for guard in guards)
                assert not beyond, f"{kernel} writes before or behind {parameter.name}"


def launchers(text: str) -> str:
    """Give C++ that includes the kernels and has, for each, a function to run it on a whole grid."""
    made = ['#include "cuda_on_cpu.h"', text]
    for name, parameters in kernel_parameters(text).items():
        declared = ", ".join(declaration(parameter) for parameter in parameters)
        names = ", ".join(parameter.name for parameter in parameters)
        made.append(
            f'extern "C" void run_{name}(unsigned gx, unsigned gy, unsigned bx, unsigned by, {declared})\n'
            f"{{ launch({{gx, gy, 1}}, {{bx, by, 1}}, [&] {{ {name}({names}); }}); }}"
        )
    return "\n".join(made)


def declaration(parameter: Parameter) -> str:
    return f"{parameter.ctype}{'*' if parameter.pointer else ''} {parameter.name}"
