"""The floor under every scan: inflating its files, and nothing else."""

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
    """Inflate each file piece by piece into one small buffer: no memory to fetch, the least there is."""
    inflated_bytes(files)


def inflated_bytes(files: Sequence[Path]) -> int:
    """Count the bytes of files once inflated."""
    buffer, total = bytearray(BUFFER), 0
    for path in files:
        with igzip.open(path) as stream:
            while count := stream.readinto(buffer):
                total += count
    return total


@contextmanager
def inflater(files: Sequence[Path]) -> Iterator[Callable[[], tuple[Seconds, Seconds]]]:
    """Start a process that does nothing but inflate files whenever it is asked to.

    In the process that scans, the same call costs up to twice as much, depending on what the scan
    left on the heap. There a better scan would make the floor lower, and so look worse.

    Yields
    ------
    callable
        Inflates all files and gives what it took, each as a whole and streamed.
    """
    command = [sys.executable, "-c", SERVE, *map(str, files)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=child_environment()) as process:
        ask = partial(_ask, process)
        ask()  # the first time finds the files on disk
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
    """Inflate the files of the command line each time a line comes in, and say how long it took."""
    files = [Path(name) for name in sys.argv[1:]]
    for _ in sys.stdin:
        took = [timed(lambda: whole(files)), timed(lambda: streamed(files))]
        print(json.dumps([(seconds.cpu, seconds.wall) for seconds in took]), flush=True)
