"""Say where the files of an observation are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Files", "Place"]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one observation, wherever they are.

    Attributes
    ----------
    obsid : str
    paths : tuple of Path
        Event lists.
    sources : Path or None
        Source list.
    """

    obsid: str
    paths: tuple[Path, ...]
    sources: Path | None = None

    @property
    def name(self) -> str:
        """Name of the observation."""
        return self.obsid

    def __str__(self) -> str:
        return ", ".join(str(path) for path in self.paths)


Place = Path | Files
"""Location of an observation: its folder, or its files."""
