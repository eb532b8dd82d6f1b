"""`config`: every setting with its value and where it comes from, of the client, a coordinator or an agent."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import click

from penstock.cli.processes import AGENT_MODULES, COORDINATOR_MODULES, require
from penstock.cli.session import EXIT_USAGE, Session, command_options, emit_json

PARTS = {
    "server": ("penstock_coordinator", "coordinator", COORDINATOR_MODULES),
    "agent": ("penstock_agent", "agent", AGENT_MODULES),
}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("part", type=click.Choice(["client", *PARTS]), default="client")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[FLAGS]...")
@command_options
def config(session: Session, part: str, flags: tuple[str, ...]) -> None:
    """Show every setting with its value and source: the client's, or a coordinator's (`config server`) or an agent's
    (`config agent`) as it would start here and now with the FLAGS. Secrets are masked. What is not allowed is named,
    and the exit code is 2."""
    from penstock.settings import config_file, shown_settings

    if part == "client":
        if flags:
            raise click.UsageError(f"There is no option {flags[0]}: `penstock --config FILE config` names a file.")
        shown = [asdict(setting) for setting in shown_settings(session.address)]
    else:
        shown = _told(part, flags if session.address is None else (*flags, "--address", session.address))
    if session.as_json:
        emit_json({"part": part, "configFile": str(config_file()), "settings": shown})
        return
    _print(session, shown)
    click.echo(f"configuration file: {config_file()}")


def _told(part: str, flags: tuple[str, ...]) -> list[dict[str, Any]]:
    """By a process of that part, which alone knows its settings. Ends this one if they are not allowed."""
    module, extra, needed = PARTS[part]
    require(f"config {part}", module, extra, needed)
    command = [sys.executable, "-P", "-m", module, "config", "--json", *flags]
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if asked.returncode:
        raise click.exceptions.Exit(asked.returncode)
    try:
        return [json.loads(line) for line in asked.stdout.splitlines()]
    except ValueError:  # --help is no list of settings
        click.echo(asked.stdout, nl=False)
        raise click.exceptions.Exit(EXIT_USAGE) from None


def _print(session: Session, shown: list[dict[str, Any]]) -> None:
    from penstock.cli.table_widths import Column
    from penstock.cli.tables import print_table

    rows = [(each["name"], each["value"], each["source"], each["description"]) for each in shown]
    columns = ("SETTING", Column("VALUE", folds=16), Column("SOURCE", folds=16), Column("MEANING", folds=20, leaves=1))
    print_table(session.console(), columns, rows)
