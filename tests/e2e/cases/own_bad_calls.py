"""Calls that are wrong: parameters, ids, names, pages."""

from __future__ import annotations

from typing import cast

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from tests.e2e.cases.bad_input_words import (
    INFINITY,
    LONG,
    NAN,
    UNKNOWN_RUN,
    bad,
    call,
    deep_bytes,
    deep_nan,
    large,
    missing_value,
    nested,
    start,
    submit,
    wrong_utf8,
)

from penstock.v1 import pipeline_service_pb2 as pipelines
from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as runs

PARAMETERS = {
    "a fraction for an int": start("parameters.n", n=1.5),
    "a text for an int": start("parameters.n", n="3"),
    "a boolean for an int": start("parameters.n", n=True),
    "null for an int": start("parameters.n", n=None),
    "NaN for an int": start("parameters.n", n=Value(number_value=NAN)),
    "infinity for an int": start("parameters.n", n=Value(number_value=INFINITY)),
    "2^53 + 2 for an int": start("parameters.n", n=float(2**53 + 2)),
    "1e300 for an int": start("parameters.n", n=1e300),
    "NaN for a float": start("parameters.f", f=Value(number_value=NAN)),
    "negative infinity for a float": start("parameters.f", f=Value(number_value=-INFINITY)),
    "a number for a text": start("parameters.s", s=3),
    "a number for a truth value": start("parameters.b", b=1),
    "a text for a truth value": start("parameters.b", b="true"),
    "an object for a list": start("parameters.items", items={"0": 1}),
    "a text for a list": start("parameters.items", items="[1, 2]"),
    "a list for an object": start("parameters.m", m=[]),
    "a value that is none": start("parameters.any", any=Value()),
    "NaN deep in a value": start("parameters.any", any=deep_nan()),
    "29 deep": start("parameters.any", any=nested(29)),
    "more than a megabyte": start("parameters", any="x" * (1 << 20)),
    "a million items": start("parameters", any=[1] * 1_000_000),
    "an unknown name": start("parameters.", nn=1),
    "an empty name": start("parameters", **{"": 1}),
    "a name with a dot": start("parameters", **{"a.b": 1}),
    "5,000 deep": call("RunService/Start", deep_bytes(), ""),
    "a default of the wrong type": submit(
        lambda s: setattr(s.parameters[0].default, "string_value", "three"), "parameters[0].default"
    ),
    "a default that is NaN": submit(
        lambda s: setattr(s.parameters[2].default, "number_value", NAN), "parameters[2].default"
    ),
    "a type that is none": bad("parameters[0].type", 0),
    "a type that is unknown": bad("parameters[0].type", 99),
    "the same parameter twice": bad("parameters[1].name", "n", "parameters[1].name"),
    "a constant that is missing": submit(missing_value, "steps[0].inputs"),
}

_ODD_IDS = {
    "empty": "",
    "no id": "nope",
    "braces": "{" + UNKNOWN_RUN + "}",
    "no dashes": UNKNOWN_RUN.replace("-", ""),
    "a NUL": UNKNOWN_RUN[:-1] + "\0",
    "SQL": "' OR 1=1 --",
    "long": LONG,
}


def of_run(run_id: str) -> dict[str, Message]:
    """A call of each kind that names a run."""
    return {
        "RunService/Get": runs.GetRunRequest(run_id=run_id),
        "RunService/Cancel": runs.CancelRunRequest(run_id=run_id),
        "RunService/Watch": runs.WatchRunRequest(run_id=run_id),
        "RunService/ListStepRuns": runs.ListStepRunsRequest(run_id=run_id),
        "RunService/GetStepRun": runs.GetStepRunRequest(run_id=run_id, step="a"),
        "RunService/TailLogs": runs.TailLogsRequest(run_id=run_id),
    }


def listed(*states: int) -> runs.ListRunsRequest:
    """Also with states that no enum has."""
    request = runs.ListRunsRequest()
    request.states.extend(cast("list[run_pb2.RunState.ValueType]", states))
    return request


def cancelled(mode: int) -> runs.CancelRunRequest:
    return runs.CancelRunRequest(run_id=UNKNOWN_RUN, mode=cast("runs.CancelMode.ValueType", mode))


CALLS = {
    **{
        f"{method.partition('/')[2]} with an id that is {kind}": call(method, request, "run_id")
        for kind, run_id in _ODD_IDS.items()
        for method, request in of_run(run_id).items()
    },
    **{
        f"{method.partition('/')[2]} of an unknown run": call(method, request, "run_id", "NOT_FOUND")
        for method, request in of_run(UNKNOWN_RUN).items()
    },
    "a page of -1": call("RunService/List", runs.ListRunsRequest(page_size=-1), "page_size"),
    "a page of 1,001": call("RunService/List", runs.ListRunsRequest(page_size=1_001), "page_size"),
    "a page of pipelines of 2^31 - 1": call(
        "PipelineService/List", pipelines.ListPipelinesRequest(page_size=2**31 - 1), "page_size"
    ),
    **{
        f"a page token that is {kind}": call("RunService/List", runs.ListRunsRequest(page_token=token), "page_token")
        for kind, token in {
            "no base64": "!!!",
            "another text": "AAAAAAAAAAAAAAAAAAAAAAAA",
            "not ASCII": "ä",
            "long": LONG,
            "one letter": "A",
        }.items()
    },
    "a state that is unknown": call("RunService/List", listed(99), "states"),
    "a state that is none": call("RunService/List", listed(0), "states"),
    "a filter's name": call("RunService/List", runs.ListRunsRequest(pipeline="a b"), "pipeline"),
    "a filter's label": call("RunService/List", runs.ListRunsRequest(labels={"a b": ""}), "labels"),
    "a mode that is unknown": call("RunService/Cancel", cancelled(99), "mode"),
    "a reason of 100,000": call("RunService/Cancel", runs.CancelRunRequest(run_id=UNKNOWN_RUN, reason=LONG), "reason"),
    "start without a pipeline": call("RunService/Start", runs.StartRunRequest(), "pipeline"),
    "start of a name that is none": call("RunService/Start", runs.StartRunRequest(pipeline="../x"), "pipeline"),
    "start of a NUL": call("RunService/Start", runs.StartRunRequest(pipeline="a\0"), "pipeline"),
    "start of a version that is not there": call(
        "RunService/Start",
        runs.StartRunRequest(pipeline="own-base", version_number=9_999),
        "version_number",
        "NOT_FOUND",
    ),
    "start of version -1": call(
        "RunService/Start", runs.StartRunRequest(pipeline="own-base", version_number=-1), "version_number"
    ),
    "start of version 2^63 - 1": call(
        "RunService/Start", runs.StartRunRequest(pipeline="own-base", version_number=2**63 - 1), "version_number"
    ),
    "a request id of 129": call(
        "RunService/Start", runs.StartRunRequest(pipeline="own-base", request_id="x" * 129), "request_id"
    ),
    "a request id with a line break": call(
        "RunService/Start", runs.StartRunRequest(pipeline="own-base", request_id="x\ny"), "request_id"
    ),
    "a request id with a NUL": call(
        "RunService/Start", runs.StartRunRequest(pipeline="own-base", request_id="x\0"), "request_id"
    ),
    "labels of a run": call("RunService/Start", runs.StartRunRequest(pipeline="own-base", labels={"": "x"}), "labels"),
    "a trace context of kilobytes": call(
        "RunService/Start",
        runs.StartRunRequest(pipeline="own-base", trace_context={"traceparent": LONG}),
        "trace_context",
    ),
    "no runs to wait for": call("RunService/WaitMany", runs.WaitManyRunsRequest(), "run_ids"),
    "too many runs to wait for": call(
        "RunService/WaitMany", runs.WaitManyRunsRequest(run_ids=[UNKNOWN_RUN] * 1_001), "run_ids"
    ),
    "waiting for an unknown run": call(
        "RunService/WaitMany", runs.WaitManyRunsRequest(run_ids=[UNKNOWN_RUN]), "run_ids[0]", "NOT_FOUND"
    ),
    "waiting for what is no id": call("RunService/WaitMany", runs.WaitManyRunsRequest(run_ids=["x"]), "run_ids[0]"),
    "no runs to start": call("RunService/StartMany", runs.StartManyRunsRequest(), "requests"),
    "too many runs to start": call(
        "RunService/StartMany",
        runs.StartManyRunsRequest(requests=[runs.StartRunRequest(pipeline="own-base")] * 1_001),
        "requests",
    ),
    "one bad run of many": call(
        "RunService/StartMany",
        runs.StartManyRunsRequest(
            requests=[runs.StartRunRequest(pipeline="own-base"), runs.StartRunRequest(pipeline="a b")]
        ),
        "requests[1].pipeline",
    ),
    "an unknown pipeline": call(
        "PipelineService/Get", pipelines.GetPipelineRequest(name="no-such"), "name", "NOT_FOUND"
    ),
    "versions of an unknown pipeline": call(
        "PipelineService/ListVersions", pipelines.ListPipelineVersionsRequest(name="no-such"), "name", "NOT_FOUND"
    ),
    "delete an unknown pipeline": call(
        "PipelineService/Delete", pipelines.DeletePipelineRequest(name="no-such"), "name", "NOT_FOUND"
    ),
    "delete without a name": call("PipelineService/Delete", pipelines.DeletePipelineRequest(), "name"),
    "bytes that are no message": call("RunService/Start", b"\xff\xff\xff\xff", ""),
    "a message that is cut off": call("RunService/Start", b"\x0a\x7fown", ""),
    "a name that is no UTF-8": call("PipelineService/Create", wrong_utf8(), ""),
    "40 MB": submit(large, ""),
}
