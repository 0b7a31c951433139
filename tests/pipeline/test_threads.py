from __future__ import annotations

import os
import subprocess
import sys

import pytest

from xscan.pipeline.threads import ONE_THREAD

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
COUNT = "import os, numpy, scipy.linalg; print(len(os.listdir('/proc/self/task')))"


def threads(before: str, **said: str) -> int:
    return int(output(f"{before}; {COUNT}", **said))


def output(code: str, **said: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ONE_THREAD} | said
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)


@pytest.mark.skipif(
    sys.platform != "linux" or CORES < 2, reason="to see more threads than one takes Linux and two cores"
)
def test_libraries_start_no_threads_but_where_told_to() -> None:
    assert threads("pass") > 1  # else the test shows nothing
    one = "from xscan.pipeline.threads import one_thread; one_thread()"
    assert threads(one) == 1
    assert threads(one, OPENBLAS_NUM_THREADS="2") > 1


def test_the_command_sees_to_it_before_there_are_libraries() -> None:
    code = """
import os, sys, xscan.pipeline.threads
def one_thread():
    assert "numpy" not in sys.modules
    print("in time")
xscan.pipeline.threads.one_thread = one_thread
from xscan.cli.app import main
sys.argv = ["xscan", "--version"]
main()
"""
    assert output(code).startswith("in time\n")
