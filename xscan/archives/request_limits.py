"""Limits on the requests to an archive, and the clock by which they are kept."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Clock", "RequestLimits", "real_clock"]


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits on the requests to an archive.

    Attributes
    ----------
    requests_per_s : float
        Largest number of requests per second, all threads together.
    tries : int
        Attempts at one file.
    connect_s, read_s : float
        Longest wait for a connection, and for the next byte, s.
    stall_s, stall_bytes : float, int
        A transfer of fewer bytes than this in this time, s, has stalled.
    first_wait_s, longest_wait_s : float
        Wait before the second attempt, and longest wait before any, s. The wait doubles each time; the actual wait
        is a random fraction of it.
    longest_retry_after_s : float
        If a server asks for a longer wait, s, the next run asks it again.
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
    """Sources of time and of random numbers, which tests replace.

    Attributes
    ----------
    now : callable
        Return monotonic time, s.
    sleep : callable
        Wait this many seconds, or until the run is asked to stop.
    random : callable
        Return a number in [0, 1).
    utc : callable
        Return the date and time, UTC.
    """

    now: Callable[[], float]
    sleep: Callable[[float], object]
    random: Callable[[], float]
    utc: Callable[[], datetime]


def real_clock(stop: threading.Event) -> Clock:
    """Return a clock that uses the machine's time; its sleep ends when ``stop`` is set."""
    return Clock(time.monotonic, stop.wait, random.random, lambda: datetime.now(UTC))
