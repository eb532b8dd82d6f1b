"""What the runtime needs from outside.

Instants are microseconds since 1970 (UTC), spans microseconds, run ids the 16 bytes of a UUIDv7. Every port has one
contract suite (tests/contract) that its real adapter and its fake both pass.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

RunId: TypeAlias = bytes


class Unavailable(Exception):
    """The dependency is away; nothing is known to have happened. Try again later."""


class Fenced(Exception):
    """A newer incarnation speaks for this coordinator id: nothing of the batch is stored. Stop."""


# --- journal -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Names a mutating call, so that its repetition answers the same."""

    scope: str
    """Who asks; "" until there are tenants."""
    method: str
    id: str
    digest: bytes
    """Of the call's content."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    key: RequestKey
    answer: bytes


@dataclass(frozen=True, slots=True)
class Parent:
    """The step run that a run is the sub-pipeline of."""

    run_id: RunId
    step: int
    item: int


@dataclass(frozen=True, slots=True)
class Origin:
    """How a run was asked for, beyond its pipeline and its parameters. Never changes."""

    priority: int = 0
    weight: float = 1.0
    run_key: str = ""
    parent: Parent | None = None
    depth: int = 0
    """How many runs are above it."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """The row that a run's first record brings with it."""

    pipeline: str
    version_number: int
    version_digest: str
    parameters: bytes
    labels: tuple[tuple[str, str], ...]
    trace_context: tuple[tuple[str, str], ...]
    create_time: int
    owner: str
    state: int
    """With all that the record itself made of the run: it may even be at rest already."""
    reason: str = ""
    start_time: int | None = None
    end_time: int | None = None
    summary: bytes | None = None
    origin: Origin = Origin()
    output: bytes | None = None


@dataclass(frozen=True, slots=True)
class RunChange:
    """What a record changes of the run's row; not in the record that brings the row. None: as it was."""

    state: int
    reason: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    summary: bytes | None = None
    """States of all step runs, packed, once the run is at rest."""
    output: bytes | None = None
    """JSON of the run's output, once it is COMPLETED."""
    generation: int | None = None
    """A new one was opened: the end, the summary and the output of the former are taken out of the row, but for what
    this change brings itself."""
    version_number: int | None = None
    version_digest: str | None = None
    """The run goes on with another version of its pipeline."""


@dataclass(frozen=True, slots=True)
class StepRunRow:
    """A step run at rest that had an attempt, or that failed. Written once per generation."""

    step: int
    item: int
    generation: int
    state: int
    attempts: int
    output: bytes | None
    failure: bytes | None
    """MessagePack of a failure with its trace, see `runtime.projection`."""
    agent: str
    ready_time: int | None
    start_time: int | None
    end_time: int


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt that ended."""

    step: int
    item: int
    number: int
    token: int
    outcome: int
    agent: str
    start_time: int
    end_time: int
    detail: bytes
    """MessagePack of what it reported of itself, see `runtime.projection`."""


class Reuse(enum.IntEnum):
    """When the newest run of a run key is at rest: whether another may have the key. The numbers are those of the
    proto's RunKeyReuse."""

    ALLOW = 1
    AFTER_FAILURE = 2
    """If it is not COMPLETED."""
    REJECT = 3


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """The record's run is to be the newest of its run key. Nothing of the record is stored if another run has the key
    that is live, or whose rest does not give it free. A run that has the key already keeps it."""

    pipeline: str
    run_key: str
    reuse: Reuse = Reuse.ALLOW


AT_REST = 6
COMPLETED = 6
"""Of the states of runs: from here on they are at rest, and this one ended well."""


def gives_free(state: int, reuse: Reuse) -> bool:
    """Whether a run in this state leaves its run key to another."""
    if state < AT_REST or reuse is Reuse.REJECT:
        return False
    return reuse is Reuse.ALLOW or state != COMPLETED


@dataclass(frozen=True, slots=True)
class Record:
    """One append to the journal of one run, with the rows that go with it: all or nothing."""

    run_id: RunId
    first_seq: int
    last_seq: int
    payload: bytes
    at: int
    new_run: NewRun | None = None
    change: RunChange | None = None
    step_runs: tuple[StepRunRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    request: RequestRow | None = None
    claim: KeyClaim | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """The record is durable."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The record's request was answered before: nothing of the record is stored. `same` tells whether the content was
    the same; `answer` is the first call's."""

    same: bool
    answer: bytes


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """Another run has the run key: nothing of the record is stored. A request that was answered before comes first."""

    run_id: RunId
    state: int
    """Of that run, when the record was refused."""


@dataclass(frozen=True, slots=True)
class Unstorable:
    """The store refuses the record for its content, for ever. Nothing of it is stored."""

    reason: str


@dataclass(frozen=True, slots=True)
class OutOfSequence:
    """Another record of the run has that number: the writer's state is not the journal's. Nothing of it is stored."""


AppendOutcome: TypeAlias = Committed | Repeated | KeyTaken | Unstorable | OutOfSequence


@dataclass(frozen=True, slots=True)
class StoredRecord:
    first_seq: int
    last_seq: int
    payload: bytes
    at: int


class Journal(Protocol):
    """The append-only events of all runs. The only truth."""

    async def commit(self, lane: int, records: Sequence[Record]) -> list[AppendOutcome]:
        """Make the records durable in one transaction of the lane, in their order; one outcome per record.

        Calls for one lane must not overlap. If a record is not stored, records of the same run that follow it in the
        batch are not stored either (OutOfSequence). Returns only when the fate of all is known: an unknown commit is
        looked up, an absent database is waited for. Raises `Fenced`; after it nothing of the batch is stored.
        """

    async def read(self, run_id: RunId, from_seq: int = 1, limit: int = 1000) -> list[StoredRecord]:
        """Committed records that hold events numbered `from_seq` and later, in order, at most `limit` records.
        Raises `Unavailable`."""


# --- runs --------------------------------------------------------------------------------------------------------


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
    origin: Origin = Origin()
    output: bytes | None = None
    """None in lists."""


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

    async def list_runs(self, where: RunFilter, limit: int, before: RunId | None = None) -> list[RunRow]:
        """Newest first, of those older than `before`."""

    async def live_runs(self, owner: str) -> list[RunRow]:
        """All runs of the owner that are not at rest, oldest first."""

    async def count_live(self, pipeline: str) -> int: ...

    async def step_runs(self, run_id: RunId, first: tuple[int, int], last: tuple[int, int]) -> list[StepRunRow]:
        """Newest generation of the rows from (step, item) `first` to `last`, both included, in order."""

    async def whole_steps(self, run_id: RunId, first: int, last: int) -> list[StepRunRow]:
        """Newest generation of the rows of the steps `first` to `last`, both included, without those of items."""

    async def attempts(self, run_id: RunId, step: int, item: int) -> list[AttemptRow]:
        """Oldest first."""

    async def outputs(self, run_id: RunId, step: int) -> list[tuple[int, bytes]]:
        """(item, output) of the step's COMPLETED step runs, by item."""

    async def outputs_size(self, run_id: RunId, step: int) -> int:
        """How many bytes `outputs` gives."""

    async def find_request(self, scope: str, method: str, request_id: str) -> RequestRow | None: ...

    async def remember_request(self, request: RequestRow, now: int) -> Repeated | None:
        """Keep a request that comes with no record, once. Repeated if it is there already."""

    async def forget_requests(self, before: int) -> int:
        """Drop the requests from before the instant whose runs, if any, are at rest; how many."""


# --- pipelines and bundles ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VersionRow:
    pipeline: str
    number: int
    digest: str
    spec: bytes
    """Serialised penstock.v1.PipelineSpec; empty in lists."""
    step_count: int
    create_time: int


@dataclass(frozen=True, slots=True)
class PipelineRow:
    name: str
    create_time: int
    latest: VersionRow


class PipelineStore(Protocol):
    """Pipelines and their versions. All methods raise `Unavailable`."""

    async def create_version(
        self, pipeline: str, digest: str, spec: bytes, step_count: int, now: int, request: RequestKey | None
    ) -> tuple[VersionRow, bool] | Repeated:
        """The version of that content, and whether it is new. A deleted pipeline comes back and counts on. Repeated
        with `same` False if the request id came with other content; the same content answers as the first time."""

    async def get_pipeline(self, name: str) -> PipelineRow | None:
        """None also if it was deleted."""

    async def get_version(self, name: str, number: int) -> VersionRow | None:
        """With its specification; number 0 is the newest. None also if the pipeline was deleted."""

    async def version_by_digest(self, digest: str) -> VersionRow | None:
        """Also of a deleted pipeline: runs keep their versions."""

    async def list_pipelines(self, limit: int, after: str = "") -> list[PipelineRow]:
        """By name."""

    async def list_versions(self, name: str, limit: int, before: int | None = None) -> list[VersionRow]:
        """Newest first, without specifications."""

    async def delete_pipeline(self, name: str, now: int, request: RequestKey | None) -> bool | Repeated:
        """False: there is none."""


class BundleStore(Protocol):
    """Code bundles by digest. All methods raise `Unavailable`."""

    async def present(self, digests: Sequence[str]) -> set[str]: ...

    async def put(self, digest: str, content: bytes, now: int) -> bool:
        """False if it was there already."""

    async def size(self, digest: str) -> int | None: ...

    async def read(self, digest: str, offset: int, length: int) -> bytes: ...


# --- jobs over many runs -----------------------------------------------------------------------------------------


class BulkState(enum.IntEnum):
    """The numbers are those of penstock.v1.BulkJobState."""

    RUNNING = 1
    COMPLETED = 2
    STOPPED = 3


@dataclass(frozen=True, slots=True)
class BulkJobRow:
    """A job that goes through runs, newest first. `cursor` is the run that was done last, or a bound above all of them;
    order and progress are packed by `runtime.bulk`."""

    job_id: bytes
    state: BulkState
    create_time: int
    end_time: int | None
    cursor: RunId
    order: bytes
    progress: bytes


class BulkJobStore(Protocol):
    """Jobs over many runs. Ids grow with time. All methods raise `Unavailable`."""

    async def create(self, job: BulkJobRow, request: RequestKey | None) -> Repeated | None:
        """Durable when it returns. Repeated, and nothing is stored, if the request came before; its answer is the first
        job's id."""

    async def get(self, job_id: bytes) -> BulkJobRow | None: ...

    async def list_jobs(self, limit: int, before: bytes | None = None) -> list[BulkJobRow]:
        """Newest first, of those older than `before`."""

    async def live(self) -> list[BulkJobRow]:
        """Those that are RUNNING, oldest first."""

    async def advance(self, job: BulkJobRow, cursor: RunId, progress: bytes, end_time: int | None) -> bool:
        """Keep the place that the job came to, from the row's own; with an end it is COMPLETED. False, and nothing is
        kept, if the job is elsewhere by now, or was stopped."""

    async def stop(self, job_id: bytes, now: int) -> None:
        """One that is not RUNNING is left as it is."""


# --- agents, coordinators, logs ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentRow:
    agent_id: str
    session_epoch: int
    boot_id: str
    version: str
    hostname: str
    queues: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    resources: tuple[tuple[str, float], ...]
    slots: int
    connect_time: int
    goodbye: bool
    """The last session ended with a goodbye."""


class AgentRegistry(Protocol):
    """The agents that were ever connected. All methods raise `Unavailable`."""

    async def open_session(self, agent: AgentRow) -> int:
        """Commit a new session of the agent and answer its epoch, greater than all before of all agents."""

    async def close_session(self, agent_id: str, session_epoch: int) -> None:
        """The session said goodbye. Nothing happens if a newer one is open."""

    async def get_agent(self, agent_id: str) -> AgentRow | None: ...

    async def list_agents(self, limit: int, after: str = "") -> list[AgentRow]:
        """By id."""


class Incarnations(Protocol):
    async def incarnate(self, coordinator_id: str, lanes: int) -> int:
        """A new epoch of this coordinator, greater than every epoch of every coordinator before. Locks all fence rows
        of the id first, so that no append of the former incarnation is accepted from here on."""


@dataclass(frozen=True, slots=True)
class LogLine:
    source: int
    number: int
    offset: int
    """Since the attempt began."""
    text: str


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Lines of one attempt, in order. `position` is given by the store and grows within a run."""

    run_id: RunId
    step: int
    item: int
    attempt: int
    at: int
    lines: tuple[LogLine, ...]
    position: int = 0


@dataclass(frozen=True, slots=True)
class LogFilter:
    step: int | None = None
    item: int | None = None
    attempt: int | None = None


class LogStore(Protocol):
    """What steps wrote. All methods raise `Unavailable`."""

    async def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """Durable when it returns. A chunk whose (attempt, first line number) is there already changes nothing."""

    async def read_logs(self, run_id: RunId, where: LogFilter, after: int = 0, limit: int = 100) -> list[LogChunk]:
        """Chunks with a position above `after`, in order of position."""

    async def last_logs(self, run_id: RunId, where: LogFilter, limit: int) -> list[LogChunk]:
        """The newest chunks, oldest of them first."""


# --- time and chance ---------------------------------------------------------------------------------------------


class Clock(Protocol):
    def now(self) -> int:
        """Microseconds since 1970 (UTC)."""

    def monotonic(self) -> int:
        """Microseconds that never go back, and go on while the machine is suspended."""


class Ids(Protocol):
    def run_id(self) -> RunId: ...

    def jitter(self) -> float:
        """Evenly from [0, 1)."""


@dataclass(frozen=True, slots=True)
class Stores:
    """All that is kept in PostgreSQL."""

    journal: Journal
    runs: RunIndex
    pipelines: PipelineStore
    bundles: BundleStore
    agents: AgentRegistry
    incarnations: Incarnations
    logs: LogStore
    bulk_jobs: BulkJobStore
