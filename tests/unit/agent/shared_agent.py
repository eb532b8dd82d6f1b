"""An agent with several coordinators in a model of time: the real holder, coordinators that place what they have as
soon as they have credits, and steps that take their time in as many slots as there are."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.holder import Holder
from penstock_agent.core.leases import Ended, Grant, Handle, LeaseKey, Outcome
from penstock_agent.core.links import Peer

MILLISECOND = 1_000
SECOND = 1_000_000
WAY = MILLISECOND
"""From one end of a stream to the other."""


@dataclass
class Owner:
    """`ready` steps wait; each that is placed takes `run_time`."""

    stream: int
    run_time: int
    ready: int = 0
    limit: int = 0
    granted: int = 0
    returned: int = 0
    ended: int = 0
    more: int = 0
    """So many steps are ready when one has ended."""


@dataclass
class SharedAgent:
    slots: int
    owners: list[Owner]
    now: int = 1_000 * SECOND
    empty: int = 0
    """Microseconds of slots without an attempt while some owner had a step ready."""
    _events: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _number: int = 0
    _queue: deque[tuple[Handle, int]] = field(default_factory=deque)
    _running: set[Handle] = field(default_factory=set)
    _of: dict[LeaseKey, Owner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.holder = Holder(self.slots)
        self._do(self.holder.handle(self.now, said.StreamOpened(1)))
        self.holder.stamp(self.now, 1)
        self._do(self.holder.handle(self.now, _welcome(1, "head", 1)))
        peers = [Peer(f"member-{owner.stream}", "", owner.stream) for owner in self.owners[1:]]
        self._do(self.holder.handle(self.now, said.PeersNamed(1, peers)))
        for link, owner in enumerate(self.owners[1:], 1):
            self._do(self.holder.handle(self.now, said.StreamOpened(owner.stream, link)))
            self.holder.stamp(self.now, owner.stream)
            welcome = _welcome(owner.stream, f"member-{owner.stream}", owner.stream)
            self._do(self.holder.handle(self.now, welcome))

    def play(self, span: int) -> None:
        end = self.now + span
        for owner in self.owners:
            self._place(owner)
        while True:
            timer = self.holder.next_deadline()
            at = min(self._events[0][0] if self._events else end, timer if timer is not None else end)
            self._pass(min(max(at, self.now), end))
            if self.now >= end:
                return
            if self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            else:
                for owner in self.owners:
                    self.holder.sessions[owner.stream].heard_at = self.now
                self._do(self.holder.handle_timer(self.now, 0.5))

    def _pass(self, until: int) -> None:
        free = self.slots - len(self._running)
        self.empty += min(free, sum(owner.ready for owner in self.owners)) * (until - self.now)
        self.now = until

    def after(self, span: int, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + span, self._number, call))

    def add(self, owner: Owner, count: int) -> None:
        owner.ready += count
        self._place(owner)

    def _place(self, owner: Owner) -> None:
        while owner.ready and owner.granted < owner.limit:
            owner.ready -= 1
            owner.granted += 1
            self._number += 1
            key = (b"run", self._number, -1)
            self._of[key] = owner
            grant = Grant(owner.granted, key, self._number, 1, None, 0, None)
            basis = self.holder.sessions[owner.stream].seq
            self.after(WAY, partial(self._say, said.Granted(owner.stream, [grant], basis, 3600 * SECOND)))

    def _say(self, message: said.Input) -> None:
        self._do(self.holder.handle(self.now, message))

    def _do(self, effects: list[do.Effect]) -> None:
        for effect in effects:
            match effect:
                case do.SendCredits():
                    self.after(WAY, partial(self._raise, effect))
                case do.Accept():
                    seq = self.holder.stamp(self.now, effect.stream)
                    self._say(said.AcceptsWritten([lease.handle for lease in effect.leases], seq))
                case do.Start():
                    for lease in effect.leases:
                        self._queue.append((lease.handle, self._of[lease.key].run_time))
                    self._feed()
                case do.SendReturned():
                    for key, _, started in effect.leases:
                        assert not started
                        self._of[key].returned += 1
                        self.after(WAY, partial(self._take_back, self._of[key], effect.void_credits))
                case do.SendResults():
                    for lease in effect.leases:
                        assert lease.result is not None
                        ack = said.ResultsAcked(effect.stream, [(lease.key, lease.token, lease.result.result_id)])
                        self.after(WAY, partial(self._ended, self._of[lease.key]))
                        self.after(2 * WAY, partial(self._say, ack))

    def _raise(self, credits: do.SendCredits) -> None:
        owner = next(owner for owner in self.owners if owner.stream == credits.stream)
        owner.limit = max(owner.limit, credits.grant_limit)
        self._place(owner)

    def _take_back(self, owner: Owner, void: int) -> None:
        owner.limit, owner.granted = max(owner.limit, void), max(owner.granted, void)
        self.add(owner, 1)

    def _ended(self, owner: Owner) -> None:
        owner.ended += 1
        self.add(owner, owner.more)

    def _feed(self) -> None:
        while self._queue and len(self._running) < self.slots:
            handle, run_time = self._queue.popleft()
            self._running.add(handle)
            self.after(0, partial(self._say, said.AttemptsStarted([handle])))
            self.after(run_time, partial(self._finish, handle, run_time))

    def _finish(self, handle: Handle, run_time: int) -> None:
        self._running.discard(handle)
        self._feed()
        self._say(said.AttemptsEnded([Outcome(handle, Ended.OK, b"%d" % handle, run_time)]))


def _welcome(stream: int, coordinator: str, epoch: int) -> said.Welcomed:
    return said.Welcomed(stream, stream, coordinator, epoch, 5 * SECOND, 3600 * SECOND, 5 * SECOND, 1, head_epoch=1)
