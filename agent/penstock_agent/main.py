"""`python -m penstock_agent`: read the settings, run the agent."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import uvloop

from penstock_agent import own_log
from penstock_agent.containers.engine import NoEngine
from penstock_agent.executors.worker.children import adopt_orphans
from penstock_agent.log_masking import hide, masked, secrets_of
from penstock_agent.resources.memory_groups import NoGroups
from penstock_agent.runtime.agent import run_agent
from penstock_agent.runtime.data_folder import FolderInUse, FolderUnusable
from penstock_agent.runtime.stream import IdInUse
from penstock_agent.settings import (
    AgentSettings,
    SettingsError,
    ShownSetting,
    load_settings,
    shown_settings,
    variables,
)

log = own_log.OwnLog(__name__)

USAGE_ERROR = 2
WITH_FLAGS_OF_THEIR_OWN = frozenset(
    [
        "address",
        "id",
        "slots",
        "queues",
        "labels",
        "resources",
        "gpus",
        "container_engine",
        "data_dir",
        "drain_timeout",
        "log_format",
        "log_level",
    ]
)

_Command = Callable[..., object]


def flags(command: _Command) -> _Command:
    """A flag for every setting, and --config."""
    for name, field in reversed(AgentSettings.model_fields.items()):
        if name not in WITH_FLAGS_OF_THEIR_OWN:
            flag = "--" + name.replace("_", "-")
            yes_or_no = f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag
            metavar = None if field.annotation is bool else "VALUE"
            text = f"{field.description} [{variables(name)[0]}]"
            command = click.option(yes_or_no, name, default=None, metavar=metavar, help=text)(command)
    for option in reversed(_FLAGS):
        command = option(command)
    return command


_FLAGS: tuple[Callable[[_Command], _Command], ...] = (
    click.option(
        "--config", "config_file", metavar="FILE", help="the configuration file, TOML with [agent] [PENSTOCK_CONFIG]"
    ),
    click.option(
        "--address",
        help="host:port of a coordinator, or of several: host:port,host:port [PENSTOCK_ADDRESS; 127.0.0.1:7400]",
    ),
    click.option("--id", help="name of this agent; kept in the data folder when not given"),
    click.option("--slots", type=int, help="attempts that run at once [the number of cores]"),
    click.option("-q", "--queue", "queues", multiple=True, help="a queue to serve; may be repeated [default]"),
    click.option("-l", "--label", "labels", multiple=True, metavar="NAME=VALUE", help="may be repeated"),
    click.option(
        "--resource", "resources", multiple=True, metavar="NAME=NUMBER", help="such as gpu=1; may be repeated"
    ),
    click.option(
        "--gpus", metavar="0,1,…", help="devices that steps may be given; none: no device [all that are found]"
    ),
    click.option(
        "--container-engine",
        type=click.Choice(["auto", "docker", "podman", "none"]),
        help="for steps with an image [auto]",
    ),
    click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="folder of this agent alone"),
    click.option("--drain-timeout", type=float, metavar="SECONDS", help="for running steps after SIGTERM [300]"),
    click.option("--log-format", type=click.Choice(["auto", "json", "console"]), help="of the agent's own log"),
    click.option("--log-level", metavar="LEVEL[,LOGGER=LEVEL]", help="of the agent's own log, such as debug [info]"),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@flags
def main(config_file: str | None, **given: Any) -> None:
    """Run steps on this machine for a coordinator.

    Every option can also be set in the environment as PENSTOCK_AGENT_<NAME>, and below [agent] of the configuration
    file; options win. SIGTERM drains: no new steps, and the process ends when those that run have ended; a second
    SIGTERM stops them. `config` in place of the options, or before them, shows all settings with their sources.
    """
    settings = _settings(_chosen(given), config_file)
    hide(secrets_of(os.environ))
    own_log.set_up(settings.log_format, settings.log_level)
    adopt_orphans()
    # What is alive now lives for ever: later collections need not look at it, and need not come so often.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    try:
        uvloop.run(run_agent(settings))
    except (FolderInUse, FolderUnusable, IdInUse, NoEngine, NoGroups, OSError) as error:
        click.echo(f"penstock agent: {masked(str(error))}", err=True)
        sys.exit(1)
    except Exception as error:
        log.error("stopped_by_a_fault", exc_info=error)
        sys.exit(1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="a JSON object per line")
@flags
def config(config_file: str | None, as_json: bool, **given: Any) -> None:
    """Show every setting with its source."""
    chosen = _chosen(given)
    for setting in shown_settings(_settings(chosen, config_file), chosen, config_file):
        click.echo(_line(setting, as_json=as_json))


def _line(setting: ShownSetting, *, as_json: bool) -> str:
    if not as_json:
        return f"{setting.variable}={setting.value}  ({setting.source}; {setting.description})"
    shown = {"name": setting.name, "variable": setting.variable, "value": setting.value}
    return json.dumps({**shown, "source": setting.source, "description": setting.description})


def _chosen(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value not in (None, ())
    }


def _settings(given: dict[str, Any], file: str | None) -> AgentSettings:
    try:
        return load_settings(given, file)
    except SettingsError as error:
        for line in str(error).splitlines():
            click.echo(f"penstock agent: {line}", err=True)
        sys.exit(USAGE_ERROR)
