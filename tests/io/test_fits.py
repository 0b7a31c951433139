from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers.lists import FakeList, fits_bytes, hdus

from xscan.errors import DataError, Reason
from xscan.io.fits import read_tables

WHOLE = fits_bytes(hdus(FakeList(time=np.arange(500.0), pi=np.arange(500) + 200)))


def _in_extension(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replace the first occurrence in the first extension."""
    at = content.index(old, content.index(b"XTENSION"))
    return content[:at] + new + content[at + len(old) :]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_columns_against_astropy(tmp_path: Path, pack: type) -> None:
    path = write(tmp_path / "a.FTZ", pack(WHOLE))
    table = read_tables(path)[1]
    with fits.open(path) as theirs:
        for name in theirs["EVENTS"].columns.names:
            np.testing.assert_array_equal(table.column(name), theirs["EVENTS"].data[name])
    assert table.null("X") == -99999999
    assert table.null("PI") is None
    assert "PHA" in table
    assert "NOPE" not in table


def test_real_list_against_astropy(real_observation: Path) -> None:
    path = next(real_observation.glob("*M1*MIEVLI*"))
    ours = {table.name: table for table in read_tables(path)}
    with fits.open(path) as theirs:
        assert list(ours) == [hdu.name for hdu in theirs]
        for hdu in theirs[1:]:
            for column in hdu.columns:
                if column.format in ("D", "E", "I", "J", "B"):
                    np.testing.assert_array_equal(ours[hdu.name].column(column.name), hdu.data[column.name])
        header = theirs["EVENTS"].header
        for key in set(header) - {"", "HISTORY", "COMMENT"}:
            assert ours["EVENTS"].header.get(key) == header[key], key


def test_header_values() -> None:
    made = fits.Header()
    made["TEXT"], made["NUMBER"], made["REAL"], made["YES"] = "it's / fine", -3, 1.5e8, True
    made["QUOTED"], made["LONGONE"] = "51840   ", "x" * 150 + "&" + "y" * 20
    hdu = fits.PrimaryHDU(header=made)
    header = _read(fits_bytes(fits.HDUList([hdu])))
    assert header.text("TEXT") == "it's / fine"
    assert (header.get("NUMBER"), header.get("REAL"), header.get("YES")) == (-3, 1.5e8, True)
    assert header.number("QUOTED") == 51_840  # real lists quote some numbers
    assert header.get("LONGONE") == "x" * 150 + "&" + "y" * 20
    assert header.number("TEXT") is None
    assert header.text("ABSENT") == ""


def _read(content: bytes):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read_tables(write(Path(folder) / "a.fits", content))[0].header


def test_header_cards_that_mislead() -> None:
    cards = [
        "COMMENT where END     stands within a card",
        "KEY     = 'first   '",
        "KEY     = 'second &'",
        "CONTINUE  'which nobody asks for'",
        "END_    = 'END     '",
        "OPEN    = 'not closed",
        "TWO     = 'it''s ''two'''",
        "EMPTY   = ''",
        "NONE    =",
        "LOST    = 'joined &'",
        "COMMENT",
        "CONTINUE  'after a comment'",
        *["COMMENT"] * 40,
        "LATE    =            1.5D3 / of the second block",
        "END",
    ]
    head = _read(b"SIMPLE  =                    T".ljust(80) + _block(cards))
    assert [head.get(key) for key in ("KEY", "END_", "OPEN", "TWO", "EMPTY", "NONE", "LOST", "LATE")] == [
        "first", "END", "not closed", "it's 'two'", "", None, "joined after a comment", 1500.0,
    ]  # fmt: skip
    assert list(head) == ["SIMPLE", "KEY", "END_", "OPEN", "TWO", "EMPTY", "NONE", "LOST", "LATE"]


def _block(cards: list[str]) -> bytes:
    content = "".join(card.ljust(80) for card in cards).encode()
    return content.ljust(-(-(len(content) + 80) // 2880) * 2880 - 80)


def test_scaled_columns(tmp_path: Path) -> None:
    values = np.array([0, 1, 40_000, 65_535])
    columns = [fits.Column("FLAG", "I", bzero=32_768, array=values), fits.Column("RATE", "E", array=values / 7)]
    hdu = fits.BinTableHDU.from_columns(columns, name="T")
    table = read_tables(write(tmp_path / "a.fits", fits_bytes(fits.HDUList([fits.PrimaryHDU(), hdu]))))[1]
    np.testing.assert_array_equal(table.column("FLAG", "iu"), values)
    with pytest.raises(DataError, match="RATE"):
        table.column("RATE", "iu")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(WHOLE)[:-100], "cut short"),
        (gzip.compress(WHOLE)[:2000] + b"\xff" * 50 + gzip.compress(WHOLE)[2050:], "corrupt"),
        (gzip.compress(WHOLE)[:-6] + b"wrong!", "corrupt"),
        (gzip.compress(WHOLE[:9000]), "cut short"),
        (WHOLE[:3000], "cut short"),
        (gzip.compress(b"<!DOCTYPE html><html>Service unavailable"), "HTML"),
        (b"<html>no", "HTML"),
        (b"", "no FITS file"),
        (b"\x1f\x8b", "cut short"),
        (b"SIMPLE  = nothing more", "END"),
        (WHOLE.replace(b"NAXIS2  =                  500", b"NAXIS2  =                 -500"), "NAXIS2"),
        (WHOLE.replace(b"TFORM1  = 'D       '", b"TFORM1  = 'Z       '"), "TFORM1"),
        (WHOLE.replace(b"TFORM1  = 'D       '", b"TFORM1  = '99D     '"), "a row has"),
        # found by scripts/fuzz: seeds 78, 804 and 1472
        (
            _in_extension(WHOLE, b"NAXIS   =                    2", b"NAXIS   =             99999999"),
            "NAXIS is 99999999",
        ),
        (WHOLE.replace(b"TFIELDS =                   12", b"TFIELDS =             99999999"), "TFIELDS is 99999999"),
        (WHOLE.replace(b"TFORM1  = 'D       '", b"TFORM1  = 'E       '"), "a row has"),
        (
            _in_extension(WHOLE, b"BITPIX  =                    8", b"BITPIX  =                    7"),
            "BITPIX of a table is 7",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # packed bytes differ with the clock
)
def test_damaged_files_are_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = write(tmp_path / "P0.FTZ", content)
    with pytest.raises(DataError, match=says) as caught:
        read_tables(path)
    assert caught.value.reason is Reason.UNREADABLE
    assert str(caught.value).startswith("P0.FTZ: ")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_tables(tmp_path / "gone.FTZ")
