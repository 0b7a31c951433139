"""Compute digests of what decides results: the files of an observation, and the code."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from xscan.backends.cuda.source import kernel_text
from xscan.missions import Files, Place, mission_of

__all__ = ["DECIDES", "code_digest", "inputs_digest", "other_files"]

DECIDES = (
    *("errors", "config", "model", "windows", "missiontime", "sky", "grid", "bayes", "schema", "profiles"),
    *("io", "missions", "events", "pointsource", "backends", "search", "results/tables"),
    *("pipeline/scan", "pipeline/digests"),
)
"""Modules and packages that decide results, with the kernels: a change to one of them may change a result.

tests/pipeline/test_digests.py holds that whatever makes results imports nothing else of xscan."""

_HEAD = 5760  # two blocks of a plain FITS file: its first header, with the date it was made
_TAIL = 8  # of a gzip file: the checksum and length of what is in it


def inputs_digest(place: Place) -> str:
    """Return a digest of the files that a search reads of an observation: names, sizes, and samples of their bytes.

    The samples are bytes that change when a pipeline makes the file again: the beginning of each file and, of a
    compressed one, the checksum of its content. Nothing is inflated.

    Parameters
    ----------
    place : Path or Files
        ``<obsid>/`` or ``<obsid>/pps/``, or the files themselves.

    Returns
    -------
    str
        16 hexadecimal digits. Empty if the files cannot be examined: there is no event list (a cache was emptied), one
        is a link to a missing file (a disk is not mounted), or one cannot be read.

    Examples
    --------
    A copy of a folder has the same digest, and one without the source list another:

    >>> import shutil
    >>> copy = Path(shutil.copytree(folder, scratch / "copy"))
    >>> inputs_digest(copy) == inputs_digest(folder)
    True
    >>> next(copy.glob("*OBSMLI*")).unlink()
    >>> inputs_digest(copy) == inputs_digest(folder)
    False
    """
    digest = hashlib.sha256()
    try:
        paths = mission_of(place).files_of(place)
        for path in paths:
            name = path.name if isinstance(place, Files) else path.relative_to(place).as_posix()
            digest.update(os.fsencode(f"{name} {path.stat().st_size} "))
            digest.update(_sample(path))
    except OSError:  # reading the observation will report the error
        return ""
    return digest.hexdigest()[:16] if paths else ""


def other_files(before: str, now: str) -> bool:
    """Return whether two digests show that an observation's files changed; missing files do not count as a change.

    Examples
    --------
    Another digest is a change; missing files are none:

    >>> other_files("a1", "b2"), other_files("a1", "a1"), other_files("a1", "")
    (True, False, False)
    """
    return now not in ("", before)


def _sample(path: Path) -> bytes:
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        end = stream.seek(0, 2)
        stream.seek(max(end - _TAIL, 0))
        return head + stream.read(_TAIL)


@cache
def code_digest() -> str:
    """Return a digest of the code that decides results, 16 hexadecimal digits; the same for any copy of this xscan.

    It covers all of :data:`DECIDES`, and the kernels. Even a changed comment changes it: one search too many is better
    than one too few.

    Examples
    --------
    >>> len(code_digest()), code_digest() == scanner.provenance().code_digest
    (16, True)
    """
    digest = hashlib.sha256()
    for name, text in [*sorted(_modules(files("xscan"), "")), ("kernels", kernel_text())]:
        digest.update(f"{name} {len(text)}\n{text}".encode())
    return digest.hexdigest()[:16]


def _modules(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found = []
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            found += _modules(entry, f"{name}/")
        elif name.endswith(".py") and _decides(name.removesuffix(".py")):
            found.append((name, entry.read_text("utf-8")))
    return found


def _decides(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}/") for name in DECIDES)
