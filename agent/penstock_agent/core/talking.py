"""What the agent says and hears on its streams: their opening and end, heartbeats, results until they are acknowledged.

There is one stream home, to the head, and one by each link, to a member. Each lease belongs to a link, whose
coordinator alone speaks for it. While that has no open session the lease is an orphan: it runs on, its result is kept,
and it is named to all others, until one of them says by a verdict that it is the one who speaks for it.

Every session that is welcome is of the newest head that the agent has seen, or of a member that has joined that head:
when there is a newer head, all links end. So whoever takes an orphan over is no older than who had it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.book import LeaseBook, held_at, result_of, sooner
from penstock_agent.core.leases import HOME, NOBODY, Held, Lease, Phase, Restored
from penstock_agent.core.links import Links, Peer
from penstock_agent.core.session import Session

SPOOL_AFTER = 100_000
"""A result that is unacknowledged for so long goes to the spool, unless that is what they take lately."""
HEARTBEAT_JITTER = 0.2
MOST_SILENT_BEATS = 3
"""A coordinator that says nothing for so many heartbeats is left."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a Hello or a heartbeat says of leases and streams. With the home stream alone, but for `held` and the
    numbers of epochs, all is empty."""

    held: list[Held]
    """By the link of the stream that it is said on."""
    elsewhere: list[Held]
    open_sessions: list[int]
    pending: bool
    """Another stream waits for its welcome."""
    links: list[str]
    """Members whose links are welcome: id@epoch."""
    names_all: bool
    """`elsewhere` has all others; else the orphans among them."""
    coordinator_epoch: int
    """The newest that was seen of the coordinator that it is said to; of a head: of all heads."""
    head_epoch: int
    last_session_epoch: int
    newest_session: int
    """The greatest epoch of a session of this process: it knows of none that was opened later."""


class Talk:
    """The part of the holder that speaks: what follows from an input is gathered in `_out`."""

    def __init__(self, restored: Iterable[Restored]) -> None:
        self.head_epoch = 0
        """The newest that was seen of a head."""
        self.sessions: dict[int, Session] = {}
        """By stream, as long as it is open."""
        self.home: Session | None = None
        self.links = Links()
        self.is_linked = False
        """There were links once, so leases may be of several."""
        self.draining = False
        self.paused = False
        """By a person, as the head says: nothing is taken from anybody."""
        self.book = LeaseBook(SPOOL_AFTER)
        self._by_link: dict[int, Session] = {}
        self._speaking: list[Session] = []
        """Those that are welcome."""
        self._last_sessions: dict[int, int] = {}
        """The epoch of the last session, by link."""
        self._newest_session = 0
        self._drain_at: int | None = None
        self._drain_reason = ""
        self._out: list[do.Effect] = []
        for result in restored:
            self.book.restore(result)

    def stamp(self, now: int, stream: int) -> int:
        """The number of the message that is about to be sent on the stream, which is open."""
        return self.sessions[stream].stamp(now)

    # --- what is named

    def speaker(self, lease: Lease) -> Session | None:
        """Of the coordinator that speaks for the lease; None: it is an orphan."""
        session = self._by_link.get(lease.link)
        return session if session is not None and session.welcomed else None

    def is_orphan(self, lease: Lease) -> bool:
        return self.speaker(lease) is None

    def named_in_hello(self, now: int, stream: int) -> Named | None:
        """To be asked when it is written. None: nothing is to be said on the stream any more."""
        return self._named(now, stream, names_all=True)

    def named_in_heartbeat(self, now: int, stream: int) -> Named | None:
        """As for a Hello. After links have changed all leases are named, once."""
        session = self.sessions.get(stream)
        if session is None:
            return None
        names_all, session.names_all = session.names_all, False
        return self._named(now, stream, names_all=names_all)

    def _named(self, now: int, stream: int, *, names_all: bool) -> Named | None:
        session = self.sessions.get(stream)
        if session is None or session.over:
            return None
        peer = self.links.peers.get(session.link)
        held, elsewhere = self._sorted_leases(now, session.link, names_all=names_all)
        others = [other for other in self.sessions.values() if other is not session and not other.over]
        if names_all:
            for other in others:
                other.awaited |= not other.welcomed
        return Named(
            held,
            elsewhere,
            [other.epoch for other in others if other.welcomed],
            any(not other.welcomed for other in others),
            [self.links.peers[each.link].name for each in self._speaking if each.link in self.links.peers],
            names_all and self.is_linked,
            self.head_epoch if peer is None else peer.epoch,
            self.head_epoch if self.is_linked else 0,
            self._last_sessions.get(session.link, 0),
            self._newest_session if self.is_linked else 0,
        )

    def _sorted_leases(self, now: int, link: int, *, names_all: bool) -> tuple[list[Held], list[Held]]:
        if not self.is_linked:
            return self.book.snapshot(now), []
        held: list[Held] = []
        elsewhere: list[Held] = []
        for lease in self.book.held.values():
            if lease.phase is Phase.GRANTED:
                continue
            if lease.link == link:
                held.append(held_at(lease, now))
                continue
            speaker = self.speaker(lease)
            if speaker is None or names_all:
                elsewhere.append(held_at(lease, now, 0 if speaker is None else speaker.epoch))
        return held, elsewhere

    # --- streams come and go

    def _stream_opened(self, now: int, opened: said.StreamOpened) -> None:
        link = opened.link
        if link != HOME and link not in self.links.peers:
            self._out.append(do.CloseStream(opened.stream, "closed"))
            return
        former = self._by_link.get(link)
        if former is not None:
            self._let_go(former)
        session = self.sessions[opened.stream] = self._by_link[link] = Session(opened.stream, link)
        session.awaited = former is not None and (former.welcomed or former.awaited)
        if link == HOME:
            self.home = session
        for lease in self.book.held.values():
            if lease.link == link:
                lease.named_seq = 1
        self._out.append(do.SayHello(session.stream))

    def _stream_closed(self, now: int, closed: said.StreamClosed) -> None:
        session = self.sessions.get(closed.stream)
        if session is None:
            return
        if not session.over:
            self._let_go(session)
            if session.welcomed or session.awaited:
                # Of one that nobody has heard of there is nothing to say: a member may be out of reach for long.
                self._hurry(now)
        del self.sessions[closed.stream]

    def _let_go(self, session: Session) -> None:
        """Whatever is still said there has no effect."""
        session.over = True
        del self._by_link[session.link]
        if session.welcomed:
            self._speaking.remove(session)
        if session is self.home:
            self.home = None
        self._forget_unaccepted(session.link)
        self._spool(self.book.unacked.unspooled(session.link))

    def _forget_unaccepted(self, link: int) -> None:
        """Grants that were never accepted are as good as lost: the next Hello does not name them."""
        for lease in [lease for lease in self.book.held.values() if lease.phase is Phase.GRANTED]:
            if lease.link in (link, NOBODY):
                self._forget(lease)

    def _hurry(self, now: int, but: Session | None = None) -> None:
        """Links have changed, or there are more orphans: all but that one hear of it at once."""
        for session in self._speaking:
            if session is not but:
                session.heartbeat_at = now
                session.names_all = True

    def _welcomed(self, now: int, welcome: said.Welcomed) -> None:
        session = self.sessions.get(welcome.stream)
        if session is None or session.over or session.welcomed:
            return
        refusal = self._refused_welcome(session, welcome)
        if refusal:
            self._out.append(do.CloseStream(session.stream, refusal))
            return
        session.coordinator = welcome.coordinator_id
        session.epoch = self._last_sessions[session.link] = welcome.session_epoch
        self._newest_session = max(self._newest_session, session.epoch)
        session.welcomed = True
        session.heard_at = now
        session.heartbeat_interval = welcome.heartbeat_interval
        session.lease_ttl = welcome.lease_ttl
        session.resend_interval = welcome.resend_interval
        session.heartbeat_at = now + welcome.heartbeat_interval
        self._speaking.append(session)
        if session.link == HOME:
            # If it is paused still, that is said next.
            self.paused = False
            self._follow_head(now, welcome.coordinator_epoch)
        if self.is_linked:
            self._hurry(now, but=session)
        if self.draining:
            self._say_draining(now, session)
        self._send(now, [lease for lease in self.book.unacked.leases.values() if lease.link == session.link])

    def _refused_welcome(self, session: Session, welcome: said.Welcomed) -> str:
        """Why the session is not to be; empty: it may be."""
        if session.link == HOME:
            return "stale_coordinator" if welcome.coordinator_epoch < self.head_epoch else ""
        peer = self.links.peers[session.link]
        same = (welcome.coordinator_id, welcome.coordinator_epoch) == (peer.coordinator_id, peer.epoch)
        return "" if same and welcome.head_epoch == self.head_epoch else "stale_member"

    def _follow_head(self, now: int, epoch: int) -> None:
        """Members of an older head are over by its claim, whether they know it or not."""
        if epoch > self.head_epoch:
            self.head_epoch = epoch
            self._keep_links(now, ())

    def _peers_named(self, now: int, session: Session, named: said.PeersNamed) -> None:
        if session.link == HOME:
            self._keep_links(now, named.peers)

    def _keep_links(self, now: int, peers: Sequence[Peer]) -> None:
        gone = self.links.name(peers)
        if gone is None:
            return
        self.is_linked = True
        for link in gone:
            self._last_sessions.pop(link, None)
            session = self._by_link.get(link)
            if session is not None:
                self._let_go(session)
        self._out.append(do.KeepLinks(list(self.links.peers.items())))
        if gone:
            self._hurry(now)

    def _runs_moved(self, now: int, session: Session, moved: said.RunsMoved) -> None:
        """What is granted and not yet accepted goes on, too: its acceptance is on its way to somebody who passes it
        over, and it is named from then on."""
        run_ids = set(moved.run_ids)
        leases = [lease for lease in self.book.held.values() if lease.link == session.link and lease.key[0] in run_ids]
        if not leases:
            return
        for lease in leases:
            lease.link = NOBODY
        self.is_linked = True
        self._spool([lease for lease in leases if lease.result is not None and not lease.result.spooled])
        self._hurry(now)

    def _goaway_ordered(self, now: int, session: Session, goaway: said.GoawayOrdered) -> None:
        self._out.append(do.CloseStream(session.stream, goaway.reason, goaway.reconnect_after, goaway.message))

    def _redirected(self, now: int, session: Session, redirect: said.Redirected) -> None:
        """A member that sends a link away is none any more, and the head says who is."""
        if session.link != HOME:
            self._out.append(do.CloseStream(session.stream, "redirected"))
            return
        self._out.append(do.UseAddress(redirect.address))
        self._out.append(do.CloseStream(session.stream, "redirected", 0))

    def _beat(self, now: int, session: Session, chance: float) -> None:
        spread = 1 + HEARTBEAT_JITTER * (2 * chance - 1)
        session.heartbeat_at = now + int(session.heartbeat_interval * spread)
        if now - session.heard_at > MOST_SILENT_BEATS * session.heartbeat_interval:
            # The connection lives, and nobody speaks: another one may find somebody who does.
            self._out.append(do.CloseStream(session.stream, "silent"))
        else:
            self._out.append(do.SendHeartbeat(session.stream))

    def _say_draining(self, now: int, session: Session) -> None:
        patience = max((self._drain_at or now) - now, 0)
        self._out.append(do.SendDraining(session.stream, patience, self._drain_reason))

    def _by_stream(self, leases: list[Lease]) -> Iterable[tuple[int, list[Lease]]]:
        """By the stream of their link; 0: there is none."""
        if not self.is_linked:
            return ((0 if self.home is None else self.home.stream, leases),) if leases else ()
        streams: dict[int, list[Lease]] = {}
        for lease in leases:
            session = self._by_link.get(lease.link)
            streams.setdefault(0 if session is None else session.stream, []).append(lease)
        return streams.items()

    # --- results

    def _send(self, now: int, leases: list[Lease]) -> None:
        """To whoever speaks for them."""
        if self.is_linked and any(lease.link != leases[0].link for lease in leases):
            for link in dict.fromkeys(lease.link for lease in leases):
                self._send(now, [lease for lease in leases if lease.link == link])
            return
        if not leases:
            return
        session = self._by_link.get(leases[0].link)
        if session is None or not session.welcomed:
            # Nobody acknowledges it soon.
            self._spool([lease for lease in leases if not result_of(lease).spooled])
            return
        for lease in leases:
            result_of(lease).sent_at = now
        session.resend_at = sooner(session.resend_at, now + session.resend_interval)
        self._out.append(do.SendResults(session.stream, leases))

    def _resend_results(self, now: int, session: Session) -> None:
        leases, session.resend_at = self.book.unacked.due_again(now, session.resend_interval, session.link)
        self._send(now, leases)

    def _results_acked(self, now: int, session: Session, acked: said.ResultsAcked) -> None:
        unspooled: list[bytes] = []
        for key, token, result_id in acked.acks:
            lease = self.book.find(key, token)
            if lease is None or lease.link != session.link:
                continue
            if lease.result is None or lease.result.result_id != result_id:
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
