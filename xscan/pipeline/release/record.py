"""Read and write the record of a release, a file in its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from xscan.errors import ConfigError, StoreError
from xscan.io.atomic import named_trouble, sync_folder, write_whole
from xscan.results.manifest import read_json

__all__ = ["Release", "is_release", "list_digest", "read_release", "releases", "write_release"]

_FILE = "_release.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Release:
    """One release.

    Attributes
    ----------
    name : str
        Also the name of its folder.
    number : int
        From 1, in the order in which they were begun.
    previous : str
        Name of the release from which it was made, and with which it is compared; empty for the first.
    list_digest : str
        Digest of the list of observations.
    finished_utc : str
        ISO 8601; empty while it is being made.
    n_carried : int
        Observations carried over unchanged.
    n_searched : dict of str to int
        Number of observations searched, by reason.
    n_failed : int
        How many of these failed.
    n_withdrawn : int
    n_found, n_regions : dict of str to int
        Number of events, and of regions, that are new, lost or changed, and of ``all`` in this release.
    """

    name: str
    number: int
    previous: str
    list_digest: str
    finished_utc: str = ""
    n_carried: int = 0
    n_searched: dict[str, int] = field(default_factory=dict)
    n_failed: int = 0
    n_withdrawn: int = 0
    n_found: dict[str, int] = field(default_factory=dict)
    n_regions: dict[str, int] = field(default_factory=dict)


def list_digest(obsids: Iterable[str]) -> str:
    """Return a digest of a list of observations, whatever their order: 16 hexadecimal digits.

    Examples
    --------
    The order does not matter, and each observation does:

    >>> list_digest(["0990000001", "0990000002"]) == list_digest(["0990000002", "0990000001"])
    True
    >>> list_digest(["0990000001", "0990000002"]) == list_digest(["0990000001"])
    False
    """
    return hashlib.sha256("\n".join(sorted(obsids)).encode()).hexdigest()[:16]


def releases(folder: Path) -> list[Release]:
    """Return the releases in a folder, including unfinished ones, in the order of their numbers.

    Raises
    ------
    StoreError
        If the record of one cannot be read.

    Examples
    --------
    >>> for number, name in enumerate(("2026-11", "2026-05"), start=1):
    ...     write_release(scratch / name, Release(name, number, "", ""))
    >>> [release.name for release in releases(scratch)]
    ['2026-11', '2026-05']
    """
    paths = sorted(folder.glob(f"*/{_FILE}"))
    return sorted((read_release(path.parent) for path in paths), key=lambda release: release.number)


def is_release(folder: Path) -> bool:
    """Return whether a folder of results is a release, finished or not.

    Examples
    --------
    >>> is_release(scratch)
    False
    >>> write_release(scratch, Release("2026-11", 1, "", list_digest(["0990000001"])))
    >>> is_release(scratch)
    True
    """
    return (folder / _FILE).exists()


def read_release(folder: Path) -> Release:
    """Read the record of a release from its folder.

    Raises
    ------
    StoreError
        If there is no record, or it cannot be read.

    Examples
    --------
    >>> write_release(scratch, Release("2026-11", 1, "", list_digest(["0990000001"])))
    >>> read_release(scratch).finished_utc == ""  # it is being made
    True
    """
    path = folder / _FILE
    try:
        return Release(**read_json(path))
    except TypeError:
        raise StoreError(f"{path}: not the record of a release; restore it, or make the release anew") from None


def write_release(folder: Path, release: Release) -> None:
    """Write the record of a release into its folder, which is created if necessary.

    Raises
    ------
    ConfigError
        If the name cannot be used for a folder.
    StoreError
        If it cannot be written.

    Examples
    --------
    >>> write_release(scratch / "2026-11", Release("2026-11", 1, "", list_digest(["0990000001"])))
    >>> read_release(scratch / "2026-11").number
    1
    >>> write_release(scratch / "a/b", Release("a/b", 2, "2026-11", ""))
    Traceback (most recent call last):
    ...
    xscan.errors.ConfigError: --release a/b: a name is of letters, digits, '.', '_' and '-', as 2026-11
    """
    if not _NAME.fullmatch(release.name):
        raise ConfigError(f"--release {release.name}: a name is of letters, digits, '.', '_' and '-', as 2026-11")
    with named_trouble(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _FILE, json.dumps(dataclasses.asdict(release), indent=2).encode() + b"\n")
        sync_folder(folder)
