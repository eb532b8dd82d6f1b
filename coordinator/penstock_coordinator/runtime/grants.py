"""From a committed lease to the grant on the wire: finds the inputs, numbers the grant, hands it to the session."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.plan.model import MapForm
from penstock_coordinator.core.plan.naming import run_id_text
from penstock_coordinator.core.plan.references import BadReference, may_refer, references_in
from penstock_coordinator.core.plan.spilled import NotLoaded
from penstock_coordinator.core.plan.values import InvalidJson, UnresolvableInput, dump_again, inputs_of, parse
from penstock_coordinator.core.run.events import WHOLE, Charge, Failure
from penstock_coordinator.core.run.messages import InputsUnresolved, LeaseGone
from penstock_coordinator.core.run.places import place_of, spelled_place
from penstock_coordinator.core.run.raised import memory_of
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.actor import Actor, Mail
from penstock_coordinator.runtime.artifact_rows import use_rows, work_row
from penstock_coordinator.runtime.artifact_uses import UseWriter
from penstock_coordinator.runtime.outputs import (
    InputSource,
    ListCache,
    NotCached,
    OutputCache,
    cached_item,
    cached_output,
    read_output,
)
from penstock_coordinator.runtime.session import AgentSession, Enclosed, enclosed, task_spec

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.leases import Lease, LeaseKey
    from penstock_coordinator.core.plan.model import Json, Step
    from penstock_coordinator.core.plan.references import Reference
    from penstock_coordinator.core.plan.spilled import Load
    from penstock_coordinator.core.run.commands import GrantLeases
    from penstock_coordinator.core.traces.ids import TraceContext
    from penstock_coordinator.runtime.supervisor import Supervisor

NO_PARAMETERS = b"{}"
ENVIRONMENT_VALUE_BYTES = 1024
"""Parameters of more JSON than this are not put into the environment of steps."""
MOST_PREPARED = 8
"""Grants of one command: of many it costs the time of others, and nobody gains by it."""
RETRY_READ = 0.2
"""Seconds between attempts to read an output while the database is away."""


@dataclass(slots=True)
class _Read:
    """What was read for one grant: the caches may be too small for all of it."""

    outputs: dict[tuple[int, int], bytes] = field(default_factory=dict)
    values: dict[str, Json] = field(default_factory=dict)


class Prepared(NamedTuple):
    """A grant that is made before its lease is committed. Nobody has seen it."""

    grant: Enclosed
    inputs: dict[str, bytes]


PreparedGrants: TypeAlias = dict[tuple[int, int, int], Prepared]
"""By (step, item, token), of one turn."""
_NONE: PreparedGrants = {}


class Granter:
    def __init__(self, supervisor: Supervisor, outputs: OutputCache | None = None) -> None:
        """`outputs`: another cache than that of live runs."""
        self._supervisor = supervisor
        self._own_outputs = outputs
        self._reading: set[asyncio.Task[None]] = set()
        self._lists = ListCache()
        self._uses = UseWriter(supervisor)

    @property
    def _outputs(self) -> OutputCache:
        return self._own_outputs or self._supervisor.outputs

    def prepare(self, actor: Actor, command: GrantLeases) -> PreparedGrants:
        """What can be made of the grants while their leases are being committed, which takes as long as all the rest of
        a hand-over. Those are left out that need more than what is in memory."""
        prepared: PreparedGrants = {}
        for step, item, attempt in command.leases[:MOST_PREPARED]:
            with contextlib.suppress(NotCached, NotLoaded, UnresolvableInput):
                inputs = self._inputs(actor, actor.plan.steps[step], item, _Read())
                grant = self._message(actor, (actor.run_id, step, item), command.token, attempt, inputs)
                prepared[step, item, command.token] = Prepared(grant, inputs)
        return prepared

    def grant(self, actor: Actor, command: GrantLeases, prepared: PreparedGrants = _NONE) -> None:
        """`prepared`: what `prepare` gave for the command."""
        session = self._supervisor.fleet.session(command.session)
        if session is None:
            for step, item, _ in command.leases:
                self._gone(actor, step, item, command.token, "session_gone")
            return
        line = actor.run.line_at(command.line)
        for step, item, attempt in command.leases:
            lease = self._supervisor.fleet.leasing.add(
                session.holder, (actor.run_id, step, item), command.token, attempt, line
            )
            ready = prepared.get((step, item, command.token))
            if ready is None:
                self._send(actor, session, lease)
            else:
                self._note_and_deliver(actor, session, lease, ready)

    def _send(self, actor: Actor, session: AgentSession, lease: Lease) -> None:
        try:
            inputs = self._inputs(actor, actor.plan.steps[lease.key[1]], lease.key[2], _Read())
        except (NotCached, NotLoaded):
            task = asyncio.create_task(self._read_and_send(actor, session, lease))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
            return
        except UnresolvableInput as error:
            self._unresolvable(actor, lease, str(error))
            return
        self._note_and_deliver(actor, session, lease, self._made(actor, lease, inputs))

    def _made(self, actor: Actor, lease: Lease, inputs: dict[str, bytes]) -> Prepared:
        return Prepared(self._message(actor, lease.key, lease.token, lease.attempt, inputs), inputs)

    def _note_and_deliver(self, actor: Actor, session: AgentSession, lease: Lease, made: Prepared) -> None:
        """Whoever is given artifacts gets the grant when it is stored that they were."""
        grant, inputs = made
        self._complete(actor, session, lease, grant.grant)
        for data in inputs.values():
            if may_refer(data):
                break
        else:
            self._deliver(actor, session, lease, grant)
            return
        try:
            uses = use_rows(
                work_row(actor.run, lease.key[1], lease.key[2], lease.attempt, lease.token),
                self._supervisor.clock.now(),
                [(name, each.digest) for name, data in inputs.items() for each in _references(data)],
            )
        except BadReference as error:
            self._unresolvable(actor, lease, str(error))
            return
        self._uses.note(
            [(actor.run_id, use) for use in uses], lambda: self._deliver_noted(actor, session, lease, grant)
        )

    def _deliver_noted(self, actor: Actor, session: AgentSession, lease: Lease, grant: Enclosed) -> None:
        if self._supervisor.fleet.leases.find(lease.key) is not lease:
            return
        if lease.stop is not None:
            self._drop(actor, lease, "stopped_before_start")
        else:
            self._deliver(actor, session, lease, grant)

    def _deliver(self, actor: Actor, session: AgentSession, lease: Lease, grant: Enclosed) -> None:
        if self._supervisor.fleet.refuses(session):
            self._drop(actor, lease, "agent_paused")
            return
        fleet = self._supervisor.fleet
        grant.grant.grant_seq = fleet.leasing.send(session, lease, self._supervisor.clock.monotonic())
        session.grant(grant)
        fleet.urgent[session] = None

    async def _read_and_send(self, actor: Actor, session: AgentSession, lease: Lease) -> None:
        """The inputs are not in memory: read them, while others go on. What was read is kept until the grant is built:
        the cache may be too small for all of it."""
        read = _Read()
        while self._supervisor.fleet.leases.find(lease.key) is lease:
            if lease.stop is not None:
                self._drop(actor, lease, "stopped_before_start")
                return
            try:
                try:
                    inputs = self._inputs(actor, actor.plan.steps[lease.key[1]], lease.key[2], read)
                except (NotCached, NotLoaded) as missing:
                    await self._read_again(actor, missing, read)
                    continue
            except UnresolvableInput as error:
                self._unresolvable(actor, lease, str(error))
                return
            self._note_and_deliver(actor, session, lease, self._made(actor, lease, inputs))
            return

    async def _read_again(self, actor: Actor, missing: NotCached | NotLoaded, read: _Read) -> None:
        try:
            await self._read(actor, missing, read)
        except Unavailable:
            await asyncio.sleep(RETRY_READ)

    async def _read(self, actor: InputSource, missing: NotCached | NotLoaded, read: _Read) -> None:
        supervisor = self._supervisor
        if isinstance(missing, NotLoaded):
            read.values[missing.reference.digest] = await supervisor.spilled.read(missing.reference)
        else:
            found = await read_output(self._outputs, supervisor.stores.runs, actor, missing)
            read.outputs[missing.step, missing.item] = found

    def _output(self, actor: InputSource, step: int, read: _Read) -> bytes:
        found = read.outputs.get((step, WHOLE))
        return cached_output(self._outputs, actor, step) if found is None else found

    def _item(self, actor: InputSource, step: Step, item: int, read: _Read) -> bytes:
        """The value of the item as JSON. Of a step that goes along with another one it is in the output of an item."""
        over = step.map
        assert over is not None
        followed = over.followed
        if followed is None:
            return dump_again(actor.run.item_value(step.number, item))
        groups = actor.run.groups_of(step.number) if over.form is MapForm.NESTED else None
        owner, position = (item, 0) if groups is None else groups.at(item)
        output = read.outputs.get((followed, owner))
        if output is None:
            output = cached_item(self._outputs, actor, followed, owner)
        if groups is None:
            return output
        key = (actor.run_id, actor.run.generation, step.number, owner)
        return self._lists.member(key, output, over.path, position, self._load(read))

    def _load(self, read: _Read) -> Load:
        spilled = self._supervisor.spilled

        def load(reference: Reference) -> Json:
            return read.values[reference.digest] if reference.digest in read.values else spilled.get(reference)

        return load

    def _undone(self, actor: InputSource, step: Step, item: int, read: _Read) -> bytes:
        """The output of the step run that is undone."""
        assert step.undoes is not None
        found = read.outputs.get((step.undoes, item))
        return cached_item(self._outputs, actor, step.undoes, item) if found is None else found

    def _message(self, actor: Actor, key: LeaseKey, token: int, attempt: int, inputs: dict[str, bytes]) -> Enclosed:
        """The grant as far as it hangs on no session."""
        run_id, step_number, item = key
        plan = actor.plan
        step = plan.steps[step_number]
        place = place_of(plan, actor.run, step_number, item)
        name = step.name + spelled_place(place)
        made = enclosed()
        grant = made.grant
        grant.attempt, grant.display_name, grant.step_name = attempt, name, step.name
        grant.pipeline, grant.parameters = plan.pipeline, actor.environment_json
        grant.idempotency_key = f"{run_id_text(run_id)}/{name}"
        grant.credential = self._supervisor.credentials.issue(key, token)
        if place:
            grant.place.extend(place)
        # A map's own `update` takes several times as long.
        given = grant.inputs
        for name, data in inputs.items():
            given[name] = data
        ref = grant.lease
        (ref.run_id, ref.step, ref.item), ref.token = key, token
        traces = self._supervisor.traces
        if traces is None:
            _carry(grant, actor.trace_context)
        elif actor.sampled or actor.trace_context:
            _carry(grant, traces.for_attempt(actor, step_number, item, token))
        else:
            grant.unsampled = True
        return made

    def _complete(self, actor: Actor, session: AgentSession, lease: Lease, grant: wire.LeaseGrant) -> None:
        """The agent hears of a task with the first grant of it that is sent."""
        plan, (_, number, item) = actor.plan, lease.key
        step = plan.steps[number]
        if grant.unsampled and not session.derives_trace:
            assert self._supervisor.traces is not None
            grant.unsampled = False
            _carry(grant, self._supervisor.traces.for_attempt(actor, number, item, lease.token))
        if lease.line is not plan.lines[step.line]:
            grant.memory_bytes = memory_of(lease.line)
        grant.task, new = session.tasks.number(plan, number)
        if new:
            grant.task_spec.CopyFrom(task_spec(plan, step))

    def _inputs(self, actor: InputSource, step: Step, item: int, read: _Read) -> dict[str, bytes]:
        if actor.parameters is None:
            given = actor.parameters_json
            actor.parameters = parameters = {} if given == NO_PARAMETERS else json.loads(given)
            # All of them are small enough if they are together.
            actor.environment_json = given if len(given) <= ENVIRONMENT_VALUE_BYTES else _environment(parameters)
        if not step.inputs:
            return {}
        return inputs_of(
            actor.plan,
            step,
            actor.parameters,
            lambda: self._item(actor, _whose_item(actor, step), item, read),
            lambda upstream: self._output(actor, upstream, read),
            actor.limits,
            lambda: self._undone(actor, step, item, read),
            self._load(read),
        )

    async def inputs_for(self, actor: InputSource, step: int, item: int) -> dict[str, bytes]:
        """The inputs of a step run as JSON, by name, of what is not in memory too. Raises `UnresolvableInput`,
        `Unavailable`."""
        read = _Read()
        while True:
            try:
                return self._inputs(actor, actor.plan.steps[step], item, read)
            except (NotCached, NotLoaded) as missing:
                await self._read(actor, missing, read)

    def _unresolvable(self, actor: Actor, lease: Lease, message: str) -> None:
        _, step, item = lease.key
        self._supervisor.fleet.leasing.end(lease.key, lease.token)
        failure = Failure("Input", message)
        actor.post(Mail(InputsUnresolved(self._supervisor.clock.now(), step, item, lease.token, failure)))

    def _drop(self, actor: Actor, lease: Lease, cause: str) -> None:
        self._supervisor.fleet.leasing.end(lease.key, lease.token)
        self._gone(actor, lease.key[1], lease.key[2], lease.token, cause)

    def _gone(self, actor: Actor, step: int, item: int, token: int, cause: str) -> None:
        actor.post(Mail(LeaseGone(self._supervisor.clock.now(), step, item, token, cause, Charge.NOBODY)))


def _carry(grant: wire.LeaseGrant, context: TraceContext) -> None:
    if context:
        carried = grant.trace_context
        for name, value in context:
            carried[name] = value


def _references(data: bytes) -> list[Reference]:
    """Constants of a pipeline may be no JSON that is looked through: then there are none."""
    try:
        return references_in(parse(data)) if may_refer(data) else []
    except InvalidJson:
        return []


def _whose_item(actor: InputSource, step: Step) -> Step:
    """The item of a step that undoes another one is that one's."""
    return step if step.undoes is None else actor.plan.steps[step.undoes]


def _environment(parameters: dict[str, object]) -> bytes:
    """The parameters that are small enough for an environment, as JSON."""
    texts = ((name, json.dumps(value, separators=(",", ":"))) for name, value in parameters.items())
    small = (f"{json.dumps(name)}:{text}" for name, text in texts if len(text) <= ENVIRONMENT_VALUE_BYTES)
    return ("{" + ",".join(small) + "}").encode()
