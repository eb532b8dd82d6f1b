"""`janitor`: remove what is kept no longer, now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.v1 import janitor_service_pb2

_ROWS = {
    "runs": "runs, with those below",
    "events": "rows of journals",
    "step_runs": "step runs",
    "attempts": "attempts",
    "logs": "chunks of logs",
    "log_packs": "packs of logs in the artifact store",
    "log_blobs": "bytes of logs in the artifact store",
    "dead_letters": "dead letters, with their runs",
    "artifacts": "artifacts",
    "artifact_uses": "notes of what steps were given",
    "objects": "bytes in the artifact store",
    "uploads": "uploads that never ended",
    "closed_letters": "dead letters that were closed",
    "cache_entries": "old values of the cache",
    "expired_entries": "expired values of the cache",
    "run_keys": "run keys",
    "requests": "request ids",
    "bulk_jobs": "bulk jobs",
    "pipelines": "deleted pipelines, their versions",
    "bundles": "unused code bundles",
    "notes": "notes of removed runs",
    "strays": "runs of which only rows were left",
}


@click.group()
def janitor() -> None:
    """Remove what is kept no longer. The coordinator does it by itself: `penstock server config` shows how long what is
    kept, and how often it looks."""


@janitor.command("run")
@click.option("--dry-run", is_flag=True, help="Only count.")
@command_options
def run_janitor(session: Session, dry_run: bool) -> None:
    """Remove it now, and tell how much it was."""

    async def main() -> None:
        async with session.client() as client:
            report = await client.run_janitor(dry_run=dry_run)
        _show(session, report)

    run_async(main)


def _show(session: Session, report: janitor_service_pb2.JanitorReport) -> None:
    if session.as_json:
        session.emit(report)
        return
    from penstock.cli.tables import print_table

    rows = [(label, f"{count:,}") for name, label in _ROWS.items() if (count := getattr(report, name))]
    if rows:
        print_table(session.console(), ("WHAT", "WOULD GO" if report.dry_run else "REMOVED"), rows)
    else:
        session.say("nothing would be removed" if report.dry_run else "nothing was removed")
    if report.adopted:
        found = "would go on" if report.dry_run else "go on"
        session.say(f"{report.adopted:,} live runs that nobody looked after {found}")
    for run_id in report.unrecoverable_run_ids:
        session.say(f"the live run {run_id} is set aside: it cannot be read, and the coordinator's log tells why")
    for coordinator, count in sorted(report.live_of_others.items()):
        session.say(f"{count:,} live runs are those of {coordinator}: they go on when it is started on its data folder")
