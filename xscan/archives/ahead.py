"""Fetch in the background, a bounded number of observations ahead of whoever uses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable

from xscan.archives.answer import CancelledError
from xscan.archives.fetch import Fetched

__all__ = ["fetch_ahead"]

_PATIENCE_S = 2.0  # with threads that wait for a silent server, when cancelled


def fetch_ahead(
    obsids: Iterable[str],
    fetch: Callable[[str], Fetched],
    stop: threading.Event,
    threads: int = 2,
    ahead: int = 4,
    wait_s: float | None = None,
) -> Generator[Fetched | None, None, None]:
    """Fetch observations and give each as soon as it is there, in whatever order that is.

    Close the generator, or leave its loop by an exception, to cancel: transfers end at their next
    piece, and what has arrived is kept for the next run. A thread that waits for a silent server is
    left to itself: it cannot do harm, because nothing is taken for whole before it is.

    Parameters
    ----------
    obsids : iterable of str
        Taken one by one, as there is room.
    fetch : callable
        :meth:`xscan.archives.fetch.Fetcher.fetch`, or something like it.
    stop : threading.Event
        Set to cancel; ``fetch`` must heed it (:attr:`xscan.archives.web.Web.stop`).
    threads : int
        Fetch so many at once.
    ahead : int
        Fetch at most so many that nobody has asked for yet, those under way included.
    wait_s : float, optional
        Give None where nothing has come for so long, s, which may be 0; by default wait.

    Yields
    ------
    Fetched or None

    Raises
    ------
    Exception
        What ``fetch`` raises: it ends the run.
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
        except BaseException as error:  # whoever consumes must hear of it
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
