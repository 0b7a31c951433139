"""``xscan doctor``: which backends work on this machine, which of them ``auto`` chooses, and what they are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from xscan.backends import BACKENDS, Backend, get_backend
from xscan.backends.cuda.driver import cupy_builds, cupy_cache, dotted, find_driver, load_cupy
from xscan.backends.numba.cache import SPARE, can_be_written, load_numba, spare_cache
from xscan.backends.numpy import NumpyBackend
from xscan.bayes import thresholds
from xscan.bench.machine import describe_machine, describe_versions
from xscan.errors import ConfigError, DeviceError
from xscan.events.merge import sort_photons
from xscan.grid import Box, Grid
from xscan.missions.xmm.instrument import EPIC
from xscan.model import Expectation, Photons, Voxels

__all__ = ["Check", "Diagnosis", "diagnose", "doctor"]

NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class Check:
    """Test of one backend.

    Attributes
    ----------
    backend : str
    works : bool
    remark : str
        What shows that it works, or why it does not and what to do.
    """

    backend: str
    works: bool
    remark: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Findings of :func:`diagnose`.

    Attributes
    ----------
    facts : tuple of (str, str)
        Components of this machine, with their version or size.
    checks : tuple of Check
        Every backend, the fastest first.
    """

    facts: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]

    @property
    def auto(self) -> str:
        """Name of the backend that ``auto`` chooses; empty if none works."""
        return next((check.backend for check in self.checks if check.works), "")

    def works(self, name: str) -> bool:
        """Return whether a backend works; ``auto`` does if any does."""
        return bool(self.auto) if name == "auto" else any(c.works for c in self.checks if c.backend == name)


def diagnose() -> Diagnosis:
    """Examine this machine, and test every backend with a small search."""
    names = [name for name in reversed(BACKENDS) if name != "auto"]
    places = _places()  # before CuPy is given another folder
    return Diagnosis((*_libraries(), *_cuda(), *places), tuple(_check(name) for name in names))


def _check(name: str) -> Check:
    """Search with a backend, and compare its voxels with NumPy's."""
    try:
        backend = get_backend(name)
    except DeviceError as error:
        return Check(name, False, str(error).removeprefix(f"the {name} backend does not work here: "))
    wanted = _small_search(NumpyBackend())
    try:
        found = _small_search(backend)
    except Exception as error:  # an error of one backend must not end the list
        return Check(name, False, f"a small search ends in {type(error).__name__}: {str(error).partition(chr(10))[0]}")
    if not all(np.array_equal(getattr(found, column), getattr(wanted, column)) for column in Voxels.__slots__):
        return Check(name, False, f"WRONG: a small search flags other voxels than numpy's {len(wanted)}; report this")
    remark = "" if isinstance(backend, NumpyBackend) else ", the same as numpy"
    return Check(name, True, f"flags {len(wanted)} voxels of a small search{remark}")


def _small_search(backend: Backend) -> Voxels:
    """Search 20 x 30 cells in 400 frames that contain bursts and eclipses."""
    rng = np.random.default_rng(1)
    grid = Grid(t0=0.0, dt_ms=5000, nt=400, n_cells=129, box=Box(40, 70, 50, 70), sky=EPIC.sky)
    level = np.full((2, 20, 30), 0.05)
    level[:, 10, 15] = 30.0
    expected = Expectation(level, level * 0, np.ones(400), np.ones(400), np.arange(400, dtype=np.uint8) % 2)
    return backend.load(_photons(rng, grid, level)).bin(grid, 200, 12_000).flag(expected, thresholds(3.0, 1000))


def _photons(rng: np.random.Generator, grid: Grid, level: np.ndarray) -> Photons:
    """Return photons as expected, except one empty frame of the bright cell and one full frame of a faint cell."""
    n = rng.poisson(level[0][:, :, None], grid.shape)
    n[10, 15, 7], n[4, 5, 200] = 0, 25
    y, x, t = (np.repeat(index, n.ravel()) for index in np.indices(grid.shape).reshape(3, -1))
    tick = t * grid.dt_ms + rng.integers(0, grid.dt_ms, t.size)
    pixel = np.ones(t.size, np.uint16)
    return sort_photons(
        tick.astype(np.int32), (x + grid.box.x0).astype(np.int16), (y + grid.box.y0).astype(np.int16), pixel, pixel,
        pixel * 1000, np.zeros(t.size, np.uint8), pixel.astype(np.uint32), EPIC,
    )  # fmt: skip


def _libraries() -> list[tuple[str, str]]:
    """Return versions of the libraries that are always needed."""
    versions = describe_versions()
    commit = f", commit {versions['commit']}" if versions["commit"] else ""
    facts = [("xscan", f"{versions['xscan']}{commit}")]
    return facts + [(name, versions[name] or NOT_INSTALLED) for name in ("python", "numpy", "numba")]


def _cuda() -> list[tuple[str, str]]:
    """Return what is installed of CUDA: CuPy, the driver, devices."""
    facts = [("cupy", ", ".join(f"{name} {version}" for name, version in cupy_builds().items()) or NOT_INSTALLED)]
    try:
        facts.append(("cuda runtime", dotted(load_cupy().runtime_version())))
    except Exception:  # CuPy is missing or broken: the check of the backend reports it
        facts.append(("cuda runtime", "none"))
    driver = find_driver()
    facts.append(("nvidia driver", "none" if driver is None else f"for CUDA {dotted(driver.version)}"))
    if driver is not None:
        facts += [(f"device {i}", f"{d.name}, {d.total_bytes / 2**30:.1f} GiB") for i, d in enumerate(driver.devices)]
    return facts


def _places() -> list[tuple[str, str]]:
    """Return the CPU's name and the folders of compiled code."""
    machine = describe_machine()
    facts = [("cpu", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB")]
    try:
        kept_in = _writable(load_numba().cache_folder())
        moved = SPARE.format(library="numba") in os.environ.get("NUMBA_CACHE_DIR", "")
        why = " (neither its own folder nor a home can be written)" if moved else ""
        facts.append(("numba keeps code in", kept_in + why))
    except (ImportError, OSError, RuntimeError):  # as in get_backend
        pass
    if cupy_builds():
        place = cupy_cache()
        instead = "" if can_be_written(place) else f" (cannot be written: {spare_cache('cupy')} instead)"
        facts.append(("cupy keeps code in", f"{place}{instead}"))
    return facts


def _writable(folder: Path) -> str:
    """Return the name of a folder, with a remark if it cannot be written."""
    return f"{folder}{'' if can_be_written(folder) else ' (cannot be written: every process compiles anew)'}"


def doctor(backend: str | None) -> int:
    """Print what is here and what works; return the exit code."""
    if backend is not None and backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    found = diagnose()
    width = max(len(name) for name, _ in found.facts) + 2
    for name, value in found.facts:
        typer.echo(f"{name:{width}}{value}")
    typer.echo()
    for check in found.checks:
        typer.echo(f"{check.backend:{width}}{'works' if check.works else 'does not work'}: {check.remark}")
    typer.echo(f"{'auto':{width}}{f'chooses {found.auto}' if found.auto else 'finds nothing that works'}")
    if backend is not None:
        return 0 if found.works(backend) else 3
    return 0 if found.auto else 1
