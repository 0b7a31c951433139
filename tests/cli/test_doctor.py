"""``xscan doctor`` on machines with and without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.cuda_on_cpu import CpuDevice
from helpers.fake_gpu import CudaError, FakeDriver, Machine, fake_cupy, machine

from xscan.backends.cuda import driver
from xscan.backends.numba import cache
from xscan.cli import doctor
from xscan.cli.doctor import doctor as doctor_command
from xscan.errors import ConfigError

__all__ = ["machine"]  # fixture


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
    machine.patch.setattr(driver, "open_device", CpuDevice)
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
    machine.patch.setitem(sys.modules, "xscan.backends.numba.counts", None)
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
        machine.patch.setattr(driver, "open_device", device)
        cuda = doctor.diagnose().checks[0]
        assert (cuda.works, remark in cuda.remark, "\n" in cuda.remark) == (False, True, False)


def test_doctor_says_where_code_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "cache"
    assert doctor._writable(folder) == str(folder)
    monkeypatch.setattr(cache.os, "access", lambda place, mode: place != tmp_path)
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
