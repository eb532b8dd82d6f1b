"""From specifications to plans."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.plan.specs import BUNDLE, base_spec, chain, spec_of

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.conditions import Condition
from penstock_coordinator.core.plan.digest import digest_of
from penstock_coordinator.core.plan.model import (
    CommandAction,
    CommandOutput,
    FromItem,
    FromParameter,
    FromStep,
    FromValue,
    FunctionAction,
    Line,
    Plan,
    Retry,
    StepMap,
    Timeouts,
    TriggerRule,
)
from penstock_coordinator.core.plan.validate import problems


def compiled(document: dict[str, Any]) -> Plan:
    spec = spec_of({"name": "p", "bundleDigest": BUNDLE, **document})
    assert problems(spec) == []
    return compile_plan(spec, "d")


def step(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "command": {"shell": "true"}, **fields}


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "function": {"module": "m", "qualname": "f"}, **fields}


def test_the_base() -> None:
    plan = compile_plan(base_spec(), "abc")
    assert (plan.digest, plan.pipeline, plan.bundle_digest) == ("abc", "base", BUNDLE)
    assert plan.numbers == {"a": 0, "b": 1, "each": 2, "c": 3, "sweep": 4}
    assert (plan.timeout, plan.max_parallel, plan.fail_fast, plan.stop_grace) == (60_000_000, 4, False, 10_000_000)
    assert plan.cleanup_roots == (4,)
    a, b, each, c, sweep = plan.steps
    assert a.action == CommandAction(
        ("echo", "a"), "", (CommandOutput("out", False, "out.txt", False), CommandOutput("said", True, "", False)), (0,)
    )
    assert b.action == FunctionAction("flow.steps", "Load.run")
    assert b.inputs == (
        ("count", FromParameter("n")),
        ("fixed", FromValue(b'{"k":[1,2.5,null]}')),
        ("rows", FromStep(0, ("out",))),
    )
    assert each.map == StepMap((FromParameter("items"),))
    assert each.inputs == (("one", FromItem(("id",))),)
    assert [step.upstream for step in plan.steps] == [(), (0,), (1,), (1, 2), ()]
    assert [step.downstream for step in plan.steps] == [(1,), (2, 3), (3,), (), ()]
    assert b.condition == Condition("steps.a.output.said == 'go' && params.n > 2")
    assert [step.kept_paths for step in plan.steps] == [(("said",),), (), (), (), ()]
    assert c.rule is TriggerRule.ALL_SUCCESS
    assert sweep.rule is TriggerRule.ALL_DONE
    assert sweep.cleanup
    assert plan.lines == (Line("default", (("zone", "a"),)),)
    assert {step.line for step in plan.steps} == {0}
    assert a.env == (("LEVEL", "info"),)
    assert a.retry == Retry(max_attempts=2)


def test_a_step_over_the_defaults() -> None:
    """Retry, timeouts and resources are replaced as a whole; labels and variables are merged."""
    plan = compiled(
        {
            "defaults": {
                "retry": {"maxAttempts": 5, "jitter": 0, "retryOn": ["A"]},
                "timeouts": {"attempt": "9s", "overall": "99s"},
                "queue": "big",
                "labels": {"zone": "a", "disk": "ssd"},
                "env": {"A": "1", "B": "2"},
                "resources": {"cpu": 2, "custom": {"licence": 1}},
            },
            "steps": [
                step("plain"),
                step(
                    "own",
                    retry={"initialBackoff": "600s", "neverRetryOn": ["B"]},
                    timeouts={"queued": "0.0015s"},
                    queue="small",
                    labels={"zone": "b"},
                    env={"B": "3"},
                    resources={"memoryBytes": 1024, "gpu": 0.5},
                ),
                step("none", resources={}, timeouts={}),
            ],
        }
    )
    plain, own, none = plan.steps
    assert plain.retry == Retry(5, jitter=0.0, retry_on=("A",))
    assert plain.timeouts == Timeouts(attempt=9_000_000, overall=99_000_000)
    assert plain.env == (("A", "1"), ("B", "2"))
    assert plan.lines[plain.line] == Line("big", (("disk", "ssd"), ("zone", "a")), (("cpu", 2.0), ("licence", 1.0)))
    # The longest wait that nobody set is no shorter than the first that somebody did.
    assert own.retry == Retry(1, initial_backoff=600_000_000, max_backoff=600_000_000, never_retry_on=("B",))
    assert own.timeouts == Timeouts(queued=1_500)
    assert own.env == (("A", "1"), ("B", "3"))
    assert plan.lines[own.line] == Line(
        "small", (("disk", "ssd"), ("zone", "b")), (("gpu", 0.5), ("memory_bytes", 1024.0))
    )
    assert none.timeouts == Timeouts()
    assert plan.lines[none.line].resources == ()


def test_upstream_comes_from_dependencies_inputs_and_maps() -> None:
    plan = compiled(
        {
            "steps": [
                function("last", dependsOn=["x", "z", "x"], inputs={"i": {"step": {"step": "y"}}}),
                function("y", map={"step": {"step": "z", "path": ["list"]}}, dependsOn=["x"], when="steps.z.output.go"),
                function("z"),
                function("x"),
            ]
        }
    )
    assert [each.upstream for each in plan.steps] == [(1, 2, 3), (2, 3), (), ()]
    assert [each.downstream for each in plan.steps] == [(), (0,), (0, 1), (0, 1)]
    assert plan.steps[2].kept_paths == (("go",), ("list",))


def test_what_is_kept() -> None:
    plan = compiled(
        {
            "steps": [
                function("src"),
                function("each", map={"values": [1]}),
                function("one", dependsOn=["src"], when="steps.src.output.a.b == 1 || steps.src.output.c == 1"),
                function("two", dependsOn=["src"], when="steps.src.output.a == 2 && steps.src.state == 'COMPLETED'"),
                function("three", dependsOn=["each"], when="steps.each.output[0].x == 1"),
                function("four", map={"step": {"step": "src", "path": ["a", "d"]}}),
                function("whole", dependsOn=["two"], when="steps.two.output == null"),
                function("also", dependsOn=["two"], when="steps.two.output.x == 1"),
                function("state", dependsOn=["one"], when="steps.one.state == 'COMPLETED'"),
                function("input", inputs={"i": {"step": {"step": "four"}}}),
            ]
        }
    )
    kept = {each.name: each.kept_paths for each in plan.steps if each.kept_paths}
    assert kept == {
        "src": (("a",), ("c",)),
        # Of a mapped step each item's output is kept by itself.
        "each": (("x",),),
        "two": ((),),
    }


def test_equal_parts_are_one_object() -> None:
    plan = compiled({"steps": [function(f"s{n}", env={"A": "b"}, retry={"maxAttempts": 3}) for n in range(2)]})
    first, second = plan.steps
    assert first.action is second.action
    assert first.retry is second.retry
    assert first.env is second.env


def test_steps_of_different_priorities_have_positions_of_their_own() -> None:
    plan = compiled({"steps": [function(f"s{n}", priority=priority) for n, priority in enumerate((0, 7, 0, -3))]})
    assert [step.line for step in plan.steps] == [0, 1, 0, 2]
    assert plan.priorities == (0, 7, -3)
    assert plan.lines[0] is plan.lines[1] is plan.lines[2]


def test_a_chain_of_100_000_compiles() -> None:
    plan = compile_plan(chain(100_000), "d")
    assert plan.steps[-1].upstream == (99_998,)
    assert len(plan.lines) == 1


# --- any graph

graphs = st.integers(1, 12).flatmap(
    lambda size: st.lists(
        st.tuples(st.integers(0, size - 1), st.integers(0, size - 1), st.sampled_from(["depends_on", "input", "map"])),
        max_size=30,
    ).map(lambda edges: (size, edges))
)


def spec_of_graph(size: int, edges: list[tuple[int, int, str]]) -> pb.PipelineSpec:
    spec = pb.PipelineSpec(name="graph")
    for number in range(size):
        spec.steps.add(name=f"s{number}").command.argv.append("true")
    for number, other, kind in edges:
        step = spec.steps[number]
        mapped = step.HasField("map") or any(each.map.step.step == step.name for each in spec.steps)
        if kind == "input":
            step.inputs[f"i{other}"].step.step = f"s{other}"
        elif kind == "map" and not mapped and not spec.steps[other].HasField("map"):
            step.map.step.step = f"s{other}"
        else:
            step.depends_on.append(f"s{other}")
    return spec


def on_a_cycle(edges: set[tuple[int, int]], size: int) -> bool:
    """By transitive closure: slow, and plainly right."""
    reach = [[(a, b) in edges for b in range(size)] for a in range(size)]
    for via in range(size):
        for a in range(size):
            for b in range(size):
                reach[a][b] = reach[a][b] or (reach[a][via] and reach[via][b])
    return any(reach[a][a] for a in range(size))


@settings(max_examples=200, deadline=None)
@given(graphs)
def test_any_graph_is_refused_for_its_cycles_or_compiled(graph: tuple[int, list[tuple[int, int, str]]]) -> None:
    size, listed = graph
    spec = spec_of_graph(size, listed)
    edges = {(number, other) for number, other, _ in listed}
    found = problems(spec)
    assert bool(found) == on_a_cycle(edges, size)
    if found:
        messages = " ".join(problem.description for problem in found)
        assert "cycle" in messages or "itself" in messages or "its own output" in messages
        return
    plan = compile_plan(spec, "d")
    assert {(each.number, other) for each in plan.steps for other in each.upstream} == edges
    assert {(other, each.number) for each in plan.steps for other in each.downstream} == edges
    for each in plan.steps:
        assert list(each.upstream) == sorted(set(each.upstream))
        assert list(each.downstream) == sorted(set(each.downstream))


# --- digests


def test_equal_specifications_have_equal_digests() -> None:
    spec = base_spec()
    spec.labels.update({f"l{number}": "x" for number in range(50)})
    again = pb.PipelineSpec()
    json_format.Parse(json_format.MessageToJson(spec), again)
    backwards = base_spec()
    for number in reversed(range(50)):
        backwards.labels[f"l{number}"] = "x"
    assert digest_of(spec) == digest_of(again) == digest_of(backwards)
    assert len(digest_of(spec)) == 64


def test_every_difference_is_another_digest() -> None:
    digests = {digest_of(base_spec())}
    for number in range(5):
        spec = base_spec()
        spec.steps[number].description = "."
        digests.add(digest_of(spec))
    swapped = base_spec()
    swapped.steps[2].CopyFrom(base_spec().steps[3])
    swapped.steps[3].CopyFrom(base_spec().steps[2])
    digests.add(digest_of(swapped))
    assert len(digests) == 7


def test_what_this_release_does_not_know_is_no_part_of_the_digest() -> None:
    known = base_spec()
    newer = pb.PipelineSpec.FromString(known.SerializeToString() + b"\xfa\x3e\x01x")
    assert digest_of(newer) == digest_of(known)
    assert newer.ByteSize() > known.ByteSize()


def fill(message: Message, turn: int, depth: int = 0) -> None:
    """Set every field, of a oneof the one whose turn it is; two entries in every list and map."""
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.fields[turn % len(oneof.fields)] is not field:
            continue
        if field.message_type is not None and depth == 6:
            continue
        target = getattr(message, field.name)
        if field.message_type is None:
            plain: Any = scalar(field, turn)
            if field.is_repeated:
                target.extend([plain, plain])
            else:
                setattr(message, field.name, plain)
        elif field.message_type.GetOptions().map_entry:
            of = field.message_type.fields_by_name["value"]
            for key in ("z", "b"):
                if of.message_type is None:
                    target[key] = scalar(of, turn)
                else:
                    fill(target[key], turn + len(target), depth + 1)
        elif field.is_repeated:
            for each in range(2):
                fill(target.add(), turn + each, depth + 1)
        else:
            target.SetInParent()
            fill(target, turn, depth + 1)


def scalar(field: Any, turn: int) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return f"{field.name} \u00e4 {turn}"
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return True
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return 1.5 + turn
    return 1 if field.enum_type is not None else 300 + turn


def test_the_encoding_is_the_one_on_record() -> None:
    """If only this fails after an upgrade of protobuf, unchanged pipelines get new digests: say so in the changelog.
    A new field of the specification changes it rightly."""
    spec = pb.PipelineSpec()
    fill(spec, 0)
    assert digest_of(spec) == "0d9830e4341270c4b8b572c8e6f98a5f255d8469e8b37144dedb05f9e5ef607a"
