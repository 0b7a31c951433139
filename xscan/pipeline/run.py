"""One run into a folder of results: locked, and ended by the first signal with all that is finished stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from xscan.pipeline.scan import ScanSettings
from xscan.pipeline.signals import Interrupted, StopSignal, interruptible
from xscan.results.writer import ResultsWriter

__all__ = ["run_into"]

T = TypeVar("T")


def run_into(folder: Path, settings: ScanSettings, body: Callable[[ResultsWriter, StopSignal], T]) -> T | Interrupted:
    """Run the body with the folder's writer; return what it returns, or the signal that ended it.

    Whatever the body stored before the signal is gathered into parts; a second signal ends that too.

    Parameters
    ----------
    folder : Path
        Made if it is not there; locked while the body runs.
    settings : ScanSettings
        With which the results are made.
    body : callable
        Takes the writer and the StopSignal.

    Raises
    ------
    StoreError
        If the folder holds other things, is in use by another run, or cannot be written.
    """
    try:
        with (
            interruptible() as stop_signal,
            ResultsWriter(folder, settings.provenance(), settings.by_name()) as writer,
            stop_signal.shield_exit(),
        ):
            try:
                return body(writer, stop_signal)
            except Interrupted as signal:  # what is finished goes into parts
                return signal
    except Interrupted as signal:  # before or after the body
        return signal
