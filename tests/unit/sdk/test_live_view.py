"""Progress of a run folded from its events, and how it is drawn."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from penstock.cli.live import MAX_ROWS, RunView, follow, plain_line, span_text
from penstock.cli.progress import RunProgress
from penstock.cli.states import failure_text
from penstock.v1 import run_pb2, run_service_pb2

BAD_PART = run_pb2.Failure(reason="UserError", error_class="builtins.ValueError", message="bad part\ntrace")


def change(step: str, state: str = "", **members: object) -> run_service_pb2.StepChange:
    value = run_pb2.StepRunState.Value(f"STEP_RUN_STATE_{state}") if state else run_pb2.STEP_RUN_STATE_UNSPECIFIED
    return run_service_pb2.StepChange(step=step, state=value, **members)  # type: ignore[arg-type]  # any members


def event(number: int, *changes: run_service_pb2.StepChange, run_state: str = "") -> run_service_pb2.Event:
    message = run_service_pb2.Event(number=number, steps=changes)
    message.time.FromSeconds(1_790_000_000 + number)
    if run_state:
        message.run_state = run_pb2.RunState.Value(f"RUN_STATE_{run_state}")
    return message


def progress_of(*events: run_service_pb2.Event, steps: tuple[str, ...] = ("split", "work", "join")) -> RunProgress:
    progress = RunProgress("run-1", "etl", steps)
    for each in events:
        progress.apply(each)
    return progress


def drawn(progress: RunProgress, width: int = 120) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(RunView(progress))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


MAPPED = (
    event(1, run_state="RUNNING"),
    event(2, change("split", "RUNNING", attempt=1, agent_id="a")),
    event(3, change("split", "COMPLETED", attempt=1), change("work", expanded_count=100)),
    event(4, change("work", "READY", item=[0], item_count=100)),
    event(5, change("work", "RUNNING", item=[0], item_count=10)),
    event(6, change("work", "COMPLETED", item=[0], item_count=8)),
    event(
        7,
        change("work", "FAILED", item=[8], failure=BAD_PART),
    ),
)


def test_items_of_a_map_are_counted() -> None:
    work = progress_of(*MAPPED).steps["work"]
    assert work.item_count == 100
    assert {state: count for state, count in work.counts.items() if count} == {
        "READY": 90,
        "RUNNING": 1,
        "COMPLETED": 8,
        "FAILED": 1,
    }
    assert work.finished_items() == 9
    assert work.failure == "[8] ValueError: bad part"


def test_a_nested_map_gets_items_as_its_lists_come() -> None:
    progress = progress_of(
        event(1, change("work", "RUNNING", expanded_count=0)),
        event(2, change("work", "READY", item=[1, 0], item_count=2)),
        event(3, change("work", "READY", item=[0, 0], item_count=1)),
        event(4, change("work", "COMPLETED", item=[1, 1])),
        event(5, change("work", "FAILED", item=[0, 0], failure=BAD_PART)),
    )
    work = progress.steps["work"]
    assert work.item_count == 3
    assert {state: count for state, count in work.counts.items() if count} == {"READY": 1, "COMPLETED": 1, "FAILED": 1}
    assert work.failure == "[0][0] ValueError: bad part"


def test_a_retry_does_not_count_an_item_twice() -> None:
    progress = progress_of(*MAPPED, event(8, change("work", "RUNNING", item=[8])))
    work = progress.steps["work"]
    assert sum(work.counts.values()) == 100
    assert work.finished_items() == 8


def test_the_note_is_of_the_item_that_failed_first() -> None:
    other = run_pb2.Failure(reason="UserError", message="another")
    progress = progress_of(*MAPPED, event(8, change("work", "FAILED", item=[2], failure=other)))
    assert progress.steps["work"].failure == "[8] ValueError: bad part"
    assert progress.first_failed() == "work[8]"
    progress.apply(event(9, change("work", "PENDING", item=[8])))
    assert progress.first_failed() == "work[2]"


def test_a_step_that_completed_at_last_has_no_failure() -> None:
    progress = progress_of(event(1, change("split", "WAITING", failure=BAD_PART)))
    assert progress.steps["split"].failure == "ValueError: bad part"
    progress.apply(event(2, change("split", "COMPLETED", attempt=2)))
    assert progress.steps["split"].failure == ""
    allowed = progress_of(*MAPPED, event(8, change("work", "COMPLETED")))
    assert allowed.steps["work"].failure == "[8] ValueError: bad part"


def test_a_held_run_says_what_it_waits_for_until_it_has_its_place() -> None:
    held = event(2, run_state="PENDING")
    held.run_reason = 'waits for a place under the key "k", whose limit is 1'
    progress = progress_of(event(1, run_state="PENDING"), held)
    assert 'the key "k"' in drawn(progress)
    admitted = event(3)
    admitted.type = "RunAdmitted"
    (change_of_run,) = progress.apply(admitted)
    assert (change_of_run.subject, change_of_run.state, change_of_run.detail) == ("run", "PENDING", "has its place")
    assert 'the key "k"' not in drawn(progress)


def test_a_displaced_step_says_why() -> None:
    why = run_pb2.Failure(reason="Displaced", message='no place under the key "k" is left for it')
    progress = progress_of(event(1, change("work", "RUNNING")))
    (line,) = progress.apply(event(2, change("work", failure=why)))
    assert (line.state, line.detail) == ("DISPLACED", why.message)
    progress.apply(event(3, change("work", "CANCELLED")))
    assert "no place under the key" in progress.steps["work"].failure


def test_what_is_drawn() -> None:
    text = drawn(progress_of(*MAPPED))
    head, titles, split, work, join = (line.rstrip() for line in text.splitlines())
    assert head.startswith("etl  run-1  RUNNING  6.")
    assert titles.split() == ["STEP", "STATE", "ITEMS", "TIME", "ATTEMPT", "NOTE"]
    assert split.split() == ["split", "COMPLETED", "1.0", "s", "1"]
    assert "9/100 1 running 90 ready 1 failed" in work
    assert work.endswith("[8] ValueError: bad part")
    assert join.split() == ["join", "PENDING"]


def test_in_80_columns_notes_stand_below_the_table() -> None:
    note = "the file of the first part could not be read, because nobody wrote it"
    failure = run_pb2.Failure(reason="UserError", error_class="builtins.ValueError", message=note)
    text = drawn(progress_of(*MAPPED, event(9, change("split", "FAILED", failure=failure))), width=80)
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[1].split() == ["STEP", "STATE", "ITEMS", "TIME", "ATTEMPT"]
    assert "9/100 1 running 90 ready 1 failed" in text
    assert " ".join(lines[5:]) == f"split: ValueError: {note} work: [8] ValueError: bad part"
    assert max(len(line) for line in lines) <= 80


def test_a_run_at_rest_has_a_clock_that_stands() -> None:
    progress = progress_of(*MAPPED, event(20, run_state="FAILED"))
    assert progress.at_rest
    assert "FAILED  19.0 s" in drawn(progress)


def test_many_steps_show_the_ones_that_matter() -> None:
    names = tuple(f"s{number}" for number in range(500))
    progress = progress_of(
        event(1, change("s400", "FAILED", failure=run_pb2.Failure(message="no"))),
        event(2, change("s300", "RUNNING")),
        steps=names,
    )
    lines = drawn(progress).splitlines()
    assert len(lines) == MAX_ROWS + 3
    shown = [line.split()[0] for line in lines]
    assert {"s300", "s400", "s0"} <= set(shown)
    assert shown.index("s300") < shown.index("s400")
    assert f"… and {500 - MAX_ROWS} more" in lines[-1]


def test_a_name_is_text_and_no_markup() -> None:
    text = drawn(progress_of(event(1, change("[red]x", "RUNNING"))))
    assert "[red]x" in text


async def test_following_in_a_terminal_redraws() -> None:
    async def events() -> AsyncIterator[run_service_pb2.Event]:
        for each in (*MAPPED, event(9, run_state="COMPLETED")):
            yield each

    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    progress = await follow(RunProgress("run-1", "etl", ["split", "work"]), events(), console)
    assert progress.state == "COMPLETED"
    assert isinstance(console.file, io.StringIO)
    assert "COMPLETED" in console.file.getvalue()
    assert "\x1b[" in console.file.getvalue()


def test_spans_are_readable() -> None:
    assert [span_text(value) for value in (-1, 0.04, 59.94, 61, 3_661)] == [
        "0.0 s",
        "0.0 s",
        "59.9 s",
        "1 m 01 s",
        "1 h 01 m",
    ]


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (run_pb2.Failure(reason="UserError", error_class="builtins.KeyError", message="'x'"), "KeyError: 'x'"),
        (run_pb2.Failure(reason="UserError", error_class="etl.Bad"), "Bad"),
        (run_pb2.Failure(reason="UserError", message="no class"), "UserError: no class"),
        (run_pb2.Failure(reason="Timeout", message="after 1 s"), "Timeout: after 1 s"),
    ],
)
def test_a_failure_is_called_by_its_exception(failure: run_pb2.Failure, text: str) -> None:
    assert failure_text(failure) == text


def test_a_step_that_waits_for_the_cache_says_so() -> None:
    asked = event(1, change("join", "WAITING"))
    asked.type = "CacheAsked"
    later = event(2, change("join", "WAITING", wait_until=Timestamp(seconds=1_790_000_010)))
    progress = RunProgress("p", "r", ["join"])
    assert [plain_line(each).partition(" ")[2] for each in progress.apply(asked)] == ["join WAITING (for the cache)"]
    (line,) = progress.apply(later)
    assert "until " in plain_line(line)


def test_what_a_step_says_of_its_failure_looks_like_nothing_else() -> None:
    text = "\x1b[2Jbad\x00\r\nrun COMPLETED"
    failure = run_pb2.Failure(reason="UserError", error_class="m.Bad", message=text)
    failed = change("join", "FAILED", failure=failure)
    ended = event(2, run_state="FAILED")
    ended.run_reason = f'step "join" failed: Bad: {text}'
    progress = RunProgress("p", "r", ["join"])
    lines = [plain_line(each) for each in [*progress.apply(event(1, failed)), *progress.apply(ended)]]
    assert [line.partition(" ")[2] for line in lines] == [
        "join FAILED (Bad: \\x1b[2Jbad\\x00)",
        'run FAILED (step "join" failed: Bad: \\x1b[2Jbad\\x00)',
    ]
    assert failure_text(failure) == "Bad: \\x1b[2Jbad\\x00\nrun COMPLETED"
    assert "\x1b[2J" not in drawn(progress)


def test_why_a_lease_came_back_is_shown_until_the_step_runs_again() -> None:
    gone = change("join", reason="the agent gave the attempt back")
    back = change("join", "READY", reason="the agent gave the attempt back")
    progress = progress_of(event(1, change("join", "RUNNING", attempt=1, agent_id="a")))
    assert progress.apply(event(2, gone)) == []
    (line,) = progress.apply(event(3, back))
    assert plain_line(line).endswith("join READY (the agent gave the attempt back)")
    assert "came back: the agent gave the attempt back" in drawn(progress)
    progress.apply(event(4, change("join", "RUNNING", attempt=1, agent_id="b")))
    assert "came back" not in drawn(progress)


def test_why_a_lease_of_an_item_came_back_is_shown_with_its_place() -> None:
    progress = progress_of(*MAPPED[:5], event(6, change("work", "READY", item=[3], reason="it was gone")))
    assert "came back: [3] it was gone" in drawn(progress)
