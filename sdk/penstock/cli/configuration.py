"""`config`: every setting with its value and where it comes from."""

from __future__ import annotations

from dataclasses import asdict

import click

from penstock.cli.session import Session, command_options, emit_json


@click.command()
@command_options
def config(session: Session) -> None:
    """Show every setting with its value and source. Secrets are masked."""
    from penstock.settings import config_file, shown_settings

    shown = shown_settings(session.address)
    if session.as_json:
        emit_json({"configFile": str(config_file()), "settings": [asdict(setting) for setting in shown]})
        return
    from penstock.cli.table_widths import Column
    from penstock.cli.tables import print_table

    rows = [(setting.name, setting.value, setting.source, setting.description) for setting in shown]
    columns = ("SETTING", Column("VALUE", folds=16), Column("SOURCE", folds=16), Column("MEANING", folds=20, leaves=1))
    print_table(session.console(), columns, rows)
    click.echo(f"configuration file: {config_file()}")
