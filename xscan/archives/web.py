"""Polite, patient HTTP: how fast to ask, how long to wait, when to ask again."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TypeVar

import requests
import urllib3

from xscan import __version__
from xscan.errors import ArchiveError, Reason

__all__ = [
    "Answer",
    "AttemptError",
    "CancelledError",
    "Clock",
    "Manners",
    "MissingError",
    "Web",
    "open_web",
    "real_clock",
]

T = TypeVar("T")

_TEMPORARY = {408, 425, 429}  # and 5xx
_PROTECTED = {401, 403}
_GONE = {204, 404, 410}
_NO_RANGE = 416
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_NETWORK = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


class AttemptError(Exception):
    """One attempt failed.

    Attributes
    ----------
    reason : Reason
        What goes on record if no attempt succeeds.
    again : bool
        Whether another attempt may succeed.
    retry_after_s : float
        How long the server asks to be left alone, s.
    """

    def __init__(
        self,
        message: str,
        reason: Reason = Reason.ARCHIVE_TROUBLE,
        again: bool = True,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.again = again
        self.retry_after_s = retry_after_s


class MissingError(Exception):
    """The server answers, and does not have it."""


class CancelledError(Exception):
    """Somebody asked to stop."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How an archive is treated.

    Attributes
    ----------
    requests_per_s : float
        At most so many, all threads together.
    tries : int
        Attempts at one file.
    connect_s, read_s : float
        Longest wait for a connection, and for the next byte, s.
    stall_s, stall_bytes : float, int
        Fewer bytes than this in so many seconds are no progress.
    first_wait_s, longest_wait_s : float
        Before the second attempt, and before any, s; the wait doubles in between, and is drawn
        between 0 and that.
    longest_retry_after_s : float
        A server that asks for more, s, is asked again by the next run.
    """

    requests_per_s: float = 2.0
    tries: int = 6
    connect_s: float = 20.0
    read_s: float = 60.0
    stall_s: float = 60.0
    stall_bytes: int = 60_000
    first_wait_s: float = 2.0
    longest_wait_s: float = 120.0
    longest_retry_after_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance.

    Attributes
    ----------
    now : callable
        Seconds that never run backwards.
    sleep : callable
        Wait so many seconds, or until somebody asks to stop.
    random : callable
        A number in [0, 1).
    utc : callable
        The date.
    """

    now: Callable[[], float]
    sleep: Callable[[float], object]
    random: Callable[[], float]
    utc: Callable[[], datetime]


def real_clock(stop: threading.Event) -> Clock:
    """Give the machine's clock; its sleep ends when ``stop`` is set."""
    return Clock(time.monotonic, stop.wait, random.random, lambda: datetime.now(UTC))


class Answer:
    """The answer to a request: status, headers, and a body that is read piece by piece."""

    def __init__(self, response: requests.Response, manners: Manners, clock: Clock, stop: threading.Event) -> None:
        self.status = response.status_code
        self._response = response
        self._manners = manners
        self._clock = clock
        self._stop = stop
        self._since_s = clock.now()
        self._bytes = 0

    def header(self, name: str) -> str:
        """Give a header; empty if it is not there."""
        return self._response.headers.get(name, "")

    @property
    def length(self) -> int | None:
        """Bytes of the body, if the server says so."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def shows_its_end(self) -> bool:
        """Whether the server says where the body ends, so that a cut does not look like an end."""
        return self.length is not None or "chunked" in self.header("Transfer-Encoding").lower()

    def text(self, most: int) -> str:
        """Read a page, all of it.

        Raises
        ------
        AttemptError
            As :meth:`read`; and if it is longer than ``most`` bytes, or nobody can tell whether it is whole.
        CancelledError
        """
        page = bytearray()
        while piece := self.read(1 << 16):
            page += piece
            if len(page) > most:
                raise AttemptError(f"the archive sends a page of more than {most} bytes", again=False)
        if not self.shows_its_end:
            raise AttemptError("the archive sends a page without its length: it may be cut short")
        return page.decode("utf-8", "replace")

    def read(self, most: int) -> bytes:
        """Read what is there, at most so many bytes; nothing at the end.

        Raises
        ------
        AttemptError
            If the connection is cut, silent, or too slow.
        CancelledError
        """
        if self._stop.is_set():
            raise CancelledError
        try:
            # one piece as it arrives: a reader that waits for all of it would not see a trickle
            piece: bytes = self._response.raw.read1(most, decode_content=False)
        except _NETWORK as error:
            raise AttemptError(f"the connection broke: {_words(error)}") from None
        self._bytes += len(piece)
        elapsed_s = self._clock.now() - self._since_s
        if piece and elapsed_s >= self._manners.stall_s:
            if self._bytes < self._manners.stall_bytes:
                raise AttemptError(f"stalled: {self._bytes} bytes in {elapsed_s:.0f} s")
            self._since_s, self._bytes = self._clock.now(), 0
        return piece


class Web:
    """All requests of a run go through one of these; threads may share it.

    Parameters
    ----------
    session : requests.Session
        With the headers that every request has.
    manners : Manners
    clock : Clock
    stop : threading.Event
        When set, whatever is going on ends in :class:`CancelledError`.
    """

    def __init__(self, session: requests.Session, manners: Manners, clock: Clock, stop: threading.Event) -> None:
        self.clock = clock
        self.stop = stop
        self._session = session
        self._manners = manners
        self._lock = threading.Lock()
        self._free_s = 0.0  # when the next request may be made

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] = _NO_HEADERS) -> Iterator[Answer]:
        """Ask for something when it is our turn.

        Raises
        ------
        MissingError
            204, 404 and 410.
        AttemptError
            Any other answer but 200, 206 and 416, and all that can happen on the way.
        CancelledError
        """
        self._await_turn()
        timeout = (self._manners.connect_s, self._manners.read_s)
        try:
            response = self._session.get(url, headers=dict(headers), stream=True, timeout=timeout)
        except (requests.RequestException, *_NETWORK) as error:
            raise AttemptError(f"no answer: {_words(error)}") from None
        with closing(response):
            self._judge(response)
            yield Answer(response, self._manners, self.clock, self.stop)

    def persist(self, what: object, attempt: Callable[[], T]) -> T:
        """Try until it succeeds, with growing waits in between.

        Parameters
        ----------
        what : object
            Observation, file and URL, for the message.
        attempt : callable

        Raises
        ------
        ArchiveError
            If no attempt succeeds, or another one makes no sense.
        CancelledError
        """
        manners = self._manners
        wait_s = manners.first_wait_s
        for tried in range(1, manners.tries + 1):
            try:
                return attempt()
            except AttemptError as trouble:
                last = trouble
            if not last.again or last.retry_after_s > manners.longest_retry_after_s:
                break
            if tried < manners.tries:
                self._hold(last.retry_after_s)
                self._sleep(max(last.retry_after_s, self.clock.random() * wait_s))
                wait_s = min(2 * wait_s, manners.longest_wait_s)
        later = f"; asks to be left alone for {last.retry_after_s:.0f} s" if last.retry_after_s else ""
        times = f" (tried {tried} times{later})" if tried > 1 or later else ""
        raise ArchiveError(last.reason, f"{what}: {last}{times}") from None

    def _await_turn(self) -> None:
        with self._lock:
            mine_s = max(self._free_s, self.clock.now())
            self._free_s = mine_s + 1 / self._manners.requests_per_s
        self._sleep(mine_s - self.clock.now())

    def _hold(self, seconds: float) -> None:
        """Let no thread ask for a while: a server that is overrun means all of them."""
        with self._lock:
            self._free_s = max(self._free_s, self.clock.now() + seconds)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.clock.sleep(seconds)
        if self.stop.is_set():
            raise CancelledError

    def _judge(self, response: requests.Response) -> None:
        status = response.status_code
        told = f"{status} {response.reason or ''}".strip()
        if status in (200, 206, _NO_RANGE):
            return
        if status in _GONE:
            raise MissingError(told)
        if status in _PROTECTED:
            raise AttemptError(f"the archive answers {told}: it is not public", Reason.NOT_PUBLIC, again=False)
        temporary = status in _TEMPORARY or status >= 500
        retry_after_s = self._seconds_until(response.headers.get("Retry-After", ""))
        raise AttemptError(f"the archive answers {told}", again=temporary, retry_after_s=retry_after_s)

    def _seconds_until(self, text: str) -> float:
        """Read a Retry-After, which is a number of seconds or a date; 0 if it is neither."""
        if text.strip().isascii() and text.strip().isdigit():
            return float(text)
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        return max(((date if date.tzinfo else date.replace(tzinfo=UTC)) - self.clock.utc()).total_seconds(), 0.0)


@contextmanager
def open_web(manners: Manners, clock: Clock | None = None) -> Iterator[Web]:
    """Open connections as they are needed, and close them at the end."""
    stop = threading.Event()
    with requests.Session() as session:
        session.headers["User-Agent"] = f"xscan/{__version__}"
        session.headers["Accept-Encoding"] = (
            "identity"  # the files are compressed; lengths and ranges count their bytes
        )
        yield Web(session, manners, clock or real_clock(stop), stop)


def _words(error: BaseException) -> str:
    """Say the innermost cause in a line: wrapped errors carry addresses of objects."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _words(reason)
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
