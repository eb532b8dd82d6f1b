"""At a limit is accepted, one past it is refused at once, with the field and the limit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value
from tests.unit.plan.specs import base_spec, chain, faults

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, LOWERABLE, RAISABLE, Limits, setting_of
from penstock_coordinator.core.plan.validate import problems

A, B, EACH, C = range(4)
TRUE = Value(bool_value=True)


def text(target: Any, name: str, size: int) -> None:
    setattr(target, name, "x" * size)


def steps(spec: pb.PipelineSpec, count: int) -> None:
    for number in range(count - len(spec.steps)):
        spec.steps.add(name=f"x{number}").command.argv.append("true")


def parameters(spec: pb.PipelineSpec, count: int) -> None:
    for number in range(count - len(spec.parameters)):
        spec.parameters.add(name=f"x{number}", type=pb.PARAMETER_TYPE_ANY)


def inputs(spec: pb.PipelineSpec, count: int) -> None:
    for number in range(count):
        spec.steps[C].inputs[f"i{number}"].value.CopyFrom(TRUE)


def lists(spec: pb.PipelineSpec, count: int) -> None:
    spec.steps[EACH].map.Clear()
    for number in range(count):
        spec.steps[EACH].map.lists.add(name=f"l{number}" if number else "id", parameter="items")


def levels(spec: pb.PipelineSpec, count: int) -> None:
    name = "each"
    for number in range(count - 1):
        step = spec.steps.add(name=f"level{number}")
        step.command.argv.append("true")
        step.map.step.step = name
        step.map.nested.SetInParent()
        name = step.name


def outputs(spec: pb.PipelineSpec, count: int) -> None:
    for number in range(count):
        spec.steps[C].command.outputs.add(name=f"o{number}", stdout=True)


def condition(spec: pb.PipelineSpec, size: int) -> None:
    spec.steps[A].when = "true" + " " * (size - 4)


def conditions(spec: pb.PipelineSpec, size: int) -> None:
    condition(spec, size - sum(len(step.when) for step in spec.steps))


def edges(spec: pb.PipelineSpec, count: int) -> None:
    have = sum(len(step.depends_on) + len(step.inputs) + step.HasField("map") for step in spec.steps)
    spec.steps[C].depends_on.extend(["a"] * (count - have))


def attempts(spec: pb.PipelineSpec, count: int) -> None:
    spec.steps[A].retry.max_attempts = count


def many(prefix: str, count: int) -> dict[str, str]:
    return {f"{prefix}{number}": "" for number in range(count)}


Change = Callable[[pb.PipelineSpec, int], Any]

CASES: list[tuple[str, Limits, Change, str]] = [
    ("steps", Limits(steps=6), steps, "steps"),
    ("parameters", Limits(), parameters, "parameters"),
    ("edges", Limits(edges=10), edges, "steps"),
    ("labels", Limits(), lambda s, n: s.labels.update(many("l", n)), "labels"),
    ("name_length", Limits(), lambda s, n: text(s, "name", n), "name"),
    ("name_length", Limits(name_length=7), lambda s, n: text(s.steps[A], "queue", n), "steps[0].queue"),
    ("label_bytes", Limits(), lambda s, n: s.labels.update({"a": "x" * n}), "labels[a]"),
    ("description_bytes", Limits(), lambda s, n: text(s.steps[A], "description", n), "steps[0].description"),
    ("condition_bytes", Limits(), condition, "steps[0].when"),
    ("conditions_bytes", Limits(conditions_bytes=200), conditions, "steps"),
    ("inputs", Limits(), inputs, "steps[3].inputs"),
    ("outputs", Limits(), outputs, "steps[3].command.outputs"),
    (
        "value_bytes",
        Limits(),
        lambda s, n: text(s.steps[C].inputs["x"].value, "string_value", n - 4),
        "steps[3].inputs[x].value",
    ),
    ("map_items", Limits(), lambda s, n: s.steps[EACH].map.values.values.extend([TRUE] * n), "steps[2].map.values"),
    ("map_lists", Limits(), lists, "steps[2].map.lists"),
    ("map_levels", Limits(), levels, "steps[36].map.nested"),
    ("argv", Limits(), lambda s, n: s.steps[A].command.argv.extend(["x"] * (n - 2)), "steps[0].command.argv"),
    (
        "command_bytes",
        Limits(),
        lambda s, n: s.steps[A].command.argv.append("x" * (n - len("echo a ") - 1)),
        "steps[0].command.argv",
    ),
    ("command_bytes", Limits(), lambda s, n: text(s.steps[C].command, "shell", n), "steps[3].command.shell"),
    (
        "file_bytes",
        Limits(file_bytes=200),
        lambda s, n: text(s.steps[A].command.outputs[0], "file", n),
        "steps[0].command.outputs[0].file",
    ),
    (
        "exit_codes",
        Limits(),
        lambda s, n: s.steps[A].command.success_exit_codes.extend([0] * n),
        "steps[0].command.success_exit_codes",
    ),
    ("env", Limits(), lambda s, n: s.steps[A].env.update(many("V", n)), "steps[0].env"),
    ("env_bytes", Limits(), lambda s, n: s.steps[A].env.update({"A": "x" * (n - 1)}), "steps[0].env"),
    (
        "resources",
        Limits(),
        lambda s, n: s.steps[A].resources.custom.update(dict.fromkeys(many("r", n), 1.0)),
        "steps[0].resources.custom",
    ),
    ("retry_attempts", Limits(), attempts, "steps[0].retry.max_attempts"),
    ("retry_errors", Limits(), lambda s, n: s.steps[A].retry.retry_on.extend(["E"] * n), "steps[0].retry.retry_on"),
    (
        "error_name_bytes",
        Limits(),
        lambda s, n: s.steps[A].retry.retry_on.append("E" * n),
        "steps[0].retry.retry_on[0]",
    ),
    ("function_bytes", Limits(), lambda s, n: text(s.steps[B].function, "module", n), "steps[1].function.module"),
    (
        "path",
        Limits(),
        lambda s, n: s.steps[EACH].inputs["one"].item.path.extend(["m"] * (n - 1)),
        "steps[2].inputs[one].item.path",
    ),
    (
        "path_member_bytes",
        Limits(),
        lambda s, n: s.steps[EACH].inputs["one"].item.path.append("m" * n),
        "steps[2].inputs[one].item.path[1]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "limits", "change", "field"), CASES, ids=[case[0] for case in CASES])
def test_at_a_limit_and_past_it(name: str, limits: Limits, change: Change, field: str) -> None:
    limit = getattr(limits, name)
    within = base_spec()
    change(within, limit)
    assert problems(within, limits) == []
    past = base_spec()
    change(past, limit + 1)
    found = faults(past, limits)
    assert f"{limit:,}" in found[field], found
    if name in RAISABLE:
        assert f"PENSTOCK_{setting_of(name).upper()}" in found[field]


def test_the_bytes_of_the_whole() -> None:
    spec = base_spec()
    size = spec.ByteSize()
    assert problems(spec, Limits(spec_bytes=size)) == []
    assert "past the limit" in faults(spec, Limits(spec_bytes=size - 1))["spec"]


def test_the_bytes_of_all_constants() -> None:
    spec = base_spec()
    constants = (spec.parameters[number].default.ByteSize() for number in range(4))
    size = sum(constants) + spec.steps[B].inputs["fixed"].value.ByteSize()
    assert problems(spec, Limits(constants_bytes=size)) == []
    found = faults(spec, Limits(constants_bytes=size - 1))
    assert list(found) == ["steps[1].inputs[fixed].value"]
    assert f"more than {size - 1} bytes in all" in found["steps[1].inputs[fixed].value"]


def test_the_bytes_of_all_defaults() -> None:
    spec = base_spec()
    size = sum(parameter.default.ByteSize() for parameter in spec.parameters)
    assert problems(spec, Limits(parameters_bytes=size)) == []
    assert "defaults" in faults(spec, Limits(parameters_bytes=size - 1))["parameters"]


def test_one_step_past_the_limit_is_answered_at_once() -> None:
    spec = chain(DEFAULT_LIMITS.steps + 1)
    remedy = "split the pipeline, or have the operator raise PENSTOCK_MAX_STEPS"
    assert faults(spec) == {"steps": f"there are 100,001, past the limit of 100,000: {remedy}"}


def test_time_grows_with_the_steps_alone() -> None:
    """A chain of 4 times the steps takes about 4 times as long: nothing is quadratic, nothing recurses."""

    def seconds(length: int) -> float:
        spec = chain(length)
        before = time.process_time()
        assert problems(spec) == []
        return time.process_time() - before

    small = min(seconds(5_000) for _ in range(3))
    assert seconds(20_000) < 16 * small


def test_the_page_has_every_limit() -> None:
    page = (Path(__file__).parents[3] / "docs" / "limits.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", page, re.MULTILINE))
    assert rows == {field.name: shown(field.name, getattr(DEFAULT_LIMITS, field.name)) for field in fields(Limits)}


def test_the_page_says_which_limits_have_a_setting() -> None:
    page = (Path(__file__).parents[3] / "docs" / "limits.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    settable = {name: row for name, row in rows.items() if row != "fixed"}
    assert settable.keys() == {*RAISABLE, *LOWERABLE}
    for name, row in settable.items():
        assert row.startswith(f"`PENSTOCK_{setting_of(name).upper()}`")
        assert row.endswith("to lower") == (name in LOWERABLE)


def shown(name: str, value: Any) -> str:
    """A limit as the page writes it."""
    if name in ("span", "shortest_timeout", "stop_grace"):
        return {366 * 86_400_000_000: "366 days", 3_600_000_000: "1 hour", 1_000: "1 ms"}[int(value)]
    if name.endswith("_bytes") and value >= 1 << 20:
        return f"{int(value) >> 20} MiB"
    if name.endswith("_bytes") and value >= 1 << 10:
        return f"{int(value) >> 10} KiB"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}"
