"""Port `ArtifactIndex`, and the part of a commit that artifacts are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_coordinator.adapters.postgres.batch import packed_text, unpacked_text
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.ports import (
    Artifact,
    ArtifactFilter,
    ArtifactPlace,
    ArtifactRow,
    ArtifactUse,
    OldArtifacts,
    RunId,
    UseRow,
    WorkRow,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Connection, Database
    from penstock_coordinator.ports import Record

_QUERIES = load("artifacts")
_PAGE = 5_000
"""Rows of one statement."""


class PostgresArtifactIndex:
    def __init__(self, database: Database, reads: Database | None = None, background: Database | None = None) -> None:
        """`reads`: the share of the pool that people take; `background`: that of the janitor."""
        self._database = database
        self._reads = reads or database
        self._background = background or database

    async def list_artifacts(
        self, where: ArtifactFilter, limit: int, after: ArtifactPlace | None = None
    ) -> list[Artifact]:
        if not storable(where.step, where.digest, where.pipeline):
            return []
        wanted = (where.run_id, where.step or None, where.digest or None, where.pipeline or None)
        name = packed_text(where.name) if where.name else None
        place = after or (None, None, None, None)
        rows = await self._reads.fetch(_QUERIES["list"], *wanted, name, *place, limit)
        return [_artifact(row) for row in rows]

    async def get(self, run_id: RunId, seq: int, position: int) -> Artifact | None:
        row = await self._reads.fetch_row(_QUERIES["get"], run_id, seq, position)
        return None if row is None else _artifact(row)

    async def known(self, digests: Collection[str]) -> set[str]:
        return {row["digest"] for row in await self._database.fetch(_QUERIES["known"], list(digests))}

    async def needed(self, digests: Collection[str]) -> set[str]:
        return {row["digest"] for row in await self._background.fetch(_QUERIES["needed"], list(digests))}

    async def of_run(self, run_id: RunId, digests: Collection[str]) -> set[str]:
        return {row["digest"] for row in await self._database.fetch(_QUERIES["of_run"], run_id, list(digests))}

    async def add_uses(self, uses: Sequence[tuple[RunId, UseRow]]) -> None:
        for at in range(0, len(uses), _PAGE):
            await self._database.fetch(_QUERIES["insert_uses"], *_use_columns(uses[at : at + _PAGE]))

    async def uses_of(self, run_id: RunId, step: int, item: int, token: int) -> list[ArtifactUse]:
        return [_use(row) for row in await self._reads.fetch(_QUERIES["uses_of"], run_id, step, item, token)]

    async def users_of(self, digests: Collection[str], limit: int) -> list[ArtifactUse]:
        return [_use(row) for row in await self._reads.fetch(_QUERIES["users_of"], list(digests), limit)]

    async def makers_of(self, digests: Collection[str], limit: int) -> list[Artifact]:
        return [_artifact(row) for row in await self._reads.fetch(_QUERIES["makers_of"], list(digests), limit)]

    async def made_by(self, run_id: RunId, step: int, item: int, token: int) -> list[Artifact]:
        return [_artifact(row) for row in await self._reads.fetch(_QUERIES["made_by"], run_id, step, item, token)]

    async def old(self, which: OldArtifacts, limit: int) -> list[tuple[RunId, int, int]]:
        rows = await self._background.fetch(_QUERIES["old"], *_wanted(which), limit)
        return [(row["run_id"], row["seq"], row["position"]) for row in rows]

    async def count_old(self, which: OldArtifacts) -> int:
        count: int = await self._background.fetch_value(_QUERIES["count_old"], *_wanted(which))
        return count

    async def remove(self, artifacts: Sequence[tuple[RunId, int, int]]) -> int:
        columns = ([each[place] for each in artifacts] for place in range(3))
        count: int = await self._background.fetch_value(_QUERIES["remove"], *columns)
        return count


def _wanted(which: OldArtifacts) -> tuple[Any, ...]:
    return which.made_before, which.pipeline or None, list(which.other_than), which.beyond


def _work(row: asyncpg.Record) -> WorkRow:
    return WorkRow(
        step=row["step"],
        item=row["item"],
        generation=row["generation"],
        attempt=row["attempt"],
        token=row["token"],
        pipeline=row["pipeline"],
        version_digest=row["version_digest"],
        step_name=row["step_name"],
        display_name=row["display_name"],
        code_digest=row["code_digest"],
    )


def _artifact(row: asyncpg.Record) -> Artifact:
    made = ArtifactRow(
        seq=row["seq"],
        position=row["position"],
        at=row["at"],
        work=_work(row),
        name=unpacked_text(row["name"]),
        digest=row["digest"],
        size=row["size"],
        media_type=unpacked_text(row["media_type"]),
        kind=row["kind"],
        codec=unpacked_text(row["codec"]),
        metadata=row["metadata"],
    )
    return Artifact(row["run_id"], made, row["version_number"])


def _use(row: asyncpg.Record) -> ArtifactUse:
    return ArtifactUse(row["run_id"], UseRow(row["at"], _work(row), row["input"], row["digest"]), row["version_number"])


# --- with the commit


def has_artifacts(records: Iterable[Record]) -> bool:
    """Whether the records bring any, or are given any: nothing is asked for the others."""
    return any(record.artifacts or (record.new_run is not None and record.new_run.uses) for record in records)


async def write_artifacts(connection: Connection, records: Iterable[Record]) -> None:
    """What stored records say of artifacts."""
    records = list(records)
    rows = [_row(record.run_id, each) for record in records for each in record.artifacts]
    if rows:
        await connection.execute(_QUERIES["insert"], *(list(column) for column in zip(*rows, strict=True)))
    uses = [(r.run_id, use) for r in records if r.new_run is not None for use in r.new_run.uses]
    if uses:
        await connection.execute(_QUERIES["insert_uses"], *_use_columns(uses))


def _row(run_id: RunId, row: ArtifactRow) -> list[Any]:
    return [
        *(run_id, row.seq, row.position, *_work_values(row.work), row.at, row.digest, packed_text(row.name), row.size),
        *(packed_text(row.media_type), row.kind, packed_text(row.codec), row.metadata),
    ]


def _work_values(work: WorkRow) -> tuple[Any, ...]:
    return (
        *(work.step, work.item, work.generation, work.attempt, work.token, work.pipeline, work.version_digest),
        *(work.step_name, work.display_name, work.code_digest),
    )


def _use_columns(uses: Iterable[tuple[RunId, UseRow]]) -> list[list[Any]]:
    rows = [[run_id, *_work_values(use.work), use.at, use.digest, use.input] for run_id, use in uses]
    return [list(column) for column in zip(*rows, strict=True)]
