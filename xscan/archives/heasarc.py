"""Fetch from NASA's HEASARC: one folder per observation, whose listing names the files."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from xscan.archives.answer import AttemptError, MissingError
from xscan.archives.download import download, unchanged
from xscan.archives.offer import Delivery, Offer, SavedFile
from xscan.archives.web import Web
from xscan.errors import ArchiveError, Reason
from xscan.missions.xmm.products import product_of

__all__ = ["HEASARC_URL", "Heasarc"]

HEASARC_URL = "https://heasarc.gsfc.nasa.gov/FTP/xmm/data/rev0"
_HREF = re.compile(r"""href\s*=\s*["']?([^"'\s>]+)""", re.I)
_MOST_LISTING_BYTES = 8 << 20


class Heasarc:
    """Fetches products from a tree of folders.

    Parameters
    ----------
    web : Web
    where : str
        Address of the folder that contains the observations, or of a mirror.
    """

    name = "heasarc"

    def __init__(self, web: Web, where: str = HEASARC_URL) -> None:
        self.where = where.rstrip("/")
        self._web = web

    def offers(self, obsid: str) -> tuple[Offer, ...]:
        """Return one offer per listed file that xscan uses."""
        folder = f"{self.where}/{obsid}/PPS/"
        listed = self._list(obsid, folder, f"P{obsid}")
        wanted = {name: product for name in listed or () if (product := product_of(name, obsid))}
        return tuple(Offer(name, obsid, product, folder + name) for name, product in sorted(wanted.items()))

    def take(self, offer: Offer, into: Path) -> Delivery:
        """Download the files of an offer; raise ArchiveError if a listed file is missing."""
        delivery = download(self._web, offer, into)
        if not delivery.files:
            raise ArchiveError(Reason.ARCHIVE_TROUBLE, f"{offer}: the archive lists this file, and does not give it")
        return delivery

    def unchanged(self, offer: Offer, files: tuple[SavedFile, ...]) -> bool:
        """Ask the archive whether files have not changed."""
        return unchanged(self._web, offer, files)

    def why_nothing(self, obsid: str) -> Reason:
        """Return why there is no event list: the observation may have no folder at all."""
        listed = self._list(obsid, f"{self.where}/{obsid}/", "PPS", "ODF")
        return Reason.NO_SUCH_OBSERVATION if listed is None else Reason.NO_PRODUCTS

    def _list(self, obsid: str, folder: str, *familiar: str) -> set[str] | None:
        """Return the names in a folder; None if the folder does not exist."""
        return self._web.persist(f"{obsid}: {folder}", lambda: self._ask(folder, familiar))

    def _ask(self, folder: str, familiar: tuple[str, ...]) -> set[str] | None:
        try:
            with self._web.get(folder) as answer:
                links = _HREF.findall(answer.text(_MOST_LISTING_BYTES))
        except MissingError:
            return None
        names = {unquote(link).rstrip("/").rpartition("/")[2] for link in links}
        if not any(name.upper().startswith(familiar) for name in names):  # a maintenance page has links too
            raise AttemptError("the archive sends a page, not the listing of this folder")
        return names
