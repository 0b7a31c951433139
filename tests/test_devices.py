"""Backends by name on machines with and without a GPU: what is chosen, what is said, what is imported."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from email.message import Message
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cuda_on_cpu import CpuDevice

from xscan import backends, doctor
from xscan.api import read, recipe
from xscan.backends import get_backend, nvidia
from xscan.backends.device import DeviceLost, OutOfMemory
from xscan.commands.doctor import doctor as doctor_command
from xscan.errors import ConfigError, DeviceError

TOO_OLD, UNAVAILABLE = 35, 46  # CUDA's cudaErrorInsufficientDriver, cudaErrorDevicesUnavailable


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
        self.patch.delitem(sys.modules, "xscan.backends.cupy_", raising=False)
        self.patch.delattr(backends, "cupy_", raising=False)
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
    machine.patch.setattr(nvidia.os, "access", lambda place, mode: place != tmp_path and access(place, mode))
    machine.patch.setattr(nvidia.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    spare = tmp_path / "tmp" / f"xscan-cupy-{os.getuid()}"
    told = facts(doctor.diagnose())
    assert told["cupy keeps code in"] == f"{tmp_path / 'cache'} (cannot be written: {spare} instead)"
    assert get_backend("cuda").name == "cuda"
    assert os.environ["CUPY_CACHE_DIR"] == str(spare)
    assert spare.stat().st_mode & 0o777 == 0o700
    spare.chmod(0o777)  # somebody else's
    assert nvidia.spare_cache() != spare


@pytest.mark.parametrize("home", ["locked", "nobody's"])
def test_a_home_that_cannot_be_looked_into(machine: Machine, tmp_path: Path, home: str) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(), cupy_cuda12x="14.2.0")
    machine.patch.delenv("CUPY_CACHE_DIR", raising=False)
    machine.patch.chdir(tmp_path)
    if home == "nobody's":  # a user without a name and without HOME
        machine.patch.setattr(os.path, "expanduser", lambda path: path)
        assert nvidia.cupy_cache() == Path("~/.cupy/kernel_cache")
        assert nvidia.can_be_written(nvidia.cupy_cache())
        return
    (tmp_path / "home").mkdir()
    machine.patch.setenv("HOME", str(tmp_path / "home" / "user"))
    exists, access = os.path.exists, os.access
    closed = str(tmp_path / "home") + "/"
    machine.patch.setattr(os.path, "exists", lambda place: not str(place).startswith(closed) and exists(place))
    machine.patch.setattr(os, "access", lambda place, mode: str(place) + "/" != closed and access(place, mode))
    assert not nvidia.can_be_written(nvidia.cupy_cache())
    assert get_backend("cuda").name == "cuda"
    assert Path(os.environ.pop("CUPY_CACHE_DIR")) == nvidia.spare_cache()


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
    machine.patch.setattr(sys.modules["xscan.backends.cupy_"], "check_arguments", lambda *_: None)

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
        assert backend.merge is get_backend("numba").merge
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
    assert recipe().backend.name == "numba"
    assert driver.started


def test_without_numba(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.patch.setitem(sys.modules, "xscan.backends.numba_", None)
    for _ in range(2):
        assert get_backend("auto").name == "numpy"
    (record,) = caplog.records
    assert "numba backend does not work here" in record.message
    assert "install numba" in said("numba")


# ---- xscan doctor


def facts(found: doctor.Diagnosis) -> dict[str, str]:
    return dict(found.facts)


def test_doctor_without_a_device(machine: Machine) -> None:
    found = doctor.diagnose()
    assert [(check.backend, check.works) for check in found.checks] == [
        ("cuda", False), ("numba", True), ("numpy", True)
    ]  # fmt: skip
    assert found.checks[0].remark.startswith("no NVIDIA driver")
    assert found.checks[1].remark == "flags 2 voxels of a small search, the same as numpy"
    assert found.auto == "numba"
    assert (facts(found)["cupy"], facts(found)["cuda runtime"]) == ("not installed", "none")
    assert facts(found)["nvidia driver"] == "none"


def test_doctor_with_everything(machine: Machine) -> None:
    machine.driver(FakeDriver(devices=("Abacus X1", "Abacus X2")))
    machine.cupy(fake_cupy(), cupy_cuda12x="14.2.0")
    machine.patch.setattr(nvidia, "open_device", CpuDevice)
    found = doctor.diagnose()
    assert all(check.works for check in found.checks)
    assert found.auto == "cuda"
    told = facts(found)
    assert (told["cupy"], told["cuda runtime"]) == ("cupy-cuda12x 14.2.0", "12.9")
    assert told["nvidia driver"] == "for CUDA 12.4"
    assert (told["device 0"], told["device 1"]) == ("Abacus X1, 1.5 GiB", "Abacus X2, 1.5 GiB")
    assert "cupy keeps code in" in told


def test_doctor_with_two_builds_of_cupy(machine: Machine) -> None:
    machine.driver(FakeDriver())
    machine.cupy(fake_cupy(), cupy_cuda12x="14.2.0", cupy_cuda13x="14.2.0")
    found = doctor.diagnose()
    assert "overwrite each other's files" in found.checks[0].remark
    assert facts(found)["cupy"] == "cupy-cuda12x 14.2.0, cupy-cuda13x 14.2.0"
    assert found.auto == "numba"


def test_doctor_without_numba(machine: Machine) -> None:
    machine.patch.setitem(sys.modules, "xscan.backends.numba_", None)
    found = doctor.diagnose()
    assert [check.works for check in found.checks] == [False, False, True]
    assert "install numba" in found.checks[1].remark
    assert found.auto == "numpy"
    assert not found.works("numba")


def test_doctor_sees_through_a_backend_that_is_wrong(machine: Machine) -> None:
    class Wrong(CpuDevice):
        def get(self, array: object) -> object:
            values = super().get(array)
            return values + 1 if values.dtype == "float64" else values

    class Crashes(CpuDevice):
        def launch(self, *_: object) -> None:
            raise CudaError(700, "illegal address\nmore")

    machine.driver(FakeDriver())
    for device, remark in ((Wrong, "WRONG: a small search flags other"), (Crashes, "CudaError: illegal address")):
        machine.patch.setattr(nvidia, "open_device", device)
        cuda = doctor.diagnose().checks[0]
        assert (cuda.works, remark in cuda.remark, "\n" in cuda.remark) == (False, True, False)


def test_doctor_says_where_code_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "cache"
    assert doctor._writable(folder) == str(folder)
    monkeypatch.setattr(nvidia.os, "access", lambda place, mode: place != tmp_path)
    assert doctor._writable(folder).endswith("(cannot be written: every process compiles anew)")


def test_doctor_as_a_command(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor_command(None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["auto", "chooses", "numba"]
    column = lines[-1].index("chooses")
    assert all(line[column - 1 : column + 1].lstrip() == line[column] for line in lines if line)
    for name, code in (("numba", 0), ("auto", 0), ("cuda", 3)):
        assert doctor_command(name) == code
    with pytest.raises(ConfigError, match="known: auto, numpy, numba, cuda"):
        doctor_command("gpu")
