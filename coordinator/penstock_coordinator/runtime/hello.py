"""What a Hello says, in the words of those who need it; and whom it is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.dispatch.capacity import Capacity
from penstock_coordinator.core.fleet.roster import Arrival
from penstock_coordinator.core.fleet.session import Beside, Held, Snapshot
from penstock_coordinator.core.run.explain.words import one_line
from penstock_coordinator.ports import AgentRow
from penstock_coordinator.runtime.session import lease_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TELLS_GIVEN_UP = "given_up"
"""The feature of agents that name what they have given up."""
LINKS = "links"
"""The feature of agents that keep a stream with each owner of runs, and of coordinators that read what they say of
those to others."""
DERIVES_TRACE = "derives_trace"
"""That of agents that know the trace of a run that nobody samples without being told."""


MOST_ENVIRONMENT_KINDS = 16
MOST_LINKS = 100
MOST_LINK = 200
"""Characters."""


class UnsupportedProtocol(Exception):
    """The agent and this coordinator have no version of the protocol in common."""

    reason = "too_old"

    def __init__(self, spoken: Iterable[int], offered: Iterable[int]) -> None:
        ours, theirs = (", ".join(map(str, sorted(set(versions)))) or "none" for versions in (spoken, offered))
        super().__init__(
            f"this coordinator speaks version {ours} of the agent protocol, the agent {theirs}: upgrade the older one"
        )


class StaleCoordinator(Exception):
    """The agent has seen a newer incarnation than this coordinator, or the head that it has joined, is."""

    reason = "stale_coordinator"

    def __init__(self, own: int, seen: int) -> None:
        super().__init__(
            f"this coordinator is incarnation {own}, and the agent has seen {seen}: another coordinator has taken over,"
            " or the agent was connected to another database before and is to be started again"
        )


class Superseded(Exception):
    """A newer session of the same agent was opened in the meantime."""


class IdInUse(Exception):
    """Another process with the agent's id is connected, and was heard of lately."""

    def __init__(self, agent: str, host: str) -> None:
        super().__init__(
            f'another agent with the id "{agent}" is connected, from {host or "a host without a name"}: give'
            " each agent an id and a data folder of its own (--id or PENSTOCK_AGENT_ID, --data-dir), or end the"
            " other one"
        )


def agent_row(hello: wire.Hello, now: int) -> AgentRow:
    return AgentRow(
        agent_id=hello.agent_id,
        session_epoch=0,
        boot_id=hello.boot_id,
        version=hello.agent_version,
        hostname=hello.hostname,
        queues=tuple(hello.queues),
        labels=tuple(sorted(hello.labels.items())),
        resources=tuple(sorted(hello.resources.items())),
        slots=hello.slots,
        connect_time=now,
        goodbye=False,
    )


def arrival_of(hello: wire.Hello, number: int) -> Arrival:
    return Arrival(
        hello.agent_id,
        hello.boot_id,
        hello.stream,
        hello.slots,
        hello.highest_coordinator_epoch_seen,
        snapshot_of(hello),
        number,
        hello.highest_head_epoch_seen,
        bool(hello.links or hello.open_sessions or hello.elsewhere),
    )


def capacity_of(hello: wire.Hello, epoch: int) -> Capacity:
    return Capacity(
        session=epoch,
        agent=hello.agent_id,
        queues=frozenset(hello.queues),
        labels=dict(hello.labels),
        resources=dict(hello.resources),
        slots=hello.slots,
        environments={
            kind: one_line(hello.environments[kind]) for kind in sorted(hello.environments)[:MOST_ENVIRONMENT_KINDS]
        },
    )


def links_of(said: Iterable[str]) -> frozenset[str]:
    return frozenset(each for each in islice(said, MOST_LINKS) if len(each) <= MOST_LINK)


def snapshot_of(hello: wire.Hello) -> Snapshot:
    return Snapshot(
        held_of(hello.held_leases),
        frozenset((lease_key(ref), ref.token) for ref in hello.given_up),
        TELLS_GIVEN_UP in hello.features,
        _elsewhere(hello.elsewhere),
        frozenset(hello.open_sessions),
        hello.links_pending,
        hello.newest_session_epoch,
    )


def beside_of(beat: wire.Heartbeat) -> Beside | None:
    """None: it says nothing of other coordinators' leases."""
    if not (beat.names_all or beat.elsewhere):
        return None
    # What a heartbeat in several parts leaves out is not known before the last one.
    complete = beat.names_all and beat.parts <= 1
    return Beside(
        _elsewhere(beat.elsewhere),
        frozenset(beat.open_sessions),
        beat.links_pending,
        complete,
        frozenset((lease_key(ref), ref.token) for ref in beat.given_up),
        beat.tells_given_up,
        beat.newest_session_epoch,
    )


def _elsewhere(named: Sequence[wire.HeldLease]) -> list[Held]:
    return [replace(held, session=each.session) for held, each in zip(held_of(named), named, strict=True)]


def held_of(named: Iterable[wire.HeldLease]) -> list[Held]:
    return [
        Held(
            lease_key(held.lease),
            held.lease.token,
            held.phase == wire.LEASE_PHASE_FINISHED_UNACKED,
            held.phase == wire.LEASE_PHASE_ACCEPTED,
            bool(held.note),
        )
        for held in named
    ]
