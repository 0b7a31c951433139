"""The command, run in the test's own process or in one of its own."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import Mock

import pytest

from xscan.cli import app as cli

TERMINAL = {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}


def run(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in this process, which has its libraries: its exit code, and what it said."""
    said, trouble = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(trouble):
        for name, value in TERMINAL.items():
            patch.setenv(name, value)
        patch.chdir(cwd or Path.cwd())
        patch.setattr(sys, "argv", ["xscan", *map(str, args)])
        patch.setattr(logging.getLogger(), "handlers", [])  # pytest's: the command sets up its own
        for settled in ("one_heap", "one_thread", "gc"):  # what a process of its own is told for all its life
            patch.setattr(cli, settled, Mock())
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(list(args), code, said.getvalue(), trouble.getvalue())


def run_process(*args: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user has it."""
    command = [sys.executable, "-m", "xscan", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | TERMINAL, timeout=120)
