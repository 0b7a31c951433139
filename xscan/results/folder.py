"""Record which configuration a folder of results belongs to; written once, before anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xscan.errors import StoreError
from xscan.io.atomic import sync_folder, write_whole
from xscan.results.manifest import begin_manifest, read_json
from xscan.results.staging import STAGING
from xscan.results.tables import Provenance
from xscan.schema import FORMAT_VERSION, SCHEMAS

__all__ = ["check_format", "claim_folder", "holds_results", "read_about", "refuse_foreign"]

_NAME = "_xscan.json"
_RESULTS = ("*/part-*.parquet", "staging/*.arrow")

About = dict[str, Any]


def claim_folder(folder: Path, provenance: Provenance, settings: dict[str, str]) -> None:
    """Record the configuration in a new folder, or check that an existing folder has the same one.

    Parameters
    ----------
    folder : Path
    provenance : Provenance
    settings : dict of str to str
        Every setting by name, so that an error can name those that differ.

    Raises
    ------
    StoreError
        If the folder holds results of another configuration or format, or results without any record.

    Examples
    --------
    A folder of one configuration is refused to another:

    >>> ours = Provenance("0.3.0", "default", "c1", "code", "numpy")
    >>> claim_folder(scratch, ours, {"search.sigma": "3.0"})
    >>> claim_folder(scratch, Provenance("0.3.0", "default", "c2", "code", "numpy"), {"search.sigma": "4.0"})
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: ... another configuration (search.sigma is 3.0 there, 4.0 here); choose ...
    """
    if holds_results(folder, provenance, settings):
        return
    orphan = next((path for pattern in _RESULTS for path in folder.glob(pattern)), None)
    if orphan is not None:
        raise StoreError(
            f"{folder / _NAME}: missing, and nothing else says what the results here are of ({orphan.name}, ...); "
            f"restore it from a copy, or choose another --out"
        )
    begin_manifest(folder)  # first: so later on, parts without a manifest show that it was lost
    about = {
        "format": FORMAT_VERSION,
        "xscan_version": provenance.xscan_version,
        "profile": provenance.profile,
        "config_digest": provenance.config_digest,
        "settings": settings,
    }
    write_whole(folder / _NAME, json.dumps(about, indent=2).encode() + b"\n")
    sync_folder(folder)


def refuse_foreign(folder: Path) -> None:
    """Refuse to write into a folder that holds other things and no results.

    Hidden files and what an interrupted xscan leaves behind before it has written its record do not count.

    Raises
    ------
    StoreError

    Examples
    --------
    >>> refuse_foreign(scratch)
    >>> (scratch / "thesis.tex").touch()
    >>> refuse_foreign(scratch)
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: ... holds other things and no results of xscan (thesis.tex); choose an empty or a new ...
    """
    if (folder / _NAME).exists():
        return
    foreign = sorted(path.name for path in folder.iterdir() if not _is_ours(path.name))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise StoreError(
            f"{folder}: holds other things and no results of xscan ({foreign[0]}{more}); choose an empty or a new "
            f"folder as --out"
        )


def _is_ours(name: str) -> bool:
    """Return whether something of this name may be in a folder of results that has no record."""
    return name.startswith((".", "_")) or name in (STAGING, *SCHEMAS, "plots")


def holds_results(folder: Path, provenance: Provenance, settings: dict[str, str]) -> bool:
    """Return whether a folder holds results, of this configuration; parameters as of :func:`claim_folder`.

    Raises
    ------
    StoreError
        If it holds results of another configuration or format.

    Examples
    --------
    >>> ours = Provenance("0.3.0", "default", "c1", "code", "numpy")
    >>> holds_results(scratch, ours, {})
    False
    >>> claim_folder(scratch, ours, {})
    >>> holds_results(scratch, ours, {})
    True
    """
    if not (folder / _NAME).exists():
        return False
    held = read_about(folder)
    check_format(folder, held)
    _check_configuration(folder, held, provenance, settings)
    return True


def read_about(folder: Path) -> About:
    """Read the record of a folder of results: format, version, configuration.

    Raises
    ------
    StoreError
        If the folder has no record, or it cannot be read.

    Examples
    --------
    >>> read_about(results)["format"] == FORMAT_VERSION, read_about(results)["settings"]["search.views"]
    (True, '50.0:0.2-12.0')
    """
    path = folder / _NAME
    if not path.is_file():
        raise StoreError(f"{folder}: no results of xscan here ({_NAME} is missing)")
    return read_json(path)


def check_format(folder: Path, held: About) -> None:
    """Check that results have the format of this version.

    Raises
    ------
    StoreError
        If they have another format.

    Examples
    --------
    >>> check_format(Path("results"), {"format": 1, "xscan_version": "0.1.0"})
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: results: results of format 1, this version reads and writes ...
    """
    if held.get("format") != FORMAT_VERSION:
        raise StoreError(
            f"{folder}: results of format {held.get('format')}, this version reads and writes {FORMAT_VERSION}; "
            f"open them with xscan {held.get('xscan_version')}, or choose another folder"
        )


def _check_configuration(folder: Path, held: About, provenance: Provenance, settings: dict[str, str]) -> None:
    if held.get("config_digest") == provenance.config_digest:
        return
    old = held.get("settings")
    old = old if isinstance(old, dict) else {}
    names = [name for name in settings if settings[name] != old.get(name)]
    shown = "; ".join(f"{name} is {old.get(name)} there, {settings[name]} here" for name in names[:3])
    more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
    raise StoreError(
        f"{folder} holds results of another configuration ({shown}{more}); choose another --out, or remove that folder"
    )
