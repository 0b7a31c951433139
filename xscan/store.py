"""Results on disk: one Parquet file per observation and table, committed as a whole.

``DIR/<table>/<obsid>.parquet``; the file in ``runs`` is written last and removed first: an
observation whose ``runs`` file is there is complete. ``DIR/_xscan.json`` says which
configuration the results are of.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xscan.errors import StoreError
from xscan.schema import FORMAT_VERSION, SCHEMAS
from xscan.tables import Provenance, Tables

__all__ = ["Results", "ResultsWriter", "open_results"]

_ABOUT = "_xscan.json"


class Results:
    """The results in a folder, for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def observations(self) -> list[str]:
        """Give the obsids whose results are complete, sorted."""
        return sorted(path.stem for path in (self.folder / "runs").glob("*.parquet"))

    def table(self, name: str) -> pa.Table:
        """Read one table of all observations.

        Parameters
        ----------
        name : str
            ``runs``, ``regions``, ``voxels`` or ``lightcurves``.

        Returns
        -------
        pyarrow.Table
            With the schema of :mod:`xscan.schema`, ordered by obsid.
        """
        if name not in SCHEMAS:
            raise KeyError(f"no table {name!r}; there are {', '.join(SCHEMAS)}")
        paths = (self.folder / name / f"{obsid}.parquet" for obsid in self.observations())
        parts = [pq.read_table(path, schema=SCHEMAS[name]) for path in paths if path.exists()]
        return pa.concat_tables([SCHEMAS[name].empty_table(), *parts])


def open_results(folder: Path | str) -> Results:
    """Open a folder of results for reading.

    Raises
    ------
    StoreError
        If the folder holds no results of xscan, or of a format this version cannot read.
    """
    about = Path(folder) / _ABOUT
    if not about.is_file():
        raise StoreError(f"{folder}: no results of xscan here ({_ABOUT} is missing)")
    held = _read_about(about)
    if held.get("format") != FORMAT_VERSION:
        raise StoreError(
            f"{folder}: results of format {held.get('format')}, this version reads {FORMAT_VERSION}; "
            f"open them with xscan {held.get('xscan_version')}"
        )
    return Results(Path(folder))


class ResultsWriter:
    """Writes observations into a folder, each as a whole.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    provenance : Provenance
    settings : dict of str to str
        Every setting by name, to say which differ when a folder is refused.

    Raises
    ------
    StoreError
        If the folder cannot be written, or holds results of another configuration.
    """

    def __init__(self, folder: Path, provenance: Provenance, settings: dict[str, str]) -> None:
        self.folder = Path(folder)
        about = self.folder / _ABOUT
        with _named_trouble(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if about.exists():
                _refuse_other(self.folder, _read_about(about), provenance, settings)
            else:
                text = {
                    "format": FORMAT_VERSION,
                    "xscan_version": provenance.xscan_version,
                    "profile": provenance.profile,
                    "config_digest": provenance.config_digest,
                    "settings": settings,
                }
                _write(about, json.dumps(text, indent=2).encode() + b"\n")
            for name in SCHEMAS:
                (self.folder / name).mkdir(exist_ok=True)

    def write(self, obsid: str, tables: Tables) -> None:
        """Replace one observation's results; a crash in between leaves it absent, not half there."""
        with _named_trouble(self.folder):
            (self.folder / "runs" / f"{obsid}.parquet").unlink(missing_ok=True)
            for name in reversed(SCHEMAS):  # runs last: it commits the others
                path = self.folder / name / f"{obsid}.parquet"
                table = tables.table(name)
                if table.num_rows:
                    sink = pa.BufferOutputStream()
                    pq.write_table(table, sink, compression="zstd", use_dictionary=False)  # smaller so
                    _write(path, sink.getvalue().to_pybytes())
                else:
                    path.unlink(missing_ok=True)


@contextmanager
def _named_trouble(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise StoreError(
            f"{where}: cannot write results here: {error.strerror or error}; make room there, or choose another --out"
        ) from None


def _refuse_other(folder: Path, held: dict[str, Any], provenance: Provenance, settings: dict[str, str]) -> None:
    if held.get("config_digest") == provenance.config_digest and held.get("format") == FORMAT_VERSION:
        return
    old = held.get("settings")
    old = old if isinstance(old, dict) else {}
    names = [name for name in settings if settings[name] != old.get(name)]
    shown = "; ".join(f"{name} is {old.get(name)} there, {settings[name]} here" for name in names[:3])
    more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
    raise StoreError(
        f"{folder} holds results of another configuration ({shown or 'of another format'}{more}); "
        f"choose another --out, or remove that folder"
    )


def _read_about(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); choose another folder") from None
    return held if isinstance(held, dict) else {}


def _write(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for less than all of it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
