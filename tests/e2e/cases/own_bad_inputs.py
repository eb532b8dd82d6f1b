"""Bad inputs of our own, and what looks odd and is right."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.e2e.cases.bad_input_words import Bad, nested, set_to
from tests.e2e.cases.own_bad_calls import CALLS, PARAMETERS
from tests.e2e.cases.own_bad_specifications import COMMANDS, CONDITIONS, ENVIRONMENT, GRAPH, NAMES, NUMBERS

from penstock.v1 import pipeline_pb2 as pb
from penstock.wire_values import to_value

OWN_BAD_INPUTS: dict[str, Bad] = {
    f"{area}: {name}": each
    for area, cases in {
        "graph": GRAPH,
        "name": NAMES,
        "env": ENVIRONMENT,
        "number": NUMBERS,
        "parameter": PARAMETERS,
        "condition": CONDITIONS,
        "command": COMMANDS,
        "call": CALLS,
    }.items()
    for name, each in cases.items()
}


def accepted() -> dict[str, Callable[[pb.PipelineSpec], object]]:
    """What looks odd and is right."""
    return {
        "the same dependency twice": set_to("steps[1].depends_on", ["a", "a"]),
        "a line break in an environment's value": set_to("steps[0].env", {"A": "x\ny; $(touch pwned.flag)"}),
        "an empty value in the environment": set_to("steps[0].env", {"A": ""}),
        "a description with everything": set_to("description", "ä\U0001f600\n<script>${x}"),
        "shell words in an argument": set_to(
            "steps[0].command.argv", ["true", "; touch pwned.flag", "$(touch pwned.flag)"]
        ),
        "negative zero cores": set_to("steps[0].resources.cpu", -0.0),
        "a name of 128": set_to("steps[2].name", "x" * 128),
        "a multiplier of 1": set_to("steps[0].retry.backoff_multiplier", 1.0),
        "a condition of a literal": set_to("steps[1].when", "true"),
        "a condition with an escape": set_to("steps[1].when", "'\\u00e4' == 'ä'"),
        "a constant as deep as may be": lambda s: s.steps[0].inputs["x"].value.CopyFrom(to_value(nested(28))),
        "json": lambda s: setattr(s.steps[0].inputs["x"].value, "string_value", json.dumps({"a": 1})),
    }
