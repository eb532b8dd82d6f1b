"""What readers see of runs, step runs and agents: committed facts, as plain values.

Instants are microseconds since 1970 (UTC), spans microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.ports import NO_COST, PLAIN_ORIGIN, AttemptCost, Origin, RunId, Unavailable

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.budget import Amounts, CostBudget, Measure, Window
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.events import CacheSource
    from penstock_coordinator.core.run.messages import AttemptReport
    from penstock_coordinator.core.run.state import Paused, StepCounts
    from penstock_coordinator.ports import AgentRow, KeyClaim, RequestKey, RunRow, VersionRow


class RunRequest(msgspec.Struct, frozen=True, gc=False):
    """A run to be started; parameters are bound already."""

    plan: Plan
    version: VersionRow
    parameters: bytes
    labels: tuple[tuple[str, str], ...]
    trace_context: tuple[tuple[str, str], ...]
    request: RequestKey | None
    origin: Origin = PLAIN_ORIGIN
    claim: KeyClaim | None = None
    only_if_newest: bool = False
    """The version is the newest that is remembered: nothing is started if it is not that any more. Needs a request."""
    uses: tuple[tuple[str, str], ...] = ()
    """(parameter, digest) of the artifacts that the parameters refer to. They are there."""


@dataclass(frozen=True, slots=True)
class FailureView:
    reason: str
    message: str = ""
    error_class: str = ""
    error_bases: tuple[str, ...] = ()
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class BudgetView:
    budget: CostBudget
    """With limits that were raised."""
    used: Amounts
    exceeded: Measure | None = None
    exceeded_at: int | None = None
    window: Window | None = None
    """Of one that is the pipeline's."""


@dataclass(frozen=True, slots=True)
class RunView:
    """`row` holds the newest committed state, also of a live run."""

    row: RunRow
    plan: Plan
    counts: StepCounts
    generation: int
    held_by_key: str = ""
    """The key of the limit on runs that it waits for."""
    paused: Paused | None = None
    budget: BudgetView | None = None
    """Of a live run that has one of its own."""
    held_by_budget: str = ""
    """Why nothing starts, for people."""
    owner: str = ""
    """The coordinator that has it, of a live run when several own runs."""


@dataclass(frozen=True, slots=True)
class LiveGlance:
    """What lists tell of a live run beyond its row."""

    counts: StepCounts
    held_by_key: str
    held_by_budget: str = ""


@dataclass(frozen=True, slots=True)
class StepRunView:
    """`item` -1: not mapped, or the mapped step as a whole (then `item_counts` is set once it is expanded)."""

    step: int
    item: int
    state: int
    place: tuple[int, ...] = ()
    """Of an item, outermost first."""
    attempts: int = 0
    output: bytes | None = None
    failure: FailureView | None = None
    ready_time: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    agent: str = ""
    wait_reason: str = ""
    wait_until: int | None = None
    item_counts: StepCounts | None = None
    generation: int = 0
    """In which it came to its state; 0: that is not known, as of what came to rest without an attempt."""
    source: CacheSource | None = None
    """What computed its output, if it was answered from the cache."""
    child: bytes | None = None
    """The id of the run that it is, as far as it is known: of one that waits for it, and of the last one."""


@dataclass(frozen=True, slots=True)
class AttemptView:
    number: int
    agent: str
    outcome: int
    """A penstock.v1.AttemptOutcome; COMPLETED is 1."""
    failure: FailureView | None
    start_time: int
    end_time: int
    report: AttemptReport
    charged_to: int = 0
    """A penstock.v1.Budget; 0: to none."""
    cost: AttemptCost = NO_COST


@dataclass(frozen=True, slots=True)
class AgentView:
    row: AgentRow
    state: int
    """A penstock.v1.AgentState."""
    leases: int
    heartbeat_age: int | None
    """Since the last heartbeat was processed; None: not connected."""
    discarded: int = 0
    """Results that came too late."""
    via: str = ""
    """The coordinator that passes its stream on; "": nobody does."""
    links: tuple[str, ...] = ()
    """Members that it has a link with, as "id@epoch"."""


class UnknownRun(Exception):
    """There is no such run."""

    field = "run_id"
    """What named it."""

    def __init__(self, *details: object, run_id: RunId = b"") -> None:
        super().__init__(*details)
        self.run_id = run_id
        """Which of those that were asked for, if it were several."""


class UnknownStepRun(Exception):
    """The run has no such step, or the step no such item (yet)."""


class UnknownVersion(Exception):
    """The pipeline has no version of that number; with 0, it was deleted."""

    def __init__(self, pipeline: str, number: int) -> None:
        super().__init__(pipeline, number)
        self.pipeline = pipeline
        self.number = number


class NotConnected(Exception):
    """The agent has no stream to this coordinator."""


class Stopping(Exception):
    """The coordinator is shutting down or lost its right to write: ask again elsewhere or later."""


class OutputTooLarge(Exception):
    """The outputs of all items of a mapped step are too much to be read at once."""


class Overloaded(Exception):
    """A bounded queue is full. Nothing was accepted; it may be tried again after `retry_after` microseconds, if not
    None."""

    def __init__(self, what: str, retry_after: int | None = 1_000_000, cause: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.retry_after = retry_after
        self.cause = cause
        """What is short, in one word."""


class Undecided(Unavailable):
    """The database has not said within a bounded time whether it took what was decided. It may still be committed:
    who repeats the request under the same id is told."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class TooManyWatchers(Exception):
    """No place is left for one more who follows a run. It passes when others stop."""

    def __init__(self, followed: str, count: int, limit: int, setting: str) -> None:
        super().__init__(
            f"{count:,} already follow {followed}, and the limit is {limit:,}: try again when one has stopped,"
            f" or have the operator raise {setting}"
        )


class EventNotYet(Exception):
    """The run has no event of that number yet."""

    def __init__(self, last: int, field: str = "from_event") -> None:
        super().__init__(last)
        self.last = last
        self.field = field
        """What asked for it. Events may be followed from the one that comes next."""


class SlowReader(Exception):
    """The reader fell behind and was dropped; it may come back at `next_seq`."""

    def __init__(self, next_seq: int) -> None:
        super().__init__(next_seq)
        self.next_seq = next_seq


class SetAside(Exception):
    """The run is live, but could not be made again from its journal."""

    def __init__(self, run_id: RunId, why: str) -> None:
        super().__init__(run_id.hex(), why)
        self.run_id = run_id
        self.why = why


class NotAccepted(Exception):
    """The database refuses the request for its content, or another writer was there first. Nothing was stored."""
