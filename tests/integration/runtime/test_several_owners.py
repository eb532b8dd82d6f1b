"""One agent with streams to two owners of runs, each of which hears also of what it holds by the other one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from msgspec.structs import replace as replace_struct
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.api.agent_service import LiveHere
from penstock_coordinator.api.errors import CallError
from penstock_coordinator.api.log_intake import LogIntake
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.run.messages import AttemptEnded
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import LinkRow
from penstock_coordinator.runtime.late_results import MOST_WAITING_BYTES
from penstock_coordinator.runtime.log_hub import LogHub
from penstock_coordinator.runtime.supervisor import Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.integration.runtime.conftest import Coordinator, World

    from penstock_coordinator.ports import RunId

ONE_STEP = spec({"name": "a"})
STALE, COMMITTED = wire.RESULT_ACK_STATUS_STALE, wire.RESULT_ACK_STATUS_COMMITTED


def linked(coordinator: Coordinator, *, slots: int = 4) -> ScriptedAgent:
    """The agent's stream to that one."""
    agent = coordinator.agent(slots=slots)
    agent.features = ["links"]
    return agent


def orphan(grant: wire.LeaseGrant, phase: wire.LeasePhase.ValueType = wire.LEASE_PHASE_RUNNING) -> wire.HeldLease:
    return wire.HeldLease(lease=grant.lease, phase=phase, attempt=grant.attempt)


def kept_by(coordinator: Coordinator) -> Callable[[], Awaitable[bool]]:
    async def kept() -> bool:
        return coordinator.supervisor.counts.adoptions.results_kept == 1

    return kept


def asks(coordinator: Coordinator, asking: bool) -> Callable[[], Awaitable[bool]]:
    """Whether it has something to ask of rows."""

    async def is_so() -> bool:
        return (coordinator.supervisor.fleet.late_results._task is not None) is asking

    return is_so


class Two:
    """`head` is to take over what `other` has; the agent has a stream with each."""

    def __init__(self, world: World, head: Coordinator, other: Coordinator) -> None:
        self.world = world
        self.head, self.other = head, other
        self.home, self.link = linked(head), linked(other)

    async def run_at_other(self) -> tuple[RunId, wire.LeaseGrant]:
        run_id = await self.other.start(ONE_STEP)
        return run_id, await self.link.grant()

    async def other_dies(self, run_id: RunId) -> None:
        """Its agents have seen the end of their streams, and its run is the head's."""
        await self.other.kill()
        runs = self.world.database.runs
        runs[run_id] = replace(runs[run_id], owner="c1")

    async def head_takes(self, run_id: RunId) -> None:
        await self.other_dies(run_id)
        assert await self.head.supervisor.adopt_runs([run_id]) == 1


@pytest.fixture
async def two(world: World) -> Two:
    made = Two(world, await world.coordinator(), await world.coordinator("c2"))
    await made.link.connect()
    await made.home.connect()
    return made


async def test_a_result_for_a_run_of_another_owner_is_kept_by_its_agent_and_found_there(two: Two) -> None:
    run_id, grant = await two.run_at_other()
    result_id = await two.home.succeed(grant)
    await two.home.until(lambda: two.home.moved == [run_id])
    assert two.home.acks == []
    assert two.head.supervisor.counts.adoptions.results_kept == 1
    await two.link.say(results=wire.Results(results=[two.home.results[result_id]]))
    assert (await two.link.acked(result_id)).status == COMMITTED
    await two.other.ended(run_id)
    # Now it is a late one, wherever it comes.
    await two.home.say(results=wire.Results(results=[two.home.results[result_id]]))
    assert (await two.home.acked(result_id)).status == STALE


async def test_an_agent_that_knows_no_other_owner_is_told_of_none(two: Two) -> None:
    _, grant = await two.run_at_other()
    plain = two.head.agent("agent-2")
    welcome = await plain.connect()
    assert (list(welcome.features), welcome.head_epoch) == ([], 0)
    await plain.succeed(grant)
    await until(kept_by(two.head))
    await plain.beat(elsewhere=[orphan(grant)], names_all=True)
    assert (plain.moved, plain.acks, plain.verdicts, plain.peers) == ([], [], [], [])


async def test_a_step_of_an_owner_that_died_goes_on_and_its_result_is_taken_by_the_next(two: Two) -> None:
    run_id, grant = await two.run_at_other()
    await two.home.beat(elsewhere=[orphan(grant)], names_all=True)
    await until(asks(two.head, False))
    assert two.home.verdicts == [], "its owner lives, for all that is known"
    await two.head_takes(run_id)
    await two.home.beat(elsewhere=[orphan(grant)], names_all=True)
    (verdict,) = two.home.verdicts
    assert (verdict.verdict, verdict.ttl.seconds) == (wire.VERDICT_CONTINUE, 30)
    two.home.held = [orphan(grant)]
    assert not (await two.home.beat()).revoked
    result_id = await two.home.succeed(grant)
    assert (await two.home.acked(result_id)).status == COMMITTED
    assert (await two.head.ended(run_id)).row.state == RunState.COMPLETED
    _, attempts = await two.head.engine.step_run(run_id, 0, -1)
    assert [attempt.number for attempt in attempts] == [1]


async def test_an_orphan_that_was_asked_about_before_its_run_came_is_not_ended_by_the_answer(two: Two) -> None:
    run_id, grant = await two.run_at_other()
    await two.other_dies(run_id)
    await two.home.beat(elsewhere=[orphan(grant)])
    assert await two.head.supervisor.adopt_runs([run_id]) == 1
    await two.home.beat(elsewhere=[orphan(grant)])
    await until(asks(two.head, False))
    assert {each.verdict for each in two.home.verdicts} == {wire.VERDICT_CONTINUE}
    await two.home.succeed(grant)
    await two.head.ended(run_id)


async def test_a_grant_that_died_on_its_way_is_made_anew_once_its_stream_is_over(two: Two) -> None:
    """As long as that stream is open, the grant may be on its way still."""
    run_id, _ = await two.run_at_other()
    session = two.link.welcome
    assert session is not None
    # As a member keeps it: the process that had the session is known.
    row = LinkRow(two.link.agent_id, "c2", session.session_epoch, two.link.boot_id)
    two.world.database.agent_links[row.agent_id, row.coordinator_id] = row
    await two.head_takes(run_id)
    await two.home.beat(names_all=True, open_sessions=[session.session_epoch])
    await two.home.beat(names_all=True, links_pending=True)
    await two.home.beat()
    assert not two.home.grants
    await two.home.beat(names_all=True, tells_given_up=True)
    again = await two.home.grant()
    assert again.attempt == 1, "it has never begun"
    await two.home.succeed(again)
    assert (await two.head.ended(run_id)).row.state == RunState.COMPLETED


async def test_what_an_orphan_of_a_run_at_rest_is_told_the_head_says_and_nobody_else(two: Two) -> None:
    run_id, grant = await two.run_at_other()
    await two.link.succeed(grant)
    await two.other.ended(run_id)
    two.other.supervisor.fleet.head_epoch = two.head.supervisor.epoch
    named = [orphan(grant), orphan(grant, wire.LEASE_PHASE_FINISHED_UNACKED)]
    await two.link.beat(elsewhere=named)
    await two.home.beat(elsewhere=named)
    await two.home.until(lambda: len(two.home.verdicts) == 2)
    assert [each.verdict for each in two.home.verdicts] == [wire.VERDICT_ABORT, wire.VERDICT_SEND_RESULT]
    # As long ago the question would have been answered there, too.
    result_id = await two.link.succeed(grant)
    assert (await two.link.acked(result_id)).status == STALE
    assert two.link.verdicts == []


async def test_the_runs_owner_ends_what_it_has_given_up_and_is_silent_of_newer_tokens(two: Two) -> None:
    run_id = await two.head.start(ONE_STEP)
    grant = await two.home.grant()
    await two.home.hand_back(grant)
    again = await two.home.grant()
    newer = wire.HeldLease(lease=again.lease)
    newer.lease.token += 100
    await two.home.beat(elsewhere=[orphan(grant), newer])
    (verdict,) = two.home.verdicts
    assert (verdict.verdict, verdict.lease) == (wire.VERDICT_ABORT, grant.lease)
    await two.home.succeed(again)
    await two.head.ended(run_id)


async def test_while_the_database_is_away_nobody_is_told_that_a_result_is_late(two: Two) -> None:
    run_id, grant = await two.run_at_other()
    await two.link.succeed(grant)
    await two.other.ended(run_id)
    two.world.database.there.clear()
    result_id = await two.home.succeed(grant)
    await until(asks(two.head, True))
    await until(asks(two.head, False))
    assert two.home.acks == []
    two.world.database.there.set()
    await two.home.say(results=wire.Results(results=[two.home.results[result_id]]))
    assert (await two.home.acked(result_id)).status == STALE


def member(name: str, epoch: int) -> CoordinatorRow:
    return CoordinatorRow(name, OwnershipState.MEMBER, epoch, 1, 10_000_000, f"{name}:7070", "", 0)


async def test_a_head_names_its_members_to_agents_that_keep_streams_with_them(two: Two) -> None:
    fleet = two.head.supervisor.fleet
    welcome = two.home.welcome
    assert welcome is not None
    assert (list(welcome.features), welcome.head_epoch) == (["links"], two.head.supervisor.epoch)
    assert two.home.peers == [], "nobody has joined"
    fleet.tell_peers([member("c3", 9), member("c2", 8)])
    fleet.tell_peers([member("c2", 8), member("c3", 9)])
    await two.home.until(lambda: bool(two.home.peers))
    late = linked(two.head)
    late.boot_id = two.home.boot_id
    late.stream = 2
    await late.connect()
    await late.until(lambda: bool(late.peers))
    for agent in (two.home, late):
        (peers,) = agent.peers
        assert [(each.coordinator_id, each.address, each.epoch) for each in peers.members] == [
            ("c2", "c2:7070", 8),
            ("c3", "c3:7070", 9),
        ]
    fleet.tell_peers([])
    await late.until(lambda: len(late.peers) == 2)
    assert not late.peers[1].members
    later = linked(two.head)
    later.boot_id, later.stream = two.home.boot_id, 3
    await later.connect()
    await later.until(lambda: bool(later.peers))
    assert not later.peers[0].members, "it may not have heard that they are gone"


async def test_which_members_an_agent_is_linked_with_is_known_at_the_head(two: Two) -> None:
    fleet = two.head.supervisor.fleet
    (session,) = fleet.sessions()
    before, shared = fleet.links_generation, session.holder.shares_slots
    await two.home.beat(links=["c2@8"])
    assert session.links == {"c2@8"}
    assert (shared, session.holder.shares_slots) == (False, True), "of its slots others may have what is free"
    assert fleet.links_generation > before
    before = fleet.links_generation
    await two.home.beat(links=["c2@8"])
    assert fleet.links_generation == before


async def test_an_agent_that_has_seen_a_newer_head_is_no_guest_of_members_of_the_former_one(two: Two) -> None:
    two.other.supervisor.fleet.head_epoch = two.head.supervisor.epoch
    agent = linked(two.other)
    agent.beside = {"highest_head_epoch_seen": two.head.supervisor.epoch + 1}
    code, details = await agent.refused()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "has taken over" in details


async def test_lines_of_a_run_that_another_owner_has_are_sent_to_that_one(two: Two) -> None:
    run_id, grant = await two.run_at_other()
    two.head.supervisor.fleet.tell_peers([member("c2", 8)])
    hub = LogHub(two.head.stores.logs, 1 << 20, 1 << 20)
    hub.start()
    supervisor = two.head.supervisor
    intake = LogIntake(two.head.engine, LiveHere(supervisor), hub, supervisor.clock)
    record = wire.LogRecord(number=1, source=wire.LOG_SOURCE_STDOUT, text="hello")
    request = wire.PushLogsRequest(
        agent_id="agent-1", batches=[wire.LogBatch(lease=grant.lease, attempt=1, records=[record])]
    )

    async def stream() -> AsyncIterator[wire.PushLogsRequest]:
        yield request

    with pytest.raises(CallError) as refused:
        await intake.receive(stream())
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "RUN_MOVED")
    assert refused.value.metadata["run_id"].replace("-", "") == run_id.hex()
    await two.link.succeed(grant)
    await two.other.ended(run_id)
    assert (await intake.receive(stream())).accepted_lines == 1
    await hub.close(1.0)


async def test_what_waits_for_an_answer_is_bounded_by_its_outputs(two: Two) -> None:
    late, (session,) = two.head.supervisor.fleet.late_results, two.head.supervisor.fleet.sessions()
    result = AttemptEnded(0, 0, -1, 1, b"first", session.epoch, None, bytes(MOST_WAITING_BYTES))
    late.take(session, bytes(16), result)
    late.take(session, bytes(16), replace_struct(result, result_id=b"second", output=b"1"))
    await two.home.until(lambda: bool(two.home.acks))
    await until(asks(two.head, False))
    late.take(session, bytes(16), replace_struct(result, result_id=b"third"))
    await two.home.until(lambda: len(two.home.acks) == 2)
    assert [ack.result_id for ack in two.home.acks] == [b"first", b"third"]


async def test_who_has_no_members_reads_no_row_for_what_comes_late(two: Two) -> None:
    run_id = await two.head.start(ONE_STEP)
    result_id = await two.home.succeed(await two.home.grant())
    assert (await two.home.acked(result_id)).status == COMMITTED
    await two.head.ended(run_id)
    two.world.database.there.clear()
    assert not await LiveHere(two.head.supervisor).is_elsewhere(run_id)
    await two.home.say(results=wire.Results(results=[two.home.results[result_id]]))
    await two.home.until(lambda: len(two.home.acks) == 2)
    assert two.home.acks[1].status == wire.RESULT_ACK_STATUS_DUPLICATE
    two.world.database.there.set()


async def test_a_member_that_leaves_says_so_and_its_agents_wait_for_the_next_owner(two: Two) -> None:
    run_id, _ = await two.run_at_other()
    two.other.supervisor.fleet.head_epoch = two.head.supervisor.epoch
    two.other.supervisor.fleet.send_on(two.head.address)
    await two.link.until(lambda: two.link.ended.is_set())
    assert two.link.moved == [run_id]


async def test_a_lease_of_an_agent_that_never_comes_back_is_given_up_after_its_whole_life(two: Two) -> None:
    run_id, _ = await two.run_at_other()
    await two.head_takes(run_id)
    two.world.clock.move(Timing().lease_ttl + Timing().expiry_margin)
    await two.home.beat()
    two.head.supervisor.run_periodic()
    again = await two.home.grant()
    assert again.attempt == 2
    await two.home.succeed(again)
    await two.head.ended(run_id)
