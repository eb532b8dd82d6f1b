"""penstock.v1.CoordinatorService."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from penstock.v1 import coordinator_service_pb2 as pb
from penstock.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from penstock_coordinator.api.encoding import runs as encode_runs
from penstock_coordinator.api.encoding.values import instant, span
from penstock_coordinator.api.errors import CallError, failed_precondition, invalid, not_found
from penstock_coordinator.api.fields import run_id_text
from penstock_coordinator.api.forwarding import not_the_leader
from penstock_coordinator.core.fleet.ownership import LATE_AFTER, OwnershipState, renewal_interval
from penstock_coordinator.ports import DependencyState, Unavailable
from penstock_coordinator.ports.board import BoardEntry, Published
from penstock_coordinator.runtime.board_demand import demand_of
from penstock_coordinator.runtime.handing_over import NotPrepared, UnknownSuccessor
from penstock_coordinator.runtime.load import load_of
from penstock_coordinator.runtime.preparing import NotFollowing
from penstock_coordinator.runtime.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.ports import Dependency
    from penstock_coordinator.ports.board import LineDemand
    from penstock_coordinator.runtime.handing_over import HandOver
    from penstock_coordinator.runtime.hot_state import HotStateService
    from penstock_coordinator.runtime.ownership import CoordinatorView, OwnershipKeeper
    from penstock_coordinator.runtime.supervisor import Supervisor

MOST_SET_ASIDE = 100
MOST_GLANCED = 1_000

_STATES = {
    DependencyState.CLOSED: pb.DEPENDENCY_STATE_CLOSED,
    DependencyState.OPEN: pb.DEPENDENCY_STATE_OPEN,
    DependencyState.HALF_OPEN: pb.DEPENDENCY_STATE_HALF_OPEN,
}

_ROLES = {
    OwnershipState.OWNER: pb.COORDINATOR_ROLE_OWNER,
    OwnershipState.FOLLOWER: pb.COORDINATOR_ROLE_FOLLOWER,
    OwnershipState.MEMBER: pb.COORDINATOR_ROLE_MEMBER,
}


class Prepares(Protocol):
    async def prepare(self, owner_id: str) -> int:
        """Read the live runs of that owner; how many there are. Raises `NotFollowing`, `Unavailable`."""


class CoordinatorService(CoordinatorServiceServicer):
    """Without a supervisor: of one that follows. Without a keeper there is but this one."""

    def __init__(
        self,
        supervisor: Supervisor | None,
        readiness: Readiness,
        keeper: OwnershipKeeper | None = None,
        preparation: Prepares | None = None,
        hot: HotStateService | None = None,
        hand_over: HandOver | None = None,
        leave: Callable[[str, int], Awaitable[bool]] | None = None,
    ) -> None:
        """`preparation`: of one that may have the runs of another one next; `hand_over`: of a head; `leave`: of a
        member, as `Backend` has it."""
        self._supervisor = supervisor
        self._readiness = readiness
        self._keeper = keeper
        self._preparation = preparation
        self._hot = hot
        self._hand_over = hand_over
        self._leave = leave

    async def GetHealth(self, request: pb.GetHealthRequest, context: Context) -> pb.GetHealthResponse:
        supervisor, keeper = self._supervisor, self._keeper
        is_member = supervisor is not None and supervisor.whereabouts.head_epoch != 0
        health = pb.CoordinatorHealth(ready=self._readiness.ready, reasons=self._readiness.reasons)
        if supervisor is not None:
            health.coordinator_id = supervisor.coordinator_id
            health.role = pb.COORDINATOR_ROLE_MEMBER if is_member else pb.COORDINATOR_ROLE_OWNER
            health.epoch = supervisor.epoch
            health.load.CopyFrom(_load(supervisor))
            health.set_aside_runs.update(_set_aside(supervisor))
            health.dependencies.extend(_dependency(each) for each in supervisor.stores.dependencies())
        elif keeper is not None:
            health.coordinator_id = keeper.coordinator_id
            health.role = pb.COORDINATOR_ROLE_FOLLOWER
        if keeper is not None and (is_member or supervisor is None):
            owner = keeper.owner()
            health.owner_address = "" if owner is None else owner.address
        if self._hot is not None and (redis := self._hot.hot.dependency()) is not None:
            health.dependencies.append(_dependency(redis))
        return pb.GetHealthResponse(health=health)

    async def PrepareTakeOver(self, request: pb.PrepareTakeOverRequest, context: Context) -> pb.PrepareTakeOverResponse:
        with contextlib.suppress(NotFollowing):
            if self._preparation is not None:
                return pb.PrepareTakeOverResponse(run_count=await self._preparation.prepare(request.owner_id))
        text = "this coordinator does not follow that one: `penstock coordinators` shows who owns the runs"
        raise failed_precondition("owner_id", "NOT_FOLLOWING", text)

    async def HandOver(self, request: pb.HandOverRequest, context: Context) -> pb.HandOverResponse:
        if self._hand_over is None:
            owner = None if self._keeper is None else self._keeper.owner()
            raise not_the_leader(owner)
        if not request.coordinator_id:
            raise invalid("coordinator_id", "name who is to own the runs: `penstock coordinators` shows who follows")
        try:
            await self._hand_over.ask(request.coordinator_id)
        except UnknownSuccessor as error:
            raise _unknown_successor(error) from None
        except NotPrepared:
            text = (
                f'"{request.coordinator_id}" has not read the live runs in time, and nothing has changed: look at its'
                " log, and try again"
            )
            raise failed_precondition("coordinator_id", "SUCCESSOR_NOT_PREPARED", text) from None
        return pb.HandOverResponse()

    async def Leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveResponse:
        if self._leave is None or not await self._leave(request.head_id, request.head_epoch):
            text = "this coordinator has not joined that head: `penstock coordinators` shows who has"
            raise failed_precondition("head_id", "NOT_A_MEMBER", text)
        return pb.LeaveResponse()

    async def Glance(self, request: pb.GlanceRequest, context: Context) -> pb.GlanceResponse:
        if len(request.run_ids) > MOST_GLANCED:
            raise invalid("run_ids", f"must be at most {MOST_GLANCED:,}, and there are {len(request.run_ids):,}")
        response = pb.GlanceResponse()
        if self._supervisor is None:
            return response
        reader = Reader(self._supervisor)
        for run_id in request.run_ids:
            glance = await reader.live_glance(run_id)
            if glance is not None:
                response.runs.add(
                    run_id=run_id,
                    step_counts=encode_runs.counts(glance.counts),
                    held_by_key=glance.held_by_key,
                    held_by_budget=glance.held_by_budget,
                )
        if request.agents:
            response.agents.update({agent_id: view.leases for agent_id, view in self._supervisor.fleet.views().items()})
        return response

    async def ListCoordinators(
        self, request: pb.ListCoordinatorsRequest, context: Context
    ) -> pb.ListCoordinatorsResponse:
        if self._keeper is not None:
            published = await self._published_by_id()
            views = one_owner(self._keeper.coordinators())
            return pb.ListCoordinatorsResponse(
                coordinators=[_coordinator(view, published.get(view.row.coordinator_id)) for view in views]
            )
        assert self._supervisor is not None, "whoever follows has a keeper"
        alone = pb.Coordinator(
            id=self._supervisor.coordinator_id,
            role=pb.COORDINATOR_ROLE_OWNER,
            epoch=self._supervisor.epoch,
            answering=True,
        )
        return pb.ListCoordinatorsResponse(coordinators=[alone])

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Context) -> pb.ListQueuesResponse:
        queues = [
            _queue(line, each)
            for each in await self._published()
            for line in each.entry.lines
            if line.ready or line.running
        ]
        queues.sort(key=lambda each: (each.queue, sorted(each.labels.items()), sorted(each.resources.items())))
        return pb.ListQueuesResponse(queues=queues)

    async def _published(self) -> list[Published]:
        """Raises `Unavailable`."""
        if self._hot is not None:
            return await self._hot.entries()
        return [] if self._supervisor is None else [Published(demand_of(self._supervisor), 0)]

    async def _published_by_id(self) -> dict[str, Published]:
        """Nothing while the board is away."""
        try:
            return {each.entry.coordinator_id: each for each in await self._published()}
        except Unavailable:
            return {}


def _unknown_successor(error: UnknownSuccessor) -> CallError:
    followers = ", ".join(f'"{each}"' for each in error.followers) or "none"
    text = (
        f'no coordinator "{error.coordinator_id}" follows this one, or it was not heard of lately. Those that do:'
        f" {followers}. `penstock coordinators` shows all"
    )
    return not_found("coordinator_id", "UNKNOWN_COORDINATOR", text)


def one_owner(views: Sequence[CoordinatorView]) -> list[CoordinatorView]:
    """At a take-over a former owner, and those who were its members, are still there in what was read before it. They
    are gone; if it is the one that answers, it is about to follow."""
    newest = max((view.row.epoch for view in views if view.row.state is OwnershipState.OWNER), default=0)
    told = []
    for view in views:
        row = view.row
        claim = {OwnershipState.OWNER: row.epoch, OwnershipState.MEMBER: row.head_epoch}.get(row.state, newest)
        if claim == newest:
            told.append(view)
        elif view.own:
            told.append(replace(view, row=replace(view.row, state=OwnershipState.FOLLOWER)))
    return told


def _set_aside(supervisor: Supervisor) -> dict[str, str]:
    return {run_id_text(run_id): why for run_id, why in sorted(supervisor.set_aside.items())[:MOST_SET_ASIDE]}


def _load(supervisor: Supervisor) -> pb.CoordinatorLoad:
    load = load_of(supervisor)
    return pb.CoordinatorLoad(
        live_runs=load.live_runs,
        waiting_runs=load.waiting_runs,
        max_backlog=load.max_backlog,
        drain_rate=load.drain_rate,
        pressure=load.pressure,
        backlog=load.backlog,
        lag=load.lag,
        commits=load.commits,
        memory=load.memory,
        refusals=load.refusals,
    )


def _coordinator(view: CoordinatorView, published: Published | None) -> pb.Coordinator:
    row = view.row
    entry = BoardEntry(row.coordinator_id) if published is None else published.entry
    return pb.Coordinator(
        id=row.coordinator_id,
        role=_ROLES[row.state],
        epoch=row.epoch,
        address=row.address,
        http_address=row.http_address,
        begin_time=instant(row.began),
        lease=span(row.lease),
        since_renewed=span(view.still_for),
        lease_state=_lease_state(view),
        answering=view.own,
        live_runs=entry.live_runs,
        ready_steps=entry.ready,
        running_steps=entry.running,
        relayed_agents=entry.relayed,
    )


def _queue(demand: LineDemand, published: Published) -> pb.QueueDemand:
    line = demand.line
    return pb.QueueDemand(
        queue=line.queue,
        labels=dict(line.labels),
        resources=dict(line.resources),
        environment=line.environment,
        ready_steps=demand.ready,
        running_steps=demand.running,
        oldest_wait=span(demand.oldest_wait + published.age) if demand.ready else None,
        coordinator_id=published.entry.coordinator_id,
        age=span(published.age),
    )


def _lease_state(view: CoordinatorView) -> pb.CoordinatorLeaseState.ValueType:
    if view.still_for < LATE_AFTER * renewal_interval(view.row.lease):
        return pb.COORDINATOR_LEASE_STATE_CURRENT
    if view.still_for < view.row.lease:
        return pb.COORDINATOR_LEASE_STATE_LATE
    return pb.COORDINATOR_LEASE_STATE_EXPIRED


def _dependency(each: Dependency) -> pb.Dependency:
    return pb.Dependency(
        name=each.name,
        state=_STATES[each.state],
        failures=each.failures,
        retry_in=span(each.retry_in),
        reason=each.reason,
        shares=[
            pb.ConnectionShare(name=share.name, in_use=share.in_use, limit=share.limit, waiting=share.waiting)
            for share in each.shares
        ],
    )
