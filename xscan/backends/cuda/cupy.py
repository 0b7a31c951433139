"""Use a CUDA device through CuPy. Imported only if such a device is requested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import cupy
from numpy.typing import DTypeLike, NDArray

from xscan.backends.cuda.device import DeviceLost, OutOfMemory
from xscan.backends.cuda.source import COMPILE_OPTIONS, Parameter, check_arguments, kernel_parameters, kernel_text

__all__ = ["CupyDevice", "compiler_version", "current_device", "runtime_version"]

_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation, and the driver's CUDA_ERROR_OUT_OF_MEMORY


def current_device() -> CupyDevice:
    """Return the process's current CUDA device, as chosen by CUDA_VISIBLE_DEVICES.

    Raises
    ------
    RuntimeError
        If it does not answer (CuPy's own error, whose ``status`` is CUDA's number).
    """
    cupy.cuda.runtime.memGetInfo()  # first use of the device: its errors occur here
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    return CupyDevice(properties["name"].decode(), int(properties["multiProcessorCount"]))


def runtime_version() -> tuple[int, int]:
    """Return the version of CUDA for which CuPy was built, as (12, 9)."""
    return divmod(cupy.cuda.runtime.runtimeGetVersion() // 10, 100)


def compiler_version() -> tuple[int, int]:
    """Return the version of NVRTC, as (12, 9); an error of CuPy's if it cannot be loaded."""
    major, minor = cupy.cuda.nvrtc.getVersion()
    return int(major), int(minor)


@contextmanager
def _told() -> Iterator[None]:
    """Turn CuPy's errors for missing memory, and for a device that no longer answers, into errors of xscan."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from None
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        if error.status == _MEMORY_ALLOCATION:
            raise OutOfMemory(str(error)) from None
        try:
            cupy.cuda.runtime.deviceSynchronize()
        except cupy.cuda.runtime.CUDARuntimeError:
            raise DeviceLost(str(error)) from None
        raise


class CupyDevice:
    """The current CUDA device of this process, on CuPy's current stream.

    Parameters
    ----------
    name : str
    multiprocessors : int
    """

    def __init__(self, name: str, multiprocessors: int) -> None:
        self.name = name
        self.multiprocessors = multiprocessors
        self._sent: list[NDArray[Any]] = []

    @cached_property
    def _parameters(self) -> dict[str, tuple[Parameter, ...]]:
        return kernel_parameters(kernel_text())

    @cached_property
    def _kernels(self) -> dict[str, Any]:
        """Compiled when the first of them is launched."""
        module = cupy.RawModule(code=kernel_text(), options=COMPILE_OPTIONS)
        return {name: module.get_function(name) for name in self._parameters}

    def compile(self) -> None:
        """Compile the kernels now; otherwise the first launch does."""
        _ = self._kernels

    @_told()
    def free_bytes(self) -> int:
        """Free memory of the device, bytes."""
        free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free)

    @_told()
    def empty(self, size: int, dtype: DTypeLike) -> Any:
        """Make an array of any content, aligned to 16 bytes or more."""
        with cupy.cuda.using_allocator(None):  # no pool: released memory is free at once
            return cupy.empty(size, dtype)

    @_told()
    def zero(self, array: Any) -> None:
        """Set all elements to 0."""
        array.data.memset_async(0, array.nbytes)

    @_told()
    def put(self, array: Any, values: NDArray[Any]) -> None:
        """Copy host values of the same size and type into an array."""
        array.set(values)
        self._sent.append(values)  # CuPy does not wait for the copy, nor keep the values until then

    @_told()
    def get(self, array: Any) -> NDArray[Any]:
        """Copy an array to the host, after all earlier work has been done."""
        values: NDArray[Any] = array.get()
        self._sent.clear()
        return values

    @_told()
    def copy(self, target: Any, source: Any) -> None:
        """Copy an array into another of the same size and type."""
        target.data.copy_from_device_async(source.data, source.nbytes)

    @_told()
    def seconds(self, work: Callable[[], None]) -> float:
        """Return the time that ``work`` takes on the device, from its first to its last operation, s."""
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end)) / 1000

    @_told()
    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        """Start a kernel; arguments are device arrays and NumPy scalars of exactly its types."""
        check_arguments(self._parameters, kernel, arguments)
        self._kernels[kernel](grid, block, arguments)
