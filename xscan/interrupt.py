"""Being told to stop: once is gently, twice is at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal came; ``exit_code`` is what a shell expects of a command that it ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` at the first SIGINT or SIGTERM; end the process at the second.

    What is on disk is whole at every moment, and worker processes end with this one.
    """

    def at_once(number: int, _frame: FrameType | None) -> None:
        os._exit(128 + number)

    def gently(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, at_once)
        raise Interrupted(number)

    before = {each: signal.signal(each, gently) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
