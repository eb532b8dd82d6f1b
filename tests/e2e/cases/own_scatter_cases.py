"""One step for many items.

Each is `given` and `expect`; its key says what is promised.
"""

from __future__ import annotations

from tests.e2e.cases.case_words import AT_ONCE, Case, given, retries, sleeping, step, waiting_for

SCATTER: dict[str, Case] = {
    "one failing item: the others end, the step failed": (
        given(
            step("m", do={"by_item": {"2": "fail", "else": {"output": {"item": True}}}}, scatter={"over": [1, 2, 3]}),
            step("after", "m"),
            step("handler", "m", join="all_done"),
        ),
        {
            "run": "FAILED",
            "steps": {
                "m": "FAILED",
                "m[0]": "SUCCEEDED",
                "m[1]": "FAILED",
                "m[2]": "SUCCEEDED",
                "after": "NOT_RUN_UPSTREAM",
                "handler": "SUCCEEDED",
            },
            "executions": {"m": 3, "after": 0},
            "outputs": {"m[0]": 1, "m[2]": 3},
        },
    ),
    "a failing item that may fail is null in the list": (
        given(
            step(
                "m",
                do={"by_item": {"2": "fail", "else": {"output": {"item": True}}}},
                scatter={"over": [1, 2, 3]},
                allow_failure=True,
            ),
            step("sum", "m", do={"output": {"sum": "m"}}),
        ),
        {"run": "SUCCEEDED", "steps": {"m": "SUCCEEDED", "m[1]": "FAILED"}, "outputs": {"m": [1, None, 3], "sum": 4}},
    ),
    "each item has its own retries": (
        given(
            step(
                "m",
                do={"by_item": {"1": {"outcomes": ["fail", "ok"]}, "2": {"outcomes": ["fail", "fail", "ok"]}}},
                scatter={"over": [0, 1, 2]},
                retry=retries(3),
            )
        ),
        {"run": "SUCCEEDED", "executions": {"m[0]": 1, "m[1]": 2, "m[2]": 3, "m": 6}},
    ),
    "an item that is out of retries": (
        given(step("m", do={"by_item": {"1": "fail"}}, scatter={"over": [0, 1]}, retry=retries(3))),
        {"run": "FAILED", "steps": {"m": "FAILED"}, "executions": {"m[0]": 1, "m[1]": 3}},
    ),
    "items of all kinds": (
        given(
            step("m", do={"output": {"item": True}}, scatter={"over": {"param": "p"}}),
            inputs={"p": [None, 0, "", False, [], {}, [1, [2]], {"a": None}, 1.5]},
        ),
        {
            "run": "SUCCEEDED",
            "outputs": {"m": [None, 0, "", False, [], {}, [1, [2]], {"a": None}, 1.5]},
            "executions": {"m": 9},
        },
    ),
    "equal items are different step runs": (
        given(step("m", do={"output": {"item": True}}, scatter={"over": ["x", "x", "x"]})),
        {"run": "SUCCEEDED", "executions": {"m": 3}, "outputs": {"m": ["x", "x", "x"]}},
    ),
    "results are in the order of items, not of their ends": (
        given(
            step(
                "m",
                do={
                    "by_item": {
                        "0": waiting_for("m[2]", then={"output": {"item": True}}),
                        "else": {"output": {"item": True}},
                    }
                },
                scatter={"over": [0, 1, 2]},
            )
        ),
        {"run": "SUCCEEDED", "outputs": {"m": [0, 1, 2]}, "order": [["m[2]", "m[0]:end"]]},
    ),
    "over an output": (
        given(
            step("list", do={"output": ["a", "b"]}),
            step("m", "list", do={"output": {"format": "<{item}>"}}, scatter={"over": {"output": "list"}}),
        ),
        {"run": "SUCCEEDED", "outputs": {"m": ["<a>", "<b>"]}, "order": [["list", "m"]]},
    ),
    "over a member of an output": (
        given(
            step("list", do={"output": {"files": [1, 2]}}),
            step("m", do={"output": {"item": True}}, scatter={"over": {"output": "list", "path": ["files"]}}),
        ),
        {"run": "SUCCEEDED", "outputs": {"m": [1, 2]}},
    ),
    "over an output that is empty": (
        given(
            step("list", do={"output": []}),
            step("m", "list", do={"output": {"item": True}}, scatter={"over": {"output": "list"}}),
            step("after", "m", do={"output": {"len": "m"}}),
        ),
        {
            "run": "SUCCEEDED",
            "steps": {"m": "SUCCEEDED"},
            "executions": {"m": 0, "after": 1},
            "outputs": {"m": [], "after": 0},
        },
    ),
    **{
        f"over an output that is {kind}": (
            given(
                step("no-list", do={"output": value}),
                step("m", "no-list", scatter={"over": {"output": "no-list"}}),
                step("after", "m"),
            ),
            {
                "run": "FAILED",
                "steps": {"no-list": "SUCCEEDED", "m": "FAILED", "after": "NOT_RUN_UPSTREAM"},
                "executions": {"m": 0, "after": 0},
                "reasons": {"m": "Map"},
            },
        )
        for kind, value in {
            "a number": 3,
            "a text": "abc",
            "an object": {"const": {"a": 1}},
            "null": None,
        }.items()
    },
    "over a parameter that is null": (
        given(step("m", scatter={"over": {"param": "p"}}), inputs={"p": None}),
        {"run": "FAILED", "reasons": {"m": "Map"}, "executions": {"m": 0}},
    ),
    "over the output of a skipped step": (
        given(
            step("list", do={"output": [1]}, run_if=False),
            step("m", "list", scatter={"over": {"output": "list"}}),
            step("after", "m"),
        ),
        {"run": "SUCCEEDED", "steps": {"m": "SKIPPED", "after": "SKIPPED"}, "executions": {"m": 0}},
    ),
    "over the output of a failed step": (
        given(step("list", do="fail"), step("m", "list", scatter={"over": {"output": "list"}})),
        {"run": "FAILED", "steps": {"m": "NOT_RUN_UPSTREAM"}, "executions": {"m": 0}},
    ),
    "an item's condition": (
        given(
            step(
                "m", do={"output": {"item": True}}, scatter={"over": [1, 2, 3, 4]}, run_if={"gt": [{"item": True}, 2]}
            ),
            step("after", "m", do={"output": {"len": "m"}}),
        ),
        {
            "run": "SUCCEEDED",
            "steps": {"m": "SUCCEEDED", "m[0]": "SKIPPED", "m[3]": "SUCCEEDED"},
            "outputs": {"m": [None, None, 3, 4], "after": 4},
            "executions": {"m": 2},
        },
    ),
    "all items are skipped": (
        given(
            step("m", scatter={"over": [1, 2]}, run_if={"gt": [{"item": True}, 2]}),
            step("after", "m"),
            step("anyway", "m", join="none_failed"),
        ),
        {
            "run": "SUCCEEDED",
            "steps": {"m": "SKIPPED", "after": "SKIPPED", "anyway": "SUCCEEDED"},
            "executions": {"m": 0},
        },
    ),
    "a condition that one item breaks fails that item": (
        given(step("m", scatter={"over": [3, "x", 4]}, run_if={"gt": [{"item": True}, 2]})),
        {
            "run": "FAILED",
            "steps": {"m": "FAILED", "m[0]": "SUCCEEDED", "m[1]": "FAILED", "m[2]": "SUCCEEDED"},
            "reasons": {"m[1]": "Condition"},
            "executions": {"m": 2},
        },
    ),
    "a condition without the item is for the whole": (
        given(step("m", scatter={"over": [1, 2]}, run_if={"param": "p"}), inputs={"p": False}),
        {"run": "SUCCEEDED", "steps": {"m": "SKIPPED"}, "executions": {"m": 0}},
    ),
    "rules that look at items fire early": (
        given(
            step(
                "m",
                do={"by_item": {"0": "ok", "1": "fail", "else": waiting_for("alarm", "first")}},
                scatter={"over": [0, 1, 2]},
            ),
            step("alarm", "m", join="one_failed"),
            step("first", "m", join="one_success"),
        ),
        {
            "run": "FAILED",
            "order": [["alarm", "m[2]:end"], ["first", "m[2]:end"]],
            "executions": {"alarm": 1, "first": 1},
        },
    ),
    "an item that takes too long": (
        given(step("m", do={"by_item": {"1": sleeping(30)}}, scatter={"over": [0, 1]}, timeout_s=5)),
        {
            "run": "FAILED",
            "steps": {"m": "TIMED_OUT", "m[0]": "SUCCEEDED", "m[1]": "TIMED_OUT"},
            "max_total_s": AT_ONCE,
        },
    ),
    "a scatter after a scatter, with a step between": (
        given(
            step("m", do={"output": {"item": True}}, scatter={"over": [1, 2]}),
            step("all", "m", do={"output": {"from": "m"}}),
            step("n", "all", do={"output": {"format": "n{item}"}}, scatter={"over": {"output": "all"}}),
        ),
        {"run": "SUCCEEDED", "outputs": {"n": ["n1", "n2"]}},
    ),
    "two hundred items": (
        given(
            step("m", do={"output": {"item": True}}, scatter={"over": {"param": "p"}}),
            step("count", "m", do={"output": {"len": "m"}}),
            inputs={"p": list(range(200))},
        ),
        {"run": "SUCCEEDED", "executions": {"m": 200}, "outputs": {"m": list(range(200)), "count": 200}},
    ),
}
