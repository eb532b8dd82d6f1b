"""What must always hold, each with a name. Those of the journal are looked at whenever something rests on it."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.shell.clients import Told
from tests.simulation.shell.world import EPOCH, Broken
from tests.unit.run.auditor import Auditor

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1 import run_service_pb2
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import decode
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.invariants import check_invariants
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.shell.machines import AgentMachine, CoordinatorMachine, Edge, Machine
    from tests.simulation.shell.world import World

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.runtime.supervisor import Supervisor

Lease = tuple[int, int, int]
"""Step, item, token."""


def require(holds: object, name: str, *words: object) -> None:
    if not holds:
        raise Broken(f"{name}: {' '.join(map(str, words))}")


@dataclass
class Story:
    """One run as its journal tells it."""

    auditor: Auditor
    run: Run
    seq: int = 0
    leased: set[Lease] = field(default_factory=set)
    over: set[Lease] = field(default_factory=set)
    """Leases that ended, in whatever way."""
    completed: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """How often, by step, item and generation."""
    lost: list[e.LeaseLost] = field(default_factory=list)

    def tell(self, seq: int, event: e.Event) -> None:
        require(seq == self.seq + 1, "one writer", f"event {seq} after {self.seq}")
        self.seq = seq
        if type(event) is e.StepsLeased:
            self.leased.update((step, item, seq) for step, item, _ in event.leases)
        elif isinstance(event, e.StepCompleted | e.AttemptFailed | e.LeaseLost) and event.token:
            lease = (event.step, event.item, event.token)
            require(lease in self.leased, "tokens", f"{event} of no lease")
            require(lease not in self.over, "once", f"{event} of a lease that was over")
            self.over.add(lease)
        if type(event) is e.LeaseLost:
            self.lost.append(event)
        if type(event) is e.StepCompleted:
            key = (event.step, event.item, self.run.generation)
            self.completed[key] = self.completed.get(key, 0) + 1
            require(self.completed[key] == 1, "once", f"{event} a second time")
        try:
            self.auditor.read(seq, event)
        except AssertionError as error:
            raise Broken(f"order: {event}: {error!r}") from error
        evolve(self.run, seq, event)


class Journal:
    """Reads what is committed, as it comes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stories: dict[bytes, Story] = {}
        self._plans: dict[str, Plan] = {}
        self.compared: dict[bytes, int] = {}
        """Of each run, the number of the event after which its actor was compared with it."""
        self.kinds: Counter[str] = Counter()
        """How many events of each kind there were."""

    def story(self, run_id: bytes) -> Story | None:
        """None of a run that is not there."""
        records = self._world.database.records.get(run_id)
        if not records:
            return None
        story = self._stories.get(run_id)
        seq = 0 if story is None else story.seq
        while (record := records.get(seq + 1)) is not None:
            for seq, event in enumerate(decode(record.payload), record.first_seq):
                if story is None:
                    assert isinstance(event, e.RunStarted)
                    plan = self._plan(event.version_digest)
                    story = self._stories[run_id] = Story(Auditor(plan), Run(plan, run_id))
                self.kinds[type(event).__name__] += 1
                story.tell(seq, event)
            require(seq == record.last_seq, "replay", f"record {record.first_seq} ends with {seq}")
        return story

    def all(self) -> dict[bytes, Story]:
        for run_id in self._world.database.records:
            self.story(run_id)
        return self._stories

    def _plan(self, digest: str) -> Plan:
        if digest not in self._plans:
            version = next(
                row for kept in self._world.database.pipelines.values() for row in kept.versions if row.digest == digest
            )
            self._plans[digest] = compile_plan(PipelineSpec.FromString(version.spec), digest)
        return self._plans[digest]


class Wiretap:
    """Hears every message at the moment that it is sent."""

    def __init__(self, journal: Journal) -> None:
        self.broken: Broken | None = None
        """The first that it heard: who speaks must not notice."""
        self._journal = journal
        self._limits: dict[object, int] = {}
        """By connection, the credits that the agent has given in its session."""
        self._seqs: dict[object, int] = {}

    def up(self, connection: object, message: object) -> None:
        self._hear(self._up, connection, message)

    def down(self, connection: object, message: object) -> None:
        self._hear(self._down, connection, message)

    def answer(self, method: str, data: bytes) -> None:
        """Of a call with one answer."""
        self._hear(self._answer, method, data)

    def _hear(self, check: Callable[..., None], *heard: object) -> None:
        try:
            check(*heard)
        except Broken as broken:
            self.broken = self.broken or broken

    def _up(self, connection: object, message: object) -> None:
        if not isinstance(message, wire.AgentMessage):
            return
        self._in_order(connection, "up", message.seq)
        if message.HasField("hello"):
            self._limits[connection] = 0
        elif message.HasField("credits"):
            limit = message.credits.grant_limit
            require(limit >= self._limits[connection], "credits", f"fell from {self._limits[connection]} to {limit}")
            self._limits[connection] = limit

    def _down(self, connection: object, message: object) -> None:
        if not isinstance(message, wire.CoordinatorMessage):
            return
        self._in_order(connection, "down", message.seq)
        for grant in message.lease_grants.grants:
            limit = self._limits[connection]
            require(grant.grant_seq <= limit, "credits", f"grant {grant.grant_seq} of {limit}")
            lease = _lease(grant.lease)
            story = self._journal.story(grant.lease.run_id)
            require(
                story is not None and lease in story.leased, "durable first", "a grant that is not committed", lease
            )
        for ack in message.result_acks.acks:
            self._acknowledged(ack)

    def _in_order(self, connection: object, direction: str, seq: int) -> None:
        key = (connection, direction)
        require(seq == self._seqs.get(key, 0) + 1, "order", f"message {seq} after {self._seqs.get(key, 0)}")
        self._seqs[key] = seq

    def _acknowledged(self, ack: wire.ResultAck) -> None:
        """The agent forgets the result now: nothing may be lost with it."""
        story = self._journal.story(ack.lease.run_id)
        step, item, token = _lease(ack.lease)
        if ack.status == wire.RESULT_ACK_STATUS_COMMITTED:
            committed = story is not None and (step, item, token) in story.over
            require(committed, "durable first", "a result was acknowledged and is not committed", step, item, token)
        elif ack.status in (wire.RESULT_ACK_STATUS_STALE, wire.RESULT_ACK_STATUS_DUPLICATE):
            open_leases = set() if story is None else story.leased - story.over
            require((step, item, token) not in open_leases, "nothing lost", "a wanted result was refused", step, item)

    def _answer(self, method: str, data: bytes) -> None:
        if method.endswith("RunService/Start"):
            run_id = uuid.UUID(run_service_pb2.StartRunResponse.FromString(data).run.id).bytes
            require(self._journal.story(run_id) is not None, "durable first", f"{run_id.hex()} is told and not stored")


def _lease(ref: wire.LeaseRef) -> Lease:
    return ref.step, ref.item, ref.token


# --- while it goes on


def check_coordinator(supervisor: Supervisor) -> None:
    """Books that must be right after every callback."""
    for session in supervisor.fleet.sessions():
        capacity = session.capacity
        name = f"session {session.epoch} of {capacity.agent}"
        require(capacity.permits >= 0, "credits", name, f"has {capacity.permits} permits")
        require(capacity.leases >= 0, "credits", name, f"has {capacity.leases} leases")
        require(
            capacity.granted + capacity.permits <= capacity.grant_limit or not capacity.permits,
            "credits",
            name,
            f"{capacity.granted} granted and {capacity.permits} promised of {capacity.grant_limit}",
        )
        sent = sum(lease.sent for lease in session.holder.leases.values())
        require(capacity.leases == sent, "books", name, f"counts {capacity.leases} leases and has {sent}")
    agents = [session.holder.agent for session in supervisor.fleet.sessions()]
    require(len(agents) == len(set(agents)), "one session", agents)


def check_actors(supervisor: Supervisor, journal: Journal, *, clocks_are_right: bool) -> None:
    """What a coordinator has in memory is what the journal tells."""
    for run_id, actor in supervisor._actors.items():
        if actor.discarded or actor.in_flight or not actor.committed_seq:
            continue
        if journal.compared.get(run_id) == actor.committed_seq:
            continue
        story = journal.story(run_id)
        require(story is not None, "durable first", f"{run_id.hex()} is not in the journal")
        assert story is not None
        if actor.has_mail or story.seq != actor.committed_seq or story.seq != actor.run.seq:
            continue
        journal.compared[run_id] = story.seq
        if clocks_are_right:
            try:
                check_invariants(actor.run)
            except AssertionError as error:
                raise Broken(f"order: {run_id.hex()}: {error!r}") from error
        require(_told(actor.run) == _told(story.run), "replay", run_id.hex(), _told(actor.run), _told(story.run))


def _told(run: Run) -> tuple[object, ...]:
    return run.state, bytes(run.states), run.tallies, run.generation, run.running, run.first_failure


# --- at the end


def check_runs(journal: Journal, told: Told) -> None:
    """Every accepted run is at rest, and is what its clients were told."""
    for request_id, text in told.started.items():
        story = journal.story(uuid.UUID(text).bytes)
        require(story is not None, "durable first", f"{request_id} was accepted as {text}, which is not there")
    for run_id, story in journal.all().items():
        require(story.run.at_rest, "nothing lost", f"{run_id.hex()} is {story.run.state.name}")
        require(not story.leased - story.over, "nothing lost", f"{run_id.hex()} has leases that never ended")
    for text, (state, last) in told.ended.items():
        found = journal.story(uuid.UUID(text).bytes)
        assert found is not None
        if found.seq == last:
            require(found.run.state == RunState(state), "answers", text, f"was told to be {RunState(state).name}")


def check_requests(journal: Journal, world: World, told: Told) -> None:
    """Each request id started one run at most."""
    mothers = {row.origin.parent.run_id for row in world.database.runs.values() if row.origin.parent is not None}
    started = {uuid.UUID(text).bytes for text in told.started.values()}
    tops = {run_id for run_id, row in world.database.runs.items() if row.origin.parent is None}
    require(len(tops) <= len(told.asked), "idempotent", f"{len(told.asked)} requests started {len(tops)} runs")
    require(started <= tops, "idempotent", "a client was told of a run that is not there")
    require(mothers <= set(world.database.runs), "nothing lost", "a run is a step of one that is not there")


def check_rest(supervisor: Supervisor) -> None:
    """A coordinator without work holds nothing."""
    empty = {
        "actors": supervisor._actors,
        "remaking": supervisor.remaking._tasks,
        "set aside": supervisor.set_aside,
        "waiters": supervisor.endings._waiters,
        "leases": supervisor.fleet.leases._leases,
        "run keys": supervisor.key_turns._turnstiles,
        "children starting": supervisor.children._starting,
        "children's tasks": supervisor.children._tasks,
        "grants being read": supervisor._granter._reading,
        "run limits": supervisor.limits._runs._runs,
        "step limits": supervisor.limits._steps._keys,
        "limits' holders": {run: held for run, held in supervisor.limits._steps._held.items() if held},
        "limits' claims": {run: held for run, held in supervisor.limits._steps._claims.items() if held},
        "cancelled for others": supervisor.limits._cancelled,
        "who waits": supervisor.dispatcher._waited,
    }
    for name, found in empty.items():
        require(not found, "at rest is at rest", name, found)
    connected = {session.epoch for session in supervisor.fleet.sessions()}
    left = {holder.session for holder in supervisor.fleet.leases.holders()} - connected
    require(not left, "at rest is at rest", "holders", left)
    for session in supervisor.fleet.sessions():
        capacity = session.capacity
        require(not capacity.permits, "no slot leaked", f"{capacity.permits} permits of {capacity.agent}")
        require(not capacity.leases, "no slot leaked", f"{capacity.leases} leases of {capacity.agent}")
        require(not any(capacity.used.values()), "no slot leaked", capacity.used)
        require(
            capacity.room(next(iter(supervisor.dispatcher._lines))) > 0 if supervisor.dispatcher._lines else True,
            "no slot leaked",
            f"{capacity.agent} has no room",
        )


def check_edge(edge: Edge) -> None:
    """Nobody calls any more but agents: no seat is taken, and no call is under way that nobody waits for."""
    engine, hub = edge.backend.engine, edge.backend.hub
    empty = {
        "seats of watchers": engine.seats._count,
        "seats of who waits": engine.waiting_seats._count,
        "runs being opened again": engine._reopener._busy,
        "followers of logs": hub._followers,
        "lines on their way": hub._waiting,
    }
    for name, found in empty.items():
        require(not found, "at rest is at rest", name, found)
    calls = [call.method for call in edge.server.under_way() if "AgentService" not in call.method]
    require(not calls, "at rest is at rest", "calls", calls)


def check_agent_at_rest(machine: AgentMachine) -> None:
    agent = machine.agent
    if not machine.up or agent is None:
        return
    book = agent._holder.book
    empty = {
        "leases": book.all,
        "held": book.held,
        "unacknowledged": book.unacked.leases,
        "waiting for bundles": agent._staging._waiting,
        "lines": any(agent._logs.has_lines(link) for link in agent._logs._queues),
    }
    for name, found in empty.items():
        require(not found, "at rest is at rest", machine.name, name, found)
    require(not agent._spool.depth, "at rest is at rest", machine.name, f"{agent._spool.depth} spooled")


def check_ends(coordinator: CoordinatorMachine, agents: list[AgentMachine]) -> None:
    """Whoever was asked to end has ended well, and left nothing behind."""
    machines: list[Machine] = [coordinator, *agents]
    for machine in machines:
        require(not machine.up, "ends", f"{machine.process.name} did not end")
        require(not machine.left_over, "no task left", machine.process.name, machine.left_over)


SAID_BY_RIGHT = {
    "record refused": "append_failed",
    "coordinator doubled": "sent_away",
}
"""What operators are told of a fault, as an error."""


def check_complaints(world: World) -> None:
    allowed = tuple(said for kind, said in SAID_BY_RIGHT.items() if kind in world.faults)
    for complaint in world.complaints:
        require(complaint.event.startswith(allowed), "no fault of ours", complaint)
    for fault in world.loop.faults:
        require(False, "no fault of ours", *(f"{name}={each!r}" for name, each in fault.items()))


def check_undisturbed(world: World, journal: Journal) -> None:
    """Where no process, connection or clock was touched, every attempt ran once and ended as it ended itself."""
    ran = Counter((each.run, each.step, each.place, each.attempt) for each in world.ledger.executions)
    twice = [attempt for attempt, count in ran.items() if count > 1]
    require(not twice, "once", "attempts ran twice though nothing went wrong", twice)
    agents = len(world.database.agents)
    sessions = world.database.last_session_epoch
    require(sessions == agents, "no second execution without a cause", f"{agents} agents had {sessions} sessions")
    said = sum(len(chunk.lines) for chunks in world.database.logs.values() for chunk in chunks.values())
    printed = sum(each.lines for each in world.ledger.executions)
    require(said == printed, "logs", f"{printed} lines were printed, {said} are kept")
    for each in world.ledger.executions:
        row = world.database.runs[uuid.UUID(each.run).bytes]
        if row.pipeline == "timed":
            continue  # an overall timeout does not wait for what it stops
        end = (row.end_time or 0) - EPOCH
        require(each.ended is not None and each.ended <= end, "at rest is at rest", "a step outlived its run", each)
    for run_id, story in journal.all().items():
        charged = [loss for loss in story.lost if loss.charge is not e.Charge.NOBODY]
        require(not charged, "no second execution without a cause", run_id.hex(), charged)


def check_overlaps(world: World) -> None:
    """No two executions of one step run at once, unless an agent was frozen or cut off."""
    latest: dict[tuple[str, str, tuple[int, ...]], int] = {}
    for execution in sorted(world.ledger.executions, key=lambda each: each.began):
        key = (execution.run, execution.step, execution.place)
        require(latest.get(key, 0) <= execution.began, "no overlap", execution)
        latest[key] = max(latest.get(key, 0), world.loop.now if execution.ended is None else execution.ended)
