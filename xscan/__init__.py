"""Search X-ray event lists for sources that flare, fade or are eclipsed.

Three functions are enough in Python: :func:`read` an observation, :func:`scan` it, and
:func:`open_results` of an archive. Importing this package loads none of the heavy libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"

__all__ = ["__version__", "open_results", "read", "scan"]

if TYPE_CHECKING:
    from xscan.api import open_results, read, scan


def __getattr__(name: str) -> Any:
    if name in {"open_results", "read", "scan"}:
        from xscan import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
