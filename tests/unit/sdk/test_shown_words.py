"""What `penstock explain` and `penstock diff` say of an answer."""

from __future__ import annotations

import io

from rich.console import Console

from penstock.cli import diffing, explaining
from penstock.v1 import difference_pb2, pipeline_service_pb2, run_pb2, run_service_pb2


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=80, no_color=True, highlight=False), text


def step(
    item: int, count: int, state: run_pb2.StepRunState.ValueType, message: str, kind: str
) -> run_service_pb2.StepExplanation:
    found = run_service_pb2.StepExplanation(step="work", item=[item], item_count=count, state=state)
    found.reasons.add(kind=kind, message=message)
    return found


def test_items_that_are_held_alike_are_counted_in_words() -> None:
    shown, text = console()
    answer = run_service_pb2.ExplainRunResponse(run=run_pb2.Run(id="r", pipeline="p", state=run_pb2.RUN_STATE_RUNNING))
    ready = run_pb2.STEP_RUN_STATE_READY
    answer.steps.extend(step(at, count, ready, "It waits.", "Queued") for at, count in ((1, 4), (6, 2), (9, 0)))
    explaining._show(shown, answer, whole=True)
    assert text.getvalue().splitlines()[1::2] == [
        "work[1] and the 3 items after it are READY.",
        "work[6] and the item after it are READY.",
        "work[9] is READY.",
    ]


def test_a_failure_comes_with_the_command_that_shows_all_of_it() -> None:
    shown, text = console()
    answer = run_service_pb2.ExplainRunResponse(run=run_pb2.Run(id="r", pipeline="p", state=run_pb2.RUN_STATE_FAILED))
    failed = run_pb2.STEP_RUN_STATE_FAILED
    answer.steps.append(step(3, 0, failed, "It is FAILED: ValueError: bad item 3.", "AtRest"))
    explaining._show(shown, answer, whole=False)
    assert text.getvalue().splitlines() == [
        "work[3] is FAILED.",
        "  It is FAILED: ValueError: bad item 3.",
        "  Its attempts and traceback: penstock get r 'work[3]'",
    ]


def test_another_bundle_with_the_same_code_is_said_to_be_so() -> None:
    shown, text = console()
    answer = pipeline_service_pb2.DiffVersionsResponse(number=1, other_number=2)
    answer.changes.append(difference_pb2.FieldChange(path="bundle_digest", before_json='"a"', after_json='"b"'))
    diffing._show_versions(shown, "p", answer)
    assert "no function's code changed" in text.getvalue()
    answer.changes.append(difference_pb2.FieldChange(path="priority", after_json="1"))
    diffing._show_versions(shown, "p", answer)
    assert text.getvalue().count("no function's code changed") == 1
