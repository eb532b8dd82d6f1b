"""When what an agent has to say is written."""

from __future__ import annotations

import asyncio

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.leases import Lease, Result, Status
from penstock_agent.executors.channel import Finished
from penstock_agent.runtime.outbox import MANY_RESULTS, Outbox

PATIENCE = 60.0


def ended(number: int) -> Lease:
    lease = Lease(number, (b"r" * 16, number, -1), 1, 1, 0, None, 0, None)
    lease.result = Result(bytes(16), Status.OK, 0, Finished(number))
    return lease


async def test_few_results_are_written_at_once() -> None:
    outbox = Outbox(lambda lease: True)
    outbox.send_results([ended(1)], 1)
    waiting = asyncio.ensure_future(outbox.wait())
    await asyncio.sleep(0)
    assert waiting.done()


async def test_many_results_are_gathered_into_one_message() -> None:
    outbox = Outbox(lambda lease: True)
    outbox.send_results([ended(1)], MANY_RESULTS)
    waiting = asyncio.ensure_future(outbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()

    outbox.send_results([ended(2)], MANY_RESULTS + 1)
    await asyncio.wait_for(waiting, PATIENCE)
    ((message, accepted),) = outbox.drain()
    assert not accepted
    assert [result.lease.step for result in message.results.results] == [1, 2]


async def test_what_else_is_said_takes_gathered_results_along() -> None:
    outbox = Outbox(lambda lease: True)
    outbox.send_results([ended(1)], MANY_RESULTS)
    outbox.raise_credits(7)
    waiting = asyncio.ensure_future(outbox.wait())
    await asyncio.sleep(0)
    assert waiting.done()
    assert [message.WhichOneof("body") for message, _ in outbox.drain()] == ["results", "credits"]


def test_what_is_handed_back_while_others_are_written_goes_before_the_heartbeat() -> None:
    """Which does not name it any more: a lease that nobody names counts as lost."""
    outbox = Outbox(lambda lease: True)
    outbox.raise_credits(7)
    outbox.beat(lambda: iter([wire.AgentMessage(heartbeat=wire.Heartbeat())]))
    bodies = []
    for message, _ in outbox.drain():
        bodies.append(message.WhichOneof("body"))
        if bodies == ["credits"]:
            outbox.give_back([((b"r" * 16, 1, -1), 3, False)])
    assert bodies == ["credits", "returned", "heartbeat"]


def test_what_is_said_while_a_heartbeat_is_being_written_goes_before_the_last_word() -> None:
    outbox = Outbox(lambda lease: True)
    outbox.beat(lambda: iter([wire.AgentMessage(heartbeat=wire.Heartbeat())]))
    drained = outbox.drain()
    assert next(drained)[0].HasField("heartbeat")
    outbox.say(wire.AgentMessage(draining=wire.Draining()))
    outbox.give_back([((b"r" * 16, 1, -1), 1, False)])
    outbox.close(wire.AgentMessage(goodbye=wire.Goodbye()))
    assert [message.WhichOneof("body") for message, _ in drained] == ["draining", "returned", "goodbye"]


def test_credits_are_void_before_others_are_given() -> None:
    outbox = Outbox(lambda lease: True)
    outbox.raise_credits(9)
    outbox.give_back([((b"r" * 16, 1, -1), 3, False)], 7)
    outbox.give_back([((b"r" * 16, 2, -1), 4, True)])
    returned, credits = (message for message, _ in outbox.drain())
    assert (len(returned.returned.leases), returned.returned.void_credits) == (2, 7)
    assert credits.credits.grant_limit == 9
