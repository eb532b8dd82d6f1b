"""`server` and `agent`: this process becomes the coordinator or the agent."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from penstock.errors import PenstockError

# Modules of the extras' packages; one that is missing means that the extra is not installed.
COORDINATOR_MODULES = ("asyncpg", "sqlalchemy", "alembic", "aiohttp", "structlog", "re2", "grpc_health")
AGENT_MODULES = ("psutil", "uvloop")

_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def require(name: str, module: str, extra: str, needed: tuple[str, ...]) -> None:
    """Raises `PenstockError` that names the extra, if the module or one of those that it needs is not installed."""
    missing = [each for each in (module, *needed) if importlib.util.find_spec(each) is None]
    if missing:
        raise PenstockError(
            f"`penstock {name}` needs {', '.join(missing)}, which is not installed",
            remedy=f"pip install 'penstock[{extra}]'",
        )


def process_command(name: str, module: str, extra: str, needed: tuple[str, ...], text: str) -> click.Command:
    """A command that becomes `python -P -m module`; an error names the extra if a module of `needed` is missing."""

    def become(arguments: tuple[str, ...]) -> NoReturn:
        require(name, module, extra, needed)
        sys.stdout.flush()
        # Not from the working folder: a file there that is called as one of Python's modules would be imported.
        os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606  # no shell is wanted

    with_arguments: Callable[[Callable[..., object]], Callable[..., object]] = click.argument(
        "arguments", nargs=-1, type=click.UNPROCESSED
    )
    return click.command(name, help=text, context_settings=_PASS_THROUGH)(with_arguments(become))


server = process_command(
    "server",
    "penstock_coordinator",
    "coordinator",
    COORDINATOR_MODULES,
    "Run a coordinator: `python -P -m penstock_coordinator` with the same arguments.",
)
agent = process_command(
    "agent",
    "penstock_agent",
    "agent",
    AGENT_MODULES,
    "Run an agent: `python -P -m penstock_agent` with the same arguments.",
)
