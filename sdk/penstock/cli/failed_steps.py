"""Which command shows what failed: of the step that the run ended for, down through the runs that steps are."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from penstock.cli.looking import split_step
from penstock.cli.states import run_state
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.cli.progress import RunProgress
    from penstock.cli.session import Session
    from penstock.client.client import Client
    from penstock.v1 import run_pb2

_DEEPEST = 32
"""Runs that are gone down through; there are no chains that are longer."""
_REASON = re.compile(r'step "([^"]+)" failed')


class FailedStep(NamedTuple):
    """`name` is "step" or "step[3]", or "" if it is not known which step failed."""

    run_id: str
    name: str


async def why_not_completed(session: Session, client: Client, progress: RunProgress, run: run_pb2.Run) -> str:
    """What to look at. Of a run that a person has rolled back nothing needs to have failed."""
    named = named_in(run.reason)
    if run_state(run.state) == "ROLLED_BACK" and not named:
        return f"What was undone: {_command(session, 'get', FailedStep(run.id, ''))}"
    found = await _lowest(client, FailedStep(run.id, named or progress.first_failed()))
    return (
        f"What failed, with its traceback: {_command(session, 'get', found)}\n"
        f"What it printed: {_command(session, 'logs', found)}"
    )


def _command(session: Session, verb: str, found: FailedStep) -> str:
    words = ["penstock", verb, found.run_id, *filter(None, [found.name])]
    if session.address:
        words += ["--address", session.address]
    return shlex.join(words)


def named_in(reason: str) -> str:
    """The step run that a run's reason is about."""
    found = _REASON.search(reason)
    return found[1] if found else ""


async def _lowest(client: Client, found: FailedStep) -> FailedStep:
    """As far down as can be read."""
    for _ in range(_DEEPEST):
        if not found.name:
            return found
        try:
            below = await _below(client, found)
        except PenstockError:
            return found
        if below is None:
            return found
        found = below
    return found


async def _below(client: Client, found: FailedStep) -> FailedStep | None:
    """In the run that the step is; None if it is none."""
    step, place = split_step(found.name)
    child_id = (await client.get_step_run(found.run_id, step, place)).step_run.child_run_id
    return FailedStep(child_id, named_in((await client.get_run(child_id)).reason)) if child_id else None
