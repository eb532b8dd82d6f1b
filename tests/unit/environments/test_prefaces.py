"""What a build printed is part of the log of an attempt that begins, and of no other."""

from __future__ import annotations

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.leases import HOME
from penstock_agent.executors.channel import STDOUT, LogLines
from penstock_agent.runtime.logs import LogRelay

REF = wire.LeaseRef(run_id=b"r" * 16, step=1, item=-1, token=7)


class Relay(LogRelay):
    """Says what it would send."""

    def waiting(self) -> list[tuple[int, str]]:
        return [(number, text) for part in self._queues[HOME].waiting for number, _, _, text in part.lines]


async def test_it_comes_first_and_the_lines_of_the_attempt_are_counted_on() -> None:
    relay = Relay("agent")
    relay.introduce(1, REF, 1, ["built", "ready"])
    assert relay.waiting() == []
    relay.begun(1)
    relay.begun(1)
    relay.add(LogLines(1, [(1, STDOUT, 5, "own")]))
    assert relay.waiting() == [(1, "built"), (2, "ready"), (3, "own")]


async def test_it_comes_first_also_when_the_attempt_speaks_before_it_is_said_to_have_begun() -> None:
    relay = Relay("agent")
    relay.introduce(1, REF, 1, ["built"])
    relay.add(LogLines(1, [(1, STDOUT, 5, "own")]))
    assert relay.waiting() == [(1, "built"), (2, "own")]


async def test_an_attempt_that_never_began_leaves_nothing() -> None:
    relay = Relay("agent")
    relay.introduce(1, REF, 1, ["built"])
    relay.attempt_ended(1)
    relay.begun(1)
    assert relay.waiting() == []
