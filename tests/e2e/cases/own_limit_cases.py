"""Retries, timeouts, cancelling, and the same request again.

Each is `given` and `expect`; its key says what is promised.
"""

from __future__ import annotations

from tests.e2e.cases.case_words import AT_ONCE, Case, event, given, retries, sleeping, step

RETRIES: dict[str, Case] = {
    "one execution is no retry": (
        given(step("t", do="fail", retry=retries(1))),
        {"run": "FAILED", "executions": {"t": 1}},
    ),
    "the output is that of the attempt that ended well": (
        given(
            step("t", do={"outcomes": ["fail", "fail", {"output": {"format": "attempt {attempt}"}}]}, retry=retries(3)),
            step("after", "t", do={"output": {"from": "t"}}),
        ),
        {"run": "SUCCEEDED", "executions": {"t": 3}, "outputs": {"after": "attempt 3"}, "order": [["t", "after"]]},
    ),
    "backoff grows up to its cap": (
        given(step("t", do="fail", retry=retries(4, interval_s=0.1, backoff=100, max_interval_s=0.25))),
        {"run": "FAILED", "executions": {"t": 4}, "min_total_s": 0.6, "max_total_s": AT_ONCE},
    ),
    "only the errors that are named": (
        given(
            step("named", do={"fail": "ValueError"}, retry=retries(3, on=["ValueError"])),
            step("other", do={"fail": "TypeError"}, retry=retries(3, on=["ValueError"])),
            step("base", do={"fail": "KeyError"}, retry=retries(3, on=["LookupError"])),
            step("derived", do={"fail": "LookupError"}, retry=retries(3, on=["KeyError"])),
            step("moduled", do={"fail": "OtherError"}, retry=retries(3, on=["scripted.ScriptedError"])),
        ),
        {"run": "FAILED", "executions": {"named": 3, "other": 1, "base": 3, "derived": 1, "moduled": 3}},
    ),
    "never wins": (
        given(
            step("a", do={"fail": "ValueError"}, retry=retries(3, not_on=["ValueError"])),
            step("b", do={"fail": "ValueError"}, retry=retries(3, on=["Exception"], not_on=["ValueError"])),
            step(
                "c",
                do={"outcomes": [{"fail": "TypeError"}, {"fail": "ValueError"}]},
                retry=retries(5, not_on=["ValueError"]),
            ),
        ),
        {"run": "FAILED", "executions": {"a": 1, "b": 1, "c": 2}},
    ),
    "a timeout is retried": (
        given(step("t", do={"outcomes": [sleeping(30), "ok"]}, timeout_s=5, retry=retries(2))),
        {"run": "SUCCEEDED", "executions": {"t": 2}, "max_total_s": AT_ONCE},
    ),
    "a timeout is not retried if it shall not be": (
        given(
            step("never", do=sleeping(30), timeout_s=5, retry=retries(3, not_on=["Timeout"])),
            step("others", do=sleeping(30), timeout_s=5, retry=retries(3, on=["ValueError"])),
        ),
        {
            "run": "FAILED",
            "steps": {"never": "TIMED_OUT", "others": "TIMED_OUT"},
            "executions": {"never": 1, "others": 1},
            "max_total_s": AT_ONCE,
        },
    ),
    "a crash is retried": (
        given(step("t", do={"outcomes": ["crash", "ok"]}, retry=retries(2, on=["Crash"]))),
        {"run": "SUCCEEDED", "executions": {"t": 2}},
    ),
    "an allowed failure comes after all attempts": (
        given(step("t", do="fail", retry=retries(3), allow_failure=True), step("after", "t")),
        {"run": "SUCCEEDED", "executions": {"t": 3, "after": 1}, "order": [["t", "after"]]},
    ),
    "rules see the end, not the attempts": (
        given(
            step("t", do={"outcomes": ["fail", "ok"]}, retry=retries(2)),
            step("alarm", "t", join="one_failed"),
        ),
        {"run": "SUCCEEDED", "steps": {"alarm": "SKIPPED"}, "executions": {"alarm": 0}},
    ),
    "without a policy there is one execution": (
        given(step("t", do="fail")),
        {"run": "FAILED", "executions": {"t": 1}},
    ),
}


TIMEOUTS: dict[str, Case] = {
    "of the run": (
        given(step("a", do=sleeping(30)), step("b", "a"), timeout_s=2),
        {
            "run": "TIMED_OUT",
            "steps": {"a": "CANCELLED", "b": "CANCELLED"},
            "executions": {"b": 0},
            "max_total_s": AT_ONCE,
        },
    ),
    "of the run, while a step is in backoff": (
        given(step("a", do="fail", retry=retries(2, interval_s=60)), timeout_s=5),
        {"run": "TIMED_OUT", "executions": {"a": 1}, "max_total_s": AT_ONCE},
    ),
    "in the queue": (
        given(step("a", queue="nobody-serves-it", queue_timeout_s=2), step("b", "a")),
        {
            "run": "FAILED",
            "steps": {"a": "TIMED_OUT", "b": "NOT_RUN_UPSTREAM"},
            "reasons": {"a": "QueuedTimeout"},
            "executions": {"a": 0},
            "max_total_s": AT_ONCE,
        },
    ),
    "with all attempts and waits": (
        given(step("a", do="fail", retry=retries(100, interval_s=0.5), total_timeout_s=2)),
        {"run": "FAILED", "steps": {"a": "TIMED_OUT"}, "reasons": {"a": "OverallTimeout"}, "max_total_s": AT_ONCE},
    ),
    "with all attempts, while one runs": (
        given(step("a", do=sleeping(30), retry=retries(3), total_timeout_s=5)),
        {"run": "FAILED", "steps": {"a": "TIMED_OUT"}, "executions": {"a": 1}, "max_total_s": AT_ONCE},
    ),
    "that is allowed": (
        given(step("a", do=sleeping(30), timeout_s=2, allow_failure=True), step("b", "a")),
        {"run": "SUCCEEDED", "steps": {"a": "TIMED_OUT", "b": "SUCCEEDED"}, "max_total_s": AT_ONCE},
    ),
    "is a failure to the rules": (
        given(
            step("a", do=sleeping(30), timeout_s=2),
            step("b", "a", join="one_failed"),
            step("c", "a", join="all_done"),
        ),
        {"run": "FAILED", "steps": {"b": "SUCCEEDED", "c": "SUCCEEDED"}, "max_total_s": AT_ONCE},
    ),
    "that is not reached": (
        given(step("a", do=sleeping(0.1), timeout_s=20, total_timeout_s=20, queue_timeout_s=20), timeout_s=30),
        {"run": "SUCCEEDED", "executions": {"a": 1}},
    ),
    "that is longer than any clock": (
        given(step("a", timeout_s=300 * 86_400)),
        {"run": "SUCCEEDED", "executions": {"a": 1}},
    ),
}


CANCELLING: dict[str, Case] = {
    "before anything started": (
        given(step("a", queue="nobody-serves-it"), step("b", "a"), events=[event("at once", "cancel_run")]),
        {
            "run": "CANCELLED",
            "steps": {"a": "CANCELLED", "b": "CANCELLED"},
            "executions": {"a": 0, "b": 0},
            "max_total_s": AT_ONCE,
        },
    ),
    "during backoff": (
        given(
            step("a", do="fail", retry=retries(2, interval_s=60)),
            step("b", "a"),
            events=[event("a is WAITING", "cancel_run")],
        ),
        {
            "run": "CANCELLED",
            "steps": {"a": "CANCELLED", "b": "CANCELLED"},
            "executions": {"a": 1},
            "max_total_s": AT_ONCE,
        },
    ),
    "twice": (
        given(
            step("a", do=sleeping(30)),
            events=[event("a is RUNNING", "cancel_run"), event("at once", "cancel_run")],
        ),
        {"run": "CANCELLED", "steps": {"a": "CANCELLED"}, "max_total_s": AT_ONCE},
    ),
    "politely, then at once": (
        given(
            step("a", do=sleeping(30)),
            step("tidy", cleanup=True, do=sleeping(30)),
            events=[event("a is RUNNING", "cancel_run"), event("tidy is RUNNING", "cancel_run_now")],
        ),
        {"run": "CANCELLED", "steps": {"a": "CANCELLED", "tidy": "CANCELLED"}, "max_total_s": AT_ONCE},
    ),
    "after the end changes nothing": (
        given(step("a"), events=[event("run is SUCCEEDED", "cancel_run"), event("at once", "cancel_run_now")]),
        {"run": "SUCCEEDED", "steps": {"a": "SUCCEEDED"}},
    ),
    "after a failed end changes nothing": (
        given(step("a", do="fail"), events=[event("run is FAILED", "cancel_run")]),
        {"run": "FAILED", "steps": {"a": "FAILED"}},
    ),
    "what completed stays so": (
        given(
            step("a", do={"output": 1}),
            step("b", "a", do=sleeping(30)),
            step("c", "b", join="all_done"),
            events=[event("b is RUNNING", "cancel_run")],
        ),
        {
            "run": "CANCELLED",
            "steps": {"a": "SUCCEEDED", "b": "CANCELLED", "c": "CANCELLED"},
            "outputs": {"a": 1, "b": None},
            "executions": {"c": 0},
            "max_total_s": AT_ONCE,
        },
    ),
    "no rule starts a step of a cancelled run": (
        given(
            step("a", do=sleeping(30)),
            step("failed", "a", join="one_failed"),
            step("anyway", "a", join="all_done"),
            events=[event("a is RUNNING", "cancel_run")],
        ),
        {"run": "CANCELLED", "executions": {"failed": 0, "anyway": 0}, "max_total_s": AT_ONCE},
    ),
    "a cancelled attempt is not retried": (
        given(step("a", do=sleeping(30), retry=retries(5)), events=[event("a is RUNNING", "cancel_run")]),
        {"run": "CANCELLED", "executions": {"a": 1}, "steps": {"a": "CANCELLED"}, "max_total_s": AT_ONCE},
    ),
    "items that run and items that wait": (
        given(
            step(
                "m",
                do={"by_item": {"0": "ok", "else": sleeping(30)}},
                scatter={"over": list(range(30))},
                retry=retries(2),
            ),
            step("after", "m"),
            events=[event("m is RUNNING", "cancel_run")],
            max_parallel=3,
        ),
        {
            "run": "CANCELLED",
            "steps": {"m": "CANCELLED", "m[29]": "CANCELLED", "after": "CANCELLED"},
            "max_total_s": AT_ONCE,
        },
    ),
}


IDEMPOTENCY: dict[str, Case] = {
    "the same key and input after the end": (
        given(step("a"), inputs={"p": 1}, events=[event("run is SUCCEEDED", "submit_again_same")]),
        {"run": "SUCCEEDED", "executions": {"a": 1}, "same_run_id": True},
    ),
    "the same key twice at once": (
        given(step("a"), events=[event("at once", "submit_again_same"), event("at once", "submit_again_same")]),
        {"run": "SUCCEEDED", "executions": {"a": 1}, "same_run_id": True},
    ),
    "the same key with other content": (
        given(step("a"), inputs={"p": 1}, events=[event("at once", "submit_again_other_input")]),
        {"run": "SUCCEEDED", "executions": {"a": 1}, "second_submission": "ALREADY_EXISTS"},
    ),
    "the same key with other content after the end": (
        given(step("a"), inputs={"p": 1}, events=[event("run is SUCCEEDED", "submit_again_other_input")]),
        {"run": "SUCCEEDED", "executions": {"a": 1}, "second_submission": "ALREADY_EXISTS"},
    ),
    "the same key after a cancel": (
        given(
            step("a", do=sleeping(30)),
            events=[event("a is RUNNING", "cancel_run"), event("run is CANCELLED", "submit_again_same")],
        ),
        {"run": "CANCELLED", "executions": {"a": 1}, "same_run_id": True},
    ),
}
