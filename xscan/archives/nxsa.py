"""Fetch from ESA's XMM-Newton Science Archive.

Its servlet sends one file as it is, several files as a tar, and an empty answer or a short text if it has none.
Whether the archive knows the observation at all is found out from its tables.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from xscan.archives.answer import AttemptError, MissingError
from xscan.archives.download import download, unchanged
from xscan.archives.offer import Delivery, Offer, SavedFile
from xscan.archives.web import Web
from xscan.errors import Reason
from xscan.missions.xmm.products import PRODUCTS

__all__ = ["NXSA_URL", "Nxsa"]

NXSA_URL = "https://nxsa.esac.esa.int"
_SERVLET = "/nxsa-sl/servlet/data-action-aio"
_TABLES = "/tap-server/tap/sync"
_MOST_ROWS_BYTES = 1 << 20


class Nxsa:
    """Fetches products from the servlet.

    Parameters
    ----------
    web : Web
    where : str
        Address of the archive, or of a mirror with the same interface.
    """

    name = "nxsa"

    def __init__(self, web: Web, where: str = NXSA_URL) -> None:
        self.where = where.rstrip("/")
        self._web = web

    def offers(self, obsid: str) -> tuple[Offer, ...]:
        """Return one offer per product; which of them exist is known only when they are taken."""
        offers = []
        for product in PRODUCTS:
            asked = {"obsno": obsid, "level": "PPS"}
            if product.is_event_list:  # source lists are of all cameras together, and have no instrument there
                asked["instname"] = product.instrument
            asked["name"] = product.content
            offers.append(Offer(product.key, obsid, product, f"{self.where}{_SERVLET}?{urlencode(asked)}"))
        return tuple(offers)

    def take(self, offer: Offer, into: Path) -> Delivery:
        """Download the files of an offer."""
        return download(self._web, offer, into)

    def unchanged(self, offer: Offer, files: tuple[SavedFile, ...]) -> bool:
        """Ask the archive whether files have not changed."""
        return unchanged(self._web, offer, files)

    def why_nothing(self, obsid: str) -> Reason:
        """Return why an observation has no event list, from the tables of public and of all observations."""
        if self._lists("v_public_observations", obsid):
            return Reason.NO_PRODUCTS
        return Reason.NOT_PUBLIC if self._lists("v_all_observations", obsid) else Reason.NO_SUCH_OBSERVATION

    def _lists(self, table: str, obsid: str) -> bool:
        query = f"SELECT observation_id FROM xsa.{table} WHERE observation_id = '{obsid}'"
        asked = urlencode({"REQUEST": "doQuery", "LANG": "ADQL", "FORMAT": "csv", "QUERY": query})
        url = f"{self.where}{_TABLES}?{asked}"
        return self._web.persist(f"{obsid}: {url}", lambda: self._ask(url, obsid))

    def _ask(self, url: str, obsid: str) -> bool:
        try:
            with self._web.get(url) as answer:
                rows = answer.text(_MOST_ROWS_BYTES).replace('"', "").split()
        except MissingError as missing:
            raise AttemptError(f"the archive's tables answer {missing}", again=False) from None
        if not rows or rows[0] != "observation_id":
            raise AttemptError("the archive's tables answer something else than rows")
        return obsid in rows[1:]
