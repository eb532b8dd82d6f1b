"""From the cases' malformed pipelines and calls to requests of ours."""

from __future__ import annotations

import copy
import re
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from tests.e2e.cases.neutral_conditions import UnknownInCase

from penstock.v1 import pipeline_service_pb2, run_service_pb2
from penstock.v1.pipeline_pb2 import PipelineSpec

_TYPES = {
    "int": "INT",
    "float": "FLOAT",
    "str": "STRING",
    "string": "STRING",
    "bool": "BOOL",
    "list": "LIST",
    "map": "MAP",
    "dict": "MAP",
    "object": "MAP",
    "any": "ANY",
}
_JOINS = "TRIGGER_RULE_"
FIELDS = (
    (r"\.deps\b", ".depends_on"),
    (r"\.retry\.interval_s\b", ".retry.initial_backoff"),
    (r"\.timeout_s\b", ".timeouts.attempt"),
    (r"^timeout_s\b", "timeout"),
    (r"\.run_if\b", ".when"),
    (r"\.id\b", ".name"),
    (r"\.join\b", ".trigger_rule"),
    (r"\.scatter\b", ".map"),
    (r"\.outputs\[(\d+)\]\.artifact\b", r".command.outputs[\1].name"),
    (r"\.inputs\[(\d+)\]\.artifact\b", ".inputs"),
    (r"^parameters\.(\w+)\.(type|default)\b", "parameters"),
)
"""How the names of fields in the cases become ours. A field of a case without a place ("steps.deps") is any step's."""


class ClientRefuses(Exception):
    """The value has no form on the wire."""


def our_field(field: str) -> re.Pattern[str]:
    """What one of the fields in the answer must begin with."""
    for pattern, ours in FIELDS:
        field = re.sub(pattern, ours, field)
    anywhere = re.escape(field).replace(r"steps\.", r"steps\[\d+\]\.")
    return re.compile(anywhere)


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with values at dotted paths; what is missing on the way is made."""
    made = copy.deepcopy(base)
    for path, value in changes.items():
        place: Any = made
        *way, last = path.split(".")
        for member in way:
            place = place[int(member)] if isinstance(place, list) else place.setdefault(member, {})
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return made


def request(case: dict[str, Any], base: dict[str, Any]) -> tuple[str, Message]:
    """The method and the request of a case."""
    arguments = case.get("args", {})
    try:
        match case["call"]:
            case "submit_pipeline":
                spec = specification(changed(base, case["set"]), artifacts=case["category"] == "artifact")
                return "PipelineService/Create", pipeline_service_pb2.CreatePipelineRequest(spec=spec)
            case "start_run":
                return "RunService/Start", json_format.ParseDict(arguments, run_service_pb2.StartRunRequest())
            case "get_run":
                return "RunService/Get", json_format.ParseDict(arguments, run_service_pb2.GetRunRequest())
            case "cancel_run":
                return "RunService/Cancel", json_format.ParseDict(arguments, run_service_pb2.CancelRunRequest())
            case "list_runs":
                return "RunService/List", json_format.ParseDict(arguments, run_service_pb2.ListRunsRequest())
            case "get_pipeline":
                return "PipelineService/Get", json_format.ParseDict(
                    arguments, pipeline_service_pb2.GetPipelineRequest()
                )
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise ClientRefuses(str(error)) from error
    raise UnknownInCase(f"the call {case['call']!r}")


def specification(neutral: dict[str, Any], artifacts: bool) -> PipelineSpec:
    """Raises what the client library raises for a value that has no form on the wire."""
    said = dict(neutral)
    ours: dict[str, Any] = {"name": said.pop("name"), "steps": [_step(each, artifacts) for each in said.pop("steps")]}
    ours["parameters"] = [_parameter(name, each) for name, each in _members(said.pop("parameters", {}))]
    if "timeout_s" in said:
        ours["timeout"] = _seconds(said.pop("timeout_s"))
    if "env" in said:
        ours["defaults"] = {"env": _object(said.pop("env"))}
    for same in ("max_parallel", "fail_fast", "labels", "description"):
        if same in said:
            ours[same] = said.pop(same)
    if said:
        raise UnknownInCase(f"the pipeline says {sorted(said)}")
    return json_format.ParseDict(ours, PipelineSpec())


def _step(neutral: dict[str, Any], artifacts: bool) -> dict[str, Any]:
    said = dict(neutral)
    ours: dict[str, Any] = {"name": said.pop("id"), "depends_on": said.pop("deps", [])}
    command = said.pop("command")
    ours["command"] = {"shell": command} if isinstance(command, str) else {"argv": command}
    outputs, inputs = said.pop("outputs", []), said.pop("inputs", [])
    if artifacts:
        ours["command"]["outputs"] = [{"name": each["artifact"], "file": each["path"]} for each in outputs]
        ours["inputs"] = {
            re.sub(r"\W", "_", each["as"]): {"step": {"step": each["from"], "path": [each["artifact"]]}}
            for each in inputs
        }
    if "env" in said:
        ours["env"] = _object(said.pop("env"))
    if "timeout_s" in said:
        ours["timeouts"] = {"attempt": _seconds(said.pop("timeout_s"))}
    if "run_if" in said:
        ours["when"] = said.pop("run_if")
    if "join" in said:
        ours["trigger_rule"] = _JOINS + str(said.pop("join")).upper()
    if "retry" in said:
        ours["retry"] = _retry(said.pop("retry"))
    for same in ("allow_failure", "cleanup", "queue", "labels", "resources"):
        if same in said:
            ours[same] = said.pop(same)
    if said:
        raise UnknownInCase(f"the step says {sorted(said)}")
    return ours


def _retry(neutral: dict[str, Any]) -> dict[str, Any]:
    said = dict(neutral)
    ours: dict[str, Any] = {}
    for name, field in (("interval_s", "initial_backoff"), ("max_interval_s", "max_backoff")):
        if name in said:
            ours[field] = _seconds(said.pop(name))
    for name, field in (("max_attempts", "max_attempts"), ("backoff", "backoff_multiplier"), ("jitter", "jitter")):
        if name in said:
            ours[field] = said.pop(name)
    if said:
        raise UnknownInCase(f"retry says {sorted(said)}")
    return ours


def _parameter(name: str, said: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, **said, "type": f"PARAMETER_TYPE_{_TYPES[said['type']]}"}


def _members(said: dict[str, Any]) -> list[tuple[str, Any]]:
    return [tuple(pair) for pair in said["$pairs"]] if "$pairs" in said else list(said.items())


def _object(said: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in _members(said):
        if name in made:
            raise ClientRefuses(f"{name!r} is there twice, and a map of the wire holds it once")
        made[name] = value
    return made


def _seconds(value: Any) -> Any:
    return f"{value}s" if isinstance(value, int | float) and not isinstance(value, bool) else value
