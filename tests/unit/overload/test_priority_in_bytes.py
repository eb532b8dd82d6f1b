"""The priority of a start, found in its bytes without decoding them."""

from __future__ import annotations

import random

import pytest

from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.sizes import field_varint

_PRIORITY = 7


@pytest.mark.parametrize("priority", [None, 0, 1, -1, 1_000, -1_000, 2**31 - 1, -(2**31)])
def test_it_is_what_the_decoder_finds(priority: int | None) -> None:
    request = pb.StartRunRequest(pipeline="p" * 300, priority=priority, run_key="k", weight=1.5, request_id="r")
    request.labels.update({f"key{number}": "value" for number in range(20)})
    request.parameters["n"].number_value = 1
    assert field_varint(request.SerializeToString(), _PRIORITY) == priority


def test_the_last_of_several_counts() -> None:
    twice = pb.StartRunRequest(priority=5).SerializeToString() + pb.StartRunRequest(priority=-5).SerializeToString()
    assert field_varint(twice, _PRIORITY) == -5


def test_of_what_is_no_message_and_of_too_many_fields_nothing_is_told() -> None:
    chance = random.Random(7)  # of a test
    for _ in range(2_000):
        found = field_varint(chance.randbytes(chance.randrange(40)), _PRIORITY)
        assert found is None or isinstance(found, int)
    many = pb.StartRunRequest(priority=1, labels={str(number): "" for number in range(100)})
    assert field_varint(many.SerializeToString(), _PRIORITY) is None
