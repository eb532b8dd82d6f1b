"""Limits on concurrency and run keys, as the SDK and YAML say them."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Concurrency, ConcurrencyPolicy, errors, pipeline, step
from penstock.client.requests import start_request
from penstock.v1 import pipeline_pb2, run_service_pb2
from penstock.yaml_format import dump, load

STEPS = "steps: {a: {command: 'true'}}"


@step(concurrency="gpu")
def one() -> None:
    pass


@pipeline(max_active_runs=3, concurrency=Concurrency(key="k", limit=2, policy=ConcurrencyPolicy.CANCEL_NEWEST))
def limited() -> None:
    one()
    one.options(concurrency=Concurrency(expression="params.x", policy="cancel_oldest"))()
    one.options(concurrency=None)()


def test_what_a_pipeline_says() -> None:
    spec = limited.spec("0" * 64)
    assert spec.max_active_runs == 3
    assert spec.concurrency.key == "k"
    assert spec.concurrency.limit == 2
    assert spec.concurrency.policy == pipeline_pb2.CONCURRENCY_POLICY_CANCEL_NEWEST
    plain, by_expression, none = (found.concurrency for found in spec.steps)
    assert (plain.key, plain.limit, plain.policy) == ("gpu", 0, pipeline_pb2.CONCURRENCY_POLICY_UNSPECIFIED)
    assert by_expression.key_expression == "params.x"
    assert by_expression.policy == pipeline_pb2.CONCURRENCY_POLICY_CANCEL_OLDEST
    assert none == pipeline_pb2.Concurrency()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "concurrency: there is no key"),
        ({"key": "k", "expression": "params.x"}, "concurrency: both key and expression are given"),
        ({"key": 3}, "concurrency.key: 3 is no text"),
        ({"key": "k", "limit": 0}, "concurrency.limit: 0 is out of bounds"),
        ({"key": "k", "limit": True}, "concurrency.limit: True is out of bounds"),
        ({"key": "k", "limit": 100_001}, "concurrency.limit: 100001 is out of bounds"),
        ({"key": "k", "policy": "cancel_oldst"}, "did you mean 'cancel_oldest'"),
    ],
)
def test_limits_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.DefinitionError) as caught:
        Concurrency(**given)
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("concurrency: k", {"key": "k"}),
        ("concurrency: {key: k, limit: 3, policy: cancel_newest}", {"key": "k", "limit": 3, "policy": 2}),
        ("concurrency: {key_expression: params.x}", {"key_expression": "params.x"}),
        ("concurrency: {key: k, policy: queue}", {"key": "k", "policy": 1}),
    ],
)
def test_yaml_there_and_back(text: str, expected: dict[str, Any]) -> None:
    spec = load(f"name: p\nmax_active_runs: 4\n{text}\n{STEPS}\n")
    assert spec.max_active_runs == 4
    assert spec.concurrency == pipeline_pb2.Concurrency(**expected)
    assert load(dump(spec)) == spec


def test_a_key_in_yaml_is_taken_as_it_stands() -> None:
    with pytest.raises(errors.YamlError) as caught:
        load(f"name: p\nconcurrency: tenant-${{params.x}}\n{STEPS}\n")
    assert "key_expression" in caught.value.remedy


def test_run_keys_in_a_request() -> None:
    request = start_request(
        "p", {}, labels={}, request_id="r", run_key="k", run_key_conflict="use_existing", run_key_reuse="after_failure"
    )
    assert request.run_key == "k"
    assert request.run_key_conflict == run_service_pb2.RUN_KEY_CONFLICT_USE_EXISTING
    assert request.run_key_reuse == run_service_pb2.RUN_KEY_REUSE_AFTER_FAILURE
    plain = start_request("p", {}, labels={}, request_id="r")
    assert (plain.run_key, plain.run_key_conflict, plain.run_key_reuse) == ("", 0, 0)


@pytest.mark.parametrize("field", ["run_key_conflict", "run_key_reuse"])
def test_unknown_rules_of_run_keys(field: str) -> None:
    rule: dict[str, Any] = {field: "unspecified"}
    with pytest.raises(errors.ParameterError) as caught:
        start_request("p", {}, labels={}, request_id="r", run_key="k", **rule)
    assert "reject" in caught.value.remedy
