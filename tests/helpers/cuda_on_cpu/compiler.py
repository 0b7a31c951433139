"""The C++ compiler that stands in for a GPU, and what it makes of the kernels."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[2] / "build" / "cuda_on_cpu"
FLAGS = ("-std=c++17", "-ffp-contract=off", "-fwrapv", "-Wno-unknown-pragmas", f"-I{HERE}")
# -fwrapv: an index that overflows wraps, as it does on a GPU, so that a test can see where it went


def find_compiler() -> list[str] | None:
    """Give the command of a C++ compiler: $CXX, g++, clang++, or Zig's wheel; None if there is none."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("g++", "clang++"):
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    return None


NO_COMPILER = (
    "no C++ compiler runs the CUDA kernels for the tests: set CXX, install g++ or clang++, or `pip install ziglang`"
)


def build(text: str, name: str, flags: Sequence[str]) -> Path:
    """Compile C++ text, unless that was done before; give the path of what came out.

    Raises
    ------
    RuntimeError
        If the compiler refuses the text; its words are the message.
    """
    command = find_compiler()
    if command is None:
        raise RuntimeError(NO_COMPILER)
    header = (HERE / "cuda_on_cpu.h").read_text()
    key = hashlib.sha256("\0".join([text, header, *command, *FLAGS, *flags]).encode()).hexdigest()[:20]
    made = BUILT / f"{key}-{name}"
    if not made.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        source, fresh = BUILT / f"{key}-{os.getpid()}.cpp", BUILT / f"{key}-{os.getpid()}.new"
        source.write_text(text)
        done = subprocess.run([*command, *FLAGS, *flags, "-o", fresh, source], capture_output=True, text=True)
        source.unlink()
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        fresh.replace(made)  # at once: another process may be at the same
    return made
