"""Bringing live runs back from the journal: fold the events, then resume the duties that the state still owes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.runtime.watching import read_events

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.commands import Command
    from penstock_coordinator.ports import AgentRegistry, Journal, RunId
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor

PAGE = 1_000


async def rebuild(journal: Journal, run_id: RunId, plan: Plan) -> Run:
    """The run as its journal says. Raises `Unavailable`, `UnknownEvent`."""
    run = Run(plan, run_id)
    async for events in read_events(journal, run_id, 1):
        for seq, event in events:
            evolve(run, seq, event)
    return run


async def recover_all(supervisor: Supervisor) -> int:
    """Make an actor of every live run that this coordinator owns, and wait for the agents that hold its leases."""
    rows = await supervisor.stores.runs.live_runs(supervisor.coordinator_id)
    recovered: list[tuple[Actor, list[Command]]] = []
    for row in rows:
        plan = await supervisor.plans.get(row.version_digest)
        run = await rebuild(supervisor.stores.journal, row.run_id, plan)
        share = supervisor.share_of(row.origin, row.labels)
        actor = supervisor.add(row.run_id, plan, run, row.parameters, row.trace_context, share)
        actor.origin = row.origin
        recovered.append((actor, resume(run)))
    # Who holds what is known before anything is placed.
    supervisor.limits.restore(actor for actor, _ in recovered)
    for actor, duties in recovered:
        supervisor.adopt(actor, duties)
    await _cancel_given_up(supervisor, [actor for actor, _ in recovered])
    return len(rows)


async def _cancel_given_up(supervisor: Supervisor, recovered: list[Actor]) -> None:
    """A run at rest owes nothing but this: that the runs which it did not wait for are told. One that was opened again
    meanwhile is somebody's own."""
    above = {
        actor.origin.parent.run_id
        for actor in recovered
        if actor.origin.parent is not None and actor.run.generation == 1
    }
    for run_id in above:
        row = None if supervisor.actor(run_id) is not None else await supervisor.stores.runs.get(run_id)
        if row is not None:
            plan = await supervisor.plans.get(row.version_digest)
            supervisor.children.cancel_given_up(await rebuild(supervisor.stores.journal, run_id, plan))


async def last_boot_ids(agents: AgentRegistry) -> dict[str, str]:
    """The boot id of each agent's last session: tells a restarted agent from one that was cut off."""
    boot_ids: dict[str, str] = {}
    after = ""
    while page := await agents.list_agents(PAGE, after):
        boot_ids.update((row.agent_id, row.boot_id) for row in page)
        after = page[-1].agent_id
    return boot_ids
