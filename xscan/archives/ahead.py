"""Fetch in the background, a bounded number of observations ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable

from xscan.archives.answer import CancelledError
from xscan.archives.fetch import Fetched

__all__ = ["fetch_ahead"]

_PATIENCE_S = 2.0  # longest wait for threads that wait for a silent server, when cancelled


def fetch_ahead(
    obsids: Iterable[str],
    fetch: Callable[[str], Fetched],
    stop: threading.Event,
    threads: int = 2,
    ahead: int = 4,
    wait_s: float | None = None,
) -> Generator[Fetched | None, None, None]:
    """Fetch observations and yield each as soon as it is there, in any order.

    Close the generator, or leave its loop by an exception, to cancel: transfers end at their next
    piece, and what has arrived is kept for the next run. A thread that waits for a silent server is
    abandoned; this is safe, because a file gets its name only when it is complete.

    Parameters
    ----------
    obsids : iterable of str
        Taken one at a time, as there is room.
    fetch : callable
        :meth:`xscan.archives.fetch.Fetcher.fetch`, or a function like it.
    stop : threading.Event
        Set to cancel; ``fetch`` must check it (:attr:`xscan.archives.web.Web.stop`).
    threads : int
        Number of observations fetched at once.
    ahead : int
        Largest number of observations fetched and not yet yielded, including those in progress.
    wait_s : float, optional
        Yield None if nothing has arrived for this time, s, which may be 0; by default wait.

    Yields
    ------
    Fetched or None

    Raises
    ------
    Exception
        Any exception of ``fetch``; it ends the run.

    Examples
    --------
    In any order, as they arrive:

    >>> def fetch(obsid):
    ...     return Fetched(obsid, "present")
    >>> sorted(fetched.obsid for fetched in fetch_ahead(["0990000001", "0990000002"], fetch, threading.Event()))
    ['0990000001', '0990000002']
    """
    todo = iter(obsids)
    taking = threading.Lock()
    room = threading.Semaphore(max(ahead, threads))
    done: queue.SimpleQueue[Fetched | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            while not stop.is_set():
                room.acquire()
                with taking:
                    obsid = next(todo, None)
                if obsid is None or stop.is_set():
                    break
                done.put(fetch(obsid))
        except CancelledError:
            pass
        except BaseException as error:  # the consumer must get the exception
            done.put(error)
        finally:
            done.put(None)

    workers = [threading.Thread(target=work, name=f"fetch-{k}", daemon=True) for k in range(threads)]
    for worker in workers:
        worker.start()
    busy = len(workers)
    try:
        while busy:
            try:
                outcome = done.get(timeout=wait_s)
            except queue.Empty:
                yield None
                continue
            if outcome is None:
                busy -= 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                room.release()
                yield outcome
    finally:
        if busy:
            stop.set()
        for _ in workers:
            room.release()
        for worker in workers:
            worker.join(_PATIENCE_S / len(workers))
