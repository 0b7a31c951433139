"""Draw the events of one camera: photons of the sky, and the effects of the detector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xscan.simulate.detector import Camera
from xscan.simulate.scene import Sky, Source, Transient

__all__ = ["DropOut", "Faults", "RawEvents", "draw_events", "draw_faults", "draw_hidden", "without_mishaps"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

KING_SLOPE = 1.55
PSF_REACH_ARCSEC = 240.0
SPECTRA = {
    "soft": (900, 0.6),
    "middle": (1400, 0.78),
    "hard": (3500, 0.5),
    "diffuse": (700, 0.75),
    "protons": (2500, 1.0),
    "wide": (950, 0.8),
}
"""Median energy, eV, and width of its logarithm of what has a smooth spectrum."""

OUT_OF_FOV = 0x10000
BAD_FLAGS = (0x2000, 0x8000, 0x20000, 0x80000, 0x200000, 0x400000)
HARMLESS_FLAGS = (0x1, 0x2, 0x20, 0x40, 0x100, 0x200, 0x400)
PN_BAD_FLAGS = (0x4, 0x20, 0x20000, 0x80000, 0x200000)
PN_HARMLESS_FLAGS = (0x1, 0x2, 0x10, 0x40)


@dataclass(frozen=True, slots=True)
class RawEvents:
    """Events of one camera, shape (n,) each.

    Attributes
    ----------
    time : float64
        s since the start of the observation.
    x, y : int64
        Sky pixel, before the null values.
    pi, pattern, flag, ccd, rawx, rawy : int64
    origin : int64
        Number of the transient to which an event belongs; -1 for all others.
    """

    time: Floats
    x: Ints
    y: Ints
    pi: Ints
    pattern: Ints
    flag: Ints
    ccd: Ints
    rawx: Ints
    rawy: Ints
    origin: Ints

    def take(self, index: NDArray[np.generic]) -> RawEvents:
        """Return chosen events, in the order of the index."""
        return RawEvents(*(getattr(self, name)[index] for name in RawEvents.__slots__))


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults of one camera in one exposure. Times in s since the start of the observation.

    Attributes
    ----------
    missing : tuple of int
        CCDs without any event.
    good_time : dict of int to float64 array, shape (k, 2)
        Good time as stated in STDGTInn, by CCD.
    silences : tuple of (ccds, start, stop)
        Drop-outs that no table states.
    lost_frames : dict of int to float64 array
        Numbers of read-out frames without events or EXPOSUnn row, by CCD (MOS).
    hot_pixels : int64 array, shape (k, 4)
        CCD, RAWX, RAWY, run along RAWY.
    hot_rates : float64 array, shape (k,)
        ct/s of each.
    listed : bool array, shape (k,)
        Whether BADPIXnn lists it.
    filtered : float64 array, shape (k, 2), or None
        Good time of a filter that was applied (a cleaned list, GTInnnmm); None if none was.
    """

    missing: tuple[int, ...]
    good_time: dict[int, Floats]
    silences: tuple[tuple[tuple[int, ...], float, float], ...]
    lost_frames: dict[int, Floats]
    hot_pixels: Ints
    hot_rates: Floats
    listed: Bools
    filtered: Floats | None


def draw_faults(
    rng: np.random.Generator,
    camera: Camera,
    start_s: float,
    stop_s: float,
    gap: tuple[float, float] | None,
    filtered: Floats | None,
) -> Faults:
    """Draw the faults of a camera: gaps, drop-outs, missing CCDs, hot pixels.

    Parameters
    ----------
    rng : numpy.random.Generator
    camera : Camera
    start_s, stop_s : float
        The exposure, s since the start of the observation.
    gap : (float, float) or None
        Good-time gap of all CCDs.
    filtered : float64 array or None
        As in :class:`Faults`.

    Examples
    --------
    Without a gap in the exposure the good time of each CCD lies in it:

    >>> from xscan.simulate.detector import CAMERA
    >>> faults = draw_faults(np.random.default_rng(1), CAMERA["pn"], 0.0, 1000.0, gap=None, filtered=None)
    >>> len(faults.good_time), all(0 <= spans.min() and spans.max() <= 1000 for spans in faults.good_time.values())
    (12, True)
    """
    numbers = [chip.number for chip in camera.ccds]
    is_pn = camera.name == "pn"
    missing = tuple(int(c) for c in rng.choice(numbers[1:], 1)) if rng.random() < (0.08 if is_pn else 0.2) else ()
    length = stop_s - start_s
    good = {}
    for number in numbers:
        edges = [start_s + rng.uniform(0, 0.02), stop_s - rng.uniform(0, 25 if not is_pn else 0.1)]
        cuts = [] if gap is None else [(gap[0] + rng.uniform(0, 10), gap[1] - rng.uniform(0, 10))]
        if rng.random() < 0.08:  # a drop-out that the tables state
            at = rng.uniform(start_s, stop_s - 0.1 * length)
            cuts.append((at, at + min(rng.uniform(20, 300), 0.05 * length)))
        flat = [edges[0], *(t for cut in sorted(cuts) for t in cut), edges[1]]
        good[number] = np.array(flat).reshape(-1, 2)
        good[number] = good[number][good[number][:, 1] > good[number][:, 0]]
    silences: list[tuple[tuple[int, ...], float, float]] = []
    if rng.random() < 0.25:
        first = int(rng.integers(0, 4)) * 3 + 1
        who = tuple(range(first, first + 3)) if is_pn else (int(rng.choice(numbers)),)
        at = rng.uniform(start_s, stop_s - 0.1 * length)
        silences.append((who, at, at + min(rng.uniform(50, 400), 0.08 * length)))
    n_frames = int(length / camera.frame_s)
    lost = {n: np.flatnonzero(rng.random(n_frames) < 0.001).astype(float) for n in ([] if is_pn else numbers)}
    k = rng.poisson(8)
    chip = rng.integers(0, len(numbers), k)
    columns = np.array([camera.ccds[c].columns for c in chip], np.int64).reshape(k)
    rows = np.array([camera.ccds[c].rows for c in chip], np.int64).reshape(k)
    run = np.where(rng.random(k) < 0.3, rng.integers(2, 20, k), 1)
    hot = np.column_stack(
        [chip + 1, 1 + (rng.random(k) * columns).astype(int), 1 + (rng.random(k) * rows).astype(int), run]
    )
    return Faults(
        missing,
        good,
        tuple(silences),
        lost,
        hot.astype(np.int64),
        rng.uniform(0.005, 0.08, k),
        rng.random(k) < 0.8,
        filtered,
    )


@dataclass(frozen=True, slots=True)
class DropOut:
    """CCDs of a camera that are silent without any table saying so; times in s since the start of the observation."""

    camera: str
    ccds: tuple[int, ...]
    start_s: float
    stop_s: float


def without_mishaps(faults: Faults, camera: Camera, drop_outs: tuple[DropOut, ...]) -> Faults:
    """Return faults without missing CCDs, lost frames and gaps in good time, and with the given drop-outs alone.

    Examples
    --------
    Nothing befalls MOS1 but that its CCD 7 falls silent:

    >>> from xscan.simulate.detector import CAMERA
    >>> faults = draw_faults(np.random.default_rng(1), CAMERA["m1"], 0.0, 1000.0, gap=(300.0, 400.0), filtered=None)
    >>> left = without_mishaps(faults, CAMERA["m1"], (DropOut("m1", (7,), 500.0, 600.0),))
    >>> left.good_time[1].shape, left.silences
    ((1, 2), (((7,), 500.0, 600.0),))
    """
    return replace(
        faults,
        missing=(),
        good_time={ccd: np.array([[good[0, 0], good[-1, 1]]]) for ccd, good in faults.good_time.items()},
        lost_frames={},
        silences=tuple((out.ccds, out.start_s, out.stop_s) for out in drop_outs if out.camera == camera.name),
    )


def draw_events(
    rng: np.random.Generator,
    sky: Sky,
    camera: Camera,
    faults: Faults,
    span_s: tuple[float, float],
    pa_deg: float,
    background: float,
) -> RawEvents:
    """Draw all events of one camera, in the order of a real list: by CCD, unsorted within a frame.

    Parameters
    ----------
    rng : numpy.random.Generator
    sky : Sky
    camera : Camera
    faults : Faults
    span_s : (float, float)
        The exposure, s since the start of the observation.
    pa_deg : float
        Position angle of the pointing.
    background : float
        Factor on sky, particle and noise background.

    Examples
    --------
    The photons of a burst of 10 s come while it lasts:

    >>> from xscan.simulate.detector import CAMERA
    >>> from xscan.simulate.scene import Sky, Transient
    >>> rng, camera = np.random.default_rng(1), CAMERA["m1"]
    >>> sky = Sky((), (Transient("burst", 0.0, 0.0, 500.0, 10.0, 1000.0),), np.empty((0, 3)))
    >>> faults = draw_faults(rng, camera, 0.0, 1000.0, gap=None, filtered=None)
    >>> drawn = draw_events(rng, sky, camera, faults, (0.0, 1000.0), pa_deg=0.0, background=1.0)
    >>> of_burst = drawn.time[drawn.origin == 0]
    >>> bool(of_burst.size > 100), bool(((of_burst > 495) & (of_burst < 515)).all())
    (True, True)
    """
    start, stop = span_s
    parts = [
        _photons(rng, camera, pa_deg, _from_source(rng, source, camera, span_s, _eclipses(sky, i)), source, -1)
        for i, source in enumerate(sky.sources)
    ]
    for i, transient in enumerate(sky.transients):
        if transient.kind != "eclipse":
            parts.append(_photons(rng, camera, pa_deg, _from_transient(rng, transient, camera, span_s), transient, i))
    n_sky = rng.poisson(background * camera.sky_rate * (stop - start))
    time = rng.uniform(start, stop, n_sky)
    parts.append(_diffuse(rng, camera, time, _spectrum(rng, n_sky, sky.diffuse_spectrum), vignetted=True))
    for peak, decay, rate in sky.proton_flares:
        time = _flare_times(rng, peak, decay, rate * camera.share / 0.58, span_s)
        parts.append(_diffuse(rng, camera, time, _spectrum(rng, time.size, sky.proton_spectrum), vignetted=True))
    for rate, kind in ((camera.particle_rate, "particle"), (camera.noise_rate, "noise")):
        n = rng.poisson(background * rate * (stop - start))
        parts.append(_diffuse(rng, camera, rng.uniform(start, stop, n), _spectrum(rng, n, kind), vignetted=False))
    parts.append(_hot(rng, camera, faults, span_s))
    events = _detect(rng, _joined(parts), camera, pa_deg)
    events = events.take(np.flatnonzero(_survives(events, camera, faults, start)))
    # the camera records only the frame of an event: the pipeline draws a time within it
    frame = np.floor((events.time - start) / camera.frame_s)
    time = np.minimum(start + (frame + rng.random(frame.size)) * camera.frame_s, stop)
    order = np.lexsort((rng.random(frame.size), frame, events.ccd))
    return replace(events, time=time).take(order)


def draw_hidden(
    rng: np.random.Generator, sky: Sky, camera: Camera, faults: Faults, span_s: tuple[float, float], pa_deg: float
) -> RawEvents:
    """Draw events like those that the eclipses of a sky hid; parameters as in :func:`draw_events`.

    Examples
    --------
    An eclipse of a source in the middle of the field, which hides photons from 400 to 600 s:

    >>> from xscan.simulate.detector import CAMERA
    >>> from xscan.simulate.scene import Sky, Source, Transient
    >>> rng, camera = np.random.default_rng(1), CAMERA["m1"]
    >>> eclipse = Transient("eclipse", 0.0, 0.0, 400.0, 200.0, 1000.0, eclipsed=0)
    >>> sky = Sky((Source(0.0, 0.0, 5.0),), (eclipse,), np.empty((0, 3)))
    >>> faults = draw_faults(rng, camera, 0.0, 1000.0, gap=None, filtered=None)
    >>> hidden = draw_hidden(rng, sky, camera, faults, (0.0, 1000.0), pa_deg=0.0)
    >>> hidden.time.size > 100, bool(((hidden.time > 395) & (hidden.time < 605)).all())
    (True, True)
    """
    none = np.empty(0, np.int64)
    parts = [_assemble(np.empty(0), none, none, none, none, -1)]
    for i, transient in enumerate(sky.transients):
        if transient.kind == "eclipse":
            time = transient.start_s + transient.width_s * rng.random(rng.poisson(transient.counts * camera.share))
            time = time[(time >= span_s[0]) & (time < span_s[1])]
            parts.append(_photons(rng, camera, pa_deg, time, sky.sources[transient.eclipsed], i))
    events = _detect(rng, _joined(parts), camera, pa_deg)
    return events.take(np.flatnonzero(_survives(events, camera, faults, span_s[0])))


def _joined(parts: list[RawEvents]) -> RawEvents:
    return RawEvents(*(np.concatenate([getattr(part, name) for part in parts]) for name in RawEvents.__slots__))


def _eclipses(sky: Sky, source: int) -> list[tuple[float, float]]:
    return [(t.start_s, t.start_s + t.width_s) for t in sky.transients if t.eclipsed == source]


def _from_source(
    rng: np.random.Generator,
    source: Source,
    camera: Camera,
    span: tuple[float, float],
    hidden: list[tuple[float, float]],
) -> Floats:
    """Return the arrival times of a source's photons, as seen on axis."""
    start, stop = span
    peak = source.rate * camera.share * (1 + source.amplitude)
    time = rng.uniform(start, stop, rng.poisson(peak * (stop - start)))
    level = (1 + source.amplitude * np.sin(2 * np.pi * time / source.period_s)) / (1 + source.amplitude)
    keep = rng.random(time.size) < level
    for first, last in hidden:
        keep &= (time < first) | (time >= last)
    return time[keep]


def _from_transient(
    rng: np.random.Generator, transient: Transient, camera: Camera, span: tuple[float, float]
) -> Floats:
    n = rng.poisson(transient.counts * camera.share)
    if transient.kind == "burst":
        time = transient.start_s + transient.width_s * rng.random(n)
    else:  # rise in a fifth of the width, then exponential decay, cut at the width
        rise = transient.width_s / 5
        decay, decayed = rise * (4 / transient.decays), 1 - np.exp(-transient.decays)
        rising = rng.random(n) < (rise / 2) / (rise / 2 + decay * decayed)
        up = rise * np.sqrt(rng.random(n))
        down = rise - decay * np.log1p(-rng.random(n) * decayed)
        time = transient.start_s + np.where(rising, up, down)
    return time[(time >= span[0]) & (time < span[1])]


def _flare_times(rng: np.random.Generator, peak: float, decay: float, rate: float, span: tuple[float, float]) -> Floats:
    n = rng.poisson(rate * decay * 1.3)
    time = peak + np.where(rng.random(n) < 0.23, -0.3 * decay, decay) * rng.exponential(1, n)
    return time[(time >= span[0]) & (time < span[1])]


def _spectrum(rng: np.random.Generator, n: int, kind: str) -> Ints:
    """Return energies PI, eV, drawn from a spectrum."""
    if kind == "noise":
        return (70 + rng.exponential(70, n)).astype(np.int64)
    if kind == "flat":  # as many in each octave
        return np.asarray(300 * (14_282 / 300) ** rng.random(n)).astype(np.int64)
    if kind == "particle":
        lines = np.array([1490, 1740, 8040])
        flat = rng.uniform(100, 14_282, n)
        line = rng.choice(lines, n) + rng.normal(0, 60, n)
        return np.where(rng.random(n) < 0.2, line, flat).astype(np.int64)
    middle, width = SPECTRA[kind]
    return np.clip(rng.lognormal(np.log(middle), width, n), 68, 14_282).astype(np.int64)


def _photons(
    rng: np.random.Generator, camera: Camera, pa_deg: float, time: Floats, what: Source | Transient, origin: int
) -> RawEvents:
    """Spread photons of one source over the detector: point spread function, vignetting, gaps."""
    n = time.size
    radius = camera.king_arcsec * np.sqrt(rng.random(n) ** (1 / (1 - KING_SLOPE)) - 1)
    angle = rng.uniform(0, 2 * np.pi, n)
    extent = what.extent_arcsec if isinstance(what, Source) else 0.0
    dx = what.dx_arcsec + radius * np.cos(angle) + extent * rng.normal(size=n)
    dy = what.dy_arcsec + radius * np.sin(angle) + extent * rng.normal(size=n)
    u, v = camera.rotation(pa_deg).T @ np.array([dx, dy])
    ccd, rawx, rawy = camera.locate(u, v)
    keep = (radius < PSF_REACH_ARCSEC) & (ccd > 0) & (rng.random(n) < camera.vignetting(u, v))
    pi = _spectrum(rng, n, what.spectrum)
    return _assemble(time[keep], pi[keep], ccd[keep], rawx[keep], rawy[keep], origin)


def _diffuse(rng: np.random.Generator, camera: Camera, time: Floats, pi: Ints, vignetted: bool) -> RawEvents:
    """Spread events evenly over all CCDs, or with the vignetting of the telescope."""
    ccd, rawx, rawy = _random_pixels(rng, camera, time.size)
    again = np.arange(time.size if vignetted else 0)
    while again.size:  # the rate is that of the whole field: events lost to vignetting are drawn again
        ccd[again], rawx[again], rawy[again] = _random_pixels(rng, camera, again.size)
        u, v = camera.place(ccd[again], rawx[again], rawy[again], rng)
        again = again[rng.random(again.size) >= camera.vignetting(u, v)]
    return _assemble(time, pi, ccd, rawx, rawy, -1)


def _random_pixels(rng: np.random.Generator, camera: Camera, n: int) -> tuple[Ints, Ints, Ints]:
    """Return CCD, RAWX and RAWY, uniform over the camera."""
    chip = camera.ccds[0]
    ccd = np.array([c.number for c in camera.ccds])[rng.integers(0, len(camera.ccds), n)]
    return ccd, rng.integers(1, chip.columns + 1, n), rng.integers(1, chip.rows + 1, n)


def _hot(rng: np.random.Generator, camera: Camera, faults: Faults, span: tuple[float, float]) -> RawEvents:
    n = rng.poisson(faults.hot_rates * (span[1] - span[0]))
    which = np.repeat(np.arange(n.size), n)
    ccd, rawx, rawy, run = faults.hot_pixels[which].T
    rows = camera.ccds[0].rows
    rawy = np.minimum(rawy + (rng.random(which.size) * run).astype(np.int64), rows)
    pi = (150 + rng.exponential(120, which.size)).astype(np.int64)
    return _assemble(rng.uniform(*span, which.size), pi, ccd, rawx, rawy, -1)


def _assemble(time: Floats, pi: Ints, ccd: Ints, rawx: Ints, rawy: Ints, origin: int) -> RawEvents:
    zero = np.zeros(time.size, np.int64)
    return RawEvents(time, zero, zero, pi, zero, zero, ccd, rawx, rawy, np.full(time.size, origin))


def _detect(rng: np.random.Generator, events: RawEvents, camera: Camera, pa_deg: float) -> RawEvents:
    """Assign each event its pattern, flags and position on the sky; smear events that arrive out of time."""
    n = events.time.size
    rawy = np.where(rng.random(n) < camera.out_of_time, rng.integers(1, camera.ccds[0].rows + 1, n), events.rawy)
    u, v = camera.place(events.ccd, events.rawx, rawy, rng)
    dx, dy = camera.rotation(pa_deg) @ np.array([u, v])
    x, y = (np.rint(25_921 + offset / 0.05).astype(np.int64) for offset in (dx, dy))
    pn = camera.name == "pn"
    patterns = np.array([0, 1, 2, 3, 4, 5, 8, 12, 13, 20, 25])
    odds = [0.66, 0.1, 0.07, 0.07, 0.07, 0.006, 0.006, 0.006, 0.004, 0.004, 0.004]
    pattern = rng.choice(patterns, n, p=np.array(odds) / np.sum(odds))
    flag = np.where(np.hypot(u, v) > camera.fov_arcsec, OUT_OF_FOV, 0)
    bad, harmless = (PN_BAD_FLAGS, PN_HARMLESS_FLAGS) if pn else (BAD_FLAGS, HARMLESS_FLAGS)
    flag = np.where(rng.random(n) < 0.02, flag | rng.choice(bad, n), flag)
    flag = np.where(rng.random(n) < 0.1, flag | rng.choice(harmless, n), flag)
    return RawEvents(events.time, x, y, events.pi, pattern, flag, events.ccd, events.rawx, rawy, events.origin)


def _survives(events: RawEvents, camera: Camera, faults: Faults, start: float) -> Bools:
    """Return which events are in the list: their CCD is present and not silent, and their frame was read out."""
    alive = ~np.isin(events.ccd, faults.missing)
    frame = np.floor((events.time - start) / camera.frame_s)
    for number, good in faults.good_time.items():
        mine = events.ccd == number
        alive[mine] &= _inside(good, events.time[mine])
        if number in faults.lost_frames:
            alive[mine] &= ~np.isin(frame[mine], faults.lost_frames[number])
    for who, first, last in faults.silences:
        alive &= ~(np.isin(events.ccd, who) & (events.time >= first) & (events.time < last))
    if faults.filtered is not None:
        alive &= _inside(faults.filtered, events.time)
    return alive


def _inside(intervals: Floats, time: Floats) -> Bools:
    k = np.searchsorted(intervals[:, 0], time, side="right") - 1
    return np.asarray((k >= 0) & (time < intervals[np.maximum(k, 0), 1]))
