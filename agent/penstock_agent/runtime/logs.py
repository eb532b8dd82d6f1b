"""The lines that steps print, on their way to the coordinators that their leases are held by: each of these gets them
by streams of their own. What is without an answer is sent again as it was, and the coordinator takes each line once.

The buffer is bounded. When it is full the workers' lines are not read, so the steps that print wait; if that lasts,
because no coordinator takes lines, the oldest lines are dropped instead, and the log says so: a step is never stopped
for long by its own output.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from penstock_agent.core.leases import HOME, NOBODY, Handle
from penstock_agent.executors.channel import SYSTEM, LogLines
from penstock_agent.own_log import OwnLog
from penstock_agent.runtime import log_lines
from penstock_agent.runtime.log_lines import Dropped, Message, Queue, waiting
from penstock_agent.runtime.log_pushes import LogPusher

if TYPE_CHECKING:
    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
    from penstock_agent.runtime.log_lines import Line, Name

log = OwnLog(__name__)

FULL_BYTES = 8 * 1024 * 1024
ROOM_BYTES = FULL_BYTES // 2
HELD_UP = 5.0
"""So long a full buffer holds steps up while no coordinator is there to take anything, in seconds. One that is only
slow makes them wait."""
SLOW_LOOKS = 12
"""Of one that has let a stream in, or may yet: so many times as long must go by without a message taken or a stream
answered. One that is starved or frozen, or whose database is, may be back any moment."""
REMEMBERED = 1_024
"""Attempts that ended, and whose last lines may still come."""


def _home(handle: Handle) -> int | None:
    """The link of a lease, where there are no others."""
    return HOME


class LogRelay:
    """An `OutputSink`. `run` is its task; lines are added on the same loop.

    `link_of` gives the link that a lease is held by now, NOBODY if that is no coordinator's, None if it is over."""

    def __init__(
        self,
        agent_id: str,
        chance: Callable[[], float] = random.random,
        link_of: Callable[[Handle], int | None] = _home,
    ) -> None:
        self._chance = chance
        self._link_of = link_of
        self.on_room: Callable[[], None] | None = None
        self._agent_id = agent_id
        self._names: dict[Handle, tuple[Name, int]] = {}
        """With how many lines the attempt has before its own."""
        self._prefaces: dict[Handle, Sequence[str]] = {}
        """Lines of attempts that have not begun: a lease that is handed back leaves none, for the next one of the same
        attempt counts its own from 1."""
        self._ended: deque[Handle] = deque()
        self._links: frozenset[int] = frozenset()
        """To members, whether they are open or not."""
        self._queues: dict[int, Queue] = {HOME: Queue()}
        """By link. What is NOBODY's waits until somebody has its lease."""
        self._pushers: dict[int, LogPusher] = {HOME: LogPusher(HOME, self, chance)}
        """Of links that are open, and home's."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._last_links: dict[Handle, int] = {}
        """Of leases that are over, where that is not home."""
        self._dropped: dict[Handle, Dropped] = {}
        """Of which the log does not say so yet."""
        self._bytes = 0
        """Of all that is not known to be durable."""
        self._full = False
        self._taken = 0
        """Messages and answers so far: it grows while a coordinator takes lines."""
        self._looks = 0
        """At a full buffer, since something was taken."""
        self.closing = False

    # --- attempts

    def introduce(self, handle: Handle, ref: wire.LeaseRef, attempt: int, preface: Sequence[str] = ()) -> None:
        """Lines of this handle will come, counted from 1. Those of the preface come before them, if it begins."""
        self._names[handle] = ((ref, attempt), len(preface))
        if preface:
            self._prefaces[handle] = preface

    def begun(self, handle: Handle) -> None:
        """The attempt has begun, or never will: its preface is part of its log."""
        preface = self._prefaces.pop(handle, None)
        if preface is not None:
            before = len(preface)
            lines = [(number - before, SYSTEM, 0, text) for number, text in enumerate(preface, 1)]
            self.add(LogLines(handle, lines))

    def attempt_ended(self, handle: Handle) -> None:
        self._prefaces.pop(handle, None)
        self._ended.append(handle)
        if len(self._ended) > REMEMBERED:
            old = self._ended.popleft()
            self._names.pop(old, None)
            self._last_links.pop(old, None)

    # --- lines

    @property
    def is_full(self) -> bool:
        return self._full

    def add(self, batch: LogLines) -> None:
        if self._prefaces:
            self.begun(batch.handle)
        known = self._names.get(batch.handle)
        if known is None:
            return
        name, before = known
        lines: list[Line] = batch.lines
        if before:
            lines = [(number + before, source, offset, text) for number, source, offset, text in lines]
        link = HOME if self._is_simple else self._link(batch.handle)
        queue = self._queue(link)
        most = log_lines.MESSAGE_LINES
        for start in range(0, len(lines), most):
            each = waiting(batch.handle, name, lines[start : start + most])
            queue.waiting.append(each)
            self._bytes += each.size
        if self._bytes >= FULL_BYTES and not self._full:
            self._full = True
            self._looks = 0
            self._look_again()
        self._wake(link)

    def _look_again(self) -> None:
        asyncio.get_running_loop().call_later(HELD_UP, self._drop_if_stuck, self._taken)

    def _drop_if_stuck(self, taken: int) -> None:
        if not self._full:
            return
        self._looks = 0 if self._taken > taken else self._looks + 1
        silent = [queue for link, queue in self._queues.items() if not self._is_heard(link)]
        heard = len(silent) < len(self._queues)
        if heard and sum(queue.size for queue in silent) > ROOM_BYTES:
            # Whoever has a coordinator does not wait for one that is away.
            self._drop_oldest(silent)
        elif self._looks < (SLOW_LOOKS if heard else 1):
            self._look_again()
        else:
            self._drop_oldest([*silent, *(queue for queue in self._queues.values() if queue not in silent)])

    def _drop_oldest(self, queues: Iterable[Queue]) -> None:
        self._looks = 0
        count = 0
        for queue in queues:
            while self._bytes > ROOM_BYTES and queue.waiting:
                each = queue.waiting.popleft()
                self._drop(each.size, each.dropped())
                count += len(each.lines)
        log.warning("log_lines_dropped", lines=count, reason="no coordinator takes them")
        self._tell_of_room()
        if self._full:
            self._look_again()

    def _is_heard(self, link: int) -> bool:
        pusher = self._pushers.get(link)
        return pusher is not None and pusher.is_heard

    def _drop(self, size: int, *parts: Dropped) -> None:
        self._bytes -= size
        for part in parts:
            known = self._dropped.setdefault(part.handle, part)
            if known is not part:
                known.count += part.count
                known.last = max(known.last, part.last)

    def _tell_of_room(self) -> None:
        if self._full and self._bytes <= ROOM_BYTES:
            self._full = False
            if self.on_room is not None:
                self.on_room()

    @property
    def lines_waiting(self) -> int:
        """To be sent, or sent again."""
        return sum(queue.lines for queue in self._queues.values())

    # --- whom they are for

    @property
    def _is_simple(self) -> bool:
        """There is home alone."""
        return not self._links and len(self._queues) == 1

    def _queue(self, link: int) -> Queue:
        queue = self._queues.get(link)
        if queue is None:
            queue = self._queues[link] = Queue()
        return queue

    def _link(self, handle: Handle) -> int:
        """That its lines are for. Those of a lease that is over are for whom it was held by last."""
        link = self._link_of(handle)
        if link is None:
            link = self._last_links.get(handle, HOME)
            return link if link in self._links else HOME
        if link != HOME or handle in self._last_links:
            self._last_links[handle] = link
        return link if link == HOME or link in self._links else NOBODY

    def keep_links(self, links: Iterable[int]) -> None:
        """There are these to members, and no others."""
        self._links = frozenset(links)
        self.sort()

    def sort(self) -> None:
        """Leases may be held by others than when their lines came."""
        if self._is_simple:
            return
        queues, self._queues = self._queues, {HOME: Queue()}
        for queue in queues.values():
            self._sort(queue, lambda handle, run_id: self._link(handle))
        for link in self._queues:
            self._wake(link)

    def _sort(self, queue: Queue, link_of: Callable[[Handle, bytes], int]) -> None:
        """By attempt and run."""
        for each in queue.waiting:
            self._queue(link_of(each.handle, each.name[0].run_id)).waiting.append(each)
        for message in queue.again:
            links = {batch.handle: link_of(batch.handle, batch.lines.lease.run_id) for batch in message.batches}
            for link in dict.fromkeys(links.values()):
                batches = [batch for batch in message.batches if links[batch.handle] == link]
                whole = len(batches) == len(message.batches)
                self._queue(link).again.append(message if whole else Message.of(self._agent_id, batches))

    def run_moved(self, link: int, run_id: bytes) -> None:
        """Its lines go to whoever has their lease. One that still seems to be held by this link is soon another one's;
        lines of leases that are over are for whoever has the run, so they go round."""
        queue, self._queues[link] = self._queue(link), Queue()

        def next_link(handle: Handle, run: bytes) -> int:
            if run != run_id:
                return link
            held_by = self._link_of(handle)
            if held_by is not None:
                return NOBODY if held_by == link else self._link(handle)
            following = sorted({HOME, *self._links}, key=lambda other: (other <= link, other))
            self._last_links[handle] = following[0]
            return following[0]

        self._sort(queue, next_link)
        for other in self._queues:
            self._wake(other)

    # --- the streams

    def use(self, stub: AgentServiceStub | None, link: int = HOME) -> None:
        """Where to push the lines of this link from now on; None: nowhere for now."""
        if link == HOME:
            self._pushers[HOME].use(stub)
            return
        self._pushers.pop(link, None)
        task = self._tasks.pop(link, None)
        if task is not None:
            task.cancel()
        if stub is not None:
            pusher = self._pushers[link] = LogPusher(link, self, self._chance)
            pusher.use(stub)
            if self._group is not None and not self.closing:
                self._tasks[link] = self._group.create_task(pusher.run())

    def _wake(self, link: int) -> None:
        pusher = self._pushers.get(link)
        if pusher is not None:
            pusher.changed.set()

    def close(self) -> None:
        """No more lines come: `run` ends when it has pushed those that it has."""
        self.closing = True
        self.sort()  # Lines that were nobody's are for the head if their leases are over by now.
        for link in self._pushers:
            self._wake(link)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for link, pusher in self._pushers.items():
                    self._tasks[link] = group.create_task(pusher.run())
                self._group = group
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._group = None

    def has_lines(self, link: int) -> bool:
        """To send. What was dropped is not told to a coordinator that takes no lines, before others come."""
        queue = self._queues.get(link)
        return (queue is not None and bool(queue.again or queue.waiting)) or self._has_dropped(link)

    def _has_dropped(self, link: int) -> bool:
        if not self._dropped or ((pusher := self._pushers.get(link)) is not None and pusher.unserved):
            return False
        return self._is_simple or any(self._link(handle) == link for handle in self._dropped)

    def next_message(self, link: int) -> Message | None:
        queue = self._queue(link)
        if self._dropped and not queue.again:
            self._say_dropped(link)
        return queue.next(self._agent_id)

    def _say_dropped(self, link: int) -> None:
        for handle in [handle for handle in self._dropped if self._is_simple or self._link(handle) == link]:
            told = self._dropped.pop(handle).told()
            self._queue(link).waiting.appendleft(told)
            self._bytes += told.size

    def was_sent(self) -> None:
        self._taken += 1

    def sent_in_vain(self, link: int, messages: list[Message]) -> None:
        self._queue(link).again.extendleft(reversed(messages))

    def durable(self, messages: list[Message]) -> None:
        self._bytes -= sum(message.size for message in messages)
        self._taken += len(messages)
        self._tell_of_room()

    def never_taken(self, link: int) -> None:
        """The log of each attempt says so once there is a coordinator that takes lines."""
        queue, pusher = self._queue(link), self._pushers.get(link)
        for message in queue.again:
            for batch in message.batches:
                self._drop(batch.size, *batch.parts)
        for each in queue.waiting:
            self._drop(each.size, each.dropped())
        queue.again.clear()
        queue.waiting.clear()
        while len(self._dropped) > REMEMBERED:
            self._dropped.pop(next(iter(self._dropped)))
        if pusher is not None and not pusher.unserved:
            count = sum(dropped.count for dropped in self._dropped.values())
            log.warning("log_lines_dropped", lines=count, reason="this coordinator takes none, nor those that come")
            pusher.unserved = True
        self._tell_of_room()
