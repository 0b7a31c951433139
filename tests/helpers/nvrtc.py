"""Compile CUDA text for a GPU that is not here, with NVIDIA's run-time compiler, and read what it took."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

REPORT = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", re.S
)


@dataclass(frozen=True)
class Usage:
    """What a kernel takes of each thread."""

    registers: int
    spilled_bytes: int


class RefusedError(Exception):
    """The compiler does not take the text; its words are the message."""


@cache
def library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    folders = (spec and spec.submodule_search_locations) or []
    assert folders, "the tests compile CUDA kernels: pip install nvidia-cuda-nvrtc-cu12"
    folder = Path(next(iter(folders)))
    (path,) = [p for p in folder.rglob("*nvrtc*") if re.fullmatch(r"libnvrtc\.so\.\d+|nvrtc64_\d+_\d\.dll", p.name)]
    return ctypes.CDLL(str(path))


def compile_kernels(text: str, arch: str, options: Sequence[str]) -> dict[str, Usage]:
    """Compile for an architecture such as ``sm_90``; give each kernel's usage.

    Raises
    ------
    RefusedError
        If the text does not compile.
    """
    log, _ = _compile(text, [f"-arch={arch}", "--ptxas-options=-v", *options])
    return {name: Usage(int(used), int(out) + int(back)) for name, out, back, used in REPORT.findall(log)}


def assembly(text: str, options: Sequence[str]) -> str:
    """Give the text's PTX."""
    _, ptx = _compile(text, ["-arch=compute_90", *options])
    return ptx


def _compile(text: str, flags: Sequence[str]) -> tuple[str, str]:
    nvrtc, program = library(), ctypes.c_void_p()
    created = nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    assert created == 0, f"nvrtcCreateProgram: {created}"
    passed = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    result = nvrtc.nvrtcCompileProgram(program, len(flags), passed)
    log = _said(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
    ptx = "" if result else _said(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if result != 0:
        raise RefusedError(log)
    return log, ptx


def _said(program: ctypes.c_void_p, get_size: Any, get: Any) -> str:
    size = ctypes.c_size_t()
    get_size(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    get(program, text)
    return text.value.decode()
