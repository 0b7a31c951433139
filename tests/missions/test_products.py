"""Names of pipeline products, as archives list them."""

from __future__ import annotations

import pytest

from xscan.missions.xmm.products import PRODUCTS, Offer, product_of

OBSID = "0123456789"


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
    product = product_of(name, OBSID)
    assert (product.key if product else None) == key
    assert [Offer("it", OBSID, product, "").wants(name) for product in PRODUCTS] == [
        product.key == key for product in PRODUCTS
    ]


def test_all_but_the_source_list_are_event_lists() -> None:
    assert [product.key for product in PRODUCTS if product.is_event_list] == ["pn", "m1", "m2"]
