"""Specifications for the tests of plans."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, Limits
from penstock_coordinator.core.plan.validate import Problem, problems

BUNDLE = "0123456789abcdef" * 4


def base() -> dict[str, Any]:
    """A pipeline without a fault, with something of everything, as JSON."""
    return {
        "name": "base",
        "parameters": [
            {"name": "n", "type": "PARAMETER_TYPE_INT", "default": 3},
            {"name": "items", "type": "PARAMETER_TYPE_LIST", "default": [1, 2]},
            {"name": "text", "type": "PARAMETER_TYPE_STRING", "default": "x"},
            {"name": "any", "type": "PARAMETER_TYPE_ANY", "default": None},
        ],
        "timeout": "60s",
        "maxParallel": 4,
        "bundleDigest": BUNDLE,
        "defaults": {"retry": {"maxAttempts": 2}, "labels": {"zone": "a"}, "env": {"LEVEL": "info"}},
        "steps": [
            {
                "name": "a",
                "command": {
                    "argv": ["echo", "a"],
                    "outputs": [{"name": "out", "file": "out.txt"}, {"name": "said", "stdout": True}],
                },
            },
            {
                "name": "b",
                "function": {"module": "flow.steps", "qualname": "Load.run"},
                "inputs": {
                    "rows": {"step": {"step": "a", "path": ["out"]}},
                    "count": {"parameter": "n"},
                    "fixed": {"value": {"k": [1, 2.5, None]}},
                },
                "when": "steps.a.output.said == 'go' && params.n > 2",
            },
            {
                "name": "each",
                "command": {"shell": "echo $PENSTOCK_INPUT_ONE"},
                "map": {"parameter": "items"},
                "inputs": {"one": {"item": {"path": ["id"]}}},
                "dependsOn": ["b"],
                "when": "item.id > 1 && steps.b.state == 'COMPLETED'",
            },
            {"name": "c", "command": {"shell": "true"}, "dependsOn": ["b", "each"]},
            {"name": "sweep", "command": {"argv": ["true"]}, "cleanup": True},
        ],
    }


def spec_of(document: dict[str, Any]) -> pb.PipelineSpec:
    return json_format.ParseDict(document, pb.PipelineSpec())


def base_spec() -> pb.PipelineSpec:
    return spec_of(base())


def faults(spec: pb.PipelineSpec, limits: Limits = DEFAULT_LIMITS) -> dict[str, str]:
    """The descriptions by field."""
    return {problem.field: problem.description for problem in problems(spec, limits)}


def chain(length: int) -> pb.PipelineSpec:
    spec = pb.PipelineSpec(name="chain")
    for number in range(length):
        step = spec.steps.add(name=f"s{number}")
        step.command.argv.append("true")
        if number:
            step.depends_on.append(f"s{number - 1}")
    return spec


__all__ = ["BUNDLE", "Problem", "base", "base_spec", "chain", "faults", "spec_of"]
