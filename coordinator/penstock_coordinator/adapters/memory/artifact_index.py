"""Port `ArtifactIndex` in memory."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.database import FIRST_STATE_AT_REST
from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import Artifact, ArtifactFilter, ArtifactPlace, ArtifactUse, OldArtifacts, RunId, UseRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from penstock_coordinator.adapters.memory.database import MemoryDatabase
    from penstock_coordinator.ports import Record


class MemoryArtifactIndex:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def list_artifacts(
        self, where: ArtifactFilter, limit: int, after: ArtifactPlace | None = None
    ) -> list[Artifact]:
        await reached(self._database)
        found = sorted(
            (each for each in self._all() if _matches(each, where)), key=lambda each: each.place, reverse=True
        )
        return [self._numbered(each) for each in found if after is None or each.place < after][:limit]

    async def get(self, run_id: RunId, seq: int, position: int) -> Artifact | None:
        await reached(self._database)
        found = self._database.artifacts.get(run_id, {}).get((seq, position))
        return None if found is None else self._numbered(found)

    async def known(self, digests: Collection[str]) -> set[str]:
        await reached(self._database)
        return {each.row.digest for each in self._all()} & set(digests)

    async def needed(self, digests: Collection[str]) -> set[str]:
        known = await self.known(digests)
        return known | self._held_digests() & set(digests)

    async def of_run(self, run_id: RunId, digests: Collection[str]) -> set[str]:
        await reached(self._database)
        made = {each.row.digest for each in self._database.artifacts.get(run_id, {}).values()}
        given = {each.row.digest for each in self._database.artifact_uses.get(run_id, {}).values()}
        return (made | given) & set(digests)

    async def add_uses(self, uses: Sequence[tuple[RunId, UseRow]]) -> None:
        await reached(self._database)
        for run_id, row in uses:
            _add_use(self._database, run_id, row)

    async def uses_of(self, run_id: RunId, step: int, item: int, token: int) -> list[ArtifactUse]:
        await reached(self._database)
        kept = self._database.artifact_uses.get(run_id, {})
        return [self._numbered_use(kept[key]) for key in sorted(kept) if key[:3] == (step, item, token)]

    async def users_of(self, digests: Collection[str], limit: int) -> list[ArtifactUse]:
        await reached(self._database)
        found = [each for each in self._uses() if each.row.digest in digests and each.row.work.step >= 0]
        return [self._numbered_use(each) for each in sorted(found, key=_use_place)[:limit]]

    async def makers_of(self, digests: Collection[str], limit: int) -> list[Artifact]:
        await reached(self._database)
        found = [each for each in self._all() if each.row.digest in digests]
        return [self._numbered(each) for each in sorted(found, key=lambda each: each.place, reverse=True)[:limit]]

    async def made_by(self, run_id: RunId, step: int, item: int, token: int) -> list[Artifact]:
        await reached(self._database)
        kept = self._database.artifacts.get(run_id, {})
        found = [kept[key] for key in sorted(kept)]
        works = ((each, each.row.work) for each in found)
        return [
            self._numbered(each) for each, work in works if (work.step, work.item, work.token) == (step, item, token)
        ]

    async def old(self, which: OldArtifacts, limit: int) -> list[tuple[RunId, int, int]]:
        await reached(self._database)
        held = self._held_digests()
        found = sorted((each for each in self._all() if self._is_old(each, which)), key=lambda each: each.place)
        free = [each for each in found if not self._is_held(each.run_id) and each.row.digest not in held]
        return [(each.run_id, each.row.seq, each.row.position) for each in free[:limit]]

    async def count_old(self, which: OldArtifacts) -> int:
        return len(await self.old(which, sys.maxsize))

    async def remove(self, artifacts: Sequence[tuple[RunId, int, int]]) -> int:
        await reached(self._database)
        count = 0
        for run_id, seq, position in artifacts:
            kept = self._database.artifacts.get(run_id, {})
            count += kept.pop((seq, position), None) is not None
            if not kept:
                self._database.artifacts.pop(run_id, None)
        return count

    def _is_old(self, found: Artifact, which: OldArtifacts) -> bool:
        row = found.row
        if (which.pipeline and row.work.pipeline != which.pipeline) or row.work.pipeline in which.other_than:
            return False
        if which.made_before is not None and row.at >= which.made_before:
            return False
        return not which.beyond or self._newer(found) >= which.beyond

    def _newer(self, found: Artifact) -> int:
        return sum(1 for each in self._all() if _series(each) == _series(found) and each.place > found.place)

    def _held_digests(self) -> set[str]:
        """What live runs were given, and what the cache has."""
        given = {each.row.digest for each in self._uses() if self._is_held(each.run_id)}
        return given.union(*(each.row.artifacts for each in self._database.cache_entries.values()))

    def _is_held(self, run_id: RunId | None) -> bool:
        """The run is live, or one that it is a step of, however far up."""
        while run_id is not None and (row := self._database.runs.get(run_id)) is not None:
            if row.state < FIRST_STATE_AT_REST:
                return True
            run_id = None if row.origin.parent is None else row.origin.parent.run_id
        return False

    def _all(self) -> Iterator[Artifact]:
        return (each for kept in self._database.artifacts.values() for each in kept.values())

    def _uses(self) -> Iterator[ArtifactUse]:
        return (each for kept in self._database.artifact_uses.values() for each in kept.values())

    def _numbered(self, found: Artifact) -> Artifact:
        work = found.row.work
        return dataclasses.replace(found, version_number=self._number(work.pipeline, work.version_digest))

    def _numbered_use(self, found: ArtifactUse) -> ArtifactUse:
        work = found.row.work
        return dataclasses.replace(found, version_number=self._number(work.pipeline, work.version_digest))

    def _number(self, pipeline: str, digest: str) -> int:
        kept = self._database.pipelines.get(pipeline)
        versions = [] if kept is None else kept.versions
        return next((each.number for each in versions if each.digest == digest), 0)


def _matches(found: Artifact, where: ArtifactFilter) -> bool:
    row = found.row
    wanted = (
        (where.run_id, found.run_id),
        (where.step, row.work.step_name),
        (where.digest, row.digest),
        (where.pipeline, row.work.pipeline),
        (where.name, row.name),
    )
    return not any(want and want != has for want, has in wanted)


def _made_by(found: Artifact, step: int, item: int, token: int) -> bool:
    work = found.row.work
    return (work.step, work.item, work.token) == (step, item, token)


def _series(found: Artifact) -> tuple[str, str, str]:
    return found.row.work.pipeline, found.row.work.step_name, found.row.name


def _use_place(found: ArtifactUse) -> tuple[int, RunId, int, int, int, str, str]:
    work = found.row.work
    return found.row.at, found.run_id, work.step, work.item, work.token, found.row.input, found.row.digest


def _add_use(database: MemoryDatabase, run_id: RunId, row: UseRow) -> None:
    work = row.work
    key = (work.step, work.item, work.token, row.input, row.digest)
    database.artifact_uses.setdefault(run_id, {}).setdefault(key, ArtifactUse(run_id, row, 0))


def project_artifacts(database: MemoryDatabase, record: Record) -> None:
    """What a stored record says of artifacts."""
    for row in record.artifacts:
        kept = database.artifacts.setdefault(record.run_id, {})
        kept[row.seq, row.position] = Artifact(record.run_id, row, 0)
    for use in () if record.new_run is None else record.new_run.uses:
        _add_use(database, record.run_id, use)
