"""The compiled form of a pipeline version.

A plan is made once per version and shared by all its runs. Steps are named by their position in the stored
specification: a run then needs no more than arrays indexed by it.

Spans of time are whole microseconds, so that arithmetic on them is exact and the same on every replay.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.conditions import Condition
    from penstock_coordinator.core.plan.keys import KeyExpression

Json: TypeAlias = Any
"""What `json.loads` gives."""

Path: TypeAlias = tuple[str, ...]
"""Members of objects, and decimal positions in lists, from the outside in."""


class TriggerRule(enum.IntEnum):
    """When a step may start, by the states of its upstream. The numbers are those of the proto."""

    ALL_SUCCESS = 1
    ALL_FAILED = 2
    ALL_DONE = 3
    ONE_SUCCESS = 4
    ONE_FAILED = 5
    ONE_DONE = 6
    NONE_FAILED = 7
    NONE_FAILED_MIN_ONE_SUCCESS = 8
    NONE_SKIPPED = 9
    ALL_SKIPPED = 10
    ALWAYS = 11


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and when a failed attempt is followed by another."""

    max_attempts: int = 1
    initial_backoff: int = 1_000_000
    multiplier: float = 2.0
    max_backoff: int = 300_000_000
    jitter: float = 0.1
    retry_on: tuple[str, ...] = ()
    never_retry_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Microseconds; None is no limit."""

    queued: int | None = None
    attempt: int | None = None
    overall: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What a session is matched with: all steps with an equal line wait for the same agents."""

    queue: str
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    environment: str = ""


class Policy(enum.IntEnum):
    """What becomes of those who share a key when there are more than its limit. The numbers are those of the proto's
    ConcurrencyPolicy."""

    QUEUE = 1
    CANCEL_NEWEST = 2
    CANCEL_OLDEST = 3


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` of those that have the key at once."""

    key: str | KeyExpression
    """The key itself, or what makes it from the parameters of a run."""
    limit: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Lack:
    """What an agent would need to serve a line: `wanted` of `name`, where it has `has` ("" or "0": none)."""

    what: str
    """queue, label, resource or environment."""
    name: str
    wanted: str
    has: str = ""


@dataclass(frozen=True, slots=True)
class FromValue:
    json: bytes


@dataclass(frozen=True, slots=True)
class FromParameter:
    name: str


@dataclass(frozen=True, slots=True)
class FromStep:
    step: int
    path: Path = ()


@dataclass(frozen=True, slots=True)
class FromItem:
    path: Path = ()


InputSource: TypeAlias = FromValue | FromParameter | FromStep | FromItem
MapSource: TypeAlias = FromValue | FromParameter | FromStep


@dataclass(frozen=True, slots=True)
class FunctionAction:
    module: str
    qualname: str


@dataclass(frozen=True, slots=True)
class CommandOutput:
    name: str
    stdout: bool
    file: str
    json: bool


@dataclass(frozen=True, slots=True)
class CommandAction:
    argv: tuple[str, ...]
    shell: str
    outputs: tuple[CommandOutput, ...]
    success_exit_codes: tuple[int, ...]


Action: TypeAlias = FunctionAction | CommandAction


@dataclass(frozen=True, slots=True)
class Step:
    """One node. `upstream` and `downstream` are sorted step numbers without duplicates."""

    number: int
    name: str
    action: Action
    upstream: tuple[int, ...]
    downstream: tuple[int, ...]
    rule: TriggerRule
    condition: Condition | None
    map: MapSource | None
    inputs: tuple[tuple[str, InputSource], ...]
    retry: Retry
    timeouts: Timeouts
    line: int
    """Position in `Plan.lines`: of steps with an equal line, priority and concurrency."""
    env: tuple[tuple[str, str], ...]
    allow_failure: bool
    cleanup: bool
    kept_paths: tuple[Path, ...]
    """The parts of this step's output that conditions and maps downstream read. Empty: nothing is kept in the run.
    `((),)` is the whole output."""
    concurrency: Concurrency | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Immutable. `digest` is the version's."""

    digest: str
    pipeline: str
    bundle_digest: str
    steps: tuple[Step, ...]
    lines: tuple[Line, ...]
    """What the steps wait for. Steps with equal lines and another priority or concurrency have another position."""
    priorities: tuple[int, ...]
    """Of the steps at each position of `lines`; added to the run's."""
    numbers: dict[str, int]
    """Step numbers by name."""
    timeout: int | None
    max_parallel: int
    """0: no limit."""
    fail_fast: bool
    stop_grace: int
    cleanup_roots: tuple[int, ...]
    """Cleanup steps without an upstream: they wait for every step that is no cleanup step."""
    concurrency: Concurrency | None = None
    """Of runs."""
    max_active_runs: int = 0
    """0: no limit."""
    limited: dict[int, Concurrency] = field(default_factory=dict)
    """The concurrency of steps by their position in `lines`, where there is one."""
