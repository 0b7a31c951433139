"""Observations to be searched, their files fetched while others are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from xscan.archives import Fetched, Fetcher, Manners, fetch_ahead, open_source, open_web
from xscan.archives.cache import make_room, parse_size, size_on_disk

__all__ = ["Supply", "supplied"]

_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Supply:
    """Where files come from that are not here, and how many may stay.

    Attributes
    ----------
    source : str
        As :func:`xscan.archives.open_source` takes it.
    parallel : int
        Connections at once.
    requests_per_s : float
    cache_limit : str, optional
        Size that the folder of data is kept below, as ``200GB``; by default nothing is deleted.
    """

    source: str
    parallel: int = 2
    requests_per_s: float = 2.0
    cache_limit: str | None = None


@contextmanager
def supplied(
    obsids: Sequence[str], data: Path, supply: Supply, done: Set[str], refused: Callable[[Fetched], None]
) -> Iterator[Iterator[tuple[str, Path] | None]]:
    """Fetch what is not here, in the background, a few observations ahead.

    Parameters
    ----------
    obsids : sequence of str
    data : Path
        Folder of observations, absolute.
    supply : Supply
    done : set of str
        Observations whose files are needed no more; grows meanwhile. They alone are deleted, the
        oldest first, when more than ``cache_limit`` is there.
    refused : callable
        Told of every observation that cannot be had.

    Yields
    ------
    iterator
        Of obsid and folder, as they are there; None where nothing has come for a while.

    Raises
    ------
    ConfigError
        If the source or the limit is not one.
    ArchiveError
        From the iterator, if the disk takes no more.
    """
    limit = None if supply.cache_limit is None else parse_size(supply.cache_limit)
    with open_web(Manners(requests_per_s=supply.requests_per_s)) as web:
        fetcher = Fetcher(open_source(supply.source, web), data)
        fetching = fetch_ahead(obsids, fetcher.fetch, web.stop, supply.parallel, wait_s=_WAIT_S)
        with closing(fetching):
            yield _arriving(fetching, data, limit, done, refused)


def _arriving(
    fetching: Iterable[Fetched | None],
    data: Path,
    limit: int | None,
    done: Set[str],
    refused: Callable[[Fetched], None],
) -> Iterator[tuple[str, Path] | None]:
    total = size_on_disk(data) if limit is not None else 0
    for fetched in fetching:
        if fetched is None:
            yield None
            continue
        if fetched.state == "fetched":
            total += fetched.n_bytes
            if limit is not None and total > limit:
                make_room(data, limit, done)
                total = size_on_disk(data)
        if fetched.folder is None:
            refused(fetched)
        else:
            yield fetched.obsid, fetched.folder
