"""Define the few operations that the CUDA backend needs of a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

__all__ = ["Device", "DeviceLost", "OutOfMemory"]


class OutOfMemory(Exception):  # noqa: N818  what it is called everywhere
    """The device has no room for a buffer."""


class DeviceLost(Exception):  # noqa: N818  as it is said of a device
    """The device no longer answers this process: after an illegal address, a memory fault, or a reset."""


class Device(Protocol):
    """Memory and kernels of a device; operations are done in order, on one stream.

    Its arrays have one dimension, and ``size``, ``dtype`` and ``flags`` as in NumPy; they can be sliced without
    copying. Nothing else is needed of them. Any operation may raise :class:`DeviceLost`.
    """

    name: str
    multiprocessors: int

    def free_bytes(self) -> int:
        """Free memory of the device, bytes."""
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
        """Copy an array to the host, after all earlier work has been done."""
        ...

    def copy(self, target: Any, source: Any) -> None:
        """Copy an array into another of the same size and type."""
        ...

    def seconds(self, work: Callable[[], None]) -> float:
        """Return the time that ``work`` takes on the device, from its first to its last operation, s."""
        ...

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        """Start a kernel; arguments are device arrays and NumPy scalars of exactly its types."""
        ...
