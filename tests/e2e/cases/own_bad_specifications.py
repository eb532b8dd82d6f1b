"""Specifications that are wrong."""

from __future__ import annotations

from tests.e2e.cases.bad_input_words import (
    INFINITY,
    LONG,
    NAN,
    Span,
    bad,
    both,
    call,
    function,
    many_steps,
    output_file,
    ring,
    set_to,
    shell,
    submit,
)

from penstock.v1 import pipeline_pb2 as pb
from penstock.v1 import pipeline_service_pb2 as pipelines

GRAPH = {
    "a cycle of five thousand": submit(ring, "steps["),
    "a cycle over inputs": submit(lambda s: setattr(s.steps[0].inputs["x"].step, "step", "c"), "steps["),
    "a cycle over a map": submit(lambda s: setattr(s.steps[0].map.step, "step", "c"), "steps["),
    "an input from the step itself": submit(
        lambda s: setattr(s.steps[0].inputs["x"].step, "step", "a"), "steps[0].inputs"
    ),
    "an input from an unknown step": submit(
        lambda s: setattr(s.steps[0].inputs["x"].step, "step", "z"), "steps[0].inputs"
    ),
    "an empty dependency": bad("steps[1].depends_on", [""], "steps[1].depends_on[0]"),
    "a dependency in other letters": bad("steps[1].depends_on", ["A"], "steps[1].depends_on[0]"),
    "a dependency with a space": bad("steps[1].depends_on", ["a "], "steps[1].depends_on[0]"),
    "a map over an unknown parameter": submit(lambda s: setattr(s.steps[0].map, "parameter", "z"), "steps[0].map"),
    "a map over a number": submit(lambda s: setattr(s.steps[0].map, "parameter", "n"), "steps[0].map"),
    "a map over nothing": submit(lambda s: s.steps[0].map.SetInParent(), "steps[0].map"),
    "an item without a map": submit(lambda s: s.steps[0].inputs["x"].item.SetInParent(), "steps[0].inputs"),
    "an input without a source": submit(lambda s: s.steps[0].inputs["x"].SetInParent(), "steps[0].inputs"),
    "a step that waits for cleanup": submit(lambda s: setattr(s.steps[0], "cleanup", True), "steps["),
    "an unknown trigger rule": bad("steps[1].trigger_rule", 99),
    "a negative trigger rule": bad("steps[1].trigger_rule", -1),
    "no specification": call("PipelineService/Create", pipelines.CreatePipelineRequest(), ""),
    "too many steps": submit(many_steps, "steps"),
    "a function without a bundle": submit(function, "bundle_digest"),
    "a bundle that is not there": submit(both(function, set_to("bundle_digest", "0" * 64)), "", "FAILED_PRECONDITION"),
    "a bundle that is a path": bad("bundle_digest", "../../etc/passwd"),
}

NAMES = {
    f"a {of} name: {kind}": bad(path, name)
    for of, path in {"pipeline": "name", "step": "steps[2].name", "parameter": "parameters[0].name"}.items()
    for kind, name in {
        "empty": "",
        "a space": " ",
        "a space at the end": "x ",
        "129 characters": "x" * 129,
        "100,000 characters": LONG,
        "a slash": "x/y",
        "parents": "..",
        "a dash first": "-rf",
        "a line break": "x\ny",
        "a line break at the end": "x\n",
        "an escape": "\x1b[31mred",
        "a letter of another alphabet": "паровоз",
        "a right-to-left mark": "x\u202ey",
        "a letter that looks alike": "а",  # noqa: RUF001
        "full width": "\uff21",
        "a digit of another script": "\u0663",
        "an emoji": "\U0001f600",
        "no width": "x\u200by",
        "SQL": "x'; DROP TABLE runs; --",
        "a template": "${jndi:ldap://x}",
    }.items()
}

ENVIRONMENT = {
    **{
        f"a variable's name: {kind}": bad("steps[0].env", {name: "x"})
        for kind, name in {
            "empty": "",
            "an equals sign": "A=B",
            "a space": "A B",
            "a NUL": "A\0B",
            "a dash": "A-B",
            "reserved": "PENSTOCK_RUN_ID",
            "another alphabet": "Ä",
            "long": "A" * 129,
            "a line break at the end": "A\n",
        }.items()
    },
    "a NUL in a value": bad("steps[0].env", {"A": "x\0y"}),
    "a NUL in a default": bad("defaults.env", {"A": "x\0y"}),
    "a reserved default": bad("defaults.env", {"PENSTOCK_X": "y"}),
    "too many": bad("steps[0].env", {f"V{number}": "" for number in range(501)}),
    "too large": bad("steps[0].env", {"A": "x" * (1 << 20)}),
}

NUMBERS = {
    **{
        f"{path} is {kind}": bad(path, value)
        for path in ("timeout", "steps[0].timeouts.attempt", "steps[0].timeouts.queued", "steps[0].timeouts.overall")
        for kind, value in {
            "0": Span(0, 0),
            "negative": Span(-1),
            "less than nothing": Span(0, -1),
            "a nanosecond": Span(0, 1),
            "ten thousand years": Span(315_576_000_000),
            "the largest": Span(2**63 - 1, 2**31 - 1),
            "the smallest": Span(-(2**63), -(2**31)),
            "too many nanos": Span(1, 10**9),
        }.items()
    },
    **{
        f"{path} is {value}": bad(path, value)
        for path, values in {
            "steps[0].retry.max_attempts": (-1, -(2**31), 1_001, 2**31 - 1),
            "steps[0].retry.backoff_multiplier": (NAN, INFINITY, -INFINITY, -1.0, 0.5, 101.0, 5e-324),
            "steps[0].retry.jitter": (NAN, INFINITY, -0.1, 1.1),
            "steps[0].resources.cpu": (NAN, INFINITY, -1.0, 1e300),
            "steps[0].resources.gpu": (NAN, -INFINITY, -0.5),
            "steps[0].resources.memory_bytes": (-1, -(2**63), 2**63 - 1),
            "max_parallel": (-1, -(2**31)),
        }.items()
        for value in values
    },
    "a negative backoff": bad("steps[0].retry.initial_backoff", Span(-1)),
    "a backoff of centuries": bad("steps[0].retry.max_backoff", Span(10**11)),
    "a cap below the first backoff": submit(
        both(set_to("steps[0].retry.initial_backoff", Span(10)), set_to("steps[0].retry.max_backoff", Span(5))),
        "steps[0].retry.max_backoff",
    ),
    "a negative grace": bad("stop_grace", Span(-1)),
    "a grace of a day": bad("stop_grace", Span(86_400)),
    "an exit code of 256": bad("steps[0].command.success_exit_codes", [256], "steps[0].command.success_exit_codes"),
    "a custom resource that is no number": submit(
        lambda s: s.steps[0].resources.custom.update({"x": NAN}), "steps[0].resources.custom"
    ),
    "an error's name with a space": bad("steps[0].retry.retry_on", ["not a name"], "steps[0].retry.retry_on[0]"),
    "an exit code that is none": bad("steps[0].retry.retry_on", ["ExitCode:x"], "steps[0].retry.retry_on[0]"),
}

CONDITIONS = {
    f"a condition: {kind}": bad("steps[1].when", text)
    for kind, text in {
        "Python": "open('/etc/passwd').read() == ''",
        "dunder": "params.__class__ == 1",
        "a lambda": "(lambda: true)()",
        "an assignment": "x = 1",
        "a template": "{{ true }}",
        "an unknown parameter": "params.nope > 1",
        "an unknown step": "steps.nope.state == 'FAILED'",
        "a step that is not upstream": "steps.c.state == 'FAILED'",
        "itself": "steps.b.state == 'FAILED'",
        "an unknown member of a step": "steps.a.exit_code == 0",
        "an item without a map": "item == 1",
        "a number": "1",
        "a text": "'true'",
        "a parameter that is a number": "params.n",
        "text against number": "params.n == 'three' && params.n > 'a'",
        "nothing but space": "   ",
        "an open bracket": "(true",
        "an open text": "'true",
        "too long": "true" + " || true" * 1_000,
        "too deep": "(" * 60 + "true" + ")" * 60,
        "too dear": "params.items.all(x, params.items.all(y, params.items.all(z, x == y)))",
        "a NUL": "true\0",
        "a comment that hides": "true // \n && nope",
        "a pattern that backtracks": "params.s.matches('(a+)+$' + params.s)",
        "an integer past 64 bits": "params.n == 99999999999999999999999999",
        "a function that is unknown": "timestamp('2026-11-21T00:00:00Z') > timestamp('x')",
        "a state that is none": "steps.a.state == 3",
    }.items()
}

COMMANDS = {
    "an empty program": bad("steps[0].command.argv", [""]),
    "a NUL in an argument": bad("steps[0].command.argv", ["echo", "x\0y"]),
    "both forms": submit(lambda s: setattr(s.steps[0].command, "shell", "true"), "steps[0].command"),
    "no action": submit(lambda s: s.steps[0].ClearField("command"), "steps[0]"),
    "an argument of a megabyte": bad("steps[0].command.argv", ["echo", "x" * (1 << 20)], "steps[0].command"),
    "too many arguments": bad("steps[0].command.argv", ["x"] * 1_001),
    "a script with a NUL": submit(shell("true\0"), "steps[0].command.shell"),
    "a script of spaces": submit(shell(" \n"), "steps[0].command"),
    **{
        f"an output's file: {kind}": submit(output_file(path), "steps[0].command.outputs[0]")
        for kind, path in {
            "absolute": "/etc/passwd",
            "parents": "../../etc/passwd",
            "parents inside": "x/../../y",
            "empty": "",
            "a NUL": "x\0y",
            "the folder": ".",
        }.items()
    },
    "an output without a source": submit(
        lambda s: s.steps[0].command.outputs.add(name="x"), "steps[0].command.outputs[0]"
    ),
    "the same output twice": submit(
        lambda s: s.steps[0].command.outputs.extend([pb.CommandOutput(name="x", stdout=True)] * 2),
        "steps[0].command.outputs[1]",
    ),
    "a format that is unknown": submit(
        lambda s: s.steps[0].command.outputs.add(name="x", stdout=True, format=77), "steps[0].command.outputs[0].format"
    ),
    "an input's name": submit(lambda s: setattr(s.steps[0].inputs["a b"], "parameter", "n"), "steps[0].inputs"),
    "a queue's name": bad("steps[0].queue", "a b"),
    "a label's name": bad("labels", {"a b": "x"}),
    "a label's value": bad("labels", {"a": "x\0"}),
    "too many labels": bad("labels", {f"l{number}": "" for number in range(65)}),
    "a description of a megabyte": bad("description", "x" * (1 << 20)),
}
