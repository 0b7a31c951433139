"""Backends by name on machines with and without a GPU: what is chosen, what is said, what is imported."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.fake_gpu import CudaError, FakeDriver, Machine, distribution, fake_cupy, machine, raising

from xscan.api import read, scan_settings
from xscan.backends import get_backend
from xscan.backends.cuda import driver as nvidia
from xscan.backends.cuda.device import DeviceLost, OutOfMemory
from xscan.backends.numba import cache as spare
from xscan.cli import doctor
from xscan.errors import DeviceError

__all__ = ["machine"]  # fixture

TOO_OLD, UNAVAILABLE = 35, 46  # CUDA's cudaErrorInsufficientDriver, cudaErrorDevicesUnavailable


def said(name: str = "cuda") -> str:
    with pytest.raises(DeviceError) as caught:
        get_backend(name)
    assert caught.value.exit_code == 3
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix("the cuda backend does not work here: ")


def test_no_driver(machine: Machine) -> None:
    assert said() == (
        "no NVIDIA driver (libcuda.so.1 cannot be loaded); install it (in a container: start that with "
        "--gpus all), or use another backend"
    )


def test_no_device(machine: Machine) -> None:
    for error in (0, 100, 34):
        machine.driver(FakeDriver(devices=(), error=error))
        assert said() == "NVIDIA's driver finds no device; see nvidia-smi, or use another backend"
    machine.patch.setenv("CUDA_VISIBLE_DEVICES", "9")
    assert "finds no device (CUDA_VISIBLE_DEVICES is '9'); see" in said()


@pytest.mark.parametrize("shown", ["", " ", "-1"])
def test_hidden_devices(machine: Machine, shown: str) -> None:
    driver = machine.driver(FakeDriver())
    machine.patch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert said() == (f"CUDA_VISIBLE_DEVICES is {shown!r} and hides every device; unset it, or use another backend")
    assert get_backend("auto").name == "numba"
    assert not driver.started


def test_a_driver_that_does_not_answer(machine: Machine) -> None:
    machine.driver(FakeDriver(devices=(), error=999))
    assert said() == "NVIDIA's driver does not answer (CUDA error 999); see nvidia-smi, or use another backend"


def test_a_driver_older_than_any_extra(machine: Machine) -> None:
    machine.driver(FakeDriver(11_040))
    assert said() == "NVIDIA's driver supports CUDA 11.4; install one for 12 or newer"


@pytest.mark.parametrize(("version", "extra"), [(12_040, "cuda12"), (13_000, "cuda13"), (14_010, "cuda13")])
def test_no_cupy(machine: Machine, version: int, extra: str) -> None:
    machine.driver(FakeDriver(version))
    assert said() == f"CuPy is not installed; pip install 'xscan[{extra}]'"


def test_two_builds_of_cupy(machine: Machine) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(), cupy_cuda13x="14.2.0", cupy_cuda12x="13.6.0")
    assert said() == (
        "cupy-cuda12x 13.6.0 and cupy-cuda13x 14.2.0 overwrite each other's files; pip uninstall cupy-cuda12x "
        "cupy-cuda13x, then pip install 'xscan[cuda12]'"
    )


def test_a_build_of_cupy_before_another_on_the_path(machine: Machine) -> None:
    """It is the one that is imported, and whole."""
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy())
    builds = [distribution("cupy-cuda13x", "14.2.0", "here"), distribution("cupy-cuda12x", "13.6.0")]
    machine.patch.setattr(nvidia, "distributions", lambda: builds)
    assert nvidia.cupy_builds() == {"cupy-cuda13x": "14.2.0"}
    assert get_backend("cuda").name == "cuda"


def test_cupy_is_given_a_folder_where_it_cannot_keep_code(machine: Machine, tmp_path: Path) -> None:
    """A home that cannot be written would end its import."""
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(), cupy_cuda12x="14.2.0")
    machine.patch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    assert get_backend("cuda").name == "cuda"
    assert os.environ["CUPY_CACHE_DIR"] == str(tmp_path / "cache")
    access = os.access
    machine.patch.setattr(spare.os, "access", lambda place, mode: place != tmp_path and access(place, mode))
    machine.patch.setattr(spare.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    folder = tmp_path / "tmp" / f"xscan-cupy-{os.getuid()}"
    told = dict(doctor.diagnose().facts)
    assert told["cupy keeps code in"] == f"{tmp_path / 'cache'} (cannot be written: {folder} instead)"
    assert get_backend("cuda").name == "cuda"
    assert os.environ["CUPY_CACHE_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)  # somebody else's
    assert spare.spare_cache("cupy") != folder


@pytest.mark.parametrize("home", ["locked", "nobody's"])
def test_a_home_that_cannot_be_looked_into(machine: Machine, tmp_path: Path, home: str) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(), cupy_cuda12x="14.2.0")
    machine.patch.delenv("CUPY_CACHE_DIR", raising=False)
    machine.patch.chdir(tmp_path)
    if home == "nobody's":  # a user without a name and without HOME
        machine.patch.setattr(os.path, "expanduser", lambda path: path)
        assert nvidia.cupy_cache() == Path("~/.cupy/kernel_cache")
        assert spare.can_be_written(nvidia.cupy_cache())
        return
    (tmp_path / "home").mkdir()
    machine.patch.setenv("HOME", str(tmp_path / "home" / "user"))
    exists, access = os.path.exists, os.access
    closed = str(tmp_path / "home") + "/"
    machine.patch.setattr(os.path, "exists", lambda place: not str(place).startswith(closed) and exists(place))
    machine.patch.setattr(os, "access", lambda place, mode: str(place) + "/" != closed and access(place, mode))
    assert not spare.can_be_written(nvidia.cupy_cache())
    assert get_backend("cuda").name == "cuda"
    assert Path(os.environ.pop("CUPY_CACHE_DIR")) == spare.spare_cache("cupy")


def test_a_cupy_that_cannot_be_imported(machine: Machine) -> None:
    machine.driver(FakeDriver())
    machine.cupy(None, cupy_cuda12x="13.6.0")
    machine.patch.setattr(nvidia, "find_spec", lambda name: "there")
    assert said() == (
        "CuPy cannot be imported (import of cupy halted; None in sys.modules); pip install 'xscan[cuda12]' "
        "--force-reinstall"
    )


def test_a_driver_older_than_cupy(machine: Machine) -> None:
    machine.driver(FakeDriver(12_040))
    broken = CudaError(TOO_OLD, "cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    machine.cupy(fake_cupy(13_000, device=broken), cupy_cuda13x="14.2.0")
    assert said() == (
        "CuPy is built for CUDA 13.0 and NVIDIA's driver supports 12.4; update the driver, or pip uninstall "
        "cupy-cuda13x, then pip install 'xscan[cuda12]'"
    )
    machine.cupy(fake_cupy(12_090, device=broken), cupy_cuda12x="14.2.0")
    assert said() == (
        "CuPy is built for CUDA 12.9 and NVIDIA's driver supports 12.4; update the driver, or use another backend"
    )


def test_a_device_that_does_not_answer(machine: Machine) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(device=CudaError(UNAVAILABLE, "cudaErrorDevicesUnavailable: busy\nmore")), cupy_cuda12x="14")
    assert said() == (
        "the device does not answer (cudaErrorDevicesUnavailable: busy); see nvidia-smi, or use another backend"
    )


def test_no_nvrtc(machine: Machine) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(nvrtc=OSError("\n=====\nno libnvrtc.so.12\n")), cupy_cuda12x="14.2.0")
    assert said() == (
        "NVRTC, which compiles the kernels, cannot be loaded (no libnvrtc.so.12); pip install 'xscan[cuda12]'"
    )


def test_kernels_that_do_not_compile(machine: Machine) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(kernels=Exception("kernels.cu(3): error: no such thing\n1 error")), cupy_cuda12x="14.2.0")
    assert said() == (
        "the kernels do not compile (kernels.cu(3): error: no such thing); report it with what `xscan doctor` "
        "prints, or use another backend"
    )


@pytest.mark.parametrize(
    ("version", "build", "remedy"),
    [
        (13_000, "cupy_cuda12x", "pip install 'xscan[cuda12]'"),
        (13_000, "cupy", "pip uninstall cupy, then pip install 'xscan[cuda13]'"),
        (12_040, "cupy_cuda11x", "pip uninstall cupy-cuda11x, then pip install 'xscan[cuda12]'"),
    ],
)
def test_a_remedy_puts_no_build_of_cupy_beside_another(machine: Machine, version: int, build: str, remedy: str) -> None:
    machine.driver(FakeDriver(version))
    machine.cupy(fake_cupy(nvrtc=OSError("no libnvrtc")), **{build: "14.2.0"})
    assert said().endswith(f"(no libnvrtc); {remedy}")


def test_nothing_to_compile_with(machine: Machine) -> None:
    machine.driver(FakeDriver())
    for says in ("Failed to find CUDA headers.\nmore", "Failed to auto-detect CUDA root directory. Please"):
        machine.cupy(fake_cupy(kernels=RuntimeError(says)), cupy_cuda12x="13.6.0")
        line = says.partition("\n")[0]
        assert said() == f"what the kernels are compiled with is not there ({line}); pip install 'xscan[cuda12]'"


class Array:
    """An array of CuPy's whose every use ends in an error."""

    dtype, size, nbytes, flags = np.dtype("f8"), 3, 24, SimpleNamespace(c_contiguous=True)

    def __init__(self, error: Exception) -> None:
        self.get = self.set = raising(error)
        self.data = SimpleNamespace(memset_async=raising(error), copy_from_device_async=raising(error))


USES = {
    "free_bytes": lambda device, array: device.free_bytes(),
    "empty": lambda device, array: device.empty(3, "f8"),
    "zero": lambda device, array: device.zero(array),
    "put": lambda device, array: device.put(array, np.zeros(3)),
    "get": lambda device, array: device.get(array),
    "copy": lambda device, array: device.copy(array, array),
    "seconds": lambda device, array: device.seconds(array.get),
    "launch": lambda device, array: device.launch("flag_voxels", (1,), (1,)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["runtime", "driver"])
def test_want_of_memory_is_told_from_a_device_that_is_lost(machine: Machine, kind: str, use: str) -> None:
    """In whatever is asked of it; and both from an error after which it answers."""
    machine.driver(FakeDriver())
    cupy = fake_cupy()
    cupy.cuda.memory = SimpleNamespace(OutOfMemoryError=MemoryError)
    cupy.cuda.driver = SimpleNamespace()
    runtime, driver = type("CUDARuntimeError", (CudaError,), {}), type("CUDADriverError", (CudaError,), {})
    cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError = runtime, driver
    machine.cupy(cupy, cupy_cuda12x="14.2.0")
    device = nvidia.open_device()
    machine.patch.setattr(sys.modules["xscan.backends.cuda.cupy"], "check_arguments", lambda *_: None)

    def meets(error: Exception, answers: bool) -> Exception:
        cupy.cuda.runtime.deviceSynchronize = (lambda: None) if answers else raising(runtime(700, "again"))
        cupy.cuda.runtime.memGetInfo = cupy.empty = raising(error)
        cupy.cuda.using_allocator = lambda _: nullcontext()
        cupy.cuda.Event = lambda: SimpleNamespace(record=lambda: None)
        device._kernels["flag_voxels"] = raising(error)
        with pytest.raises(Exception, match="said so") as caught:
            USES[use](device, Array(error))
        return caught.value

    error = {"runtime": runtime, "driver": driver}[kind]
    assert isinstance(meets(error(2, "said so"), True), OutOfMemory)
    assert isinstance(meets(MemoryError("said so"), True), OutOfMemory)
    assert isinstance(meets(error(700, "said so"), False), DeviceLost)
    assert isinstance(meets(error(701, "said so"), True), error)


def test_what_is_sent_is_kept_until_it_is_there(machine: Machine) -> None:
    """CuPy copies it while the host goes on."""
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(), cupy_cuda12x="14.2.0")
    device = nvidia.open_device()
    values = np.ones(3)
    gone = weakref.ref(values)
    array = SimpleNamespace(set=lambda values: None, get=lambda: np.zeros(3))
    device.put(array, values)
    del values
    assert gone() is not None
    device.get(array)
    assert gone() is None


def test_a_device_that_works(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(), cupy_cuda12x="14.2.0")
    for name in ("cuda", "auto"):
        backend = get_backend(name)
        assert backend.name == "cuda"
        assert backend.events.merge is get_backend("numba").events.merge
    assert not caplog.records


def test_auto_says_nothing_where_there_is_no_device(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    for driver in (None, FakeDriver(devices=()), FakeDriver(devices=(), error=100)):
        machine.driver(driver)
        assert get_backend().name == "numba"
    assert not caplog.records


def test_auto_says_once_why_it_does_not_use_a_device(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for driver, why in (
        (FakeDriver(), "CuPy is not installed"),
        (FakeDriver(devices=(), error=999), "does not answer"),
    ):
        machine.driver(driver)
        caplog.clear()
        for _ in range(3):
            assert get_backend().name == "numba"
        (record,) = caplog.records
        assert why in record.message
        assert record.message.endswith("; using numba instead")


def test_auto_imports_no_cupy_where_there_is_no_device() -> None:
    code = "import sys; from xscan.backends import get_backend; print(get_backend().name, 'cupy' in sys.modules)"
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=hidden)
    assert (done.stdout.strip(), done.stderr) == ("numba False", "")


def test_reading_needs_no_device(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = machine.driver(FakeDriver())
    with pytest.raises(Exception, match="no such folder"):
        read(tmp_path / "0000000001")
    assert not driver.started
    assert scan_settings().scanner().backend.name == "numba"
    assert driver.started


def test_without_numba(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.patch.setitem(sys.modules, "xscan.backends.numba.counts", None)
    for _ in range(2):
        assert get_backend("auto").name == "numpy"
    (record,) = caplog.records
    assert "numba backend does not work here" in record.message
    assert "install numba" in said("numba")


# ---- xscan doctor


HOMELESS = """
import os, sys
from numba.core.caching import CacheImpl
CacheImpl._locator_classes = [one for one in CacheImpl._locator_classes if "InTree" not in one.__name__]
from xscan.cli import doctor
from xscan.backends import get_backend
backend = get_backend("numba")
print(backend.name, os.environ["NUMBA_CACHE_DIR"], dict(doctor._places())["numba keeps code in"], sep="\\n")
"""


def test_numba_is_given_a_folder_where_it_cannot_keep_code(tmp_path: Path) -> None:
    """An installation that cannot be written, and no home: Numba refuses to compile there."""
    nowhere = "/proc/nobody"
    home = {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "TMPDIR": str(tmp_path)}
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | home
    done = subprocess.run([sys.executable, "-c", HOMELESS], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, folder, told = done.stdout.splitlines()
    assert (name, folder) == ("numba", str(tmp_path / f"xscan-numba-{os.getuid()}"))
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert told.startswith(folder)
    assert told.endswith("(neither its own folder nor a home can be written)")
