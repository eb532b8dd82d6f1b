"""Ports `PipelineStore`, `BundleStore`, `AgentRegistry` and `LogStore` in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.database import KeptPipeline, MemoryDatabase
from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.adapters.memory.run_index import remember, repetition
from penstock_coordinator.ports import (
    AgentRow,
    LinkRow,
    LogChunk,
    LogFilter,
    OpenedSession,
    PipelineRow,
    Repeated,
    RequestKey,
    RequestRow,
    RunId,
    VersionRow,
)
from penstock_coordinator.runtime.log_packing import is_meant

if TYPE_CHECKING:
    from collections.abc import Sequence


class MemoryPipelineStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def create_version(
        self, pipeline: str, digest: str, spec: bytes, step_count: int, now: int, request: RequestKey | None
    ) -> tuple[VersionRow, bool] | Repeated:
        await reached(self._database)
        found = None if request is None else repetition(self._database, request)
        if found is not None and not found.same:
            return found
        if found is not None:
            versions = self._database.pipelines[pipeline].versions
            return next(v for v in versions if v.digest == digest), found.answer == b"1"
        version, created = self._add(VersionRow(pipeline, 0, digest, spec, step_count, now))
        if request is not None:
            remember(self._database, RequestRow(request, b"1" if created else b"0"), now)
        return version, created

    def _add(self, fresh: VersionRow) -> tuple[VersionRow, bool]:
        kept = self._database.pipelines.setdefault(fresh.pipeline, KeptPipeline(fresh.create_time))
        kept.delete_time = None
        for version in kept.versions:
            if version.digest == fresh.digest:
                return version, False
        kept.latest += 1
        version = dataclasses.replace(fresh, number=kept.latest)
        kept.versions.append(version)
        return version, True

    async def get_pipeline(self, name: str) -> PipelineRow | None:
        kept = await self._there(name)
        return None if kept is None else PipelineRow(name, kept.create_time, kept.versions[-1])

    async def get_version(self, name: str, number: int) -> VersionRow | None:
        kept = await self._there(name)
        if kept is None:
            return None
        return next((version for version in kept.versions if version.number == (number or kept.latest)), None)

    async def version_by_digest(self, digest: str) -> VersionRow | None:
        await reached(self._database)
        every = (version for kept in self._database.pipelines.values() for version in kept.versions)
        return next((version for version in every if version.digest == digest), None)

    async def list_pipelines(self, limit: int, after: str = "") -> list[PipelineRow]:
        await reached(self._database)
        every = sorted(self._database.pipelines.items())
        there = [(name, kept) for name, kept in every if name > after and not kept.deleted]
        return [PipelineRow(name, kept.create_time, _listed(kept.versions[-1])) for name, kept in there[:limit]]

    async def list_versions(self, name: str, limit: int, before: int | None = None) -> list[VersionRow]:
        kept = await self._there(name)
        versions = [] if kept is None else kept.versions[: None if before is None else max(0, before - 1)]
        return [_listed(version) for version in reversed(versions)][:limit]

    async def delete_pipeline(self, name: str, now: int, request: RequestKey | None) -> bool | Repeated:
        kept = await self._there(name)
        if request is not None and (found := repetition(self._database, request)):
            return found.answer == b"1" if found.same else found
        if kept is not None:
            kept.delete_time = now
        if request is not None:
            remember(self._database, RequestRow(request, b"0" if kept is None else b"1"), now)
        return kept is not None

    async def _there(self, name: str) -> KeptPipeline | None:
        await reached(self._database)
        kept = self._database.pipelines.get(name)
        return None if kept is None or kept.deleted else kept


def _listed(version: VersionRow) -> VersionRow:
    return dataclasses.replace(version, spec=b"")


class MemoryBundleStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def present(self, digests: Sequence[str], now: int = 0) -> set[str]:
        await reached(self._database)
        found = set(digests) & self._database.bundles.keys()
        times = self._database.bundle_times
        times.update({digest: now for digest in found if times[digest] < now})
        return found

    async def put(self, digest: str, content: bytes, now: int) -> bool:
        await reached(self._database)
        new = digest not in self._database.bundles
        self._database.bundles.setdefault(digest, content)
        self._database.bundle_times.setdefault(digest, now)
        return new

    async def size(self, digest: str) -> int | None:
        await reached(self._database)
        content = self._database.bundles.get(digest)
        return None if content is None else len(content)

    async def read(self, digest: str, offset: int, length: int) -> bytes:
        await reached(self._database)
        return self._database.bundles.get(digest, b"")[offset : offset + length]


class MemoryAgentRegistry:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def open_session(self, agent: AgentRow) -> OpenedSession:
        await reached(self._database)
        self._database.last_session_epoch += 1
        epoch = self._database.last_session_epoch
        former = self._database.agents.get(agent.agent_id)
        paused = former is not None and former.paused
        self._database.agents[agent.agent_id] = dataclasses.replace(
            agent, session_epoch=epoch, goodbye=False, paused=paused
        )
        return OpenedSession(epoch, paused)

    async def open_link(self, agent_id: str, coordinator_id: str, boot_id: str) -> int:
        await reached(self._database)
        self._database.last_session_epoch += 1
        epoch = self._database.last_session_epoch
        self._database.agent_links[agent_id, coordinator_id] = LinkRow(agent_id, coordinator_id, epoch, boot_id)
        return epoch

    async def list_links(self, limit: int, after: tuple[str, str] = ("", "")) -> list[LinkRow]:
        await reached(self._database)
        return [row for key, row in sorted(self._database.agent_links.items()) if key > after][:limit]

    async def close_session(self, agent_id: str, session_epoch: int) -> None:
        await reached(self._database)
        agent = self._database.agents.get(agent_id)
        if agent is not None and agent.session_epoch == session_epoch:
            self._database.agents[agent_id] = dataclasses.replace(agent, goodbye=True)

    async def set_paused(self, agent_id: str, *, paused: bool) -> bool:
        await reached(self._database)
        agent = self._database.agents.get(agent_id)
        if agent is None:
            return False
        self._database.agents[agent_id] = dataclasses.replace(agent, paused=paused)
        return True

    async def get_agent(self, agent_id: str) -> AgentRow | None:
        await reached(self._database)
        return self._database.agents.get(agent_id)

    async def list_agents(self, limit: int, after: str = "") -> list[AgentRow]:
        await reached(self._database)
        return [row for agent_id, row in sorted(self._database.agents.items()) if agent_id > after][:limit]


class MemoryLogStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        await reached(self._database)
        for chunk in chunks:
            if not chunk.lines:
                continue
            kept = self._database.logs.setdefault(chunk.run_id, {})
            key = (chunk.step, chunk.item, chunk.attempt, chunk.lines[0].number)
            if key not in kept and not self._is_packed(chunk):
                self._database.last_position += 1
                kept[key] = dataclasses.replace(chunk, position=self._database.last_position)

    async def read_logs(self, run_id: RunId, where: LogFilter, after: int = 0, limit: int = 100) -> list[LogChunk]:
        return [chunk for chunk in await self._matching(run_id, where) if chunk.position > after][:limit]

    async def last_logs(self, run_id: RunId, where: LogFilter, limit: int) -> list[LogChunk]:
        return (await self._matching(run_id, where))[-limit:] if limit else []

    def _is_packed(self, chunk: LogChunk) -> bool:
        first = chunk.lines[0].number
        parts = (part for kept in self._database.log_packs.get(chunk.run_id, {}).values() for part in kept.parts)
        return any(
            (part.step, part.item, part.attempt) == (chunk.step, chunk.item, chunk.attempt)
            and part.first_number <= first <= part.last_number
            for part in parts
        )

    async def _matching(self, run_id: RunId, where: LogFilter) -> list[LogChunk]:
        await reached(self._database)
        kept = self._database.logs.get(run_id, {}).values()
        return sorted(
            (c for c in kept if is_meant(where, c.step, c.item, c.attempt, c.at)), key=lambda chunk: chunk.position
        )
