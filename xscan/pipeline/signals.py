"""Stop on signals: the first one stops a run gently, the second one at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Interrupted", "StopSignal", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Raised when a signal arrives; ``exit_code`` is the one a shell expects of a command ended by that signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopSignal:
    """Records whether a signal to stop has arrived, and delays it while something must not be interrupted."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._n_deferring = 0

    @property
    def came(self) -> bool:
        """Whether a signal has arrived."""
        return self._came is not None

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Delay SIGINT and SIGTERM until the outermost block ends.

        An exception while a signal is pending is replaced by Interrupted: the signal probably caused it.
        """
        self._n_deferring += 1
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            self._n_deferring -= 1
        self._raise()

    @contextmanager
    def shield_exit(self) -> Iterator[None]:
        """Enter last in a ``with``: once its body has ended, a first signal no longer interrupts the clean-up.

        The clean-up is that of the earlier items of the ``with``, which must be closed completely.
        """
        try:
            yield
        finally:
            self._n_deferring += 1

    def check(self) -> None:
        """Raise Interrupted if a signal arrived while signals were delayed.

        For code that polls, where a signal at any other point would be swallowed or would leave something half done.
        """
        if self._came is not None:
            raise Interrupted(self._came) from None

    def _received(self, number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, _end_at_once)
        self._came = number
        self._raise()

    def _raise(self) -> None:
        if not self._n_deferring:
            self.check()


@contextmanager
def interruptible() -> Iterator[StopSignal]:
    """Raise :class:`Interrupted` at the first SIGINT or SIGTERM; end the process at the second.

    Files on disk are complete at every moment, and worker processes end with this one. After a first signal a second
    one ends the process at any later time too: what remains is to say so and to leave.
    """
    stop_signal = StopSignal()
    before = {each: signal.signal(each, stop_signal._received) for each in _SIGNALS}
    try:
        yield stop_signal
    finally:
        if not stop_signal.came:
            for each, handler in before.items():
                signal.signal(each, handler)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    line = f"xscan: ended at once by a second {signal.Signals(number).name}; what is finished is kept, and the same "
    with suppress(OSError):
        os.write(2, f"{line}command goes on from there\n".encode())
    os._exit(128 + number)
