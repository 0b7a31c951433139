from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from xscan.memory import one_heap

def work():
    arrays = [np.ones(1 << 20, np.uint8) for _ in range(30)]

if sys.argv[1] == "one":
    assert one_heap()
with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as searcher:
    for round in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for thread in (reader, searcher):
            thread.submit(work).result()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 2 * 30 * (1 << 20) // 4096


def faults(heap: str) -> int:
    """Count the pages that two threads fetch in their third round, where the environment says as Dask's: give back."""
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    return int(subprocess.check_output([sys.executable, "-c", FAULTS, heap], env=environment, text=True))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc takes such wishes")
def test_one_heap_keeps_what_was_freed() -> None:
    assert faults("one") < PAGES // 100
    assert faults("many") > PAGES // 2  # else the test shows nothing
