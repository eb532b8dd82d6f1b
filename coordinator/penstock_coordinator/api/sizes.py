"""How large requests may be: told by their bytes, before anything is made of them.

A client that says beforehand how large its request is (`ANNOUNCED`) is refused before it sends it.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.descriptor import Descriptor

from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock_coordinator.api.errors import CallError, Violation, invalid_fields
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, Limits
from penstock_coordinator.core.plan.validate import too_many_bytes

ANNOUNCED = "penstock-message-bytes"
"""Metadata of a call: the bytes of its one request, in decimal."""
BESIDE = 64 << 10
"""Bytes that a request which brings a specification has beside it, at most."""

_SERVICE = pipelines_pb.DESCRIPTOR.services_by_name["PipelineService"]
_SPEC_FIELDS = {
    f"/{_SERVICE.full_name}/{method.name}": method.input_type.fields_by_name["spec"].number
    for method in _SERVICE.methods
    if "spec" in method.input_type.fields_by_name
}
_MOST_FIELDS = 16
AGENT_MESSAGE_BYTES = 4 << 20
"""Agents cut what they say into messages of 1 MiB; only a Hello that tells of ten thousand leases may be larger."""
_CONNECT = "/penstock.agent.v1.AgentService/Connect"
_MOST_SCANNED = 64
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class RequestSizes:
    """What `limits` allow."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits

    def check(self, method: str, request: bytes) -> None:
        """Raises `CallError` for what is too large. Takes the same short time for any size."""
        size = len(request)
        if size > self._limits.message_bytes:
            raise self._too_large(size)
        if method == _CONNECT and size > AGENT_MESSAGE_BYTES:
            text = f"an agent's message has {size:,} bytes, and {AGENT_MESSAGE_BYTES:,} is the limit"
            raise CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", text)
        field = _SPEC_FIELDS.get(method) if size > self._limits.spec_bytes else None
        found = None if field is None else field_bytes(request, field)
        if found is not None and found > self._limits.spec_bytes:
            raise self._spec_too_large(found)

    def announced(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> CallError | None:
        """The refusal of a call whose request is too large by what is said of it. Who says nothing, or less, is looked
        at when the request is there."""
        said = next((value for key, value in metadata if key == ANNOUNCED), "")
        size = int(said) if isinstance(said, str) and said.isdecimal() and len(said) < 20 else 0
        if size > self._limits.message_bytes:
            return self._too_large(size)
        if method in _SPEC_FIELDS and size > self._limits.spec_bytes + BESIDE:
            return self._spec_too_large(size - BESIDE, "more than ")
        return None

    def _too_large(self, size: int) -> CallError:
        text = (
            f"the request has {size:,} bytes, past the limit of {self._limits.message_bytes:,} bytes of"
            " PENSTOCK_MAX_MESSAGE_SIZE: split it, or keep large values in files or a store and pass their names"
        )
        violations = [Violation("request", text)]
        return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", text, violations=violations)

    def _spec_too_large(self, size: int, about: str = "") -> CallError:
        text = too_many_bytes(size, self._limits, about)
        return invalid_fields([Violation("spec", text)], "INVALID_SPECIFICATION")


def field_bytes(message: bytes, number: int) -> int | None:
    """How many bytes the field of that number has in a serialised message, all its occurrences together. None if that
    cannot be told at once: of messages of many fields, and of what is no message."""
    at = found = 0
    try:
        for _ in range(_MOST_FIELDS):
            if at == len(message):
                return found
            tag, at = _varint(message, at)
            size, at = _value(message, at, tag & 7)
            at += size
            if tag >> 3 == number:
                found += size
    except (IndexError, KeyError):
        return None
    return None


def field_number(message: Descriptor, name: str) -> int:
    return message.fields_by_name[name].number


def field_varint(message: bytes, number: int) -> int | None:
    """The last value of the field of that number, an integer of 32 or 64 bits, in a serialised message. None if it is
    not there, or that cannot be told at once."""
    at, found = 0, None
    try:
        for _ in range(_MOST_SCANNED):
            if at == len(message):
                return found
            tag, at = _varint(message, at)
            if tag >> 3 == number and tag & 7 == _VARINT:
                value, at = _varint(message, at)
                found = value - (1 << 64) if value >> 63 else value
                continue
            size, at = _value(message, at, tag & 7)
            at += size
    except (IndexError, KeyError):
        return None
    return None


def _value(message: bytes, at: int, kind: int) -> tuple[int, int]:
    """How many bytes a value has, and where they begin. Raises `KeyError` for a kind that is none."""
    if kind == _LENGTH:
        return _varint(message, at)
    if kind == _VARINT:
        return 0, _varint(message, at)[1]
    return _FIXED[kind], at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends. Raises `IndexError` if it does not."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return number, at
