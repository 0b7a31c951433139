from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.cuda_on_cpu import NO_COMPILER, find_compiler, make_backend
from hypothesis import settings

from xscan.backends import Backend
from xscan.backends.cuda.device import Device
from xscan.backends.cuda.driver import open_device
from xscan.errors import DeviceError

SHARED = Path(__file__).resolve().parents[2] / "shared"

settings.register_profile("xscan", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("xscan")


def pytest_configure(config: pytest.Config) -> None:
    """Fail, not skip, where the CUDA kernels cannot be run: nothing else would look at them, but a GPU."""
    if find_compiler() is None and config.option.markexpr != "gpu":
        pytest.exit(NO_COMPILER, returncode=1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260)


@pytest.fixture(params=["numpy", "numba", "cuda", "cuda in slabs"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn: each test that takes it holds for all. CUDA kernels run on the CPU."""
    return make_backend(request.param)


@pytest.fixture(scope="session")
def gpu() -> Device:
    """The CUDA device, for tests marked gpu; with ``XSCAN_GPU=required`` they fail without one."""
    try:
        return open_device()
    except DeviceError as error:
        if os.environ.get("XSCAN_GPU") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def real_observation() -> Path:
    return _shared("data/xmm/0001730201")


@pytest.fixture
def real_clean_observation() -> Path:
    return _shared("data/xmm-clean/0201903501")


@pytest.fixture
def golden() -> Path:
    return _shared("golden/exod2")


@pytest.fixture
def hotpix() -> Path:
    return _shared("data/hotpix")


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"{path} is not here: real data and EXOD2's outputs are not part of the project")
    return path
