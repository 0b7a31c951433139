"""Name the files of an observation: the one table for those that are read, and those requested from an archive.

A name of the pipeline (PPS) is ``P0001730201M1S002MIEVLI0000.FTZ``: P, observation, instrument, exposure, content,
number, ending.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PRODUCTS", "TIMING", "Product", "ProductName", "parse_name", "product_of"]


@dataclass(frozen=True, slots=True)
class Product:
    """One kind of file of an observation.

    Attributes
    ----------
    key : str
        Identifies it, as ``pn`` or ``sources``.
    instrument : str
        As in file names: ``PN``, ``M1``, ``M2``, ``EP``.
    content : str
        As in file names: ``PIEVLI``, ``MIEVLI``, ``TIEVLI``, ``OBSMLI``.
    """

    key: str
    instrument: str
    content: str

    @property
    def is_event_list(self) -> bool:
        """Whether it is an event list."""
        return self.content != "OBSMLI"


PRODUCTS = (
    Product("pn", "PN", "PIEVLI"),
    Product("m1", "M1", "MIEVLI"),
    Product("m2", "M2", "MIEVLI"),
    Product("sources", "EP", "OBSMLI"),
)
"""What is requested: imaging event lists of the three cameras, and the EPIC source list."""

TIMING = (
    Product("pn timing", "PN", "TIEVLI"),
    Product("m1 timing", "M1", "TIEVLI"),
    Product("m2 timing", "M2", "TIEVLI"),
)
"""Event lists without positions: not requested, but known by name, so that it is said why they are not searched."""

_BY_NAME = {(product.instrument, product.content): product for product in (*PRODUCTS, *TIMING)}
# a copy of a source list may have any name that begins like one, but leads to no other folder
_NAME = re.compile(
    r"P(\d{10})(?:(PN|M1|M2)([SUX]\d{3})([PMT]IEVLI)(?:\d{4})?|(EP)([^/\n\0]{4})(OBSMLI)[^/\n\0]*)\.(?:FTZ|FITS?(?:\.GZ)?)",
    re.I | re.A,
)


@dataclass(frozen=True, slots=True)
class ProductName:
    """What the name of a file says: observation, product, and exposure such as S002."""

    obsid: str
    product: Product
    exposure: str


def parse_name(name: str) -> ProductName | None:
    """Return what a file name, without folder, says; None if it is no name of a product.

    Examples
    --------
    >>> parse_name("P0001730201M1S002MIEVLI0000.FTZ").product.key
    'm1'
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    obsid, instrument, exposure, content = filter(None, match.groups())
    product = _BY_NAME.get((instrument.upper(), content.upper()))
    return None if product is None else ProductName(obsid, product, exposure.upper())


def product_of(name: str, obsid: str) -> Product | None:
    """Return the requested product that a file name stands for in this observation; None if it is none.

    Examples
    --------
    >>> product_of("P0001730201M1S002MIEVLI0000.FTZ", "0001730201")
    Product(key='m1', instrument='M1', content='MIEVLI')
    >>> print(product_of("P0001730201M1S002MIEVLI0000.FTZ", "0990000001"))
    None
    """
    parsed = parse_name(name)
    return parsed.product if parsed and parsed.obsid == obsid and parsed.product in PRODUCTS else None
