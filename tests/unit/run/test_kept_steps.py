"""What a retry with another version keeps, against a plain computation on the specifications alone."""

from __future__ import annotations

import copy
from random import Random
from typing import Any, TypeAlias

import pytest
from google.protobuf import json_format
from tests.unit.run.driver import Driver

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.compile import compile_onto, compile_plan
from penstock_coordinator.core.run.events import WHOLE, Failure, Outcome, RunReopened
from penstock_coordinator.core.run.messages import AttemptEnded, SlotsOffered
from penstock_coordinator.core.run.states import StepState

Document: TypeAlias = "dict[str, Any]"
SEEDS = 600
RULES = ["ALL_SUCCESS", "ALL_DONE", "ONE_FAILED", "NONE_FAILED"]
KEPT = (StepState.COMPLETED, StepState.SKIPPED)


def random_document(random: Random) -> Document:
    names = [f"s{number}" for number in range(random.randint(2, 8))]
    steps = [random_step(random, name, names[:number]) for number, name in enumerate(names)]
    return {"name": "p", "bundle_digest": random.choice(["b1", "b2"]), "steps": steps}


def random_step(random: Random, name: str, before: list[str]) -> Document:
    step: Document = {"name": name, "inputs": {}, "depends_on": []}
    kind = random.random()
    if kind < 0.7:
        step["function"] = {"module": "m", "qualname": name, "code_digest": random.choice(["c1", "c1", "c2", ""])}
    elif kind < 0.9:
        step["command"] = {"argv": [random.choice(["x", "y"])]}
    else:
        step["pipeline"] = {"name": "child"}
    for upstream in random.sample(before, min(len(before), random.choice([0, 1, 1, 2]))):
        if random.random() < 0.5:
            step["depends_on"].append(upstream)
        else:
            step["inputs"][f"i{upstream}"] = {"step": {"step": upstream}}
    if "pipeline" not in step and random.random() < 0.3:
        step["env"] = {"X": random.choice(["1", "2"])}
    if before and random.random() < 0.15:
        step["when"] = f"steps.{random.choice(before)}.state == 'COMPLETED'"
    elif random.random() < 0.1:
        step["when"] = "false"
    if random.random() < 0.3:
        step["trigger_rule"] = f"TRIGGER_RULE_{random.choice(RULES)}"
    return step


def changed(random: Random, old: Document) -> Document:
    """Some steps made anew, some gone, new ones at the end; in another order."""
    new = copy.deepcopy(old)
    if random.random() < 0.3:
        new["bundle_digest"] = "b3"
    gone = {step["name"] for step in new["steps"] if random.random() < 0.1}
    kept = [step for step in new["steps"] if step["name"] not in gone and not gone & upstream_of(step)]
    steps: list[Document] = []
    for step in kept:
        if upstream_of(step) - {each["name"] for each in steps}:
            continue
        names = [each["name"] for each in steps]
        steps.append(random_step(random, step["name"], names) if random.random() < 0.15 else step)
    names = [each["name"] for each in steps]
    steps += [random_step(random, f"n{number}", names) for number in range(random.choice([0, 1, 2]))]
    new["steps"] = steps or [random_step(random, "n", [])]
    random.shuffle(new["steps"])
    return new


def upstream_of(step: Document) -> set[str]:
    """By the specification."""
    found = {each["step"]["step"] for each in step["inputs"].values()} | set(step["depends_on"])
    if "steps." in step.get("when", ""):
        found.add(step["when"].split(".")[1])
    return found


def expected(old: Document, new: Document, states: dict[str, StepState]) -> set[str]:
    """The steps that stay, by what the documentation says."""
    before = {step["name"]: step for step in old["steps"]}
    after = {step["name"]: step for step in new["steps"]}
    same_bundle = old["bundle_digest"] == new["bundle_digest"]

    def same_code(one: Document, other: Document) -> bool:
        if "function" in one and "function" in other:
            codes = one["function"]["code_digest"], other["function"]["code_digest"]
            if all(codes):
                return bool(codes[0] == codes[1])
            return bool(same_bundle)
        if "command" in one:
            return bool(one["command"] == other.get("command")) and same_bundle
        return "pipeline" in one and bool(one["pipeline"] == other.get("pipeline"))

    def stays(name: str) -> bool:
        one, other = before.get(name), after[name]
        if one is None or states[name] not in KEPT or not same_code(one, other):
            return False
        if any(one.get(field) != other.get(field) for field in ("inputs", "when", "env")):
            return False
        # Whether it runs hangs on the rule, and on what that looks at.
        same_rule = one.get("trigger_rule") == other.get("trigger_rule") and upstream_of(one) == upstream_of(other)
        if states[name] is StepState.SKIPPED and not same_rule:
            return False
        return all(stays(upstream) for upstream in upstream_of(other))

    return {name for name in after if stays(name)}


def play(random: Random, driver: Driver) -> None:
    """To the end of the run: most steps complete."""
    run = driver.run
    while not run.at_rest:
        driver.drain()
        for line in run.demanded_lines():
            driver.send(SlotsOffered(0, line, 1, "agent", 100))
        for (step, item), run_id in list(run.children.items()):
            driver.end_child(step, item, run_id, failed=random.random() < 0.2)
        for step, item, token in driver.tokens():
            failure = Failure("UserError") if random.random() < 0.25 else None
            outcome = None if failure is None else Outcome.FAILED
            driver.send(AttemptEnded(0, step, item, token, b"r", 1, outcome, b"1", failure))


@pytest.mark.parametrize("block", range(6))
def test_the_kept_steps_are_those_of_the_documentation(block: int) -> None:
    for seed in range(block * SEEDS // 6, (block + 1) * SEEDS // 6):
        random = Random(seed)
        old = random_document(random)
        new = changed(random, old)
        former = compile_plan(json_format.ParseDict(old, PipelineSpec()), "v1")
        plan = compile_onto(former, json_format.ParseDict(new, PipelineSpec()), "v2")
        driver = Driver(former)
        driver.start()
        play(random, driver)
        states = {step.name: driver.run.state_of(step.number) for step in former.steps}
        keeping = expected(old, new, states)
        ledger = driver.renew(plan)
        if ledger.refusal:
            assert keeping == {step["name"] for step in new["steps"]}, seed
            continue
        reopened = ledger.events[0][1]
        assert isinstance(reopened, RunReopened)
        reset = {plan.steps[number].name for first, stop in reopened.steps for number in range(first, stop)}
        assert reset == {step["name"] for step in new["steps"]} - keeping, seed
        assert not reopened.items
        play(random, driver)
        assert all(driver.run.state_of(number, WHOLE).at_rest for number in plan.numbers.values())
