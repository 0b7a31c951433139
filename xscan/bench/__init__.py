"""Measure speed and memory: how fast is it here, and where does the time go.

Nothing that reads or searches knows that it is measured: timers are put around named functions
from outside (:mod:`xscan.bench.stages`). Times are compared with inflating the same files, which
every reader must do and which is measured in the same minute: such ratios hold on any machine.
"""
