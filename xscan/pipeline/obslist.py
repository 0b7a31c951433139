"""Read the list of observations to search: one obsid a line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xscan.errors import ConfigError

__all__ = ["Obslist", "read_obslist"]

_OBSID = re.compile(r"\d{10}", re.A)


@dataclass(frozen=True, slots=True)
class Obslist:
    """The observations to scan, in order, each once."""

    obsids: tuple[str, ...]
    duplicates: int
    comments: int
    blank: int


def read_obslist(path: Path) -> Obslist:
    """Read a list of observations: one obsid a line; ``#`` begins a comment.

    Raises
    ------
    ConfigError
        If the file cannot be read, a line is no obsid (all such lines are named), or none is left.

    Examples
    --------
    >>> with (scratch / "list.txt").open("w") as stream:
    ...     for line in ("# bursts", "0990000001", "0990000002", "0990000001  # again"):
    ...         print(line, file=stream)
    >>> read_obslist(scratch / "list.txt")
    Obslist(obsids=('0990000001', '0990000002'), duplicates=1, comments=1, blank=0)
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this list of observations: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; a list has one obsid (ten digits) a line") from None
    obsids: dict[str, None] = {}
    duplicates = comments = blank = 0
    malformed = []
    for number, line in enumerate(lines, start=1):
        entry, _, _ = line.partition("#")
        entry = entry.strip()
        if not entry:
            comments, blank = comments + ("#" in line), blank + ("#" not in line)
        elif not _OBSID.fullmatch(entry):
            malformed.append(f"line {number}: {entry!r}")
        elif entry in obsids:
            duplicates += 1
        else:
            obsids[entry] = None
    if malformed:
        shown = "; ".join(malformed[:5]) + (f"; and {len(malformed) - 5} more" if len(malformed) > 5 else "")
        raise ConfigError(f"{path}: {shown}: an obsid is ten digits, one a line")
    if not obsids:
        raise ConfigError(f"{path}: no observation in this list")
    return Obslist(tuple(obsids), duplicates, comments, blank)
