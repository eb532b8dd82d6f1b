"""How much memory there is for a step that ran out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.dispatch.standing import mismatch
from penstock_coordinator.core.run.raised import MEMORY

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Line
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.session import AgentSession
    from penstock_coordinator.runtime.supervisor import Supervisor


def most_memory(supervisor: Supervisor, run_id: RunId, step: int) -> int:
    """What the largest agent has that is connected and has all else that the step asks for; 0: there is none."""
    actor = supervisor.actor(run_id)
    if actor is None or not 0 <= step < len(actor.plan.steps):
        return 0
    position = actor.plan.steps[step].line
    if position < 0:
        return 0
    line = actor.plan.lines[position]
    return max((_memory(session) for session in supervisor.fleet.sessions() if _serves(session, line)), default=0)


def _serves(session: AgentSession, line: Line) -> bool:
    lacks = mismatch(session.capacity, line)
    return all((lack.what, lack.name) == ("resource", MEMORY) for lack in lacks)


def _memory(session: AgentSession) -> int:
    return int(session.capacity.resources.get(MEMORY, 0.0))
