"""One line about a failure, and all of it."""

from __future__ import annotations

import pytest

from penstock.cli.attempts import attempt_rows
from penstock.cli.looking import _show_step
from penstock.cli.said import failed_attempts, said_of
from penstock.cli.session import Session
from penstock.v1 import run_pb2, run_service_pb2

EXIT = run_pb2.Failure(
    reason="ExitCode",
    message="the command ended with exit code 3: oops\nits last lines on standard error:\nfirst\noops",
)
RAISED = run_pb2.Failure(
    reason="UserError",
    error_class="builtins.ValueError",
    message="bad",
    traceback="Traceback (most recent call last):\n  File ...\nValueError: bad\n",
)


def attempts(*failures: run_pb2.Failure | None) -> list[run_pb2.Attempt]:
    return [run_pb2.Attempt(number=number, failure=failure) for number, failure in enumerate(failures, 1)]


def test_a_line_ends_with_what_the_command_said_last() -> None:
    step_run = run_pb2.StepRun(failure=EXIT)
    assert said_of(step_run) == "ExitCode: the command ended with exit code 3: oops"
    (row,) = attempt_rows(run_service_pb2.GetStepRunResponse(attempts=attempts(EXIT)))
    assert row[-1] == "ExitCode: the command ended with exit code 3: oops"


def test_a_step_without_output_says_what_it_waits_for() -> None:
    assert said_of(run_pb2.StepRun(wait_reason="backoff")) == "backoff"
    assert said_of(run_pb2.StepRun(), "no agent") == "no agent"


def test_earlier_attempts_are_told_whole() -> None:
    step_run = run_pb2.StepRun(state=run_pb2.STEP_RUN_STATE_COMPLETED)
    response = run_service_pb2.GetStepRunResponse(step_run=step_run, attempts=attempts(EXIT, RAISED, None))
    first, second = failed_attempts(response)
    assert first == ("attempt 1", f"ExitCode: {EXIT.message}")
    assert second == ("attempt 2", RAISED.traceback.rstrip())


def test_what_the_step_ended_with_is_not_told_twice() -> None:
    step_run = run_pb2.StepRun(state=run_pb2.STEP_RUN_STATE_FAILED, failure=RAISED)
    response = run_service_pb2.GetStepRunResponse(step_run=step_run, attempts=attempts(EXIT, RAISED))
    assert [heading for heading, _ in failed_attempts(response)] == ["attempt 1"]


def test_an_output_moves_no_cursor_and_metadata_makes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    step_run = run_pb2.StepRun(step="a", output_json='"x\x9b2Jy\x7f\x85z"', metadata={"note": "one\nstate      FAILED"})
    assert said_of(step_run) == r'"x\u009B2Jy\u007F\u0085z"'
    _show_step(Session(None, False), run_service_pb2.GetStepRunResponse(step_run=step_run), None)
    lines = capsys.readouterr().out.splitlines()
    assert r"metadata   note=one\nstate      FAILED" in lines
    assert r'output     "x\u009B2Jy\u007F\u0085z"' in lines
