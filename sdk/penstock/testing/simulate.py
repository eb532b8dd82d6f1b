"""The simulator for pipelines of one's own: what becomes of it when everything goes wrong that can."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.authoring.preparing import called_first
from penstock.errors import DefinitionError, PenstockError
from penstock.names import nearest
from penstock.testing.agents import AgentSpec
from penstock.testing.cluster import simulation_of
from penstock.testing.coordinator import Timing
from penstock.testing.executions import Behaviour
from penstock.testing.faults import OF_ALL, OF_MEMBERS, OF_ONE, OF_SEVERAL, PEOPLE, Fault, FaultKind, draw_faults
from penstock.testing.shrinking import line_of, script, shrunk
from penstock.testing.simulation import Outcome, RunSpec, Scenario, Simulation
from penstock.testing.timeline import SECOND
from penstock.wire_values import to_value
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.digest import digest_of
from penstock_coordinator.core.plan.parameters import InvalidParameters, bind
from penstock_coordinator.core.plan.validate import problems
from penstock_coordinator.core.run.events import WHOLE

if TYPE_CHECKING:
    from penstock.authoring.pipelines import Pipeline
    from penstock.v1 import pipeline_pb2
    from penstock_coordinator.core.plan.model import Line, Plan

_BUNDLE = "0" * 64
"""No code is run, so none is packed."""
_TIMING = Timing(
    heartbeat_interval=5 * SECOND, lease_ttl=15 * SECOND, expiry_margin=3 * SECOND, result_resend_interval=5 * SECOND
)
_RATES = (1.0, 0.9991, 1.0009)
"""Of the clocks of several coordinators."""


@dataclass(frozen=True, slots=True)
class StepBehaviour:
    """What an attempt of a step does: it takes `seconds` of simulated time, then it gives `output` (anything that JSON
    has) or ends with an error of the class `error`."""

    seconds: float = 0.05
    output: Any = None
    error: str = ""
    ignores_stop: bool = False
    """It goes on when it is asked to stop, until it is killed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that begins: of `step`, of its `item` if it is mapped (from 0 on), with `number` from 1 on."""

    pipeline: str
    step: str
    item: int | None
    number: int


Behaviours: TypeAlias = "Mapping[str, StepBehaviour | Sequence[StepBehaviour]] | Callable[[Attempt], StepBehaviour]"


@dataclass(frozen=True)
class SimulationResult:
    """How it went. All accepted runs have come to their ends, and every promise was kept on the way."""

    seed: int
    states: tuple[str, ...]
    """Of the runs, in the order in which they were started: COMPLETED, FAILED or CANCELLED."""
    steps: dict[str, str]
    """The states of the first run's steps, by name; of a mapped step as a whole."""
    attempts: dict[str, int]
    """How many attempts began of each step of the pipeline, in all runs."""
    faults: tuple[str, ...]
    """What went wrong, in order."""
    trace: tuple[str, ...] = field(repr=False)
    """All that happened, for people."""
    trace_hash: str
    """The same for the same seed and arguments, in every process."""

    @property
    def state(self) -> str:
        """Of the first run."""
        return self.states[0]


class PromiseBroken(PenstockError):
    """A promise of Penstock did not hold. `script` tells what is needed to break it, and how to see it again."""

    def __init__(self, seed: int, invariant: str, told: str) -> None:
        super().__init__(f"seed {seed} breaks {invariant}:\n{told}")
        self.seed = seed
        self.invariant = invariant
        self.script = told


def simulate(
    pipeline: Pipeline,
    *,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    behaviour: Behaviours | None = None,
    faults: Iterable[FaultKind | str] | Sequence[Fault] | None = None,
    agents: int | Sequence[AgentSpec] = 2,
    slots: int = 2,
    runs: int = 1,
    chaos_seconds: float = 15.0,
    coordinators: int = 1,
    join: bool = False,
) -> SimulationResult:
    """Run the pipeline `runs` times on simulated agents, with faults, until everything is at rest.

    Nothing of the pipeline's own code is called: `behaviour` says what attempts do, by the name of the step (several
    behaviours are those of the first attempt, the second one and so on; the last one stays) or as a function; a step
    without one completes at once with null. `faults` are the kinds to draw from (see `FaultKind`; an empty list: none),
    or `Fault`s with their instants; None draws kinds that nobody asked for: no cancel, pause, retry or drain by people.
    `agents` is a number, or what each of them is. With several `coordinators` one owns the runs and the others follow
    and take over: some kinds of faults are for them alone. With `join` those that follow become members of the one that
    owns, which is the head then, and have runs of their own. The same arguments give the same schedule.

    Raises `DefinitionError`, which names the argument, if one of them is not valid, and `PromiseBroken`.
    """
    _check_amounts(agents, slots, runs, chaos_seconds, coordinators)
    if join and coordinators == 1:
        raise DefinitionError("there is nobody to join", field="join", remedy="give coordinators=3, or leave it out")
    stage = _Stage(pipeline, behaviour)
    chaos = int(chaos_seconds * SECOND)
    scenario = stage.scenario(seed, parameters or {}, faults, agents, slots, runs, chaos, coordinators, join=join)
    simulation = stage.simulation = simulation_of(scenario)
    outcome = simulation.play()
    if outcome.violation is not None:
        smallest = shrunk(outcome, stage.again)
        told = script(smallest, f"simulate({pipeline.name}, seed={seed}, ...) with the same arguments")
        raise PromiseBroken(seed, outcome.violation.invariant, told) from outcome.violation
    return stage.result(outcome)


class _Stage:
    """A pipeline of the SDK, as the simulator wants it."""

    def __init__(self, pipeline: Pipeline, behaviour: Behaviours | None) -> None:
        self.simulation: Simulation | None = None
        self._behaviour = behaviour or {}
        self._specs = {each.name: _spec(each) for each in called_first([pipeline])}
        self._plans = {name: compile_plan(spec, digest_of(spec)) for name, spec in self._specs.items()}
        self._name = pipeline.name
        self._by_digest = {plan.digest: plan for plan in self._plans.values()}
        if not callable(self._behaviour):
            _check_behaviour(self._behaviour, {step.name for plan in self._plans.values() for step in plan.steps})

    @property
    def _plan(self) -> Plan:
        return self._plans[self._name]

    def scenario(
        self,
        seed: int,
        parameters: Mapping[str, Any],
        faults: Iterable[FaultKind | str] | Sequence[Fault] | None,
        agents: int | Sequence[AgentSpec],
        slots: int,
        runs: int,
        chaos: int,
        coordinators: int,
        *,
        join: bool,
    ) -> Scenario:
        random = Random(f"simulate {seed}")  # noqa: S311 - chance that can be had again is the point
        specs = self._agents(agents, slots) if isinstance(agents, int) else tuple(agents)
        run = RunSpec(self._plan, self._bound(parameters))
        kinds = OF_ALL if join else OF_ONE if coordinators == 1 else OF_SEVERAL
        drawn = _faults(random, faults, len(specs), runs, chaos, kinds)
        several = () if coordinators == 1 else tuple(random.choice(_RATES) for _ in range(coordinators))
        timing, plans = _TIMING, self._plans
        return Scenario(
            seed, specs, (run,) * runs, drawn, self._behave, plans, timing, chaos, several=several, join=join
        )

    def _bound(self, parameters: Mapping[str, Any]) -> bytes:
        given = {name: to_value(value) for name, value in parameters.items()}
        try:
            return bind(self._specs[self._name].parameters, given)
        except InvalidParameters as error:
            raise DefinitionError(str(error), field="parameters") from None

    def _agents(self, count: int, slots: int) -> tuple[AgentSpec, ...]:
        """So many for each place that steps ask for, and all of them serve every queue."""
        lines = [line for plan in self._plans.values() for line in plan.lines]
        places = list(dict.fromkeys(line.labels for line in lines)) or [()]
        queues = tuple(dict.fromkeys(["default", *(line.queue for line in lines)]))
        resources = _most(lines, slots)
        return tuple(
            AgentSpec(f"agent-{number}", slots, queues, labels=labels, resources=resources)
            for number, labels in enumerate(labels for labels in places for _ in range(count))
        )

    def again(self, scenario: Scenario) -> Outcome:
        self.simulation = simulation_of(scenario)
        return self.simulation.play()

    def _behave(self, key: tuple[bytes, int, int], number: int) -> Behaviour:
        assert self.simulation is not None
        run_id, step, item = key
        plan = self._by_digest.get(self.simulation.store.runs[run_id].digest, self._plan)
        name = plan.steps[step].name
        attempt = Attempt(plan.pipeline, name, None if item == WHOLE else item, number)
        said = self._said(attempt)
        output = b"" if said.output is None else json.dumps(said.output).encode()
        return Behaviour(int(said.seconds * SECOND), output, bool(said.error), said.ignores_stop, error=said.error)

    def _said(self, attempt: Attempt) -> StepBehaviour:
        given = self._behaviour
        if callable(given):
            return given(attempt)
        found = given.get(attempt.step, StepBehaviour())
        if isinstance(found, StepBehaviour):
            return found
        return found[min(attempt.number, len(found)) - 1]

    def result(self, outcome: Outcome) -> SimulationResult:
        assert self.simulation is not None
        invariants, run_ids = self.simulation.invariants, self.simulation.people.run_ids
        first = invariants.shadows[run_ids[0]].run
        steps = {step.name: first.state_of(step.number).name for step in first.plan.steps}
        attempts = dict.fromkeys(steps, 0)
        for run_id, step, *_ in invariants.executed:
            if invariants.shadows[run_id].run.plan.digest == first.plan.digest:
                attempts[first.plan.steps[step].name] += 1
        return SimulationResult(
            outcome.scenario.seed,
            tuple(outcome.states[place].name for place in sorted(outcome.states)),
            steps,
            attempts,
            tuple(line_of(entry) for entry in outcome.trace if entry[1] == "fault"),
            tuple(line_of(entry) for entry in outcome.trace),
            outcome.trace_hash,
        )


def _check_amounts(
    agents: int | Sequence[AgentSpec], slots: int, runs: int, chaos_seconds: float, coordinators: int
) -> None:
    least = {
        "agents": (agents if isinstance(agents, int) else len(agents), 1),
        "slots": (slots, 1),
        "runs": (runs, 1),
        "chaos_seconds": (chaos_seconds, 0),
        "coordinators": (coordinators, 1),
    }
    for name, (given, minimum) in least.items():
        if not minimum <= given < float("inf"):
            raise DefinitionError(f"{given!r} is too few", field=name, remedy=f"give {minimum} or more")


def _check_behaviour(given: Mapping[str, StepBehaviour | Sequence[StepBehaviour]], steps: Collection[str]) -> None:
    for name, said in given.items():
        field = f"behaviour.{name}"
        if name not in steps:
            raise DefinitionError(f"there is no step {name!r}", field=field, remedy=nearest(name, steps))
        if not isinstance(said, StepBehaviour) and not (said and all(isinstance(x, StepBehaviour) for x in said)):
            raise DefinitionError(
                f"{said!r} is no behaviour", field=field, remedy="give StepBehaviour(...), or several"
            )


def _spec(pipeline: Pipeline) -> pipeline_pb2.PipelineSpec:
    spec = pipeline.spec()
    spec.bundle_digest = _BUNDLE
    found = problems(spec)
    if found:
        raise DefinitionError(found[0].description, field=f"{pipeline.name}.{found[0].field}")
    return spec


def _most(lines: Iterable[Line], slots: int) -> tuple[tuple[str, float], ...]:
    """Of each resource as much as fills all slots."""
    most: dict[str, float] = {}
    for line in lines:
        for name, amount in line.resources:
            most[name] = max(most.get(name, 0.0), amount * slots)
    return tuple(most.items())


def _faults(
    random: Random,
    given: Iterable[FaultKind | str] | Sequence[Fault] | None,
    agents: int,
    runs: int,
    chaos: int,
    kinds: Sequence[FaultKind],
) -> tuple[Fault, ...]:
    """`kinds`: those that there are with so many coordinators."""
    if given is None:
        enabled: list[FaultKind] = random.sample([kind for kind in kinds if kind not in PEOPLE], random.randint(2, 6))
        return draw_faults(random, agents, runs, enabled, 3, 7, chaos)
    asked = list(given)
    exact = [each for each in asked if isinstance(each, Fault)]
    named = [_kind(each) for each in asked if not isinstance(each, Fault)]
    _check_kinds([each.kind for each in exact] + named, kinds)
    if exact:
        return tuple(sorted(exact, key=lambda fault: fault.at))
    return draw_faults(random, agents, runs, named, 3, 7, chaos) if named else ()


def _kind(given: FaultKind | str) -> FaultKind:
    try:
        return FaultKind(given)
    except ValueError:
        known = ", ".join(kind.value for kind in FaultKind)
        raise DefinitionError(f"there is no fault {given!r}", field="faults", remedy=f"one of {known}") from None


def _check_kinds(given: Iterable[FaultKind], kinds: Sequence[FaultKind]) -> None:
    for kind in given:
        if kind not in kinds:
            what, remedy = _needs(kind)
            raise DefinitionError(f"{kind.value} {what}", field="faults", remedy=remedy)


def _needs(kind: FaultKind) -> tuple[str, str]:
    if kind in OF_MEMBERS:
        return "needs members", "give coordinators=3 and join=True"
    if kind in OF_ONE:
        return "is of a single coordinator", "leave `coordinators` out, or name other kinds"
    return "needs several coordinators", "give coordinators=3"
