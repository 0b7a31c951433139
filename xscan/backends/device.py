"""The little that the CUDA backend asks of a device, and the memory it keeps there."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Device", "DeviceArray", "Memory", "OutOfMemory"]


class OutOfMemory(Exception):  # noqa: N818  what it is called everywhere
    """The device has no room for a buffer."""


class DeviceArray(Protocol):
    """A contiguous one-dimensional array on the device."""

    @property
    def size(self) -> int:
        """Number of elements."""
        ...

    def __getitem__(self, part: slice, /) -> Self:
        """Give a part of it, without copying."""
        ...


class Device(Protocol):
    """Memory and kernels; what is asked is done in order, on one stream."""

    name: str
    multiprocessors: int

    def free_bytes(self) -> int:
        """Memory nobody uses now, bytes."""
        ...

    def empty(self, size: int, dtype: DTypeLike) -> Any:
        """Make an array of any content, aligned to 16 bytes or more.

        Raises
        ------
        OutOfMemory
            If there is no room.
        """
        ...

    def zero(self, array: Any) -> None:
        """Set all elements to 0."""
        ...

    def put(self, array: Any, values: NDArray[Any]) -> None:
        """Copy host values of the same size and type into an array."""
        ...

    def get(self, array: Any) -> NDArray[Any]:
        """Copy an array to the host, once all that was asked before is done."""
        ...

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        """Start a kernel; arguments are device arrays and NumPy scalars of exactly its types."""
        ...


class Memory:
    """Named buffers on a device: made when first needed, kept, and replaced only by larger ones.

    A worker scans thousands of observations of all sizes; memory that a pool hands out and
    takes back in pieces grows with them, buffers do not.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[str, Any] = {}
        self._content: dict[str, object] = {}

    def take(self, name: str, size: int, dtype: DTypeLike) -> Any:
        """Give the first ``size`` elements of a buffer; their content is undefined."""
        self._content.pop(name, None)
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers.pop(name, None)  # before the larger one is made: never both at once
            self._buffers[name] = self._device.empty(max(size, 1), dtype)
        return self._buffers[name][:size]

    def zeros(self, name: str, size: int, dtype: DTypeLike) -> Any:
        """Give the first ``size`` elements of a buffer, all 0."""
        array = self.take(name, size, dtype)
        self._device.zero(array)
        return array

    def put(self, name: str, values: NDArray[Any]) -> Any:
        """Copy host values into a buffer."""
        array = self.take(name, values.size, values.dtype)
        self._device.put(array, np.ascontiguousarray(values).ravel())
        return array

    def mark(self, name: str, content: object) -> None:
        """Remember what a buffer holds, until it is taken for something else."""
        self._content[name] = content

    def held(self, name: str, content: object) -> Any | None:
        """Give a whole buffer if it still holds what it was marked with, else None."""
        return self._buffers[name] if self._content.get(name) == content else None

    def release(self) -> None:
        """Give all memory back to the device."""
        self._content.clear()
        self._buffers.clear()
