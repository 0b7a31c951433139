"""Read results: a consistent set at every moment, also while a scan writes to the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from xscan.errors import StoreError
from xscan.results.content_digest import digest_by_observation
from xscan.results.folder import check_format, read_about
from xscan.results.manifest import ParquetPart, read_manifest
from xscan.results.parquet import REMEDY, by_obsid, read_files, rows_without
from xscan.results.staging import read_staged, staged
from xscan.results.tables import Tables
from xscan.schema import SCHEMAS

__all__ = ["Results", "open_results"]

_ATTEMPTS = 20  # each attempt loses a race with a compaction, and these are seconds apart

T = TypeVar("T")


class Results:
    """The results in a folder, for reading.

    Each call sees every observation that was finished when the call began, exactly once and complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def observations(self) -> list[str]:
        """Return the obsids whose results are complete, sorted."""
        # List staging before the manifest. If a compaction runs in between, an observation is seen twice (harmless),
        # never missed.
        fresh = staged(self.folder)
        return sorted({*fresh, *(obsid for part in read_manifest(self.folder) for obsid in part.observations)})

    def table(self, name: str, obsid: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one table.

        Parameters
        ----------
        name : str
            ``runs``, ``inputs``, ``events``, ``regions``, ``voxels``, ``lightcurves`` or ``images``.
        obsid : str, optional
            Only this observation; default all.
        columns : sequence of str, optional
            Only these; default all.

        Returns
        -------
        pyarrow.Table
            With the schema of :mod:`xscan.schema`, ordered by obsid.

        Raises
        ------
        KeyError
            If there is no table or column of that name.
        StoreError
            If a file of the results is missing or damaged.

        Examples
        --------
        >>> held.table("runs", obsid="0990000001", columns=["dt_s", "state"]).to_pylist()
        [{'dt_s': 50.0, 'state': 'done'}]
        """
        if name not in SCHEMAS:
            raise KeyError(f"no table {name!r}; there are {', '.join(SCHEMAS)}")
        return self._undisturbed(lambda: self._table(name, obsid, columns or SCHEMAS[name].names))

    def content_digest(self) -> str:
        """Return a digest of the content: equal for equal results, whatever their order, their parts and the run time.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        return self._undisturbed(self._content_digest)

    def _content_digest(self) -> str:
        fresh = {obsid: read_staged(path) for obsid, path in staged(self.folder).items()}
        found: dict[str, str] = {}
        for part in read_manifest(self.folder):  # one part at a time: light curves are large
            rows = (rows_without(read_files(self.folder, name, [part]), fresh.keys()) for name in SCHEMAS)
            found |= digest_by_observation(Tables(*rows))
        for tables in fresh.values():
            found |= digest_by_observation(tables)
        return hashlib.sha256("".join(f"{obsid} {found[obsid]}\n" for obsid in sorted(found)).encode()).hexdigest()

    def _table(self, name: str, obsid: str | None, columns: Sequence[str]) -> pa.Table:
        fresh = {key: path for key, path in staged(self.folder).items() if obsid in (None, key)}
        parts = [part for part in read_manifest(self.folder) if obsid is None or obsid in part.observations]
        read = dict.fromkeys(["obsid", *columns])  # obsid is needed to put rows in order
        old = rows_without(read_files(self.folder, name, parts, obsid, list(read)), fresh.keys())
        new = [read_staged(path).table(name).select(list(read)) for path in fresh.values()]
        table = pa.concat_tables([old, *new])
        return (table if _in_order(parts) and not new else by_obsid(table)).select(list(columns))

    def _undisturbed(self, read: Callable[[], T]) -> T:
        """Call ``read``, and again if a compaction removed a file that was about to be read."""
        for _ in range(_ATTEMPTS):
            try:
                return read()
            except FileNotFoundError as error:
                missing = error
        raise StoreError(f"{self.folder}: a file is missing ({missing}); {REMEDY}")


def open_results(folder: Path | str) -> Results:
    """Open a folder of results for reading.

    Raises
    ------
    StoreError
        If the folder holds no results of xscan, or of a format this version cannot read.

    Examples
    --------
    >>> open_results(results).observations()
    ['0990000001']
    >>> open_results(scratch)
    Traceback (most recent call last):
    ...
    xscan.errors.StoreError: ...: no results of xscan here (_xscan.json is missing)
    """
    check_format(Path(folder), read_about(Path(folder)))
    return Results(Path(folder))


def _in_order(parts: Sequence[ParquetPart]) -> bool:
    return all(before.observations[-1] < after.observations[0] for before, after in pairwise(parts))
