"""The agent's open streams: what comes on them goes to the holder in its words, and their channels to whoever calls the
coordinator that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock_agent.core import inputs as said
from penstock_agent.core.leases import HOME
from penstock_agent.own_log import Correlation, OwnLog
from penstock_agent.runtime import clock
from penstock_agent.runtime.decoding import Decoder
from penstock_agent.runtime.wire import OutputLimits, lease_key

if TYPE_CHECKING:
    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock_agent.core.holder import Holder
    from penstock_agent.core.leases import Handle, Lease
    from penstock_agent.runtime.bundles import BundleCache
    from penstock_agent.runtime.logs import LogRelay
    from penstock_agent.runtime.outbox import Outbox
    from penstock_agent.runtime.staging import Staging
    from penstock_agent.runtime.stubs import LeaseStubs, Stubs

log = OwnLog(__name__)

DEFAULT_MAX_OUTPUT_BYTES = 256 * 1024
_MOVING = said.Judged, said.RunsMoved
"""After these words leases may be of other links. A tuple: it is asked of every word."""


class Conversations:
    """A `Listener`."""

    def __init__(
        self,
        holder: Holder,
        post: Callable[[said.Input], None],
        staging: Staging,
        stubs: LeaseStubs,
        logs: LogRelay,
        bundles: BundleCache,
    ) -> None:
        self.holder = holder
        self.post = post
        self.outboxes: dict[int, Outbox] = {}
        """By stream."""
        self.homes = 0
        """Streams that were opened to heads."""
        self._staging = staging
        self._stubs = stubs
        self._logs = logs
        self._bundles = bundles
        self._open: dict[int, Conversation] = {}

    def stream_opened(self, stream: int, link: int, outbox: Outbox, stubs: Stubs) -> Conversation:
        self.homes += link == HOME
        self.outboxes[stream] = outbox
        conversation = self._open[stream] = Conversation(self, stream, link, stubs)
        self.post(said.StreamOpened(stream, link))
        return conversation

    def is_held(self, lease: Lease) -> bool:
        return self.holder.book.holds(lease)

    def link_of(self, stream: int) -> int | None:
        """None: the stream is over."""
        conversation = self._open.get(stream)
        return None if conversation is None else conversation.link

    def welcomed(self, conversation: Conversation, welcome: wire.Welcome, word: said.Welcomed) -> bool:
        # Before the answer to Welcome is made, so that it can be sent and what it needs can be fetched.
        self._staging.output_limits = OutputLimits(
            welcome.max_output_bytes or DEFAULT_MAX_OUTPUT_BYTES, welcome.inline_output_bytes
        )
        self.post(word)
        session = self.holder.sessions.get(conversation.stream)
        if session is None or not session.welcomed:
            return False
        if conversation.link == HOME:
            Correlation.session = word.session_epoch
            log.info("connected", coordinator=word.coordinator_id)
        else:
            log.info("linked", coordinator=word.coordinator_id)
        conversation.welcomed = True
        self._logs.use(conversation.stubs.agents, conversation.link)
        self._stubs.use(conversation.stream, conversation.stubs)
        self._use_bundles()
        return True

    def closed(self, conversation: Conversation) -> None:
        stream, link = conversation.stream, conversation.link
        del self._open[stream], self.outboxes[stream]
        if link == HOME:
            Correlation.session = 0
        self._logs.use(None, link)
        self._stubs.drop(stream)
        self._use_bundles()
        self.post(said.StreamClosed(stream))

    def _use_bundles(self) -> None:
        """Any coordinator has them: the head, if it is there."""
        welcome = [each for each in self._open.values() if each.welcomed]
        first = min(welcome, key=lambda each: each.link, default=None)
        self._bundles.use(None if first is None else first.stubs.bundles)

    def leases_moved(self) -> None:
        """From one link to another, perhaps: so do their lines, and what is asked of their coordinator."""
        self._stubs.look_again()
        self._logs.sort()


class Conversation:
    """An `OpenStream`."""

    __slots__ = ("_decoder", "_of", "link", "stream", "stubs", "welcomed")

    def __init__(self, of: Conversations, stream: int, link: int, stubs: Stubs) -> None:
        self._of = of
        self.stream = stream
        self.link = link
        self.stubs = stubs
        self.welcomed = False
        self._decoder = Decoder(stream)

    def says(self, message: wire.CoordinatorMessage) -> bool:
        word = self._decoder.decode(message)
        if word is None:
            return False
        if isinstance(word, said.Welcomed):
            return self._of.welcomed(self, message.welcome, word)
        self._of.post(word)
        if isinstance(word, _MOVING):
            self._of.leases_moved()
        return False

    def closed(self) -> None:
        self._of.closed(self)

    def stamp(self) -> int:
        return self._of.holder.stamp(clock.now(), self.stream)

    def written(self, accepted: list[Handle], seq: int) -> None:
        self._of.post(said.AcceptsWritten(accepted, seq))


def stream_of(holder: Holder, ref: wire.LeaseRef) -> int | None:
    """The welcomed stream by which a lease is held; None: nobody speaks for it now. Of one that is over: home."""
    lease = holder.book.find(lease_key(ref), ref.token)
    session = holder.home if lease is None else holder.speaker(lease)
    return session.stream if session is not None and session.welcomed else None


def link_of(holder: Holder, handle: Handle) -> int | None:
    """The link that a lease is held by; None: it is over."""
    lease = holder.book.all.get(handle)
    return None if lease is None else lease.link
