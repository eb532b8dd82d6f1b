"""The parameters that a pipeline declares, and the arguments that it was made with."""

from __future__ import annotations

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.parameters import misfit
from penstock_coordinator.core.plan.validation.report import Report, member
from penstock_coordinator.core.plan.validation.sources import Sources, value_fault
from penstock_coordinator.core.plan.validation.texts import check_bytes, check_description, check_name

_TYPES = frozenset(pb.ParameterType.values()) - {pb.PARAMETER_TYPE_UNSPECIFIED}
_TYPE_NAMES = ", ".join(name.removeprefix("PARAMETER_TYPE_") for name in pb.ParameterType.keys()[1:])


def check_parameters(report: Report, spec: pb.PipelineSpec, sources: Sources, limits: Limits) -> None:
    first: dict[str, int] = {}
    size = 0
    for number, parameter in enumerate(spec.parameters):
        field = f"parameters[{number}]"
        check_name(report, f"{field}.name", parameter.name, limits)
        if first.setdefault(parameter.name, number) != number:
            text = f"{quoted(parameter.name)} is the name of parameters[{first[parameter.name]}] too"
            report.add(f"{field}.name", f"{text}: choose another")
        check_description(report, f"{field}.description", parameter.description, limits)
        if parameter.type not in _TYPES:
            given = "no type is given" if not parameter.type else f"{parameter.type} is no type"
            report.add(f"{field}.type", f"{given}: use one of {_TYPE_NAMES}")
        elif parameter.HasField("default") and sources.check_constant(f"{field}.default", parameter.default):
            size += parameter.default.ByteSize()
            fault = misfit(parameter, parameter.default)
            if fault is not None:
                report.add(f"{field}.default", fault)
    if size > limits.parameters_bytes:
        text = f"the defaults have {size:,} bytes, past the limit of {limits.parameters_bytes:,} in all"
        report.add("parameters", f"{text}: keep large values in a file or a store")


def check_template(report: Report, template: pb.TemplateUse, limits: Limits) -> None:
    """What says nothing to us has to be readable all the same by whoever gets the specification back: a value that is
    no JSON, or nested too deeply, could be stored and not be answered."""
    check_bytes(report, "template.name", template.name, limits.function_bytes, "the name")
    for name in sorted(template.arguments):
        fault = value_fault(template.arguments[name], limits.nesting)
        if fault is not None:
            report.add(f"template.arguments[{member(name)}]", fault)
