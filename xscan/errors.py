"""Define the errors of xscan, and the reason codes that are stored.

Every message says what happened, where (file, row, keyword) and what to do next.
"""

from __future__ import annotations

import errno
from enum import StrEnum

__all__ = [
    "ArchiveError",
    "BenchError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "MachineError",
    "Reason",
    "StoreError",
    "XscanError",
    "first_line",
    "is_shortage",
]


class Reason(StrEnum):
    """Why an event list, a view or an observation was not searched.

    The value is stored in the table ``runs``; the sentence beside each member is its meaning.
    """

    # the folder
    NO_FOLDER = "no_folder"  # the observation's folder does not exist, or cannot be used
    NO_EVENT_LISTS = "no_event_lists"  # the folder holds no EPIC imaging event list
    # one file
    UNREADABLE = "unreadable"  # truncated, corrupt, not a FITS file, or no file at all
    NO_EVENTS_TABLE = "no_events_table"  # no EVENTS extension, or a needed column is missing or odd
    NO_SOURCE_TABLE = "no_source_table"  # a source list without the columns of one
    CONTRADICTORY = "contradictory"  # header, file name or folder name different observations or instruments
    OTHER_TELESCOPE = "other_telescope"  # TELESCOP or INSTRUME name another telescope or instrument than EPIC
    OTHER_TIME_SYSTEM = (
        "other_time_system"  # times that cannot be converted exactly, or of another system than the others'
    )
    NO_TANGENT_PLANE = "no_tangent_plane"  # no usable REF?CRVL / REF?CRPX / REF?CDLT
    NO_EVENTS = "no_events"  # no event is left after the cuts
    NO_GOOD_TIME = "no_good_time"  # its good-time tables are empty, or all its events have one time
    MODE = "mode"  # a submode that is not searched (timing, small window, unknown)
    FILTER = "filter"  # filter wheel closed, calibration lamp, or blocked
    DUPLICATE = "duplicate"  # the same exposure, or another source list, is in the folder
    TIME_SPAN = "time_span"  # a tenth of its times or more are further than two orbits from the others
    # lists beside each other
    OTHER_PLANE = "other_plane"  # its tangent plane is not that of the other lists
    NOT_CHOSEN = "not_chosen"  # another list of the same camera shares more time with the others
    NO_COMMON_TIME = "no_common_time"  # the lists of a subset share no time
    # one view
    DT_TOO_LONG = "dt_too_long"  # one frame is longer than the time range
    NO_LIVE_FRAME = "no_live_frame"  # every frame was rejected, or no CCD was ever live
    NO_BACKGROUND = "no_background"  # no cell is left outside the source mask to build an expectation from
    EMPTY_BAND = "empty_band"  # no event of this subset falls in the band and frames
    DEVICE_MEMORY = "device_memory"  # the GPU has no room for it, however small it is cut
    # fetching it from an archive
    NO_PRODUCTS = "no_products"  # the archive has no EPIC imaging event list of it
    NO_SUCH_OBSERVATION = "no_such_observation"  # the archive does not know it
    NOT_PUBLIC = "not_public"  # the archive keeps it for its owner
    ARCHIVE_TROUBLE = "archive_trouble"  # errors, silence or cut connections, however often it was tried
    BAD_PRODUCT = "bad_product"  # what the archive sends is damaged, or not what was asked for
    DISK = "disk"  # the folder for the data cannot be written
    BUSY = "busy"  # another process is fetching it
    # the GPU
    DEVICE_LOST = "device_lost"  # it stopped answering while it searched this
    # the process that searched it, tried twice
    WORKER_DIED = "worker_died"  # the process died of it
    TIME_LIMIT = "time_limit"  # it took longer than --time-limit
    MEMORY_LIMIT = "memory_limit"  # it needs more memory than --memory-limit, or than the process may have
    # anything else
    ERROR = "error"  # an unforeseen error; the message is on record


class XscanError(Exception):
    """Base class of the errors raised deliberately; ``exit_code`` is that of the command."""

    exit_code = 1


class ConfigError(XscanError):
    """Wrong usage or configuration."""

    exit_code = 2


class StoreError(XscanError):
    """The results folder cannot be used as asked."""

    exit_code = 2


class MachineError(XscanError):
    """The machine lacks something that any observation needs: open files, a worker, the scheduler."""

    exit_code = 2


class DeviceError(XscanError):
    """The backend asked for does not work on this machine."""

    exit_code = 3


class BenchError(XscanError):
    """A measurement could not be taken."""


class DataError(XscanError):
    """A file or an observation cannot be searched, for the reason given."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ArchiveError(XscanError):
    """An observation cannot be fetched from an archive, for the reason given."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_shortage(error: BaseException) -> bool:
    """Return whether the machine lacks memory or open files, so that the file is not the cause.

    Examples
    --------
    >>> is_shortage(OSError(errno.EMFILE, "Too many open files")), is_shortage(FileNotFoundError("P0123.FTZ"))
    (True, False)
    """
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    )


def first_line(error: BaseException) -> str:
    """Return the message of the original error, if it was raised from others, as one line.

    Examples
    --------
    >>> error = StoreError("the results cannot be written")
    >>> error.__cause__ = OSError("the disk is full")
    >>> first_line(error), first_line(KeyboardInterrupt())
    ('the disk is full', 'KeyboardInterrupt')
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), "") or type(error).__name__
