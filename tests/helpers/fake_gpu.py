"""A machine that has the driver, devices and CuPy a test asks for."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from email.message import Message
from types import ModuleType, SimpleNamespace

import pytest

from xscan import backends
from xscan.backends import cuda
from xscan.backends.cuda import driver as nvidia


class FakeDriver:
    """libcuda, as far as it is asked."""

    def __init__(self, version: int = 12_040, devices: Sequence[str] = ("Abacus X1",), error: int = 0) -> None:
        self.version, self.devices, self.error = version, devices, error
        self.started = False

    def cuDriverGetVersion(self, out: object) -> int:  # noqa: N802  its names are NVIDIA's
        out._obj.value = self.version
        return 0

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        self.started = True
        return self.error

    def cuDeviceGetCount(self, out: object) -> int:  # noqa: N802
        out._obj.value = len(self.devices)
        return 0

    def cuDeviceGet(self, out: object, number: int) -> int:  # noqa: N802
        out._obj.value = number + 70
        return 0

    def cuDeviceGetName(self, name: ctypes.Array[ctypes.c_char], _size: int, device: ctypes.c_int) -> int:  # noqa: N802
        name.value = self.devices[device.value - 70].encode()
        return 0

    def cuDeviceTotalMem_v2(self, out: object, _device: ctypes.c_int) -> int:  # noqa: N802
        out._obj.value = 3 << 29
        return 0


class CudaError(RuntimeError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def raising(error: Exception) -> Callable[..., object]:
    def call(*_: object, **__: object) -> object:
        raise error

    return call


def fake_cupy(runtime: int = 12_090, **broken: Exception) -> ModuleType:
    """CuPy, as far as it is asked before a kernel runs; ``device``, ``nvrtc`` and ``kernels`` can be broken."""
    cupy = ModuleType("cupy")
    properties = {"name": b"Abacus X1", "multiProcessorCount": 7}
    calls = SimpleNamespace(
        runtimeGetVersion=lambda: runtime,
        getDevice=lambda: 0,
        getDeviceProperties=lambda _: properties,
        memGetInfo=raising(broken["device"]) if "device" in broken else lambda: (1 << 30, 1 << 30),
    )
    nvrtc = SimpleNamespace(getVersion=raising(broken["nvrtc"]) if "nvrtc" in broken else lambda: (12, 9))
    cupy.cuda = SimpleNamespace(runtime=calls, nvrtc=nvrtc)
    module = SimpleNamespace(get_function=lambda name: name)
    cupy.RawModule = raising(broken["kernels"]) if "kernels" in broken else lambda **_: module
    cupy.__spec__ = SimpleNamespace(name="cupy")
    return cupy


class Machine:
    """What a test puts on this machine in place of what is there."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.driver(None)
        self.cupy(None)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def driver(self, driver: FakeDriver | None) -> FakeDriver | None:
        self.patch.setattr(nvidia, "_load_driver", lambda: driver)
        return driver

    def cupy(self, module: ModuleType | None, **builds: str) -> None:
        self.patch.setitem(sys.modules, "cupy", module)
        self.patch.delitem(sys.modules, "xscan.backends.cuda.cupy", raising=False)
        self.patch.delattr(cuda, "cupy", raising=False)
        self.patch.setattr(nvidia, "find_spec", lambda name: module)
        named = {name.replace("_", "-"): version for name, version in builds.items()}
        there = [distribution(*build) for build in [*named.items(), ("cupy-xarray", "0.1"), ("numpy", "2")]]
        self.patch.setattr(nvidia, "distributions", lambda: there)


def distribution(name: str, version: str, place: str = "site-packages") -> SimpleNamespace:
    held = Message()
    held["Name"] = name
    return SimpleNamespace(metadata=held, version=version, locate_file=lambda _: place)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without driver, device or CuPy, on which nothing was warned of yet."""
    backends._warn_once.cache_clear()
    return Machine(monkeypatch)
