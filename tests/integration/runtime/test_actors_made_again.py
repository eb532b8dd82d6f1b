"""What a coordinator's books say when the actor of a run had to be made again from the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1.pipeline_pb2 import CommandAction, PipelineSpec, StepSpec

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

    from penstock_coordinator.ports import Record

ONE_STEP = PipelineSpec(name="one", steps=[StepSpec(name="a", command=CommandAction(argv=["true"]))])


async def test_a_lease_that_is_awaited_again_takes_its_place_on_the_session(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(ONE_STEP)
    grant = await agent.grant()
    faults = coordinator.stores.faults

    def refuse(record: Record) -> str | None:
        faults.refuse = None
        return "not this one"

    faults.refuse = refuse
    before = coordinator.supervisor.actor(run_id)
    await agent.hand_back(grant)

    async def made_again() -> bool:
        return coordinator.supervisor.actor(run_id) not in (None, before)

    await until(made_again)
    (session,) = coordinator.supervisor.fleet.sessions()
    assert len(session.holder.leases) == session.capacity.leases == 1

    # By two heartbeats the coordinator knows that the agent does not have it.
    await agent.beat()
    await agent.beat()
    again = await agent.grant()
    assert again.lease.token > grant.lease.token
    assert len(session.holder.leases) == session.capacity.leases == 1
    await agent.succeed(again)
    await coordinator.ended(run_id)
    assert session.capacity.leases == session.capacity.permits == 0


async def test_what_a_run_is_told_that_was_not_made_again_before_the_stop_is_left_to_the_next_coordinator(
    world: World,
) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(ONE_STEP)
    grant = await agent.grant()
    faults, supervisor = coordinator.stores.faults, coordinator.supervisor

    def stop_and_refuse(record: Record) -> str | None:
        faults.refuse = None
        supervisor.stopping = True
        return "not this one"

    faults.refuse = stop_and_refuse
    await agent.succeed(grant)

    async def is_left() -> bool:
        return supervisor.actor(run_id) is None and run_id not in supervisor.remaking

    await until(is_left)
    await agent.succeed(grant)
    await agent.beat()
    assert not supervisor.fleet.discarded, "the result is still wanted"
    await agent.vanish()
    await supervisor.stop()

    successor = await world.coordinator()
    again = successor.agent()
    again.held = [wire.HeldLease(lease=grant.lease, phase=wire.LEASE_PHASE_FINISHED_UNACKED)]
    await again.connect()
    result_id = await again.succeed(grant)
    await successor.ended(run_id)
    assert (await again.acked(result_id)).status == wire.RESULT_ACK_STATUS_COMMITTED
