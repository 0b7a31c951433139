"""Make all requests of a run: limit their rate, time out, and try again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TypeVar

import requests

from xscan import __version__
from xscan.archives.answer import NETWORK, Answer, AttemptError, CancelledError, MissingError, in_words
from xscan.archives.request_limits import Clock, RequestLimits, real_clock
from xscan.errors import ArchiveError, Reason

__all__ = ["UNCHANGED", "Web", "open_web"]

T = TypeVar("T")

_TEMPORARY = {408, 425, 429}  # and 5xx
_PROTECTED = {401, 403}
_GONE = {204, 404, 410}
UNCHANGED = 304
_NO_RANGE = 416
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Web:
    """Makes all requests of a run; threads may share it.

    Parameters
    ----------
    session : requests.Session
        With the headers of every request.
    limits : RequestLimits
    clock : Clock
    stop : threading.Event
        When set, any request in progress ends with :class:`CancelledError`.
    """

    def __init__(self, session: requests.Session, limits: RequestLimits, clock: Clock, stop: threading.Event) -> None:
        self._clock = clock
        self.stop = stop
        self._session = session
        self._limits = limits
        self._lock = threading.Lock()
        self._free_s = 0.0  # time at which the next request may be made

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] = _NO_HEADERS) -> Iterator[Answer]:
        """Make a request as soon as the rate limit allows.

        Raises
        ------
        MissingError
            204, 404 and 410.
        AttemptError
            Any answer except these and 200, 206, 304 and 416, and any network error.
        CancelledError
        """
        self._await_turn()
        timeout = (self._limits.connect_s, self._limits.read_s)
        try:
            response = self._session.get(url, headers=dict(headers), stream=True, timeout=timeout)
        except (requests.RequestException, *NETWORK) as error:
            raise AttemptError(f"no answer: {in_words(error)}") from None
        with closing(response):
            self._judge(response)
            yield Answer(response, self._limits, self._clock, self.stop)

    def persist(self, what: object, attempt: Callable[[], T]) -> T:
        """Call ``attempt`` until it succeeds, with growing waits in between.

        Parameters
        ----------
        what : object
            Observation, file and URL, for the message.
        attempt : callable

        Raises
        ------
        ArchiveError
            If no attempt succeeds, or further attempts are pointless.
        CancelledError
        """
        limits = self._limits
        wait_s = limits.first_wait_s
        for tried in range(1, limits.tries + 1):
            try:
                return attempt()
            except AttemptError as trouble:
                last = trouble
            if not last.again or last.retry_after_s > limits.longest_retry_after_s:
                break
            if tried < limits.tries:
                self._hold(last.retry_after_s)
                self._sleep(max(last.retry_after_s, self._clock.random() * wait_s))
                wait_s = min(2 * wait_s, limits.longest_wait_s)
        later = f"; asks to be left alone for {last.retry_after_s:.0f} s" if last.retry_after_s else ""
        times = f" (tried {tried} times{later})" if tried > 1 or later else ""
        raise ArchiveError(last.reason, f"{what}: {last}{times}") from None

    def _await_turn(self) -> None:
        with self._lock:
            mine_s = max(self._free_s, self._clock.now())
            self._free_s = mine_s + 1 / self._limits.requests_per_s
        self._sleep(mine_s - self._clock.now())

    def _hold(self, seconds: float) -> None:
        """Delay the requests of all threads: a server that is overloaded means all of them."""
        with self._lock:
            self._free_s = max(self._free_s, self._clock.now() + seconds)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._clock.sleep(seconds)
        if self.stop.is_set():
            raise CancelledError

    def _judge(self, response: requests.Response) -> None:
        status = response.status_code
        told = f"{status} {response.reason or ''}".strip()
        if status in (200, 206, UNCHANGED, _NO_RANGE):
            return
        if status in _GONE:
            raise MissingError(told)
        if status in _PROTECTED:
            raise AttemptError(f"the archive answers {told}: it is not public", Reason.NOT_PUBLIC, again=False)
        temporary = status in _TEMPORARY or status >= 500
        retry_after_s = self._seconds_until(response.headers.get("Retry-After", ""))
        raise AttemptError(f"the archive answers {told}", again=temporary, retry_after_s=retry_after_s)

    def _seconds_until(self, text: str) -> float:
        """Return the seconds of a Retry-After header, which holds a number or a date; 0 if it is neither."""
        if text.strip().isascii() and text.strip().isdigit():
            return float(text)
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        return max(((date if date.tzinfo else date.replace(tzinfo=UTC)) - self._clock.utc()).total_seconds(), 0.0)


@contextmanager
def open_web(limits: RequestLimits, clock: Clock | None = None) -> Iterator[Web]:
    """Open a session whose connections are opened as needed, and close it at the end."""
    stop = threading.Event()
    with requests.Session() as session:
        session.headers["User-Agent"] = f"xscan/{__version__}"
        session.headers["Accept-Encoding"] = "identity"  # files are compressed; lengths and ranges count their bytes
        yield Web(session, limits, clock or real_clock(stop), stop)
