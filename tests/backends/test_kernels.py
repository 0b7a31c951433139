"""The nets under the CUDA kernels, and proof that each catches what it is there for."""

from __future__ import annotations

import mmap
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import conftest
import numpy as np
import pytest
from helpers.cuda_on_cpu import CpuDevice, HostArray, build, compiler
from helpers.kernel_net import compare, small_cases
from helpers.lists import binned
from helpers.nvrtc import RefusedError, Usage, assembly, compile_kernels
from helpers.window_net import compare_windows, window_cases

from xscan.backends.cuda.source import COMPILE_OPTIONS, check_arguments, kernel_parameters, kernel_text

TEXT = kernel_text()
ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
MOST_REGISTERS = {
    "bin_events": 40, "sum_images": 40, "sum_rate": 40, "sum_by_camera": 40, "flag_voxels": 64,
    "count_photons": 40, "add_chunks": 64, "sort_photons": 64, "pass_windows": 64,
}  # fmt: skip


def changed(*edits: tuple[str, str]) -> str:
    text = TEXT
    for old, new in edits:
        if old not in text:  # no AssertionError: that is what a caught defect raises
            raise LookupError(f"the kernels no longer say {old!r}: plant this defect anew")
        text = text.replace(old, new)
    return text


# ---- the CUDA compiler's net


def assert_fits(text: str, arch: str) -> None:
    usage = compile_kernels(text, arch, COMPILE_OPTIONS)
    assert set(usage) == set(MOST_REGISTERS)
    for name, most in MOST_REGISTERS.items():
        assert usage[name].spilled_bytes == 0, f"{name} spills {usage[name].spilled_bytes} bytes on {arch}"
        assert usage[name].registers <= most, f"{name} takes {usage[name].registers} registers on {arch}"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_kernels_compile_for_every_gpu_and_fit(arch: str) -> None:
    assert_fits(TEXT, arch)


def test_the_cuda_compilers_net_catches() -> None:
    greedy = ("u64 counted = 0, largest = 0;", "u64 counted = 0, largest = 0; double many[64]; {}")
    fill = "for (int k = 0; k < 64; k++) many[k] = tick[k] * 1.5;"
    drain = ("if (counted > 0) {", "for (int k = 0; k < 64; k++) counted += many[k] > 3.0 + k; if (counted > 0) {")
    wasteful = changed((greedy[0], greedy[1].format("\n#pragma unroll\n" + fill + "\n")), drain)
    with pytest.raises(AssertionError, match=r"bin_events takes \d+ registers on sm_90"):
        assert_fits(wasteful, "sm_90")
    spilling = changed(("__launch_bounds__(128, 8)", "__launch_bounds__(128, 16)"))
    with pytest.raises(AssertionError, match="flag_voxels spills"):
        assert_fits(spilling, "sm_90")
    with pytest.raises(RefusedError, match='identifier "pixel" is undefined'):
        assert_fits(changed(("place.cell * pitch", "pixel * pitch")), "sm_90")
    with pytest.raises(AssertionError):
        assert_fits(TEXT.replace("sum_rate", "sum_of_rates"), "sm_90")


def test_what_the_compiler_says_is_read() -> None:
    usage = compile_kernels('extern "C" __global__ void nothing(int* p) { *p = 1; }', "sm_90", ())
    assert set(usage) == {"nothing"}
    assert usage["nothing"].spilled_bytes == 0
    assert 0 < usage["nothing"].registers < 20
    assert usage["nothing"] == Usage(usage["nothing"].registers, 0)


def test_mu_is_never_rounded_once() -> None:
    """Neither the intrinsics nor, where somebody writes mu without them, the options let it be fused."""
    assert "mul.rn.f64" in assembly(TEXT, COMPILE_OPTIONS)
    assert "fma." not in assembly(TEXT, COMPILE_OPTIONS)
    assert "fma." not in assembly(TEXT, ())
    careless = changed(
        ("__dadd_rn(__dmul_rn(background, rate), __dmul_rn(source, live))", "background * rate + source * live")
    )
    of_windows = changed(("__dadd_rn(mu, __dmul_rn(weight, in_window))", "mu + weight * in_window"))
    for text in (careless, of_windows):
        assert "fma." not in assembly(text, COMPILE_OPTIONS)
        assert "fma." in assembly(text, ())


# ---- the comparison's net

DEFECTS = {
    "a peak on its limit": ("return mu < mu_peak[n]", "return mu <= mu_peak[n]"),
    "an eclipse on its limit": ("if (mu > mu_eclipse[n])", "if (mu >= mu_eclipse[n])"),
    "flagged at the least mu": ("if (!(mu > mu_min))", "if (!(mu >= mu_min))"),
    "a peak goes before an eclipse": ("if (mu > mu_eclipse[n])", "if (!(mu < mu_peak[n]) && mu > mu_eclipse[n])"),
    "one rounding": ("__dadd_rn(__dmul_rn(background, rate), ", "__builtin_fma(background, rate, "),
    "x and y swapped": ("row * view.nx + column", "column * view.ny + row"),
    "the photons' rows as long as the view's": ("cell / view.width", "cell / view.nx"),
    "columns of the view's rows": ("photons_row * view.width", "photons_row * view.nx"),
    "the view's corner for the photons'": ("photons_row - view.y0", "photons_row"),
    "columns from the photons' corner": ("view.width - view.x0", "view.width"),
    "cell and frame swapped": ("(u64)cell * nt + frame", "(u64)frame * (nt / 2) + cell"),
    "the good frames' template in bad frames": ("(bad >> k) & 1u", "(bad >> k) & 0u"),
    "the template of another frame": ("(bad >> k) & 1u", "(bad >> (3 - k)) & 1u"),
    "ticks before the first frame": ("tick >= 0 && ", ""),
    "the frame behind the last": ("frame < view.nt", "frame <= view.nt"),
    "the upper end of the band": ("pi < view.pi_to", "pi <= view.pi_to"),
    "the column behind the last": ("column < view.nx", "column <= view.nx"),
    "the row before the first": ("row >= 0", "row >= -1"),
    "slabs overlap": ("place.frame >= t_to", "place.frame > t_to"),
    "a slab's frames not from its first": ("(place.frame - t_from)", "place.frame"),
    "the flags of a slab from frame 0": ("t_from + 4 * quad + k", "4 * quad + k"),
    "the largest count one short": ("atomicAdd(&cube[voxel], 1u) + 1", "atomicAdd(&cube[voxel], 1u)"),
    "one frame of four not looked at": (" || n[3] >= n_least", ""),
    "a peak of one count more": ("n[0] >= n_least ||", "n[0] > n_least ||"),
    "eclipses of another cell": ("(reach >> (8 * c))", "(reach >> (8 * (c ^ 1)))"),
    "cells behind the last": ("c >= n_group ||", ""),
    "no stride over photons": ("return (u64)gridDim.x * blockDim.x;", "return ~0ull >> 1;"),
    "no stride over cells": ("group += stride", "group += n_cells"),
    "half a stride over cells": ("(i32)gridDim.y * CELLS", "(i32)gridDim.y * CELLS / 2"),
    "the capacity ignored": ("if (slot < capacity)", "if (slot < capacity + 200)"),
    "the capacity exceeded by one": ("if (slot < capacity)", "if (slot <= capacity)"),
    "hits counted only while there is room": (
        "const u64 slot = atomicAdd(n_hits, 1ull);",
        "const u64 slot = *n_hits < capacity ? atomicAdd(n_hits, 1ull) : capacity;",
    ),
    "bad frames in the image of good ones": ("images[k * view.ny", "images[0 * view.ny"),
    "rejected frames in the image of bad ones": ("k == 0 || k == 1", "k != 0 || k == 0"),
    "images of another size": ("k * view.ny * view.nx", "k * view.ny * view.ny"),
    "cameras swapped": ("n_cameras * from + camera[i]", "n_cameras * from + (camera[i] + 1) % 3"),
    "a wanted voxel missed": ("from < to", "from + 1 < to"),
}  # fmt: skip


def hold_net(text: str) -> None:
    device = CpuDevice(text, optimise="-O1")
    for case in small_cases():
        compare(device, case)


def test_the_net_holds() -> None:
    hold_net(TEXT)


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_net_catches(defect: str) -> None:
    with pytest.raises(AssertionError):
        hold_net(changed(DEFECTS[defect]))


WINDOW_DEFECTS = {
    "a window on its limit": ("__dmul_rn(mu, factor) < most", "__dmul_rn(mu, factor) <= most"),
    "one rounding": ("__dadd_rn(mu, __dmul_rn(weight, in_window))", "__builtin_fma(weight, in_window, mu)"),
    "the limit of one count less": ("limited ? mu_peak[n]", "limited ? mu_peak[n - 1]"),
    "no window beyond the limits": ("passes = !limited || ", "passes = "),
    "nothing expected": ("!(mu > 0.0)", "!(mu >= 0.0)"),
    "the window's counts in its expectation": ("(double)(end - begin - n)", "(double)(end - begin)"),
    "the template's shape left out": ("__dadd_rn(a0[cell], total[cell])", "total[cell]"),
    "the last component left out": ("q < n_components && passes", "q < n_components - 1 && passes"),
    "components as rows": ("(u64)cell * n_components + q", "(u64)cell + q"),
    "one count": ("n < 2 ||", "n < 1 ||"),
    "two counts are too few": ("n < 2 ||", "n < 3 ||"),
    "cells of two photons": ("if (end - begin < 2)", "if (end - begin < 3)"),
    "behind the end": ("stop > nt", "stop > nt + 1"),
    "before the end": ("stop > nt", "stop >= nt"),
    "no window from the beginning": ("half > 0 ?", "half > 1 ?"),
    "a window twice": ("(bin_before >> level) < half - 1", "(bin_before >> level) < half"),
    "the half before forgotten": ("alone && half > 0 ?", "is_first && half > 0 ?"),
    "photons of another cell": ("is_first || (bin_before", "(bin_before"),
    "every photon of a half window": ("if (!is_first && bin_before >> level == half) break;", ""),
    "odd halves": ("if (half % 2 == 0)", "if (half % 2 == 1)"),
    "a window of one half": ("(half + 2) << level", "(half + 1) << level"),
    "the first photon too late": ("sorted_bin[middle] < bin", "sorted_bin[middle] <= bin"),
    "a search cut short": ("from + step - 1 : end;", "from + step - 2 : end;"),
    "a step too far": ("from += step;", "from += step + 1;"),
    "the longest windows": ("level < n_levels", "level < n_levels - 1"),
    "pixels before the first row": ("dy >= 0 && ", ""),
    "pixels before the first column": ("dx >= 0 && ", ""),
    "the column behind the last": ("column < cells.nx", "column <= cells.nx"),
    "the row behind the last": ("row < cells.ny", "row <= cells.ny"),
    "the upper end of the band": ("band < cells.hi", "band <= cells.hi"),
    "the lower end of the band": ("band >= cells.lo", "band > cells.lo"),
    "x and y swapped": ("row * cells.nx + column", "column * cells.ny + row"),
    "phases swapped": ("x - cells.x0", "x - cells.y0"),
    "another side": ("#define CELL 4", "#define CELL 3"),
    "a chunk backwards": ("for (u64 i = begin; i < end; i++)", "for (u64 i = end; i-- > begin;)"),
    "no stride": ("return (u64)gridDim.x * blockDim.x;", "return ~0ull >> 1;"),
    "the capacity exceeded by one": ("if (slot < capacity)", "if (slot <= capacity)"),
    "windows counted only while there is room": DEFECTS["hits counted only while there is room"],
}  # fmt: skip


def hold_windows_net(text: str) -> None:
    device = CpuDevice(text, optimise="-O1")
    for case in window_cases():
        compare_windows(device, case)


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xscan.backends.cuda.memory.HITS", 500)
    monkeypatch.setattr("xscan.backends.cuda.windows.CHUNK", 100)


@pytest.mark.usefixtures("little_room")
def test_the_net_of_windows_holds() -> None:
    hold_windows_net(TEXT)


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("defect", WINDOW_DEFECTS)
def test_the_net_of_windows_catches(defect: str) -> None:
    with pytest.raises(AssertionError):
        hold_windows_net(changed(WINDOW_DEFECTS[defect]))


def kept(device: CpuDevice, values: object, dtype: type) -> HostArray:
    """An array between guards."""
    values = np.asarray(values, dtype)
    array = device.empty(values.size, dtype)
    device.put(array, values)
    return array


def hold_sort_net(text: str) -> None:
    """Sort photons by cell, without looking for windows in them: defects that leave a place empty are seen here."""
    device, rng, n = CpuDevice(text, optimise="-O1"), np.random.default_rng(6), 1000
    y, x, band = rng.integers(0, 11, n), rng.integers(0, 15, n), rng.integers(0, 5, n)
    bins = np.sort(rng.integers(0, 300, n))
    columns = [kept(device, *column) for column in ((y, np.int16), (x, np.int16), (band, np.uint8), (bins, np.int32))]
    for (y0, x0, ny, nx, lo, hi), size in (
        ((0, 2, 2, 3, 1, 4), 90),
        ((2, 0, 2, 3, 0, 5), 1000),
        ((2, 2, 2, 3, 0, 2), 7),
    ):
        cells = kept(device, [y0, x0, ny, nx, lo, hi], np.int32)
        row, column = (y - y0) // 4, (x - x0) // 4
        inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx) & (band >= lo) & (band < hi)
        cell = (row * nx + column)[inside]
        order, n_cell = np.argsort(cell, kind="stable"), np.bincount(cell, minlength=ny * nx)
        n_chunks = -(-n // size)
        table, found = kept(device, np.zeros(n_chunks * ny * nx), np.uint32), kept(device, n_cell * 0, np.uint32)
        shape, words = (np.uint64(n), cells, np.uint64(size)), (np.uint64(n_chunks), np.uint64(ny * nx))
        device.launch("count_photons", (2,), (32,), *columns[:3], *shape, table)
        device.launch("add_chunks", (2,), (32,), table, *words, found)
        np.testing.assert_array_equal(device.get(found), n_cell)
        offsets = kept(device, np.concatenate([[0], np.cumsum(n_cell)]), np.uint32)
        sorted_to = [kept(device, cell * 0, np.int32) for _ in range(2)]
        device.launch("sort_photons", (2,), (32,), *columns, *shape, words[0], table, offsets, *sorted_to)
        np.testing.assert_array_equal(device.get(sorted_to[0]), cell[order])
        np.testing.assert_array_equal(device.get(sorted_to[1]), bins[inside][order])


def test_photons_are_sorted_by_cell_and_time() -> None:
    hold_sort_net(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("i / chunk_size", "i / (chunk_size + 1)"),
        ("chunk + k < n_chunks ? table", "chunk + k <= n_chunks ? table"),
        ("chunk + k < n_chunks) table", "chunk + k <= n_chunks) table"),
        ("chunk += 8", "chunk += 7"),
        ("before += counts[k]", "before = counts[k]"),
        ("before[cell]++", "before[cell]"),
        ("? begin + chunk_size : n_photons", "? begin + chunk_size - 1 : n_photons"),
    ],
)
def test_a_photon_in_a_wrong_place_is_caught(old: str, new: str) -> None:
    with pytest.raises(AssertionError):
        hold_sort_net(changed((old, new)))


# ---- more than 2^31 voxels

PITCH = 1 << 32  # an int32 index into the second cell would find the first instead
NT = (1 << 31) - 1


def reserved(size: int, dtype: type) -> HostArray:
    """Zeros that take memory only where they are touched, in numbers that no machine has."""
    n_bytes = size * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return HostArray(np.frombuffer(mmap.mmap(-1, n_bytes, flags=flags), dtype))


def on_device(values: list[float], dtype: type) -> HostArray:
    return HostArray(np.array(values, dtype))


def hold_index_net(text: str) -> None:
    """Bin, flag and look up a voxel of number 2^31 + 5, which lies 2^32 behind the cube's beginning."""
    device = CpuDevice(text, optimise="-O1")
    frame, number = 6, NT + 6
    p = binned([frame], 20, 30)
    columns = [HostArray(p.tick), on_device([0], np.int32), HostArray(p.pi)]
    view = on_device([1, -1, 0, 2, 1, 1, NT, 0, 1000], np.int32)
    cube, totals = reserved(PITCH + 8, np.uint32), on_device([0, 0], np.uint64)
    frames = (np.int32(0), np.int32(NT), np.uint64(PITCH))
    device.launch("bin_events", (1,), (32,), *columns, np.uint64(1), view, *frames, cube, totals)
    assert cube.values[PITCH + frame] == 1

    by_camera, wanted = on_device([0, 0, 0], np.uint32), on_device([number], np.uint64)
    device.launch(
        "sum_by_camera",
        (1,),
        (32,),
        *columns,
        HostArray(p.camera),
        np.uint64(1),
        view,
        wanted,
        np.uint64(1),
        np.int32(3),
        by_camera,
    )
    assert by_camera.values.tolist() == [1, 0, 0]

    quads = reserved(4 * (PITCH + 2), np.uint32)
    quads.values[4 * PITCH + frame] = 9
    tables = [on_device([0.1] * 4, np.float64), on_device([0.0] * 4, np.float64)]
    series = [on_device([1.0] * 8, np.float64), on_device([1.0] * 8, np.float64), on_device([0] * 8, np.uint8)]
    rule = [on_device([0.0] * 9 + [1.0], np.float64), on_device([50.0] * 10, np.float64)]
    hits = [on_device([0], dtype) for dtype in (np.uint64, np.float64, np.uint32, np.uint8)]
    n_hits = on_device([0], np.uint64)
    device.launch(
        "flag_voxels", (1, 1), (128,), quads, np.uint64(PITCH), np.int32(2), np.int32(2), on_device([0], np.uint32),
        *tables, *series, *rule, np.float64(1e-7), np.uint32(9), np.int32(0), np.int32(NT),
        *hits, np.uint64(1), n_hits,
    )  # fmt: skip
    assert [n_hits.values[0], *(column.values[0] for column in hits)] == [1, number, 0.1, 9, 0]


def test_voxels_beyond_32_bits() -> None:
    hold_index_net(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(u64)place.cell * pitch + (place.frame - t_from)", "(i32)((u64)place.cell * pitch + (place.frame - t_from))"),
        ("(u64)cell * quads_pitch + quad", "(i32)((u64)cell * quads_pitch + quad)"),
        ("return (u64)cell * nt + frame", "return cell * nt + frame"),
    ],
)
def test_an_index_of_32_bits_is_caught(old: str, new: str) -> None:
    with pytest.raises(AssertionError):
        hold_index_net(changed((old, new)))


# ---- two threads at the same place

ATOMICS = [match.start() for match in re.finditer(r"\batomic(Add|Max)\b", re.sub(r"//[^\n]*", "", TEXT))]
PLAIN = """
template <class T> static inline T plainAdd(T* p, T v) { T old = *p; *p = old + v; return old; }
template <class T> static inline T plainMax(T* p, T v) { T old = *p; if (old < v) *p = v; return old; }
"""


def races(text: str) -> str:
    """Run the kernels on two threads; give what ThreadSanitizer says, or nothing."""
    source = f'#include "cuda_on_cpu.h"\n{PLAIN}{text}\n{(compiler.HERE / "race.cpp").read_text()}'
    program = build(source, "race", ["-O1", "-g", "-fsanitize=thread"])
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in done.stderr:  # older sanitizers cannot bear much address randomisation
        command = ["setarch", platform.machine(), "-R", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = re.search(r"ThreadSanitizer: data race", done.stderr)
    assert said or done.returncode == 0, done.stderr or done.returncode
    return said[0] if said else ""


def test_kernels_do_not_race() -> None:
    assert races(TEXT) == ""


@pytest.mark.parametrize("place", ATOMICS)
def test_a_missing_atomic_is_caught(place: int) -> None:
    text = re.sub(r"//[^\n]*", "", TEXT)
    assert text[place:].startswith("atomic")
    assert races(f"{text[:place]}plain{text[place + len('atomic') :]}") != ""


# ---- what surrounds the kernels


def test_one_text_whatever_includes_what() -> None:
    assert "#include" not in TEXT
    assert "#pragma once" not in TEXT
    assert TEXT.count("struct View {") == 1
    assert set(kernel_parameters(TEXT)) == set(MOST_REGISTERS)
    files = {path.name for path in (ROOT / "kernels").glob("*.cu*")}
    assert all(f"// {line}" in TEXT for name in files if (line := first_comment(name)))


def first_comment(name: str) -> str:
    return (ROOT / "kernels" / name).read_text().partition("\n")[0].removeprefix("// ")


def test_arguments_that_a_kernel_would_misread() -> None:
    kernels = kernel_parameters(TEXT)
    tick, cell, pi = (on_device([1], dtype) for dtype in (np.int32, np.int32, np.uint16))
    words, kind, images = on_device([1] * 9, np.int32), on_device([1], np.int8), on_device([0, 0], np.uint32)
    good = [tick, cell, pi, np.uint64(1), words, kind, images]
    check_arguments(kernels, "sum_images", good)
    for place, wrong, message in (
        (0, on_device([1], np.int64), "tick is int64; it must be an array of int32"),
        (3, 1, "n_photons is int; it must be a number of uint64"),
        (3, np.uint32(1), "n_photons is uint32"),
        (3, on_device([1], np.uint64), "n_photons is uint64; it must be a number"),
        (6, np.uint32(1), "images is uint32; it must be an array"),
        (6, np.zeros(1, np.uint32), "images must be contiguous and on the device"),
        (6, HostArray(np.zeros(9, np.uint32)[::2]), "images must be contiguous"),
    ):
        with pytest.raises(TypeError, match=message):
            check_arguments(kernels, "sum_images", [*good[:place], wrong, *good[place + 1 :]])
    with pytest.raises(TypeError, match="6 arguments for 7 parameters"):
        check_arguments(kernels, "sum_images", good[:-1])


def test_which_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"g++": "/bin/g++", "clang++": "/bin/clang++", "ziglang": "spec"}
    monkeypatch.setattr(compiler.shutil, "which", there.get)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", there.get)
    monkeypatch.setenv("CXX", "ccache my-c++")
    assert compiler.find_compiler() == ["ccache", "my-c++"]
    monkeypatch.delenv("CXX")
    for name in ("g++", "clang++"):
        assert compiler.find_compiler() == [there.pop(name)]
    assert compiler.find_compiler() == [sys.executable, "-m", "ziglang", "c++"]
    there.clear()
    assert compiler.find_compiler() is None


def test_without_a_compiler_the_run_fails_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "find_compiler", lambda: None)
    with pytest.raises(pytest.exit.Exception, match="install g\\+\\+ or clang\\+\\+") as caught:
        conftest.pytest_configure(SimpleNamespace(option=SimpleNamespace(markexpr="")))
    conftest.pytest_configure(SimpleNamespace(option=SimpleNamespace(markexpr="gpu")))  # a GPU needs none
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
