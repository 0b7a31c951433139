"""Write docs/performance.md, its picture and the README's lines on speed from what ``xscan bench --json`` measured.

    scripts/performance-doc [JSON ...]

Without arguments: from all of benchmarks/results/, the newest first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xscan.bench.page import page, with_headline
from xscan.bench.plot import plot_growth
from xscan.bench.record import read_reports
from xscan.bench.summary import growth_tables
from xscan.errors import XscanError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> int:
    """Write page, picture and README; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", nargs="*", type=Path, help="results of xscan bench")
    paths = parser.parse_args().json or list(RESULTS.glob("*.json"))
    if not paths:
        print(f"{RESULTS}: no results; measure with xscan bench --json {RESULTS}", file=sys.stderr)
        return 2
    try:
        reports = read_reports(paths)
    except (XscanError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    (ROOT / "docs" / "performance.md").write_text(page(reports), "utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_headline(readme.read_text("utf-8"), reports), "utf-8")
    grown = next(filter(growth_tables, reports), None)
    if grown is not None:
        plot_growth(grown, ROOT / "docs" / "images" / "growth.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
