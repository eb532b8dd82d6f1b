"""Cache policies: what is refused, what is compiled, and what counts for the key."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.cache_keys import NoKey, artifacts_in, cache_key
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.model import CachePolicy, Plan
from penstock_coordinator.core.plan.validate import problems

FUNCTION = {"function": {"module": "m", "qualname": "f", "codeDigest": "1" * 64}}
COMMAND = {"command": {"argv": ["train", "fast"]}}
ARTIFACT = '{"$artifact": {"digest": "sha256:%s", "kind": "%s", "name": "%s"}}'


def spec(*steps: dict[str, Any], **fields: Any) -> PipelineSpec:
    made = [{"name": f"s{number}", **COMMAND, "cache": {}, **step} for number, step in enumerate(steps)]
    given = {"name": "p", "parameters": [{"name": "day", "type": "PARAMETER_TYPE_STRING"}], "steps": made, **fields}
    return json_format.ParseDict(given, PipelineSpec())


def compiled(*steps: dict[str, Any], **fields: Any) -> Plan:
    made = spec(*steps, **fields)
    assert problems(made) == []
    return compile_plan(made, "d" * 64)


def key(step: dict[str, Any], parameters: dict[str, Any] | None = None, **inputs: str) -> bytes:
    fields = step.pop("pipeline_fields", {})
    plan = compiled(step, **fields)
    given = {"day": "monday"} if parameters is None else parameters
    return cache_key(plan, plan.steps[0], given, {name: value.encode() for name, value in inputs.items()})


@pytest.mark.parametrize(
    ("steps", "field", "says"),
    [
        ([{"cache": {"disabled": True, "version": "2"}}], "steps[0].cache.disabled", "leave the other fields out"),
        ([{"cache": {"expires": "0.5s"}}], "steps[0].cache.expires", "at least 1 s"),
        ([{"cache": {"version": "v" * 300}}], "steps[0].cache.version", "shorten it"),
        ([{"cache": {"ignore": ["dya"]}}], "steps[0].cache.ignore[0]", "did you mean 'day'"),
        ([{"cache": {"key": ""}}], "steps[0].cache.key", "empty"),
        ([{"cache": {"key": "a\nb"}}], "steps[0].cache.key", "control character"),
        ([{"cache": {"keyExpression": "params.month"}}], "steps[0].cache.key_expression", "month"),
        (
            [{"cache": {"key": "k"}, "map": {"values": [1]}}],
            "steps[0].cache.key",
            "every item of a mapped step would have the same key",
        ),
        ([{"cleanup": True}], "steps[0].cache", "clean up each time"),
        ([{"command": None, "pipeline": {"name": "other"}}], "steps[0].cache", "the steps of 'other' itself"),
        ([{"compensate": "s1"}, {"cache": None}], "steps[0].cache", "can be undone"),
        ([{"cache": None, "compensate": "s1"}, {}], "steps[1].cache", "undoes 's0'"),
    ],
)
def test_what_no_value_can_stand_for_is_refused(steps: list[dict[str, Any]], field: str, says: str) -> None:
    found = {each.field: each.description for each in problems(spec(*steps))}
    assert says in found[field]


def test_defaults_pass_over_what_cannot_have_a_policy() -> None:
    steps: list[dict[str, Any]] = [
        {"cache": None},
        {"cache": {"disabled": True}},
        {"cache": {"version": "2"}},
        {"cache": None, "cleanup": True},
        {"cache": None, "compensate": "s5"},
        {"cache": None},
        {"cache": None, "command": None, "pipeline": {"name": "other"}},
    ]
    plan = compiled(*steps, defaults={"cache": {"expires": "60s"}})
    default = CachePolicy(expires=60_000_000)
    assert [step.cache for step in plan.steps] == [default, None, CachePolicy(version="2"), None, None, None, None]
    assert plan.caches
    off = compiled(*steps, defaults={"cache": {}}, noCache=True)
    assert not off.caches
    refused = problems(spec({}, defaults={"cache": {"key": "k", "ignore": ["x"]}}))
    assert {each.field for each in refused} == {"defaults.cache.key", "defaults.cache.ignore[0]"}


def test_equal_work_has_one_key_whatever_it_is_called() -> None:
    assert key({"name": "a"}, x="1") == key({"name": "b", "retry": {"maxAttempts": 3}, "queue": "gpu"}, x="1")
    assert len(key({})) == 32
    assert key({}, x='{"a": 1, "b": [2]}') == key({}, x='{ "b":[2],"a":1}'), "members have no order"


@pytest.mark.parametrize(
    "other",
    [
        {"command": {"argv": ["train", "slow"]}},
        {"command": {"shell": "train fast"}},
        {"command": {"argv": ["train", "fast"], "successExitCodes": [0, 3]}},
        {"command": {"argv": ["train", "fast"], "outputs": [{"name": "n", "stdout": True}]}},
        {"command": {"argv": ["train", "fast"], "inputFiles": {"x": "in/x"}}, "inputs": {"x": {"parameter": "day"}}},
        {"env": {"MODE": "x"}},
        {"cache": {"version": "2"}},
        {"cache": {"key": "k"}},
        {"pipeline_fields": {"bundleDigest": "b" * 64}},
        FUNCTION | {"command": None, "pipeline_fields": {"bundleDigest": "b" * 64}},
    ],
)
def test_what_counts(other: dict[str, Any]) -> None:
    assert key({}, x="1") != key(other, x="1")


def test_whether_a_command_gives_a_file_or_what_is_in_it_counts() -> None:
    def output(**form: Any) -> dict[str, Any]:
        return {"command": {"argv": ["train"], "outputs": [{"name": "n", "file": "out", **form}]}}

    assert len({key(output()), key(output(format="OUTPUT_FORMAT_JSON")), key(output(artifact=True))}) == 3


def test_of_a_function_its_code_counts_and_not_the_bundle_nor_parameters_that_it_does_not_take() -> None:
    def function(code: str = "1" * 64, bundle: str = "b" * 64) -> dict[str, Any]:
        return {
            "command": None,
            "function": {"module": "m", "qualname": "f", "codeDigest": code},
            "pipeline_fields": {"bundleDigest": bundle},
        }

    assert key(function(), x="1") == key(function(bundle="a" * 64), {"day": "friday"}, x="1")
    assert key(function(), x="1") != key(function("2" * 64), x="1")
    assert key(function(""), x="1") != key(function("", "a" * 64), x="1"), "without a digest the bundle's counts"


def test_inputs_and_parameters_count_unless_they_are_ignored() -> None:
    assert key({}, x="1") != key({}, x="2")
    assert key({}, x="1") != key({}, y="1")
    assert key({}, x="1") != key({}, x="1.0")
    assert key({}, {"day": "friday"}) != key({}), "a command sees all parameters"

    def ignoring() -> dict[str, Any]:
        return {"cache": {"ignore": ["day", "x"]}, "inputs": {"x": {"parameter": "day"}}}

    assert key(ignoring(), {"day": "friday"}, x="1") == key(ignoring(), x="2")


def test_a_key_of_ones_own_counts_in_their_place() -> None:
    def own() -> dict[str, Any]:
        return {"cache": {"keyExpression": "params.day + '!'"}}

    assert key(own(), x="1") == key(own(), x="2")
    assert key(own(), x="1") == key({"cache": {"key": "monday!"}})
    assert key(own(), {"day": "friday"}) != key(own())
    with pytest.raises(NoKey, match="key_expression"):
        key(own(), {"day": ""} | {"day": " "})


def test_values_in_the_store_count_by_their_digest() -> None:
    one, same, other = (ARTIFACT % each for each in (("1", "value", "a"), ("1", "value", "b"), ("2", "value", "a")))
    assert key({}, x=f"[{one}]") == key({}, x=f"[{same}]")
    assert key({}, x=f"[{one}]") != key({}, x=f"[{other}]")


@pytest.mark.parametrize(
    "part", ['"name": "b"', '"name": "a", "metadata": {"rows": 3}', '"name": "a", "media_type": "text/csv"']
)
@pytest.mark.parametrize("kind", ["file", "dir"])
def test_of_files_and_folders_all_counts_that_a_step_can_read(kind: str, part: str) -> None:
    file = ARTIFACT % ("1", kind, "a")
    assert key({}, x=file) != key({}, x=file.replace('"name": "a"', part))
    assert key({}, x=file) == key({}, x=file.replace('"kind"', '"size": 7, "kind"'))


def test_artifacts_are_found_in_an_output() -> None:
    one, other = ARTIFACT % ("1", "file", "a"), ARTIFACT % ("2", "file", "a")
    assert artifacts_in(f'{{"a": [{other}, {one}], "b": {one}}}'.encode()) == ("sha256:1", "sha256:2")
    assert artifacts_in(b'{"$artifact": "text"}') == ()
    assert artifacts_in(b"[1]") == ()


def test_an_input_that_is_no_json_has_no_key() -> None:
    with pytest.raises(NoKey, match="'x' is not valid JSON"):
        key({}, x="NaN")


def test_the_form_of_keys_is_for_ever() -> None:
    assert key({}, x="1").hex() == "faff16465be2911eecb7c5a6438a5a1c2b31eef76565ebc461f9fe4ffc675f52"
