"""Describe the files of an observation that xscan requests from an archive, and those that it got."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PRODUCTS", "Delivery", "Offer", "Product", "SavedFile", "product_of"]

_KINDS = r"\.(FTZ|FIT|FITS|FITS\.GZ)"


@dataclass(frozen=True, slots=True)
class Product:
    """One kind of file of an observation.

    Attributes
    ----------
    key : str
        ``pn``, ``m1``, ``m2`` or ``sources``.
    instrument : str
        As in file names: ``PN``, ``M1``, ``M2``, ``EP``.
    content : str
        As in file names: ``PIEVLI``, ``MIEVLI``, ``OBSMLI``.
    """

    key: str
    instrument: str
    content: str

    @property
    def is_event_list(self) -> bool:
        """Whether it is an event list."""
        return self.content != "OBSMLI"

    def matches(self, name: str, obsid: str) -> bool:
        """Return whether a file name, without folder, is that of a file of this kind and this observation."""
        pattern = rf"P{obsid}{self.instrument}[SUX]\d{{3}}{self.content}\w{{0,4}}{_KINDS}"
        return re.fullmatch(pattern, name, re.I | re.A) is not None


PRODUCTS = (
    Product("pn", "PN", "PIEVLI"),
    Product("m1", "M1", "MIEVLI"),
    Product("m2", "M2", "MIEVLI"),
    Product("sources", "EP", "OBSMLI"),
)
"""Imaging event lists of the three cameras, and the EPIC source list."""


def product_of(name: str, obsid: str) -> Product | None:
    """Return the kind of file that a name, without folder, stands for in this observation; None if it is not used."""
    return next((product for product in PRODUCTS if product.matches(name, obsid)), None)


@dataclass(frozen=True, slots=True)
class Offer:
    """A request that an archive can be sent: for one file, or for all files of one kind.

    Attributes
    ----------
    key : str
        Identifies the offer among those of its observation.
    obsid : str
    product : Product
    place : str
        URL, or path of a file.
    """

    key: str
    obsid: str
    product: Product
    place: str

    def wants(self, name: str) -> bool:
        """Return whether a file of this name belongs to the offer."""
        return self.product.matches(name, self.obsid)

    def __str__(self) -> str:
        return f"{self.obsid}: {self.key}: {self.place}"


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that is complete, verified and on disk.

    Attributes
    ----------
    name : str
        Without folder.
    bytes : int
    etag, last_modified : str
        Version of the file as stated by the server; empty if it states none.
    """

    name: str
    bytes: int
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of an offer; without files if the archive has none.

    Attributes
    ----------
    files : tuple of SavedFile
    remarks : tuple of str
        Irregularities, one sentence each.
    """

    files: tuple[SavedFile, ...] = ()
    remarks: tuple[str, ...] = ()
