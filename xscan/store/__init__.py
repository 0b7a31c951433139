"""Results on disk: staged per observation, compacted into parts of a hundred (docs/operations.md).

``DIR/staging/<obsid>.arrow`` holds the tables of one finished observation and is written by
whoever searched it. One coordinator moves them into ``DIR/<table>/part-<hash>.parquet`` and says
in ``DIR/_manifest.json`` which of those count. ``DIR/_xscan.json`` says which configuration the
results are of.
"""

from __future__ import annotations

from xscan.store.about import holds_results
from xscan.store.disk import named_trouble, sync_folder, write_whole
from xscan.store.manifest import read_json
from xscan.store.reader import Results, open_results
from xscan.store.staging import stage
from xscan.store.writer import ResultsWriter

__all__ = [
    "Results",
    "ResultsWriter",
    "holds_results",
    "named_trouble",
    "open_results",
    "read_json",
    "stage",
    "sync_folder",
    "write_whole",
]
