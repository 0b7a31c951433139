"""What the commands of :mod:`xscan.cli` do once their options are read; each gives the exit code."""
