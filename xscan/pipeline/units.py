"""Read and write sizes and durations as people do."""

from __future__ import annotations

import re

from xscan.errors import ConfigError

__all__ = ["format_countdown", "format_estimate", "format_size", "parse_size"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.I | re.A)


def parse_size(option: str, text: str) -> int:
    """Return the bytes of a size written as ``200GB`` (10^9), ``200GiB`` (2^30), ``500M``, or plain bytes.

    Parameters
    ----------
    option : str
        Name of the command-line option, for the message.
    text : str

    Raises
    ------
    ConfigError
        If the text is no size.

    Examples
    --------
    >>> parse_size("--cache-limit", "200GB"), parse_size("--cache-limit", "1.5 KiB")
    (200000000000, 1536)
    >>> parse_size("--cache-limit", "much")
    Traceback (most recent call last):
    ...
    xscan.errors.ConfigError: --cache-limit much: no size; write it as 200GB, 1.5TB, 3500MiB, or bytes
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option} {text}: no size; write it as 200GB, 1.5TB, 3500MiB, or bytes")
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def format_size(n_bytes: float) -> str:
    """Return a number of bytes with three digits and a unit.

    Examples
    --------
    >>> format_size(12_100_000_000)
    '12.1 GB'
    """
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB")):
        if n_bytes >= 0.9995 * 1000**power:  # which rounds to one of this unit
            return f"{n_bytes / 1000**power:.3g} {unit}"
    return f"{n_bytes / 1000:.3g} kB"


def format_estimate(seconds: float) -> str:
    """Return a duration that is not known exactly, with no more digits than are true.

    Examples
    --------
    >>> format_estimate(9000.0)
    '2.5 h'
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    if seconds < 3600:
        return f"{seconds / 60:.2g} min"
    return f"{seconds / 3600:,.1f} h"


def format_countdown(seconds: float) -> str:
    """Return the time that is left, to the second or minute, so that it is seen to fall.

    Examples
    --------
    >>> format_countdown(61.0)
    '1 min 01 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
