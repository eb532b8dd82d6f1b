"""The streams that an agent keeps with members: which are opened, tried again, and closed."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import grpc
import grpc.aio
from tests.integration.agent.test_agent_stream import PATIENCE, Hearing, Told, heard_by

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.dev.ports import take_port
from penstock_agent.core.links import Peer
from penstock_agent.runtime.links import Links
from penstock_agent.runtime.outbox import Outbox
from penstock_agent.runtime.stubs import Stubs


class Naming(Hearing):
    """Keeps whom streams name; the first few it sends away, as one that is no member any more."""

    def __init__(self, refusing: int = 0) -> None:
        super().__init__()
        self.named: asyncio.Queue[str] = asyncio.Queue()
        self._refusing = refusing

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # as its base
        (name,) = [value for key, value in context.invocation_metadata() if key == "penstock-link"]
        self.named.put_nowait(name)
        if self._refusing:
            self._refusing -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "NOT_THE_LEADER")
        await super().Connect(request_iterator, context)


class Hears(Told):
    """Which streams of which links."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[int, int]] = []

    def stream_opened(self, stream: int, link: int, outbox: Outbox, stubs: Stubs) -> Told:
        self.opened.append((stream, link))
        return super().stream_opened(stream, link, outbox, stubs)


def links(hears: Hears, faults: list[BaseException]) -> Links:
    return Links(itertools.count(5), hears, faults.append, lambda: 0.0)


def goodbye() -> wire.AgentMessage:
    return wire.AgentMessage(goodbye=wire.Goodbye(reason="done"))


async def test_there_is_one_to_each_that_is_named_and_to_no_other() -> None:
    one, two, hears, faults = Naming(), Naming(), Hears(), list[BaseException]()
    kept = links(hears, faults)
    async with heard_by(one) as first, heard_by(two) as second, asyncio.timeout(PATIENCE):
        peers = [(1, Peer("a", first, 7)), (2, Peer("b", second, 8))]
        kept.keep(peers)
        assert (await one.named.get(), await two.named.get()) == ("a@7", "b@8")
        kept.keep(peers[1:])
        await hears.over.get()
        kept.keep([(2, Peer("b", second, 8)), (3, Peer("a", first, 9))])
        assert await one.named.get() == "a@9"
        assert hears.opened == [(5, 1), (6, 2), (7, 3)]
        await asyncio.wait(kept.leave(goodbye))
        assert [message.goodbye.reason for each in (one, two) for message in each.heard] == ["done", "done"]
        kept.keep([(4, Peer("b", second, 9))])
        assert kept.leave(goodbye) == [], "who leaves begins nothing"
        assert two.named.empty()
    await kept.close()
    assert faults == []


async def test_who_refuses_or_is_not_there_is_tried_again() -> None:
    port, hears, faults = take_port(0, ""), Hears(), list[BaseException]()
    kept, refusing = links(hears, faults), Naming(refusing=2)
    kept.keep([(1, Peer("a", f"127.0.0.1:{port}", 7))])
    async with asyncio.timeout(PATIENCE):
        await hears.over.get()
        async with heard_by(refusing, port):
            for _ in range(3):
                assert await refusing.named.get() == "a@7"
            await kept.close()
    assert {link for _, link in hears.opened} == {1}
    assert faults == []


async def test_a_fault_is_told() -> None:
    class Failing(Hears):
        def stream_opened(self, *_: object) -> Told:
            raise ValueError("a fault")

    told: asyncio.Queue[BaseException] = asyncio.Queue()
    kept = Links(itertools.count(1), Failing(), told.put_nowait)
    kept.keep([(1, Peer("a", "127.0.0.1:1", 7))])
    assert str(await asyncio.wait_for(told.get(), PATIENCE)) == "a fault"
