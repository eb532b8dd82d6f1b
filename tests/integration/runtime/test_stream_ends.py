"""The ends of agents' streams, on the coordinator's side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.api.agent_stream import AgentStream
from penstock_coordinator.core.counts.grants import GrantCounts
from penstock_coordinator.core.fleet.leases import Holder
from penstock_coordinator.core.run.events import StepsLeased, decode
from penstock_coordinator.runtime.hello import agent_row, capacity_of
from penstock_coordinator.runtime.ownership import OwnershipEnded
from penstock_coordinator.runtime.session import Acknowledgement, AgentSession

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World


async def test_a_stream_that_the_coordinator_ends_is_no_error(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    (session,) = coordinator.supervisor.fleet.sessions()

    async def nobody_reads() -> bool:
        return not any("_read_all" in repr(task.get_coro()) for task in asyncio.all_tasks())

    with structlog.testing.capture_logs() as said:
        session.close("silent")
        await agent.until(lambda: bool(agent.goaways))
        await until(nobody_reads)

    assert [line["event"] for line in said if line["log_level"] == "error"] == []


class SlowConnection:
    """What gRPC gives a handler to write to, when the other end takes its time."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def write(self, message: wire.CoordinatorMessage) -> None:
        self.begun.set()
        await self.goes_on.wait()
        self.written.append(message.WhichOneof("body") or "")


async def test_what_is_gathered_while_something_is_written_is_written_too(world: World) -> None:
    """The last word as well: why the stream ends."""
    coordinator = await world.coordinator()
    hello = wire.Hello(agent_id="agent-1", boot_id="boot-1", slots=1)
    session = AgentSession(
        Holder("agent-1", 1, "boot-1", 0),
        capacity_of(hello, 1),
        agent_row(hello, 0),
        wire.Welcome(),
        lambda: True,
        GrantCounts(),
    )
    connection = SlowConnection()
    stream = AgentStream(coordinator.supervisor, connection)  # type: ignore[arg-type]  # it only writes
    writing = asyncio.create_task(stream._write_all(session))
    await connection.begun.wait()
    session.resume()
    session.close("superseded")
    connection.goes_on.set()
    await writing
    assert connection.written == ["welcome", "resume", "goaway"]


async def test_who_owns_no_more_says_nothing_but_to_go(world: World) -> None:
    """What was decided in time is committed too late to be told: another one may own by then."""
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    (session,) = coordinator.supervisor.fleet.sessions()
    coordinator.supervisor.own_until(0)

    run_id = await coordinator.start(spec({"name": "a"}))
    await until(lambda: _leased(world, run_id))
    session.close("not_the_leader")
    await agent.until(lambda: bool(agent.goaways))
    assert not agent.grants


async def test_who_is_replaced_takes_nothing_along_that_was_gathered(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    (session,) = coordinator.supervisor.fleet.sessions()
    session.acknowledge(Acknowledgement((bytes(16), 0, 0), 1, b"r", wire.RESULT_ACK_STATUS_COMMITTED))
    coordinator.supervisor.step_down(OwnershipEnded("another coordinator has taken over"))
    session.close("not_the_leader")
    await agent.until(lambda: bool(agent.goaways))
    assert not agent.acks


async def _leased(world: World, run_id: bytes) -> bool:
    events = [event for record in world.database.records[run_id].values() for event in decode(record.payload)]
    return any(isinstance(event, StepsLeased) for event in events)
