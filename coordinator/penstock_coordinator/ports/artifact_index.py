"""Which artifacts there are, what made them, and what took them: rows of the database, never the bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import msgspec

from penstock_coordinator.ports.artifacts import Digest
from penstock_coordinator.ports.common import RunId

OF_RUN = -1
"""In place of a step."""


class WorkRow(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a step run, as rows of artifacts name it."""

    step: int
    item: int
    generation: int
    attempt: int
    token: int
    pipeline: str
    version_digest: str
    step_name: str
    display_name: str
    code_digest: str
    """Of the step's function; empty for commands."""


class ArtifactRow(msgspec.Struct, frozen=True, gc=False):
    """An artifact that a record brings with it."""

    seq: int
    """Of the event that it was committed with."""
    position: int
    """Among those of the event."""
    at: int
    work: WorkRow
    name: str
    digest: Digest
    size: int
    media_type: str
    kind: str
    codec: str
    metadata: bytes


class UseRow(msgspec.Struct, frozen=True, gc=False):
    """An attempt was given an artifact: an input of it refers to it. Or a run was, by a parameter: then the step of
    the work is `OF_RUN`, and the attempt and the token are 0."""

    at: int
    work: WorkRow
    input: str
    """Its name, or the parameter's."""
    digest: Digest


@dataclass(frozen=True, slots=True)
class Artifact:
    run_id: RunId
    row: ArtifactRow
    version_number: int
    """0: the version is not there any more."""

    @property
    def place(self) -> ArtifactPlace:
        return self.row.at, self.run_id, self.row.seq, self.row.position


@dataclass(frozen=True, slots=True)
class ArtifactUse:
    run_id: RunId
    row: UseRow
    version_number: int


ArtifactPlace: TypeAlias = tuple[int, RunId, int, int]
"""(at, run id, seq, position): lists are in descending order of it."""


@dataclass(frozen=True, slots=True)
class ArtifactFilter:
    """Empty: any. All that is given must match."""

    run_id: RunId | None = None
    step: str = ""
    """Its name in the specification."""
    digest: Digest = ""
    pipeline: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class OldArtifacts:
    """Artifacts of runs at rest that go; of these, those that meet all that is given."""

    made_before: int | None = None
    pipeline: str = ""
    other_than: tuple[str, ...] = ()
    """Pipelines."""
    beyond: int = 0
    """So many newer ones there are of the same pipeline, step and name."""


class ArtifactIndex(Protocol):
    """What records brought, and what steps were given. All methods raise `Unavailable`."""

    async def list_artifacts(
        self, where: ArtifactFilter, limit: int, after: ArtifactPlace | None = None
    ) -> list[Artifact]:
        """The newest first; those that come after the place."""

    async def get(self, run_id: RunId, seq: int, position: int) -> Artifact | None: ...

    async def known(self, digests: Collection[Digest]) -> set[Digest]:
        """Those of them that some artifact has."""

    async def needed(self, digests: Collection[Digest]) -> set[Digest]:
        """Those of them whose bytes must stay: `known`, what a live run was given, and what the cache has."""

    async def of_run(self, run_id: RunId, digests: Collection[Digest]) -> set[Digest]:
        """Those of them that the run made, or that it or a step of it was given."""

    async def add_uses(self, uses: Sequence[tuple[RunId, UseRow]]) -> None:
        """Durable when it returns. What is there already stays as it is."""

    async def uses_of(self, run_id: RunId, step: int, item: int, token: int) -> list[ArtifactUse]:
        """What the attempt was given, by the names of its inputs."""

    async def users_of(self, digests: Collection[Digest], limit: int) -> list[ArtifactUse]:
        """Attempts that were given any of these, the oldest first."""

    async def makers_of(self, digests: Collection[Digest], limit: int) -> list[Artifact]:
        """Artifacts with these digests, the newest first."""

    async def made_by(self, run_id: RunId, step: int, item: int, token: int) -> list[Artifact]:
        """By their places in the result."""

    # --- for the janitor

    async def old(self, which: OldArtifacts, limit: int) -> list[tuple[RunId, int, int]]:
        """The oldest first: (run id, seq, position). Never what a live run, or a run below one, made or was
        given, nor what the cache has."""

    async def count_old(self, which: OldArtifacts) -> int:
        """How many `old` would give in all."""

    async def remove(self, artifacts: Sequence[tuple[RunId, int, int]]) -> int:
        """How many there were."""
