"""Measure speed and memory on this machine, and where the time is spent.

Contract: nothing that reads or searches knows that it is measured; timers are put around named functions from outside
(:mod:`xscan.bench.stages`). Times are compared with inflating the same files, which every reader must do and which
is measured within the same minute, so that the ratios are comparable between machines. ``cli`` may import this package.
"""
