"""The rows of runs, to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from penstock_coordinator.ports.common import RunId
from penstock_coordinator.ports.requests import Repeated, RequestKey, RequestRow
from penstock_coordinator.ports.rows import AttemptRow, Origin, StepRunRow

ANY_GENERATION = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class RunRow:
    run_id: RunId
    pipeline: str
    version_number: int
    version_digest: str
    parameters: bytes
    labels: tuple[tuple[str, str], ...]
    trace_context: tuple[tuple[str, str], ...]
    owner: str
    state: int
    reason: str
    create_time: int
    start_time: int | None
    end_time: int | None
    summary: bytes | None
    last_seq: int = 0
    """The newest number in the journal; 0 in lists, where it is not looked up."""
    generation: int = 1
    origin: Origin = field(default_factory=Origin)
    output: bytes | None = None
    """None in lists."""


class RunOwner(NamedTuple):
    """Who may write a run, and how it stands: enough to know where to ask for it."""

    owner: str
    state: int


@dataclass(frozen=True, slots=True)
class RunFilter:
    pipeline: str = ""
    states: tuple[int, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    parent: RunId | None = None
    """Only the runs that are steps of this one."""
    run_key: str = ""
    top_level: bool = False
    """Only runs that are no step of another one."""


class RunIndex(Protocol):
    """The rows that records brought with them. All methods raise `Unavailable`."""

    async def get(self, run_id: RunId) -> RunRow | None: ...

    async def get_many(self, run_ids: Sequence[RunId]) -> list[RunRow]:
        """Those of them that are there, each once, in any order."""

    async def owners(self, run_ids: Sequence[RunId]) -> dict[RunId, RunOwner]:
        """Of those of them that are there."""

    async def list_runs(self, where: RunFilter, limit: int, before: RunId | None = None) -> list[RunRow]:
        """Newest first, of those older than `before`."""

    async def live_runs(self, owner: str) -> list[RunRow]:
        """All runs of the owner that are not at rest, oldest first."""

    async def count_live(self, pipeline: str) -> int: ...

    async def step_runs(
        self, run_id: RunId, first: tuple[int, int], last: tuple[int, int], generation: int = ANY_GENERATION
    ) -> list[StepRunRow]:
        """The rows from (step, item) `first` to `last`, both included, in order; of each the newest generation up to
        `generation`."""

    async def whole_steps(
        self, run_id: RunId, first: int, last: int, generation: int = ANY_GENERATION
    ) -> list[StepRunRow]:
        """As `step_runs`, of the steps `first` to `last`, both included, without those of items."""

    async def attempts(self, run_id: RunId, step: int, item: int) -> list[AttemptRow]:
        """Oldest first."""

    async def outputs(self, run_id: RunId, step: int, generation: int = ANY_GENERATION) -> list[tuple[int, bytes]]:
        """(item, output) of the step's COMPLETED step runs, by item; of each the newest generation up to `generation`
        counts."""

    async def outputs_size(self, run_id: RunId, step: int, generation: int = ANY_GENERATION) -> int:
        """How many bytes `outputs` gives."""

    async def find_request(self, scope: str, method: str, request_id: str) -> RequestRow | None: ...

    async def find_requests(self, keys: Sequence[RequestKey]) -> list[Repeated | None]:
        """Of each, in order, what it was answered before; None if it is new."""

    async def key_holders(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[RunId, int]]:
        """By (pipeline, run key) the newest run of it, and its state; only of those that have one."""

    async def remember_request(self, request: RequestRow, now: int) -> Repeated | None:
        """Keep a request that comes with no record, once. Repeated if it is there already."""
