"""What an agent says of itself, to each coordinator: its Hello, and its heartbeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.leases import HOME
from penstock_agent.runtime import clock, host
from penstock_agent.runtime.wire import held_lease, in_messages, lease_key, lease_ref, span

if TYPE_CHECKING:
    from penstock_agent.core.book import GivenUp
    from penstock_agent.core.holder import Holder
    from penstock_agent.core.talking import Named
    from penstock_agent.resources.machine import Machine
    from penstock_agent.runtime.disk import DiskWatch
    from penstock_agent.runtime.host import LoopLag
    from penstock_agent.runtime.spool import Spool
    from penstock_agent.runtime.staging import Staging
    from penstock_agent.settings import AgentSettings

PROTOCOL_VERSIONS = (1,)
TELLS_GIVEN_UP = "given_up"
"""The feature: each Hello names what was given up after it may have begun."""
DERIVES_TRACE = "derives_trace"
"""The feature: of a run that nobody samples it knows the trace without being told."""
KEEPS_LINKS = "links"
"""The feature: a stream with each coordinator that Peers names."""


@dataclass(frozen=True, slots=True)
class Identity:
    agent_id: str
    boot_id: str
    hostname: str
    version: str


@dataclass(frozen=True, slots=True)
class Presence:
    """Made of what is known when a message is written."""

    settings: AgentSettings
    identity: Identity
    machine: Machine
    environments: Mapping[str, str]
    """Why it makes none of a kind, by kind; "": it does."""
    holder: Holder
    staging: Staging
    spool: Spool
    disk: DiskWatch
    lag: LoopLag

    def hello(self, stream: int) -> Iterator[wire.AgentMessage]:
        """Nothing on a stream that is over."""
        settings, identity, given_up = self.settings, self.identity, self.holder.book.given_up
        named = self.holder.named_in_hello(clock.now(), stream)
        if named is None:
            return
        hello = wire.Hello(
            protocol_versions=PROTOCOL_VERSIONS,
            agent_id=identity.agent_id,
            boot_id=identity.boot_id,
            last_session_epoch=named.last_session_epoch,
            highest_coordinator_epoch_seen=named.coordinator_epoch,
            highest_head_epoch_seen=named.head_epoch,
            queues=settings.queues,
            labels=settings.labels,
            resources=self.machine.resources,
            slots=settings.slots,
            held_leases=[held_lease(held) for held in named.held],
            elsewhere=[held_lease(held) for held in named.elsewhere],
            open_sessions=named.open_sessions,
            links_pending=named.pending,
            links=named.links,
            newest_session_epoch=named.newest_session,
            agent_version=identity.version,
            hostname=identity.hostname,
            stream=stream,
            given_up=[lease_ref(key, token) for key, token in given_up.named()],
            features=[DERIVES_TRACE, KEEPS_LINKS, *([TELLS_GIVEN_UP] if given_up.complete else ())],
            environments=self.environments,
        )
        yield wire.AgentMessage(hello=hello)

    def heartbeat(self, stream: int) -> Iterator[wire.AgentMessage]:
        """In parts. Nothing on a stream that is over."""
        session = self.holder.sessions.get(stream)
        named = self.holder.named_in_heartbeat(clock.now(), stream)
        if session is None or named is None:
            return
        parts = list(in_messages(held_lease(held) for held in named.held)) or [[]]
        notes = self.staging.notes()
        condition = self.disk.condition() or host.UNKNOWN
        lag = self.lag.take() if session.link == HOME else int(self.lag.most * 1e6)
        for number, leases in enumerate(parts):
            for lease in leases if notes else ():
                lease.note = notes.get((lease_key(lease.lease), lease.lease.token), "")
            beat = wire.Heartbeat(
                leases=leases,
                part=number,
                parts=len(parts) if len(parts) > 1 else 0,
                load=condition.load,
                disk_free_bytes=condition.disk_free_bytes,
                disk_low=self.holder.disk_full,
                memory_free_bytes=condition.memory_free_bytes,
                spool_depth=self.spool.depth,
                loop_lag=span(lag),
                echo=session.echo,
                mean_step_duration=span(int(self.holder.pace.mean or 0)),
            )
            if number == 0:
                _name_others(beat, named, self.holder.book.given_up)
            yield wire.AgentMessage(heartbeat=beat)


def _name_others(beat: wire.Heartbeat, named: Named, given_up: GivenUp) -> None:
    """What the agent has of other coordinators: of one alone there is nothing to say."""
    beat.elsewhere.extend([held_lease(held) for held in named.elsewhere])
    beat.open_sessions.extend(named.open_sessions)
    beat.links_pending = named.pending
    beat.links.extend(named.links)
    beat.newest_session_epoch = named.newest_session
    beat.names_all = named.names_all
    if named.names_all:
        beat.given_up.extend([lease_ref(key, token) for key, token in given_up.named()])
        beat.tells_given_up = given_up.complete
