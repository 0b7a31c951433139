"""Being told to stop: once is gently, twice is at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "Interruption", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal came; ``exit_code`` is what a shell expects of a command that it ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interruption:
    """Whether a signal to stop has come, and whether it has to wait for something that must not be cut in two."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._n_holding = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let a signal wait until the end of the outermost such block; what fails after one came, failed of that."""
        self._n_holding += 1
        try:
            yield
        except Exception:
            self.look()
            raise
        finally:
            self._n_holding -= 1
        self._raise()

    @contextmanager
    def then_hold(self) -> Iterator[None]:
        """From the end of this block on, stop for no first signal: all that is left is to close what stands before it.

        The last item of a ``with``, behind what must be closed whole.
        """
        try:
            yield
        finally:
            self._n_holding += 1

    def look(self) -> None:
        """Stop if a signal came while it was held: for where no other code may be cut in two, or swallow it."""
        if self._came is not None:
            raise Interrupted(self._came) from None

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, _end_at_once)
        self._came = number
        self._raise()

    def _raise(self) -> None:
        if not self._n_holding:
            self.look()


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Raise :class:`Interrupted` at the first SIGINT or SIGTERM; end the process at the second.

    What is on disk is whole at every moment, and worker processes end with this one.
    """
    interruption = Interruption()
    before = {each: signal.signal(each, interruption._heard) for each in _SIGNALS}
    try:
        yield interruption
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
