"""``xscan doctor``."""

from __future__ import annotations

import typer

from xscan.backends import BACKENDS
from xscan.doctor import diagnose
from xscan.errors import ConfigError

__all__ = ["doctor"]


def doctor(backend: str | None) -> int:
    """Print what is here and what works; return the exit code."""
    if backend is not None and backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    found = diagnose()
    width = max(len(name) for name, _ in found.facts) + 2
    for name, value in found.facts:
        typer.echo(f"{name:{width}}{value}")
    typer.echo()
    for check in found.checks:
        typer.echo(f"{check.backend:{width}}{'works' if check.works else 'does not work'}: {check.remark}")
    typer.echo(f"{'auto':{width}}{f'chooses {found.auto}' if found.auto else 'finds nothing that works'}")
    if backend is not None:
        return 0 if found.works(backend) else 3
    return 0 if found.auto else 1
