"""Port `AgentRegistry`. What an agent says of itself is one packed column: nothing is looked up by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.ports import AgentRow, LinkRow, OpenedSession

if TYPE_CHECKING:
    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("agents")


class _Description(msgspec.Struct):
    boot_id: str
    version: str
    hostname: str
    queues: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    resources: tuple[tuple[str, float], ...]
    slots: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Description).decode


class PostgresAgentRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_session(self, agent: AgentRow) -> OpenedSession:
        description = _encode(
            _Description(
                agent.boot_id,
                agent.version,
                agent.hostname,
                agent.queues,
                agent.labels,
                agent.resources,
                agent.slots,
            )
        )
        row: asyncpg.Record | None = None
        while row is None:  # the first two sessions of a new agent at once: the one that lost the race draws again
            row = await self._database.fetch_row(
                _QUERIES["open_session"], agent.agent_id, agent.connect_time, description
            )
        return OpenedSession(row["session_epoch"], row["paused"])

    async def open_link(self, agent_id: str, coordinator_id: str, boot_id: str) -> int:
        number: int | None = None
        while number is None:  # as there
            number = await self._database.fetch_value(_QUERIES["open_link"], agent_id, coordinator_id, boot_id)
        return number

    async def list_links(self, limit: int, after: tuple[str, str] = ("", "")) -> list[LinkRow]:
        return [LinkRow(*row) for row in await self._database.fetch(_QUERIES["list_links"], *after, limit)]

    async def close_session(self, agent_id: str, session_epoch: int) -> None:
        if storable(agent_id):
            await self._database.fetch(_QUERIES["close_session"], agent_id, session_epoch)

    async def set_paused(self, agent_id: str, *, paused: bool) -> bool:
        if not storable(agent_id):
            return False
        return bool(await self._database.fetch(_QUERIES["set_paused"], agent_id, paused))

    async def get_agent(self, agent_id: str) -> AgentRow | None:
        if not storable(agent_id):
            return None
        row = await self._database.fetch_row(_QUERIES["get"], agent_id)
        return None if row is None else _agent(row)

    async def list_agents(self, limit: int, after: str = "") -> list[AgentRow]:
        if not storable(after):
            return []
        return [_agent(row) for row in await self._database.fetch(_QUERIES["list"], after, limit)]


def _agent(row: asyncpg.Record) -> AgentRow:
    description = _decode(row["description"])
    return AgentRow(
        agent_id=row["agent_id"],
        session_epoch=row["session_epoch"],
        boot_id=description.boot_id,
        version=description.version,
        hostname=description.hostname,
        queues=description.queues,
        labels=description.labels,
        resources=description.resources,
        slots=description.slots,
        connect_time=row["connect_time"],
        goodbye=row["goodbye"],
        paused=row["paused"],
    )
