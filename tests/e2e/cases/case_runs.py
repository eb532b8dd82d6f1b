"""One case, played against a running system, and what came of it."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.cases.neutral_conditions import STATES, UnknownInCase
from tests.e2e.cases.neutral_pipelines import specification
from tests.e2e.cases.step_ledger import Execution, of_step, read_ledger
from tests.e2e.system.conftest import until

from penstock import errors
from penstock.bundle.archive import build_bundle
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.client.sync import SyncClient

SCRIPTED = Path(__file__).parent / "scripted"
LONGEST_SECONDS = 120.0
_WHEN = re.compile(r"(\S+) is ([A-Z_]+)")
_ENDS = {"COMPLETED", "FAILED", "CANCELLED"}


@dataclass
class Played:
    """A run of a case, at rest."""

    client: SyncClient
    run: run_pb2.Run
    seconds: float
    executions: list[Execution]
    answered: list[str] = field(default_factory=list)
    """The run ids, and the codes of refusals, that further submissions were answered with."""


def play(
    client: SyncClient, given: dict[str, Any], folder: Path, name: str = "", meet: Sequence[Sequence[str]] = ()
) -> Played:
    """Steps of which the case expects that they overlap `meet`: each first waits for the other's begin."""
    folder.mkdir(exist_ok=True)
    ledger = folder / "ledger"
    bundle = build_bundle(SCRIPTED)
    client.upload_bundle(bundle)
    spec = specification(name or f"case-{uuid.uuid4().hex[:12]}", given, str(ledger), bundle.digest, meet)
    version = client.create_pipeline(spec)
    key = f"{given.get('run', {}).get('idempotency_key', 'none')}-{uuid.uuid4().hex}"
    began = time.monotonic()
    run = client.start(spec.name, given.get("inputs", {}), request_id=key, version=version.number)
    answered = [
        _happen(client, run.id, ledger, event, (spec.name, given.get("inputs", {}), key, version.number))
        for event in given.get("events", [])
    ]
    ended = run.wait(LONGEST_SECONDS)
    seconds = time.monotonic() - began
    return Played(client, ended, seconds, read_ledger(ledger), [each for each in answered if each])


def _happen(
    client: SyncClient,
    run_id: str,
    ledger: Path,
    event: dict[str, Any],
    submitted: tuple[str, dict[str, Any], str, int],
) -> str:
    """What the event was answered with, if that is of interest."""
    if event.keys() != {"when", "do"}:
        raise UnknownInCase(f"the event {event!r}")
    _await(client, run_id, ledger, event["when"])
    name, inputs, key, version = submitted
    match event["do"]:
        case "cancel_run":
            client.cancel(run_id)
        case "cancel_run_now":
            client.cancel(run_id, now=True)
        case "submit_again_same":
            return client.start(name, inputs, request_id=key, version=version).id
        case "submit_again_other_key":
            return client.start(name, inputs, request_id=f"{key}-other", version=version).id
        case "submit_again_other_input":
            other = dict.fromkeys(inputs, "another value")
            try:
                return client.start(name, other, request_id=key, version=version, labels={"other": "yes"}).id
            except errors.ServiceError as refused:
                return refused.code
        case strange:
            raise UnknownInCase(f"the event {strange!r}")
    return ""


def _await(client: SyncClient, run_id: str, ledger: Path, when: str) -> None:
    found = _WHEN.fullmatch(when)
    if when == "at once":
        return
    if found is None:
        raise UnknownInCase(f"the time {when!r}")
    name, state = found[1], STATES.get(found[2], found[2])
    # A short run may be RUNNING between two looks, and then that has been.
    until(lambda: _state(client, run_id, name) in ({state, *_ENDS} if when == "run is RUNNING" else {state}), 60.0)
    if state == "RUNNING" and name != "run":
        # For us it is when the step has its lease, for the cases when its code runs.
        until(lambda: bool(of_step(read_ledger(ledger), name)), 60.0)


def _state(client: SyncClient, run_id: str, name: str) -> str:
    if name == "run":
        return run_pb2.RunState.Name(client.get_run(run_id).state).removeprefix("RUN_STATE_")
    return state_name(client.get_step_run(run_id, name).step_run)


def state_name(step: run_pb2.StepRun) -> str:
    return run_pb2.StepRunState.Name(step.state).removeprefix("STEP_RUN_STATE_")
