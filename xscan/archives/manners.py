"""How an archive is treated, and by which clock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Clock", "Manners", "real_clock"]


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
    """Return the machine's clock; its sleep ends when ``stop`` is set."""
    return Clock(time.monotonic, stop.wait, random.random, lambda: datetime.now(UTC))
