"""An agent's streams: one home, to the head, and one by each link, to a member.

What the agent's shell does (`runtime/connection.py`, `runtime/links.py`) is written here a second time, on the
timeline.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.testing import words
from penstock.testing.network import End, Link
from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.leases import HOME, Held, Lease, Phase
from penstock_agent.core.links import Peer
from penstock_agent.core.rounds import Rounds
from penstock_agent.core.ways import Ways

if TYPE_CHECKING:
    from penstock.testing.agents import AgentProcess
    from penstock_agent.core.book import GivenUp
    from penstock_agent.core.talking import Named

FIRST_BACKOFF, MOST_BACKOFF = 100 * MILLISECOND, 5 * SECOND
WELCOME_WITHIN = 10 * SECOND
WELCOME_OF_SEVERAL_WITHIN = 4 * SECOND
RECONNECT_AFTER = {"not_the_leader": 500 * MILLISECOND}
RECONNECT_SOON = 100 * MILLISECOND
GATHER = 1 * MILLISECOND


class AgentStream:
    """One way to a coordinator. The streams on it follow each other."""

    def __init__(self, agent: AgentProcess, number: int) -> None:
        """`number`: of the link, HOME for none."""
        self.agent = agent
        self.number = number
        self.link: Link | None = None
        self.stream = 0
        """Its number, of the one that is open or was last."""
        self.closed = False
        """No stream follows."""
        self._end: End | None = None
        self._welcomed = False
        self._backoff = FIRST_BACKOFF
        self._opened_at = 0
        self._reconnect_after: int | None = None
        self._outbox: list[Any] = []
        self._flushing = False
        self._closing = False

    # --- for each kind

    welcome_within = WELCOME_WITHIN
    needs_welcome = True
    """Only a stream that was in use is a reason to come back soon."""

    def connect_to(self, end: End) -> Link | None:
        raise NotImplementedError

    def was_heard(self) -> None:
        """A word came."""

    def was_welcomed(self, welcome: words.Welcome) -> None:
        """The stream is in use from now on."""

    def pause_before_next(self) -> int | None:
        """None: as long as is usual after what has happened; else so long."""
        return None

    # --- streams come and go

    def connect(self) -> None:
        agent = self.agent
        if agent.left or self.closed:
            return
        self.stream = agent.next_stream(self)
        self._welcomed = False
        agent.machine.invariants.connects(agent)
        end = End(agent, partial(self._hear, self.stream), self._ended)
        link = self.connect_to(end)
        if link is None:
            self._retry()
            return
        self.link, self._end = link, end
        self._closing = False
        self._opened_at = agent.timeline.now
        self._outbox.clear()
        agent.post(said.StreamOpened(self.stream, self.number))
        agent.after(self.welcome_within, self._check_welcome, self.stream)

    def _check_welcome(self, stream: int) -> None:
        session = self.agent.holder.sessions.get(stream)
        if stream == self.stream and session is not None and not session.welcomed:
            self.hang_up()

    def _retry(self) -> None:
        if self.closed:
            return
        agent = self.agent
        pause = self.pause_before_next()
        if pause is not None:
            agent.after(pause, self.connect)
            return
        lasted = agent.timeline.now - self._opened_at
        if lasted > MOST_BACKOFF and (self._welcomed or not self.needs_welcome):
            self._backoff = FIRST_BACKOFF
        wait, self._reconnect_after = self._reconnect_after, None
        chance = agent.timeline.random.random()
        if wait is None:
            wait = int(self._backoff * chance)
            self._backoff = min(self._backoff * 2, MOST_BACKOFF)
        else:
            wait = int(wait * (1 + chance))
        agent.after(wait + MILLISECOND, self.connect)

    def hang_up(self) -> None:
        if self.link is not None and self._end is not None:
            self.link.close(self._end)
            self._ended()

    def end(self) -> None:
        """For good."""
        self.closed = True
        self.hang_up()

    def vanish(self) -> None:
        """The process is gone."""
        if self.link is not None and self._end is not None:
            self.link.vanish(self._end)

    def close_soon(self, reconnect_after: int | None = None) -> None:
        """Once what was said is written."""
        self._reconnect_after = reconnect_after
        self._closing = True
        self._flush_soon()

    @property
    def closes(self) -> bool:
        return self._closing

    def _ended(self) -> None:
        if self.link is None:
            return
        self.link = self._end = None
        self._outbox.clear()
        self.agent.post(said.StreamClosed(self.stream))
        if not self.agent.left:
            self._retry()

    # --- what is said

    def say(self, word: Any) -> None:
        """Gathered, and written a moment later, in order; what must be of the moment is made when it is written."""
        if self.link is not None:
            self._outbox.append(word)
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.agent.after(int(self.agent.timeline.random.random() * GATHER), self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._outbox and self.link is not None:
            gathered, self._outbox = sorted(self._outbox, key=lambda word: _ORDER[type(word)]), []
            for word in gathered:
                self._write(word)
        if self._closing:
            self._closing = False
            self.hang_up()

    def _write(self, effect: Any) -> None:
        link, agent = self.link, self.agent
        if link is None or self.stream not in agent.holder.sessions:
            return
        word = self._word(effect)
        if word is None:
            return
        seq = agent.holder.stamp(agent.now(), self.stream)
        link.to_coordinator((seq, word))
        if type(effect) is do.Accept:
            agent.post(said.AcceptsWritten([lease.handle for lease in effect.leases], seq))

    def _word(self, effect: Any) -> words.AgentWord | None:
        holder = self.agent.holder
        match effect:
            case do.SendResults():
                held = [lease for lease in effect.leases if holder.book.holds(lease)]
                return words.Results([_result(lease) for lease in held]) if held else None
            case do.Accept():
                return words.Accepted([(lease.key, lease.token) for lease in effect.leases])
            case do.SendCredits():
                return words.Credits(effect.grant_limit)
            case do.SendHeartbeat():
                return self._heartbeat()
            case do.Reject():
                return words.Rejected(effect.leases)
            case do.SendReturned():
                return words.Returned(effect.leases, effect.void_credits)
            case do.SendDraining():
                return words.Draining()
            case do.SayHello():
                return self._hello()
            case _:
                assert isinstance(effect, words.Goodbye)
                return effect

    def _heartbeat(self) -> words.Heartbeat | None:
        agent = self.agent
        agent.measure_disk()
        named = agent.holder.named_in_heartbeat(agent.now(), self.stream)
        session = agent.holder.sessions.get(self.stream)
        if named is None or session is None:
            return None
        elsewhere = _elsewhere(named, agent.holder.book.given_up) if agent.holder.is_linked else None
        return words.Heartbeat(_held(named.held), session.echo, elsewhere)

    def _hello(self) -> words.Hello | None:
        agent = self.agent
        spec, holder = agent.machine.spec, agent.holder
        named = holder.named_in_hello(agent.now(), self.stream)
        if named is None:
            return None
        return words.Hello(
            spec.name,
            agent.boot_id,
            spec.slots,
            named.coordinator_epoch,
            frozenset(spec.queues),
            spec.labels,
            spec.resources,
            self.stream,
            _held(named.held),
            holder.book.given_up.named(),
            holder.book.given_up.complete,
            _elsewhere(named, holder.book.given_up),
            named.head_epoch,
        )

    # --- what is heard

    def _hear(self, stream: int, word: words.CoordinatorWord) -> None:
        """The other end's words, in the holder's vocabulary."""
        if stream == self.stream:
            self.was_heard()
        self.agent.hear(stream, self, word)
        if stream != self.stream or not isinstance(word, words.Welcome):
            return
        session = self.agent.holder.sessions.get(stream)
        if session is not None and session.welcomed:
            self._welcomed = True
            self.was_welcomed(word)


class HomeStream(AgentStream):
    """To the head, wherever that is."""

    def __init__(self, agent: AgentProcess) -> None:
        super().__init__(agent, HOME)
        addresses = list(agent.machine.weathers)
        self._rounds = Rounds(addresses, agent.timeline.random.random() if len(addresses) > 1 else 0.0)
        self._ways = Ways()
        self._address = ""
        """Of the stream that is open, or was last."""
        self._is_sent = False
        """There, by somebody who has named it as the owner's."""
        self._heard = False
        """A word on it."""
        self.needs_welcome = self._rounds.several
        self.welcome_within = WELCOME_OF_SEVERAL_WITHIN if self._rounds.several else WELCOME_WITHIN

    def connect_to(self, end: End) -> Link | None:
        self._heard = False
        self._is_sent = self._rounds.is_sent
        self._address = self._rounds.next()
        return self.agent.machine.connect(self.agent, end, self._address, self._ways.unreachable(self._seconds()), "")

    def use_address(self, address: str) -> None:
        self._rounds.name(address)

    def was_heard(self) -> None:
        self._heard = True

    def was_welcomed(self, welcome: words.Welcome) -> None:
        self._ways.set_pace(welcome.heartbeat_interval / SECOND)
        if self.link is not None and self.link.relayed_to:
            self._look_for_a_way_back(self.stream, self.link.relayed_to)
        self.agent.machine.invariants.welcomed(self.agent, "", welcome.coordinator_epoch)

    def pause_before_next(self) -> int | None:
        if self._heard:
            self._ways.reached(self._address)
        elif self._is_sent:
            self._ways.failed(self._address, self._seconds(), self.agent.timeline.random.random())
        return None if self._rounds.over(good=self._welcomed) else MILLISECOND

    def _seconds(self) -> float:
        return self.agent.now() / SECOND

    def _look_for_a_way_back(self, stream: int, owner: str) -> None:
        """While that stream is passed on."""
        if self.stream != stream or self.link is None or self._closing:
            return
        agent = self.agent
        wait = int((self._ways.retry_at(owner) - self._seconds()) * SECOND)
        if wait > 0:
            agent.after(agent.machine.clock.true_span(wait), self._look_for_a_way_back, stream, owner)
        elif agent.machine.serves(agent.machine, owner):
            agent.note("goes directly to", owner)
            self._rounds.name(owner)
            self.close_soon()
        else:
            self._ways.failed(owner, self._seconds(), agent.timeline.random.random())
            agent.after(MILLISECOND, self._look_for_a_way_back, stream, owner)


class LinkStream(AgentStream):
    """To one incarnation of a member."""

    def __init__(self, agent: AgentProcess, number: int, peer: Peer) -> None:
        super().__init__(agent, number)
        self.peer = peer

    def connect_to(self, end: End) -> Link | None:
        return self.agent.machine.connect(self.agent, end, self.peer.address, (), self.peer.name)

    def was_welcomed(self, welcome: words.Welcome) -> None:
        self.agent.machine.invariants.welcomed(self.agent, self.peer.coordinator_id, welcome.coordinator_epoch)


_ORDER = {
    do.SayHello: 0,
    do.SendDraining: 0,
    do.Accept: 1,
    do.Reject: 2,
    do.SendReturned: 3,
    do.SendResults: 4,
    do.SendCredits: 5,
    do.SendHeartbeat: 6,
    words.Goodbye: 7,
}
"""What is gathered is written in this order: what a heartbeat tells is the newest."""
SAID = _ORDER.keys() - {words.Goodbye}


def _held(named: list[Held]) -> list[words.HeldLease]:
    return [
        (held.key, held.token, held.phase is Phase.FINISHED, held.phase is Phase.ACCEPTED, False, held.session)
        for held in named
    ]


def _elsewhere(named: Named, given_up: GivenUp) -> words.Elsewhere:
    return words.Elsewhere(
        _held(named.elsewhere),
        frozenset(named.open_sessions),
        named.pending,
        frozenset(named.links),
        named.names_all,
        frozenset(given_up.named() if named.names_all else ()),
        named.names_all and given_up.complete,
        named.newest_session,
    )


def _result(lease: Lease) -> words.Result:
    result = lease.result
    assert result is not None
    output = result.body if isinstance(result.body, bytes) else b""
    error = result.body if isinstance(result.body, str) else ""
    return words.Result(lease.key, lease.token, result.result_id, result.status, output, error)
