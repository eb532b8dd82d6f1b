"""The versions of a pipeline, as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from penstock.cli.session import Session
    from penstock.client.client import Client


async def list_versions(session: Session, client: Client, pipeline: str, limit: int) -> None:
    """Newest first."""
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import print_table, time_text

    if not pipeline:
        raise click.UsageError("Say of which pipeline: penstock list versions --pipeline NAME")
    rows = []
    async for version in client.list_versions(pipeline):
        if limit == 0:
            break
        limit -= 1
        if session.as_json:
            session.emit(version)
        name = f"{version.pipeline}@{version.number}"
        rows.append((name, version.digest[:12], str(version.step_count), time_text(version, "create_time")))
    if not session.as_json:
        columns = (Column("VERSION", folds=20), "DIGEST", "STEPS", Column("CREATED", shorter=short_time))
        print_table(session.console(), columns, rows)
