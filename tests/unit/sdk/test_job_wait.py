"""What a person is told who waits for a job."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from penstock.cli.job_wait import end_of
from penstock.v1 import bulk_service_pb2

JOB = bulk_service_pb2.BulkJob(id="job-1", seen_count=1_200, done_count=7, failed_count=2)


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    told = io.StringIO()
    return Console(file=told, force_terminal=terminal, width=200), told


async def waited(*, terminal: bool) -> str:
    """How much is told of a job that ends when it was looked at."""
    out, told = console(terminal=terminal)
    over: asyncio.Future[bulk_service_pb2.BulkJob] = asyncio.get_running_loop().create_future()

    async def look() -> bulk_service_pb2.BulkJob:
        over.set_result(JOB)
        return JOB

    if not terminal:
        asyncio.get_running_loop().call_later(0.05, over.set_result, JOB)
    assert await end_of("job-1", over, look, out, silent=0.01) is JOB
    return told.getvalue()


async def test_on_a_terminal_it_is_told_what_is_waited_for() -> None:
    told = await waited(terminal=True)
    assert "Waiting for the job job-1" in told


async def test_in_a_pipe_nothing_is() -> None:
    assert await waited(terminal=False) == ""


async def test_what_is_over_soon_needs_no_words() -> None:
    out, told = console(terminal=True)
    over: asyncio.Future[bulk_service_pb2.BulkJob] = asyncio.get_running_loop().create_future()
    over.set_result(JOB)
    assert await end_of("job-1", over, lambda: over, out) is JOB
    assert told.getvalue() == ""


async def test_who_gives_up_hears_that_the_job_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    never: asyncio.Future[bulk_service_pb2.BulkJob] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(end_of("job-1", never, lambda: never, None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert "penstock bulk get job-1" in capsys.readouterr().err
