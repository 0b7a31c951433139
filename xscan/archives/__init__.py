"""Archives: from an obsid to files on disk, or a reasoned refusal. One module each.

A source only offers and delivers; that an observation is whole or absent, that there is a record
of it, and that nothing is asked for twice is the business of :class:`Fetcher`, the same for all.
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
    """Somewhere observations come from.

    Attributes
    ----------
    name : str
    where : str
        Its address: one URL or path.
    """

    name: str
    where: str

    def offers(self, obsid: str) -> tuple[Offer, ...]:
        """Say what to ask for; empty if there is nothing.

        Raises ArchiveError where that cannot be told.
        """
        ...

    def take(self, offer: Offer, into: Path) -> Delivery:
        """Bring the files of an offer into a folder, each verified before it has its name.

        Gives no files if there are none; raises ArchiveError where that cannot be told or they
        cannot be had, and OSError where the disk does not take them.
        """
        ...

    def unchanged(self, offer: Offer, files: tuple[SavedFile, ...]) -> bool:
        """Say whether files that were taken are still what is offered; if that cannot be told, they are not."""
        ...

    def why_nothing(self, obsid: str) -> Reason:
        """Say why there is no event list: ``no_products``, ``not_public`` or ``no_such_observation``."""
        ...


def open_source(text: str, web: Web) -> Source:
    """Make a source of what the user calls it.

    Parameters
    ----------
    text : str
        ``nxsa``, ``heasarc`` or ``folder:DIR``; ``nxsa:URL`` and ``heasarc:URL`` for mirrors.
    web : Web

    Raises
    ------
    ConfigError
        If there is no such source.
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
