"""A step that misbehaves fails as that step, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.system import flows
from tests.e2e.system.conftest import until

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from penstock.client.sync import SyncClient


def run_to_end(
    client: SyncClient, pipeline: Any, parameters: dict[str, Any] | None = None
) -> dict[str, run_pb2.StepRun]:
    run = client.start(pipeline, parameters or {})
    run.wait(200.0)
    assert run.result("fine") == "fine", "its neighbour is not touched"
    return {step.step: step for step in client.list_step_runs(run.id)}


def test_a_step_that_kills_its_process(client: SyncClient) -> None:
    step = run_to_end(client, flows.crashing)["kills_itself"]
    assert step.state == run_pb2.STEP_RUN_STATE_FAILED
    assert step.failure.reason == "Crash"
    assert "SIGKILL" in step.failure.message


def test_a_step_that_prints_a_gigabyte(client: SyncClient) -> None:
    run = client.start(flows.loud)
    ended = run.wait(200.0)
    assert ended.state == run_pb2.RUN_STATE_COMPLETED, "it is told off, not failed"
    assert run.result("prints_a_gigabyte") == "done"
    lines = list(client.logs(run.id, "prints_a_gigabyte", follow=True))
    assert sum(len(line.text) for line in lines) < 16 << 20
    assert any("cut off" in line.text for line in lines[-3:]), "the log says where it ends"


def test_a_step_that_returns_what_cannot_be_serialised(client: SyncClient) -> None:
    step = run_to_end(client, flows.strange)["returns_a_socket"]
    assert step.state == run_pb2.STEP_RUN_STATE_FAILED
    assert step.failure.reason == "OutputUnserialisable"


def test_a_step_that_ignores_sigterm_at_its_timeout(client: SyncClient, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    step = run_to_end(client, flows.stubborn, {"mark": str(mark)})["ignores_sigterm"]
    assert step.state == run_pb2.STEP_RUN_STATE_FAILED
    assert step.failure.reason == "Timeout"
    assert not Path(f"/proc/{mark.read_text()}").exists()


@pytest.mark.parametrize("now", [False, True], ids=["polite", "now"])
def test_a_cancelled_step_that_ignores_sigterm_is_killed(client: SyncClient, tmp_path: Path, now: bool) -> None:
    mark = tmp_path / "pid"
    run = client.start(flows.endless, {"mark": str(mark)})
    until(lambda: mark.exists() and bool(mark.read_text()), 60.0)
    run.cancel(now=now)
    assert run.wait(60.0).state == run_pb2.RUN_STATE_CANCELLED
    until(lambda: not Path(f"/proc/{mark.read_text()}").exists(), 60.0)
    (step,) = client.list_step_runs(run.id)
    assert step.state == run_pb2.STEP_RUN_STATE_CANCELLED
