"""What a person says of an agent, and keeps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock_coordinator.core.fleet.pauses import PausedAgents

if TYPE_CHECKING:
    from penstock_coordinator.ports import AgentRegistry


class AgentPauses(PausedAgents):
    """With the rows, which outlive this coordinator."""

    def __init__(self, registry: AgentRegistry) -> None:
        super().__init__()
        self._registry = registry
        self._turn = asyncio.Lock()

    async def change(self, agent: str, *, paused: bool) -> bool:
        """Whether there is such an agent. Raises `Unavailable`."""
        async with self._turn:
            self.begin_change(agent)
            known = False
            try:
                known = await self._registry.set_paused(agent, paused=paused)
            finally:
                self.end_change(agent, paused if known else None)
            return known
