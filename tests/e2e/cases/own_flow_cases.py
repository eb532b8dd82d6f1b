"""What failures, rules and cleanup lead to.

Each is `given` and `expect`; its key says what is promised.
"""

from __future__ import annotations

from tests.e2e.cases.case_words import AT_ONCE, Case, event, given, retries, sleeping, step, waiting_for

FAILURES: dict[str, Case] = {
    "fail_fast cancels what runs, and what waits": (
        given(
            step("slow", do=sleeping(30)), step("bad", do=sleeping(0.2, "fail")), step("next", "slow"), fail_fast=True
        ),
        {
            "run": "FAILED",
            "steps": {"slow": "CANCELLED", "bad": "FAILED", "next": "CANCELLED"},
            "executions": {"next": 0},
            "max_total_s": AT_ONCE,
        },
    ),
    "fail_fast waits for the last attempt": (
        given(
            step("good", do=sleeping(0.5)),
            step("shaky", do={"outcomes": ["fail", "ok"]}, retry=retries(2)),
            fail_fast=True,
        ),
        {"run": "SUCCEEDED", "steps": {"good": "SUCCEEDED", "shaky": "SUCCEEDED"}, "executions": {"shaky": 2}},
    ),
    "an allowed failure is none to fail_fast": (
        given(step("slow", do=sleeping(0.4)), step("bad", do="fail", allow_failure=True), fail_fast=True),
        {"run": "SUCCEEDED", "steps": {"slow": "SUCCEEDED", "bad": "FAILED"}},
    ),
    "fail_fast cancels the other items": (
        given(
            step("m", do={"by_item": {"1": "fail", "else": sleeping(30)}}, scatter={"over": [0, 1, 2]}), fail_fast=True
        ),
        {"run": "FAILED", "steps": {"m": "FAILED", "m[0]": "CANCELLED", "m[1]": "FAILED"}, "max_total_s": AT_ONCE},
    ),
    "the output of an allowed failure is null": (
        given(
            step("f", do="fail", allow_failure=True),
            step("use", "f", do={"output": {"pick": "first_non_null", "from": ["f", {"const": "instead"}]}}),
        ),
        {"run": "SUCCEEDED", "outputs": {"f": None, "use": "instead"}},
    ),
    "a failure passes through a step with an allowed failure, which did not run": (
        given(step("a", do="fail"), step("b", "a", allow_failure=True), step("c", "b")),
        {"run": "FAILED", "steps": {"b": "NOT_RUN_UPSTREAM", "c": "NOT_RUN_UPSTREAM"}, "executions": {"b": 0, "c": 0}},
    ),
    "a handler that runs after a failure does not turn the run green": (
        given(
            step("a", do="fail"), step("handler", "a", join="one_failed"), step("not-needed", "a", join="all_success")
        ),
        {"run": "FAILED", "steps": {"handler": "SUCCEEDED", "not-needed": "NOT_RUN_UPSTREAM"}},
    ),
    "a handler that is not needed is skipped, and the run is green": (
        given(step("a"), step("handler", "a", join="one_failed"), step("b", "a")),
        {"run": "SUCCEEDED", "steps": {"handler": "SKIPPED", "b": "SUCCEEDED"}, "executions": {"handler": 0}},
    ),
    "a skip passes down a chain": (
        given(step("a", run_if=False), step("b", "a"), step("c", "b"), step("d", "c", join="none_failed")),
        {"run": "SUCCEEDED", "steps": {"b": "SKIPPED", "c": "SKIPPED", "d": "SUCCEEDED"}, "executions": {"d": 1}},
    ),
    "a crash of the process is a failure of its step alone": (
        given(step("a", do="crash"), step("b", do=sleeping(0.3)), step("c", "a")),
        {
            "run": "FAILED",
            "steps": {"a": "FAILED", "b": "SUCCEEDED", "c": "NOT_RUN_UPSTREAM"},
            "reasons": {"a": "Crash"},
        },
    ),
    "the same dependency twice is one": (
        given(step("a"), step("b", "a", "a"), step("c", "b", "a", "b")),
        {"run": "SUCCEEDED", "executions": {"a": 1, "b": 1, "c": 1}, "order": [["a", "b"], ["b", "c"]]},
    ),
    "names of steps may look like words of conditions": (
        given(
            step("params", do={"output": 5}),
            step("true", "params", run_if={"gt": [{"output": "params"}, 4]}),
            step("a.b-c", "true", run_if={"eq": [{"state": "true"}, "SUCCEEDED"]}),
            step("0", "a.b-c", run_if={"eq": [{"state": "a.b-c"}, "SUCCEEDED"]}),
            step("x" * 128, "0"),
        ),
        {"run": "SUCCEEDED", "executions": {"true": 1, "a.b-c": 1, "0": 1, "x" * 128: 1}},
    ),
    "max_parallel holds": (
        given(*[step(f"s{n}", do=sleeping(0.1)) for n in range(6)], max_parallel=2),
        {"run": "SUCCEEDED", "most_at_once": 2, "min_total_s": 0.3},
    ),
    "max_parallel holds for items": (
        given(step("m", do=sleeping(0.1), scatter={"over": [1, 2, 3, 4]}), max_parallel=1),
        {"run": "SUCCEEDED", "most_at_once": 1, "executions": {"m": 4}},
    ),
    "early rules do not wait for the slow": (
        given(
            step("quick"),
            step("slow", do=waiting_for("first", "done", "at-once")),
            step("first", "quick", "slow", join="one_success"),
            step("done", "quick", "slow", join="one_done"),
            step("at-once", "slow", join="always"),
        ),
        {
            "run": "SUCCEEDED",
            "executions": {"first": 1, "done": 1, "at-once": 1},
            "order": [["first", "slow:end"], ["done", "slow:end"], ["at-once", "slow:end"]],
        },
    ),
    "one_failed fires while others run": (
        given(
            step("bad", do="fail"),
            step("slow", do=waiting_for("alarm")),
            step("alarm", "bad", "slow", join="one_failed"),
        ),
        {"run": "FAILED", "order": [["alarm", "slow:end"]], "steps": {"slow": "SUCCEEDED"}},
    ),
    "an expression over the parents' states": (
        given(
            step("a"),
            step("b", do="fail"),
            step("either", "a", "b", join={"expr": "a.Succeeded || b.Succeeded"}),
            step("both", "a", "b", join={"expr": "a.Succeeded && !b.Failed"}),
        ),
        {"run": "FAILED", "steps": {"either": "SUCCEEDED", "both": "SKIPPED"}},
    ),
}


CLEANUP: dict[str, Case] = {
    "without an upstream it waits for every step": (
        given(step("tidy", cleanup=True), step("a", do=sleeping(0.2)), step("b", "a", do=sleeping(0.1))),
        {"run": "SUCCEEDED", "order": [["a", "tidy"], ["b", "tidy"]], "executions": {"tidy": 1}},
    ),
    "it runs after a failure, and the run stays failed": (
        given(step("a", do="fail"), step("b", "a"), step("tidy", cleanup=True)),
        {"run": "FAILED", "steps": {"b": "NOT_RUN_UPSTREAM", "tidy": "SUCCEEDED"}, "executions": {"tidy": 1}},
    ),
    "a failing one fails the run": (
        given(step("a"), step("tidy", cleanup=True, do="fail")),
        {"run": "FAILED", "steps": {"a": "SUCCEEDED", "tidy": "FAILED"}},
    ),
    "an allowed failure of it does not": (
        given(step("a"), step("tidy", cleanup=True, do="fail", allow_failure=True)),
        {"run": "SUCCEEDED", "steps": {"tidy": "FAILED"}},
    ),
    "it runs when all others were skipped": (
        given(step("a", run_if=False), step("tidy", cleanup=True)),
        {"run": "SUCCEEDED", "steps": {"tidy": "SUCCEEDED"}},
    ),
    "it is retried like others": (
        given(step("a", do="fail"), step("tidy", cleanup=True, do={"outcomes": ["fail", "ok"]}, retry=retries(2))),
        {"run": "FAILED", "steps": {"tidy": "SUCCEEDED"}, "executions": {"tidy": 2}},
    ),
    "it runs after fail_fast": (
        given(
            step("bad", do=sleeping(0.1, "fail")),
            step("slow", do=sleeping(30)),
            step("tidy", "slow", cleanup=True),
            fail_fast=True,
        ),
        {"run": "FAILED", "steps": {"slow": "CANCELLED", "tidy": "SUCCEEDED"}, "max_total_s": AT_ONCE},
    ),
    "it runs after a polite cancel, when what ran has stopped": (
        given(
            step("work", do=sleeping(30)),
            step("next", "work"),
            step("tidy", cleanup=True),
            events=[event("work is RUNNING", "cancel_run")],
        ),
        {
            "run": "CANCELLED",
            "steps": {"work": "CANCELLED", "next": "CANCELLED", "tidy": "SUCCEEDED"},
            "executions": {"next": 0, "tidy": 1},
            "max_total_s": AT_ONCE,
        },
    ),
    "it does not run after a cancel at once": (
        given(
            step("work", do=sleeping(30)),
            step("tidy", cleanup=True),
            events=[event("work is RUNNING", "cancel_run_now")],
        ),
        {"run": "CANCELLED", "steps": {"tidy": "CANCELLED"}, "executions": {"tidy": 0}, "max_total_s": AT_ONCE},
    ),
    "it runs after the timeout of the run": (
        given(step("work", do=sleeping(30)), step("tidy", cleanup=True), timeout_s=2),
        {"run": "TIMED_OUT", "steps": {"work": "CANCELLED", "tidy": "SUCCEEDED"}, "max_total_s": AT_ONCE},
    ),
    "a failing one after a cancel leaves the run cancelled": (
        given(
            step("work", do=sleeping(30)),
            step("tidy", cleanup=True, do="fail"),
            events=[event("work is RUNNING", "cancel_run")],
        ),
        {"run": "CANCELLED", "steps": {"tidy": "FAILED"}, "max_total_s": AT_ONCE},
    ),
    "its condition counts": (
        given(step("a"), step("tidy", "a", cleanup=True, run_if={"eq": [{"state": "a"}, "FAILED"]})),
        {"run": "SUCCEEDED", "steps": {"tidy": "SKIPPED"}, "executions": {"tidy": 0}},
    ),
}
