"""Fetch observations from archives: from an obsid to verified files on disk, or to a reason why there are none.

Contract: an observation's folder is complete or absent; a record of what was fetched is in it; nothing is requested
twice. :class:`Fetcher` ensures this for all archives, so that an archive (one module each) only lists what it offers
and delivers it. All requests go through one :class:`Web`, which limits their rate. ``pipeline`` and ``cli`` may
import this package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from xscan.archives.ahead import fetch_ahead
from xscan.archives.answer import CancelledError
from xscan.archives.fetch import Fetched, Fetcher
from xscan.archives.folder import Folder
from xscan.archives.heasarc import HEASARC_URL, Heasarc
from xscan.archives.nxsa import NXSA_URL, Nxsa
from xscan.archives.offer import Delivery, Offer, SavedFile
from xscan.archives.request_limits import RequestLimits
from xscan.archives.web import Web, open_web
from xscan.errors import ConfigError, Reason

__all__ = [
    "ARCHIVES",
    "Archive",
    "CancelledError",
    "Fetched",
    "Fetcher",
    "RequestLimits",
    "fetch_ahead",
    "open_archive",
    "open_web",
]


class Archive(Protocol):
    """An archive from which observations are fetched.

    Attributes
    ----------
    name : str
    where : str
        Its address: one URL or path.
    """

    name: str
    where: str

    def offers(self, obsid: str) -> tuple[Offer, ...]:
        """Return what can be requested of an observation; empty if there is nothing.

        Raises ArchiveError where that cannot be found out.
        """
        ...

    def take(self, offer: Offer, into: Path) -> Delivery:
        """Put the files of an offer into a folder; each is verified before it gets its name.

        Returns no files if there are none. Raises ArchiveError if that cannot be found out or the files
        cannot be fetched, and OSError if the disk does not accept them.
        """
        ...

    def unchanged(self, offer: Offer, files: tuple[SavedFile, ...]) -> bool:
        """Return whether files that were taken are still what is offered; False if that cannot be found out."""
        ...

    def why_nothing(self, obsid: str) -> Reason:
        """Return why there is no event list: ``no_products``, ``not_public`` or ``no_such_observation``."""
        ...


ARCHIVES: dict[str, tuple[Callable[[Web, str], Archive], str]] = {
    "nxsa": (Nxsa, NXSA_URL),
    "heasarc": (Heasarc, HEASARC_URL),
}
"""Archives on the web by name: what opens each, and its address. A folder on disk is one too: ``folder:DIR``."""


def open_archive(text: str, web: Web) -> Archive:
    """Return the archive with the name that the user gives.

    Parameters
    ----------
    text : str
        ``nxsa``, ``heasarc`` or ``folder:DIR``; ``nxsa:URL`` and ``heasarc:URL`` for mirrors.
    web : Web

    Raises
    ------
    ConfigError
        If no archive has this name.

    Examples
    --------
    A mirror, and a folder on disk, for which nothing is requested:

    >>> with open_web(RequestLimits()) as web:
    ...     mirror, disk = open_archive("heasarc:https://mirror.org", web), open_archive("folder:archive", web)
    >>> mirror.name, mirror.where, disk.name
    ('heasarc', 'https://mirror.org', 'folder')
    """
    name, _, where = text.partition(":")
    if name == "folder" and where:
        return Folder(where)
    if where and not where.startswith(("http://", "https://")):
        raise ConfigError(f"--from {text}: {where!r} is no address; it begins with https:// or http://")
    if name not in ARCHIVES:
        known = [*ARCHIVES, "folder:DIR", *(f"{name}:URL" for name in ARCHIVES)]
        raise ConfigError(f"unknown archive {text!r}; known: {', '.join(known)}")
    make, address = ARCHIVES[name]
    return make(web, where or address)
