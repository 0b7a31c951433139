"""Results on disk, whole at every moment: staged per observation, compacted into parts of a hundred.

``DIR/staging/<obsid>.arrow`` holds the tables of one finished observation and is written by whoever searched it.
One coordinator moves them into ``DIR/<table>/part-<hash>.parquet`` and says in ``DIR/_manifest.json`` which of
those count. ``DIR/_xscan.json`` says which configuration the results are of (docs/operations.md). A kill at any
moment loses nothing that was finished.
"""
