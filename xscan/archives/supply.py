"""Observations to be searched, their files fetched while others are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from xscan.archives import Fetched, Fetcher, Manners, fetch_ahead, open_source, open_web
from xscan.archives.cache import make_room, size_on_disk
from xscan.errors import ArchiveError, Reason

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
    cache_limit_bytes : int, optional
        Size that the folder of data is brought back below; by default nothing is deleted.
    """

    source: str
    parallel: int = 2
    requests_per_s: float = 2.0
    cache_limit_bytes: int | None = None


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
        oldest first, while more than ``cache_limit_bytes`` are there, and once more at the end.
    refused : callable
        Told of every observation that cannot be had.

    Yields
    ------
    iterator
        Of obsid and folder, as they are there; None where nothing has come for a while.

    Raises
    ------
    ConfigError
        If the source is not one.
    ArchiveError
        From the iterator, and at the end, if the disk takes no more, or does not let go.
    """
    limit = supply.cache_limit_bytes
    with open_web(Manners(requests_per_s=supply.requests_per_s)) as web:
        fetcher = Fetcher(open_source(supply.source, web), data)
        there: list[str] = []
        missing: list[str] = []
        for obsid in obsids:
            (there if (data / obsid).is_dir() else missing).append(obsid)
        doubtful: list[str] = []
        fetching = fetch_ahead(missing, fetcher.fetch, web.stop, supply.parallel, wait_s=0)
        mending = fetch_ahead(doubtful, fetcher.fetch, web.stop, supply.parallel, wait_s=0)
        with closing(fetching), closing(mending):
            whole = _whole(there, fetcher, doubtful)
            # what is doubtful is known when all else has been given
            fetched: Iterable[Fetched | None] = chain(
                _between(fetching, whole, web.stop), _between(mending, iter(()), web.stop)
            )
            if limit is not None:
                fetched = _kept_below(limit, data, done, fetched)
            yield _arriving(fetched, refused)
    if limit is not None:
        _make_room(data, limit, done)


def _whole(obsids: Iterable[str], fetcher: Fetcher, doubtful: list[str]) -> Iterator[Fetched]:
    """Return the observations that are here; one whose folder is not whole joins the doubtful: nobody waits for it."""
    for obsid in obsids:
        found = fetcher.here(obsid)
        if found is not None:
            yield found
        else:
            doubtful.append(obsid)


def _between(
    fetching: Iterable[Fetched | None], here: Iterator[Fetched], stop: threading.Event
) -> Iterator[Fetched | None]:
    """Give what has arrived, and while nothing has, what is here, so that no one waits for an archive without need."""
    for fetched in fetching:
        one = fetched or next(here, None)
        if one is None:
            stop.wait(_WAIT_S)
        yield one
    yield from here


def _arriving(
    fetching: Iterable[Fetched | None], refused: Callable[[Fetched], None]
) -> Iterator[tuple[str, Path] | None]:
    for fetched in fetching:
        if fetched is None:
            yield None
        elif fetched.folder is None:
            refused(fetched)
        else:
            yield fetched.obsid, fetched.folder


def _kept_below(limit: int, data: Path, done: Set[str], fetching: Iterable[Fetched | None]) -> Iterator[Fetched | None]:
    """Delete as it goes; the folder is only looked through when it is too large and more may be deleted."""
    total = size_on_disk(data)
    n_done = 0
    for fetched in fetching:
        if fetched is not None and fetched.state == "fetched":
            total += fetched.n_bytes
        if total > limit and len(done) > n_done:
            n_done = len(done)
            _make_room(data, limit, done)
            total = size_on_disk(data)
        yield fetched


def _make_room(data: Path, limit: int, done: Set[str]) -> None:
    try:
        make_room(data, limit, done)
    except OSError as error:
        raise ArchiveError(
            Reason.DISK,
            f"{error.filename or data}: cannot be deleted for --cache-limit: {error.strerror or error}; mend that, or "
            f"leave out --cache-limit; the same command goes on from there",
        ) from None
