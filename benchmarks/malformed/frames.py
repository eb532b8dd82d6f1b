"""Messages of every method, filled at random, and the ways to spoil their bytes."""

from __future__ import annotations

import importlib
import pkgutil
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from google.protobuf import descriptor as pb
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import penstock.v1
from penstock.agent.v1 import agent_service_pb2
from penstock.v1 import bulk_service_pb2

SERVICES = tuple(
    importlib.import_module(f"penstock.v1.{module.name}")
    for module in pkgutil.iter_modules(penstock.v1.__path__)
    if module.name.endswith("_service_pb2")
)
FILES: tuple[pb.FileDescriptor, ...] = tuple(
    module.DESCRIPTOR for module in (agent_service_pb2, health_pb2, reflection_pb2, *SERVICES)
)
DEEPEST = 3
NOBODYS = "nobodys"
"""A pipeline that there is not."""
NESTED = 20_000
_Field = pb.FieldDescriptor
_VARINT, _LENGTH = 0, 2
_EDGES = (0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
_TEXTS = ("", "p", "a b", "\x00", "x" * 5_000, "{{", "../../etc/passwd", "\u202e", "agent-fuzz", "0" * 32)


@dataclass(frozen=True, slots=True)
class Method:
    path: str
    request: type[Message]
    streams_in: bool
    streams_out: bool


def methods() -> list[Method]:
    """Of all services that there are."""
    return [
        Method(
            f"/{service.full_name}/{method.name}",
            GetMessageClass(method.input_type),
            method.client_streaming,
            method.server_streaming,
        )
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    ]


# --- messages that are some


class Filler:
    """Fills messages with what their types allow, from one source of chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def fill(self, kind: type[Message], depth: int = 0) -> Message:
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            if self._chance.random() < 0.7 and (depth < DEEPEST or field.type != _Field.TYPE_MESSAGE):
                self._fill_field(message, cast("pb.FieldDescriptor", field), depth)
        return message

    def _fill_field(self, message: Message, field: pb.FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = self.fill(_class_of(field), depth + 1)
            raw = entry.SerializeToString()
            # As an occurrence of the field: works for maps of values and of messages.
            message.MergeFromString(_varint(field.number << 3 | _LENGTH) + _varint(len(raw)) + raw)
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(self._chance.randrange(4)):
                if field.type == _Field.TYPE_MESSAGE:
                    values.add().CopyFrom(self.fill(_class_of(field), depth + 1))
                else:
                    values.append(self._value(field))
        elif field.type == _Field.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(self.fill(_class_of(field), depth + 1))
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: pb.FieldDescriptor) -> object:
        chance = self._chance
        match field.cpp_type:
            case _Field.CPPTYPE_STRING:
                if field.type == _Field.TYPE_BYTES:
                    return chance.randbytes(chance.choice((0, 1, 15, 16, 17, 300)))
                # What happens to be right must not cancel or retry the runs of healthy callers by the hundred.
                return NOBODYS if field.name == "pipeline" else chance.choice(_TEXTS)
            case _Field.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case _Field.CPPTYPE_FLOAT | _Field.CPPTYPE_DOUBLE:
                return chance.choice((0.0, -1.0, 1e308, float("inf"), float("nan")))
            case _Field.CPPTYPE_ENUM:
                return chance.choice([value.number for value in _enum_of(field).values])
            case _Field.CPPTYPE_INT32:
                return chance.choice([edge for edge in _EDGES if abs(edge + 0.5) < 2**31])
            case _Field.CPPTYPE_UINT32:
                return chance.choice((0, 1, 2**32 - 1))
            case _Field.CPPTYPE_UINT64:
                return chance.choice((0, 1, 2**64 - 1))
            case _:
                return chance.choice(_EDGES)


def _class_of(field: pb.FieldDescriptor) -> type[Message]:
    assert field.message_type is not None
    return GetMessageClass(field.message_type)


def _enum_of(field: pb.FieldDescriptor) -> pb.EnumDescriptor:
    assert field.enum_type is not None
    return field.enum_type


# --- and what is done to their bytes

Mutation = Callable[[random.Random, bytes], bytes]


def _flip(chance: random.Random, data: bytes) -> bytes:
    spoilt = bytearray(data or b"\0")
    for _ in range(chance.randrange(1, 9)):
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)] + b"\x0a"


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randrange(1, 30)) + data[at:]


def _splice(chance: random.Random, data: bytes) -> bytes:
    at, to = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
    return data[:at] + data[to:] + data[:at]


def _wrong_type(chance: random.Random, data: bytes) -> bytes:
    """A field with another wire type, also those that there are not."""
    return data + _varint(chance.randrange(1, 20) << 3 | chance.randrange(8)) + chance.randbytes(6)


def _huge_length(chance: random.Random, data: bytes) -> bytes:
    length = chance.choice((2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 10**6))
    return data + _varint(chance.randrange(1, 20) << 3 | _LENGTH) + _varint(length) + b"abc"


def _no_utf8(chance: random.Random, data: bytes) -> bytes:
    text = chance.choice((b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"a\x00b"))
    return data + b"".join(_varint(number << 3 | _LENGTH) + _varint(len(text)) + text for number in range(1, 10))


def _nest(chance: random.Random, data: bytes) -> bytes:
    """A field in a field in a field."""
    number = chance.randrange(1, 8)
    inner = b""
    for _ in range(chance.choice((90, 101, 1_000, NESTED)) // 10):
        inner = _varint(number << 3 | _LENGTH) + _varint(len(inner)) + inner
        if len(inner) > 60_000:
            break
    return data + inner


def _groups(chance: random.Random, data: bytes) -> bytes:
    """Groups that begin and do not end."""
    return data + bytes([chance.randrange(1, 16) << 3 | 3]) * chance.choice((1, 99, 5_000))


def _nothing_of_it(chance: random.Random, data: bytes) -> bytes:
    return chance.randbytes(chance.randrange(1, max(len(data), 40)))


def _many(chance: random.Random, data: bytes) -> bytes:
    """One field again and again."""
    value = chance.randrange(1 << 14)
    return data + (bytes([chance.randrange(1, 16) << 3 | _VARINT]) + _varint(value)) * 2_000


def _numbers(chance: random.Random, data: bytes) -> bytes:
    number = chance.randrange(1, 16)
    return data + bytes([number << 3 | _VARINT]) + b"\xff" * chance.choice((9, 10, 11)) + struct.pack("<B", 1)


def _as_it_is(_chance: random.Random, data: bytes) -> bytes:
    """The types are right, and nothing else may be."""
    return data


MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _cut,
    _insert,
    _splice,
    _wrong_type,
    _huge_length,
    _no_utf8,
    _nest,
    _groups,
    _nothing_of_it,
    _many,
    _numbers,
    _as_it_is,
)


CONNECT = f"/{agent_service_pb2.DESCRIPTOR.services_by_name['AgentService'].full_name}/Connect"
SEQ = "seq"


def prelude(method: Method, number: int) -> list[bytes]:
    """What may come first, so that what is spoilt comes in the middle of a session. Nothing for most methods."""
    if method.path != CONNECT or number % 3 == 0:
        return []
    hello = agent_service_pb2.Hello(protocol_versions=[1], agent_id=f"fuzz-{number}", boot_id="fuzz", slots=1)
    return [agent_service_pb2.AgentMessage(seq=1, hello=hello).SerializeToString()]


def frames(method: Method, seed: int) -> Iterator[tuple[str, bytes]]:
    """Without end: the mutation's name and the bytes. Messages of sessions are numbered as if the prelude had come."""
    chance = random.Random(f"{seed} {method.path}")  # has to be repeatable
    filler = Filler(chance)
    while True:
        for mutation in MUTATIONS:
            valid = filler.fill(method.request)
            if isinstance(valid, bulk_service_pb2.CreateBulkJobRequest):
                valid.job.selection.pipeline = NOBODYS
            if SEQ in method.request.DESCRIPTOR.fields_by_name:
                setattr(valid, SEQ, 2)
            yield mutation.__name__.strip("_"), mutation(chance, valid.SerializeToString())


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= 2**64 - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
