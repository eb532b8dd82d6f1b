"""The coordinator's end of one agent's stream.

The transport hands over what it reads and writes what `drain` gives; in between nothing waits. What is to be sent is
gathered by kind and leaves in lists: one message for all grants of a moment, one for all acknowledgements.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.duration_pb2 import Duration

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.fleet.connected import Connected
from penstock_coordinator.core.fleet.session import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock_coordinator.core.counts.grants import GrantCounts
    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey
    from penstock_coordinator.core.fleet.session import Held
    from penstock_coordinator.core.plan.model import Environment, Plan, Step
    from penstock_coordinator.ports import AgentRow, RunId

MAX_MESSAGE_BYTES = 1 << 20
MAX_ITEMS = 500
ACK_DELAY = 0.02
"""Seconds that an acknowledgement waits for others. Nothing waits for it but the agent's memory, and a message for each
would cost as much as the grant that follows from the result."""
MOST_WAITING_ACKS = 250
MOST_WAITING_MESSAGES = 5_000
"""Heartbeats' answers and the like, of an agent that talks and does not listen: its stream ends."""
KNOWN_TASKS = 4_096
"""Tasks that the session's table holds; the least recently used number is used again."""


def span(microseconds: int) -> Duration:
    return Duration(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1_000)


def microseconds(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + duration.nanos // 1_000


def lease_ref(key: LeaseKey, token: int) -> wire.LeaseRef:
    return wire.LeaseRef(run_id=key[0], step=key[1], item=key[2], token=token)


def lease_key(ref: wire.LeaseRef) -> LeaseKey:
    return ref.run_id, ref.step, ref.item


RECONNECT_AFTER = {"too_old": 30_000_000, "stale_coordinator": 1_000_000, "not_the_leader": 500_000}
"""Microseconds that an agent waits after a Goaway, and up to as much again: what goes on for long is not asked for
often. Otherwise it is back at once, spread enough that a thousand agents do not come in the same moment."""
RECONNECT_SOON = 100_000


PARTING = ("goaway", "redirect", "moved")
"""The words of one that owns no more."""


def goaway(reason: str, message: str = "") -> wire.Goaway:
    after = RECONNECT_AFTER.get(reason, RECONNECT_SOON)
    return wire.Goaway(reason=reason, reconnect_after=span(after), message=message)


class Acknowledgement(NamedTuple):
    """Of a result. It becomes a message when it is sent: until then something more urgent may be under way."""

    key: LeaseKey
    token: int
    result_id: bytes
    status: int
    reason: str = ""

    def message(self) -> wire.ResultAck:
        ack = wire.ResultAck(
            result_id=self.result_id, status=wire.ResultAckStatus.ValueType(self.status), reason=self.reason
        )
        ref = ack.lease
        (ref.run_id, ref.step, ref.item), ref.token = self.key, self.token
        return ack


class Enclosed(NamedTuple):
    """A grant in a message of its own. Messages that are put into others are copied, by way of bytes: one that goes
    alone is not."""

    message: wire.CoordinatorMessage
    grant: wire.LeaseGrant


def enclosed() -> Enclosed:
    message = wire.CoordinatorMessage()
    return Enclosed(message, message.lease_grants.grants.add())


def nobody() -> None:
    pass


class TaskTable:
    """Numbers for tasks, so that what does not change from attempt to attempt is sent once per session."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[tuple[str, tuple[str, ...], int], int] = OrderedDict()

    def number(self, plan: Plan, step: int) -> tuple[int, bool]:
        """The task's number, and whether the agent must be told what it means."""
        key = (plan.digest, plan.lineage, step)
        number = self._numbers.get(key)
        if number is not None:
            self._numbers.move_to_end(key)
            return number, False
        if len(self._numbers) >= KNOWN_TASKS:
            _, number = self._numbers.popitem(last=False)
        else:
            number = len(self._numbers) + 1
        self._numbers[key] = number
        return number, True


class AgentSession(Connected):
    """One connected stream of an agent."""

    def __init__(
        self,
        holder: Holder,
        capacity: Capacity,
        row: AgentRow,
        welcome: wire.Welcome,
        may_speak: Callable[[], bool],
        sent: GrantCounts,
        via: str = "",
    ) -> None:
        """`may_speak`: asked when something is to be written; while it is not so, nothing is said but where to go.
        `sent`: of the process."""
        super().__init__(holder, capacity)
        self._may_speak = may_speak
        self._sent = sent
        self.via = via
        """The coordinator that passes the stream on; "": nobody does."""
        self.row = row
        """What its Hello says of the agent, for people."""
        self.derives_trace = False
        """It knows the trace of a run that nobody samples without being told."""
        self.tasks = TaskTable()
        self.basis_seq = welcome.basis_seq
        """The newest message of the agent that was processed."""
        self.lease_ttl = welcome.lease_ttl
        self.knows_links = False
        """It keeps a stream with each owner of runs, and knows the words `Peers` and `Moved`."""
        self.links: frozenset[str] = frozenset()
        """The members that it has streams with, as "id@epoch"."""
        self.disk_low = False
        """By its last heartbeat it takes no work for lack of disk."""
        self.notes: dict[LeaseKey, str] = {}
        """What attempts that have not begun wait for, as its last heartbeat said it."""
        self._seq = 0
        self._wake = asyncio.Event()
        self.closed = asyncio.Event()
        self._plain: list[wire.CoordinatorMessage] = [wire.CoordinatorMessage(welcome=welcome)]
        self.on_urgent: Callable[[], None] = nobody
        """Called when what is gathered is waited for."""
        self._grants: list[Enclosed] = []
        self._acks: list[Acknowledgement] = []
        self._ack_timer: asyncio.TimerHandle | None = None
        self._acks_due = False
        self._cancels: dict[tuple[LeaseKey, int], wire.CancelledLease] = {}
        """Said again with each heartbeat: to an agent that does not read it is said once."""
        self._call_backs: list[wire.LeaseRef] = []
        self._wake.set()

    # --- what is to be sent

    def send(self, message: wire.CoordinatorMessage) -> None:
        """Goes after every grant that was gathered before it: an acknowledged heartbeat says what was granted."""
        self._plain.extend(self._granting())
        if len(self._plain) >= MOST_WAITING_MESSAGES:
            self._plain.clear()
            self.closed.set()
        self._plain.append(message)
        self._wake.set()

    def grant(self, grant: Enclosed) -> None:
        self._grants.append(grant)
        self._wake.set()

    def acknowledge(self, ack: Acknowledgement) -> None:
        self._acks.append(ack)
        if len(self._acks) >= MOST_WAITING_ACKS:
            self._wake.set()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_DELAY, self._send_acks)

    def _send_acks(self) -> None:
        self._ack_timer = None
        self._acks_due = True
        self._wake.set()

    def judge(self, verdicts: Sequence[tuple[Held, Verdict]], ttl: int) -> None:
        said = wire.LeaseVerdicts(basis_seq=self.basis_seq)
        for held, verdict in verdicts:
            said.verdicts.add(
                lease=lease_ref(held.key, held.token),
                verdict=wire.Verdict.ValueType(int(verdict)),
                ttl=span(ttl) if verdict is Verdict.CONTINUE else None,
            )
        self.send(wire.CoordinatorMessage(lease_verdicts=said))

    def answer_heartbeat(self, revoked: Sequence[Held], ttl: int, echo: int) -> None:
        ack = wire.HeartbeatAck(
            basis_seq=self.basis_seq,
            ttl=span(ttl),
            revoked=[lease_ref(held.key, held.token) for held in revoked],
            echo=echo,
        )
        self.send(wire.CoordinatorMessage(heartbeat_ack=ack))

    def cancel(self, lease: Lease) -> None:
        assert lease.stop is not None
        self._cancels[lease.key, lease.token] = wire.CancelledLease(
            lease=lease_ref(lease.key, lease.token), reason=lease.stop.reason, grace=span(lease.stop.grace)
        )
        self._wake.set()

    def call_back(self, lease: Lease) -> None:
        self._call_backs.append(lease_ref(lease.key, lease.token))
        self._wake.set()

    def pause(self, reason: str) -> None:
        self.send(wire.CoordinatorMessage(pause=wire.Pause(reason=reason)))

    def resume(self) -> None:
        self.send(wire.CoordinatorMessage(resume=wire.Resume()))

    def tell_peers(self, peers: wire.Peers) -> None:
        """Whom the agent is to keep streams with."""
        self.send(wire.CoordinatorMessage(peers=peers))

    def tell_moved(self, run_ids: Sequence[RunId]) -> None:
        """Its leases and results of these runs are for another coordinator."""
        for start in range(0, len(run_ids), MAX_ITEMS):
            self.send(wire.CoordinatorMessage(moved=wire.Moved(run_ids=run_ids[start : start + MAX_ITEMS])))

    def close(self, reason: str = "") -> None:
        """What is gathered is still written."""
        if reason:
            self.send(wire.CoordinatorMessage(goaway=goaway(reason)))
        self.closed.set()
        self._wake.set()

    async def wait_outgoing(self) -> None:
        """Returns when there is something to write, or the stream is to end."""
        await self._wake.wait()
        self._wake.clear()

    def drain(self) -> Iterator[wire.CoordinatorMessage]:
        """What is to be written now, numbered."""
        if not self._may_speak():
            self._forget()
        for message in self._gathered():
            self._seq += 1
            message.seq = self._seq
            yield message

    def _forget(self) -> None:
        """What was gathered by one that owned, and does no more: the owner of now says it, if it is still so."""
        self._plain = [each for each in self._plain if each.WhichOneof("body") in PARTING]
        for gathered in (self._grants, self._acks, self._cancels, self._call_backs):
            gathered.clear()

    def _gathered(self) -> Iterator[wire.CoordinatorMessage]:
        plain, self._plain = self._plain, []
        yield from plain
        yield from self._granting()
        cancels, self._cancels = list(self._cancels.values()), {}
        for start in range(0, len(cancels), MAX_ITEMS):
            yield wire.CoordinatorMessage(cancel=wire.Cancel(leases=cancels[start : start + MAX_ITEMS]))
        call_backs, self._call_backs = self._call_backs, []
        for start in range(0, len(call_backs), MAX_ITEMS):
            leases = call_backs[start : start + MAX_ITEMS]
            yield wire.CoordinatorMessage(return_leases=wire.Return(leases=leases))
        yield from self._acknowledging()

    def _acknowledging(self) -> Iterator[wire.CoordinatorMessage]:
        if not (self._acks_due or len(self._acks) >= MOST_WAITING_ACKS or self.closed.is_set()):
            return
        self._acks_due = False
        acks, self._acks = self._acks, []
        for start in range(0, len(acks), MAX_ITEMS):
            message = wire.CoordinatorMessage()
            message.result_acks.acks.extend(ack.message() for ack in acks[start : start + MAX_ITEMS])
            yield message

    def _granting(self) -> Iterator[wire.CoordinatorMessage]:
        grants, self._grants = self._grants, []
        if self.via:
            self._sent.relayed += len(grants)
        else:
            self._sent.direct += len(grants)
        if len(grants) == 1:
            yield self._of_grants(grants[0].message)
        elif grants:
            for part in _parts([each.grant for each in grants]):
                message = wire.CoordinatorMessage()
                message.lease_grants.grants.extend(part)
                yield self._of_grants(message)

    def _of_grants(self, message: wire.CoordinatorMessage) -> wire.CoordinatorMessage:
        message.lease_grants.basis_seq = self.basis_seq
        message.lease_grants.ttl.CopyFrom(self.lease_ttl)
        return message


def _parts(grants: list[wire.LeaseGrant]) -> Iterator[list[wire.LeaseGrant]]:
    """Lists that fit into one message each."""
    part: list[wire.LeaseGrant] = []
    size = 0
    for grant in grants:
        grant_size = grant.ByteSize() + 8
        if part and (len(part) >= MAX_ITEMS or size + grant_size > MAX_MESSAGE_BYTES - 1024):
            yield part
            part, size = [], 0
        part.append(grant)
        size += grant_size
    if part:
        yield part


def _task_environment(environment: Environment) -> wire.TaskEnvironment:
    from penstock_coordinator.core.plan.model import ContainerEnvironment

    if isinstance(environment, ContainerEnvironment):
        return wire.TaskEnvironment(container=wire.TaskContainer(image=environment.image, pull=environment.pull))
    return wire.TaskEnvironment(
        python=wire.TaskPythonEnvironment(
            requirements=environment.requirements,
            lock=environment.lock,
            pylock=environment.pylock,
            python=environment.python,
        )
    )


def task_spec(plan: Plan, step: Step) -> wire.TaskSpec:
    """What an agent must know of a step, whatever the run."""
    from penstock_coordinator.core.plan.model import CommandAction, FunctionAction

    action = step.action
    spec = wire.TaskSpec(
        env=dict(step.env),
        resources=dict(plan.lines[step.line].resources),
        stop_grace=span(plan.stop_grace),
        environment_digest=plan.lines[step.line].environment,
        allow_pickle=step.name in plan.pickling,
    )
    environment = plan.environments.get(spec.environment_digest)
    if environment is not None:
        spec.environment.CopyFrom(_task_environment(environment))
    spec.secrets.extend(wire.TaskSecret(name=use.name, env=use.env, file=use.file) for use in step.secrets)
    if step.timeouts.attempt is not None:
        spec.attempt_timeout.CopyFrom(span(step.timeouts.attempt))
    if isinstance(action, FunctionAction):
        spec.function.bundle_digest = plan.bundle_digest
        spec.function.module = action.module
        spec.function.qualname = action.qualname
        return spec
    assert isinstance(action, CommandAction), "no agent gets a step that is a run"
    spec.command.argv.extend(action.argv)
    spec.command.shell = action.shell
    spec.command.success_exit_codes.extend(action.success_exit_codes)
    spec.command.bundle_digest = plan.bundle_digest
    spec.command.outputs.extend(
        wire.CommandTaskOutput(
            name=output.name, stdout=output.stdout, file=output.file, json=output.json, artifact=output.artifact
        )
        for output in action.outputs
    )
    spec.command.input_files.update(action.input_files)
    return spec
