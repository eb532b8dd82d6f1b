"""Cache policies in Python and in YAML."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from penstock import CachePolicy, Pipeline, command, pipeline, step, yaml_format
from penstock.client.requests import start_request
from penstock.errors import DefinitionError, ParameterError
from penstock.v1 import run_pb2


def steps_of(made: Pipeline) -> list[dict[str, Any]]:
    return [json_format.MessageToDict(each.cache) for each in made.spec().steps]


@step(cache=True)
def load(day: str) -> int:
    return len(day)


@step(cache=CachePolicy(expires="7d", version="2", ignore="verbose"))
def train(rows: int, verbose: bool) -> int:
    return rows


def test_a_step_says_when_an_earlier_value_stands_for_it() -> None:
    @pipeline(defaults={"cache": CachePolicy(expires="1h")})
    def nightly(day: str, verbose: bool = False) -> None:
        found = train(load(day), verbose)
        load.options(name="again", cache=False)(day)
        command("tell", argv=["echo"], cache=CachePolicy(expression="params.day"), inputs={"n": found})

    spec = nightly.spec()
    assert [each.HasField("cache") for each in spec.steps] == [True] * 4
    assert steps_of(nightly) == [
        {},
        {"expires": "604800s", "version": "2", "ignore": ["verbose"]},
        {"disabled": True},
        {"keyExpression": "params.day"},
    ]
    assert spec.defaults.cache.expires.seconds == 3_600
    assert not spec.no_cache
    assert yaml_format.load(nightly.to_yaml()) == spec


def test_a_pipeline_switches_the_cache_off() -> None:
    @pipeline(cache=False)
    def plain(day: str) -> None:
        load(day)

    assert plain.spec().no_cache


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CachePolicy(expires="soon"), "cache.expires"),
        (lambda: CachePolicy(expires="100ms"), "too short"),
        (lambda: CachePolicy(version=2), "cache.version"),  # type: ignore[arg-type]  # what people write
        (lambda: CachePolicy(key="a", expression="b"), "both key and expression"),
        (lambda: CachePolicy(ignore=["a", ""]), "no name"),
        (lambda: CachePolicy(ignore=3), "cache.ignore: 3 is no list"),  # type: ignore[arg-type]
        (lambda: step(cache="7d")(lambda: None), "no cache policy"),  # type: ignore[call-overload]  # what people write
        (lambda: pipeline(cache=CachePolicy())(load.__wrapped__), "no bool"),  # type: ignore[call-overload]  # the same
    ],
)
def test_what_is_no_policy_is_refused(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        make()


def test_yaml_writes_it_in_short() -> None:
    text = """
name: p
parameters: {day: string}
no_cache: true
defaults: {cache: {expires: 7d}}
steps:
  a: {command: [echo], cache: true}
  b: {command: [echo], cache: false}
  c: {command: [echo], cache: {ignore: [day], version: '3'}}
"""
    spec = yaml_format.load(text)
    assert [json_format.MessageToDict(each.cache) for each in spec.steps] == [
        {},
        {"disabled": True},
        {"version": "3", "ignore": ["day"]},
    ]
    assert spec.steps[0].HasField("cache")
    assert spec.no_cache
    assert "cache: true" in yaml_format.dump(spec)
    assert yaml_format.load(yaml_format.dump(spec)) == spec


def test_a_run_may_do_without() -> None:
    asked = start_request("p", {}, labels={}, request_id="r", cache="refresh")
    assert asked.cache_mode == run_pb2.CACHE_MODE_REFRESH
    assert start_request("p", {}, labels={}, request_id="r").cache_mode == run_pb2.CACHE_MODE_UNSPECIFIED
    with pytest.raises(ParameterError, match="'no' is not known"):
        start_request("p", {}, labels={}, request_id="r", cache="no")
