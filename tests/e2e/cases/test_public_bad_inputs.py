"""Malformed inputs over gRPC: the class of answer, the field, and nothing left behind."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.cases.neutral_bad_inputs import ClientRefuses, our_field, request, specification
from tests.e2e.cases.raw_calls import Answer, RawChannel

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.system.conftest import DevSystem

    from penstock.client.sync import SyncClient

FILE = json.loads((Path(__file__).parents[2] / "cases" / "bad_inputs_public.json").read_text())
BASE: dict[str, Any] = FILE["base"]
LATER = {"S01": "there are no schedules yet", "S10": "there are no schedules yet"}
"""Artifacts of their own are to come too; A01 and A24 are asked of the outputs that commands declare."""
CASES = [each for each in FILE["cases"] if each["id"] not in LATER]


@pytest.fixture(scope="module", autouse=True)
def base(system: DevSystem) -> None:
    with system.client() as client:
        client.create_pipeline(specification(BASE, artifacts=False))


@pytest.mark.parametrize("case", CASES, ids=[each["id"] for each in CASES])
def test_a_public_bad_input(
    raw: RawChannel, client: SyncClient, unchanged: Callable[[], None], case: dict[str, Any]
) -> None:
    expected = case["expect"]
    try:
        method, message = request(case, BASE)
    except ClientRefuses:
        assert "CLIENT_REFUSES" in expected["also_accept"]
        return
    answer = raw.call(method, message)
    if expected["code"] == "ACCEPTED_LITERALLY":
        check_literally(client, answer, case["args"]["parameters"])
        return
    assert answer.code == expected["code"], answer
    pattern = our_field(expected["field"])
    assert any(pattern.match(field) for field in answer.fields), answer.fields
    unchanged()


def check_literally(client: SyncClient, answer: Answer, parameters: dict[str, Any]) -> None:
    run_id = answer.response.run.id
    ended = client.wait(run_id, 100.0)
    assert ended.state == run_pb2.RUN_STATE_COMPLETED
    told = {name: [each.string_value for each in value.list_value.values] for name, value in ended.parameters.items()}
    assert {name: told[name] for name in parameters} == parameters


def test_only_what_is_to_come_is_left_out() -> None:
    assert {each["category"] for each in FILE["cases"] if each["id"] in LATER} == {"schedule"}
    assert len(CASES) == FILE["count"] - len(LATER)


def test_the_next_valid_request_is_served(client: SyncClient) -> None:
    run = client.start("base", {"n": 4}, request_id=str(uuid.uuid4()))
    assert run.wait(60.0).state == run_pb2.RUN_STATE_COMPLETED


def test_nothing_was_interpreted(system: DevSystem) -> None:
    assert not list(system.data.rglob("pwned.flag"))
    assert not list(Path.cwd().glob("pwned.flag"))
