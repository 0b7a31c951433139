"""Fetch the files of observations while others are searched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from xscan.archives import Fetched, Fetcher, RequestLimits, fetch_ahead, open_archive, open_web
from xscan.archives.cache import make_room, size_on_disk
from xscan.errors import ArchiveError, Reason

__all__ = ["Prefetch", "prefetched"]

_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Prefetch:
    """From where missing files are fetched, and how many may stay on disk.

    Attributes
    ----------
    archive : str
        As for :func:`xscan.archives.open_archive`.
    parallel : int
        Connections at once.
    requests_per_s : float
    cache_limit_bytes : int, optional
        Size below which the folder of data is kept; by default nothing is deleted.
    """

    archive: str
    parallel: int = 2
    requests_per_s: float = 2.0
    cache_limit_bytes: int | None = None


@contextmanager
def prefetched(
    obsids: Sequence[str], data: Path, prefetch: Prefetch, done: Set[str], refused: Callable[[Fetched], None]
) -> Iterator[Iterator[tuple[str, Path] | None]]:
    """Fetch observations that are not on disk, in the background, a few ahead of their use.

    Parameters
    ----------
    obsids : sequence of str
    data : Path
        Folder of observations, absolute.
    prefetch : Prefetch
    done : set of str
        Observations whose files are no longer needed; grows during the run. Only these are deleted, the
        oldest first, whenever the folder exceeds ``cache_limit_bytes``, and once more at the end.
    refused : callable
        Called with every observation that cannot be fetched.

    Yields
    ------
    iterator
        Of obsid and folder, as they become available; None where nothing has arrived for a while.

    Raises
    ------
    ConfigError
        If the archive does not exist.
    ArchiveError
        From the iterator, and at the end, if files cannot be written or deleted.
    """
    limit = prefetch.cache_limit_bytes
    with open_web(RequestLimits(requests_per_s=prefetch.requests_per_s)) as web:
        fetcher = Fetcher(open_archive(prefetch.archive, web), data)
        there: list[str] = []
        missing: list[str] = []
        for obsid in obsids:
            (there if (data / obsid).is_dir() else missing).append(obsid)
        doubtful: list[str] = []
        fetching = fetch_ahead(missing, fetcher.fetch, web.stop, prefetch.parallel, wait_s=0)
        mending = fetch_ahead(doubtful, fetcher.fetch, web.stop, prefetch.parallel, wait_s=0)
        with closing(fetching), closing(mending):
            whole = _whole(there, fetcher, doubtful)
            # the doubtful ones are all known when the others have been yielded
            fetched: Iterable[Fetched | None] = chain(
                _between(fetching, whole, web.stop), _between(mending, iter(()), web.stop)
            )
            if limit is not None:
                fetched = _kept_below(limit, data, done, fetched)
            yield _arriving(fetched, refused)
    if limit is not None:
        _make_room(data, limit, done)


def _whole(obsids: Iterable[str], fetcher: Fetcher, doubtful: list[str]) -> Iterator[Fetched]:
    """Yield the observations on disk whose folder is complete; append others to ``doubtful``, to be fetched last."""
    for obsid in obsids:
        found = fetcher.here(obsid)
        if found is not None:
            yield found
        else:
            doubtful.append(obsid)


def _between(
    fetching: Iterable[Fetched | None], here: Iterator[Fetched], stop: threading.Event
) -> Iterator[Fetched | None]:
    """Yield what has arrived and, while nothing has, what is on disk, so that nobody waits needlessly."""
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
    """Delete during the fetch; search the folder only when it is too large and more observations may be deleted."""
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
