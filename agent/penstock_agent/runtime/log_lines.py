"""Lines that wait for a coordinator, and the messages that they go in. What was sent once is sent again as it was, so
the coordinator knows its lines again, also after a restart, and so does whoever else gets them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.leases import Handle
from penstock_agent.executors.channel import SYSTEM
from penstock_agent.runtime.wire import span

MESSAGE_BYTES = 256 * 1024
MESSAGE_LINES = 2_000
LINE_OVERHEAD = 48

Name: TypeAlias = "tuple[wire.LeaseRef, int]"
"""Of an attempt: its lease, and which attempt it is."""
Line: TypeAlias = "tuple[int, int, int, str]"
"""Number, source, offset, text."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Lines that were not sent yet."""

    handle: Handle
    size: int
    name: Name
    lines: list[Line]
    missing: int = 0
    """If it is the word on lines that were dropped: how many."""

    def dropped(self) -> Dropped:
        return Dropped(self.handle, self.name, self.missing or len(self.lines), self.lines[-1])


def waiting(handle: Handle, name: Name, lines: list[Line]) -> Waiting:
    return Waiting(handle, sum(len(text) for _, _, _, text in lines) + LINE_OVERHEAD * len(lines), name, lines)


@dataclass(slots=True)
class Dropped:
    """Lines that nobody took, of one attempt."""

    handle: Handle
    name: Name
    count: int
    last: Line

    def told(self) -> Waiting:
        """In the place of the last of them."""
        number, _, offset, _ = self.last
        text = f"{self.count:,} lines are missing here: no coordinator took them"
        return Waiting(
            self.handle, len(text) + LINE_OVERHEAD, self.name, [(number, SYSTEM, offset, text)], missing=self.count
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """All lines of an attempt in one message: what the coordinator keeps by one row."""

    handle: Handle
    size: int
    lines: wire.LogBatch
    parts: list[Dropped]
    """What is to be said if it is dropped after all."""


@dataclass(frozen=True, slots=True)
class Message:
    batches: list[Batch]
    request: wire.PushLogsRequest

    @property
    def size(self) -> int:
        return sum(batch.size for batch in self.batches)

    @staticmethod
    def of(agent_id: str, batches: list[Batch]) -> Message:
        return Message(batches, wire.PushLogsRequest(agent_id=agent_id, batches=[batch.lines for batch in batches]))


@dataclass(slots=True, eq=False)
class Queue:
    """What waits for one coordinator."""

    waiting: deque[Waiting] = field(default_factory=deque)
    again: deque[Message] = field(default_factory=deque)
    """Of streams without an answer."""

    @property
    def size(self) -> int:
        return sum(each.size for each in self.waiting) + sum(each.size for each in self.again)

    @property
    def lines(self) -> int:
        again = sum(len(batch.lines.records) for message in self.again for batch in message.batches)
        return again + sum(len(each.lines) for each in self.waiting)

    def next(self, agent_id: str) -> Message | None:
        """As much as goes into one message."""
        if self.again:
            return self.again.popleft()
        found: dict[Handle, list[Waiting]] = {}
        size = count = 0
        while self.waiting and size < MESSAGE_BYTES and count < MESSAGE_LINES:
            each = self.waiting.popleft()
            found.setdefault(each.handle, []).append(each)
            size += each.size
            count += len(each.lines)
        return Message.of(agent_id, [_batch(each) for each in found.values()]) if found else None


def _batch(found: list[Waiting]) -> Batch:
    first = found[0]
    records = [
        wire.LogRecord(number=number, source=wire.LogSource.ValueType(source), text=text, offset=span(max(offset, 0)))
        for each in found
        for number, source, offset, text in each.lines
    ]
    return Batch(
        first.handle,
        sum(each.size for each in found),
        wire.LogBatch(lease=first.name[0], attempt=first.name[1], records=records),
        [each.dropped() for each in found],
    )
