"""What the commands of :mod:`xscan.cli.app` do once their options are read; each gives the exit code."""
