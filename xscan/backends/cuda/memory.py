"""Manage the buffers of the CUDA backend on its device, limit their size, and start kernels on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xscan.backends.cuda.device import Device, OutOfMemory
from xscan.errors import DataError, Reason

__all__ = ["CUBE_MOST", "HITS", "Memory", "Workspace", "cutting_smaller"]

CUBE_SHARE = 0.5  # of the free memory; the rest is for photons, hits, and other users of the device
CUBE_MOST = 8 << 30  # bytes; 100 ks in frames of 5 s over the whole field are 1.3 GB
CUBE_LEAST = 1 << 20  # bytes; if not even this fits, a smaller cube does not help
HITS = 1 << 16  # initial room for flagged voxels, and for windows
THREADS, BLOCKS = 256, 8  # a block; approximate blocks per multiprocessor: a few times the number that run at once


class Memory:
    """Named buffers on a device: made when first needed, kept, and replaced only by larger ones.

    A worker scans thousands of observations of all sizes. A memory pool that is used in pieces of many sizes would
    grow with them; these buffers do not.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[str, Any] = {}
        self._content: dict[str, object] = {}

    def take(self, name: str, size: int, dtype: DTypeLike) -> Any:
        """Return the first ``size`` elements of a buffer; their content is undefined."""
        self._content.pop(name, None)
        assert name not in self._buffers or self._buffers[name].dtype == dtype
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers.pop(name, None)  # before the larger one is made, so that both never exist at once
            self._buffers[name] = self._device.empty(max(size, 1), dtype)
        return self._buffers[name][:size]

    def zeros(self, name: str, size: int, dtype: DTypeLike) -> Any:
        """Return the first ``size`` elements of a buffer, all 0."""
        array = self.take(name, size, dtype)
        self._device.zero(array)
        return array

    def put(self, name: str, values: NDArray[Any]) -> Any:
        """Copy host values into a buffer."""
        array = self.take(name, values.size, values.dtype)
        self._device.put(array, np.ascontiguousarray(values).ravel())
        return array

    def mark(self, name: str, content: object) -> None:
        """Record what a buffer contains, until it is taken for something else."""
        self._content[name] = content

    def held(self, name: str, content: object) -> Any | None:
        """Return a whole buffer if it still contains what it was marked with, else None."""
        return self._buffers[name] if self._content.get(name) == content else None

    def release(self) -> None:
        """Free all buffers on the device."""
        self._content.clear()
        self._buffers.clear()


class Workspace:
    """The device, its buffers, and the largest size of the cube of counts."""

    def __init__(self, device: Device, cube_bytes: int | None) -> None:
        self.device = device
        self.memory = Memory(device)
        self.hits = HITS
        self._asked = cube_bytes
        self.cube_bytes = 0

    def renew(self) -> None:
        """Allow the full cube again: a cube made smaller for lack of memory is so for one observation only."""
        if self._asked is not None:
            self.cube_bytes = self._asked
        else:
            self.cube_bytes = max(self.cube_bytes, min(CUBE_MOST, int(CUBE_SHARE * self.device.free_bytes())))

    def launch_over(self, n: int, kernel: str, *arguments: Any) -> None:
        """Start a kernel whose threads stride over n items."""
        blocks = min(-(-n // THREADS), self.device.multiprocessors * BLOCKS)
        self.device.launch(kernel, (max(blocks, 1),), (THREADS,), *arguments)

    def shrink(self) -> None:
        """Release all buffers and halve the cube.

        Raises
        ------
        DataError
            If the cube is so small already that something else is too large.
        """
        self.memory.release()
        self.hits = HITS
        if self.cube_bytes < 2 * CUBE_LEAST:
            raise DataError(
                Reason.DEVICE_MEMORY,
                f"{self.device.name}: {self.device.free_bytes() / 2**20:.0f} MiB are free, too few for the photons "
                f"and a cube of {CUBE_LEAST >> 20} MiB; stop what else uses the device, or use another backend",
            )
        self.cube_bytes //= 2


class _Working(Protocol):
    _workspace: Workspace


_W = TypeVar("_W", bound=_Working)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def cutting_smaller(method: Callable[Concatenate[_W, _P], _T]) -> Callable[Concatenate[_W, _P], _T]:
    """Call a method again with a smaller cube for as long as the device has no room.

    Examples
    --------
    A method for which the device has room when its cube is small enough:

    >>> from types import SimpleNamespace
    >>> cube = SimpleNamespace(bytes=1000)
    >>> cube.shrink = lambda: setattr(cube, "bytes", cube.bytes // 2)
    >>> @cutting_smaller
    ... def bytes_used(_):
    ...     if cube.bytes > 300:
    ...         raise OutOfMemory
    ...     return cube.bytes
    >>> bytes_used(SimpleNamespace(_workspace=cube))
    250
    """

    @wraps(method)
    def again(self: _W, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except OutOfMemory:
                pass
            self._workspace.shrink()  # not above: the exception's frames keep buffers alive

    return again
