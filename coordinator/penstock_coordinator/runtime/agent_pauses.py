"""Which agents a person has paused."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.ports import AgentRegistry


class AgentPauses:
    """The rows are the truth; what is known of connected agents is kept in memory. A session that is opened while
    somebody pauses its agent, or lets it go on, may have read either: what the person said counts."""

    def __init__(self, registry: AgentRegistry) -> None:
        self._registry = registry
        self._paused: set[str] = set()
        self._turn = asyncio.Lock()
        self._changes: Counter[str] = Counter()
        """Begun and ended, by agent."""

    def __contains__(self, agent: str) -> bool:
        return agent in self._paused

    def mark(self, agent: str) -> int:
        """To be asked for before the row is read. Odd while it is being changed."""
        return self._changes[agent]

    def read(self, agent: str, mark: int, *, paused: bool) -> None:
        """What the row said, if nobody has changed it meanwhile."""
        if mark % 2 == 0 and mark == self._changes[agent]:
            self._note(agent, paused=paused)

    async def change(self, agent: str, *, paused: bool) -> bool:
        """Whether there is such an agent. Raises `Unavailable`."""
        async with self._turn:
            self._changes[agent] += 1
            try:
                known = await self._registry.set_paused(agent, paused=paused)
            finally:
                self._changes[agent] += 1
            if known:
                self._note(agent, paused=paused)
            return known

    def _note(self, agent: str, *, paused: bool) -> None:
        if paused:
            self._paused.add(agent)
        else:
            self._paused.discard(agent)
