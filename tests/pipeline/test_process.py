from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from xscan.pipeline.process import one_heap

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages are 4 KiB

def work():
    arrays = [np.ones(int(size), np.uint8) for size in sys.argv[2].split()]

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
SMALL = " ".join(["1048576"] * 30)
LARGE = "41943040"  # of 40 MiB, one of 2.6 million events' columns: glibc maps what is above 32 MiB by itself

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc takes such wishes")


def faults(heap: str, sizes: str) -> int:
    """Count the pages that two threads fetch in their third round, where the environment says as Dask's: give back."""
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    return int(subprocess.check_output([sys.executable, "-c", FAULTS, heap, sizes], env=environment, text=True))


@GLIBC
@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
def test_one_heap_keeps_what_was_freed(sizes: str) -> None:
    assert faults("one", sizes) < PAGES // 100
    assert faults("many", sizes) > PAGES // 2  # else the test shows nothing


@GLIBC
def test_arrow_takes_memory_from_the_one_heap() -> None:
    shown = "import pyarrow as pa; print(pa.default_memory_pool().backend_name)"
    code = f"from xscan.pipeline.process import one_heap; one_heap(); {shown}"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "system\n"
