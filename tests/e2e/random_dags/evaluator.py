"""What becomes of a run, by the words of the documentation alone: steps are looked at one after the other, each when
all of its upstream is known. There is no clock, no queue and no concurrency here, and nothing of the system's code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

from tests.e2e.random_dags.behaving.behaving import outcomes_at, produced
from tests.e2e.random_dags.conditions import ConditionFails, Scene, holds
from tests.e2e.random_dags.dags import Behaviour, Dag, Json, Map, Source, Step, reads_item, steps_read
from tests.e2e.random_dags.predictions import Part, Place, Prediction
from tests.e2e.random_dags.rules import COUNTED, HOLDS, LOOK_AT_ITEMS, ruled
from tests.e2e.random_dags.second_generation import Again

FAILURE_NAMES = {
    "ValueError": {"ValueError", "Exception"},
    "KeyError": {"KeyError", "LookupError", "Exception"},
    "RuntimeError": {"RuntimeError", "Exception"},
    "crash": {"Crash"},
    "hang": {"Timeout"},
    "exit:3": {"ExitCode", "ExitCode:3"},
    "child": {"SubPipeline"},
}


class NoSuchPart(Exception):
    """A path leads nowhere."""


def predict(
    dag: Dag,
    children: dict[str, Dag],
    parameters: dict[str, Json] | None = None,
    former: Prediction | None = None,
    again: Again | None = None,
) -> Prediction:
    """The run at rest; with `former` and `again` the generation after that one, in which only that runs again."""
    return _Evaluation(dag, children, {**dag.parameters, **(parameters or {})}, former, again or {}).run()


class _Evaluation:
    def __init__(
        self,
        dag: Dag,
        children: dict[str, Dag],
        parameters: dict[str, Json],
        former: Prediction | None,
        again: Again,
    ) -> None:
        self._dag = dag
        self._children = children
        self._parameters = parameters
        self._former = former
        self._again = again
        self._parts: dict[str, Part] = {}
        self._used = {} if former is None else dict(former.used)

    def run(self) -> Prediction:
        for step in self._dag.steps:
            self._parts[step.name] = self._kept(step) or _Stepping(self, step).settle()
            self._count(step.name)
        failed = any(self._parts[step.name].state == "FAILED" and not step.allow_failure for step in self._dag.steps)
        state = "FAILED" if failed else "COMPLETED"
        return Prediction(state, None if failed else self._output(), self._parts, self._used)

    def _kept(self, step: Step) -> Part | None:
        if self._former is None or step.name in self._again:
            return None
        return self._former.steps[step.name]

    def _count(self, name: str) -> None:
        for place, part in self._parts[name].walk():
            if part.attempts:
                self._used[name, place] = part.attempts

    def _output(self) -> Json:
        if self._dag.output is not None:
            return self._part_of_output(self._dag.output)
        return {name: self._part_of_output(source) for name, source in self._dag.outputs.items()} or None

    def _part_of_output(self, source: Source) -> Json:
        try:
            return followed(self._parts[source.name].value, source.path)
        except NoSuchPart:
            return None

    # --- for steps

    def part(self, name: str) -> Part:
        return self._parts[name]

    def step(self, name: str) -> Step:
        return self._dag.step(name)

    def standing(self, name: str, part: Part) -> str:
        """What it counts as for others: an allowed failure is a success."""
        return "COMPLETED" if part.state == "FAILED" and self.step(name).allow_failure else part.state

    def former_part(self, name: str) -> tuple[Part, list[Place]] | None:
        """The step as it was, if single items of it run again, and which."""
        places = self._again.get(name)
        if self._former is None or places is None:
            return None
        return self._former.steps[name], places

    def attempts_before(self, name: str, place: Place) -> int:
        return self._used.get((name, place), 0)

    @property
    def later(self) -> bool:
        return self._former is not None

    def scene(self, names: Iterable[str], item: Json) -> Scene:
        parts = {name: self._parts[name] for name in names}
        outputs = {name: part.value if part.state == "COMPLETED" else None for name, part in parts.items()}
        return Scene(self._parameters, {name: part.state for name, part in parts.items()}, outputs, item)

    def value(self, source: Source, item: Json = None) -> Json:
        """Raises `NoSuchPart`."""
        match source.kind:
            case "value":
                return source.value
            case "parameter":
                return self._parameters[source.name]
            case "step":
                output = self._parts[source.name].value
                return None if output is None else followed(output, source.path)
        return followed(item, source.path)

    def child(self, name: str, inputs: dict[str, Json]) -> Prediction:
        return predict(self._children[name], self._children, inputs)


def followed(value: Json, path: Iterable[str]) -> Json:
    for member in path:
        if isinstance(value, dict) and member in value:
            value = value[member]
        elif isinstance(value, list) and member.isdecimal() and int(member) < len(value):
            value = value[int(member)]
        else:
            raise NoSuchPart(member)
    return value


class _Stepping:
    """One step."""

    def __init__(self, evaluation: _Evaluation, step: Step) -> None:
        self._all = evaluation
        self._step = step
        followed = step.map.followed if step.map else None
        self._followed = followed if followed and evaluation.part(followed).parts is not None else None

    def settle(self) -> Part:
        step, former = self._step, self._all.former_part(self._step.name)
        if former is not None:
            return self._whole(self._some_again(*former))
        outcome = HOLDS if self._followed else self._ruled_as_whole()
        if outcome != HOLDS:
            return self._not_run((), outcome)
        if step.when is not None and not reads_item(step.when) and self._may_hold():
            try:
                if not holds(step.when, self._all.scene(steps_read(step.when), None)):
                    return self._not_run((), "SKIPPED")
            except ConditionFails:
                return self._not_run((), "FAILED", "Condition")
        return self._attempted((), None) if step.map is None else self._mapped(step.map)

    # --- the trigger rule

    def _ruled_as_whole(self) -> str:
        step = self._step
        if step.rule == "always" or not step.upstream:
            return HOLDS
        return ruled(step.rule, self._seen(step.upstream))

    def _seen(self, upstream: Iterable[str]) -> list[str]:
        seen: list[str] = []
        for name in upstream:
            part = self._all.part(name)
            items = list(part.walk()) if self._step.rule in LOOK_AT_ITEMS else []
            seen += [self._all.standing(name, each) for _, each in items or [((), part)]]
        return seen

    def _ruled_beside(self, seen: str) -> str:
        """For an item whose counterpart in the followed step is seen in this state."""
        others = [name for name in self._step.upstream if name != self._followed]
        return ruled(self._step.rule, [*self._seen(others), seen])

    def _may_hold(self) -> bool:
        return self._followed is None or any(self._ruled_beside(seen) == HOLDS for seen in COUNTED)

    # --- maps

    def _mapped(self, over: Map) -> Part:
        if self._followed is not None:
            whole = self._all.part(self._followed)
            return self._whole(self._along(whole, ()))
        try:
            values = self._list(over)
        except NoSuchPart:
            values = None
        if values is None:
            return Part("FAILED", reason="Map")
        return self._whole(self._items((), values))

    def _list(self, over: Map) -> list[Json] | None:
        """The items; None if there is no list, or they do not fit together."""
        lists = [self._all.value(source) for source in over.sources]
        if not all(isinstance(each, list) for each in lists):
            return None
        if not over.names:
            return list(lists[0])
        if over.kind == "product":
            return [dict(zip(over.names, each, strict=True)) for each in product(*lists)]
        if len({len(each) for each in lists}) > 1:
            return None
        return [dict(zip(over.names, each, strict=True)) for each in zip(*lists, strict=True)]

    def _items(self, place: Place, values: list[Json]) -> Part:
        parts = tuple(self._item((*place, position), value) for position, value in enumerate(values))
        return Part("" if parts else "COMPLETED", parts=parts, group=True)

    def _along(self, other: Part, place: Place) -> Part:
        """What goes along with a part of the followed step."""
        if other.parts or (other.parts is not None and not place):
            parts = tuple(self._along(part, (*place, position)) for position, part in enumerate(other.parts))
            return Part("", parts=parts, group=True)
        assert self._followed is not None
        assert self._step.map is not None
        outcome = self._ruled_beside(self._all.standing(self._followed, other))
        if other.group:
            return Part("COMPLETED" if outcome == HOLDS else outcome, parts=other.parts, group=True)
        if self._step.map.kind == "follow":
            return self._item(place, other.value) if outcome == HOLDS else self._not_run(place, outcome)
        return self._nested(place, other.value) if outcome == HOLDS else Part(outcome, group=True)

    def _nested(self, place: Place, output: Json) -> Part:
        assert self._step.map is not None
        try:
            values = followed(output, self._step.map.sources[0].path)
        except NoSuchPart:
            values = None
        if not isinstance(values, list):
            return Part("FAILED", reason="Map", group=True)
        return self._items(place, values)

    def _whole(self, tree: Part) -> Part:
        """How the map ends."""
        states = {part.state for _, part in tree.walk()}
        if not states:
            outcome = self._ruled_as_whole() if self._followed else HOLDS
            state = "COMPLETED" if outcome == HOLDS else outcome
        elif "FAILED" in states and not self._step.allow_failure:
            state = "FAILED"
        elif "UPSTREAM_FAILED" in states:
            state = "UPSTREAM_FAILED"
        else:
            state = "SKIPPED" if states == {"SKIPPED"} else "COMPLETED"
        return Part(state, parts=tree.parts, group=True)

    def _some_again(self, former: Part, places: list[Place]) -> Part:
        """Single items of a map that stays as it is."""

        def walk(part: Part, place: Place) -> Part:
            if part.parts:
                parts = tuple(walk(each, (*place, position)) for position, each in enumerate(part.parts))
                return Part("", parts=parts, group=True)
            return self._one_again(place) if place in places else part

        return walk(former, ())

    def _one_again(self, place: Place) -> Part:
        over = self._step.map
        assert over is not None
        if over.kind == "follow":
            assert self._followed is not None
            other = self._all.part(self._followed).at(place)
            assert other is not None
            return self._along(other, place)
        if over.kind == "nested":
            assert self._followed is not None
            owner = self._all.part(self._followed).at(place[:-1])
            assert owner is not None
            return self._item(place, followed(owner.value, over.sources[0].path)[place[-1]])
        values = self._list(over)
        assert values is not None
        return self._item(place, values[place[0]])

    # --- one step run

    def _item(self, place: Place, value: Json) -> Part:
        when = self._step.when
        if when is not None and reads_item(when):
            try:
                if not holds(when, self._all.scene(steps_read(when), value)):
                    return self._not_run(place, "SKIPPED")
            except ConditionFails:
                return self._not_run(place, "FAILED", "Condition")
        return self._attempted(place, value)

    def _attempted(self, place: Place, item: Json) -> Part:
        action = self._step.action
        try:
            inputs = {name: self._all.value(source, item) for name, source in self._step.inputs.items()}
        except NoSuchPart:
            if isinstance(action, str):
                return Part("FAILED", reason="SubPipeline", attempts=self._attempts(place, 1))
            return self._not_run(place, "FAILED", "Input")
        if isinstance(action, str):
            child = self._all.child(action, inputs)
            ended = self._retried(place, lambda attempt: "ok" if child.state == "COMPLETED" else "child")
            output = child.output
            return Part(ended[0], output if ended[0] == "COMPLETED" else None, ended[1], ended[2], child=child)
        outcomes = outcomes_at([list(each) for each in action.by_place], place)
        state, attempts, reason = self._retried(place, lambda attempt: outcomes[min(attempt, len(outcomes)) - 1])
        return Part(state, _given(action, inputs) if state == "COMPLETED" else None, attempts, reason)

    def _retried(self, place: Place, outcome_of: Callable[[int], str]) -> tuple[str, int | None, str]:
        """State, attempts, and the reason of a failure."""
        retry, before = self._step.retry, self._all.attempts_before(self._step.name, place)
        for count in range(1, retry.max_attempts + 1):
            outcome = outcome_of(before + count)
            if outcome == "ok":
                return "COMPLETED", self._attempts(place, count), ""
            names = FAILURE_NAMES[outcome]
            filtered = retry.retry_on and names.isdisjoint(retry.retry_on)
            if count == retry.max_attempts or filtered or not names.isdisjoint(retry.never_retry_on):
                return "FAILED", self._attempts(place, count), _REASONS.get(outcome, "UserError")
        raise AssertionError("there is at least one attempt")

    def _not_run(self, place: Place, state: str, reason: str = "") -> Part:
        """Attempts of a former generation are told still."""
        return Part(state, reason=reason, attempts=self._attempts(place, 0))

    def _attempts(self, place: Place, count: int) -> int | None:
        """In a later generation the items of nested maps have their numbers in another order."""
        if self._all.later and len(place) > 1 and self._all.former_part(self._step.name) is None:
            return None
        return self._all.attempts_before(self._step.name, place) + count


_REASONS = {"crash": "Crash", "hang": "Timeout", "exit:3": "ExitCode", "child": "SubPipeline"}


def _given(action: Behaviour, inputs: dict[str, Json]) -> Json:
    if action.command:
        return {"given": action.constant}
    return produced(action.gives, action.constant, inputs)
