"""Read the user's tables of hot pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xscan.errors import ConfigError
from xscan.missions.xmm.instrument import EPIC
from xscan.model import PixelMask

__all__ = ["HotPixels"]


@dataclass(frozen=True, slots=True)
class HotPixels:
    """The user's hot-pixel tables.

    Attributes
    ----------
    tables : dict of str to int64 array, shape (k, 5)
        By camera: RAWX, RAWY, CCDNR, REV1, REV2; a row applies where REV1 < revolution < REV2.
    """

    tables: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    _HEADER = "RAWX,RAWY,CCDNR,REV1,REV2"

    @classmethod
    def load(cls, folder: Path) -> HotPixels:
        """Read ``hotpix_PN.csv``, ``hotpix_M1.csv`` and ``hotpix_M2.csv`` of a folder.

        Raises
        ------
        ConfigError
            If there is none, or one is not a table of five columns of whole numbers.
        """
        tables = {}
        for camera in EPIC.names:
            path = folder / f"hotpix_{camera.upper()}.csv"
            if path.is_file():
                tables[camera] = cls._read(path)
        if not tables:
            raise ConfigError(f"{folder}: no hot-pixel table; expected hotpix_PN.csv, hotpix_M1.csv or hotpix_M2.csv")
        return cls(tables)

    @classmethod
    def _read(cls, path: Path) -> NDArray[np.int64]:
        lines = path.read_text("utf-8", errors="replace").splitlines()
        if not lines or lines[0].strip() != cls._HEADER:
            raise ConfigError(f"{path}: line 1 must read {cls._HEADER}")
        rows = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                row = [int(text) for text in line.split(",")]
            except ValueError:
                row = []
            if len(row) != 5:
                raise ConfigError(f"{path}: line {number} is not five whole numbers: {line!r}")
            rows.append(row)
        return np.array(rows, np.int64).reshape(-1, 5)

    def mask(self, camera: str, revolution: int) -> PixelMask:
        """Return the pixels that were hot in a revolution."""
        mask = PixelMask()
        if camera in self.tables:
            rawx, rawy, ccd, rev1, rev2 = self.tables[camera].T
            hot = (rev1 < revolution) & (revolution < rev2)
            mask.add(ccd[hot], rawx[hot], rawy[hot])
        return mask

    def digest(self) -> str:
        """Return a digest of the tables, 16 hexadecimal digits; empty if there are none."""
        if not self.tables:
            return ""
        digest = hashlib.sha256()
        for camera, table in sorted(self.tables.items()):
            digest.update(camera.encode() + table.astype("<i8").tobytes())
        return digest.hexdigest()[:16]
