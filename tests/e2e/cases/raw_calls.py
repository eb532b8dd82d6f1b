"""Calls without a client library in between, and the answer as it is on the wire."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # the package has no stubs
from grpc_status import rpc_status

from penstock.v1 import pipeline_service_pb2, run_service_pb2

_MODULES = {"PipelineService": pipeline_service_pb2, "RunService": run_service_pb2}
_STREAMS = {"Watch", "WaitMany", "TailLogs"}
_LARGEST = 128 << 20


@dataclass(frozen=True)
class Answer:
    """`fields` are those of the violations. Of a stream the response is its first message."""

    code: str
    message: str
    fields: list[str]
    seconds: float
    response: Any = None

    def names(self, field: str) -> bool:
        return any(each.startswith(field) for each in self.fields)


class RawChannel:
    def __init__(self, address: str) -> None:
        options = [("grpc.max_send_message_length", _LARGEST), ("grpc.max_receive_message_length", _LARGEST)]
        self._channel = grpc.insecure_channel(address, options=options)

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, request: Message | bytes, timeout: float = 30.0) -> Answer:
        """`method` is, for example, "RunService/Start"."""
        call = self._callable(method)
        data = request if isinstance(request, bytes) else request.SerializeToString()
        began = time.monotonic()
        try:
            answered = call(data, timeout=timeout)
            response = next(iter(answered), None) if method.partition("/")[2] in _STREAMS else answered
        except grpc.RpcError as error:
            return _refusal(error, time.monotonic() - began)
        return Answer("OK", "", [], time.monotonic() - began, response)

    def _callable(self, method: str) -> Callable[..., Any]:
        service, _, name = method.partition("/")
        described = _MODULES[service].DESCRIPTOR.services_by_name[service].methods_by_name[name]
        response = getattr(_MODULES[service], described.output_type.name)
        kind = self._channel.unary_stream if name in _STREAMS else self._channel.unary_unary
        made: Callable[..., Any] = kind(
            f"/penstock.v1.{method}", request_serializer=bytes, response_deserializer=response.FromString
        )
        return made


def _refusal(error: Any, seconds: float) -> Answer:
    fields: list[str] = []
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        found = error_details_pb2.BadRequest()
        if detail.Unpack(found):
            fields += [violation.field for violation in found.field_violations]
    return Answer(error.code().name, error.details() or "", fields, seconds)
