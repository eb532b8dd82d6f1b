"""Run keys: at most one live run of a pipeline has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.errors import CallError, Violation, invalid
from penstock_coordinator.api.fields import run_id_text
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.texts import has_control
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import KeyClaim, Reuse

if TYPE_CHECKING:
    from penstock_coordinator.ports import KeyTaken

MAX_LENGTH = 256


def run_key_of(text: str) -> str:
    """Empty: none."""
    if len(text) > MAX_LENGTH or has_control(text) or text != text.strip():
        form = f"use at most {MAX_LENGTH} characters, without control characters, and no white space around them"
        raise invalid("run_key", f"{quoted(text)} is no run key: {form}")
    return text


def claim_of(request: pb.StartRunRequest) -> KeyClaim | None:
    """The run key that the request asks for; None if it asks for none."""
    if not (request.run_key or request.run_key_conflict or request.run_key_reuse):
        return None
    for field, names in (("run_key_conflict", pb.RunKeyConflict), ("run_key_reuse", pb.RunKeyReuse)):
        value = getattr(request, field)
        if value not in names.values():
            raise invalid(field, f"{value} is none of its values: use {' or '.join(names.keys()[1:])}")
        if value and not request.run_key:
            raise invalid(field, "says what becomes of a run key, and there is none: give run_key, or leave it out")
    if not request.run_key:
        return None
    return KeyClaim(request.pipeline, run_key_of(request.run_key), Reuse(request.run_key_reuse or Reuse.ALLOW))


def uses_existing(request: pb.StartRunRequest, taken: KeyTaken | None = None) -> bool:
    """Whether the run that has the key is the answer; without one, whether a live one would be."""
    live = taken is None or not RunState(taken.state).at_rest
    return request.run_key_conflict == pb.RUN_KEY_CONFLICT_USE_EXISTING and live


def key_twice(request: pb.StartRunRequest, first: int) -> CallError:
    """Another request of the same call, at this position, is to have the key."""
    message = (
        f"the run key {quoted(request.run_key)} is that of requests[{first}] too: choose another key, or ask for"
        " RUN_KEY_CONFLICT_USE_EXISTING"
    )
    return CallError(
        grpc.StatusCode.ALREADY_EXISTS, "RUN_KEY_TAKEN", message, violations=[Violation("run_key", message)]
    )


def key_taken(request: pb.StartRunRequest, taken: KeyTaken) -> CallError:
    run_id, state = run_id_text(taken.run_id), RunState(taken.state)
    what = f"the run key {quoted(request.run_key)} is that of the run {run_id}, which is {state.name}"
    if not state.at_rest:
        remedy = (
            "wait for its end or cancel it, take that run with `--use-existing` (RUN_KEY_CONFLICT_USE_EXISTING), "
            "or choose another key"
        )
    else:
        remedy = f"choose another key, or ask for {_weaker(request, state)}"
    message = f"{what}: {remedy}"
    return CallError(
        grpc.StatusCode.ALREADY_EXISTS,
        "RUN_KEY_TAKEN",
        message,
        violations=[Violation("run_key", message)],
        metadata={"run_id": run_id, "state": state.name},
    )


def _weaker(request: pb.StartRunRequest, state: RunState) -> str:
    """The rule of reuse under which the key would be free."""
    if request.run_key_reuse == pb.RUN_KEY_REUSE_REJECT and state is not RunState.COMPLETED:
        return "`--run-key-reuse after_failure` (RUN_KEY_REUSE_AFTER_FAILURE)"
    return "`--run-key-reuse allow` (RUN_KEY_REUSE_ALLOW)"
