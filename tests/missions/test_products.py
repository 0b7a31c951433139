from __future__ import annotations

import pytest

from xscan.archives.offer import Offer
from xscan.missions.xmm.products import PRODUCTS, TIMING, parse_name, product_of

OBSID = "0001730201"


@pytest.mark.parametrize(
    ("name", "key", "exposure"),
    [
        ("P0001730201PNS003PIEVLI0000.FTZ", "pn", "S003"),
        ("P0001730201M1S002MIEVLI0000.FTZ", "m1", "S002"),
        ("P0001730201M2U002MIEVLI0000.FIT", "m2", "U002"),
        ("p0001730201m2x002mievli.fits.gz", "m2", "X002"),
        ("P0001730201M1S002MIEVLI0000.FIT.gz", "m1", "S002"),
        ("P0001730201M1S002TIEVLI0000.FTZ", "m1 timing", "S002"),
        ("P0001730201EPX000OBSMLI0000.FTZ", "sources", "X000"),
        ("P0001730201EPX0ABOBSMLI0000 (1).FITS", "sources", "X0AB"),
        ("P0001730201EPX000OBSMLI\udcff.FTZ", "sources", "X000"),
    ],
)
def test_names_of_products(name: str, key: str, exposure: str) -> None:
    parsed = parse_name(name)
    assert parsed is not None
    assert (parsed.obsid, parsed.product.key, parsed.exposure) == (OBSID, key, exposure)


@pytest.mark.parametrize(
    "name",
    [
        "P0001730201M1S002FBKTSR0000.FTZ",  # a light curve of the background
        "P0001730201M1S002MIEVLI0000.PDF",
        "P0001730201M1S002MIEVLI0000.FTZ.part",
        "P000173020M1S002MIEVLI0000.FTZ",
        "P0001730201PNS003MIEVLI0000.FTZ",  # no such product of pn
        "P0001730201EPX000OBSMLI/../../x.FTZ",
        "P0001730201M1S002MIEVLI00001.FTZ",
        "xP0001730201M1S002MIEVLI0000.FTZ",
    ],
)
def test_other_names(name: str) -> None:
    assert parse_name(name) is None


def test_what_is_requested_is_what_is_read() -> None:
    """Each product that is fetched is known by its name when it is read; a timing list is read about, not fetched."""
    assert [product_of("P0001730201M1S002MIEVLI0000.FTZ", obsid) for obsid in (OBSID, "0001730202")] == [
        PRODUCTS[1],
        None,
    ]
    assert product_of("P0001730201M1S002TIEVLI0000.FTZ", OBSID) is None
    assert all(product.is_event_list for product in TIMING)
    offer = Offer("m1", OBSID, PRODUCTS[1], "somewhere")
    assert offer.wants("P0001730201M1S002MIEVLI0000.FTZ")
    assert not offer.wants("P0001730201M2S002MIEVLI0000.FTZ")
    assert not offer.wants("P0001730202M1S002MIEVLI0000.FTZ")


ANY = "0123456789"


@pytest.mark.parametrize(("name", "key"), [
    ("P0123456789PNS003PIEVLI0000.FTZ", "pn"),
    ("P0123456789M1S001MIEVLI0000.FTZ", "m1"),
    ("P0123456789M2U002MIEVLI0000.FIT", "m2"),
    ("P0123456789EPX000OBSMLI0000.FTZ", "sources"),
    ("p0123456789pns003pievli0000.ftz", "pn"),  # some archives write small letters
    ("P0123456789PNS003PIEVLI.FTZ", "pn"),
    ("P0123456789PNS003TIEVLI0000.FTZ", None),  # a timing mode
    ("P0123456789PNS003MIEVLI0000.FTZ", None),
    ("P0123456789RGS003PIEVLI0000.FTZ", None),
    ("P0123456788PNS003PIEVLI0000.FTZ", None),  # another observation
    ("P0123456789PNS03PIEVLI0000.FTZ", None),
    ("P0123456789PNS003PIEVLI00000.FTZ", None),
    ("P0123456789PNS003PIEVLI0000.PDF", None),
    ("xP0123456789PNS003PIEVLI0000.FTZ", None),
    ("P0123456789PNS\u0663\u0663\u0663PIEVLI0000.FTZ", None),  # digits, but not of a file name
])  # fmt: skip
def test_what_a_file_is_stands_in_its_name(name: str, key: str | None) -> None:
    product = product_of(name, ANY)
    assert (product.key if product else None) == key
    assert [Offer("it", ANY, product, "").wants(name) for product in PRODUCTS] == [
        product.key == key for product in PRODUCTS
    ]


def test_all_but_the_source_list_are_event_lists() -> None:
    assert [product.key for product in PRODUCTS if product.is_event_list] == ["pn", "m1", "m2"]
