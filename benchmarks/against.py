"""Hold the speed of this checkout against that of another, in turn, on the same observations.

    scripts/against CHECKOUT FOLDER... [--rounds 31] [--backend numba]

CHECKOUT is another working copy of xscan (``git worktree add --detach ../before COMMIT``), run with the libraries of
this one's environment. Each keeps one process, which scans every observation from its files to Parquet; the two take
turns, and which comes first changes every round. Printed are the CPU time of both (s; median and least) and the median
of the rounds' ratios, this checkout's over the other's: noise that lasts longer than a scan meets both alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]

CHILD = """
import sys, tempfile, time
from pathlib import Path
try:
    from xscan.pipeline.process import one_heap
except ImportError:  # 0.1
    from xscan.memory import one_heap
one_heap()
import xscan
from xscan.bench.child import ResultsWriter, scan_and_store
try:
    from xscan.api import scan_settings
except ImportError:  # an older checkout
    from xscan.api import recipe
    scanner = recipe(backend=sys.argv[1])
    settings = scanner.settings()
else:
    scanner = scan_settings(backend=sys.argv[1]).scanner()
    settings = scanner.settings.by_name()
print(xscan.__file__, flush=True)
for line in sys.stdin:
    with tempfile.TemporaryDirectory() as out:
        begun = time.process_time()
        writer = ResultsWriter(Path(out), scanner.provenance(), settings)
        scan_and_store(Path(line.rstrip("\\n")), scanner, writer)
        print(time.process_time() - begun, flush=True)
"""


class Scanner:
    """A process that scans what it is told with the xscan of one checkout."""

    def __init__(self, checkout: Path, backend: str) -> None:
        # not in the checkout: its name comes first on the path, before the one that is installed
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        command = [sys.executable, "-P", "-c", CHILD, backend]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd="/"
        )
        found = self._answer()
        if not found.startswith(f"{checkout}{os.sep}"):
            raise SystemExit(f"{checkout}: no xscan there; {found} was found instead")

    def scan(self, folder: Path) -> float:
        """Scan an observation; return the CPU time, s."""
        assert self._process.stdin is not None
        print(folder, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip("\n")
        if not line:
            raise SystemExit("a scan failed; what it said stands above")
        return line


def hold(before: Scanner, now: Scanner, folder: Path, rounds: int) -> str:
    """Scan an observation in turn; return a row of the table."""
    for scanner in (before, now):  # compiled code is loaded, files are in memory
        scanner.scan(folder)
    taken: dict[Scanner, list[float]] = {before: [], now: []}
    for number in range(rounds):
        for scanner in (before, now) if number % 2 else (now, before):
            taken[scanner].append(scanner.scan(folder))
    ratio = statistics.median(new / old for old, new in zip(taken[before], taken[now], strict=True))
    cells = [f"{statistics.median(taken[one]):.3f} ({min(taken[one]):.3f})" for one in (before, now)]
    return f"| {folder.name} | {cells[0]} | {cells[1]} | {ratio:.2f} |"


def main() -> None:
    """Scan in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="one observation")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--backend", default="numba")
    given = parser.parse_args()
    before, now = (Scanner(path.resolve(), given.backend) for path in (given.checkout, HERE))
    print(f"| observation | {given.checkout}, CPU s: median (least) | here | ratio |\n|---|---|---|---|", flush=True)
    for folder in given.folders:
        print(hold(before, now, folder.resolve(), given.rounds), flush=True)
    for scanner in (before, now):
        scanner.close()


if __name__ == "__main__":
    main()
