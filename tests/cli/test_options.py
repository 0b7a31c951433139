from __future__ import annotations

import inspect

import pytest
import typer
from helpers.command import run

from xscan.cli.app import app
from xscan.cli.options import LimitedExecutorGroup, ScanGroup, takes_groups
from xscan.errors import ConfigError
from xscan.pipeline.executor import ExecutorOptions

SCAN = {"--profile", "--config", "--view", "--backend", "--hot-pixels"}
EXECUTOR = {"--workers", "--gpus", "--scheduler"}
LIMITS = {"--time-limit", "--memory-limit"}


@pytest.mark.parametrize(
    ("command", "shared"),
    [
        ("scan", SCAN),
        ("archive", SCAN | EXECUTOR | LIMITS),
        ("plan", SCAN | EXECUTOR),
        ("reprocess", SCAN | EXECUTOR | LIMITS),
    ],
)
def test_commands_share_options(command: str, shared: set[str]) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options, others = ({param.opts[0]: param for param in commands[name].params} for name in (command, "archive"))
    assert options.keys() & (SCAN | EXECUTOR | LIMITS) == shared
    for name in shared:
        one, other = options[name], others[name]
        assert (one.help, one.metavar, one.default) == (other.help, other.metavar, other.default)


got: list[object] = []


def command(*, n: int = 3, options: ScanGroup, executor: LimitedExecutorGroup) -> None:
    """Do nothing."""
    got[:] = [n, options, executor]


def test_a_group_arrives_as_one_object() -> None:
    taking = takes_groups(command)
    names = [*ScanGroup.__dataclass_fields__, *LimitedExecutorGroup.__dataclass_fields__]
    assert list(inspect.signature(taking).parameters) == ["n", *names]
    given = dict.fromkeys(names) | {"profile": "exod2", "backend": "numpy", "workers": 2, "time_limit_s": 7.0}
    taking(n=4, **given)
    n, options, executor = got
    assert n == 4
    assert isinstance(options, ScanGroup)
    assert options.settings().profile == "exod2"
    assert isinstance(executor, LimitedExecutorGroup)
    assert executor.options() == ExecutorOptions(workers=2, time_limit_s=7.0)


@pytest.mark.parametrize(
    ("command", "typed", "says"),
    [
        ("archive", "--source", "--source (Possible options: --from)"),  # its name before
        ("fetch", "--source", "--source (Possible options: --from)"),
        ("scan", "--source", "--source (Possible options: --sources)"),
        ("scan", "--plots", "--plots (Possible options: --plot)"),
        ("archive", "--retry", "--retry (Possible options: --retry-failed)"),
        ("scan", "--backnd", "--backnd (Possible options: --backend)"),
        ("plan", "--source", "No such option: --source "),
    ],
)
def test_an_option_that_does_not_exist_is_guessed_well_or_not_at_all(command: str, typed: str, says: str) -> None:
    done = run(command, typed, "nxsa")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("Possible") == says.count("Possible")


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="5:2-1"):
        ScanGroup(views=["5:2-1"]).settings()
