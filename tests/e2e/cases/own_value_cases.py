"""Conditions, and values on their way.

Each is `given` and `expect`; its key says what is promised.
"""

from __future__ import annotations

import json

from tests.e2e.cases.case_words import Case, given, step

ODD_TEXT = "ä\u0000\U0001f600 \"'\\\n"


CONDITIONS: dict[str, Case] = {
    "on an output": (
        given(
            step("n", do={"output": 7}),
            step("big", "n", run_if={"gt": [{"output": "n"}, 5]}),
            step("small", "n", run_if={"le": [{"output": "n"}, 5]}),
            step("both", "n", run_if={"and": [{"ge": [{"output": "n"}, 7]}, {"ne": [{"output": "n"}, 8]}]}),
            step("neither", "n", run_if={"not": {"or": [{"lt": [{"output": "n"}, 9]}, {"eq": [{"output": "n"}, 0]}]}}),
        ),
        {
            "run": "SUCCEEDED",
            "steps": {"big": "SUCCEEDED", "small": "SKIPPED", "both": "SUCCEEDED", "neither": "SKIPPED"},
            "executions": {"small": 0, "neither": 0},
        },
    ),
    "on a member of an output": (
        given(
            step("n", do={"output": {"rows": [{"kind": "ä \"quoted\" 'text'"}]}}),
            step("use", "n", run_if={"eq": [{"output": "n", "path": ["rows", 0, "kind"]}, "ä \"quoted\" 'text'"]}),
        ),
        {"run": "SUCCEEDED", "steps": {"use": "SUCCEEDED"}},
    ),
    "a member that is missing fails the step, with the reason": (
        given(
            step("n", do={"output": {"rows": 1}}),
            step("use", "n", run_if={"gt": [{"output": "n", "path": ["cols"]}, 1]}),
            step("after", "use"),
        ),
        {
            "run": "FAILED",
            "steps": {"use": "FAILED", "after": "NOT_RUN_UPSTREAM"},
            "reasons": {"use": "Condition"},
            "executions": {"use": 0},
        },
    ),
    "what decides alone makes a missing member harmless": (
        given(
            step("n", do={"output": {"rows": 1}}),
            step("use", "n", run_if={"or": [{"gt": [{"output": "n", "path": ["cols"]}, 1]}, {"eq": [1, 1]}]}),
        ),
        {"run": "SUCCEEDED", "steps": {"use": "SUCCEEDED"}},
    ),
    "a null is no number to be greater than": (
        given(step("n"), step("use", "n", run_if={"gt": [{"output": "n"}, 1]})),
        {"run": "FAILED", "reasons": {"use": "Condition"}, "executions": {"use": 0}},
    ),
    "a parameter that is no truth value is none": (
        given(step("use", run_if={"param": "p"}), inputs={"p": "yes"}),
        {"run": "FAILED", "reasons": {"use": "Condition"}},
    ),
    "a truth value is one": (
        given(step("a", run_if={"param": "p"}), step("b", run_if={"not": {"param": "p"}}), inputs={"p": True}),
        {"run": "SUCCEEDED", "steps": {"a": "SUCCEEDED", "b": "SKIPPED"}},
    ),
    "a null parameter": (
        given(
            step("a", run_if={"is_null": {"param": "p"}}),
            step("b", run_if={"eq": [{"param": "p"}, 0]}),
            inputs={"p": None},
        ),
        {"run": "SUCCEEDED", "steps": {"a": "SUCCEEDED", "b": "SKIPPED"}},
    ),
    "values of different kinds are unequal": (
        given(
            step("a", run_if={"eq": [{"param": "text"}, 3]}),
            step("b", run_if={"eq": [{"param": "yes"}, 1]}),
            step("c", run_if={"eq": [{"param": "whole"}, 3.0]}),
            step("d", run_if={"in": [{"param": "whole"}, {"param": "list"}]}),
            inputs={"text": "3", "yes": True, "whole": 3, "list": [1, "3"]},
        ),
        {"run": "SUCCEEDED", "steps": {"a": "SKIPPED", "b": "SKIPPED", "c": "SUCCEEDED", "d": "SKIPPED"}},
    ),
    "the rule comes before the condition": (
        given(step("a", do="fail"), step("b", "a", run_if=False), step("c", "a", join="all_done", run_if=False)),
        {"run": "FAILED", "steps": {"b": "NOT_RUN_UPSTREAM", "c": "SKIPPED"}},
    ),
    "on the state of a step that failed, was skipped, was not run": (
        given(
            step("f", do="fail"),
            step("k", run_if=False),
            step("u", "f"),
            step(
                "see",
                "f",
                "k",
                "u",
                join="all_done",
                run_if={
                    "and": [
                        {"eq": [{"state": "f"}, "FAILED"]},
                        {"eq": [{"state": "k"}, "SKIPPED"]},
                        {"eq": [{"state": "u"}, "NOT_RUN_UPSTREAM"]},
                        {"is_null": {"output": "f"}},
                    ]
                },
            ),
        ),
        {"run": "FAILED", "steps": {"see": "SUCCEEDED"}},
    ),
    "two branches of which one is taken, and a join": (
        given(
            step("pick", do={"output": "left"}),
            step("left", "pick", run_if={"eq": [{"output": "pick"}, "left"]}, do={"output": "L"}),
            step("right", "pick", run_if={"eq": [{"output": "pick"}, "right"]}, do={"output": "R"}),
            step(
                "join",
                "left",
                "right",
                join="none_failed_min_one_success",
                do={"output": {"pick": "the_only_non_null", "from": ["left", "right"]}},
            ),
        ),
        {"run": "SUCCEEDED", "steps": {"right": "SKIPPED"}, "outputs": {"join": "L"}, "executions": {"right": 0}},
    ),
    "values arrive as they left": (
        given(
            step("big", do={"output": {"json": "[9007199254740993, 123456789012345678901234567890]"}}),
            step("text", do={"output": {"json": json.dumps(ODD_TEXT)}}),
            step("nest", do={"output": {"": [[], {}, None, False, 0, -1.5, 1e300]}}),
            step(
                "same", "big", "text", "nest", do={"output": {"pick": "all_non_null", "from": ["big", "text", "nest"]}}
            ),
            step("m", do={"output": {"item": True}}, scatter={"over": {"output": "big"}}),
        ),
        {
            "run": "SUCCEEDED",
            "outputs": {
                "big": [2**53 + 1, 123456789012345678901234567890],
                "m": [2**53 + 1, 123456789012345678901234567890],
                "text": ODD_TEXT,
                "same": [
                    [2**53 + 1, 123456789012345678901234567890],
                    ODD_TEXT,
                    {"": [[], {}, None, False, 0, -1.5, 1e300]},
                ],
            },
        },
    ),
    "what is no text, or no number, is told where it is put out": (
        given(
            step("half-a-pair", do={"output": {"json": '"\\ud800"'}}),
            step("infinite", do={"output": {"json": "[1e999]"}}),
            step("after", "infinite"),
        ),
        {
            "run": "FAILED",
            "steps": {"after": "NOT_RUN_UPSTREAM"},
            "reasons": {"half-a-pair": "OutputUnserialisable", "infinite": "OutputUnserialisable"},
        },
    ),
    "the first that is not null, among falsy ones": (
        given(
            step("a", run_if=False),
            step("b", do={"output": 0}),
            step("use", "a", "b", join="none_failed", do={"output": {"pick": "first_non_null", "from": ["a", "b"]}}),
        ),
        {"run": "SUCCEEDED", "outputs": {"use": 0}},
    ),
    "nothing to pick fails the picking step": (
        given(
            step("a", run_if=False),
            step("use", "a", join="none_failed", do={"output": {"pick": "first_non_null", "from": ["a"]}}),
        ),
        {"run": "FAILED", "steps": {"use": "FAILED"}},
    ),
}
