"""Declare the options that several commands share, once.

A command takes a group of options as one parameter, whose type is a dataclass; :func:`takes_groups` shows typer the
fields in its place. Importing this module loads none of the heavy libraries: what a group is for is imported when it
is asked for.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from xscan.pipeline.executor import ExecutorOptions
    from xscan.pipeline.scan import ScanSettings

__all__ = [
    "Data",
    "ExecutorGroup",
    "FromArchive",
    "LimitedExecutorGroup",
    "LogFormat",
    "Logs",
    "ObslistFile",
    "Out",
    "Plot",
    "RetryFailed",
    "ScanGroup",
    "takes_groups",
]

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")]
Plot = Annotated[bool, typer.Option("--plot", help="Draw each observation and region: PNGs in plots/ of --out.")]
ObslistFile = Annotated[Path, typer.Option("--obslist", metavar="FILE", help="One obsid a line; # for comments.")]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder that holds the <obsid>/ folders.")]
FromArchive = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME",
        help="Archive: nxsa (ESA, the default), heasarc (NASA), folder:DIR (links to its files); nxsa:URL and "
        "heasarc:URL are mirrors.",
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Search again what failed before, even if its files are the same.")
]


class LogFormat(StrEnum):
    """How a run reports on itself."""

    TEXT = "text"
    JSON = "json"


Logs = Annotated[
    LogFormat | None,
    typer.Option(
        "--log-format", help="text, or json: one object a line. Default: text, with a progress bar on a terminal."
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class ScanGroup:
    """What to search for, and what computes it."""

    profile: Annotated[str, typer.Option("--profile", metavar="NAME", help="default, or exod2 for comparison.")] = (
        "default"
    )
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file that overrides the profile.")
    ] = None
    views: Annotated[
        list[str] | None,
        typer.Option(
            "--view",
            metavar="DT:LO-HI",
            help="Frame length (s) and band (keV), as 5:0.2-12. Repeat for more. Default: the profile's nine.",
        ),
    ] = None
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="What computes: auto (the fastest that works here), cuda, numba or numpy; all give the same. "
            "See xscan doctor.",
        ),
    ] = "auto"
    hot_pixels: Annotated[
        Path | None,
        typer.Option(
            "--hot-pixels",
            metavar="DIR",
            help="Folder of your tables of hot pixels: hotpix_PN.csv, hotpix_M1.csv, hotpix_M2.csv.",
        ),
    ] = None

    def settings(self) -> ScanSettings:
        """Return the settings of a scan, read and checked."""
        from xscan.api import scan_settings

        return scan_settings(self.profile, self.config, self.views or (), self.hot_pixels, self.backend)


@dataclasses.dataclass(frozen=True, slots=True)
class ExecutorGroup:
    """Where to search; at most one of them is given."""

    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Worker processes on this machine.")
    ] = None
    gpus: Annotated[
        str | None, typer.Option("--gpus", metavar="N|all", help="A worker process for each of N CUDA devices.")
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="Use a Dask cluster that exists: tcp://host:8786."),
    ] = None

    def options(self) -> ExecutorOptions:
        """Return where to search."""
        from xscan.pipeline.executor import ExecutorOptions

        return ExecutorOptions(**dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, slots=True)
class LimitedExecutorGroup(ExecutorGroup):
    """Where to search, and what a worker may take for one observation."""

    time_limit_s: Annotated[
        float | None,
        typer.Option("--time-limit", metavar="S", min=1, help="Give up an observation after S seconds. Default: 1800."),
    ] = None
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit", metavar="SIZE", help="Of each worker, as 4GB. Default: an equal share of the machine's."
        ),
    ] = None


_GROUPS = (ScanGroup, ExecutorGroup, LimitedExecutorGroup)


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups of options in place of the groups."""
    types = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in types.items() if kind in _GROUPS}

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        command(**given)

    parameters = list(_parameters(command, types))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters(command: Callable[..., None], types: dict[str, Any]) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a command, with the fields of a group at the group's place."""
    for name, parameter in inspect.signature(command).parameters.items():
        kind = types[name]
        if kind not in _GROUPS:
            yield parameter.replace(annotation=kind, kind=parameter.KEYWORD_ONLY)
            continue
        of_fields = get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            yield inspect.Parameter(
                field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=of_fields[field.name]
            )
