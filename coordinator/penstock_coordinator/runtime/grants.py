"""From a committed lease to the grant on the wire: finds the inputs, numbers the grant, hands it to the session."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.plan.model import MapForm
from penstock_coordinator.core.plan.naming import run_id_text
from penstock_coordinator.core.plan.values import UnresolvableInput, dump_again, inputs_of
from penstock_coordinator.core.run.events import WHOLE, Charge, Failure
from penstock_coordinator.core.run.messages import InputsUnresolved, LeaseGone
from penstock_coordinator.core.run.places import place_of, spelled_place
from penstock_coordinator.core.run.raised import memory_of
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.actor import Actor, Mail
from penstock_coordinator.runtime.outputs import (
    InputSource,
    ListCache,
    NotCached,
    OutputCache,
    cached_item,
    cached_output,
    read_output,
)
from penstock_coordinator.runtime.session import AgentSession, task_spec

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.leases import Lease
    from penstock_coordinator.core.plan.model import Step
    from penstock_coordinator.core.run.commands import GrantLeases
    from penstock_coordinator.runtime.supervisor import Supervisor

NO_PARAMETERS = b"{}"
ENVIRONMENT_VALUE_BYTES = 1024
"""Parameters of more JSON than this are not put into the environment of steps."""
RETRY_READ = 0.2
"""Seconds between attempts to read an output while the database is away."""


class Granter:
    def __init__(self, supervisor: Supervisor, outputs: OutputCache | None = None) -> None:
        """`outputs`: another cache than that of live runs."""
        self._supervisor = supervisor
        self._own_outputs = outputs
        self._reading: set[asyncio.Task[None]] = set()
        self._lists = ListCache()

    @property
    def _outputs(self) -> OutputCache:
        return self._own_outputs or self._supervisor.outputs

    def grant(self, actor: Actor, command: GrantLeases) -> None:
        session = self._supervisor.fleet.session(command.session)
        if session is None:
            for step, item, _ in command.leases:
                self._gone(actor, step, item, command.token, "session_gone")
            return
        line = actor.run.line_at(command.line)
        for step, item, attempt in command.leases:
            lease = self._supervisor.fleet.add_lease(
                session.holder, (actor.run_id, step, item), command.token, attempt, line
            )
            self._send(actor, session, lease)

    def _send(self, actor: Actor, session: AgentSession, lease: Lease) -> None:
        try:
            grant = self._build(actor, session, lease, {})
        except NotCached:
            task = asyncio.create_task(self._read_and_send(actor, session, lease))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
            return
        except UnresolvableInput as error:
            self._unresolvable(actor, lease, str(error))
            return
        self._deliver(session, lease, grant)

    def _deliver(self, session: AgentSession, lease: Lease, grant: wire.LeaseGrant) -> None:
        lease.sent = True
        lease.sent_at = self._supervisor.clock.monotonic()
        session.acceptance.sent(lease)
        lease.due_ack = session.roll.acks + 1
        grant.grant_seq = session.capacity.grant()
        session.grant(grant)

    async def _read_and_send(self, actor: Actor, session: AgentSession, lease: Lease) -> None:
        """The inputs are not in memory: read them, while others go on. What was read is kept until the grant is built:
        the cache may be too small for all of it."""
        read: dict[tuple[int, int], bytes] = {}
        while self._supervisor.fleet.leases.find(lease.key) is lease:
            if lease.stop is not None:
                self._drop(actor, lease, "stopped_before_start")
                return
            try:
                try:
                    grant = self._build(actor, session, lease, read)
                except NotCached as missing:
                    await self._read(actor, missing, read)
                    continue
            except UnresolvableInput as error:
                self._unresolvable(actor, lease, str(error))
                return
            self._deliver(session, lease, grant)
            return

    async def _read(self, actor: Actor, missing: NotCached, read: dict[tuple[int, int], bytes]) -> None:
        supervisor = self._supervisor
        try:
            found = await read_output(self._outputs, supervisor.stores.runs, actor, missing)
            read[missing.step, missing.item] = found
        except Unavailable:
            await asyncio.sleep(RETRY_READ)

    def _output(self, actor: InputSource, step: int, read: dict[tuple[int, int], bytes]) -> bytes:
        found = read.get((step, WHOLE))
        return cached_output(self._outputs, actor, step) if found is None else found

    def _item(self, actor: InputSource, step: Step, item: int, read: dict[tuple[int, int], bytes]) -> bytes:
        """The value of the item as JSON. Of a step that goes along with another one it is in the output of an item."""
        over = step.map
        assert over is not None
        followed = over.followed
        if followed is None:
            return dump_again(actor.run.item_value(step.number, item))
        groups = actor.run.groups_of(step.number) if over.form is MapForm.NESTED else None
        owner, position = (item, 0) if groups is None else groups.at(item)
        output = read.get((followed, owner))
        if output is None:
            output = cached_item(self._outputs, actor, followed, owner)
        if groups is None:
            return output
        return self._lists.member((actor.run_id, actor.run.generation, step.number, owner), output, over.path, position)

    def _undone(self, actor: InputSource, step: Step, item: int, read: dict[tuple[int, int], bytes]) -> bytes:
        """The output of the step run that is undone."""
        assert step.undoes is not None
        found = read.get((step.undoes, item))
        return cached_item(self._outputs, actor, step.undoes, item) if found is None else found

    def _build(
        self, actor: Actor, session: AgentSession, lease: Lease, read: dict[tuple[int, int], bytes]
    ) -> wire.LeaseGrant:
        run_id, step_number, item = lease.key
        plan = actor.plan
        step = plan.steps[step_number]
        inputs = self._inputs(actor, step, item, read)
        place = place_of(plan, actor.run, step_number, item)
        name = step.name + spelled_place(place)
        grant = wire.LeaseGrant(
            attempt=lease.attempt,
            display_name=name,
            place=place,
            step_name=step.name,
            pipeline=plan.pipeline,
            inputs=inputs,
            parameters=actor.environment_json,
            idempotency_key=f"{run_id_text(run_id)}/{name}",
            credential=self._supervisor.credentials.issue(lease.key, lease.token),
        )
        # In place: a message that is put into another one is copied, by way of bytes.
        ref = grant.lease
        (ref.run_id, ref.step, ref.item), ref.token = lease.key, lease.token
        if lease.line is not plan.lines[step.line]:
            grant.memory_bytes = memory_of(lease.line)
        if actor.trace_context:
            grant.trace_context.update(actor.trace_context)
        grant.task, new = session.tasks.number(plan, step_number)
        if new:
            grant.task_spec.CopyFrom(task_spec(plan, step))
        return grant

    def _inputs(
        self, actor: InputSource, step: Step, item: int, read: dict[tuple[int, int], bytes]
    ) -> dict[str, bytes]:
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
        )

    async def inputs_for(self, actor: InputSource, step: int, item: int) -> dict[str, bytes]:
        """The inputs of a step run as JSON, by name, of what is not in memory too. Raises `UnresolvableInput`,
        `Unavailable`."""
        supervisor = self._supervisor
        read: dict[tuple[int, int], bytes] = {}
        while True:
            try:
                return self._inputs(actor, actor.plan.steps[step], item, read)
            except NotCached as missing:
                found = await read_output(self._outputs, supervisor.stores.runs, actor, missing)
                read[missing.step, missing.item] = found

    def _unresolvable(self, actor: Actor, lease: Lease, message: str) -> None:
        _, step, item = lease.key
        self._supervisor.fleet.end_lease(lease.key, lease.token)
        failure = Failure("Input", message)
        actor.post(Mail(InputsUnresolved(self._supervisor.clock.now(), step, item, lease.token, failure)))

    def _drop(self, actor: Actor, lease: Lease, cause: str) -> None:
        self._supervisor.fleet.end_lease(lease.key, lease.token)
        self._gone(actor, lease.key[1], lease.key[2], lease.token, cause)

    def _gone(self, actor: Actor, step: int, item: int, token: int, cause: str) -> None:
        actor.post(Mail(LeaseGone(self._supervisor.clock.now(), step, item, token, cause, Charge.NOBODY)))


def _whose_item(actor: InputSource, step: Step) -> Step:
    """The item of a step that undoes another one is that one's."""
    return step if step.undoes is None else actor.plan.steps[step.undoes]


def _environment(parameters: dict[str, object]) -> bytes:
    """The parameters that are small enough for an environment, as JSON."""
    texts = ((name, json.dumps(value, separators=(",", ":"))) for name, value in parameters.items())
    small = (f"{json.dumps(name)}:{text}" for name, text in texts if len(text) <= ENVIRONMENT_VALUE_BYTES)
    return ("{" + ",".join(small) + "}").encode()
