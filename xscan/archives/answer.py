"""Read the answer to one request in pieces, and name its errors."""

from __future__ import annotations

import http.client
import threading

import requests
import urllib3

from xscan.archives.request_limits import Clock, RequestLimits
from xscan.errors import Reason

__all__ = ["NETWORK", "Answer", "AttemptError", "CancelledError", "MissingError", "in_words"]

NETWORK = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
"""Exceptions raised when a connection breaks, by whichever layer notices it."""


class AttemptError(Exception):
    """One attempt failed.

    Attributes
    ----------
    reason : Reason
        Stored if no attempt succeeds.
    again : bool
        Whether another attempt may succeed.
    retry_after_s : float
        Time for which the server asks not to be contacted, s.
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
    """The server answers that it does not have the file."""


class CancelledError(Exception):
    """The run was asked to stop."""


class Answer:
    """The answer to a request: status, headers, and a body that is read piece by piece."""

    def __init__(self, response: requests.Response, limits: RequestLimits, clock: Clock, stop: threading.Event) -> None:
        self.status = response.status_code
        self._response = response
        self._limits = limits
        self._clock = clock
        self._stop = stop
        self._since_s = clock.now()
        self._bytes = 0

    def header(self, name: str) -> str:
        """Return a header; empty if it is not there."""
        return self._response.headers.get(name, "")

    @property
    def length(self) -> int | None:
        """Bytes of the body, if the server says so."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def shows_its_end(self) -> bool:
        """Whether the server marks the end of the body, so that a broken connection is not taken for the end."""
        return self.length is not None or "chunked" in self.header("Transfer-Encoding").lower()

    def text(self, most: int) -> str:
        """Read a whole page as text.

        Raises
        ------
        AttemptError
            As :meth:`read`; and if it is longer than ``most`` bytes, or its length is unknown.
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
        """Read the bytes that have arrived, ``most`` at most; nothing at the end.

        Raises
        ------
        AttemptError
            If the connection is cut, silent, or too slow.
        CancelledError
        """
        if self._stop.is_set():
            raise CancelledError
        try:
            # one piece as it arrives: waiting for all of it would hide a connection that is too slow
            piece: bytes = self._response.raw.read1(most, decode_content=False)
        except NETWORK as error:
            raise AttemptError(f"the connection broke: {in_words(error)}") from None
        self._bytes += len(piece)
        elapsed_s = self._clock.now() - self._since_s
        if piece and elapsed_s >= self._limits.stall_s:
            if self._bytes < self._limits.stall_bytes:
                raise AttemptError(f"stalled: {self._bytes} bytes in {elapsed_s:.0f} s")
            self._since_s, self._bytes = self._clock.now(), 0
        return piece


def in_words(error: BaseException) -> str:
    """Return the innermost cause as one line; wrapping errors contain addresses of objects.

    Examples
    --------
    >>> in_words(OSError("request failed", ConnectionResetError("reset by peer")))
    'ConnectionResetError: reset by peer'
    """
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return in_words(reason)
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
