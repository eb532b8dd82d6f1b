"""What the coordinator refuses, in the words of the command line."""

from __future__ import annotations

import pytest

from penstock.cli.remedies import in_words_of_commands
from penstock.errors import ServiceError


@pytest.mark.parametrize(
    ("reason", "message", "text"),
    [
        (
            "UNKNOWN_PIPELINE",
            "there is no pipeline 'nope': List tells those that there are",
            "there is no pipeline 'nope' (`penstock list pipelines` shows those that there are)",
        ),
        (
            "UNKNOWN_VERSION",
            "the pipeline 'etl' has no version 9: ListVersions tells them",
            "the pipeline 'etl' has no version 9 (`penstock list versions --pipeline NAME` shows those that there are)",
        ),
        (
            "UNKNOWN_AGENT",
            "no agent of that id was ever connected: List tells those that were",
            "no agent of that id was ever connected (`penstock agents` shows those that there are)",
        ),
        ("UNKNOWN_RUN", "there is no such run", "there is no such run (`penstock list` shows those that there are)"),
        (
            "INVALID_REQUEST",
            "other_run_id: 'etl' is no run id: copy it from the answer of Start or List",
            "'etl' is no run id (`penstock list` shows runs)",
        ),
        ("INVALID_REQUEST", "steps[0].when: unknown name 'x'", None),
        ("UNKNOWN_PIPELINE", "the pipeline 'load_day', a step of this one, is not there: apply it first", None),
    ],
)
def test_remedies_name_commands(reason: str, message: str, text: str | None) -> None:
    assert in_words_of_commands(ServiceError(message, reason=reason)) == text


def test_a_remedy_of_the_command_line_itself_is_left_alone() -> None:
    error = ServiceError("there is no item a[9]: 'a' has 3", reason="UNKNOWN_RUN", remedy="list them")
    assert in_words_of_commands(error) is None


@pytest.mark.parametrize(("state", "word"), [("RUNNING", "--use-existing"), ("COMPLETED", "--run-key-reuse")])
def test_a_run_key_that_is_taken_names_the_options(state: str, word: str) -> None:
    error = ServiceError("the run key ...", reason="RUN_KEY_TAKEN", metadata={"run_id": "r-1", "state": state})
    text = in_words_of_commands(error)
    assert text is not None
    assert f"the run r-1, which is {state}" in text
    assert word in text
    assert "RUN_KEY_CONFLICT" not in text
