"""The parameters of a run: what was given, checked against what the pipeline declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.struct_pb2 import Value

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.constants import MAX_WHOLE, plain
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, Limits
from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.plan.naming import quoted, suggestion
from penstock_coordinator.core.plan.validation.report import Enough, Problem, Report, member
from penstock_coordinator.core.plan.validation.sources import value_fault
from penstock_coordinator.core.plan.values import dump

__all__ = ["InvalidParameters", "bind", "misfit"]

_NO_PARAMETERS = b"{}"
"""Of all runs of pipelines that have none, which share it."""

_KINDS = {
    pb.PARAMETER_TYPE_STRING: ("string_value", "a text"),
    pb.PARAMETER_TYPE_INT: ("number_value", "a whole number"),
    pb.PARAMETER_TYPE_FLOAT: ("number_value", "a number"),
    pb.PARAMETER_TYPE_BOOL: ("bool_value", "true or false"),
    pb.PARAMETER_TYPE_LIST: ("list_value", "a list"),
    pb.PARAMETER_TYPE_MAP: ("struct_value", "an object"),
}
_SHOWN_KINDS = {
    "string_value": "a text",
    "number_value": "a number",
    "bool_value": "true or false",
    "list_value": "a list",
    "struct_value": "an object",
    "null_value": "null",
}


class InvalidParameters(ValueError):
    """The parameters do not fit: all problems, with fields like `parameters.n`."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.description}" for problem in problems))
        self.problems = problems


def bind(declared: Iterable[pb.Parameter], given: Mapping[str, Value], limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The parameters of a run as one JSON object (ASCII): what was given, and the defaults of the others, in the order
    of declaration. A FLOAT is written with a fraction, an INT without one. Raises `InvalidParameters`."""
    parameters = {parameter.name: parameter for parameter in declared}
    report = Report()
    try:
        bound = _bind(report, parameters, given, limits)
    except Enough:
        bound = b""
    if report.problems:
        raise InvalidParameters(report.problems)
    return bound


def _bind(report: Report, parameters: dict[str, pb.Parameter], given: Mapping[str, Value], limits: Limits) -> bytes:
    size = sum(len(name) + value.ByteSize() for name, value in given.items())
    if size > limits.parameters_bytes:
        _too_large(report, size, limits)
        return b""
    for name in sorted(given.keys() - parameters.keys()):
        remedy = suggestion(name, parameters) if parameters else "the pipeline has none"
        report.add(f"parameters.{member(name)}", f"the pipeline has no parameter {quoted(name)}: {remedy}")
    if not parameters:
        return _NO_PARAMETERS
    values: dict[str, Json] = {}
    for name, parameter in parameters.items():
        if name in given:
            fault = value_fault(given[name], limits.nesting) or misfit(parameter, given[name])
            if fault is None:
                values[name] = _typed(parameter, given[name])
            else:
                report.add(f"parameters.{name}", fault)
        elif parameter.HasField("default"):
            values[name] = _typed(parameter, parameter.default)
        else:
            report.add(f"parameters.{name}", f"it is missing, and has no default: give it {_wanted(parameter)}")
    bound = dump(values)
    if len(bound) > limits.parameters_bytes:
        _too_large(report, len(bound), limits)
    return bound


def _too_large(report: Report, size: int, limits: Limits) -> None:
    text = f"the parameters have {size:,} bytes, past the limit of {limits.parameters_bytes:,}"
    report.add("parameters", f"{text}: keep large values in a file or a store, and pass their names")


def misfit(parameter: pb.Parameter, value: Value) -> str | None:
    """Why the value is not of the parameter's type, if it is not. Nothing is converted."""
    if parameter.type == pb.PARAMETER_TYPE_ANY:
        return None
    kind = value.WhichOneof("kind") or "null_value"
    wanted, _ = _KINDS[parameter.type]
    if kind != wanted:
        return f"{_shown(kind, value)} is not {_wanted(parameter)}: {_remedy(parameter, kind)}"
    if parameter.type == pb.PARAMETER_TYPE_INT:
        number = value.number_value
        if not number.is_integer():
            return f"{number!r} is not a whole number: round it"
        if abs(number) > MAX_WHOLE:
            return f"{number!r} is beyond 2^53, where JSON numbers lose digits: declare a STRING and pass it as text"
    return None


def _wanted(parameter: pb.Parameter) -> str:
    return _KINDS[parameter.type][1] if parameter.type in _KINDS else "a value"


def _shown(kind: str, value: Value) -> str:
    return f"the text {quoted(value.string_value)}" if kind == "string_value" else _SHOWN_KINDS[kind]


def _remedy(parameter: pb.Parameter, kind: str) -> str:
    if kind == "null_value":
        return "leave it out for its default; only a parameter of type ANY can be null"
    if kind == "string_value" and parameter.type in (pb.PARAMETER_TYPE_INT, pb.PARAMETER_TYPE_FLOAT):
        return "give the number without quotes"
    if kind == "string_value" and parameter.type == pb.PARAMETER_TYPE_BOOL:
        return "give true or false without quotes"
    if parameter.type == pb.PARAMETER_TYPE_STRING:
        return "put it in quotes"
    return f"give {_wanted(parameter)}"


def _typed(parameter: pb.Parameter, value: Value) -> Json:
    return float(value.number_value) if parameter.type == pb.PARAMETER_TYPE_FLOAT else plain(value)
