"""The CUDA backend, its kernels run on the CPU: large views, slabs, buffers and a device that is full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cuda_on_cpu import CpuDevice
from helpers.kernel_net import (
    BAND,
    Case,
    assert_same_tables,
    assert_same_voxels,
    busy_folder,
    compare,
    cuda,
    expectation_on,
    grid_of,
    large_case,
    limits_that_occur,
    photons_round,
    small_cases,
    uniform,
)
from helpers.lists import binned
from hypothesis import given, settings
from hypothesis import strategies as st

from xscan import api
from xscan.backends.cuda.counts import eclipse_possible, least_peak
from xscan.backends.cuda.device import OutOfMemory
from xscan.backends.cuda.memory import CUBE_MOST, Memory
from xscan.backends.numpy import NumpyBackend
from xscan.bayes import Thresholds, thresholds
from xscan.config import PROFILES
from xscan.errors import DataError, Reason
from xscan.model import Expectation, Photons
from xscan.pipeline.scan import scan_folder


def test_fifty_million_voxels() -> None:
    case = large_case(5_003)
    assert np.prod(case.grid.shape) > 5e7
    assert compare(CpuDevice(), case) > 10_000


@settings(max_examples=80)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 40)),
    dt_ms=st.sampled_from([1, 7, 5000]),
    n=st.integers(0, 600),
    slab=st.none() | st.integers(1, 9),
    bright=st.sampled_from([0.0, 0.3, 1.0]),
    tight=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_small_view(
    shape: tuple[int, int, int], dt_ms: int, n: int, slab: int | None, bright: float, tight: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    grid = grid_of(*shape, dt_ms)
    expected = expectation_on(rng, grid, bright)
    limits = limits_that_occur(rng, grid, expected, n + 1) if tight else thresholds(3, n)
    size = None if slab is None else slab * 16 * shape[0] * shape[1]
    compare(CpuDevice(), Case("any", photons_round(rng, grid, n), grid, expected, limits, size))


def test_views_may_be_used_in_any_order() -> None:
    """The cube holds one view: another one's counts are binned again when they are asked for."""
    rng = np.random.default_rng(3)
    device = CpuDevice()
    backend = cuda(device)
    grids = (grid_of(5, 6, 31), grid_of(5, 6, 9, 17_000), grid_of(7, 2, 50))
    sets = [photons_round(rng, grids[0], 2000) for _ in range(2)]
    loaded, slow = [backend.load(p) for p in sets], [NumpyBackend().load(p) for p in sets]
    pairs = [
        (a.bin(grid, *BAND), b.bin(grid, *BAND), grid) for a, b in zip(loaded, slow, strict=True) for grid in grids
    ]
    for i in rng.integers(0, len(pairs), 40):
        ours, theirs, grid = pairs[i]
        expected, limits = expectation_on(rng, grid), thresholds(3, 2000)
        kind = expected.kind.astype(np.int8)
        assert_same_voxels(ours.flag(expected, limits), theirs.flag(expected, limits))
        np.testing.assert_array_equal(ours.images(kind), theirs.images(kind))


def test_work_is_not_done_twice() -> None:
    """Photons are uploaded once, a view is binned once, and its last slab is still there to be searched."""
    rng = np.random.default_rng(4)
    grid = grid_of(5, 6, 30)
    uploads: list[int] = []

    class Watched(CpuDevice):
        def put(self, array: object, values: np.ndarray) -> None:
            uploads.append(values.size)
            super().put(array, values)

    device = Watched()
    p, expected = photons_round(rng, grid, 2001), expectation_on(rng, grid)
    for cube_bytes, binnings in ((None, 1), (5 * 6 * 4 * 12, 3 + 2)):
        loaded = cuda(device, cube_bytes).load(p)
        uploads.clear()
        for hi in (1500, 2000):
            device.launches.clear()
            counts = loaded.bin(grid, 400, hi)
            assert counts.n_events() > counts.n_max() > 0
            counts.flag(expected, thresholds(3, counts.n_max()))
            assert device.launches.count("bin_events") == binnings
            assert device.launches.count("flag_voxels") == (1 if cube_bytes is None else 3)
        assert uploads.count(2001) == 3  # tick, cell, pi


def test_hits_that_do_not_fit_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xscan.backends.cuda.memory.HITS", 3)
    for case in small_cases():
        device = CpuDevice()
        if 3 < compare(device, case) < 100 and case.cube_bytes is None:
            assert device.launches.count("flag_voxels") == 2, case.name


def test_a_device_with_little_memory_gives_the_same() -> None:
    """From far too little to plenty: the same voxels or an error that says what to do, never less."""
    rng = np.random.default_rng(5)
    grid = grid_of(20, 21, 9000)  # a cube of 15 MB
    p, expected, limits = photons_round(rng, grid, 20_000), expectation_on(rng, grid, 0.01), thresholds(3, 20_000)
    voxels = NumpyBackend().load(p).bin(grid, *BAND).flag(expected, limits)
    slabs = []
    for total in (100_000, 4_000_000, 5_000_000, 8_000_000, 12_000_000, 50_000_000):
        device = CpuDevice(total_bytes=total)
        # as much as the device has: photons, tables and hits must push it aside
        loaded = cuda(device, cube_bytes=max(total, 2 << 20)).load(p)
        if total < 500_000:
            with pytest.raises(DataError, match="stop what else uses the device") as caught:
                loaded.bin(grid, *BAND)
            assert caught.value.reason is Reason.DEVICE_MEMORY
        else:
            assert_same_voxels(loaded.bin(grid, *BAND).flag(expected, limits), voxels)
            slabs.append(device.launches.count("flag_voxels"))
        assert device.used_bytes <= total
    assert slabs == sorted(slabs, reverse=True)
    assert slabs[0] > slabs[-1] == 1


def test_more_hits_than_the_device_can_hold_at_once() -> None:
    """Each voxel is flagged, 18 MB of hits on a device of 8 MB: slabs shrink until one slab's hits fit."""
    grid = grid_of(20, 21, 2000)
    p, expected, limits = binned([0], 20, 30), uniform(grid, 40.0), thresholds(3, 1)
    device = CpuDevice(total_bytes=8 << 20)
    voxels = cuda(device).load(p).bin(grid, *BAND).flag(expected, limits)
    assert_same_voxels(voxels, NumpyBackend().load(p).bin(grid, *BAND).flag(expected, limits))
    assert len(voxels) == np.prod(grid.shape)


def test_a_cut_lasts_for_one_observation() -> None:
    rng = np.random.default_rng(6)
    grid = grid_of(20, 21, 900)
    p = photons_round(rng, grid, 20_000)
    device = CpuDevice(total_bytes=1 << 20)
    backend = cuda(device, cube_bytes=4 << 20)
    with pytest.raises(DataError, match="1 MiB are free, too few for the photons"):  # all that it held is free
        backend.load(p).bin(grid, *BAND).n_max()
    device.total_bytes = 20_000_000  # what else used it has gone
    device.launches.clear()
    assert backend.load(p).bin(grid, *BAND).n_max() == NumpyBackend().load(p).bin(grid, *BAND).n_max()
    assert device.launches == ["bin_events"]


def test_a_cube_too_small_for_four_frames() -> None:
    p = binned([0], 20, 30)
    with pytest.raises(DataError, match="four frames of 8 x 9 cells need 1152 bytes, 1151 are there") as caught:
        cuda(CpuDevice(), cube_bytes=1151).load(p).bin(grid_of(8, 9, 5), *BAND).n_events()
    assert caught.value.reason is Reason.DEVICE_MEMORY


def test_how_large_a_cube_may_be() -> None:
    """Half of what is free, at most 8 GiB; the cube itself, once there, is not counted as missing."""
    for total, most in ((1 << 40, CUBE_MOST), (1 << 20, 1 << 19)):
        device = CpuDevice(total_bytes=total)
        backend = cuda(device)
        for _ in range(3):
            backend.load(binned([0], 20, 30)).bin(grid_of(8, 9, 500), *BAND).n_events()
            assert backend._workspace.cube_bytes == most


def test_buffers_are_kept_and_replaced_only_by_larger_ones() -> None:
    device = CpuDevice(total_bytes=1000)
    memory = Memory(device)
    first = memory.put("a", np.arange(100, dtype=np.int32))
    memory.mark("a", "numbers")
    assert memory.held("a", "numbers") is not None
    assert memory.held("a", "letters") is None
    assert memory.held("b", "numbers") is None
    del first
    assert device.get(memory.zeros("a", 50, np.int32)).tolist() == [0] * 50
    assert memory.held("a", "numbers") is None
    assert device.used_bytes == 400
    memory.take("a", 200, np.int32)  # the old one must go first: both at once would not fit
    assert device.used_bytes == 800
    with pytest.raises(OutOfMemory):
        memory.take("b", 51, np.int32)
    memory.release()
    assert device.used_bytes == 0


def test_what_a_kernel_would_misread_is_refused() -> None:
    grid = grid_of(3, 4, 6)
    counts = cuda(CpuDevice()).load(binned([0, 0, 0], 20, 24, 1000)).bin(grid, *BAND)
    expected = uniform(grid, 0.1)
    with pytest.raises(ValueError, match="the limits reach to 2 counts; 3 occur"):
        counts.flag(expected, thresholds(3, 2))
    for wrong in (
        replace(expected, background_counts=np.ones(5)),
        replace(expected, live=np.ones(6, np.float32)),
        replace(expected, template=np.ones((2, 4, 3))),
        replace(expected, kind=np.ones(6, bool)),
    ):
        with pytest.raises(ValueError, match="is needed"):
            counts.flag(wrong, thresholds(3, 10))
    with pytest.raises(ValueError, match="is needed"):
        counts.images(np.ones(7, np.int8))
    with pytest.raises(ValueError, match="is needed"):
        counts.images(np.ones(6, np.uint8))
    with pytest.raises(ValueError, match="is needed"):
        counts.counts_per_frame(np.ones((4, 3), bool))


def test_bounds_are_exact() -> None:
    """A cell is passed over only if no frame of it can be flagged, to the last bit."""
    limits = Thresholds(np.array([0.0, 1e-7, 0.2, 0.1]), np.array([5.0, 4.0, 7.0, 8.0]), 3.0)
    assert least_peak(limits) == 2
    assert least_peak(Thresholds(np.zeros(3), np.ones(3), 3.0)) == 3
    assert least_peak(Thresholds(np.ones(3), np.ones(3), 3.0)) == 0
    rate, live = np.array([0.5, 2.0, 1.0, 9.0]), np.array([0.9, 0.1, 0.5, 1.0])
    template, source = np.zeros((2, 1, 4)), np.zeros((2, 1, 4))
    template[:, 0, 0], template[:, 0, 1] = [2.0, 0.0], [np.nextafter(2.0, 3.0), 0.0]
    template[:, 0, 3] = np.nan
    source[1, 0, 2] = 4.1
    e = Expectation(template, source, rate, live, np.array([0, 0, 0, 1], np.uint8))
    assert eclipse_possible(e, limits).tolist() == [[False, True, True, True]]


def test_tables_are_those_of_numpy(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = busy_folder(tmp_path, rng)
    for profile in ("default", "views"):
        assert assert_same_tables(CpuDevice(), folder, profile=profile) > 0


@pytest.mark.parametrize("profile", PROFILES)
def test_tables_are_those_of_numpy_on_real_data(real_observation: Path, profile: str) -> None:
    n = assert_same_tables(CpuDevice(), real_observation, profile=profile)
    assert n == {"views": 0, "exod2": 3}.get(profile, n)


def test_a_full_device_is_on_record_and_the_worker_lives_on(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = busy_folder(tmp_path, rng)
    device = CpuDevice(total_bytes=100_000)
    scanner = replace(api.scan_settings("views", backend="numpy").scanner(), backend=cuda(device))
    _, tables = scan_folder(folder, scanner)
    assert set(tables.runs["reason"].to_pylist()) == {"device_memory"}
    device.total_bytes = 1 << 30
    _, tables = scan_folder(folder, scanner)
    assert set(tables.runs["state"].to_pylist()) == {"done"}
    assert tables.regions.num_rows > 0


def test_photons_need_not_be_contiguous() -> None:
    rng = np.random.default_rng(11)
    grid = grid_of(4, 4, 9)
    p = photons_round(rng, grid, 500)
    columns = {
        name: np.repeat(getattr(p, name), 2)[::2] for name in Photons.__slots__ if name not in ("box", "instrument")
    }
    compare(
        CpuDevice(), Case("every other", replace(p, **columns), grid, expectation_on(rng, grid), thresholds(3, 500))
    )
