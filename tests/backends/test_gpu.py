"""What only a device can show: the same net as under the CPU, held under CuPy and a real GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.kernel_net import (
    assert_same_tables,
    busy_folder,
    compare,
    compare_beyond_32_bits,
    large_case,
    small_cases,
)
from helpers.lists import binned
from helpers.window_net import compare_windows, huge_cell, more_than_room, window_cases

from xscan.backends.cuda.device import Device, OutOfMemory

pytestmark = pytest.mark.gpu


def test_the_net_holds(gpu: Device) -> None:
    for case in small_cases():
        compare(gpu, case)


def test_the_net_of_windows_holds(gpu: Device) -> None:
    for case in window_cases():
        compare_windows(gpu, case)


def test_more_windows_than_there_is_room_for(gpu: Device) -> None:
    assert compare_windows(gpu, more_than_room(), host="numba") > 1 << 16


def test_a_million_photons_in_one_cell(gpu: Device) -> None:
    assert compare_windows(gpu, huge_cell(3_000_000), host="numba") > 10_000


def test_two_hundred_million_voxels(gpu: Device) -> None:
    case = large_case()
    assert compare(gpu, case) > 10_000
    assert compare(gpu, replace(case, cube_bytes=None)) > 10_000


def test_more_than_two_to_the_31_voxels(gpu: Device) -> None:
    if gpu.free_bytes() < 10e9:
        pytest.skip(f"{gpu.free_bytes() / 1e9:.1f} GB are free, 10 are needed")
    assert compare_beyond_32_bits(gpu) > 0


@pytest.mark.parametrize("profile", ["default", "views"])
def test_tables_are_those_of_numpy(gpu: Device, tmp_path: Path, rng: np.random.Generator, profile: str) -> None:
    assert assert_same_tables(gpu, busy_folder(tmp_path, rng), profile=profile) > 0


def test_tables_are_those_of_numpy_on_real_data(gpu: Device, real_observation: Path) -> None:
    assert assert_same_tables(gpu, real_observation, profile="exod2") == 3


def test_memory_is_counted_and_given_back(gpu: Device) -> None:
    with pytest.raises(OutOfMemory):
        gpu.empty(1 << 50, np.uint8)
    before = gpu.free_bytes()
    array = gpu.empty(256 << 20, np.uint8)
    assert before - gpu.free_bytes() >= 256 << 20
    del array
    assert gpu.free_bytes() >= before


def test_copies_are_whole_and_timed(gpu: Device) -> None:
    values = np.arange(1 << 20, dtype=np.uint32)
    source, target = gpu.empty(values.size, values.dtype), gpu.empty(values.size, values.dtype)
    gpu.put(source, values)
    assert gpu.seconds(lambda: gpu.copy(target, source)) > 0
    np.testing.assert_array_equal(gpu.get(target), values)


def test_arguments_are_checked(gpu: Device) -> None:
    p = binned([0], 20, 30)
    with pytest.raises(TypeError, match="7 parameters"):
        gpu.launch("sum_images", (1,), (32,), gpu.empty(1, np.int32))
    columns = [p.tick, p.tick * 0, p.pi]
    rest = (np.uint64(1), gpu.empty(9, np.int32), gpu.empty(1, np.int8), gpu.empty(2, np.uint32))
    with pytest.raises(TypeError, match="tick must be contiguous and on the device"):
        gpu.launch("sum_images", (1,), (32,), *columns, *rest)
