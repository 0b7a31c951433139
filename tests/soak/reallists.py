"""Real MOS event lists in memory: cut to a stretch of time and written again, whatever their files are called."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

CAMERAS = {"EMOS1": "M1", "EMOS2": "M2"}
INTERVALS = re.compile(r"(STD)?GTI\d*")
READ_OUTS = re.compile(r"EXPOSU\d+")
ROWS = re.compile(rb"NAXIS2  = +\d+")


@dataclass(frozen=True)
class Part:
    """One HDU of a file: its header as it stands there, and its rows."""

    name: str
    header: bytes
    rows: NDArray[np.void]

    def bytes(self, rows: NDArray[np.void]) -> bytes:
        """Write it with other rows; of the header only their number changes."""
        if not rows.dtype.itemsize:
            return self.header
        count = b"NAXIS2  = " + str(len(rows)).encode().rjust(20)
        data = rows.tobytes()
        return ROWS.sub(count, self.header, count=1) + data + bytes(-len(data) % 2880)


@dataclass(frozen=True)
class RealList:
    """One event list.

    Attributes
    ----------
    obsid, camera, exposure : str
        What its header says (OBS_ID, INSTRUME, EXPIDSTR), as in the names of pipeline products.
    parts : tuple of Part
        The HDUs, in order.
    """

    obsid: str
    camera: str
    exposure: str
    parts: tuple[Part, ...]

    @property
    def events(self) -> NDArray[np.void]:
        """The rows of EVENTS."""
        return self.part("EVENTS").rows

    def part(self, name: str) -> Part:
        """Give the HDU of a name."""
        return next(part for part in self.parts if part.name == name)

    def write(self, folder: Path, window: tuple[float, float] | None = None) -> None:
        """Write the list under the name of a pipeline product, not compressed.

        Parameters
        ----------
        folder : Path
        window : (float, float), optional
            Start and stop, s, the second exclusive: as a filter in time does, only events and read-out frames
            in it are kept, and good-time intervals are cut to it. Everything else stays.
        """
        content = b"".join(part.bytes(_within(part, window)) for part in self.parts)
        (folder / f"P{self.obsid}{self.camera}{self.exposure}MIEVLI0000.FIT").write_bytes(content)


def _within(part: Part, window: tuple[float, float] | None) -> NDArray[np.void]:
    if window is None:
        return part.rows
    start, stop = window
    if part.name == "EVENTS" or READ_OUTS.fullmatch(part.name):
        return part.rows[(part.rows["TIME"] >= start) & (part.rows["TIME"] < stop)]
    if INTERVALS.fullmatch(part.name):
        rows = part.rows.copy()
        rows["START"], rows["STOP"] = np.maximum(rows["START"], start), np.minimum(rows["STOP"], stop)
        return rows[rows["STOP"] > rows["START"]]
    return part.rows


def read_list(path: Path) -> RealList | None:
    """Read a file; None if it is no event list of MOS with sky pixels."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:6] != b"SIMPLE":
        return None
    with fits.open(io.BytesIO(content)) as hdus:
        if "EVENTS" not in hdus or not {"X", "Y", "RAWX"} <= set(hdus["EVENTS"].columns.names):
            return None
        header = hdus["EVENTS"].header
        if header.get("INSTRUME") not in CAMERAS:
            return None
        parts = []
        for hdu in hdus:
            at = hdu.fileinfo()
            dtype = hdu.columns.dtype.newbyteorder(">") if isinstance(hdu, fits.BinTableHDU) else np.dtype([])
            n = hdu.header["NAXIS2"] if dtype.itemsize else 0
            rows = np.frombuffer(content, dtype, n, at["datLoc"]) if n else np.empty(0, dtype)
            parts.append(Part(hdu.name, content[at["hdrLoc"] : at["datLoc"]], rows))
    return RealList(header["OBS_ID"], CAMERAS[header["INSTRUME"]], header["EXPIDSTR"], tuple(parts))


def read_lists(folder: Path) -> list[RealList]:
    """Read the MOS event lists of a folder, known by their headers, in order of camera.

    Raises
    ------
    SystemExit
        If there is none.
    """
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    lists = [found for path in files if (found := read_list(path)) is not None]
    if not lists:
        raise SystemExit(f"{folder}: no event list of MOS; give the folder of an observation's event lists")
    return sorted(lists, key=lambda one: (one.camera, one.exposure))


def source_list(folder: Path) -> Path | None:
    """Find the EPIC source list of a folder."""
    return next(iter(sorted(folder.glob("P*OBSMLI*"))), None)


def make_folder(
    place: Path, lists: Sequence[RealList], sources: Path | None, window: tuple[float, float] | None = None
) -> Path:
    """Write an observation: the lists, cut to a window, and a copy of the source list if there is one."""
    folder = place / lists[0].obsid
    folder.mkdir(parents=True)
    for one in lists:
        one.write(folder, window)
    if sources is not None:
        (folder / sources.name).write_bytes(sources.read_bytes())
    return folder
