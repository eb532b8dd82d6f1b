"""What the agent says and hears on its stream: its opening and end, heartbeats, results until they are acknowledged."""

from __future__ import annotations

from collections.abc import Iterable

from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.book import LeaseBook, result_of, sooner
from penstock_agent.core.leases import Held, Lease, Phase, Restored
from penstock_agent.core.session import Session

SPOOL_AFTER = 100_000
"""A result that is unacknowledged for so long goes to the spool, unless that is what they take lately."""
HEARTBEAT_JITTER = 0.2
MOST_SILENT_BEATS = 3
"""A coordinator that says nothing for so many heartbeats is left."""


class Talk:
    """The part of the holder that speaks: what follows from an input is gathered in `_out`."""

    def __init__(self, restored: Iterable[Restored]) -> None:
        self.highest_coordinator_epoch = 0
        self.last_session_epoch = 0
        self.session: Session | None = None
        self.draining = False
        self.book = LeaseBook(SPOOL_AFTER)
        self._drain_at: int | None = None
        self._drain_reason = ""
        self._out: list[do.Effect] = []
        for result in restored:
            self.book.restore(result)

    def stamp(self, now: int) -> int:
        """The number of the message that is about to be sent on the open stream."""
        assert self.session is not None
        return self.session.stamp(now)

    def snapshot(self, now: int) -> list[Held]:
        return self.book.snapshot(now)

    # --- the stream

    def _stream_opened(self, now: int, opened: said.StreamOpened) -> None:
        self._forget_unaccepted()
        self.session = Session(opened.stream)
        for lease in self.book.held.values():
            lease.named_seq = 1
        self._out.append(do.SayHello())

    def _stream_closed(self, now: int, closed: said.StreamClosed) -> None:
        if self.session is None or self.session.stream != closed.stream:
            return
        self.session = None
        self._forget_unaccepted()
        self._spool(self.book.unacked.unspooled())

    def _forget_unaccepted(self) -> None:
        """Grants that were never accepted are as good as lost: the next Hello does not name them."""
        for lease in [lease for lease in self.book.held.values() if lease.phase is Phase.GRANTED]:
            self._forget(lease)

    def _welcomed(self, now: int, welcome: said.Welcomed) -> None:
        session = self.session
        if session is None or session.stream != welcome.stream or session.welcomed:
            return
        if welcome.coordinator_epoch < self.highest_coordinator_epoch:
            self._out.append(do.CloseStream("stale_coordinator"))
            return
        self.highest_coordinator_epoch = welcome.coordinator_epoch
        self.last_session_epoch = session.epoch = welcome.session_epoch
        session.welcomed = True
        session.heard_at = now
        session.heartbeat_interval = welcome.heartbeat_interval
        session.lease_ttl = welcome.lease_ttl
        session.resend_interval = welcome.resend_interval
        session.heartbeat_at = now + welcome.heartbeat_interval
        if self.draining:
            self._say_draining(now)
        if self.book.unacked.leases:
            self._send(now, list(self.book.unacked.leases.values()))

    def _goaway_ordered(self, now: int, session: Session, goaway: said.GoawayOrdered) -> None:
        self._out.append(do.CloseStream(goaway.reason, goaway.reconnect_after, goaway.message))

    def _redirected(self, now: int, session: Session, redirect: said.Redirected) -> None:
        self._out.append(do.UseAddress(redirect.address))
        self._out.append(do.CloseStream("redirected", 0))

    def _beat(self, now: int, session: Session, chance: float) -> None:
        spread = 1 + HEARTBEAT_JITTER * (2 * chance - 1)
        session.heartbeat_at = now + int(session.heartbeat_interval * spread)
        if now - session.heard_at > MOST_SILENT_BEATS * session.heartbeat_interval:
            # The connection lives, and nobody speaks: another one may find somebody who does.
            self._out.append(do.CloseStream("silent"))
        else:
            self._out.append(do.SendHeartbeat())

    def _say_draining(self, now: int) -> None:
        if self.session is not None and self.session.welcomed:
            self._out.append(do.SendDraining(max((self._drain_at or now) - now, 0), self._drain_reason))

    # --- results

    def _send(self, now: int, leases: list[Lease]) -> None:
        session = self.session
        if not leases:
            return
        if session is None or not session.welcomed:
            # Nobody acknowledges it soon.
            self._spool([lease for lease in leases if not result_of(lease).spooled])
            return
        for lease in leases:
            result_of(lease).sent_at = now
        session.resend_at = sooner(session.resend_at, now + session.resend_interval)
        self._out.append(do.SendResults(leases))

    def _resend_results(self, now: int, session: Session) -> None:
        leases, session.resend_at = self.book.unacked.due_again(now, session.resend_interval)
        self._send(now, leases)

    def _results_acked(self, now: int, session: Session, acked: said.ResultsAcked) -> None:
        unspooled: list[bytes] = []
        for key, token, result_id in acked.acks:
            lease = self.book.find(key, token)
            if lease is None or lease.result is None or lease.result.result_id != result_id:
                continue
            self.book.unacked.acknowledged(now, lease.result)
            if self.book.forget(lease) is not None:
                unspooled.append(result_id)
        if unspooled:
            self._out.append(do.Unspool(unspooled))

    def _spool(self, leases: list[Lease]) -> None:
        self.book.unacked.spool(leases)
        if leases:
            self._out.append(do.Spool(leases))

    def _forget(self, lease: Lease) -> None:
        spooled = self.book.forget(lease)
        if spooled is not None:
            self._out.append(do.Unspool([spooled.result_id]))
