"""Telling a person who watches why a step stays READY: nothing else would say that no agent can run it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.cli.progress import RunProgress, StepProgress
    from penstock.v1 import run_service_pb2

PAUSE = 3.0
"""A step that is READY at the begin and at the end of it is asked about."""
_TOLD = frozenset(
    {"NoAgent", "AgentsBusy", "AgentsDraining", "AgentsPaused", "AgentsLowOnDisk", "Concurrency", "Recovering"}
)
_NEEDS = "It needs an agent that "

Explain = Callable[[], Awaitable["run_service_pb2.ExplainRunResponse"]]
Tell = Callable[["StepProgress", str], None]


async def tell_waits(
    progress: RunProgress, explain: Explain, tell: Tell, pause: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Until it is cancelled: what steps that stay READY wait for, each reason once."""
    before: set[str] = set()
    while True:
        await (pause() if pause else asyncio.sleep(PAUSE))
        waiting = {step.name for step in progress.steps.values() if is_stuck(step)}
        if waiting & before:
            await _tell(progress, explain, tell, waiting & before)
        before = waiting


def is_stuck(step: StepProgress) -> bool:
    """Nothing of it runs, and something waits for an agent."""
    if step.item_count is None:
        return step.state == "READY"
    return step.counts["READY"] > 0 and step.counts["RUNNING"] == 0


async def _tell(progress: RunProgress, explain: Explain, tell: Tell, names: set[str]) -> None:
    try:
        explained = await explain()
    except PenstockError:
        # The stream of events says if the coordinator is away.
        return
    for name, why in reasons(explained):
        step = progress.steps.get(name)
        if step is not None and name in names and is_stuck(step) and step.waits_for != why:
            step.waits_for = why
            tell(step, why)


def in_short(why: str) -> str:
    """Without what each agent lacks: what is needed says it all."""
    _, needs, needed = why.rpartition(_NEEDS)
    return f"No agent can run it: it needs one that {needed}" if needs else why


def reasons(explained: run_service_pb2.ExplainRunResponse) -> Iterable[tuple[str, str]]:
    """The first reason of each step that waits for an agent or for a place."""
    told: dict[str, str] = {}
    for each in explained.steps:
        why = next((reason.message for reason in each.reasons if reason.kind in _TOLD), "")
        if why:
            told.setdefault(each.step, why)
    return told.items()
