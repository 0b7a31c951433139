"""Parse sizes of memory and disks."""

from __future__ import annotations

import re

from xscan.errors import ConfigError

__all__ = ["parse_size"]

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
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option} {text}: no size; write it as 200GB, 1.5TB, 3500MiB, or bytes")
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)
