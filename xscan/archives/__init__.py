"""Fetch observations from archives: from an obsid to verified files on disk, or to a reason why there are none.

Contract: an observation's folder is complete or absent; a record of what was fetched is in it; nothing is requested
twice. :class:`Fetcher` ensures this for all archives, so that a source (one module each) only lists what it offers
and delivers it. All requests go through one :class:`Web`, which limits their rate. ``pipeline`` and ``cli`` may
import this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from xscan.archives.ahead import fetch_ahead
from xscan.archives.answer import CancelledError
from xscan.archives.fetch import Fetched, Fetcher
from xscan.archives.folder import Folder
from xscan.archives.heasarc import HEASARC_URL, Heasarc
from xscan.archives.manners import Manners
from xscan.archives.nxsa import NXSA_URL, Nxsa
from xscan.archives.web import Web, open_web
from xscan.errors import ConfigError, Reason
from xscan.missions.xmm.products import Delivery, Offer, SavedFile

__all__ = [
    "CancelledError",
    "Fetched",
    "Fetcher",
    "Manners",
    "Source",
    "fetch_ahead",
    "open_source",
    "open_web",
]


class Source(Protocol):
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


def open_source(text: str, web: Web) -> Source:
    """Return the source with the name that the user gives.

    Parameters
    ----------
    text : str
        ``nxsa``, ``heasarc`` or ``folder:DIR``; ``nxsa:URL`` and ``heasarc:URL`` for mirrors.
    web : Web

    Raises
    ------
    ConfigError
        If no source has this name.
    """
    name, _, where = text.partition(":")
    if name == "folder" and where:
        return Folder(where)
    if where and not where.startswith(("http://", "https://")):
        raise ConfigError(f"--source {text}: {where!r} is no address; it begins with https:// or http://")
    if name == "nxsa":
        return Nxsa(web, where or NXSA_URL)
    if name == "heasarc":
        return Heasarc(web, where or HEASARC_URL)
    raise ConfigError(f"unknown source {text!r}; known: nxsa, heasarc, folder:DIR, nxsa:URL, heasarc:URL")
