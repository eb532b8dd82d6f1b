"""The facts that a run's journal is made of: a vocabulary for ever.

The meaning of an event never changes. A new meaning is a new class with a new tag; tags are never used again. An
event says what was decided, never what somebody asked for. A fact about many steps is one event with ranges.

`at` is the instant of the message that led to the event, in microseconds since 1970 (UTC), as the coordinator's clock
gave it. Steps are positions in the specification; `item` is the place in the map, -1 for a step that is not mapped.
Ranges are half open: (first, stop).

The binary form is MessagePack arrays whose first element is the tag (see `encode`); fields may only be added at
the end, with a default.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from penstock_coordinator.core.run.states import RunState, StepState

FORMAT = 1
"""Version of the record's frame, its first byte."""

WHOLE = -1
"""In place of an item: the step is not mapped, or the mapped step as a whole is meant."""

Range: TypeAlias = tuple[int, int]


class Outcome(enum.IntEnum):
    """How an attempt ended badly. The numbers are those of penstock.v1.AttemptOutcome."""

    FAILED = 2
    """By itself, or its output cannot be kept."""
    TIMED_OUT = 3
    """A clock of the attempt or of the step ran out."""
    CANCELLED = 4
    """It was stopped."""
    LOST = 5
    """Its worker went away with it."""


class Charge(enum.IntEnum):
    """Whom a lost lease is charged to."""

    NOBODY = 0
    """No user code had started: the attempt's number is used again."""
    INFRASTRUCTURE = 1
    """The agent was lost with it: its own budget pays, and the number is spent."""
    STARTED = 2
    """The agent handed it back although user code had started: the number is spent, no budget pays."""
    POISON = 3
    """The agent's process died while it ran this, which may be why: counted apart, and the number is spent."""


class Budget(enum.IntEnum):
    """What pays for an attempt that did not complete, and what a step run that FAILED has used up. The numbers are
    those of penstock.v1.Budget."""

    NONE = 0
    """Nothing paid: it was stopped, or handed back; no other attempt could do better, or there was no time for one."""
    RETRIES = 1
    """The attempts that the step's retry policy allows user code to fail."""
    INFRASTRUCTURE = 2
    """The accepted leases that a step run may lose."""
    POISON = 3
    """The agents that may die of a step run."""


class WaitReason(enum.IntEnum):
    """What a step run that is WAITING waits for."""

    BACKOFF = 1
    """Its next attempt, at an instant."""
    SUB_PIPELINE = 2
    """The end of the run that the step is; the key is its id in hex."""
    CACHE = 3
    """What the cache says of its value; with a key, the end of what computes it: a run's id, and a step run of it."""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Why an attempt or a step failed, in short; the whole story is in the attempt's row."""

    reason: str
    message: str = ""
    error_class: str = ""


class CacheMode(enum.IntEnum):
    """What a run makes of the cache policies of its steps. The numbers are those of penstock.v1.CacheMode."""

    USE = 1
    OFF = 2
    """The cache is neither asked nor filled."""
    REFRESH = 3
    """All is computed anew, and fills the cache."""


class RunStarted(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The run exists. `semantics` pins the rules that decide it for ever."""

    at: int
    version_digest: str
    parameters: bytes
    """A JSON object with defaults filled in."""
    deadline: int | None
    """Of the run's own timeout; None also if RunHeld follows."""
    semantics: int = 1
    cache: CacheMode = CacheMode.USE


class StepsReadied(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Steps that are not mapped wait for an agent from now on."""

    at: int
    ranges: tuple[Range, ...]


class StepsSettled(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Steps came to rest without running: SKIPPED, UPSTREAM_FAILED or CANCELLED."""

    at: int
    state: StepState
    ranges: tuple[Range, ...]


class MapExpanded(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A mapped step has `count` items. All are READY; or, if not `ready`, PENDING until ItemsReadied, ItemsSettled or
    StepFailed says of each what its rule and its condition made of it. A nested map begins without items."""

    at: int
    step: int
    count: int
    ready: bool = True


class ItemsSettled(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Items came to rest without running: SKIPPED, UPSTREAM_FAILED or CANCELLED."""

    at: int
    step: int
    state: StepState
    ranges: tuple[Range, ...]


class StepsLeased(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Attempts were granted to a session. This event's number is the token of each of the leases."""

    at: int
    session: int
    agent: str
    leases: tuple[tuple[int, int, int], ...]
    """(step, item, attempt)"""


class StepCompleted(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """At rest, COMPLETED."""

    at: int
    step: int
    item: int
    token: int
    kept: tuple[bytes, ...] = ()
    """JSON of the plan's `kept_paths` of the step, in their order; empty bytes: not there."""


class AttemptFailed(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """An attempt ended badly. What becomes of the step follows in the same turn. Not `reported`: it was given up
    before its result came, which will be stale."""

    at: int
    step: int
    item: int
    token: int
    outcome: Outcome
    failure: Failure
    reported: bool = True


class StepFailed(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """At rest, FAILED. For a mapped step as a whole too, if it could not be expanded."""

    at: int
    step: int
    item: int
    failure: Failure
    budget: Budget = Budget.NONE
    """What is used up, if that is why."""


class StepWaiting(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """WAITING for an instant, or for whatever has the key."""

    at: int
    step: int
    item: int
    reason: WaitReason
    until: int | None
    key: str = ""


class StepWoken(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The wait is over: READY again."""

    at: int
    step: int
    item: int


class LeaseLost(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A lease ended without a result. Charged to nobody, the attempt's number is used again."""

    at: int
    step: int
    item: int
    token: int
    cause: str
    charge: Charge
    boot: str = ""
    """Of a charge to POISON: the boot id of the agent's process that died. Each counts once."""


class StepReturned(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """After a lost or failed attempt without a wait: READY again at once."""

    at: int
    step: int
    item: int


class StepCancelled(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A step that was leased or waiting came to rest, CANCELLED."""

    at: int
    step: int
    item: int


class MapSettled(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """All items of a mapped step are at rest, and so is it."""

    at: int
    step: int
    state: StepState


class RunCancelling(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """What is not at rest is being stopped. `verdict` is how the run will end. May come again, with `now`."""

    at: int
    verdict: RunState
    reason: str
    now: bool
    deadline: int
    requested_by: str = ""


class RunEnded(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """At rest."""

    at: int
    state: RunState
    reason: str


class ItemsReadied(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Items of a mapped step whose condition holds wait for an agent from now on."""

    at: int
    step: int
    ranges: tuple[Range, ...]


class ItemsAdded(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """A nested map gets the items for one item, the owner, of the step that it goes along with. READY: `count` of them
    wait for an agent. PENDING: ItemsReadied, ItemsSettled or StepFailed says of each what its condition made of it.
    SKIPPED, UPSTREAM_FAILED or FAILED: there are none, and the group is at rest so."""

    at: int
    step: int
    owner: int
    count: int
    state: StepState
    failure: Failure | None = None


class ChildStarted(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The step run is WAITING for a run of its pipeline, which is to exist under that id."""

    at: int
    step: int
    item: int
    attempt: int
    run_id: bytes


class ChildEnded(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """The run that the step run waited for is at rest, or could not be started (FAILED), or need not be any more
    (CANCELLED). What becomes of the step follows in the same turn."""

    at: int
    step: int
    item: int
    run_id: bytes
    state: RunState
    failure: Failure | None = None
    reported: bool = True
    """Or else it was given up, and is to be cancelled."""


class RunPaused(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """No step run starts from now on. What runs goes on."""

    at: int
    requested_by: str
    reason: str
    from_above: bool = False
    """The run that this one is a step of is paused; else it is a person's pause, whatever there was before."""


class RunResumed(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Step runs may start again. Clocks of those that wait for an agent stood still in between."""

    at: int
    requested_by: str
    from_above: bool = False
    """The run that this one is a step of goes on; else a person resumed it."""


class Reopening(enum.IntEnum):
    """Why a new generation was opened."""

    RETRY = 1
    """What ended badly runs again."""
    RERUN = 2
    """A step runs again, with everything that comes after it."""
    REQUEUE = 3
    """Step runs with dead letters run again, with everything that comes after them."""
    ROLLBACK = 4
    """What is COMPLETED and can be undone is undone. RunRollingBack follows, once the run has its place."""


class RunReopened(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """A new generation: some step runs are PENDING again, the others stay as they are."""

    at: int
    generation: int
    kind: Reopening
    version_digest: str
    """Of the version that the run goes on with."""
    deadline: int | None
    """Of the run's own timeout; None also if RunHeld follows."""
    steps: tuple[Range, ...]
    """Reset as wholes: mapped ones lose their items."""
    items: tuple[tuple[int, tuple[Range, ...]], ...]
    """Reset items of maps that stay expanded, by step."""
    attempts: tuple[tuple[int, int, int], ...]
    """(step, item, count): so many numbers of attempts were used already by what is reset; where missing, none."""
    kept: tuple[tuple[int, int, tuple[bytes, ...]], ...]
    """(step, item, parts): what the run keeps from now on of outputs that stay, where another version needs other
    parts of them."""
    requested_by: str
    reason: str
    parameters: bytes = b""
    """With those that another version has besides; empty: they are as they were."""
    anew: tuple[tuple[int, int], ...] = ()
    """(step, item): what a person wants to run again, whatever the cache has."""


class RunHeld(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """The run waits for a place under a limit on runs: it is PENDING, and nothing of it starts."""

    at: int
    key: str
    limit: int


class RunAdmitted(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """The run that was held has its place."""

    at: int
    deadline: int | None
    """Of the run's own timeout, which counts from now on."""


class StepDisplaced(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """The policy of a limit on steps cancels this step run. StepCancelled follows, or StepFailed if it may fail: at
    once, or when its attempt has stopped. An attempt that completes before that counts."""

    at: int
    step: int
    item: int
    key: str
    by: str
    """Who has the place, or gets it: a run."""


class RunRollingBack(msgspec.Struct, frozen=True, array_like=True, tag=28):
    """What was done is being undone. These steps, each of which undoes another one, are PENDING, and become READY when
    all that is to be undone before is."""

    at: int
    reason: str
    requested_by: str
    steps: tuple[Range, ...]
    """That undo steps that are not mapped."""
    items: tuple[tuple[int, tuple[Range, ...]], ...]
    """That undo mapped ones, with the items to be undone: they are expanded as those are."""


class StepsRolledBack(msgspec.Struct, frozen=True, array_like=True, tag=29):
    """Steps that were COMPLETED are undone: ROLLED_BACK. Of mapped ones after all their items."""

    at: int
    ranges: tuple[Range, ...]


class ItemsRolledBack(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """Items that were COMPLETED are undone: ROLLED_BACK."""

    at: int
    step: int
    ranges: tuple[Range, ...]


class CacheAsked(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """WAITING while it is looked up whether the values of these step runs, (step, item) each, are in the cache. This
    event's number is the token of each of the questions."""

    at: int
    step_runs: tuple[tuple[int, int], ...]


class CacheSource(msgspec.Struct, frozen=True, array_like=True):
    """What computed a value of the cache."""

    run_id: bytes
    display_name: str
    attempt: int
    at: int
    key: bytes


class StepCached(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """At rest, COMPLETED: the cache has its value."""

    at: int
    step: int
    item: int
    source: CacheSource
    kept: tuple[bytes, ...] = ()
    """As in StepCompleted."""


class CacheMissed(msgspec.Struct, frozen=True, array_like=True, tag=43):
    """The step run has to be run: READY, for an agent from now on. If it completes, its value is kept under the key."""

    at: int
    step: int
    item: int
    key: bytes
    """Empty: there is none, and nothing is kept."""
    reserved: bool
    """It is the one that computes the value, and others wait for it."""
    why: str = ""
    """It is run without the cache being asked, or though the cache may have its value."""


class CacheAwaited(msgspec.Struct, frozen=True, array_like=True, tag=44):
    """WAITING until another step run, which computes the same value, has come to rest."""

    at: int
    step: int
    item: int
    run_id: bytes
    display_name: str


class MemoryRaised(msgspec.Struct, frozen=True, array_like=True, tag=45):
    """The step run ran out of memory: its next attempts ask for so much. `wanted_bytes` is what the step's
    `retry.memory_factor` makes of it; more than `memory_bytes` where no agent has so much."""

    at: int
    step: int
    item: int
    memory_bytes: int
    wanted_bytes: int


class MadeArtifact(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt brought to the artifact store."""

    name: str
    digest: str
    size: int
    media_type: str = ""
    kind: str = "value"
    codec: str = ""
    metadata: bytes = b""
    """A JSON object; empty: none."""


class ArtifactsMade(msgspec.Struct, frozen=True, array_like=True, tag=39):
    """The output of the step run refers to these, which its attempt made. StepCompleted follows."""

    at: int
    step: int
    item: int
    token: int
    artifacts: tuple[MadeArtifact, ...]


class CostBudgetCharged(msgspec.Struct, frozen=True, array_like=True, tag=46):
    """An attempt has ended, and used this of the budget of its run, or of its pipeline. What becomes of the step run
    follows. Spans in microseconds, `price` in millionths."""

    at: int
    step: int
    item: int
    token: int
    slot_time: int
    cpu_time: int
    price: int
    """By the prices of that moment."""


class CostBudgetExceeded(msgspec.Struct, frozen=True, array_like=True, tag=47):
    """Nothing is left of the run's budget: no more attempts begin before it is raised; or the run is stopped, and
    RunCancelling follows."""

    at: int
    measure: int
    """1 slot time, 2 CPU time, 3 price."""
    used: int
    limit: int
    action: int
    """1 hold, 2 stop."""


class CostBudgetRaised(msgspec.Struct, frozen=True, array_like=True, tag=48):
    """These are the limits of the run's budget in this generation. Attempts may begin again, if something is left of
    each of them."""

    at: int
    slot_time: int
    """Microseconds; 0: no limit."""
    cpu_time: int
    price: int
    """Millionths."""
    requested_by: str
    reason: str


class AttemptTimed(msgspec.Struct, frozen=True, array_like=True, tag=49):
    """How an attempt of a run whose trace is sampled has spent its time, as its agent says: in this order, up to this
    event. StepCompleted or AttemptFailed follows. Microseconds."""

    at: int
    step: int
    item: int
    token: int
    environment: int
    """From the arrival of the lease to the beginning: code, environment, inputs, and a process that is free."""
    execution: int
    upload: int
    """Of its output to the artifact store."""
    age: int
    """From its end on the agent to the sending of its result."""


def displaced_by(event: StepDisplaced) -> str:
    """For people."""
    return f'no place under the key "{event.key}" is left for it: the run {event.by} has it'


Event: TypeAlias = (
    RunStarted
    | StepsReadied
    | StepsSettled
    | MapExpanded
    | ItemsSettled
    | StepsLeased
    | StepCompleted
    | AttemptFailed
    | StepFailed
    | StepWaiting
    | StepWoken
    | LeaseLost
    | StepReturned
    | StepCancelled
    | MapSettled
    | RunCancelling
    | RunEnded
    | ItemsReadied
    | ItemsAdded
    | ChildStarted
    | ChildEnded
    | RunPaused
    | RunResumed
    | RunReopened
    | RunHeld
    | RunAdmitted
    | StepDisplaced
    | RunRollingBack
    | StepsRolledBack
    | ItemsRolledBack
    | CacheAsked
    | StepCached
    | CacheMissed
    | CacheAwaited
    | MemoryRaised
    | ArtifactsMade
    | CostBudgetCharged
    | CostBudgetExceeded
    | CostBudgetRaised
    | AttemptTimed
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Event, ...])


class UnknownEvent(Exception):
    """A record of a newer release, or a damaged one. Whoever meets it does not own the run: it is never skipped."""


def encode(events: list[Event]) -> bytes:
    """The payload of one record."""
    return bytes((FORMAT,)) + _encoder.encode(events)


def decode(payload: bytes) -> tuple[Event, ...]:
    """The events of one record, in order. Raises `UnknownEvent`."""
    if payload[:1] != bytes((FORMAT,)):
        raise UnknownEvent(f"record format {payload[:1].hex() or 'none'} is not known to this release")
    try:
        return _decoder.decode(memoryview(payload)[1:])
    except msgspec.DecodeError as error:
        raise UnknownEvent(str(error)) from error
