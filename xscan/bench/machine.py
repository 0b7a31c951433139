"""Describe the machine and the software of a measurement, without names of hosts or folders, for publication."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from xscan import __version__

__all__ = ["child_environment", "describe_machine", "describe_versions", "installed_version"]

LIBRARIES = ("numpy", "numba", "scipy", "pyarrow", "isal")
ROOT = Path(__file__).resolve().parents[2]
"""The folder that contains the package: a checkout, or site-packages."""


def child_environment(**extra: str) -> dict[str, str]:
    """Return the environment for another Python process that imports this same package."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | extra


def describe_machine() -> dict[str, Any]:
    """Return the CPU's name, the cores this process may use, memory in GiB, and the load average."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": cores,
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 1),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def describe_versions() -> dict[str, Any]:
    """Return versions of Python, the libraries that matter, and xscan with its commit if it is a checkout's."""
    versions: dict[str, Any] = {"python": platform.python_version()}
    versions |= {name: installed_version(name) for name in LIBRARIES}
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return versions | {"xscan": __version__, "commit": commit, "dirty": None if changed is None else bool(changed)}


def installed_version(name: str) -> str | None:
    """Return the version of a library; None if it is not installed.

    Examples
    --------
    >>> installed_version("numpy") == np.__version__, installed_version("no such library")
    (True, None)
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Return the output of a git command on the checkout; None if there is no checkout, or no git."""
    if not (ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
