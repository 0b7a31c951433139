"""Measure the lower limit of every scan's time: inflating its files, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from isal import igzip

from xscan.bench.clock import Seconds, timed
from xscan.bench.machine import child_environment
from xscan.errors import BenchError

__all__ = ["inflated_bytes", "inflater", "serve", "streamed", "whole"]

BUFFER = 1 << 20
SERVE = "from xscan.bench.gunzip import serve; serve()"


def whole(files: Sequence[Path]) -> None:
    """Inflate each file as a whole into memory, as a reader of tables does."""
    for path in files:
        with igzip.open(path) as stream:
            stream.read()


def streamed(files: Sequence[Path]) -> None:
    """Inflate each file in pieces into one small buffer, which avoids fetching memory: the fastest way."""
    inflated_bytes(files)


def inflated_bytes(files: Sequence[Path]) -> int:
    """Return the number of bytes of files after inflating.

    Examples
    --------
    >>> import gzip
    >>> path = next(folder.glob("*OBSMLI*"))
    >>> inflated_bytes([path]) == len(gzip.decompress(path.read_bytes()))
    True
    """
    buffer, total = bytearray(BUFFER), 0
    for path in files:
        with igzip.open(path) as stream:
            while count := stream.readinto(buffer):
                total += count
    return total


@contextmanager
def inflater(files: Sequence[Path]) -> Iterator[Callable[[], tuple[Seconds, Seconds]]]:
    """Start a process that inflates files, and does nothing else, each time it is asked to.

    In the scanning process the same call costs up to twice as much, depending on what the scan has
    left on the heap: there a better scan would lower the limit, and so look worse.

    Yields
    ------
    callable
        Inflates all files and returns the times: each as a whole, and streamed.
    """
    command = [sys.executable, "-c", SERVE, *map(str, files)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=child_environment()) as process:
        ask = partial(_ask, process)
        ask()  # the first time reads the files from disk
        yield ask


def _ask(process: subprocess.Popen[str]) -> tuple[Seconds, Seconds]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("\n")
        process.stdin.flush()
        as_whole, in_pieces = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        raise BenchError("the process that inflates files ended; see its message above") from None
    return Seconds(*as_whole), Seconds(*in_pieces)


def serve() -> None:
    """Inflate the files of the command line for each line of input, and print how long it took."""
    files = [Path(name) for name in sys.argv[1:]]
    for _ in sys.stdin:
        took = [timed(lambda: whole(files)), timed(lambda: streamed(files))]
        print(json.dumps([(seconds.cpu, seconds.wall) for seconds in took]), flush=True)
