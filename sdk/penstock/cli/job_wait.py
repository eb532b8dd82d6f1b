"""Waiting for a bulk job: on a terminal people are told what for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import Console

    from penstock.v1 import bulk_service_pb2

SILENT = 2.0
"""Seconds: what is over sooner needs no words."""
LOOK_EVERY = 1.0


async def end_of(
    job_id: str,
    ended: Awaitable[bulk_service_pb2.BulkJob],
    look: Callable[[], Awaitable[bulk_service_pb2.BulkJob]],
    console: Console | None,
    silent: float = SILENT,
) -> bulk_service_pb2.BulkJob:
    """The job, when `ended` gives it. `console`: where to tell how far it is; None: nowhere."""
    waiting = asyncio.ensure_future(ended)
    try:
        await asyncio.wait({waiting}, timeout=silent)
        if not waiting.done() and console is not None and console.is_terminal:
            await _tell(job_id, waiting, look, console)
        return await waiting
    except asyncio.CancelledError:
        waiting.cancel()
        click.echo(f"\nThe job goes on: penstock bulk get {job_id}   Stop it: penstock bulk stop {job_id}", err=True)
        raise


async def _tell(
    job_id: str,
    waiting: asyncio.Future[bulk_service_pb2.BulkJob],
    look: Callable[[], Awaitable[bulk_service_pb2.BulkJob]],
    console: Console,
) -> None:
    text = f"Waiting for the job {job_id} to go through its runs"
    with console.status(text) as status:
        while not waiting.done():
            try:
                status.update(f"{text}: {progress_text(await look())}")
            except PenstockError:
                status.update(f"{text}; nobody answers just now")
            await asyncio.wait({waiting}, timeout=LOOK_EVERY)


def progress_text(job: bulk_service_pb2.BulkJob) -> str:
    parts = [f"{job.seen_count:,} seen", f"{job.done_count:,} done"]
    if job.failed_count:
        parts.append(f"{job.failed_count:,} refused")
    return ", ".join(parts)
