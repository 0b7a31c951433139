"""Keep the beginning of a file of which the rest has not arrived yet."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from xscan.archives.answer import Answer
from xscan.io.atomic import write_whole

__all__ = ["PartialFile", "find_partial", "is_partial"]

_PART = ".part"
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class PartialFile:
    """The beginning of a file, stored under another name, with a note that identifies the file.

    Attributes
    ----------
    folder : Path
    url : str
    name : str
        Name of the complete file.
    total : int or None
        Its size, bytes, if the server says it.
    etag, last_modified : str
        Identify the version of the file; empty if the server does not send them.
    """

    folder: Path
    url: str
    name: str
    total: int | None
    etag: str
    last_modified: str

    @property
    def path(self) -> Path:
        """Path of the bytes."""
        return self.folder / f"{self.name}{_PART}"

    @property
    def note(self) -> Path:
        """Path of the note that describes them."""
        return self.folder / f"{self.name}{_PART}.json"

    @property
    def validator(self) -> str:
        """Value for If-Range; not a weak ETag, which promises the same meaning but not the same bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def begin(self) -> None:
        """Remove an earlier beginning; write the note of the new one, if it can be resumed."""
        self.remove()
        if self.validator:
            facts = {key: value for key, value in asdict(self).items() if key != "folder"}
            write_whole(self.note, json.dumps(facts).encode())

    def remove(self) -> None:
        """Remove the beginning and its note."""
        for path in (self.note, self.path):
            path.unlink(missing_ok=True)

    def range(self) -> dict[str, str]:
        """Return the headers that request the rest, provided that the file has not changed."""
        return {"Range": f"bytes={self.path.stat().st_size}-", "If-Range": self.validator}

    def is_continued_by(self, answer: Answer) -> bool:
        """Return whether an answer continues exactly where this beginning ends, with the same file."""
        match = _RANGE.fullmatch(answer.header("Content-Range").strip())
        if match is None or int(match[1]) != self.path.stat().st_size:
            return False
        same_total = match[3] == "*" or self.total in (None, int(match[3]))
        to_the_end = match[3] == "*" or int(match[2]) + 1 == int(match[3])
        return same_total and to_the_end and answer.header("ETag") in ("", self.etag)


def find_partial(folder: Path, url: str) -> PartialFile | None:
    """Return the stored beginning of the file at a URL; None if there is none.

    Examples
    --------
    >>> url = "https://nxsa.esac.esa.int/list.FTZ"
    >>> begun = PartialFile(scratch, url, "list.FTZ", total=5760, etag='"a1"', last_modified="")
    >>> begun.begin()
    >>> n = begun.path.write_bytes(bytes(2880))
    >>> find_partial(scratch, url).range()
    {'Range': 'bytes=2880-', 'If-Range': '"a1"'}
    """
    for note in folder.glob(f"*{_PART}.json"):
        try:
            partial = PartialFile(folder, **json.loads(note.read_bytes()))
        except (ValueError, TypeError):
            continue
        if partial.url == url and partial.note == note and partial.path.is_file() and partial.path.stat().st_size:
            return partial
    return None


def is_partial(path: Path) -> bool:
    """Return whether a file is the beginning of another, or a note about it.

    Examples
    --------
    >>> [is_partial(Path(name)) for name in ("list.FTZ.part", "list.FTZ.part.json", "list.FTZ")]
    [True, True, False]
    """
    return path.name.endswith((_PART, f"{_PART}.json"))
