"""Loops over the events of whole lists: each backend gives what the NumPy definition gives, to the last bit."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from helpers.lists import T0, binned
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xscan.backends import get_backend
from xscan.backends.numba import dropouts as numba_dropouts
from xscan.config import load_config
from xscan.errors import ConfigError
from xscan.events import cuts as clean
from xscan.events import dropouts
from xscan.events import merge as merging
from xscan.events.cuts import FlagCut, RawEvents
from xscan.events.merge import GtiFilter, sort_photons
from xscan.grid import Box
from xscan.missions.xmm.cuts import make_cuts
from xscan.missions.xmm.instrument import EPIC
from xscan.model import CAMERAS, CcdTime, EventList, InputFile, Photons, PixelMask
from xscan.sky import TangentPlane

DEFAULT = load_config()
SINGLES = replace(DEFAULT, pn_singles_below_kev=0.4)
KINDS = {
    "time": ">f8", "rawx": ">i2", "rawy": ">i2", "x": ">i4", "y": ">i4", "pi": ">i2", "flag": ">i4",
    "pattern": "u1", "ccd": "u1",
}  # fmt: skip


RARE = np.array([0.05, 0.05, 0.1, 0.6, 0.1, 0.05, 0.05])


def raw_events(rng: np.random.Generator, n: int, strided: bool = True) -> RawEvents:
    """Events on every edge there is, in rows as they stand in a file."""
    time = rng.choice([0.0, -0.0, np.nan, np.inf, -np.inf, -5.5, T0, T0 + 1e-6, 1e308], n)
    time = np.where(rng.random(n) < 0.7, T0 + rng.uniform(0, 100, n), time)
    columns = {
        "time": time,
        "rawx": rng.choice([-32_768, -5, 0, 4, 5, 11, 12, 28, 60, 61, 300, 623, 624, 700, 32_767], n),
        "rawy": rng.choice([-32_768, -16, -15, 0, 12, 13, 23, 24, 100, 196, 197, 600, 623, 624, 32_767], n),
        "x": rng.choice([-99_999_999, 0, 1, 25_000, 51_840, 51_841, 2**31 - 1], n, p=RARE),
        "y": rng.choice([-99_999_999, 0, 1, 25_000, 51_840, 70_000, -(2**31)], n, p=RARE),
        "pi": rng.choice([-32_768, -1, 0, 199, 200, 399, 400, 12_000, 12_001, 32_767], n),
        "flag": rng.choice([0, 1, 0x10000, 0x766BA000, 0x2FB0024, -1, -(2**31)], n, p=RARE[[3, 2, 4, 0, 1, 5, 6]]),
        "pattern": rng.choice([0, 1, 4, 5, 12, 13, 255], n),
        "ccd": rng.choice([0, 1, 2, 4, 5, 10, 11, 12, 14, 17, 255], n),
    }  # fmt: skip
    if not strided:
        return RawEvents(**{name: values.astype(KINDS[name]) for name, values in columns.items()})
    rows = np.zeros(n, np.dtype([("odd", "u1"), *KINDS.items()]))  # one byte more: nothing is aligned
    for name, values in columns.items():
        rows[name] = values
    return RawEvents(**{name: rows[name] for name in KINDS})


def some_mask(rng: np.random.Generator) -> PixelMask:
    mask = PixelMask()
    mask.add(rng.integers(0, 16, 400), rng.choice([5, 12, 28, 60, 300, 623], 400), rng.integers(-15, 620, 400), 40)
    return mask


def cleaned(
    name: str, raw: RawEvents, cuts: clean.Cuts, own: PixelMask | None, split: int
) -> tuple[clean.Selection, tuple[int, int, int], list[NDArray[np.generic]]]:
    backend = get_backend(name)
    n = len(raw.time)
    parts = [
        RawEvents(*(getattr(raw, f.name)[first:last] for f in fields(RawEvents)))
        for first, last in ((0, split), (split, n))
    ]
    selection = clean.select_all(parts, n, cuts, backend.events.select)
    selected = [column[: selection.n].copy() for column in selection.kept.columns()]
    dropped = backend.events.drop_bad_pixels(selection.kept, selection.n, own)
    return selection, dropped, [*selected, *(column[: dropped[0]] for column in selection.kept.columns())]


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 400),
    camera=st.sampled_from(CAMERAS),
    submode=st.sampled_from(["PrimeFullWindow", "PrimeLargeWindow", "PrimePartialW2"]),
    flags=st.sampled_from([None, FlagCut(0x766BA000), FlagCut(0x2FB0024, 12), FlagCut(0x80000000)]),
    masks=st.tuples(st.booleans(), st.booleans()),
    null=st.sampled_from([(None, None), (-99_999_999, -99_999_999), (25_000, None)]),
    config=st.sampled_from([DEFAULT, SINGLES]),
    strided=st.booleans(),
)
def test_events_are_cut_alike(seed, n, camera, submode, flags, masks, null, config, strided) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    raw = raw_events(rng, n, strided)
    hot, own = (some_mask(rng) if used else None for used in masks)
    cuts = make_cuts(camera, submode, flags, hot, null, config)
    split = int(rng.integers(0, n + 1))
    slow, slow_drop, slow_columns = cleaned("numpy", raw, cuts, own, split)
    fast, fast_drop, fast_columns = cleaned("numba", raw, cuts, own, split)
    assert (slow.n, slow.cuts, slow.span) == (fast.n, fast.cuts, fast.span)
    assert slow_drop == fast_drop
    for a, b in zip(slow_columns, fast_columns, strict=True):
        np.testing.assert_array_equal(a, b)
    assert slow.n + sum(slow.cuts.values()) == n


def test_the_events_that_are_cut_are_worth_cutting(rng: np.random.Generator) -> None:
    """The made-up events above exercise every cut: none removes nothing, none removes everything."""
    raw = raw_events(rng, 20_000)
    cuts = make_cuts("m1", "PrimePartialW2", FlagCut(0x10000), some_mask(rng), (None, None), DEFAULT)
    selection, (n, bad, null), _ = cleaned("numba", raw, cuts, some_mask(rng), 7)
    assert min(*selection.cuts.values(), n, bad, null) > 10


def test_columns_of_other_formats(rng: np.random.Generator) -> None:
    """PI as four bytes, CCDNR as two: the definition takes them."""
    raw = raw_events(rng, 500)
    wide = RawEvents(**{f.name: getattr(raw, f.name) for f in fields(RawEvents)} | {"pi": raw.pi.astype(">i4")})
    cuts = make_cuts("pn", "PrimeFullWindow", None, None, (None, None), DEFAULT)
    one, _, a = cleaned("numba", raw, cuts, None, 100)
    other, _, b = cleaned("numba", wide, cuts, None, 100)
    assert one.cuts == other.cuts
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_buffers_grow(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    raw = raw_events(rng, 3000)
    cuts = make_cuts("m1", "PrimeFullWindow", None, None, (None, None), DEFAULT)
    whole, _, a = cleaned("numpy", raw, cuts, None, 3000)
    monkeypatch.setattr(clean, "FIRST_CAPACITY", 10)
    grown, _, b = cleaned("numpy", raw, cuts, None, 1)
    assert len(grown.kept.time) >= grown.n == whole.n
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def event_list(rng: np.random.Generator, camera: str, n: int, span: float, places: int) -> EventList:
    """A list in disorder: grouped by CCD, many equal times, some a hair before and after the ends."""
    time = T0 + np.round(rng.uniform(-5, span + 5, n), int(rng.integers(0, 5)))
    time = np.where(rng.random(n) < 0.1, rng.choice([T0, T0 + span, np.nextafter(T0, 0), T0 + span - 1e-7], n), time)
    x, y = rng.choice([1, 401, 402, 25_000, 25_921, 51_840], (2, n)) - rng.integers(0, places, (2, n))
    info = InputFile("a", 1, camera=camera)
    ccd = np.sort(rng.integers(0, 9, n)).astype(np.uint8)
    return EventList(
        info, TangentPlane(1, 1), 850, 0.0, time,
        np.clip(x, 1, 51_840).astype(np.uint16), np.clip(y, 1, 51_840).astype(np.uint16),
        rng.integers(200, 12_001, n).astype(np.uint16), ccd,
        rng.choice([0, 1, 2, 16 * 640**2 - 1], n).astype(np.uint32), (T0, T0 + span), {}, EPIC,
    )  # fmt: skip


def some_filter(rng: np.random.Generator, span: float) -> GtiFilter:
    good = {}
    for ccd in rng.choice(9, 5, replace=False).tolist():
        edges = T0 + np.unique(np.round(rng.uniform(-2, span, 2 * int(rng.integers(0, 4))), 1))
        good[ccd] = CcdTime(edges[: edges.size // 2 * 2].reshape(-1, 2))
    return GtiFilter.of(good, None if rng.random() < 0.3 else rng.choice(9, 6, replace=False).tolist())


def assert_same_photons(a: Photons, b: Photons) -> None:
    assert a.box == b.box
    for name in ("offsets", "tick", "x_px", "y_px", "pi", "camera", "pixel"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)


@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    n_cells=st.sampled_from([129, 60, 400]),
)
def test_lists_are_merged_alike(seed: int, sizes: list[int], n_cells: int) -> None:
    rng = np.random.default_rng(seed)
    span = float(rng.choice([0.001, 7.25, 100.0, 90_000.0]))
    places = int(rng.choice([1, 50, 25_000]))
    lists = [event_list(rng, CAMERAS[i % 3], n, span, places) for i, n in enumerate(sizes)]
    filters = [GtiFilter.everything() if rng.random() < 0.3 else some_filter(rng, span) for _ in lists]
    slow, slow_cuts = merging.merge(lists, filters, T0, T0 + span, n_cells)
    fast, fast_cuts = get_backend("numba").events.merge(lists, filters, T0, T0 + span, n_cells)
    assert_same_photons(slow, fast)
    np.testing.assert_array_equal(slow_cuts, fast_cuts)
    assert slow.tick.size + slow_cuts.sum() == sum(sizes)
    if slow.tick.size:
        assert slow.tick.min() >= 0
        assert slow.tick.max() < np.ceil(span * 1000)


def test_records_hold_cameras_and_energies_of_other_missions(rng: np.random.Generator) -> None:
    """Seven cameras, energies up to the last that 16 bits hold: two bits and fourteen once held EPIC's alone."""
    names = tuple(f"tm{k}" for k in range(1, 8))
    seven = replace(EPIC, cameras=tuple(replace(EPIC.cameras[0], name=name) for name in names))
    lists = [
        replace(event_list(rng, "m1", 300, 100.0, 25_000), info=InputFile("a", 1, camera=name), instrument=seven)
        for name in names
    ]
    energies = np.array([200, 12_000, 16_383, 16_384, 20_000, 65_534, 65_535], np.uint16)
    lists = [replace(made, pi=rng.choice(energies, 300)) for made in lists]
    filters = [GtiFilter.everything()] * len(lists)
    slow, _ = merging.merge(lists, filters, T0, T0 + 100, 129)
    fast, _ = get_backend("numba").events.merge(lists, filters, T0, T0 + 100, 129)
    assert np.unique(slow.camera).tolist() == list(range(7))
    assert np.unique(slow.pi).tolist() == energies.tolist()
    assert_same_photons(slow, fast)
    with pytest.raises(ConfigError, match="2592 x 2592 cells are too many for 7 cameras"):
        get_backend("numba").events.merge(lists, filters, T0, T0 + 100, 2592)


@pytest.mark.parametrize("n_cells", [86, 129, 130, 517, 2592])
def test_every_pixel_finds_its_cell(n_cells: int) -> None:
    """The compiled loop multiplies where the definition divides."""
    pixels = np.arange(1, 51_841).astype(np.uint16)
    ones = np.ones(pixels.size)
    made = EventList(
        InputFile("a", 1, camera="m1"), TangentPlane(1, 1), 850, 0.0, T0 + 0.5 * ones, pixels, pixels[::-1].copy(),
        (300 * ones).astype(np.uint16), ones.astype(np.uint8), ones.astype(np.uint32), (T0, T0 + 1), {}, EPIC,
    )  # fmt: skip
    slow, _ = merging.merge([made], [GtiFilter.everything()], T0, T0 + 1, n_cells)
    fast, _ = get_backend("numba").events.merge([made], [GtiFilter.everything()], T0, T0 + 1, n_cells)
    assert_same_photons(slow, fast)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 300),
    band=st.sampled_from([(10_001, 12_000), (0, 65_535), (200, 201), (500, 500)]),
    bin_ms=st.sampled_from([1, 7, 1000, 100_000]),
    end_ms=st.sampled_from([1, 999, 1000, 5500, 100_000, 2**31 - 1]),
)
def test_curves_of_a_band_are_counted_alike(seed: int, n: int, band: tuple[int, int], bin_ms: int, end_ms: int) -> None:
    rng = np.random.default_rng(seed)
    if end_ms // bin_ms > 10**6:
        bin_ms = 100_000
    tick = rng.choice([-1, 0, 6, 7, 999, 1000, 5499, 5500, 99_999, 100_000, 2**31 - 2, 2**31 - 1], n)
    p = binned(tick.astype(np.int32), 0, 0, rng.choice([200, 201, 500, 10_000, 10_001, 11_999, 12_000], n))
    slow, fast = (get_backend(name).events.band_curve(p, band, bin_ms, end_ms) for name in ("numpy", "numba"))
    np.testing.assert_array_equal(slow, fast)
    assert slow.dtype == fast.dtype
    assert slow.sum() == np.count_nonzero((p.pi >= band[0]) & (p.pi < band[1]) & (p.tick >= 0) & (p.tick < end_ms))


def test_no_tick_lies_beyond_the_last() -> None:
    """An event a hair before the end of a range that begins before 0: its distance from the start rounds up."""
    t0, t1 = -2.048, 1e-17
    info = InputFile("a", 1, camera="m1")
    one = np.ones(2, np.uint16)
    time = np.array([t0, 0.0])
    ccd, pixel = one.astype(np.uint8), one.astype(np.uint32)
    made = EventList(info, TangentPlane(1, 1), 1, 0.0, time, one, one, one * 300, ccd, pixel, (t0, t1), {}, EPIC)
    slow, _ = merging.merge([made], [GtiFilter.everything()], t0, t1, 129)
    fast, _ = get_backend("numba").events.merge([made], [GtiFilter.everything()], t0, t1, 129)
    assert slow.tick.tolist() == [0, 2047]
    assert_same_photons(slow, fast)


@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
def test_a_crowded_cell_is_sorted_too(rng: np.random.Generator, order: str) -> None:
    """Two hundred thousand events of one cell within a second: no number of steps that grows with the square."""
    n = 200_000
    time = (
        T0
        + {
            "random": rng.uniform(0, 1, n),
            "rising": np.linspace(0, 1, n),
            "falling": np.linspace(1, 0, n),
            "equal": np.zeros(n),
        }[order]
    )
    ones = np.ones(n)
    made = EventList(
        InputFile("a", 1, camera="m1"), TangentPlane(1, 1), 850, 0.0, time, (25_921 * ones).astype(np.uint16),
        rng.integers(25_900, 25_940, n).astype(np.uint16), rng.integers(200, 400, n).astype(np.uint16),
        ones.astype(np.uint8), ones.astype(np.uint32),
        (T0, T0 + 40_000), {}, EPIC,
    )  # fmt: skip
    filters = [GtiFilter.everything()]
    slow, _ = merging.merge([made], filters, T0, T0 + 40_000, 129)
    fast, _ = get_backend("numba").events.merge([made], filters, T0, T0 + 40_000, 129)
    assert_same_photons(slow, fast)


@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=3))
def test_seconds_are_counted_alike(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    lists = [event_list(rng, CAMERAS[i], n, 60.0, 25_000) for i, n in enumerate(sizes)]
    assert_same_seconds(lists)


def test_more_in_a_second_than_the_small_table_holds(rng: np.random.Generator) -> None:
    """70,000 events of a CCD within a second, all over the field, and 65,536 of another: both would be miscounted."""
    sizes = 70_000, 65_536, 100
    made = event_list(rng, "m1", sum(sizes), 60.0, 25_000)
    x, y = rng.integers(1, 51_841, (2, sum(sizes))).astype(np.uint16)
    time = T0 + np.repeat([5.5, 6.5, 7.5], sizes)
    counts = assert_same_seconds([replace(made, time=time, x=x, y=y, ccd=np.repeat([1, 2, 3], sizes).astype(np.uint8))])
    assert counts.max() == 70_000


def assert_same_seconds(lists: list[EventList]) -> NDArray[np.int32]:
    names, counts = dropouts.seconds(lists, T0, 60)
    fast_names, table, everything, totals = numba_dropouts.seconds(lists, T0, 60)
    np.testing.assert_array_equal(names, fast_names)
    np.testing.assert_array_equal(counts, table.T[: names.size])
    assert not table.T[names.size :].any()
    np.testing.assert_array_equal(counts.sum(axis=0), everything)
    np.testing.assert_array_equal(counts.sum(axis=1), totals[: names.size])
    return counts


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    per_second=st.sampled_from([0, 1, 2, 20]),
    n_ccds=st.sampled_from([1, 2, 6]),
    silent=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 299), st.integers(1, 30)), max_size=8),
)
@example(1, 20, 6, [(0, 100, 9), (3, 290, 10), (2, 0, 10)])  # all of them; to the end; from the start
@example(1, 20, 6, [(1, 0, 300)])  # one that sends nothing at all
@example(1, 100, 2, [(1, 0, 1)])  # in the very first second
@example(3, 20, 6, [(1, 40, 12), (1, 53, 12), (2, 80, 4), (2, 84, 4), (2, 100, 5)])
def test_silences_are_found_alike(seed: int, per_second: int, n_ccds: int, silent: list[tuple[int, int, int]]) -> None:
    """CCD 0 stands for all of them. In some second the others send so much that it counts for many."""
    rng = np.random.default_rng(seed)
    n = 300 * per_second
    lists = []
    for camera in ("m1", "pn"):
        made = event_list(rng, camera, n, 300.0, 25_000)
        time = T0 + np.where(rng.random(n) < 0.05, 150.5, rng.uniform(0, 300, n))
        ccd = rng.integers(1, n_ccds + 1, n).astype(np.uint8)
        keep = np.ones(n, bool)
        for name, start, length in silent:
            keep &= ~(((name == 0) | (ccd == name)) & (time >= T0 + start) & (time < T0 + start + length))
        x, y = np.where(rng.random(n) < 0.1, 25_000, rng.integers(1, 51_841, (2, n))).astype(
            np.uint16
        )  # one bright cell
        lists.append(replace(made, time=time[keep], x=x[keep], y=y[keep], pi=made.pi[keep], ccd=ccd[keep]))
    slow = dropouts.silences(lists, T0, T0 + 300)
    fast = get_backend("numba").events.silences(lists, T0, T0 + 300)
    assert [ccds.keys() for ccds in slow] == [ccds.keys() for ccds in fast]
    for of_list, others in zip(slow, fast, strict=True):
        for ccd, one in of_list.items():
            np.testing.assert_array_equal(one.intervals, others[ccd].intervals)
            assert one.n_faint == others[ccd].n_faint


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 200))
def test_photons_keep_what_went_in(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    columns = (
        rng.integers(0, 50, n).astype(np.int32), rng.integers(3, 9, n).astype(np.int16),
        rng.integers(90, 95, n).astype(np.int16), rng.integers(1, 51_841, n).astype(np.uint16),
        rng.integers(1, 51_841, n).astype(np.uint16), rng.integers(200, 12_001, n).astype(np.uint16),
        rng.integers(0, 3, n).astype(np.uint8), rng.integers(0, 16 * 640**2, n).astype(np.uint32),
    )  # fmt: skip
    p = sort_photons(*columns, EPIC)
    y, x = p.cells()
    came_out = sorted(zip(*(c.tolist() for c in (p.tick, x, y, p.x_px, p.y_px, p.pi, p.camera, p.pixel)), strict=True))
    assert came_out == sorted(zip(*(c.tolist() for c in columns), strict=True))
    for c in range(p.offsets.size - 1):
        assert (np.diff(p.tick[p.offsets[c] : p.offsets[c + 1]]) >= 0).all()
    inner = Box(4, 8, 91, 99)
    index, row, column = p.within(inner)
    inside = (x >= 4) & (x < 8) & (y >= 91)
    np.testing.assert_array_equal(index, np.flatnonzero(inside))
    np.testing.assert_array_equal((row, column), (y[inside], x[inside]))
