"""Sizes of memory and disks, as people write them."""

from __future__ import annotations

import re

from xscan.errors import ConfigError

__all__ = ["parse_size"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.I | re.A)


def parse_size(option: str, text: str) -> int:
    """Read a size: ``200GB`` (10^9), ``200GiB`` (2^30), ``500M``, or bytes.

    Parameters
    ----------
    option : str
        Of the command line, for the message.
    text : str

    Raises
    ------
    ConfigError
        If it is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option} {text}: no size; write it as 200GB, 1.5TB, 3500MiB, or bytes")
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)
