"""Leases from their grant to their end, on sessions that are connected or waited for, and the room that they take.

Pure: the shell carries what is told to the runs, and writes what sessions say. Instants are microseconds of a monotonic
clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from penstock_coordinator.core.fleet.connected import Connected
from penstock_coordinator.core.fleet.leases import Lease, LeaseKey, LeaseTable, Lost, Stop, left_over
from penstock_coordinator.core.run.events import Charge

if TYPE_CHECKING:
    from penstock_coordinator.core.dispatch.dispatcher import Dispatcher
    from penstock_coordinator.core.fleet.leases import Holder
    from penstock_coordinator.core.plan.model import Line

S = TypeVar("S", bound=Connected)


class Tell(Protocol):
    """Tells the run of a lease that the lease is over without a result, and who pays."""

    def __call__(self, lease: Lease, cause: str, charge: Charge, boot_id: str = "") -> None: ...


class Leasing(Generic[S]):
    """`offer` is called when there is room for those who wait."""

    def __init__(self, leases: LeaseTable, dispatcher: Dispatcher, tell: Tell, offer: Callable[[], None]) -> None:
        self.leases = leases
        self.dispatcher = dispatcher
        self.tell = tell
        self.offer = offer
        self.sessions: dict[int, S] = {}
        """By their numbers on this coordinator."""

    # --- granted

    def add(self, holder: Holder, key: LeaseKey, token: int, attempt: int, line: Line) -> Lease:
        """A grant. An older lease of the step run, which was given up without a result, ends with it."""
        old = self.leases.find(key)
        if old is not None:
            self.leases.end(key, old.token)
        lease = self.leases.add(holder, key, token, attempt, line)
        if old is not None:
            self.freed(old)
        return lease

    def send(self, session: S, lease: Lease, now: int) -> int:
        """The grant is on its way from now on; its number."""
        lease.sent = True
        lease.sent_at = now
        lease.due_ack = session.roll.acks + 1
        session.acceptance.sent(lease)
        return session.capacity.grant()

    def wait_for(
        self,
        agent: str,
        session: int,
        key: LeaseKey,
        token: int,
        attempt: int,
        line: Line,
        last_boot: tuple[int, str],
        now: int,
    ) -> None:
        """A lease from before a restart, of the coordinator or of the run's actor: the agent has a lease's whole life
        to come back with it. `last_boot`: the agent's last session before the restart, and its boot id."""
        holder = self.leases.holder(session)
        if holder is None:
            holder = self.leases.add_holder(left_over(agent, session, last_boot, now))
        elif not holder.hello:
            # Runs of the same session were adopted before.
            holder.heard_at = now
        lease = self.add(holder, key, token, attempt, line)
        lease.sent = lease.accepted = True
        connected = self.sessions.get(holder.session)
        if connected is not None:
            # The actor alone was made again: the lease takes its place on the session that it never left.
            connected.capacity.adopt(line)

    # --- under way

    def spoken_of(self, session: S, key: LeaseKey, token: int) -> Lease | None:
        """The lease, if it is the session's own and has that token: of others an agent has nothing to say."""
        lease = self.leases.find(key)
        ours = lease is not None and lease.token == token and lease.holder is session.holder
        return lease if ours else None

    def is_of_another(self, session: S, key: LeaseKey, token: int) -> bool:
        """Another agent holds that very attempt: a token can be guessed, and who guesses it has no result."""
        lease = self.leases.find(key)
        return lease is not None and lease.token == token and lease.holder.agent != session.holder.agent

    def accepted(self, session: S, named: Iterable[tuple[LeaseKey, int]]) -> None:
        session.acceptance.accepted()
        for key, token in named:
            lease = self.spoken_of(session, key, token)
            if lease is not None:
                lease.accepted = True

    def stop(self, key: LeaseKey, token: int, stop: Stop) -> None:
        """The attempt is to be stopped, if it is still that one."""
        lease = self.leases.find(key)
        if lease is None or lease.token != token:
            return
        lease.stop = stop
        session = self.sessions.get(lease.holder.session)
        if session is not None and lease.sent:
            session.cancel(lease)

    def call_back(self, key: LeaseKey, token: int) -> None:
        """Ask for a lease back that has not started. One whose grant is not made yet is not sent any more."""
        lease = self.leases.find(key)
        if lease is None or lease.token != token:
            return
        session = self.sessions.get(lease.holder.session)
        if session is not None and lease.sent:
            session.call_back(lease)

    # --- over

    def end(self, key: LeaseKey, token: int) -> Lease | None:
        """The lease is over; its room is free. None if another token speaks."""
        lease = self.leases.end(key, token)
        if lease is not None:
            self.freed(lease)
        return lease

    def taken_back(self, session: S, key: LeaseKey, token: int) -> Lease | None:
        """The agent does not run it: the lease is over, and the run is to be told. None if it has nothing to say."""
        lease = self.spoken_of(session, key, token)
        return None if lease is None else self.end(key, token)

    def released(self, session: S, key: LeaseKey, token: int, cause: str, *, started: bool) -> None:
        """The agent gives a lease up."""
        lease = self.taken_back(session, key, token)
        if lease is not None:
            cause = "called_back" if lease.called_back and not started else cause
            self.tell(lease, cause, Charge.STARTED if started else Charge.NOBODY)

    def freed(self, lease: Lease) -> None:
        """The room of a lease that is not in the table any more is free."""
        holder = lease.holder
        session = self.sessions.get(holder.session)
        if session is None:
            if not holder.leases:
                self.leases.remove_holder(holder.session)
            return
        if lease.sent:
            session.capacity.end(lease.line)
        else:
            session.capacity.take_back(lease.line, 1)
        self.dispatcher.made_room(holder.session)
        self.offer()

    def tell_lost(self, lost: Iterable[Lost], charge: Charge | None = None) -> None:
        """`charge`: who pays for what was accepted; None: as it was lost."""
        for loss in lost:
            unaccepted = Charge.STARTED if loss.unsure else Charge.NOBODY
            paying = (Charge.POISON if loss.boot_id else Charge.INFRASTRUCTURE) if charge is None else charge
            self.tell(loss.lease, loss.cause, paying if loss.accepted else unaccepted, loss.boot_id)
