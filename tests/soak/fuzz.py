"""Damaged event lists through the reader and the search: no traceback, no hang, no flood of memory.

    scripts/fuzz [--n 10000] [--seed 1] [--workers 2]

Takes small event lists of each kind, damages them (bits flipped, blocks dropped or doubled, header
cards edited, values made absurd, the gzip stream cut or mixed), and scans each. A file must give
results or a reason code; a reason ``error`` means that nobody foresaw it, and counts as a failure,
as do more than 10 s or 2 GiB. Prints the seeds that failed and the sum; exit status 0 if none did.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from xscan.api import scan_settings
from xscan.pipeline.scan import scan_folder
from xscan.simulate import draw_sky, simulate_observation
from xscan.simulate.observation import draw_pointing

SECONDS_MAX = 10
MEMORY_MAX = 2 << 30
EXPOSURE_S = 3000.0
VIEWS = ("5:0.2-12", "50:0.2-2")
BLOCK, CARD = 2880, 80
ABSURD = ("0", "-1", "1", "7", "-32768", "99999999", "2147483648", "1E300", "NaN", "'text    '", "T", "")
KEYWORDS = [
    *("NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS", "BITPIX", "NAXIS", "EXTNAME", "XTENSION", "END", "SIMPLE"),
    *("TFORM1", "TFORM2", "TFORM9", "TTYPE1", "TNULL6", "TSCAL6", "TZERO6", "TSCAL1", "TZERO9"),
    *("REFXCRVL", "REFYCRVL", "REFXCRPX", "REFXCDLT", "DSREF2", "DSVAL1", "XMMEA_EM", "XMMEA_EP"),
    *(
        "MJDREF",
        "TIMEZERO",
        "TIMESYS",
        "TIMEREF",
        "TUNIT1",
        "TUNIT2",
        "2DSVAL1",
        "DSTYP1",
        "DSTYP2",
        "CCDID",
        "EXPIDSTR",
    ),
    *("SUBMODE", "FILTER", "INSTRUME", "OBS_ID", "REVOLUT", "TELAPSE"),
]


def bases(folder: Path) -> list[tuple[str, bytes]]:
    """Make small whole event lists and a source list; give names and unpacked contents."""
    rng = np.random.default_rng(0)
    pointing = draw_pointing(rng, "0990000001", EXPOSURE_S)
    simulate_observation(folder, pointing, draw_sky(rng, EXPOSURE_S, n_sources=5), rng)
    return [(path.name, gzip.decompress(path.read_bytes())) for path in sorted(folder.iterdir())]


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a FITS file in one to three ways, and pack it, perhaps badly."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(0, 8)
        if kind == 0:  # bits anywhere
            for place in rng.integers(0, len(data), rng.integers(1, 50)):
                data[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:  # a block dropped, or several
            start = int(rng.integers(0, len(data) // BLOCK)) * BLOCK
            del data[start : start + BLOCK * int(rng.integers(1, 4))]
        elif kind == 2:  # a block doubled
            start = int(rng.integers(0, len(data) // BLOCK)) * BLOCK
            data[start:start] = data[start : start + BLOCK]
        elif kind in (3, 4):  # a header card of a known keyword
            edit_card(data, KEYWORDS[rng.integers(0, len(KEYWORDS))].encode(), rng)
        elif kind == 5:  # any card of any header
            place = int(rng.integers(0, max(len(data) // CARD, 1))) * CARD
            data[place : place + CARD] = bytes(rng.integers(32, 127, CARD).astype(np.uint8))
        elif kind == 6:  # numbers in the tables made absurd
            value = [b"\x7f\xf8" + bytes(6), b"\x7f\xf0" + bytes(6), b"\xff" * 8, bytes(8), b"\x80" + bytes(7)]
            for place in rng.integers(0, len(data) - 8, rng.integers(1, 200)):
                data[place : place + 8] = value[rng.integers(0, len(value))]
        else:  # cut
            del data[int(rng.integers(0, len(data))) :]
        if len(data) < BLOCK:
            break
    packed = bytearray(gzip.compress(bytes(data), 1) if rng.random() < 0.9 else bytes(data))
    if rng.random() < 0.15 and len(packed) > 20:
        if rng.random() < 0.5:
            del packed[int(rng.integers(1, len(packed))) :]
        else:
            packed[int(rng.integers(0, len(packed)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(packed)


def edit_card(data: bytearray, keyword: bytes, rng: np.random.Generator) -> None:
    """Give one occurrence of a keyword an absurd value."""
    places = []
    place = data.find(keyword)
    while place >= 0 and len(places) < 60:
        if place % CARD == 0:
            places.append(place)
        place = data.find(keyword, place + 1)
    if places:
        at = places[rng.integers(0, len(places))]
        value = ABSURD[rng.integers(0, len(ABSURD))]
        data[at : at + CARD] = keyword.ljust(8) + f"= {value:>20}".ljust(CARD - 8).encode()


class Late(BaseException):
    """Out of time; no ``except Exception`` may take it for an ordinary trouble."""


def attack(seed: int, originals: list[tuple[str, bytes]]) -> tuple[int, str, str]:
    """Scan one damaged observation; give the seed, what came of it, and the message of a failure."""
    rng = np.random.default_rng(seed)
    victim = int(rng.integers(0, len(originals)))

    def late(*_: object) -> None:
        raise Late(f"longer than {SECONDS_MAX} s")

    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "0990000001"
        folder.mkdir()
        for i, (file, content) in enumerate(originals):
            keep = i == victim or (file.endswith("OBSMLI0000.FTZ")) or rng.random() < 0.3
            if keep:
                (folder / file).write_bytes(damage(content, rng) if i == victim else gzip.compress(content, 1))
        signal.alarm(SECONDS_MAX)
        try:
            _, tables = scan_folder(folder, scan_settings(views=VIEWS).scanner())
        except BaseException as error:  # whatever it is, it is a find
            return seed, "escaped", f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
    rows, inputs = tables.runs.to_pylist(), tables.inputs.to_pylist()
    reasons = {row["reason"] or row["state"] for row in rows}
    reasons |= {info["reason"] for info in inputs if info["reason"]}
    messages = [info["message"] or "" for info in (*rows, *inputs)]
    if "error" in reasons:
        told = [info for info in (*rows, *inputs) if info["reason"] == "error"]
        return seed, "unforeseen", told[0]["message"]
    if any("\n" in message for message in messages):
        return seed, "unforeseen", "a message of several lines"
    return seed, "+".join(sorted(reasons)), ""


_originals: list[tuple[str, bytes]] = []


def _start(originals: list[tuple[str, bytes]]) -> None:
    import logging
    import warnings

    global _originals
    _originals = originals
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error", RuntimeWarning)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))


def _attack(seed: int) -> tuple[int, str, str]:
    return attack(seed, _originals)


def main() -> int:
    """Run the attacks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="number of files")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; file k has seed + k")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        originals = bases(Path(folder) / "0990000001")
    started = time.monotonic()
    outcomes: collections.Counter[str] = collections.Counter()
    failures = []
    with multiprocessing.get_context("spawn").Pool(args.workers, _start, (originals,)) as pool:
        for seed, outcome, message in pool.imap_unordered(_attack, range(args.seed, args.seed + args.n), chunksize=20):
            outcomes[outcome] += 1
            if message:
                failures.append(seed)
                print(f"seed {seed}: {outcome}: {message}", flush=True)
    for outcome, count in outcomes.most_common(15):
        print(f"{count:7d}  {outcome}")
    print(f"{args.n} files in {time.monotonic() - started:.0f} s: {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
