"""Maps over maps against a model of a few lines: it knows the shapes, what fails, and the documentation, and nothing of
events, queues or the order of things."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from tests.unit.run.driver import Driver
from tests.unit.run.plans import Node, build, values

from penstock_coordinator.core.plan.model import TriggerRule
from penstock_coordinator.core.run.events import Failure, Outcome
from penstock_coordinator.core.run.messages import AttemptEnded, SlotsOffered
from penstock_coordinator.core.run.places import place_of
from penstock_coordinator.core.run.sources import output_of
from penstock_coordinator.core.run.states import StepState as S
from penstock_coordinator.core.run.summary import unpack

Place = tuple[int, ...]
RULES = [TriggerRule.ALL_SUCCESS, TriggerRule.ALL_DONE, TriggerRule.ALL_FAILED, TriggerRule.NONE_FAILED]


@dataclass
class Part:
    """An item, or a group that has none; `rows` is what it gives."""

    state: S
    rows: list[int] = field(default_factory=list)
    is_item: bool = True


def outcome(rule: TriggerRule, seen: S) -> S:
    """Of one upstream, in plain words."""
    if rule is TriggerRule.ALL_DONE:
        return S.READY
    if rule is TriggerRule.ALL_FAILED:
        return S.READY if seen in (S.FAILED, S.UPSTREAM_FAILED) else S.SKIPPED
    if seen in (S.FAILED, S.UPSTREAM_FAILED):
        return S.UPSTREAM_FAILED
    return S.SKIPPED if seen is S.SKIPPED and rule is TriggerRule.ALL_SUCCESS else S.READY


class World:
    """What each step run does, told by its step and its place alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        random = Random(seed)
        self.nodes = [Node("s0", over=values(*range(random.randint(0, 3))), parallel=random.choice([0, 1]))]
        for number in range(1, random.randint(2, 5)):
            before = random.choice(self.nodes).name
            kind = random.choice(["", "", "nested:", "joined:"])
            self.nodes.append(
                Node(
                    f"s{number}",
                    over=f"{kind}{before}",
                    rule=random.choice(RULES),
                    allow_failure=random.random() < 0.2,
                    parallel=random.choice([0, 0, 2]),
                )
            )
        # The outputs of all steps are to be compared.
        self.nodes.append(Node("end", [node.name for node in self.nodes], rule=TriggerRule.ALL_DONE))
        self.parts: dict[str, dict[Place, Part]] = {}
        self.wholes: dict[str, S] = {}

    def does(self, step: str, place: Place) -> Part:
        random = Random(f"{self.seed} {step} {place}")
        if random.random() < 0.2:
            return Part(S.FAILED)
        return Part(S.COMPLETED, [random.randint(0, 9) for _ in range(random.randint(0, 2))])

    def foretell(self) -> None:
        for node in self.nodes[:-1]:
            assert node.over is not None
            self.parts[node.name] = self._parts(node)
            self.wholes[node.name] = self._whole(node)

    def _parts(self, node: Node) -> dict[Place, Part]:
        if not isinstance(node.over, str):
            return {(at,): self.does(node.name, (at,)) for at in range(len(json.loads(node.over.json)))}  # type: ignore[union-attr]  # values
        kind, _, name = node.over.rpartition(":")
        above = next(other for other in self.nodes if other.name == name)
        rule = node.rule or TriggerRule.ALL_SUCCESS
        if kind == "joined":
            return self._joined(node, above, rule)
        found: dict[Place, Part] = {}
        for place, part in self.parts[name].items():
            seen = S.COMPLETED if part.state is S.FAILED and above.allow_failure else part.state
            found |= self._one(node, kind, place, part, outcome(rule, seen))
        return found

    def _joined(self, node: Node, above: Node, rule: TriggerRule) -> dict[Place, Part]:
        whole = self.wholes[above.name]
        seen = S.COMPLETED if whole is S.FAILED and above.allow_failure else whole
        if not self._expanded(above) or outcome(rule, seen) is not S.READY:
            return {}
        count = len({place[0] for place in self.parts[above.name]})
        return {(at,): self.does(node.name, (at,)) for at in range(count)}

    def _one(self, node: Node, kind: str, place: Place, part: Part, decided: S) -> dict[Place, Part]:
        if decided is not S.READY:
            return {place: Part(decided, is_item=part.is_item and not kind)}
        if not part.is_item:
            return {place: Part(S.COMPLETED, is_item=False)}
        if not kind:
            return {place: self.does(node.name, place)}
        if part.state is not S.COMPLETED:
            return {place: Part(S.FAILED, is_item=False)}
        items = {(*place, at): self.does(node.name, (*place, at)) for at in range(len(part.rows))}
        return items or {place: Part(S.COMPLETED, is_item=False)}

    def _expanded(self, node: Node) -> bool:
        if not isinstance(node.over, str):
            return True
        kind, _, name = node.over.rpartition(":")
        above = next(other for other in self.nodes if other.name == name)
        if kind != "joined":
            return self._expanded(above)
        whole = self.wholes[name]
        seen = S.COMPLETED if whole is S.FAILED and above.allow_failure else whole
        return self._expanded(above) and outcome(node.rule or TriggerRule.ALL_SUCCESS, seen) is S.READY

    def _whole(self, node: Node) -> S:
        states = [part.state for part in self.parts[node.name].values()]
        if S.FAILED in states and not node.allow_failure:
            return S.FAILED
        if S.UPSTREAM_FAILED in states:
            return S.UPSTREAM_FAILED
        if states:
            return S.SKIPPED if set(states) == {S.SKIPPED} else S.COMPLETED
        return self._empty(node)

    def _empty(self, node: Node) -> S:
        if not isinstance(node.over, str):
            return S.COMPLETED
        name = node.over.rpartition(":")[2]
        above = next(other for other in self.nodes if other.name == name)
        whole = self.wholes[name]
        seen = S.COMPLETED if whole is S.FAILED and above.allow_failure else whole
        decided = outcome(node.rule or TriggerRule.ALL_SUCCESS, seen)
        if decided is S.READY and not self._expanded(above):
            return S.FAILED
        return S.COMPLETED if decided is S.READY else decided


def play(world: World) -> Driver:
    """In a random order, with leases in random numbers."""
    random = Random(-world.seed)
    driver = Driver(build(world.nodes), limit=random.choice([2, 2_000]))
    driver.start()
    while not driver.run.at_rest:
        driver.drain()
        for line in driver.run.demanded_lines():
            driver.send(SlotsOffered(driver.now, line, 1, "agent", random.randint(1, 4)))
        tokens = driver.tokens()
        for step, item, token in random.sample(tokens, random.randint(min(1, len(tokens)), len(tokens))):
            finish(driver, world, step, item, token)
    return driver


def finish(driver: Driver, world: World, step: int, item: int, token: int) -> None:
    run = driver.run
    part = world.does(run.plan.steps[step].name, place_of(run.plan, run, step, item))
    failed = part.state is S.FAILED
    why = Failure("UserError") if failed else None
    outcome = Outcome.FAILED if failed else None
    output = b"" if failed else json.dumps(part.rows).encode()
    driver.send(AttemptEnded(driver.now, step, item, token, b"r", 1, outcome, output, why))


def joined(parts: dict[Place, Part], depth: int, place: Place = ()) -> Any:
    """The output of a map, by its places."""
    if len(place) == depth:
        part = parts[place]
        return part.rows if part.state is S.COMPLETED else None
    if place in parts and parts[place].state is not S.COMPLETED:
        return None
    inner = sorted({found[len(place)] for found in parts if len(found) > len(place) and found[: len(place)] == place})
    return [joined(parts, depth, (*place, at)) for at in inner]


@pytest.mark.parametrize("block", range(4))
def test_maps_end_as_the_model_says(block: int) -> None:
    for seed in range(1 + block * 250, 1 + (block + 1) * 250):
        world = World(seed)
        world.foretell()
        run = play(world).run
        summary = unpack(run.pack())
        for node in world.nodes[:-1]:
            number = run.plan.numbers[node.name]
            items = run.items_of(number) or b""
            found = {place_of(run.plan, summary, number, at): S(state) for at, state in enumerate(items)}
            expected = {place: part.state for place, part in world.parts[node.name].items() if part.is_item}
            assert found == expected, (seed, node)
            assert run.state_of(number) is world.wholes[node.name], (seed, node)
            step = run.plan.steps[number]
            if step.kept_paths and items:
                assert output_of(run, number) == joined(world.parts[node.name], step.depth), (seed, node)
