"""Define what an archive offers of an observation, and what it delivers."""

from __future__ import annotations

from dataclasses import dataclass

from xscan.missions.xmm.products import Product, product_of

__all__ = ["Delivery", "Offer", "SavedFile"]


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
        return product_of(name, self.obsid) == self.product

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
