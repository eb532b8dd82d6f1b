"""A watched step that stays READY is explained by itself."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from tests.unit.sdk.test_live_view import change, drawn, event, progress_of

from penstock.cli.progress import RunProgress, StepProgress
from penstock.cli.unserved import in_short, tell_waits
from penstock.errors import UnavailableError
from penstock.v1 import run_service_pb2

WHY = 'No agent is connected. It needs an agent that serves the queue "special".'


def explained(step: str, kind: str = "NoAgent", message: str = WHY) -> run_service_pb2.ExplainRunResponse:
    reason = run_service_pb2.Reason(kind=kind, message=message)
    return run_service_pb2.ExplainRunResponse(steps=[run_service_pb2.StepExplanation(step=step, reasons=[reason])])


async def told(
    progress: RunProgress, *script: run_service_pb2.Event | run_service_pb2.ExplainRunResponse | Exception | None
) -> list[tuple[str, str]]:
    """Plays one entry per pause: an event that comes in it, and the answer to what is asked after it."""
    said: list[tuple[str, str]] = []
    left = deque(script)
    answer: list[run_service_pb2.ExplainRunResponse | Exception] = []

    async def pause() -> None:
        if not left:
            raise asyncio.CancelledError
        entry = left.popleft()
        answer.clear()
        if isinstance(entry, run_service_pb2.Event):
            progress.apply(entry)
        elif entry is not None:
            answer.append(entry)

    async def explain() -> run_service_pb2.ExplainRunResponse:
        assert answer, "nobody was to ask"
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    def tell(step: StepProgress, why: str) -> None:
        said.append((step.name, why))

    with suppress(asyncio.CancelledError):
        await tell_waits(progress, explain, tell, pause)
    return said


async def test_what_stays_ready_is_told_once() -> None:
    progress = progress_of(event(1, change("work", "READY")))
    assert await told(progress, None, explained("work"), explained("work")) == [("work", WHY)]
    text = " ".join(drawn(progress).split())
    assert f"work READY waits: {WHY[:20]}" in text
    assert f"work: waits: {WHY}" in " ".join(drawn(progress, width=80).split())


def test_in_a_table_it_is_said_what_is_needed() -> None:
    assert in_short(WHY) == 'No agent can run it: it needs one that serves the queue "special".'
    assert in_short("All are busy.") == "All are busy."


async def test_what_was_ready_for_a_moment_is_not_asked_about() -> None:
    progress = progress_of(event(1, change("work", "READY")))
    assert await told(progress, None, event(2, change("work", "RUNNING")), None) == []


async def test_a_step_that_runs_at_last_waits_for_nothing() -> None:
    progress = progress_of(event(1, change("work", "READY")))
    await told(progress, None, explained("work"))
    progress.apply(event(2, change("work", "RUNNING")))
    assert progress.steps["work"].waits_for == ""


async def test_items_of_which_none_runs_wait() -> None:
    progress = progress_of(event(1, change("work", expanded_count=3)), event(2, change("work", "READY", item=[0])))
    assert await told(progress, None, explained("work", "AgentsBusy", "All are busy.")) == [("work", "All are busy.")]
    progress.apply(event(3, change("work", "RUNNING", item=[0])))
    assert progress.steps["work"].waits_for == ""


async def test_a_coordinator_that_is_away_and_other_reasons_are_no_news() -> None:
    progress = progress_of(event(1, change("work", "READY")))
    assert await told(progress, None, UnavailableError("away"), explained("work", "Queued", "soon")) == []
