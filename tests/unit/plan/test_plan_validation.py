"""Every refusal names the field, what is wrong and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value
from tests.unit.plan.specs import base_spec, faults

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.validate import problems

Change = Callable[[pb.PipelineSpec], Any]
A, B, EACH, C, SWEEP = range(5)


def test_the_base_has_no_fault() -> None:
    assert problems(base_spec()) == []


def span(seconds: int, nanos: int = 0) -> Duration:
    return Duration(seconds=seconds, nanos=nanos)


def replace(target: Any, values: list[Any]) -> None:
    del target[:]
    target.extend(values)


def add_step(spec: pb.PipelineSpec, name: str, **fields: Any) -> None:
    spec.steps.add(name=name, **fields).command.argv.append("true")


def constant() -> pb.Input:
    return pb.Input(value=Value(bool_value=True))


def reference(step: str, *path: str) -> pb.OutputReference:
    return pb.OutputReference(step=step, path=path)


def deep(levels: int) -> Value:
    value = Value(number_value=1)
    for _ in range(levels):
        outer = Value()
        outer.list_value.values.append(value)
        value = outer
    return value


NAMES: list[tuple[str, str]] = [
    ("", "the name is empty"),
    ("a\x00b", "NUL"),
    ("a\nb", "control character"),
    ("a\n", "control character"),
    ("../../etc/passwd", "no valid name"),
    (".hidden", "no valid name"),
    ("-x", "no valid name"),
    ("a b", "no valid name"),
    ("a/b", "no valid name"),
    ("п", "U+043F"),
    ("a\u200bb", "U+200B"),
    ("e\u0301", "U+0301"),
    ("\uff21", "U+FF21"),
    ("x" * 129, "129 characters, past the limit of 128"),
    ("x" * 2_000_000, "2,000,000 characters"),
    ("'; DROP TABLE runs; --", "no valid name"),
]


@pytest.mark.parametrize(("name", "message"), NAMES)
def test_names(name: str, message: str) -> None:
    spec = base_spec()
    named = {
        "name": spec,
        "parameters[2].name": spec.parameters[2],
        "steps[0].command.outputs[0].name": spec.steps[A].command.outputs[0],
        "steps[3].name": spec.steps[C],
    }
    for target in named.values():
        setattr(target, "name", name)  # noqa: B010  # messages of several types
    found = faults(spec)
    for field in named:
        description = found[field]
        assert message in description
        assert "use 1 to 128 letters" in description
        assert description.isascii()


@pytest.mark.parametrize("name", ["x", "x" * 128, "0", "_", "a.b-c_d", "a..b"])
def test_good_names(name: str) -> None:
    spec = base_spec()
    spec.name = name
    spec.steps[C].name = name
    assert problems(spec) == []


BAD: list[tuple[str, Change, str, str]] = [
    # the graph
    ("itself", lambda s: s.steps[A].depends_on.append("a"), "steps[0].depends_on[0]", "depends on itself"),
    ("cycle of two", lambda s: s.steps[A].depends_on.append("b"), "steps[0].depends_on[0]", "'a' -> 'b' -> 'a'"),
    (
        "cycle through an input",
        lambda s: s.steps[A].inputs["x"].step.CopyFrom(reference("each")),
        "steps[0].inputs[x].step.step",
        "'a' -> 'b' -> 'each' -> 'a'",
    ),
    (
        "cycle through a map",
        lambda s: s.steps[B].map.step.CopyFrom(reference("c")),
        "steps[1].map.step.step",
        "in a cycle",
    ),
    ("unknown step", lambda s: s.steps[B].depends_on.append("eech"), "steps[1].depends_on[0]", "did you mean 'each'?"),
    ("unknown step, other case", lambda s: s.steps[B].depends_on.append("A"), "steps[1].depends_on[0]", "mean 'a'?"),
    ("nothing like it", lambda s: s.steps[B].depends_on.append("nope"), "steps[1].depends_on[0]", "check the spelling"),
    ("empty dependency", lambda s: s.steps[B].depends_on.append(""), "steps[1].depends_on[0]", "there is no step ''"),
    ("same name", lambda s: setattr(s.steps[C], "name", "a"), "steps[3].name", "'a' is the name of steps[0] too"),
    ("no steps", lambda s: s.ClearField("steps"), "steps", "give it at least one"),
    (
        "behind a cleanup step",
        lambda s: s.steps[C].depends_on.append("sweep"),
        "steps[3].depends_on[2]",
        "'sweep' is a cleanup step, and waits for this step",
    ),
    # actions
    (
        "no action",
        lambda s: s.steps[A].ClearField("command"),
        "steps[0]",
        "give it `function`, `command` or `pipeline`",
    ),
    ("empty argv", lambda s: replace(s.steps[A].command.argv, []), "steps[0].command", "there is no command"),
    ("empty program", lambda s: replace(s.steps[A].command.argv, ["", "x"]), "steps[0].command.argv[0]", "is empty"),
    ("blank program", lambda s: replace(s.steps[A].command.argv, [" "]), "steps[0].command.argv[0]", "is empty"),
    ("NUL in argv", lambda s: s.steps[A].command.argv.append("a\0b"), "steps[0].command.argv[2]", "NUL"),
    ("both", lambda s: setattr(s.steps[A].command, "shell", "x"), "steps[0].command", "both argv and shell"),
    ("blank script", lambda s: setattr(s.steps[C].command, "shell", " \n"), "steps[3].command.shell", "blank"),
    ("NUL in script", lambda s: setattr(s.steps[C].command, "shell", "a\0"), "steps[3].command.shell", "NUL"),
    ("no module", lambda s: setattr(s.steps[B].function, "module", ""), "steps[1].function.module", "is empty"),
    ("bad module", lambda s: setattr(s.steps[B].function, "module", "a/b"), "steps[1].function.module", "no dotted"),
    ("up", lambda s: setattr(s.steps[B].function, "module", "..os"), "steps[1].function.module", "no dotted"),
    (
        "local",
        lambda s: setattr(s.steps[B].function, "qualname", "f.<locals>.g"),
        "steps[1].function.qualname",
        "inside of a function",
    ),
    (
        "code digest",
        lambda s: setattr(s.steps[B].function, "code_digest", "ABC"),
        "steps[1].function.code_digest",
        "64 hex digits in lower case",
    ),
    ("no bundle", lambda s: setattr(s, "bundle_digest", ""), "bundle_digest", "steps[1] is a function"),
    ("short digest", lambda s: setattr(s, "bundle_digest", "abc"), "bundle_digest", "64 hex digits"),
    ("upper digest", lambda s: setattr(s, "bundle_digest", "A" * 64), "bundle_digest", "lower case"),
    (
        "exit code",
        lambda s: s.steps[A].command.success_exit_codes.extend([0, 256, -1]),
        "steps[0].command.success_exit_codes[1]",
        "0 to 255",
    ),
    # outputs
    (
        "same output",
        lambda s: setattr(s.steps[A].command.outputs[1], "name", "out"),
        "steps[0].command.outputs[1].name",
        "the name of steps[0].command.outputs[0] too",
    ),
    (
        "output name",
        lambda s: setattr(s.steps[A].command.outputs[0], "name", "../../../other-run/secret"),
        "steps[0].command.outputs[0].name",
        "no valid name",
    ),
    (
        "no source",
        lambda s: s.steps[A].command.outputs[0].ClearField("file"),
        "steps[0].command.outputs[0]",
        "give stdout: true, or a file",
    ),
    (
        "stdout: false",
        lambda s: setattr(s.steps[A].command.outputs[1], "stdout", False),
        "steps[0].command.outputs[1].stdout",
        "say true",
    ),
    (
        "format",
        lambda s: setattr(s.steps[A].command.outputs[1], "format", 9),
        "steps[0].command.outputs[1].format",
        "no format",
    ),
    # inputs
    (
        "unknown source",
        lambda s: s.steps[C].inputs["x"].step.CopyFrom(reference("bb")),
        "steps[3].inputs[x].step.step",
        "did you mean 'b'?",
    ),
    (
        "own output",
        lambda s: s.steps[C].inputs["x"].step.CopyFrom(reference("c")),
        "steps[3].inputs[x].step.step",
        "wait for its own output",
    ),
    (
        "output that no command has",
        lambda s: replace(s.steps[B].inputs["rows"].step.path, ["oot"]),
        "steps[1].inputs[rows].step.path[0]",
        "did you mean 'out'?",
    ),
    (
        "output of a command without any",
        lambda s: s.steps[SWEEP].inputs["x"].step.CopyFrom(reference("c", "v")),
        "steps[4].inputs[x].step.path[0]",
        "declare it in the command's outputs",
    ),
    (
        "member of a mapped step",
        lambda s: s.steps[C].inputs["x"].step.CopyFrom(reference("each", "v")),
        "steps[3].inputs[x].step.path[0]",
        "its items are numbered",
    ),
    (
        "long path",
        lambda s: s.steps[C].inputs["x"].step.CopyFrom(pb.OutputReference(step="b", path=["m"] * 33)),
        "steps[3].inputs[x].step.path",
        "33 members, past the limit of 32",
    ),
    (
        "unknown parameter",
        lambda s: setattr(s.steps[B].inputs["count"], "parameter", "m"),
        "steps[1].inputs[count].parameter",
        "no parameter 'm'",
    ),
    (
        "item outside of a map",
        lambda s: s.steps[C].inputs["x"].item.SetInParent(),
        "steps[3].inputs[x].item",
        "the step is not mapped",
    ),
    ("empty input", lambda s: s.steps[C].inputs["x"].SetInParent(), "steps[3].inputs[x]", "give value, parameter"),
    ("input name", lambda s: s.steps[C].inputs["1x"].value.SetInParent(), "steps[3].inputs[1x]", "no valid name"),
    ("input NUL", lambda s: s.steps[C].inputs["a\0"].value.SetInParent(), "steps[3].inputs[a\\x00]", "no valid name"),
    (
        "inputs that meet",
        lambda s: s.steps[C].MergeFrom(pb.StepSpec(inputs={"ab": constant(), "AB": constant()})),
        "steps[3].inputs[ab]",
        "both become PENSTOCK_INPUT_AB",
    ),
    ("no value", lambda s: s.steps[C].inputs["x"].value.SetInParent(), "steps[3].inputs[x].value", "is missing"),
    (
        "NaN",
        lambda s: setattr(s.steps[C].inputs["x"].value, "number_value", float("nan")),
        "steps[3].inputs[x].value",
        "nan is no JSON number",
    ),
    (
        "infinity inside",
        lambda s: s.steps[C].inputs["x"].value.list_value.values.append(Value(number_value=float("-inf"))),
        "steps[3].inputs[x].value",
        "-inf is no JSON number",
    ),
    (
        "too deep",
        lambda s: s.steps[C].inputs["x"].value.CopyFrom(deep(29)),
        "steps[3].inputs[x].value",
        "deeper than the limit of 28",
    ),
    # maps
    (
        "map over a number",
        lambda s: setattr(s.steps[EACH].map, "parameter", "n"),
        "steps[2].map.parameter",
        "'n' is no list",
    ),
    (
        "map over an unknown parameter",
        lambda s: setattr(s.steps[EACH].map, "parameter", "item"),
        "steps[2].map.parameter",
        "did you mean 'items'?",
    ),
    ("map over nothing", lambda s: s.steps[EACH].map.ClearField("parameter"), "steps[2].map", "give parameter, step"),
    (
        "map over itself",
        lambda s: s.steps[EACH].map.step.CopyFrom(reference("each")),
        "steps[2].map.step.step",
        "own output",
    ),
    # conditions
    ("condition", lambda s: setattr(s.steps[B], "when", "1 +"), "steps[1].when", "(at character 4)"),
    ("number", lambda s: setattr(s.steps[B], "when", "params.n"), "steps[1].when", "not true or false"),
    (
        "not upstream",
        lambda s: setattr(s.steps[C], "when", "steps.a.state == 'FAILED'"),
        "steps[3].when",
        "add it to depends_on",
    ),
    (
        "no such output",
        lambda s: setattr(s.steps[B], "when", "steps.a.output.sayd == 'go'"),
        "steps[1].when",
        "the command 'a' has no output 'sayd': did you mean 'said'?",
    ),
    (
        "no such item",
        lambda s: setattr(s.steps[C], "when", "steps.each.output.x == 1"),
        "steps[3].when",
        "its items are numbered",
    ),
    ("no item", lambda s: setattr(s.steps[C], "when", "item > 1"), "steps[3].when", "the step is not mapped"),
    # numbers
    (
        "attempts",
        lambda s: setattr(s.steps[A].retry, "max_attempts", -1),
        "steps[0].retry.max_attempts",
        "use 1 (no retry) to 1,000",
    ),
    ("attempts", lambda s: setattr(s.defaults.retry, "max_attempts", 1001), "defaults.retry.max_attempts", "1,000"),
    (
        "multiplier",
        lambda s: setattr(s.steps[A].retry, "backoff_multiplier", 0.5),
        "steps[0].retry.backoff_multiplier",
        "1 to 100",
    ),
    (
        "multiplier",
        lambda s: setattr(s.steps[A].retry, "backoff_multiplier", float("nan")),
        "steps[0].retry.backoff_multiplier",
        "1 to 100",
    ),
    ("jitter", lambda s: setattr(s.steps[A].retry, "jitter", 1.5), "steps[0].retry.jitter", "0 (none) to 1"),
    ("jitter", lambda s: setattr(s.steps[A].retry, "jitter", float("nan")), "steps[0].retry.jitter", "to 1"),
    (
        "backoff",
        lambda s: s.steps[A].retry.initial_backoff.CopyFrom(span(-1)),
        "steps[0].retry.initial_backoff",
        "-1 s is negative",
    ),
    (
        "backoffs",
        lambda s: s.steps[A].retry.MergeFrom(pb.RetryPolicy(initial_backoff=span(5), max_backoff=span(4))),
        "steps[0].retry.max_backoff",
        "shorter than initial_backoff",
    ),
    ("kind", lambda s: s.steps[A].retry.retry_on.append("a b"), "steps[0].retry.retry_on[0]", "no kind of failure"),
    ("kind", lambda s: s.steps[A].retry.retry_on.append(""), "steps[0].retry.retry_on[0]", "no kind of failure"),
    (
        "exit code",
        lambda s: s.steps[A].retry.never_retry_on.append("ExitCode:256"),
        "steps[0].retry.never_retry_on[0]",
        "0 to 255",
    ),
    (
        "timeout",
        lambda s: s.steps[A].timeouts.attempt.CopyFrom(span(-1)),
        "steps[0].timeouts.attempt",
        "-1 s is negative",
    ),
    (
        "timeout",
        lambda s: s.steps[A].timeouts.queued.CopyFrom(span(0)),
        "steps[0].timeouts.queued",
        "leave it out for no limit",
    ),
    (
        "timeout",
        lambda s: s.steps[A].timeouts.overall.CopyFrom(span(0, 5)),
        "steps[0].timeouts.overall",
        "use at least 0.001 s",
    ),
    ("timeout", lambda s: s.timeout.CopyFrom(span(10**17)), "timeout", "use at most 31,622,400 s"),
    ("timeout", lambda s: s.timeout.CopyFrom(span(1, 10**9)), "timeout", "no part of a second"),
    ("grace", lambda s: s.stop_grace.CopyFrom(span(3601)), "stop_grace", "use at most 3,600 s"),
    ("grace", lambda s: s.stop_grace.CopyFrom(span(0, -1)), "stop_grace", "negative"),
    ("parallel", lambda s: setattr(s, "max_parallel", -1), "max_parallel", "-1 is negative"),
    ("priority", lambda s: setattr(s, "priority", 1_001), "priority", "use a number from -1,000 to 1,000"),
    ("low priority", lambda s: setattr(s, "priority", -1_001), "priority", "use a number from -1,000 to 1,000"),
    ("step's priority", lambda s: setattr(s.steps[A], "priority", 1_001), "steps[0].priority", "1,001 is no priority"),
    ("weight", lambda s: setattr(s, "weight", 100.5), "weight", "use a number from 0.01 to 100, or leave it out"),
    ("small weight", lambda s: setattr(s, "weight", 0.001), "weight", "0.001 is no weight"),
    ("no number", lambda s: setattr(s, "weight", math.nan), "weight", "nan is no weight"),
    ("cpu", lambda s: setattr(s.steps[A].resources, "cpu", -0.5), "steps[0].resources.cpu", "negative"),
    ("cpu", lambda s: setattr(s.steps[A].resources, "cpu", float("nan")), "steps[0].resources.cpu", "no amount"),
    ("gpu", lambda s: setattr(s.defaults.resources, "gpu", float("inf")), "defaults.resources.gpu", "no amount"),
    (
        "memory",
        lambda s: setattr(s.steps[A].resources, "memory_bytes", -1),
        "steps[0].resources.memory_bytes",
        "negative",
    ),
    (
        "custom",
        lambda s: s.steps[A].resources.custom.update({"cpu": 1}),
        "steps[0].resources.custom[cpu]",
        "a field of its own",
    ),
    (
        "custom",
        lambda s: s.steps[A].resources.custom.update({"licences": float("inf")}),
        "steps[0].resources.custom[licences]",
        "no amount",
    ),
    ("rule", lambda s: setattr(s.steps[A], "trigger_rule", 99), "steps[0].trigger_rule", "no trigger rule"),
    # environment, labels, queue
    ("digit", lambda s: s.steps[A].env.update({"1A": "x"}), "steps[0].env[1A]", "not beginning with a digit"),
    ("equals", lambda s: s.steps[A].env.update({"A=B": "x"}), "steps[0].env[A=B]", "NUL or '='"),
    ("NUL", lambda s: s.steps[A].env.update({"A\0": "x"}), "steps[0].env[A\\x00]", "NUL or '='"),
    ("empty", lambda s: s.steps[A].env.update({"": "x"}), "steps[0].env[]", "the name is empty"),
    ("newline", lambda s: s.steps[A].env.update({"A\n": "x"}), "steps[0].env[A\\n]", "no name of a variable"),
    ("value", lambda s: s.steps[A].env.update({"A": "x\0y"}), "steps[0].env[A]", "NUL"),
    ("ours", lambda s: s.defaults.env.update({"PENSTOCK_X": ""}), "defaults.env[PENSTOCK_X]", "reserved"),
    ("label", lambda s: s.labels.update({"a b": "x"}), "labels[a b]", "no valid label"),
    ("label", lambda s: s.steps[A].labels.update({"": "x"}), "steps[0].labels[]", "no valid label"),
    ("label", lambda s: s.steps[A].labels.update({"a": "x\0"}), "steps[0].labels[a]", "control character"),
    ("label", lambda s: s.defaults.labels.update({"a": "x" * 257}), "defaults.labels[a]", "past the limit of 256"),
    ("queue", lambda s: setattr(s.steps[A], "queue", "a b"), "steps[0].queue", "no valid name"),
    # parameters
    (
        "same",
        lambda s: setattr(s.parameters[1], "name", "n"),
        "parameters[1].name",
        "'n' is the name of parameters[0] too",
    ),
    (
        "type",
        lambda s: setattr(s.parameters[0], "type", 0),
        "parameters[0].type",
        "no type is given: use one of STRING",
    ),
    ("type", lambda s: setattr(s.parameters[0], "type", 42), "parameters[0].type", "42 is no type"),
    (
        "text",
        lambda s: setattr(s.parameters[0].default, "string_value", "three"),
        "parameters[0].default",
        "the text 'three' is not a whole number: give the number without quotes",
    ),
    ("half", lambda s: setattr(s.parameters[0].default, "number_value", 2.5), "parameters[0].default", "round it"),
    (
        "bool",
        lambda s: setattr(s.parameters[0].default, "bool_value", True),
        "parameters[0].default",
        "true or false is",
    ),
    (
        "large",
        lambda s: setattr(s.parameters[0].default, "number_value", 2.0**53 + 2),
        "parameters[0].default",
        "beyond 2^53",
    ),
    (
        "null",
        lambda s: setattr(s.parameters[0].default, "null_value", 0),
        "parameters[0].default",
        "type ANY can be null",
    ),
    ("unset", lambda s: s.parameters[3].default.Clear(), "parameters[3].default", "a value is missing"),
    (
        "a condition on the step itself",
        lambda s: setattr(s.steps[C], "when", "steps.c.state == 'FAILED'"),
        "steps[3].when",
        "cannot look at its own step",
    ),
    (
        "a condition on a member that no item has",
        lambda s: s.steps[EACH].map.CopyFrom(pb.MapSpec(lists=[pb.MapList(name="idd", parameter="items")])),
        "steps[2].when",
        "the item has no member 'id': did you mean 'idd'?",
    ),
    (
        "secrets of a sub-pipeline",
        lambda s: s.steps[C].MergeFrom(
            pb.StepSpec(pipeline=pb.PipelineAction(name="p"), secrets=[pb.SecretUse(name="k")])
        ),
        "steps[3].secrets",
        "which no agent takes",
    ),
]


@pytest.mark.parametrize(("change", "field", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_refused(change: Change, field: str, message: str) -> None:
    spec = base_spec()
    change(spec)
    found = faults(spec)
    assert message in found[field], found
    assert all(description.isascii() for description in found.values())


@pytest.mark.parametrize(
    ("names", "message"),
    [(["zzz"], "'zzz' is no step that is a function"), (["a"], "'a' is no step"), (["b", "b"], "'b' is there twice")],
)
def test_pickles_are_allowed_to_functions_by_name(names: list[str], message: str) -> None:
    spec = base_spec()
    spec.allow_pickle.append("b")
    assert not faults(spec)
    replace(spec.allow_pickle, names)
    assert message in faults(spec)[f"allow_pickle[{len(names) - 1}]"]


GOOD: list[tuple[str, Change]] = [
    ("a dependency twice", lambda s: s.steps[B].depends_on.extend(["a", "a"])),
    ("a file in a folder", lambda s: setattr(s.steps[A].command.outputs[0], "file", "./out/ä ~.json")),
    ("shell in values", lambda s: s.steps[C].inputs["x"].value.CopyFrom(Value(string_value="$(rm -rf /); `x`\n\0"))),
    ("odd environment", lambda s: s.steps[A].env.update({"_a1": "x=y\n\t\u202e"})),
    ("exit codes", lambda s: s.steps[A].command.success_exit_codes.extend([0, 255, 0])),
    ("no backoff", lambda s: s.steps[A].retry.initial_backoff.CopyFrom(span(0))),
    ("kinds", lambda s: s.steps[A].retry.retry_on.extend(["a.b.Error", "Timeout", "ExitCode:0", "ÄError"])),
    ("no grace", lambda s: s.stop_grace.CopyFrom(span(0))),
    ("the longest timeout", lambda s: s.timeout.CopyFrom(span(31_622_400))),
    ("the shortest timeout", lambda s: s.timeout.CopyFrom(span(0, 1_000_000))),
    ("the deepest value", lambda s: s.steps[C].inputs["x"].value.CopyFrom(deep(28))),
    ("a whole double", lambda s: setattr(s.parameters[0].default, "number_value", 2.0**53)),
    ("cleanup behind cleanup", lambda s: add_step(s, "z", cleanup=True, depends_on=["sweep"])),
    ("ANY may be a list", lambda s: setattr(s.steps[EACH].map, "parameter", "any")),
    ("one item of a mapped step", lambda s: s.steps[C].inputs["x"].step.MergeFrom(reference("each", "0"))),
    ("an empty list", lambda s: s.steps[EACH].map.values.SetInParent()),
    ("a quiet label", lambda s: s.labels.update({"team/x.y": ""})),
]  # fmt: skip


@pytest.mark.parametrize("change", [case[1] for case in GOOD], ids=[case[0] for case in GOOD])
def test_accepted(change: Change) -> None:
    spec = base_spec()
    change(spec)
    assert problems(spec) == []
