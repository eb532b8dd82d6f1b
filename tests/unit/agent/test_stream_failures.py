"""What an agent says of the ends of its streams."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from penstock_agent.runtime.outbox import Outbox
from penstock_agent.runtime.stream import Connection, Pauses, talk

if TYPE_CHECKING:
    from penstock_agent.runtime.pen import Call
    from penstock_agent.runtime.stream import Listener, OpenStream


class FailingCall:
    """A stream whose reads fail once it is told to."""

    def __init__(self) -> None:
        self.fails = asyncio.Event()

    async def read(self) -> Any:
        await self.fails.wait()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")

    def cancel(self) -> bool:
        return True


async def test_a_stream_that_fails_while_the_agent_leaves_is_no_fault() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    call = FailingCall()
    connection = Connection("nowhere:1", cast("Listener", None))
    reading = connection._read(cast("Call", call), cast("OpenStream", None))
    talking = asyncio.create_task(talk(cast("Call", call), Outbox(lambda _: True), cast("OpenStream", None), reading))
    await asyncio.sleep(0)

    call.fails.set()
    await asyncio.sleep(0)
    talking.cancel()
    await asyncio.wait({talking})
    del talking, connection
    gc.collect()

    assert complaints == []


class Least(float):
    """A chance of 0, which notes what it is a part of."""

    def __rmul__(self, most: float) -> float:
        self.of = most
        return 0.0


async def test_no_pause_takes_what_the_leases_live() -> None:
    """Also after many failures, which a short stream does not make good."""
    chance = Least()
    pauses = Pauses(lambda: chance)
    taken = []
    for ttl in (300.0, 300.0, 300.0, 300.0, 300.0, 300.0, 300.0, 30.0, 5.0, 1.5, 0.1, 0.0):
        pauses.welcomed(ttl)
        await pauses.take(asyncio.Event())
        taken.append(chance.of)
    assert taken == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5 / 6, 0.25, 0.1, 5.0]
