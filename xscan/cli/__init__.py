"""Run the commands that :mod:`xscan.cli.app` declares, once their options are read.

Contract: one module for each command or pair of commands; what a person reads on the terminal is printed here and in
``output``. Errors are raised as :class:`~xscan.errors.XscanError`, which ``app`` turns into a line and an exit code.
Nothing imports this package except the command itself.
"""
