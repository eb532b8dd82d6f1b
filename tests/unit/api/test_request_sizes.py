"""What a request's bytes tell of its size, before anything is made of them."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from penstock.v1 import pipeline_service_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.api.errors import CallError
from penstock_coordinator.api.sizes import ANNOUNCED, BESIDE, RequestSizes, field_bytes
from penstock_coordinator.core.plan.limits import Limits

CREATE, VALIDATE = "/penstock.v1.PipelineService/Create", "/penstock.v1.PipelineService/Validate"
OTHER = "/penstock.v1.RunService/StartMany"
SIZES = RequestSizes(Limits(spec_bytes=200, message_bytes=BESIDE + 1_000))


def create(size: int, request_id: str = "") -> bytes:
    spec = PipelineSpec(description="x" * size)
    spec.description = spec.description[: size - spec.ByteSize()]
    assert spec.ByteSize() == size
    return pb.CreatePipelineRequest(spec=spec, request_id=request_id).SerializeToString()


@given(st.binary(max_size=300), st.text(max_size=200), st.text(max_size=20))
def test_the_bytes_of_a_field_are_those_that_decoding_finds(packed: bytes, text: str, request_id: str) -> None:
    request = pb.CreatePipelineRequest(spec=PipelineSpec(description=text), request_id=request_id)
    assert field_bytes(request.SerializeToString(), 1) == request.spec.ByteSize()
    field_bytes(packed, 1)  # whatever it is, it is no error


def test_of_a_field_that_comes_twice_both_count() -> None:
    assert field_bytes(create(10) + create(20), 1) == 30


def test_fields_of_all_kinds_are_stepped_over() -> None:
    others = b"\x78\xff\x01" + b"\x79" + bytes(8) + b"\x7d" + bytes(4)
    assert field_bytes(others + create(150) + others, 1) == 150


@pytest.mark.parametrize("message", [b"\x0a", b"\x0a\x05abc", b"\x0b", b"\xff" * 20, b"\x78\x01" * 100])
def test_what_cannot_be_told_at_once_is_left_to_decoding(message: bytes) -> None:
    assert field_bytes(message, 1) is None


@pytest.mark.parametrize("method", [CREATE, VALIDATE])
def test_a_specification_at_the_limit_and_one_past_it(method: str) -> None:
    SIZES.check(method, create(200, "r" * 500))
    with pytest.raises(CallError) as caught:
        SIZES.check(method, create(201))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = caught.value.violations
    assert violation.field == "spec"
    assert "has 201 bytes, past the limit of 200: split" in violation.description
    assert "PENSTOCK_MAX_SPEC_SIZE" in violation.description
    SIZES.check(OTHER, create(201))


def test_a_message_at_the_limit_and_one_past_it() -> None:
    most = BESIDE + 1_000
    SIZES.check(OTHER, bytes(most))
    with pytest.raises(CallError) as caught:
        SIZES.check(OTHER, bytes(most + 1))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert [each.field for each in caught.value.violations] == ["request"]
    assert f"{most + 1:,} bytes, past the limit of {most:,} bytes of PENSTOCK_MAX_MESSAGE_SIZE: split it" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("method", "size", "code"),
    [
        (OTHER, BESIDE + 1_000, None),
        (OTHER, BESIDE + 1_001, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (CREATE, BESIDE + 200, None),
        (CREATE, BESIDE + 201, grpc.StatusCode.INVALID_ARGUMENT),
        (CREATE, BESIDE + 1_001, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_what_is_said_beforehand_is_enough_to_refuse(method: str, size: int, code: grpc.StatusCode | None) -> None:
    refusal = SIZES.announced(method, [("other", "1"), (ANNOUNCED, str(size))])
    assert (refusal.code if refusal else None) == code


@pytest.mark.parametrize("said", ["", "-1", "many", "²", "9" * 40, b"99999999"])
def test_what_is_no_number_says_nothing(said: str | bytes) -> None:
    assert SIZES.announced(OTHER, [(ANNOUNCED, said)]) is None


def test_the_requests_with_a_specification_are_known() -> None:
    methods = pb.DESCRIPTOR.services_by_name["PipelineService"].methods
    with_spec: list[type[Message]] = [pb.CreatePipelineRequest, pb.ValidatePipelineRequest]
    assert {each.DESCRIPTOR for each in with_spec} == {
        method.input_type for method in methods if "spec" in method.input_type.fields_by_name
    }
