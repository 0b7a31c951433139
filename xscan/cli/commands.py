"""Say what is wrong with a command line, and that a command was interrupted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["Commands", "interrupt_told"]

RENAMED = {"--source": "--from"}
"""Options of earlier versions, and what they are called now."""

_ALIKE = 0.8  # of 1: a letter or two wrong, not another word


@contextmanager
def interrupt_told() -> Iterator[None]:
    """End the program with a line where an interrupt reaches the end of this block."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("xscan: stopped by SIGINT", err=True)
        sys.exit(130)


class Commands(TyperGroup):
    """The commands of the program."""

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Read the command line; typer ends without a word if that is interrupted."""
        with interrupt_told():
            return super().make_context(*given, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run a command. One that is interrupted ends with a line, unless it has said so itself."""
        try:
            with interrupt_told():
                return super().invoke(ctx)
        except Exception as error:
            if hasattr(error, "possibilities") and hasattr(error, "option_name"):  # no such option
                options = [name for parameter in error.ctx.command.params for name in parameter.opts]  # type: ignore[attr-defined]
                error.possibilities = _meant(error.option_name, options)
            raise


def _meant(name: str, options: Sequence[str]) -> list[str]:
    """Return the options that may be meant by one that does not exist."""
    if RENAMED.get(name) in options:
        return [RENAMED[name]]
    return [option for option in options if option.startswith(name)] or get_close_matches(name, options, cutoff=_ALIKE)
