"""What a run is at one moment: the fold of its events, and nothing that the events do not say.

The plan is shared by all runs of a version. A run is arrays over its steps (and over the items of its maps), plus an
object for each step run that is under way. Only `evolve` changes any of it.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Iterator
from heapq import heappush
from typing import Any, NamedTuple

import msgspec

from penstock_coordinator.core.plan.keys import key_or_source
from penstock_coordinator.core.plan.model import CHILDREN, LOOKUPS, Concurrency, Json, Line, Plan, Step
from penstock_coordinator.core.run.events import WHOLE, CacheMode, Failure, WaitReason
from penstock_coordinator.core.run.mapped import Groups, MapState
from penstock_coordinator.core.run.numbering import Numbering, kept_number
from penstock_coordinator.core.run.openings import Opening, began_in
from penstock_coordinator.core.run.places import display_name
from penstock_coordinator.core.run.raised import Raised
from penstock_coordinator.core.run.ready import ReadyQueue
from penstock_coordinator.core.run.sources import item_value
from penstock_coordinator.core.run.spending import Spending
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.timers import Timer
from penstock_coordinator.core.run.undoing import Undoing

HEARD_RESULTS = 256
"""How many of the newest results are remembered by token, to tell a repetition from a stale one."""

RETIRED = 255
"""In place of the state of a step that the run's version does not have: at rest, and no state that is counted."""

_PLAIN_STATES = 64
"""So many are packed as they are."""
_APART = frozenset({WaitReason.BACKOFF, WaitReason.CACHE})
_USUALLY_ONE = frozenset({StepState.COMPLETED, StepState.FAILED, StepState.ROLLED_BACK})
_NOBODY: frozenset[tuple[int, int]] = frozenset()
_NOTHING_HEARD: list[tuple[int, int, int]] = []
"""Of runs that wait. Shared, never written."""
_NO_TIMERS: list[Timer] = []
"""Of runs without clocks. Shared, never written: whoever starts a clock gives the run its own."""
_NO_ORDER = array("Q")
"""Of runs of which nothing can be undone. Shared, never written."""


class Nothing(dict[Any, Any]):
    """No entries, shared by all runs that have none: most have none of most kinds, and an empty dictionary for each of
    them would be a sixth of a run that waits. Whoever adds the first one gives the run a dictionary of its own."""

    __slots__ = ()

    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError("nothing is added to what all share")

    def setdefault(self, key: object, default: object = None) -> object:
        raise TypeError("nothing is added to what all share")


NOTHING = Nothing()
_NONE = [0] * (StepState.ROLLED_BACK + 1)
"""Of no step runs at all. Shared, never written."""
_PENDING, _READY, _RUNNING, _WAITING = StepState.PENDING, StepState.READY, StepState.RUNNING, StepState.WAITING


class Wait(NamedTuple):
    reason: WaitReason
    until: int | None
    key: str

    @property
    def within(self) -> bool:
        """Whether what is waited for is a part of the step run, which is under way all the same: a backoff is none."""
        return self.reason not in _APART


class Lookup(NamedTuple):
    """What is known of the value of a step run that is to be found in the cache, or put into it."""

    token: int
    """Of the question."""
    key: bytes = b""
    """Once the step run has to be run: where its value is kept. Empty: nowhere."""
    reserved: bool = False
    """Others wait for it."""
    why: str = ""
    """It is run without the cache."""


class Held(NamedTuple):
    """The limit on runs that a run waits for."""

    key: str
    limit: int
    since: int


class Paused(NamedTuple):
    """Who paused a run, and when."""

    at: int
    requested_by: str
    reason: str
    from_above: bool = False
    """By the pause of the run that it is a step of."""


class StepCounts(NamedTuple):
    """Step runs by state; a mapped step counts its items once it is expanded."""

    pending: int
    ready: int
    running: int
    waiting: int
    completed: int
    failed: int
    skipped: int
    upstream_failed: int
    cancelled: int
    rolled_back: int


class ActiveStep(msgspec.Struct, gc=False, eq=False):
    """A step run that is under way: from READY (of an item: from its first lease) until it is at rest."""

    step: int
    item: int
    first_ready_at: int
    ready_at: int
    attempts: int = 0
    """Attempts that may have started user code, with the one under way."""
    failures: int = 0
    """Attempts that are charged to the step's retries."""
    losses: int = 0
    """Attempts that are charged to the infrastructure."""
    deaths: tuple[str, ...] = ()
    """The boot ids of agents that died while they ran it."""
    started_at: int | None = None
    """The first lease."""
    leased_at: int | None = None
    """The newest lease."""
    token: int = 0
    """Of the lease that it holds; 0: none."""
    session: int = 0
    agent: str = ""
    last_failure: Failure | None = None
    displaced: Failure | None = None
    """It is to come to rest, because the policy of a limit says so."""
    wait: Wait | None = None


class Run:
    """One execution of a plan. A new one has no events yet: `seq` 0.

    What most runs never have is an attribute of the class, until a run gets one of its own: of 10,000 runs that wait
    the room for it would be megabytes.
    """

    __slots__ = (
        "__dict__",
        "_heard",
        "active",
        "admitted_at",
        "created_at",
        "ended_at",
        "frontier",
        "maps",
        "open_steps",
        "open_upstream",
        "open_work",
        "parameters",
        "plan",
        "queued_timers",
        "queues",
        "run_id",
        "running",
        "semantics",
        "seq",
        "started_at",
        "state",
        "states",
        "tally",
        "timers",
    )

    plans: dict[str, Plan] = NOTHING
    """By digest, the versions that a new generation may go on with, compiled onto `plan`. Whoever decides or folds such
    a generation puts it here before."""
    generation: int = 1
    reason: str = ""
    deadline: int | None = None
    """Of the run's own timeout."""
    verdict: RunState | None = None
    """How the run will end, once it is being stopped."""
    immediate: bool = False
    """Being stopped without politeness and without cleanup."""
    cancel_deadline: int = 0
    held: Held | None = None
    """Nothing starts before the run is admitted."""
    spending: Spending | None = None
    """Of a run that has a budget of its own."""
    paused: Paused | None = None
    """Nothing starts before the run is resumed."""
    resumed_at: int | None = None
    """When a person last resumed the run: no pause of the run above that is older holds it."""
    first_failure: tuple[int, int, Failure] | None = None
    """(step, item, failure) of the first failure of this generation that is not allowed."""
    earlier_failure: tuple[int, int, Failure] | None = None
    """Of a former generation, whose step run stayed as it was."""
    stayed: bytes = b""
    """Per step: whether it stayed at rest when the generation began, or is retired. Empty in the first one."""
    openings: tuple[Opening, ...] = ()
    """What each generation but the first has begun anew."""
    spent: dict[tuple[int, int], int] = NOTHING
    """Per step run that is not under way, if another: numbers of attempts used; of items by their kept numbers.
    Otherwise it is 1 of one that is COMPLETED or FAILED, and 0."""
    numberings: dict[int, Numbering] = NOTHING
    """Of mapped steps that were reset."""
    undoing: Undoing | None = None
    """If the newest generation is one that rolls back what was done, or came to that in its end."""
    rested: array[int] = _NO_ORDER
    """Per step of a plan of which something can be undone: the number of the event by which it came to rest."""
    kept: dict[int, tuple[bytes, ...]] = NOTHING
    """Per step that is not mapped: what conditions and maps need of its output."""
    cleanup_tally: list[int] = _NONE
    """Of cleanup steps, as `tally`."""
    raised: Raised | None = None
    """Lines of the run's own, once it has some."""
    children: dict[tuple[int, int], bytes] = NOTHING
    """By step run (step, item) the id of the run that it waits for."""
    away: tuple[int, int] = (0, 0)
    """How many they are: of plain steps, of cleanup steps."""
    cache: CacheMode = CacheMode.USE
    lookups: dict[tuple[int, int], Lookup] = NOTHING
    """By step run (step, item), of those with a cache policy that are under way, from the question on."""
    anew: frozenset[tuple[int, int]] = _NOBODY
    """(step, item) of what is computed whatever the cache has; with WHOLE all items of a mapped step."""
    given_up: dict[bytes, str] = NOTHING
    """Runs that steps did wait for, and do no more though they may not be at rest; and why."""
    opening: dict[int, None] = NOTHING
    """Mapped steps with items, or groups of them, that can be decided."""
    finished_maps: dict[int, None] = NOTHING
    """Mapped steps that are not at rest though all their items are."""
    _parameter_values: Json = None
    _keys: dict[Concurrency, str] = NOTHING
    """Those that expressions give, once somebody asked for them; derived, so no part of the state."""

    def __init__(self, plan: Plan, run_id: bytes = b"") -> None:
        self.plan = plan
        self.run_id = run_id
        """The ids of the runs that its steps are follow from it."""
        self.seq = 0
        """The number of the newest event."""
        self.state = RunState.PENDING
        self.semantics = 0
        self.parameters = b"{}"
        self.created_at: int | None = None
        self.started_at: int | None = None
        """The first lease."""
        self.ended_at: int | None = None
        self.admitted_at: int | None = None
        """The run began to hold its places under limits on runs."""
        self.states = bytearray((_PENDING,)) * len(plan.steps)
        """Of steps; a mapped step is RUNNING from its expansion until its items are at rest."""
        self.open_upstream = plan.upstream_counts[:] if plan.connected else plan.upstream_counts
        """Per step: how many of its upstream are not at rest. One whose items it goes along with does not count from
        its expansion on. Without edges it is the plan's: nobody writes to it."""
        self.active: dict[int, ActiveStep] = {}
        """Of steps that are not mapped."""
        self.maps: dict[int, MapState] = NOTHING
        self.open_steps = len(plan.steps) - len(plan.undoing)
        """Steps that are not at rest; a mapped step counts as one."""
        self.open_work = self.open_steps - plan.cleanup_count
        """Those of them that are no cleanup steps."""
        self.tally = [0] * (StepState.ROLLED_BACK + 1)
        """Step runs by state, without those of cleanup steps."""
        self.tally[_PENDING] = self.open_work
        self.queues: dict[int, ReadyQueue] = NOTHING
        """Per line that has any: the step runs that are READY, in order."""
        self.running = 0
        """Step runs that hold a lease."""
        self.frontier: dict[int, None] = NOTHING
        """PENDING steps whose trigger rule can be decided, in the order in which that came about."""
        self.timers = _NO_TIMERS
        self.queued_timers = _NO_TIMERS
        """A heap of their own, because queued clocks stand still until agents had time to come back."""
        self._heard = _NOTHING_HEARD
        if plan.undoing:
            self._await_rollback(plan)
        if plan.cleanup_count:
            self.cleanup_tally = [0] * len(self.tally)
            self.cleanup_tally[_PENDING] = plan.cleanup_count

    def _await_rollback(self, plan: Plan) -> None:
        """What undoes other steps has no part in the run before one begins."""
        self.rested = array("Q", bytes(8 * len(plan.steps)))
        for number in plan.undoing:
            self.states[number] = StepState.SKIPPED
        self.tally[StepState.SKIPPED] = len(plan.undoing)

    # --- what the fold writes ----------------------------------------------------------------------------------------

    def add_to_frontier(self, step: int) -> None:
        """The trigger rule of the step, which is PENDING, can be decided."""
        if self.frontier is NOTHING:
            self.frontier = {}
        self.frontier[step] = None

    def start_clock(self, timer: Timer) -> None:
        if self.timers is _NO_TIMERS:
            self.timers = []
        heappush(self.timers, timer)

    def start_queued_clock(self, timer: Timer) -> None:
        if self.queued_timers is _NO_TIMERS:
            self.queued_timers = []
        heappush(self.queued_timers, timer)

    def stop_clocks(self) -> None:
        self.timers = self.queued_timers = _NO_TIMERS

    def tally_of(self, step: Step) -> list[int]:
        """The counts that step runs of the step are in."""
        return self.cleanup_tally if step.cleanup else self.tally

    @property
    def tallies(self) -> tuple[list[int], list[int]]:
        """Step runs by state: of plain steps, of cleanup steps."""
        return self.tally, self.cleanup_tally

    # --- what a dispatcher asks --------------------------------------------------------------------------------------

    def demand(self, line: int) -> int:
        """How many step runs of the line could be leased now."""
        queue = self.queues.get(line)
        if queue is None or line < 0 or self.sweeping or self.stands_still:
            return 0
        limit = self.plan.max_parallel
        return queue.count if not limit else min(queue.count, max(limit - self.running, 0))

    def demanded_lines(self) -> list[int]:
        """The lines with a demand, in the order in which the demand arose."""
        limit = self.plan.max_parallel
        if not self.queues or (limit and self.running >= limit) or self.sweeping or self.stands_still:
            return []
        return [line for line in self.queues if line >= 0]

    def line_of(self, step: Step, item: int) -> int:
        """Where the step run lines up when it is READY."""
        if step.cache is None or self.cache is CacheMode.OFF or (step.number, item) in self.lookups:
            return self.agents_line(step.number, item)
        return LOOKUPS

    def agents_line(self, step: int, item: int) -> int:
        """The position of the line in which the step run waits for an agent, or did."""
        base = self.plan.steps[step].line
        return base if self.raised is None else self.raised.position(step, item, base)

    def line_at(self, position: int) -> Line:
        """Of the plan, or after those of the run itself."""
        lines = self.plan.lines
        if position < len(lines):
            return lines[position]
        assert self.raised is not None
        return self.raised.line(position)

    def plan_line(self, position: int) -> int:
        """The position of the plan's line that a line is, or comes from."""
        found = None if self.raised is None else self.raised.at(position)
        return position if found is None else found.base

    def limit_key(self, position: int) -> str | None:
        """The key of the limit that the step runs at a position of the plan's lines share; None if there is none."""
        concurrency = self.plan.limited.get(self.plan_line(position))
        if concurrency is None:
            return None
        if isinstance(concurrency.key, str):
            return concurrency.key
        key = self._keys.get(concurrency)
        if key is None:
            key = key_or_source(concurrency, self.parameter_values)
            self._keys = {**self._keys, concurrency: key}
        return key

    def holds_place(self, step: int, item: int) -> bool:
        """Whether the step run counts for the limit of its key."""
        return self.state_of(step, item) is _RUNNING

    def speaks(self, step: int, item: int, token: int) -> bool:
        """Whether the token is that of a lease which the step run holds: results of no other are heard."""
        return self.speaker(step, item, token) is not None

    def speaker(self, step: int, item: int, token: int) -> ActiveStep | None:
        """The step run that holds a lease by this token."""
        active = self.active_step(step, item)
        return active if active is not None and token and active.token == token else None

    def active_step(self, step: int, item: int) -> ActiveStep | None:
        if item == WHOLE:
            return self.active.get(step)
        mapped = self.maps.get(step)
        return None if mapped is None else mapped.active.get(item)

    def asker(self, step: int, item: int, token: int) -> Lookup | None:
        """The question of the step run, if it waits for the answer to that one."""
        lookup = self.lookups.get((step, item))
        return lookup if lookup is not None and lookup.token == token and self.awaits_value(step, item) else None

    def awaits_value(self, step: int, item: int) -> bool:
        """Whether the step run waits for the cache."""
        active = self.active_step(step, item)
        return active is not None and active.wait is not None and active.wait.reason is WaitReason.CACHE

    def computes_anew(self, step: int, item: int) -> bool:
        if self.cache is CacheMode.REFRESH:
            return True
        return bool(self.anew) and ((step, item) in self.anew or (step, WHOLE) in self.anew)

    def waits_for(self, step: int, item: int, run_id: bytes) -> ActiveStep | None:
        """The step run, if it is that run whose end it waits for."""
        return self.active_step(step, item) if self.children.get((step, item)) == run_id else None

    def leased(self) -> Iterator[ActiveStep]:
        """The step runs that hold a lease, steps before items. Takes time by the number of active step runs."""
        for active in self.active.values():
            if active.token:
                yield active
        for mapped in self.maps.values():
            for active in mapped.active.values():
                if active.token:
                    yield active

    def hear(self, step: int, item: int, token: int) -> None:
        """A result came. The newest are remembered."""
        if not self._heard:
            self._heard = []
        self._heard.append((step, item, token))
        if len(self._heard) > HEARD_RESULTS:
            del self._heard[0]

    def has_heard(self, step: int, item: int, token: int) -> bool:
        return (step, item, token) in self._heard

    # --- what a reader asks ------------------------------------------------------------------------------------------

    def state_of(self, step: int, item: int = WHOLE) -> StepState:
        """Raises `LookupError` for an item that is not there (yet)."""
        return StepState(self.states[step] if item == WHOLE else self.maps[step].states[item])

    def items_of(self, step: int) -> bytearray | None:
        """The states of a mapped step's items, not to be changed; None before it is expanded."""
        mapped = self.maps.get(step)
        return None if mapped is None else mapped.states

    def groups_of(self, step: int) -> Groups | None:
        """Of a nested map; None before it is expanded."""
        mapped = self.maps.get(step)
        return None if mapped is None else mapped.groups

    def item_value(self, step: int, item: int) -> Json:
        """The value that an item of a step stands for that is expanded over lists. Of one that goes along with another
        step only the parts that conditions read."""
        return item_value(self, step, item)

    def counts(self) -> StepCounts:
        plain, cleanup = self.tallies
        return StepCounts(*(plain[state] + cleanup[state] for state in StepState))

    def item_counts(self, step: int) -> StepCounts | None:
        """None before the step is expanded."""
        mapped = self.maps.get(step)
        return None if mapped is None else StepCounts(*(mapped.tally[state] for state in StepState))

    def display_name(self, step: int, item: int = WHOLE) -> str:
        """`step`, `step[3]` or `step[0][3]`."""
        return display_name(self.plan, self, step, item)

    @property
    def parameter_values(self) -> dict[str, Json]:
        if self._parameter_values is None:
            self._parameter_values = json.loads(self.parameters)
        values: dict[str, Json] = self._parameter_values
        return values

    def set_parameters(self, parameters: bytes) -> None:
        """For another version of the pipeline, which has more of them."""
        self.parameters = parameters
        self._parameter_values = None
        self._keys = NOTHING

    def pack(self) -> bytes:
        """The states of all step runs in a few bytes, for `summary.unpack`."""
        items = {step: zlib.compress(mapped.states) for step, mapped in self.maps.items()}
        groups = {step: mapped.groups.pack() for step, mapped in self.maps.items() if mapped.groups is not None}
        # A compressed text begins with another byte than a state.
        states = bytes(self.states) if len(self.states) <= _PLAIN_STATES else zlib.compress(self.states)
        numberings = {step: numbering.pack() for step, numbering in self.numberings.items()}
        return msgspec.msgpack.encode((states, items, groups, self.openings, self.plan.lineage, numberings))

    # --- what the rules ask ------------------------------------------------------------------------------------------

    @property
    def at_rest(self) -> bool:
        return self.state >= RunState.COMPLETED

    def began_in(self, step: int, item: int = WHOLE) -> int:
        """The generation in which the step run, as it is now, began."""
        return began_in(self.openings, step, item)

    def attempts_used(self, step: int, item: int) -> int:
        """How many numbers of attempts a step run has used, in all generations."""
        active = self.active_step(step, item)
        if active is not None:
            return active.attempts
        found = self.spent.get((step, self.kept_number(step, item)))
        if found is not None:
            return found
        if item == WHOLE and self.plan.steps[step].map is not None:
            return 0
        return int((self.states[step] if item == WHOLE else self.maps[step].states[item]) in _USUALLY_ONE)

    def kept_number(self, step: int, item: int) -> int:
        """The number under which the attempts and lines of an item are kept."""
        return kept_number(self.numberings, step, item)

    def spent_before(self, step: int, item: int) -> int:
        """How many numbers of attempts a step run that is not under way has used before it began (again)."""
        return self.spent.get((step, self.kept_number(step, item)), 0) if self.spent else 0

    @property
    def left_cancelled(self) -> bool:
        """Whether step runs are CANCELLED that a former generation has left."""
        plain, cleanup = self.tallies
        return bool(self.stayed) and plain[StepState.CANCELLED] + cleanup[StepState.CANCELLED] > 0

    def doomed(self, step: int) -> bool:
        """Whether the step is to come to rest CANCELLED, if it does not complete before."""
        return self.state == RunState.CANCELLING and (self.immediate or not self.plan.steps[step].cleanup)

    @property
    def unswept(self) -> int:
        """Step runs that the cancelling of the run has still to settle; those with a lease, and those that wait for
        their own runs, settle by themselves."""
        if self.state != RunState.CANCELLING:
            return 0
        plain, cleanup = self.tallies
        count = plain[_PENDING] + plain[_READY] + plain[_WAITING] - self.away[False]
        if self.immediate:
            count += cleanup[_PENDING] + cleanup[_READY] + cleanup[_WAITING] - self.away[True]
        return count

    @property
    def sweeping(self) -> bool:
        return self.unswept > 0

    @property
    def spawning(self) -> bool:
        """Whether there are step runs that are to begin to wait for runs of their own."""
        return CHILDREN in self.queues and not self.stands_still and not self.sweeping

    @property
    def asking(self) -> bool:
        """Whether there are step runs whose value is to be looked up."""
        return LOOKUPS in self.queues and not self.stands_still and not self.sweeping

    @property
    def stands_still(self) -> bool:
        """Nothing starts, and clocks of those that wait for an agent do not go on: the run is paused, or held by its
        budget."""
        if self.paused is not None:
            return True
        return self.spending is not None and (self.over_budget or self.overspent)

    @property
    def over_budget(self) -> bool:
        """Nothing starts before the budget is raised. Cleanup steps, and what undoes others, are not held."""
        return self.spending is not None and self.spending.holds and self._budget_counts

    @property
    def _budget_counts(self) -> bool:
        return self.open_work > 0 and self.state < RunState.CANCELLING and self.undoing is None

    @property
    def overspent(self) -> bool:
        """Nothing is left of the budget, and nothing was made of it yet."""
        spending = self.spending
        if spending is None or spending.since is not None:
            return False
        return spending.over is not None and self._budget_counts

    @property
    def stopped_by_budget(self) -> bool:
        spending = self.spending
        return spending is not None and spending.since is not None and not spending.holds and self._budget_counts

    @property
    def failing_fast(self) -> bool:
        """Whether the first failure is to stop what is still to do, and has not yet."""
        if not self.plan.fail_fast or self.first_failure is None or self.undoing is not None:
            return False
        return self.open_work > 0 and self.state < RunState.CANCELLING

    @property
    def rollback_owed(self) -> bool:
        """Whether the rollback is to begin, or has consequences that the last turn left for another one."""
        undoing = self.undoing
        if undoing is None:
            return False
        return bool(undoing.undone or undoing.stuck) if undoing.begun else self.state < RunState.CANCELLING

    @property
    def deciding(self) -> bool:
        """Whether it is to be seen of steps what becomes of them, now that others are at rest."""
        return bool(self.frontier or self.opening or self.finished_maps)

    @property
    def unfinished(self) -> bool:
        """Whether there are consequences that the last turn left for another one."""
        if self.at_rest or self.held is not None:
            return False
        drawn = self.deciding or self.rollback_owed or self.overspent
        return bool(drawn or self.sweeping or self.spawning or self.asking or self.failing_fast)
