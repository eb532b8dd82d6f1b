"""All that is wrong is told at once, and not more than anybody reads."""

from __future__ import annotations

from tests.unit.plan.specs import base, chain, faults, spec_of

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.validate import problems


def test_all_problems_come_at_once() -> None:
    document = base()
    document["name"] = "no good"
    document["maxParallel"] = -3
    document["steps"][0]["dependsOn"] = ["nope"]
    document["steps"][3]["timeouts"] = {"attempt": "-1s"}
    assert list(faults(spec_of(document))) == [
        "name",
        "max_parallel",
        "steps[3].timeouts.attempt",
        "steps[0].depends_on[0]",
    ]


def test_the_report_is_bounded() -> None:
    spec = chain(500)
    for step in spec.steps:
        step.name = "bad name " + step.name
        step.env["1" + "x" * 500] = ""
    found = problems(spec)
    assert len(found) <= 50
    assert sum(len(each.field) + len(each.description) for each in found) < 4_000
    assert "there may be more" in found[-1].description


def test_cycles_that_share_no_step_are_all_named() -> None:
    spec = pb.PipelineSpec(name="cycles")
    for first, second in (("a", "b"), ("c", "d")):
        for name, other in ((first, second), (second, first)):
            step = spec.steps.add(name=name, depends_on=[other])
            step.command.argv.append("true")
    behind = spec.steps.add(name="behind", depends_on=["d"])
    behind.command.argv.append("true")
    found = faults(spec)
    assert list(found) == ["steps[0].depends_on[0]", "steps[2].depends_on[0]"]
    assert "'a' -> 'b' -> 'a'" in found["steps[0].depends_on[0]"]
    assert "'c' -> 'd' -> 'c'" in found["steps[2].depends_on[0]"]


def test_a_long_cycle_is_shortened() -> None:
    spec = chain(10_000)
    spec.steps[0].depends_on.append("s9999")
    description = faults(spec)["steps[0].depends_on[0]"]
    assert "'s0' -> 's1'" in description
    assert "more) ... -> 's9999' -> 's0'" in description
