"""What arrives in a run's mailbox. Time, chance and identity come with the message: the rules have none of their own.

`now` is in microseconds since 1970 (UTC). `session` names the session that a lease was granted to.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from penstock_coordinator.core.run.events import CacheMode, CacheSource, Charge, Failure, MadeArtifact, Outcome
from penstock_coordinator.core.run.states import RunState


class StartRun(msgspec.Struct, frozen=True, gc=False):
    """The run begins: its first message."""

    now: int
    parameters: bytes
    """A JSON object, validated against the version, with defaults filled in."""
    held: tuple[str, int] | None = None
    """The key and the limit that it has to wait for: nothing starts before AdmitRun."""
    refused: str = ""
    """Why the run is cancelled before anything of it starts."""
    cache: CacheMode = CacheMode.USE
    over: str = ""
    """Why it fails before anything of it starts: nothing is left of the budget of its pipeline."""


class AdmitRun(msgspec.Struct, frozen=True, gc=False):
    """The run has its place under the limits on runs. Or its pipeline has something left of its budget again, and it
    asks for its place: it gets it, or waits for that now, or is refused."""

    now: int
    held: tuple[str, int] | None = None
    """As in StartRun."""
    refused: str = ""
    """As in StartRun."""


class DisplaceStep(msgspec.Struct, frozen=True, gc=False):
    """A step run that holds a lease is to make place for another."""

    now: int
    step: int
    item: int
    key: str
    by: str


class DisplaceReady(msgspec.Struct, frozen=True, gc=False):
    """There is no place for the step runs that are READY at the position, and they are not to wait for one."""

    now: int
    position: int
    key: str
    by: str


class SlotsOffered(msgspec.Struct, frozen=True, gc=False):
    """Room for up to `count` attempts of one line, reserved on a session for this run alone."""

    now: int
    line: int
    """Position in the plan's lines."""
    session: int
    agent: str
    count: int


class AttemptTiming(msgspec.Struct, frozen=True, gc=False):
    """How an attempt of a sampled run has spent its time besides its run time. Spans in microseconds."""

    environment: int
    upload: int
    age: int


class AttemptReport(msgspec.Struct, frozen=True, gc=False):
    """What an attempt used and said of itself: for its row, not for any decision. Spans in microseconds."""

    run_duration: int = 0
    cpu_duration: int = 0
    peak_memory_bytes: int = 0
    exit_code: int | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    traceback: str = ""
    error_bases: tuple[str, ...] = ()
    bytes_moved: int = 0
    """To and from the artifact store."""
    timing: AttemptTiming | None = None
    """None: it is not traced."""


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """A result. `outcome` None is success; `output` is then JSON (empty: null)."""

    now: int
    step: int
    item: int
    token: int
    result_id: bytes
    session: int
    """Who sent it, which need not be whom the lease was granted to."""
    outcome: Outcome | None
    output: bytes = b""
    failure: Failure | None = None
    error_bases: tuple[str, ...] = ()
    """Class names with and without their modules, for the choice of errors that are retried."""
    jitter: float = 0.0
    """In [0, 1)."""
    memory_most: int = 0
    """Of an attempt that ran out of memory: what the largest agent has that serves its step otherwise. 0: none is known
    of."""
    report: AttemptReport = AttemptReport()
    artifacts: tuple[MadeArtifact, ...] = ()
    """Which the output refers to, and which this attempt made."""
    receipts: tuple[str, ...] = ()
    """One for each of them."""
    kept: tuple[bytes, ...] | None = None
    """What `values.keep` gives of the output, where that refers to what had to be read first; None: it does not."""


class LeaseGone(msgspec.Struct, frozen=True, gc=False):
    """The session or its clock says that a lease ended without a result: expired, rejected, returned, agent lost."""

    now: int
    step: int
    item: int
    token: int
    cause: str
    charge: Charge
    jitter: float = 0.0
    boot: str = ""
    """Of the agent's process, if it died."""


class InputsUnresolved(msgspec.Struct, frozen=True, gc=False):
    """The inputs of a lease cannot be made, for good: the step fails without another attempt."""

    now: int
    step: int
    item: int
    token: int
    failure: Failure


class CancelRun(msgspec.Struct, frozen=True, gc=False):
    """A person stops the run, or the run above does; politely, or at once if `immediate`."""

    now: int
    immediate: bool
    reason: str
    requested_by: str = ""


class PauseRun(msgspec.Struct, frozen=True, gc=False):
    """A person holds the run, or the run above does: nothing more is to start."""

    now: int
    requested_by: str = ""
    reason: str = ""
    above_since: int | None = None
    """When the run that this one is a step of was paused, if that is why. None: a person asks."""


class ResumeRun(msgspec.Struct, frozen=True, gc=False):
    """The run that is paused goes on."""

    now: int
    requested_by: str = ""
    from_above: bool = False
    """The run that this one is a step of goes on."""


class RaiseBudget(msgspec.Struct, frozen=True, gc=False):
    """A person raises the budget of the run to these limits. Microseconds and millionths; 0: as it is."""

    now: int
    slot_time: int = 0
    cpu_time: int = 0
    price: int = 0
    requested_by: str = ""
    reason: str = ""


class ClockTick(msgspec.Struct, frozen=True, gc=False):
    """A deadline may have come. Queued clocks stand still until `queued_open_at` (agents need time to come back after
    the coordinator's start)."""

    now: int
    queued_open_at: int = 0


class Continue(msgspec.Struct, frozen=True, gc=False):
    """The rest of what one turn was not allowed to do."""

    now: int


class ChildReported(msgspec.Struct, frozen=True, gc=False):
    """The run that a step run waits for is at rest."""

    now: int
    step: int
    item: int
    run_id: bytes
    state: RunState
    output: bytes = b""
    """JSON, if it is COMPLETED; empty: null."""
    failure: Failure | None = None
    jitter: float = 0.0
    """In [0, 1)."""
    kept: tuple[bytes, ...] | None = None
    """As in AttemptEnded."""


class ChildRefused(msgspec.Struct, frozen=True, gc=False):
    """The run that a step run waits for cannot be started, and no other could: the step fails without another
    attempt."""

    now: int
    step: int
    item: int
    run_id: bytes
    failure: Failure


class RetryRun(msgspec.Struct, frozen=True, gc=False):
    """A run at rest opens a new generation: what did not come to a good end runs again."""

    now: int
    requested_by: str = ""
    reason: str = ""
    held: tuple[str, int] | None = None
    """As in StartRun."""
    version: str = ""
    """The digest of the version to go on with, one of `Run.plans`; empty: the run's own."""
    parameters: bytes = b""
    """As in StartRun, of that version; empty: as they are."""
    kept: tuple[tuple[int, int, tuple[bytes, ...]], ...] = ()
    """(step, item, parts) of the outputs that stay and of which that version needs other parts (`parts_wanted`)."""


class RerunStep(msgspec.Struct, frozen=True, gc=False):
    """A step at rest, or one item of it, runs again with everything that comes after it."""

    now: int
    step: int
    item: int
    requested_by: str = ""
    reason: str = ""
    held: tuple[str, int] | None = None
    """As in StartRun; not of a run that is under way."""


class RequeueSteps(msgspec.Struct, frozen=True, gc=False):
    """Step runs that FAILED run again with everything that comes after them, in one new generation."""

    now: int
    targets: tuple[tuple[int, int], ...]
    """(step, item)"""
    requested_by: str = ""
    reason: str = ""
    held: tuple[str, int] | None = None
    """As in RerunStep."""
    failed_in: tuple[int, ...] = ()
    """By target: the generation of the failure that is meant. One that was begun anew in a later one is refused. Empty:
    whichever failure is the present one."""


class RollbackRun(msgspec.Struct, frozen=True, gc=False):
    """A run at rest opens a new generation, in which what is COMPLETED and can be undone is undone."""

    now: int
    requested_by: str = ""
    reason: str = ""
    held: tuple[str, int] | None = None
    """As in StartRun."""
    version: str = ""
    """As in RetryRun."""
    parameters: bytes = b""
    """As in RetryRun."""
    kept: tuple[tuple[int, int, tuple[bytes, ...]], ...] = ()
    """As in RetryRun."""


class ValueFound(msgspec.Struct, frozen=True, gc=False):
    """The cache has the value that was asked for."""

    now: int
    step: int
    item: int
    token: int
    """Of the question."""
    output: bytes
    """JSON."""
    source: CacheSource
    kept: tuple[bytes, ...] | None = None
    """As in AttemptEnded."""


class ValueMissing(msgspec.Struct, frozen=True, gc=False):
    """The cache does not have it, or was not asked."""

    now: int
    step: int
    item: int
    token: int
    key: bytes
    """Empty: there is none."""
    reserved: bool
    """The key is reserved for the step run."""
    why: str = ""


class ValueAwaited(msgspec.Struct, frozen=True, gc=False):
    """The cache does not have it, and another step run has reserved the key."""

    now: int
    step: int
    item: int
    token: int
    run_id: bytes
    display_name: str


CacheAnswer: TypeAlias = ValueFound | ValueMissing | ValueAwaited

RenewingMessage: TypeAlias = RetryRun | RollbackRun
"""What may go on with another version."""
ReopenMessage: TypeAlias = RetryRun | RerunStep | RequeueSteps | RollbackRun
"""What opens a new generation."""
ControlMessage: TypeAlias = CancelRun | PauseRun | ResumeRun | RaiseBudget | ReopenMessage
"""What people ask of a run."""

Message: TypeAlias = (
    StartRun
    | SlotsOffered
    | AttemptEnded
    | LeaseGone
    | InputsUnresolved
    | CancelRun
    | PauseRun
    | ResumeRun
    | RetryRun
    | RerunStep
    | RequeueSteps
    | RollbackRun
    | RaiseBudget
    | ClockTick
    | Continue
    | AdmitRun
    | DisplaceStep
    | DisplaceReady
    | ChildReported
    | ChildRefused
    | CacheAnswer
)
