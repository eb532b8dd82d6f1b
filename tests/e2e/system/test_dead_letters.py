"""What fails for good, with real agents that die of it; looked at and dealt with on the command line."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tests.e2e.system import letter_flows
from tests.e2e.system.conftest import until

from penstock.errors import ServiceError
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

    from penstock.client.sync import SyncClient

FAILED, COMPLETED = run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_COMPLETED
PATIENCE = 60.0


def letters(system: DevSystem, *options: str) -> list[dict[str, Any]]:
    said = system.penstock("dead-letters", "list", "--json", *options)
    assert said.returncode == 0, said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]


def logged(client: SyncClient, run_id: str) -> list[str]:
    """Nothing while the step is not known."""
    with contextlib.suppress(ServiceError):
        return [line.text for line in client.logs(run_id, "kills_its_agent")]
    return []


def is_completed(client: SyncClient, run_id: str, step: str) -> bool:
    return client.get_step_run(run_id, step).step_run.state == run_pb2.STEP_RUN_STATE_COMPLETED


def test_a_step_that_kills_three_agents_is_poison_until_it_is_mended(
    own_system: Callable[..., DevSystem], tmp_path: Path
) -> None:
    system = own_system("--agents", "1")
    client = system.client()
    run = client.start(letter_flows.deadly, {"folder": str(tmp_path)})
    for attempt in (1, 2, 3):
        until(lambda said=f"attempt {attempt} begins": said in logged(client, run.id), PATIENCE)  # type: ignore[misc]  # bound
        if attempt == 2:
            # What is still on the agent when it dies is charged with the death, too: here that is one step alone.
            until(lambda: is_completed(client, run.id, "calm"), PATIENCE)
        (tmp_path / f"seen-{attempt}").touch()
    assert run.wait(PATIENCE).state == FAILED
    found = client.get_step_run(run.id, "kills_its_agent")
    assert (found.step_run.failure.reason, len(found.attempts)) == ("Poison", 3)
    assert {each.charged_to for each in found.attempts} == {run_pb2.BUDGET_POISON}
    calm = client.get_step_run(run.id, "calm")
    assert calm.step_run.state == run_pb2.STEP_RUN_STATE_COMPLETED, "no retry of its own was there to be charged"
    assert [each.charged_to for each in calm.attempts[:1]] == [run_pb2.BUDGET_POISON]

    (letter,) = letters(system, "--budget", "poison")
    assert (letter["runId"], letter["displayName"]) == (run.id, "kills_its_agent")
    assert letter["failure"]["reason"] == "Poison"
    assert "kills_its_agent" in system.penstock("dead-letters", "list", "--pipeline", "deadly").stdout
    shown = system.penstock("dead-letters", "show", letter["id"]).stdout
    for part in (str(tmp_path), "the agents that may die of it", "attempt 3 begins", "dead-letters requeue"):
        assert part in shown, shown
    whole = json.loads(system.penstock("dead-letters", "show", letter["id"], "--json").stdout)
    assert [each["name"] for each in whole["inputs"]] == ["folder"]
    assert "poison" in system.penstock("get", run.id, "kills_its_agent").stdout

    (tmp_path / "mended").touch()
    done = system.penstock("dead-letters", "requeue", letter["id"], "--reason", "mended")
    assert (done.returncode, "generation 2: 1 step runs again" in done.stdout) == (0, True), done.stderr
    assert run.wait(PATIENCE).state == COMPLETED
    assert letters(system) == []
    again = system.penstock("dead-letters", "requeue", letter["id"])
    assert (again.returncode, "was begun again since" in again.stderr) == (1, True), again.stderr


def test_letters_are_requeued_and_purged_by_what_they_have_in_common(system: DevSystem, tmp_path: Path) -> None:
    client = system.client()
    runs = [client.start(letter_flows.broken, {"folder": str(tmp_path)}, labels={"n": str(n)}) for n in range(2)]
    for run in runs:
        assert run.wait(PATIENCE).state == FAILED
    chosen = ("--pipeline", "broken", "--step", "breaks")
    names = {each["displayName"] for each in letters(system, *chosen, "--label", "n=1")}
    assert names == {"breaks[0]", "breaks[1]", "breaks[2]"}
    counted = system.penstock("dead-letters", "requeue", *chosen, "--dry-run")
    assert counted.stdout == "It would requeue 6 letters of 2 runs.\n", counted.stderr
    asked = system.penstock("dead-letters", "purge", *chosen, "--run", runs[1].id)
    assert (asked.returncode, "purge 3 letters of 1 run?" in asked.stderr) == (2, True), asked.stderr
    assert "add --yes" in asked.stderr
    said = system.penstock("dead-letters", "purge", *chosen, "--run", runs[1].id[-12:], "--yes", "--wait", "--json")
    assert json.loads(said.stdout)["doneCount"] == "1", said.stderr
    assert len(letters(system, *chosen, "--state", "purged")) == 3

    (tmp_path / "mended").touch()
    said = system.penstock("dead-letters", "requeue", *chosen, "--yes", "--wait", "--json")
    assert json.loads(said.stdout)["doneCount"] == "1", said.stderr
    assert runs[0].wait(PATIENCE).state == COMPLETED
    assert runs[0].get().generation == 2
    assert runs[1].get().state == FAILED, "a purge leaves the run"
    assert letters(system, *chosen) == []
    nothing = system.penstock("dead-letters", "requeue", *chosen)
    assert (nothing.returncode, nothing.stdout) == (0, "There is no open letter to requeue.\n")
    for command in ("list", "requeue"):
        for options, said_of in (
            (("--pipeline", "brokn"), "did you mean 'broken'?"),
            (("--pipeline", "broken", "--step", "braks"), "did you mean 'breaks'?"),
            (("--run", runs[0].id, "--step", "braks"), "did you mean 'breaks'?"),
            (("--step", "no-such-step"), "there is no step 'no-such-step' in any pipeline"),
        ):
            typo = system.penstock("dead-letters", command, *options)
            assert (typo.returncode, said_of in typo.stderr) == (2, True), (options, typo.stderr)
    purged = ("--pipeline", "broken", "--state", "purged")
    (classes,) = {each["failure"]["errorClass"] for each in letters(system, *purged)}
    found = letters(system, *purged, "--error-class", classes.rpartition(".")[2])
    assert len(found) == 3
    near = system.penstock("dead-letters", "list", *purged, "--error-class", classes[:-1])
    assert (near.returncode, near.stdout) == (0, f"--error-class {classes[:-1]}: did you mean {classes!r}?\n")
    wrong = system.penstock("dead-letters", "purge")
    assert (wrong.returncode, "or take --all of them" in wrong.stderr) == (2, True)
    unknown = system.penstock("dead-letters", "show", f"{runs[0].id}:1")
    assert (unknown.returncode, "no such dead letter" in unknown.stderr) == (2, True), unknown.stderr


def test_who_requeues_one_letter_may_watch_what_becomes_of_it(system: DevSystem, tmp_path: Path) -> None:
    run = system.client().start(letter_flows.broken, {"folder": str(tmp_path)})
    assert run.wait(PATIENCE).state == FAILED
    (tmp_path / "mended").touch()
    letter = letters(system, "--run", run.id)[0]["id"]
    said = system.penstock("dead-letters", "requeue", letter, "--wait")
    assert f"run {run.id}, generation 2: 2 steps run again" in said.stdout
    assert (said.returncode, f"run {run.id} FAILED" in said.stdout) == (1, True), "two other items failed"
