"""Whatever bytes a specification is made of, the answer is problems or a refusal, and the server goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.api.answers import answer_of
from tests.integration.api.conftest import start_edge, stop_edge

from penstock.v1 import pipeline_service_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock.v1.pipeline_service_pb2_grpc import PipelineServiceStub
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores

DEEPEST = 6
names = st.sampled_from(["a", "b", "c", "", "../x", "a\0b", "n", "default"]) | st.text(max_size=8)
expressions = st.sampled_from(
    ["true", "params.n > 1", "steps.a.output", "item == 1", "[1].map(x, x)", "((", "1/0 == 1"]
)
integers = st.sampled_from([0, 1, -1, 2, 50, 2**31 - 1, -(2**31)])
doubles = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e300, float("nan"), float("inf")])
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: names | expressions,
    FieldDescriptor.CPPTYPE_INT32: integers,
    FieldDescriptor.CPPTYPE_INT64: integers | st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: doubles,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 12),
}


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    inner = field.message_type
    if inner is not None:
        return st.deferred(lambda: _message(inner, depth + 1))
    return _SCALARS[field.cpp_type]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    entry = field.message_type
    if entry is not None and _is_map(field):
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        return st.dictionaries(_value(key, depth), _value(value, depth), max_size=2)
    one = _value(field, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _message(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Fields by name; the deeper, the fewer."""
    fields = [field for field in descriptor.fields if depth < DEEPEST or field.message_type is None]
    return st.fixed_dictionaries({}, optional={field.name: _field(field, depth) for field in fields})


def _fill(message: Any, content: dict[str, Any]) -> Any:
    for name, value in content.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if _is_map(field):
            _fill_map(getattr(message, name), value, field.message_type.fields_by_name["value"])
        elif field.is_repeated and field.message_type is not None:
            for each in value:
                _fill(getattr(message, name).add(), each)
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type is not None:
            getattr(message, name).SetInParent()
            _fill(getattr(message, name), value)
        else:
            setattr(message, name, value)
    return message


def _fill_map(target: Any, content: dict[str, Any], value: FieldDescriptor) -> None:
    for key, each in content.items():
        if value.message_type is not None:
            _fill(target[key], each)
        else:
            target[key] = each


class Server:
    """A coordinator on a loop of its own: hypothesis calls from outside of any."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        stores = memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1)
        self._edge = self._do(start_edge(stores))

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def call(self, method: str, request: bytes) -> Any:
        """The answer, or the error's code."""
        return self._do(self._call(method, request))

    async def _call(self, method: str, request: bytes) -> Any:
        channel: Any = self._edge.channel
        response = pb.ValidatePipelineResponse if method == "Validate" else pb.CreatePipelineResponse
        path = f"/penstock.v1.PipelineService/{method}"
        call = channel.unary_unary(path, response_deserializer=response.FromString)
        try:
            return await call(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            return answer_of(error)

    async def _names(self) -> list[str]:
        stub = PipelineServiceStub(self._edge.channel)
        return [row.name for row in (await stub.List(pb.ListPipelinesRequest())).pipelines]

    def names(self) -> list[str]:
        return list(self._do(self._names()))

    def stop(self) -> None:
        self._do(stop_edge(self._edge))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


ALLOWED = {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(payload=st.binary(max_size=300))
def test_any_bytes(server: Server, payload: bytes) -> None:
    answer = server.call("Validate", payload)
    assert isinstance(answer, pb.ValidatePipelineResponse) or answer.code.name == "INVALID_ARGUMENT"


@quick
@given(content=_message(PipelineSpec.DESCRIPTOR))
def test_any_specification(server: Server, content: dict[str, Any]) -> None:
    spec = _fill(PipelineSpec(), content)
    validated = server.call("Validate", pb.ValidatePipelineRequest(spec=spec).SerializeToString())
    assert isinstance(validated, pb.ValidatePipelineResponse), validated
    created = server.call("Create", pb.CreatePipelineRequest(spec=spec).SerializeToString())
    if validated.problems:
        assert created.code.name == "INVALID_ARGUMENT"
        assert spec.name not in server.names()
    elif not isinstance(created, pb.CreatePipelineResponse):
        assert created.code.name in ALLOWED


@quick
@given(content=_message(PipelineSpec.DESCRIPTOR), place=st.integers(0, 2_000), byte=st.integers(0, 255))
def test_a_specification_with_one_byte_changed(server: Server, content: dict[str, Any], place: int, byte: int) -> None:
    payload = bytearray(pb.ValidatePipelineRequest(spec=_fill(PipelineSpec(), content)).SerializeToString())
    if payload:
        payload[place % len(payload)] = byte
    answer = server.call("Validate", bytes(payload))
    assert isinstance(answer, pb.ValidatePipelineResponse) or answer.code.name == "INVALID_ARGUMENT"
