from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from xscan.backends import Backend, get_backend

SHARED = Path(__file__).resolve().parents[2] / "shared"

settings.register_profile("xscan", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("xscan")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260)


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn: each test that takes it holds for all."""
    return get_backend(request.param)


@pytest.fixture
def real_observation() -> Path:
    return _shared("data/xmm/0001730201")


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
