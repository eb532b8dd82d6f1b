"""What a person says of an agent counts, whatever a session that is opened meanwhile has read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from penstock_coordinator.runtime.agent_pauses import AgentPauses

if TYPE_CHECKING:
    from penstock_coordinator.ports import AgentRegistry


class SlowRegistry:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answered = asyncio.Event()

    async def set_paused(self, agent_id: str, *, paused: bool) -> bool:
        self.asked.set()
        await self.answered.wait()
        return agent_id != "never"


def made() -> tuple[AgentPauses, SlowRegistry]:
    registry = SlowRegistry()
    return AgentPauses(cast("AgentRegistry", registry)), registry


async def test_a_row_is_believed_when_nobody_says_otherwise() -> None:
    pauses, _ = made()
    for paused in (True, False):
        pauses.read("a", pauses.mark("a"), paused=paused)
        assert ("a" in pauses) is paused


async def test_what_was_read_before_or_during_a_change_is_not_believed() -> None:
    pauses, registry = made()
    before = pauses.mark("a")
    changing = asyncio.create_task(pauses.change("a", paused=True))
    await registry.asked.wait()
    during = pauses.mark("a")
    pauses.read("a", before, paused=False)
    pauses.read("a", during, paused=False)
    registry.answered.set()
    assert await changing
    assert "a" in pauses
    for mark in (before, during):
        pauses.read("a", mark, paused=False)
        assert "a" in pauses
    pauses.read("a", pauses.mark("a"), paused=False)
    assert "a" not in pauses


async def test_of_an_agent_that_is_not_there_nothing_is_kept() -> None:
    pauses, registry = made()
    registry.answered.set()
    assert not await pauses.change("never", paused=True)
    assert "never" not in pauses
