"""Examine NVIDIA's driver and CuPy on this machine: whether a device can be used, and if not, what to do."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from xscan.backends.cuda.device import Device
from xscan.backends.numba.cache import can_be_written, spare_cache
from xscan.errors import DeviceError

__all__ = [
    "Driver",
    "Gpu",
    "cupy_builds",
    "cupy_cache",
    "device_is_there",
    "dotted",
    "find_driver",
    "load_cupy",
    "open_device",
    "visible_devices",
]

_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
_NO_DEVICE = (34, 100)  # cuInit's CUDA_ERROR_STUB_LIBRARY, CUDA_ERROR_NO_DEVICE
_DRIVER_TOO_OLD = 35  # cudaErrorInsufficientDriver
_LEAST, _MOST = 12, 13  # CUDA versions for which xscan has an extra
_CUPY = re.compile(r"cupy(-cuda\w+|-rocm[\w-]+)?")  # names of its builds; not cupy-xarray and others
_HEADERS = re.compile(r"CUDA (headers|root)")  # in CuPy's message if it finds none to compile with
_REMEDY = "or use another backend"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device by name, with its memory, bytes."""

    name: str
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Driver:
    """Facts stated by NVIDIA's driver.

    Attributes
    ----------
    version : (int, int)
        The newest CUDA version that it supports, as (12, 4).
    devices : tuple of Gpu
        Those that this process may use.
    error : int
        Error number (a CUresult) if it does not answer, else 0.
    """

    version: tuple[int, int]
    devices: tuple[Gpu, ...]
    error: int


def find_driver() -> Driver | None:
    """Query NVIDIA's driver, without importing CuPy, which takes long; None if there is no driver."""
    library = _load_driver()
    if library is None:
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    error = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    devices = tuple(_describe(library, number) for number in range(count.value))
    return Driver(divmod(version.value // 10, 100), devices, error)


def _describe(library: Any, number: int) -> Gpu:
    device, name, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return Gpu(name.value.decode(), size.value)


def _load_driver() -> Any | None:
    for name in _DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    return None


def device_is_there() -> bool:
    """Return whether there is a device, working or not."""
    driver = None if _hidden() else find_driver()
    return driver is not None and (bool(driver.devices) or driver.error not in (0, *_NO_DEVICE))


def _hidden() -> bool:
    """Return whether the user hides every device; faster than asking the driver, with the same result."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")


def visible_devices() -> tuple[str, ...]:
    """Return the devices that this process may use, with their names as in CUDA_VISIBLE_DEVICES.

    Raises
    ------
    DeviceError
        If there is none; with the same messages as :func:`open_device`.
    """
    n = len(_usable_driver().devices)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(name.strip() for name in chosen.split(",")[:n]) if chosen else tuple(map(str, range(n)))


def cupy_builds() -> dict[str, str]:
    """Return name and version of each build of CuPy in the folder it is imported from; two there break each other."""
    named = [(d.metadata["Name"], d) for d in distributions() if d.metadata["Name"]]
    builds = [(name, d) for name, d in named if _CUPY.fullmatch(name.lower().replace("_", "-"))]
    return {
        name: d.version
        for name, d in sorted(builds, key=lambda build: build[0])
        if d.locate_file("") == builds[0][1].locate_file("")
    }


def cupy_cache() -> Path:
    """Return the folder in which CuPy stores compiled code."""
    return Path(os.environ.get("CUPY_CACHE_DIR") or os.path.expanduser("~/.cupy/kernel_cache"))  # "~" if nobody's


def load_cupy() -> ModuleType:
    """Import :mod:`xscan.backends.cuda.cupy`.

    CuPy fails on import if it cannot store compiled code: then it is given a folder of this user.
    """
    if not can_be_written(cupy_cache()):
        os.environ["CUPY_CACHE_DIR"] = str(spare_cache("cupy"))
    return import_module("xscan.backends.cuda.cupy")


def open_device() -> Device:
    """Return the process's current CUDA device, the kernels compiled for it.

    Raises
    ------
    DeviceError
        If that is impossible; the message names the cause and what to install.
    """
    driver = _usable_driver()
    extra = f"pip install 'xscan[cuda{min(driver.version[0], _MOST)}]'"
    builds = cupy_builds()
    mend = _mend(" ".join(builds), extra)
    if find_spec("cupy") is None:
        raise _trouble("CuPy is not installed", extra)
    if len(builds) > 1:
        listed = " and ".join(f"{name} {version}" for name, version in builds.items())
        both = " ".join(builds)
        raise _trouble(f"{listed} overwrite each other's files", f"pip uninstall {both}, then {extra}")
    try:
        cupy_ = load_cupy()
    except Exception as error:  # whatever a broken installation raises
        raise _trouble(f"CuPy cannot be imported ({_line(error)})", f"{mend} --force-reinstall") from None
    try:
        device = cupy_.current_device()
    except RuntimeError as error:
        if getattr(error, "status", 0) == _DRIVER_TOO_OLD:
            raise _too_old(driver, cupy_.runtime_version(), " ".join(builds)) from None
        raise _trouble(f"the device does not answer ({_line(error)})", f"see nvidia-smi, {_REMEDY}") from None
    try:
        cupy_.compiler_version()
    except Exception as error:  # CuPy 13 and 14 raise different ones
        raise _trouble(f"NVRTC, which compiles the kernels, cannot be loaded ({_line(error)})", mend) from None
    try:
        device.compile()
    except Exception as error:
        if _HEADERS.search(str(error)):
            raise _trouble(f"what the kernels are compiled with is not there ({_line(error)})", mend) from None
        raise _trouble(
            f"the kernels do not compile ({_line(error)})", f"report it with what `xscan doctor` prints, {_REMEDY}"
        ) from None
    opened: Device = device
    return opened


def _usable_driver() -> Driver:
    if _hidden():
        shown = os.environ["CUDA_VISIBLE_DEVICES"]
        raise _trouble(f"CUDA_VISIBLE_DEVICES is {shown!r} and hides every device", f"unset it, {_REMEDY}")
    driver = find_driver()
    if driver is None:
        raise _trouble(
            f"no NVIDIA driver ({_DRIVERS[0]} cannot be loaded)",
            f"install it (in a container: start that with --gpus all), {_REMEDY}",
        )
    if driver.error in (0, *_NO_DEVICE) and not driver.devices:
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        listed = "" if chosen is None else f" (CUDA_VISIBLE_DEVICES is {chosen!r})"
        raise _trouble(f"NVIDIA's driver finds no device{listed}", f"see nvidia-smi, {_REMEDY}")
    if driver.error:
        raise _trouble(f"NVIDIA's driver does not answer (CUDA error {driver.error})", f"see nvidia-smi, {_REMEDY}")
    if driver.version[0] < _LEAST:
        raise _trouble(f"NVIDIA's driver supports CUDA {dotted(driver.version)}", f"install one for {_LEAST} or newer")
    return driver


def _mend(build: str, extra: str) -> str:
    """Return how to install what a build of CuPy lacks: its own extra, or first removing an unknown build."""
    known = re.fullmatch(r"cupy-cuda(\d+)x", build)
    if known and _LEAST <= int(known[1]) <= _MOST:
        return f"pip install 'xscan[cuda{known[1]}]'"
    return f"pip uninstall {build}, then {extra}" if build else extra


def _too_old(driver: Driver, runtime: tuple[int, int], build: str) -> DeviceError:
    """Return an error: the driver is older than the CUDA version that CuPy was built for."""
    what = f"CuPy is built for CUDA {dotted(runtime)} and NVIDIA's driver supports {dotted(driver.version)}"
    if runtime[0] <= driver.version[0]:
        return _trouble(what, f"update the driver, {_REMEDY}")
    other = f"pip uninstall {build or 'cupy'}, then pip install 'xscan[cuda{driver.version[0]}]'"
    return _trouble(what, f"update the driver, or {other}")


def _trouble(what: str, remedy: str) -> DeviceError:
    return DeviceError(f"the cuda backend does not work here: {what}; {remedy}")


def _line(error: BaseException) -> str:
    """Return the first line of an error with text in it, without CuPy's frames of dashes and equal signs."""
    lines = (line.strip(" -=") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def dotted(version: tuple[int, int]) -> str:
    """Return a version as text, such as 12.4.

    Examples
    --------
    >>> dotted((12, 4))
    '12.4'
    """
    return ".".join(map(str, version))
