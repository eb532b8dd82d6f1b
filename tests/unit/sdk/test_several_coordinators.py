"""Where the next call goes when one of several coordinators does not answer."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # the package has no stubs
from grpc.aio import AioRpcError, Metadata

from penstock.client.calls import Caller
from penstock.client.coordinators import Coordinators
from penstock.errors import UnavailableError
from penstock.settings import load_settings


def failure(code: grpc.StatusCode, reason: str = "", **metadata: str) -> AioRpcError:
    if not reason:
        return AioRpcError(code, Metadata(), Metadata(), details="gone")
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="penstock", metadata=metadata))
    status = status_pb2.Status(code=code.value[0], message="no", details=[detail])
    trailing = Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return AioRpcError(code, Metadata(), trailing, details="no")


GONE = failure(grpc.StatusCode.UNAVAILABLE)


def test_the_next_one_comes_after_one_that_is_gone() -> None:
    coordinators = Coordinators("a:1,b:1")
    assert coordinators.failed("a:1", GONE)
    assert coordinators.current == "b:1"
    assert coordinators.failed("b:1", GONE)
    assert coordinators.current == "a:1"


def test_of_many_calls_that_fail_together_the_first_decides() -> None:
    coordinators = Coordinators("a:1,b:1")
    assert all(coordinators.failed("a:1", GONE) for _ in range(5))
    assert coordinators.current == "b:1"


def test_who_names_the_owner_is_believed_also_by_a_client_that_knows_but_one() -> None:
    coordinators = Coordinators("a:1")
    assert coordinators.failed("a:1", failure(grpc.StatusCode.UNAVAILABLE, "NOT_THE_LEADER", address="c:1"))
    assert coordinators.current == "c:1"
    assert coordinators.failed("c:1", GONE)
    assert coordinators.current == "a:1"
    assert not coordinators.failed("a:1", GONE), "there is no other one"


def test_the_next_call_goes_to_the_owner_that_an_answer_names_if_it_was_given() -> None:
    coordinators = Coordinators("a:1,b:1")
    coordinators.answered((("penstock-owner", "c:1"), ("other", "b:1")))
    assert coordinators.current == "a:1", "it may be out of reach"
    coordinators.answered((("penstock-owner", "b:1"),))
    assert coordinators.current == "b:1"


@pytest.mark.parametrize(
    "error",
    [
        failure(grpc.StatusCode.NOT_FOUND),
        failure(grpc.StatusCode.RESOURCE_EXHAUSTED),
        failure(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
    ],
)
def test_what_another_one_would_say_too_is_no_reason_to_go(error: AioRpcError) -> None:
    coordinators = Coordinators("a:1,b:1")
    assert not coordinators.failed("a:1", error)
    assert coordinators.current == "a:1"


async def test_a_call_goes_through_all_of_them_without_a_pause() -> None:
    coordinators = Coordinators("a:1,b:1,c:1")
    asked: list[str] = []

    async def attempt(_seconds: float) -> str:
        asked.append(coordinators.current)
        if coordinators.current != "c:1":
            raise GONE
        return "answer"

    assert await Caller(coordinators, 5.0, 5.0).call(attempt) == "answer"
    assert asked == ["a:1", "b:1", "c:1"]


async def test_when_none_answers_all_are_named() -> None:
    coordinators = Coordinators("a:1,b:1")

    async def attempt(_seconds: float) -> str:
        raise GONE

    with pytest.raises(UnavailableError, match="a:1 or b:1"):
        await Caller(coordinators, 0.3, 0.3).call(attempt)


def test_several_addresses_are_completed() -> None:
    assert load_settings("one, localhost:99,one").address == "one:7400,127.0.0.1:99"
