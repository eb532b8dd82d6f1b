"""Pipelines in Python that call pipelines: what is sent first, what comes up, and stops that go down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.system import sub_pipeline_flows as flows
from tests.e2e.system.conftest import DevSystem, until

from penstock import errors
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from penstock.client.sync import SyncClient

VERSIONS = """
name: sub_py_versions
steps:
  say: {{command: {{shell: 'echo {number}', outputs: {{n: {{stdout: true, format: json}}}}}}}}
output: ${{steps.say.output.n}}
"""


def test_parameters_go_down_and_outputs_come_up(client: SyncClient) -> None:
    run = client.start(flows.month, {"days": ["a", "bb", "ccc"]})
    assert run.output(timeout=100) == {
        "sum": 7,
        "loaded": [{"rows": rows, "times": 10 * rows} for rows in (1, 2, 3)],
        "times": 8,
    }
    below = [each.pipeline for each in client.list_runs(parent_run_id=run.id)]
    assert sorted(below) == ["sub_py_day"] * 4 + ["sub_py_summed"]
    assert client.get_pipeline("sub_py_summed").version.spec.template.name == "summed"
    again = client.start(flows.month, {"days": []})
    assert again.output(timeout=100)["loaded"] == []  # type: ignore[index,call-overload]  # an object, as above
    assert client.get_pipeline("sub_py_day").version.number == 1


def test_a_run_without_an_output_and_one_that_fails(client: SyncClient) -> None:
    failing = client.start(flows.broken)
    with pytest.raises(errors.RunFailedError, match="is FAILED") as caught:
        failing.output(timeout=100)
    assert caught.value.run.id == failing.id


def test_a_cancel_goes_down_and_is_an_error_of_its_own(client: SyncClient, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    run = client.start(flows.long_run, {"mark": str(mark)})
    until(mark.exists, 100.0)
    with pytest.raises(errors.WaitTimeoutError):
        run.output(timeout=0.01)
    run.cancel(now=True)
    with pytest.raises(errors.RunCancelledError):
        run.output(timeout=100)
    (below,) = client.list_runs(parent_run_id=run.id)
    assert (below.pipeline, below.state) == ("long_leaf", run_pb2.RUN_STATE_CANCELLED)


def test_pipelines_that_are_not_at_hand(system: DevSystem, client: SyncClient, tmp_path: Path) -> None:
    file = tmp_path / "versions.yaml"
    for number in (1, 2):
        file.write_text(VERSIONS.format(number=number))
        assert system.penstock("apply", str(file)).returncode == 0
    assert client.start(flows.by_name, {"day": "abc"}).output(timeout=100) == {"old": 1, "new": 2, "day": 3}


def test_mapped_commands_and_stages(client: SyncClient) -> None:
    assert client.start(flows.mapped, {"numbers": [1, 2, 3]}).output(timeout=100) == {
        "doubled": [{"n": 2}, {"n": 4}, {"n": 6}],
        "items": [{"item": 0}, {"item": 1}, {"item": 2}],
        "sums": [2, 3, 4],
        "pairs": [{"text": "1-x"}, {"text": "2-y"}, {"text": "3-z"}],
    }


def test_the_command_line_sends_what_is_called_first(system: DevSystem, tmp_path: Path) -> None:
    file = tmp_path / "flows.py"
    file.write_text(
        "from penstock import pipeline, step\n"
        "@step\ndef one(): return 1\n"
        "@pipeline\ndef sub_py_leaf(): return one()\n"
        "@pipeline\ndef sub_py_top(): return {'n': sub_py_leaf()}\n"
    )
    checked = system.penstock("validate", str(file))
    assert checked.stdout == "sub_py_top is valid\n"
    applied = system.penstock("apply", str(file))
    assert [line.split()[0] for line in applied.stdout.splitlines()] == ["sub_py_leaf", "sub_py_top"]
    done = system.penstock("run", str(file))
    assert done.returncode == 0, done.stderr
    assert "of sub_py_top, version 1" in done.stdout
    assert 'output {"n":1}' in done.stdout
