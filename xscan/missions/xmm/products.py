"""What is asked of an archive, and what came: the files of an observation that a search uses."""

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
        """Whether it holds photons."""
        return self.content != "OBSMLI"

    def matches(self, name: str, obsid: str) -> bool:
        """Return whether a file of this observation with this name, without folder, is one of this kind."""
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
    """Say what kind of file of this observation a name, without folder, stands for; None if no such."""
    return next((product for product in PRODUCTS if product.matches(name, obsid)), None)


@dataclass(frozen=True, slots=True)
class Offer:
    """Something to ask an archive for: one file, or all files of one kind.

    Attributes
    ----------
    key : str
        Names the offer among those of its observation.
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
        """Return whether a file of this name is what was asked for."""
        return self.product.matches(name, self.obsid)

    def __str__(self) -> str:
        return f"{self.obsid}: {self.key}: {self.place}"


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that is whole, verified and on disk.

    Attributes
    ----------
    name : str
        Without folder.
    bytes : int
    etag, last_modified : str
        What the server calls this version of it; empty if it does not say.
    """

    name: str
    bytes: int
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of an offer: no files if the archive has none.

    Attributes
    ----------
    files : tuple of SavedFile
    remarks : tuple of str
        What was odd about it, one sentence each.
    """

    files: tuple[SavedFile, ...] = ()
    remarks: tuple[str, ...] = ()
