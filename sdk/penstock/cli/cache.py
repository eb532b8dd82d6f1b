"""`cache`: look at the values that steps are answered from, and delete them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.run_ids import find_run
from penstock.cli.session import EXIT_OK, Session, command_options, confirm, run_async

if TYPE_CHECKING:
    from penstock.client.client import Client
    from penstock.v1 import cache_service_pb2


@click.group()
def cache() -> None:
    """Values that steps with a cache policy are answered from: see them, or delete them."""


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose entries, as one mapping."""
    options = (
        click.option("--pipeline", default="", metavar="NAME", help="Only those of this pipeline."),
        click.option("--step", default="", metavar="STEP", help="Only those of steps of this name."),
        click.option("--run", "run_id", default="", metavar="RUN", help="Only those that this run computed."),
        click.option("--key", default="", metavar="KEY", help="Only those of this key, or of keys that begin so."),
    )

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        chosen = {name: kwargs.pop(name) for name in ("pipeline", "step", "run_id", "key")}
        return command(*args, chosen=chosen, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@cache.command("list")
@selecting
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@command_options
def list_entries(session: Session, chosen: dict[str, Any], limit: int) -> None:
    """List the values, the newest first."""

    async def main() -> None:
        entries: list[cache_service_pb2.CacheEntry] = []
        async with session.client() as client:
            await _resolve(client, chosen)
            async for entry in client.cache.list(**chosen):
                entries.append(entry)
                if len(entries) == limit:
                    break
        _show(session, entries)

    run_async(main)


@cache.command("show")
@click.argument("entry_id", metavar="ENTRY")
@command_options
def show_entry(session: Session, entry_id: str) -> None:
    """Show a value, and where it came from."""

    async def main() -> None:
        async with session.client() as client:
            entry = await client.cache.get(entry_id)
        if session.as_json:
            session.emit(entry)
            return
        from penstock.cli.foreign_text import visible_json
        from penstock.cli.tables import time_text

        facts = (
            ("entry", entry.id),
            ("key", entry.key),
            ("step", f"{entry.display_name} of {entry.pipeline}"),
            ("run", f"{entry.run_id}, attempt {entry.attempt}"),
            ("computed", time_text(entry, "create_time")),
            ("expires", time_text(entry, "expire_time")),
            ("artifacts", ", ".join(entry.artifacts)),
            ("size", f"{entry.size_bytes:,} bytes"),
            ("value", visible_json(entry.output_json)),
        )
        for fact, value in facts:
            if value:
                session.console().print(f"{fact:<11}", value, sep="", markup=False)

    run_async(main)


@cache.command("delete")
@click.argument("entry_id", metavar="[ENTRY]", required=False)
@selecting
@click.option("--all", "everything", is_flag=True, help="All values: in the place of options.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@command_options
def delete_entries(session: Session, entry_id: str | None, chosen: dict[str, Any], everything: bool, yes: bool) -> None:
    """Delete values: one ENTRY, or those that the options choose. What was answered from them stays as it is."""
    if bool(entry_id) + any(chosen.values()) + everything != 1:
        raise click.UsageError(
            "Name one ENTRY, or choose some (--pipeline, --step, --run, --key), or take --all of them."
        )

    async def main() -> int:
        async with session.client() as client:
            await _resolve(client, chosen)
            if not yes and not entry_id:
                confirm("delete all values of the cache?" if everything else "delete the values that match?")
            deleted = await client.cache.delete(entry_id or "", **chosen, everything=everything)
        if session.as_json:
            from penstock.cli.session import emit_json

            emit_json({"deleted": deleted})
        session.say("1 value was deleted." if deleted == 1 else f"{deleted:,} values were deleted.")
        return EXIT_OK

    run_async(main)


async def _resolve(client: Client, chosen: dict[str, Any]) -> None:
    """A run may be named by the end of its id, if it is there still."""
    if chosen["run_id"]:
        chosen["run_id"] = await find_run(client, chosen["run_id"])


def _show(session: Session, entries: list[cache_service_pb2.CacheEntry]) -> None:
    if session.as_json:
        for entry in entries:
            session.emit(entry)
        return
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import print_table, time_text

    if not entries:
        session.say("There is no such value.")
        return
    rows = [
        (
            entry.id,
            time_text(entry, "create_time"),
            entry.pipeline,
            entry.display_name,
            entry.run_id,
            f"{entry.size_bytes:,}",
            time_text(entry, "expire_time"),
            entry.key[:12],
        )
        for entry in entries
    ]
    columns = (
        "ENTRY",
        Column("COMPUTED", shorter=short_time, leaves=2),
        Column("PIPELINE", folds=12),
        Column("STEP", folds=12),
        Column("RUN", leaves=4),
        Column("BYTES", leaves=1),
        Column("EXPIRES", shorter=short_time, leaves=3, optional=True),
        Column("KEY", leaves=5),
    )
    print_table(session.console(), columns, rows)
