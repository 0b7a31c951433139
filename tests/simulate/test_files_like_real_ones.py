"""Simulated event lists are laid out as real ones (event_list_layout.txt, taken from real lists)."""

from __future__ import annotations

import gzip
import hashlib
import re
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import xscan
from xscan.simulate import simulate_archive
from xscan.simulate.fitsbytes import Card, compress, primary_hdu

LAYOUT = Path(__file__).with_name("event_list_layout.txt")
KIND = {bool: "T", int: "I", float: "F", str: "S"}
LISTS = {
    "MOS, raw": ("raw", "M1S001MIEVLI"),
    "MOS, cleaned": ("cleaned", "M1S001MIEVLI"),
    "pn, raw": ("raw", "PNS003PIEVLI"),
    "pn, cleaned": ("cleaned", "PNS003PIEVLI"),
}
MARKER = b"\x00\x00\xff\xff"

OF_THE_CAMERA = ("TLMIN4", "TLMAX4", "TLMIN5", "TLMAX5")
"""Limits of DETX and DETY: they follow from where the CCDs lie, and the simulated ones lie elsewhere."""

ORDER_VARIES = ("CHECKFRA", "FLAGBADT")
"""In EXPOSUnn of real lists these stand in one of two places, from CCD to CCD."""

SEEDS = {"raw": 11, "cleaned": 3}  # of observations that have all CCDs of MOS 1 and pn

# SHA-256 of the events' columns, the three lists one after the other, computed when lists had other headers:
# what is drawn with a seed stays; seed, exposure (s), factor on the background
PHOTONS = {
    (5, 1000.0, 1.0): "52ae5c20f195425a",
    (7, 1000.0, 1.6): "94878665631b3482",
    (SEEDS["raw"], 1000.0, 1.0): "9b8658116d22006b",
    (SEEDS["cleaned"], 1000.0, 1.0): "bc8e5a8e63bea78b",
    (2, 1000.0, 1.0): "36d53b88555eecb3",
}
EVENT_COLUMNS = ("TIME", "RAWX", "RAWY", "DETX", "DETY", "X", "Y", "PHA", "PI", "FLAG", "PATTERN", "CCDNR")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, seed in SEEDS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        simulate_archive(folders[name], 1, seed, 1000.0)
    return {name: folder / "0990000001" for name, folder in folders.items()}


def lists_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*EVLI*"))


def keywords(hdu: fits.PrimaryHDU | fits.BinTableHDU) -> list[str]:
    """Keywords in their order, each with the kind of its value."""
    made = []
    for card in hdu.header.cards:
        if card.keyword not in ("", "HISTORY", *ORDER_VARIES) and card.keyword[:5] not in ("TTYPE", "TFORM", "TUNIT"):
            made.append(f"{card.keyword}:{KIND[type(card.value)]}")
    return [*made, *(f"{keyword}:I" for keyword in ORDER_VARIES if keyword in hdu.header)]


def columns(hdu: fits.BinTableHDU) -> list[str]:
    """Name, form and unit of each column, then its attributes that do not depend on what was observed."""
    made = [":".join(filter(None, (c.name, c.format, c.unit))) for c in hdu.columns]
    for key, value in hdu.header.items():
        fixed = key[:5] in ("TNULL", "TLMIN", "TLMAX", "TCRPX", "TCTYP", "TCUNI") or key.startswith("TCDLT")
        if fixed and key not in OF_THE_CAMERA:
            made.append(f"{key}={value:.8g}" if isinstance(value, float) else f"{key}={value}")
    return made


def layout(path: Path) -> str:
    """How an event list is laid out; of the tables that each CCD has, the first."""
    with fits.open(path) as opened:
        parts = ["extensions: " + " ".join(hdu.name for hdu in opened)]
        seen = set()
        for hdu in opened:
            kind = hdu.name[:6] if hdu.name[-2:].isdigit() and not hdu.name.startswith("GTI") else hdu.name[:3]
            if kind not in seen:
                seen.add(kind)
                parts.append(f"{hdu.name} keywords: " + " ".join(keywords(hdu)))
                if isinstance(hdu, fits.BinTableHDU):
                    parts.append(f"{hdu.name} columns: " + " ".join(columns(hdu)))
    return "\n".join(textwrap.fill(part, 120, subsequent_indent="  ", break_on_hyphens=False) for part in parts)


def stored() -> dict[str, str]:
    parts = LAYOUT.read_text("utf-8").split("== ")[1:]
    return {title: text.strip() for title, text in (part.split("\n", 1) for part in parts)}


def outside_s(times: np.ndarray, good: np.ndarray) -> float:
    """How far the farthest time lies outside the intervals."""
    apart = np.maximum(good["START"] - times[:, None], times[:, None] - good["STOP"])
    return float(np.maximum(apart.min(axis=1), 0).max())


def real_lists(observation: Path) -> dict[str, list[Path]]:
    cleaned = observation.parents[1] / "xmm-clean" / "0201903501"
    if not cleaned.is_dir():
        pytest.skip(f"{cleaned} is not here: real data are not part of the project")
    return {"MOS, raw": lists_of(observation), "MOS, cleaned": sorted(cleaned.glob("mos*"))}


def test_the_stored_layout_is_that_of_real_lists(real_observation: Path) -> None:
    for title, paths in real_lists(real_observation).items():
        assert len(paths) == 2
        for path in paths:
            assert layout(path) == stored()[title], path


@pytest.mark.parametrize("title", LISTS)
def test_simulated_lists_are_laid_out_as_stored(made: dict[str, Path], title: str) -> None:
    kind, name = LISTS[title]
    (path,) = made[kind].glob(f"*{name}*")
    assert layout(path) == stored()[title]


def test_every_ccd_has_the_same_tables(made: dict[str, Path]) -> None:
    for path in (path for folder in made.values() for path in lists_of(folder)):
        with fits.open(path) as opened:
            opened.verify("exception")
            for prefix in ("EXPOSU", "BADPIX", "STDGTI", "GTI"):
                tables = [hdu for hdu in opened if re.fullmatch(rf"{prefix}\d+", hdu.name)]
                assert len({(*keywords(hdu), *columns(hdu)) for hdu in tables}) <= 1


@pytest.mark.parametrize(("seed", "exposure_s", "background"), PHOTONS)
def test_what_a_seed_draws_stays(tmp_path: Path, seed: int, exposure_s: float, background: float) -> None:
    simulate_archive(tmp_path, 1, seed, exposure_s, background=background)
    digest = hashlib.sha256()
    for path in lists_of(tmp_path / "0990000001"):
        with fits.open(path) as opened:
            for name in EVENT_COLUMNS:
                digest.update(np.ascontiguousarray(opened["EVENTS"].data[name]).tobytes())
    assert digest.hexdigest()[:16] == PHOTONS[seed, exposure_s, background]


def test_the_data_subspace_names_the_good_time_of_each_ccd(tmp_path: Path) -> None:
    """One component for each CCD there is: a cleaned list whose MOS have lost one counts on without a hole."""
    simulate_archive(tmp_path, 1, 2, 1000.0)
    for path in lists_of(tmp_path / "0990000001"):
        with fits.open(path) as opened:
            header = opened["EVENTS"].header
            assert [header[f"DSTYP{i}"] for i in range(1, 7)] == ["CCDNR", "FLAG", "FLAG", "PATTERN", "FLAG", "TIME"]
            assert (header["DSVAL6"], header["DSUNI6"]) == ("TABLE", "s")
            ccds = [int(hdu.name[6:]) for hdu in opened if hdu.name.startswith("STDGTI")]
            assert len(ccds) == (12 if "PNS" in path.name else 6)
            for component, ccd in enumerate(ccds):
                prefix = "" if component == 0 else str(component + 1)
                assert header[f"{prefix}DSVAL1"] == str(ccd)
                assert header[f"{prefix}DSREF6"] == f":GTI{component:03d}06"
                table = opened[f"GTI{component:03d}06"]
                assert table.header["CCDID"] == ccd
                events = opened["EVENTS"].data
                mine = events["TIME"][events["CCDNR"] % (100 if "PNS" in path.name else 10) == ccd]
                frame_s = 0.0734 if "PNS" in path.name else 2.6  # the time of an event is drawn within its frame
                assert outside_s(mine, table.data) < frame_s
                assert outside_s(opened[f"EXPOSU{ccd:02d}"].data["TIME"], table.data) == 0
                assert header[f"ONTIME{ccd:02d}"] == pytest.approx((table.data["STOP"] - table.data["START"]).sum())


@pytest.mark.parametrize("kind", SEEDS)
def test_the_reader_takes_each_ccds_own_good_time(made: dict[str, Path], kind: str) -> None:
    observation = xscan.read(made[kind])
    assert [info.reason for info in observation.skipped] == []
    for events, path in zip(
        observation.lists, [made[kind] / held.info.file for held in observation.lists], strict=True
    ):
        with fits.open(path) as opened:
            ccds = [int(hdu.name[6:]) for hdu in opened if hdu.name.startswith("STDGTI")]
            assert sorted(events.good_time) == ccds
            for component, ccd in enumerate(ccds):
                table = opened[f"STDGTI{ccd:02d}" if kind == "raw" else f"GTI{component:03d}06"].data
                seconds = float((table["STOP"] - table["START"]).sum())
                assert float(np.diff(events.good_time[ccd].gti).sum()) == pytest.approx(seconds)


def test_dates_are_those_of_the_first_and_last_frame(made: dict[str, Path]) -> None:
    """Mission time is TT since 1998-01-01; TT was 64.184 s before UTC in 2002. Real DATE-OBS is 5 s late."""
    with fits.open(lists_of(made["raw"])[0]) as opened:
        header = opened["EVENTS"].header
        for date, time in (("DATE-OBS", "TSTART"), ("DATE-END", "TSTOP")):
            since = np.datetime64(header[date]) - np.datetime64("1998-01-01T00:00:00")
            assert since.astype(float) - (header[time] - 64.184) == pytest.approx(5, abs=1)
        assert header["TELAPSE"] == pytest.approx(header["TSTOP"] - header["TSTART"])
        assert header["TSTART"] < opened["EVENTS"].data["TIME"].min()
        assert opened["EVENTS"].data["TIME"].max() < header["TSTOP"]


def stream(path: Path) -> dict[str, object]:
    """How a gzip stream is made: its header, its flush markers and what they separate."""
    raw = path.read_bytes()
    end_of_name = raw.index(b"\0", 10)
    inflate = zlib.decompressobj(-15)
    at, lengths, whole_after = end_of_name + 1, [0], []
    content = b""
    while (marker := raw.find(MARKER, at)) >= 0:
        content += inflate.decompress(raw[at : marker + len(MARKER)])
        lengths.append(len(content))
        at = marker + len(MARKER)
        try:  # after a full flush nothing from before is referred to
            zlib.decompressobj(-15).decompress(raw[at : at + 20_000])
            whole_after.append(True)
        except zlib.error:
            whole_after.append(False)
    content += inflate.decompress(raw[at:])
    sums = [sum(content[n - 4096 : n]) % 4096 for n in lengths if n >= 4096]
    return {
        "method, flags": tuple(raw[2:4]),
        "level, system": tuple(raw[8:10]),
        "name": raw[10:end_of_name].decode(),
        "median distance": float(np.median(np.diff(lengths))),
        "full flushes": float(np.mean(whole_after)),
        "sum of 4096 bytes at a marker is a multiple": float(np.mean(np.array(sums) == 0)),
        "content": content,
    }


def test_streams_are_those_of_gzip_rsyncable(made: dict[str, Path]) -> None:
    for path in lists_of(made["raw"]):
        ours = stream(path)
        assert (ours["method, flags"], ours["level, system"]) == ((8, 8), (0, 3))
        assert ours["name"] == f"{path.stem}.FIT"
        assert 2000 < ours["median distance"] < 6000
        assert ours["full flushes"] == 0
        assert ours["sum of 4096 bytes at a marker is a multiple"] == 1
        assert gzip.decompress(path.read_bytes()) == ours["content"]


def test_real_streams_are_made_in_the_same_way(real_observation: Path, made: dict[str, Path]) -> None:
    ours = stream(lists_of(made["raw"])[0])
    for path in lists_of(real_observation):
        real = stream(path)
        for key in ("method, flags", "level, system", "full flushes"):
            assert real[key] == ours[key]
        assert re.fullmatch(r"P\d{10}M\dS\d{3}MIEVLI0000\.FIT", str(real["name"]))
        assert 0.5 < ours["median distance"] / real["median distance"] < 2
        # gzip flushes between two tokens: a byte or some later than the sum says
        assert 0.4 < real["sum of 4096 bytes at a marker is a multiple"] <= 1


@pytest.mark.parametrize("size", [0, 4095, 4096, 4097, 10_000_000])
def test_streams_hold_what_was_written(rng: np.random.Generator, size: int) -> None:
    data = rng.integers(0, 256, size, np.uint8).tobytes()
    assert gzip.decompress(compress(data, "X.FIT", 0)) == data
    zeros = bytes(size)  # where the sum is always a multiple, there is not a marker for every byte
    packed = compress(zeros, "X.FIT", 0)
    assert gzip.decompress(packed) == zeros
    assert packed.count(MARKER) <= size / 258


@pytest.mark.parametrize("text", ["", "it's", "'" * 40, "x" * 66 + "'y", "a" * 68, "b" * 69, "it's && so " * 60])
def test_strings_come_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(primary_hdu([Card("TEXT", text, "what it says"), Card("AFTER", -1.5), Card("LAST", True)]))
    with fits.open(path) as opened:
        opened.verify("exception")
        header = opened[0].header
        assert (header["TEXT"], header["AFTER"], header["LAST"]) == (text.rstrip(), -1.5, True)
