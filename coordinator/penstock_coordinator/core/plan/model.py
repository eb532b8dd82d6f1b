"""The compiled form of a pipeline version.

A plan is made once per version and shared by all its runs. Steps are named by their position in the stored
specification: a run then needs no more than arrays indexed by it.

Spans of time are whole microseconds, so that arithmetic on them is exact and the same on every replay.
"""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock_coordinator.core.plan.budget import CostBudget, Per
from penstock_coordinator.core.plan.slo_tiers import SloTier

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
    max_losses: int = 0
    """0: what the coordinator's setting says."""
    memory_factor: float = 1.0
    """After an attempt that ran out of memory the next one asks for so many times as much."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Microseconds; None is no limit."""

    queued: int | None = None
    attempt: int | None = None
    overall: int | None = None


@dataclass(frozen=True, slots=True)
class PythonEnvironment:
    """In canonical form: equal ones have equal names."""

    requirements: tuple[str, ...] = ()
    lock: str = ""
    pylock: bool = False
    python: str = ""
    """Specifiers of its version; empty: that of the agent."""


@dataclass(frozen=True, slots=True)
class ContainerEnvironment:
    image: str
    pull: str
    """missing, always or never."""


Environment: TypeAlias = PythonEnvironment | ContainerEnvironment


@dataclass(frozen=True, slots=True)
class Line:
    """What a session is matched with: all steps with an equal line wait for the same agents."""

    queue: str
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    environment: str = ""
    """The name of it, which begins with its kind; empty: the agent's own."""
    _hash: int = field(init=False, compare=False, repr=False)
    """Made once: every placing of a step looks its line up several times."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.queue, self.labels, self.resources, self.environment)))

    def __hash__(self) -> int:
        return self._hash


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
class CachePolicy:
    """When an earlier value stands for running a step."""

    expires: int | None = None
    """How old it may be, in microseconds; None: as old as it is kept."""
    version: str = ""
    ignore: tuple[str, ...] = ()
    """Inputs and parameters that do not count."""
    key: str | KeyExpression | None = None
    """In place of inputs and parameters."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What an agent would need to serve a line: `wanted` of `name`, where it has `has` ("" or "0": none)."""

    what: str
    """queue, label, resource or environment."""
    name: str
    wanted: str
    has: str = ""
    why: str = ""
    """In the agent's own words, if it has any."""


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


@dataclass(frozen=True, slots=True)
class FromUndone:
    """The output of the step run that is undone."""

    path: Path = ()


InputSource: TypeAlias = FromValue | FromParameter | FromStep | FromItem | FromUndone
MapSource: TypeAlias = FromValue | FromParameter | FromStep


class MapForm(enum.IntEnum):
    LISTS = 1
    """Over lists that are there as wholes before the step is expanded."""
    EACH = 2
    """Item by item over a mapped step: its shape is that step's."""
    NESTED = 3
    """Over the lists that the items of a mapped step give: one level more than that step has."""
    UNDONE = 4
    """Of a step that undoes a mapped one: its items are that step's, and are begun by the rollback alone."""


@dataclass(frozen=True, slots=True)
class StepMap:
    """What a step is mapped over."""

    lists: tuple[MapSource, ...]
    """One; several for an item that is an object. Of the other forms the step that is followed; of NESTED with the path
    at which its items give lists."""
    names: tuple[str, ...] = ()
    """The members of the item, if it is an object: as many as there are lists."""
    zipped: bool = False
    """Several lists are walked through together; else the item is every combination, the last list running fastest."""
    form: MapForm = MapForm.LISTS
    max_parallel: int = 0
    """Items that may be under way at once; 0: no limit."""

    @property
    def followed(self) -> int | None:
        """The mapped step that this one goes along with."""
        if self.form is MapForm.LISTS:
            return None
        source = self.lists[0]
        assert isinstance(source, FromStep)
        return source.step

    @property
    def path(self) -> Path:
        """Where the items of the followed step have their lists."""
        source = self.lists[0]
        return source.path if isinstance(source, FromStep) else ()


@dataclass(frozen=True, slots=True)
class FunctionAction:
    module: str
    qualname: str
    code_digest: str = ""
    """Of all code that the function can reach; empty: the bundle's digest stands for it."""


@dataclass(frozen=True, slots=True)
class CommandOutput:
    name: str
    stdout: bool
    file: str
    json: bool
    artifact: bool = False
    """The file or folder itself is kept."""


@dataclass(frozen=True, slots=True)
class CommandAction:
    argv: tuple[str, ...]
    shell: str
    outputs: tuple[CommandOutput, ...]
    success_exit_codes: tuple[int, ...]
    input_files: tuple[tuple[str, str], ...] = ()
    """By input, where its value is put; sorted."""


@dataclass(frozen=True, slots=True)
class PipelineAction:
    """The step is a run of a pipeline, its sub-pipeline."""

    pipeline: str
    version_number: int = 0
    """0: the newest when the run is started."""


Action: TypeAlias = FunctionAction | CommandAction | PipelineAction

CHILDREN = -1
"""The line of steps that are runs of pipelines: no agent serves it, and it is none of the plan's lines."""
LOOKUPS = -2
"""The line of steps whose value may be in the cache: they line up there first, and in their own line if it is not."""


@dataclass(frozen=True, slots=True)
class SecretUse:
    """Where an attempt finds the value of a secret besides: in a variable, in a file of its own."""

    name: str
    env: str = ""
    file: str = ""


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
    map: StepMap | None
    inputs: tuple[tuple[str, InputSource], ...]
    retry: Retry
    timeouts: Timeouts
    line: int
    """Position in `Plan.lines`: of steps with an equal line, priority and concurrency. CHILDREN: no agent is needed."""
    env: tuple[tuple[str, str], ...]
    allow_failure: bool
    cleanup: bool
    kept_paths: tuple[Path, ...]
    """The parts of this step's output that conditions and maps downstream read. Empty: nothing is kept in the run.
    `((),)` is the whole output."""
    concurrency: Concurrency | None = None
    kept_lengths: tuple[Path, ...] = ()
    """The lists in this step's output of which the run keeps how long they are: nested maps need no more."""
    depth: int = 0
    """Levels of its places: 0 is not mapped."""
    shape: int = -1
    """The mapped step whose items have the same numbers at the same places: itself, or the one that it goes along with
    item by item, and that one's, and so on. -1: not mapped."""
    followers: tuple[int, ...] = ()
    """Those of `downstream` that go along with its items, and open when it is expanded."""
    joiners: tuple[int, ...] = ()
    """The others of `downstream`: they wait until it is at rest as a whole."""
    secrets: tuple[SecretUse, ...] = ()
    compensate: int | None = None
    """The step that undoes this one."""
    cache: CachePolicy | None = None
    undoes: int | None = None
    """The step that this one undoes, when the run is rolled back. It has no edges, and is SKIPPED until then."""
    judged: bool = False
    """Maps or conditions read of its output, and not only the output of the run."""
    retired: bool = False
    """The version has no such step, but an earlier one of the run had it: its number and its name are kept for what is
    stored of it. It has no edges, and no state."""

    @property
    def followed(self) -> int | None:
        """The mapped step that this one goes along with item by item, or nested."""
        return None if self.map is None else self.map.followed


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
    """Step numbers by name, without those of retired steps."""
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
    outputs: tuple[tuple[str, FromStep], ...] = ()
    """What the output of a run is made of: the members of an object, or a part alone with no name. Empty: null."""
    pickling: frozenset[str] = frozenset()
    """Names of the steps that may write and read pickles."""
    budget: CostBudget | None = None
    rolls_back: bool = False
    """A run that would end FAILED is rolled back."""
    environments: dict[str, Environment] = field(default_factory=dict)
    """By name: what the lines name."""
    slo_tier: SloTier = SloTier.DEFAULT
    lineage: tuple[str, ...] = ()
    """The digests of the versions that the run was of before this one, oldest first: they gave the steps their
    numbers."""
    upstream_counts: array[int] = field(init=False, compare=False, repr=False)
    """Of each step: what its runs begin with, made once."""
    connected: bool = field(init=False, compare=False, repr=False)
    """Whether any step has an upstream."""
    entries: tuple[int, ...] = field(init=False, compare=False, repr=False)
    """The steps that can be decided when a run begins."""
    cleanup_count: int = field(init=False, compare=False, repr=False)
    undoing: tuple[int, ...] = field(init=False, compare=False, repr=False)
    """The steps that undo others."""
    window_budget: CostBudget | None = field(init=False, compare=False, repr=False)
    """If it is one of the pipeline, for a day, a week or a month."""
    caches: bool = field(init=False, compare=False, repr=False)
    """Whether any step has a cache policy."""

    def __post_init__(self) -> None:
        counts = array("I", [len(step.upstream) for step in self.steps])
        object.__setattr__(self, "upstream_counts", counts)
        object.__setattr__(self, "connected", any(counts))
        object.__setattr__(self, "entries", tuple(step.number for step in self.steps if _is_entry(step)))
        object.__setattr__(self, "cleanup_count", sum(1 for step in self.steps if step.cleanup))
        object.__setattr__(self, "window_budget", _window_budget(self))
        object.__setattr__(self, "caches", any(step.cache is not None for step in self.steps))
        object.__setattr__(self, "undoing", tuple(step.number for step in self.steps if step.undoes is not None))


def _window_budget(plan: Plan) -> CostBudget | None:
    return None if plan.budget is None or plan.budget.per is Per.RUN else plan.budget


def _is_entry(step: Step) -> bool:
    if step.upstream:
        return step.rule is TriggerRule.ALWAYS
    return not step.cleanup and step.undoes is None
