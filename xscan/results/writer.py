"""Write results as the one coordinator of a folder."""

from __future__ import annotations

import os
from collections.abc import Set
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from xscan.errors import StoreError
from xscan.io.atomic import named_trouble, remove_temporaries
from xscan.results.carry import carry
from xscan.results.compaction import FULL, compact, drop, sweep
from xscan.results.folder import claim_folder, refuse_foreign
from xscan.results.lock import locked
from xscan.results.manifest import read_manifest
from xscan.results.parquet import check_files
from xscan.results.staging import STAGING, stage
from xscan.results.tables import Provenance, Tables
from xscan.schema import SCHEMAS

__all__ = ["ResultsWriter"]

_REMEDY = (
    "restore it from a copy, or take its part out of _manifest.json: the next run searches those observations again"
)


class ResultsWriter:
    """Writes finished observations into a folder; used in a ``with``, as the only writer of that folder.

    Entering makes the folder if necessary. It refuses a folder of other things, of another configuration, one that
    another process writes to, and one with missing or damaged files; and it repairs what an interrupted run has
    left. Leaving compacts, unless an exception is raised; what was written is kept in any case.

    Parameters
    ----------
    folder : Path
    provenance : Provenance
    settings : dict of str to str
        Every setting by name, so that an error can name those that differ.

    Raises
    ------
    StoreError
        On entering or in any method, if the folder cannot be used or written.
    """

    def __init__(self, folder: Path, provenance: Provenance, settings: dict[str, str]) -> None:
        self.folder = Path(folder)
        self._provenance = provenance
        self._settings = settings
        self._held = ExitStack()
        self._waiting = 0
        self._latest: dict[str, Tables] = {}

    def __enter__(self) -> ResultsWriter:
        with ExitStack() as held, named_trouble(self.folder):
            if os.path.lexists(self.folder) and not self.folder.is_dir():
                what = "is a file" if self.folder.exists() else "is a link that leads nowhere"
                raise StoreError(f"{self.folder}: {what}; choose another --out")
            self.folder.mkdir(parents=True, exist_ok=True)
            refuse_foreign(self.folder)
            held.enter_context(locked(self.folder))
            claim_folder(self.folder, self._provenance, self._settings)
            for name in (STAGING, *SCHEMAS):
                (self.folder / name).mkdir(exist_ok=True)
            check_files(self.folder, read_manifest(self.folder), _REMEDY)
            sweep(self.folder)
            remove_temporaries(self.folder / STAGING)  # no worker runs yet
            compact(self.folder)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            if error is None:
                self.compact()

    def carry(self, source: Path, observations: Set[str]) -> None:
        """Copy observations that this folder lacks from another; as :func:`xscan.results.carry.carry`."""
        self.compact()
        carry(source, self.folder, observations)

    def drop(self, observations: Set[str]) -> None:
        """Remove the results of some observations, if they exist."""
        self.compact()
        with named_trouble(self.folder):
            drop(self.folder, observations)

    def write(self, obsid: str, tables: Tables) -> None:
        """Replace one observation's results. A crash before the end leaves its earlier results."""
        stage(self.folder, obsid, tables)
        self._latest = {obsid: tables}
        self.took()

    def took(self) -> None:
        """Count an observation that any process has staged; every :data:`FULL` observations, compact."""
        self._waiting += 1
        if self._waiting >= FULL:
            self.compact()

    def compact(self) -> None:
        """Move staged observations into parts."""
        with named_trouble(self.folder):
            compact(self.folder, self._latest)
        self._waiting, self._latest = 0, {}
