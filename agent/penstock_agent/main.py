"""`python -m penstock_agent`: read the settings, run the agent."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import click
import uvloop
from pydantic import ValidationError

from penstock_agent.containers.engine import NoEngine
from penstock_agent.executors.worker.children import adopt_orphans
from penstock_agent.resources.memory_groups import NoGroups
from penstock_agent.runtime import own_log
from penstock_agent.runtime.agent import run_agent
from penstock_agent.runtime.data_folder import FolderInUse
from penstock_agent.runtime.stream import IdInUse
from penstock_agent.settings import AgentSettings

USAGE_ERROR = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--address",
    help="host:port of a coordinator, or of several: host:port,host:port [PENSTOCK_ADDRESS; 127.0.0.1:7400]",
)
@click.option("--id", "id_", help="name of this agent; kept in the data folder when not given")
@click.option("--slots", type=int, help="attempts that run at once [the number of cores]")
@click.option("-q", "--queue", "queues", multiple=True, help="a queue to serve; may be repeated [default]")
@click.option("-l", "--label", "labels", multiple=True, metavar="NAME=VALUE", help="may be repeated")
@click.option("--resource", "resources", multiple=True, metavar="NAME=NUMBER", help="such as gpu=1; may be repeated")
@click.option("--gpus", metavar="0,1,…", help="devices that steps may be given; none: no device [all that are found]")
@click.option(
    "--container-engine", type=click.Choice(["auto", "docker", "podman", "none"]), help="for steps with an image [auto]"
)
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="folder of this agent alone")
@click.option("--drain-timeout", type=float, metavar="SECONDS", help="for running steps after SIGTERM [300]")
@click.option("--http-listen", metavar="HOST:PORT", help="of /metrics, /healthz and /readyz [none]")
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), help="of the agent's own log")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="of the agent's own log")
def main(
    id_: str | None, queues: tuple[str, ...], labels: tuple[str, ...], resources: tuple[str, ...], **given: Any
) -> None:
    """Run steps on this machine for a coordinator.

    Every option can also be set in the environment as PENSTOCK_AGENT_<NAME>; options win. SIGTERM drains: no new
    steps, and the process ends when those that run have ended; a second SIGTERM stops them.
    """
    chosen = {**given, "id": id_, "queues": list(queues), "labels": list(labels), "resources": list(resources)}
    settings = _settings({name: value for name, value in chosen.items() if value not in (None, [])})
    own_log.set_up(settings.log_format, settings.log_level)
    adopt_orphans()
    # What is alive now lives for ever: later collections need not look at it, and need not come so often.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    try:
        uvloop.run(run_agent(settings))
    except (FolderInUse, IdInUse, NoEngine, NoGroups, OSError) as error:
        click.echo(f"penstock agent: {error}", err=True)
        sys.exit(1)


def _settings(given: dict[str, Any]) -> AgentSettings:
    try:
        return AgentSettings(**given)
    except ValidationError as error:
        for each in error.errors():
            where = ".".join(map(str, each["loc"]))
            click.echo(f"penstock agent: {where}: {each['msg'].removeprefix('Value error, ')}", err=True)
        sys.exit(USAGE_ERROR)
