"""A traceback begins with the frame of whoever wrote the step."""

from __future__ import annotations

from penstock_agent.executors.worker.failures import failure_of

STEPS = "def call(function):\n    return function()\n"


def broken() -> None:
    raise ValueError("bad")


def test_the_frames_that_call_a_step_are_not_shown() -> None:
    own: dict[str, object] = {"__name__": "penstock.authoring.steps"}
    exec(compile(STEPS, "authoring.py", "exec"), own)  # a module of that name, with one function
    namespace: dict[str, object] = {"__name__": "penstock.authoring.steps", "call": own["call"], "step": broken}
    try:
        exec(compile("call(step)", "worker.py", "exec"), namespace)
    except ValueError as error:
        trace = failure_of(error.with_traceback(error.__traceback__.tb_next), "UserError").traceback  # type: ignore[union-attr]  # raised
    assert "in broken" in trace
    assert "authoring.py" not in trace
    assert "worker.py" not in trace
