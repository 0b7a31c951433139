"""Provide the kernels' source text and parameters, for compiling and launching them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["COMPILE_OPTIONS", "Parameter", "check_arguments", "kernel_parameters", "kernel_text"]

COMPILE_OPTIONS = ("-std=c++17", "--fmad=false")
"""For NVRTC. Fused multiply-add would round mu once where NumPy rounds it twice."""

_FILES = ("bin_events.cu", "sum_events.cu", "flag_voxels.cu", "sort_photons.cu", "pass_windows.cu")
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.M)
_COMMENT = re.compile(r"//[^\n]*")
_KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(([^)]*)\)\s*\{')
_DTYPES = {
    "i8": np.int8,
    "u8": np.uint8,
    "i16": np.int16,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "i32": np.int32,
    "double": np.float64,
    "uint4": np.uint32,  # four of them, aligned to 16 bytes
    "View": np.int32,  # a struct of nine of them
    "Cells": np.int32,  # a struct of six of them
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a kernel.

    Attributes
    ----------
    name : str
    ctype : str
        Type in the kernel's text without const, restrict and star, such as ``u32``.
    pointer : bool
        True for an array on the device, False for a number.
    """

    name: str
    ctype: str
    pointer: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type of the number, or of the array's elements."""
        return np.dtype(_DTYPES[self.ctype])


def kernel_text() -> str:
    """Return all kernels as one text that needs no other file.

    Headers are put in place of the lines that include them, because the key under which CuPy caches
    a compiled text does not cover included files, and NVRTC has no folder in which to find them.

    Examples
    --------
    Every kernel of the CUDA backend is in it, and no line that includes another of its files:

    >>> text = kernel_text()
    >>> text.count('extern "C"') == len(kernel_parameters(text)), '#include "' in text
    (True, False)
    """
    seen: set[str] = set()

    def header(found: re.Match[str]) -> str:
        name = found[1]
        if name in seen:
            return ""
        seen.add(name)
        return _read(name).replace("#pragma once\n", "")

    return "\n".join(_INCLUDE.sub(header, _read(name)) for name in _FILES)


def _read(name: str) -> str:
    """Read a file of the installed package xscan.kernels, or of a checkout that is only on the path."""
    try:
        return resources.files("xscan.kernels").joinpath(name).read_text("utf-8")
    except ModuleNotFoundError:
        return (Path(__file__).parents[3] / "kernels" / name).read_text("utf-8")


def kernel_parameters(text: str) -> dict[str, tuple[Parameter, ...]]:
    """Return the parameters of every kernel in a text, by the kernel's name.

    Examples
    --------
    >>> text = 'extern "C" __global__ void count(const u32* events, u64 n) {'
    >>> [(p.name, p.ctype, p.pointer) for p in kernel_parameters(text)["count"]]
    [('events', 'u32', True), ('n', 'u64', False)]
    """
    kernels = {}
    for name, listed in _KERNEL.findall(_COMMENT.sub("", text)):
        words = [part.replace("*", " * ").split() for part in listed.split(",")]
        kernels[name] = tuple(
            Parameter(
                name=part[-1],
                ctype=next(word for word in part if word != "const"),
                pointer="*" in part,
            )
            for part in words
        )
    return kernels


def check_arguments(kernels: Mapping[str, Sequence[Parameter]], kernel: str, arguments: Sequence[Any]) -> None:
    """Raise an error for arguments that a kernel would misread.

    A launch passes bytes: an array of another type, or a Python int where 32 bits are expected, would be
    accepted without an error and give wrong counts.

    Raises
    ------
    TypeError
        If the number of arguments, a type or a layout differs from the kernel's text.

    Examples
    --------
    >>> kernels = kernel_parameters('extern "C" __global__ void count(const u32* events, u64 n) {')
    >>> check_arguments(kernels, "count", [np.zeros(3, np.int32), np.uint64(3)])
    Traceback (most recent call last):
    ...
    TypeError: count: events is int32; it must be an array of uint32
    """
    parameters = kernels[kernel]
    if len(arguments) != len(parameters):
        raise TypeError(f"{kernel}: {len(arguments)} arguments for {len(parameters)} parameters")
    for parameter, value in zip(parameters, arguments, strict=True):
        found = getattr(value, "dtype", type(value).__name__)
        wanted = f"{'an array' if parameter.pointer else 'a number'} of {parameter.dtype}"
        if found != parameter.dtype or isinstance(value, np.generic) is parameter.pointer:
            raise TypeError(f"{kernel}: {parameter.name} is {found}; it must be {wanted}")
        if parameter.pointer and (isinstance(value, np.ndarray) or not value.flags.c_contiguous):
            raise TypeError(f"{kernel}: {parameter.name} must be contiguous and on the device")
