"""Regions of views and events of the search by windows, told alike."""

from __future__ import annotations

from typing import Any

from xscan.results.tables import Tables

Row = dict[str, Any]

STRENGTHS = (10.0, 20.0, 40.0)  # steps of tables


def what_was_found(tables: Tables) -> list[Row]:
    """Give the rows of regions and of events; a search has only the ones or the others."""
    return [*tables.regions.to_pylist(), *tables.events.to_pylist()]


def is_event(row: Row) -> bool:
    """Tell whether the search by windows found it."""
    return "event_id" in row


def strength(row: Row) -> float:
    """Give the log likelihood ratio of an event, -log10 p of a region."""
    return float(row["llr"] if is_event(row) else -row["log10_p_min"])


def view(row: Row) -> str:
    """Name where it was found: length of the frames and band of a region, band of an event."""
    band = f"{row['band_lo_kev']:g}-{row['band_hi_kev']:g}"
    return band if is_event(row) else f"{row['dt_s']:g}:{band}"


def written(row: Row, since_s: float) -> str:
    """Write one: place, time since some second, counts, strength, what the detector says."""
    start, length_s = row["t_start_s"] - since_s, row["t_stop_s"] - row["t_start_s"]
    place = f"{row['kind']} {row['ra_deg']:.5f} {row['dec_deg']:+.5f} (+- {row['pos_err_arcsec']:.1f})"
    when = f"t {start:.0f} + {length_s:.0f} s"
    if not is_event(row):
        return (
            f"{row['det_id']} {place} {when}, n {row['n_max']} mu {row['mu_at_max']:.3g} "
            f"log10 p {row['log10_p_min']:.1f}, m1 {row['n_m1']} m2 {row['n_m2']}"
        )
    return (
        f"{row['event_id']} {'variable ' if row['variable'] else ''}{place} {when}, llr {row['llr']:.1f} "
        f"n_false {row['n_false']:.2g}, counts {row['counts']:.1f} constant {row['constant']:.1f}, n {row['n']} "
        f"mu {row['mu']:.3g} log10 p {row['log10_p']:.1f}, m1 {row['n_m1']} m2 {row['n_m2']} in {row['n_pixels']} "
        f"pixels, {100 * row['share_readout']:.0f} % in one read-out"
    )
