"""Windows of cells with many counts: every backend finds those that NumPy finds, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.cuda_on_cpu import CpuDevice, make_backend
from helpers.kernel_net import cuda
from helpers.window_net import (
    any_field,
    assert_same_windows,
    compare_windows,
    fine_grid,
    huge_cell,
    more_than_room,
    timed,
    window_cases,
    windows_of,
)
from hypothesis import given
from hypothesis import strategies as st

from xscan.backends import Backend
from xscan.backends.numpy import NumpyBackend
from xscan.errors import DataError, Reason


def test_every_backend_finds_the_same(backend: Backend) -> None:
    found = 0
    for case in window_cases():
        theirs = windows_of(NumpyBackend().windows, case)
        assert_same_windows(windows_of(backend.windows, case), theirs, case.name)
        found += len(theirs)
    assert found > 10_000


@given(
    shape=st.tuples(st.integers(1, 13), st.integers(1, 13), st.integers(1, 200) | st.sampled_from([2049, 5121])),
    n=st.integers(0, 40) | st.integers(0, 2000),
    size=st.sampled_from([3, 40, 3000]),
    p=st.sampled_from([1e-6, 0.01, 0.5, 0.99]),
    crowd=st.sampled_from([0.0, 0.1, 0.45]),
    room=st.integers(1, 300),
    chunk=st.integers(1, 600),
    cube_bytes=st.none() | st.integers(1, 4000),
    seed=st.integers(0, 1000),
)
def test_any_field(
    shape: tuple[int, int, int],
    n: int,
    size: int,
    p: float,
    crowd: float,
    room: int,
    chunk: int,
    cube_bytes: int | None,
    seed: int,
) -> None:
    case = any_field(np.random.default_rng(seed), shape, n, size, p, crowd)
    theirs = windows_of(NumpyBackend().windows, case)
    assert_same_windows(windows_of(make_backend("numba").windows, case), theirs, "numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xscan.backends.cuda.memory.HITS", room)
        patch.setattr("xscan.backends.cuda.windows.CHUNK", chunk)
        assert_same_windows(windows_of(cuda(CpuDevice(), cube_bytes).windows, case), theirs, "cuda")


def test_a_million_photons_in_one_cell() -> None:
    assert compare_windows(CpuDevice(), huge_cell(), host="numba") > 10_000


def test_windows_that_do_not_fit_are_found_again() -> None:
    device, case = CpuDevice(), more_than_room()
    assert compare_windows(device, case, host="numba") > 1 << 16
    phases = device.launches.count("sort_photons")
    assert phases == 12
    assert device.launches.count("pass_windows") > phases


def test_photons_and_curves_are_uploaded_once() -> None:
    uploads: list[int] = []

    class Watched(CpuDevice):
        def put(self, array: object, values: np.ndarray) -> None:
            uploads.append(values.size)
            super().put(array, values)

    case = any_field(np.random.default_rng(2), (21, 22, 1000), 4001)
    windows_of(cuda(Watched()).windows, case)
    assert uploads.count(4001) == 4  # y, x, band, bin
    assert uploads.count(3 * 1001) == len(case.bands)


def test_photons_may_lie_anywhere_in_memory() -> None:
    case = any_field(np.random.default_rng(3), (9, 10, 50), 500)
    photons = case.photons
    columns = {name: np.repeat(getattr(photons, name), 2)[::2] for name in ("bin", "x", "y", "band")}
    compare_windows(CpuDevice(), replace(case, photons=replace(photons, **columns)))


def test_columns_that_a_kernel_would_misread_are_refused() -> None:
    case = any_field(np.random.default_rng(3), (9, 10, 50), 500)
    for name, wrong in (("x", case.photons.x.astype(np.int32)), ("band", case.photons.band[1:])):
        with pytest.raises(ValueError, match="is needed"):
            windows_of(cuda(CpuDevice()).windows, replace(case, photons=replace(case.photons, **{name: wrong})))


def test_a_field_without_a_whole_cell(backend: Backend) -> None:
    case = any_field(np.random.default_rng(4), (9, 10, 50), 5)
    grid = fine_grid(3, 10, 50)
    bands = tuple(replace(band, maps=band.maps[:, :3]) for band in case.bands)
    limits = replace(case.limits, in_mask=case.limits.in_mask[:3])
    small = replace(case, grid=grid, bands=bands, limits=limits, photons=timed([1, 1, 2], 0, 0))
    assert len(windows_of(backend.windows, small)) == 0


def test_a_device_with_little_memory_finds_the_same() -> None:
    """Or says what to do; with a smaller cube, photons are sorted in fewer and longer chunks."""
    case = any_field(np.random.default_rng(5), (40, 40, 3000), 60_000, p=0.01)
    theirs = windows_of(NumpyBackend().windows, case)
    for total in (200_000, 3_500_000, 5_000_000, 50_000_000):
        device = CpuDevice(total_bytes=total)
        loops = cuda(device, cube_bytes=max(total, 2 << 20)).windows
        if total < 1_000_000:
            with pytest.raises(DataError, match="stop what else uses the device") as caught:
                windows_of(loops, case)
            assert caught.value.reason is Reason.DEVICE_MEMORY
        else:
            assert_same_windows(windows_of(loops, case), theirs, f"{total} bytes")
        assert device.used_bytes <= total
