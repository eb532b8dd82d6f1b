"""How bad inputs of our own are written, and pieces that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.struct_pb2 import Value

from penstock.v1 import pipeline_pb2 as pb
from penstock.v1 import pipeline_service_pb2 as pipelines
from penstock.v1 import run_service_pb2 as runs
from penstock.wire_values import to_value

UNKNOWN_RUN = "01900000-0000-7000-8000-000000000000"
LONG = "x" * 100_000
NAN, INFINITY = float("nan"), float("inf")


class Bad(NamedTuple):
    method: str
    request: Any
    """A message or, for what no client library makes, bytes."""
    code: str
    field: str
    """What the field of one of the violations begins with; empty for none."""


def base() -> pb.PipelineSpec:
    """A pipeline that is right, and would complete."""
    spec = pb.PipelineSpec(name="own-base")
    spec.parameters.add(name="n", type=pb.PARAMETER_TYPE_INT).default.number_value = 3
    spec.parameters.add(name="items", type=pb.PARAMETER_TYPE_LIST).default.list_value.SetInParent()
    defaults: dict[str, Any] = {"f": 1.5, "s": "", "b": False, "m": {}, "any": None}
    for name in defaults:
        kind = {"f": "FLOAT", "s": "STRING", "b": "BOOL", "m": "MAP", "any": "ANY"}[name]
        spec.parameters.add(name=name, type=pb.ParameterType.Value(f"PARAMETER_TYPE_{kind}")).default.CopyFrom(
            to_value(defaults[name])
        )
    spec.steps.add(name="a").command.argv.append("true")
    spec.steps.add(name="b", depends_on=["a"]).command.argv.append("true")
    spec.steps.add(name="c", depends_on=["b"]).command.argv.append("true")
    return spec


def submit(change: Callable[[pb.PipelineSpec], object], field: str, code: str = "INVALID_ARGUMENT") -> Bad:
    spec = base()
    spec.name = "own-bad"
    change(spec)
    return Bad("PipelineService/Create", pipelines.CreatePipelineRequest(spec=spec), code, field)


def start(field: str, /, **parameters: Any) -> Bad:
    request = runs.StartRunRequest(pipeline="own-base")
    for name, value in parameters.items():
        request.parameters[name].CopyFrom(value if isinstance(value, Value) else to_value(value))
    return Bad("RunService/Start", request, "INVALID_ARGUMENT", field)


def call(method: str, request: Any, field: str, code: str = "INVALID_ARGUMENT") -> Bad:
    return Bad(method, request, code, field)


def set_to(path: str, value: Any) -> Callable[[pb.PipelineSpec], None]:
    """`path` as in the answer: steps[0].retry.max_attempts."""

    def change(spec: pb.PipelineSpec) -> None:
        place: Any = spec
        *way, last = path.replace("[", ".").replace("]", "").split(".")
        for member in way:
            place = place[int(member)] if member.isdecimal() else getattr(place, member)
        if isinstance(value, list):
            del getattr(place, last)[:]
            getattr(place, last).extend(value)
        elif isinstance(value, dict):
            getattr(place, last).clear()
            getattr(place, last).update(value)
        elif isinstance(value, Span):
            getattr(place, last).seconds, getattr(place, last).nanos = value
        else:
            setattr(place, last, value)

    return change


class Span(NamedTuple):
    """A duration as it is on the wire, right or wrong."""

    seconds: int
    nanos: int = 0


def bad(path: str, value: Any, field: str = "") -> Bad:
    return submit(set_to(path, value), field or path)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def many_steps(spec: pb.PipelineSpec) -> None:
    spec.steps.extend(
        pb.StepSpec(name=f"s{number}", command=pb.CommandAction(argv=["true"])) for number in range(100_000)
    )


def large(spec: pb.PipelineSpec) -> None:
    """About 40 MB, past the limit of a specification, below that of a message."""
    for number in range(200):
        step = spec.steps.add(name=f"large{number}")
        step.command.argv.append("true")
        step.inputs["x"].value.string_value = "x" * 200_000


def ring(spec: pb.PipelineSpec) -> None:
    del spec.steps[:]
    for number in range(5_000):
        spec.steps.add(name=f"s{number}", depends_on=[f"s{(number + 1) % 5_000}"]).command.argv.append("true")


def both(*changes: Callable[[pb.PipelineSpec], object]) -> Callable[[pb.PipelineSpec], None]:
    def change(spec: pb.PipelineSpec) -> None:
        for each in changes:
            each(spec)

    return change


def function(spec: pb.PipelineSpec) -> None:
    spec.steps[0].function.module, spec.steps[0].function.qualname = "m", "f"


def shell(text: str) -> Callable[[pb.PipelineSpec], None]:
    def change(spec: pb.PipelineSpec) -> None:
        spec.steps[0].command.ClearField("argv")
        spec.steps[0].command.shell = text

    return change


def output_file(path: str) -> Callable[[pb.PipelineSpec], None]:
    def change(spec: pb.PipelineSpec) -> None:
        spec.steps[0].command.outputs.add(name="x", file=path)

    return change


def missing_value(spec: pb.PipelineSpec) -> None:
    spec.steps[0].inputs["x"].value.SetInParent()


def deep_nan() -> Value:
    value = Value()
    value.struct_value.fields["x"].list_value.values.add().number_value = NAN
    return value


def wrong_utf8() -> bytes:
    """A name that is no UTF-8: field 1 of the specification, which is field 1 of the request."""
    return b"\x0a\x04\x0a\x02\xff\xfe"


def deep_bytes() -> bytes:
    """Values nested 5,000 deep, by hand: list_value (6) of values (1)."""
    data = b"\x20\x01"
    for _ in range(2_500):
        data = b"\x0a" + _length(data) + data
        data = b"\x32" + _length(data) + data
    entry = b"\x0a\x03any" + b"\x12" + _length(data) + data
    return b"\x0a\x08own-base" + b"\x1a" + _length(entry) + entry


def _length(data: bytes) -> bytes:
    size, made = len(data), bytearray()
    while size > 0x7F:
        made.append(size & 0x7F | 0x80)
        size >>= 7
    made.append(size)
    return bytes(made)
