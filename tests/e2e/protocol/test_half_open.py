"""Connections that are dead and do not say so, and processes that hang: found within one lease's ttl, on both sides."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
from tests.e2e.protocol.conftest import CONNECTED, System
from tests.e2e.protocol.ledger import instant, now
from tests.tcp_proxy import TcpProxy
from tests.waiting import until

from penstock.v1 import agent_admin_service_pb2 as admin

TTL = 3.0
HANG = """
import signal, sys, time

def hang(*_):
    time.sleep(1_000)

signal.signal(signal.SIGUSR1, hang)
sys.argv[0] = "{module}"
import runpy
runpy.run_module("{module}", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
async def proxy(system: System) -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", system.port) as made:
        yield made


async def lost_at(system: System, name: str = "agent-1") -> float:
    """When the coordinator has given the stream up."""
    async with system.client() as client:

        async def lost() -> bool:
            return bool((await client.get_agent(name)).state == admin.AGENT_STATE_LOST)

        await until(lost, 60.0)
    return now()


async def back(system: System, name: str = "agent-1") -> None:
    async with system.client() as client:

        async def connected() -> bool:
            return bool((await client.get_agent(name)).state == admin.AGENT_STATE_CONNECTED)

        await until(connected, 60.0)


async def test_what_the_agent_says_disappears(system: System, proxy: TcpProxy) -> None:
    await system.coordinator()
    await system.agent("agent-1", f"127.0.0.1:{proxy.port}")
    began = now()
    proxy.swallow_requests()
    assert await lost_at(system) - began < TTL
    proxy.heal()
    await back(system)


async def test_what_the_coordinator_says_disappears(system: System, proxy: TcpProxy) -> None:
    await system.coordinator()
    agent = await system.agent("agent-1", f"127.0.0.1:{proxy.port}")
    began = now()
    proxy.swallow_answers()
    await agent.says('"event": "stream_')
    assert now() - began < TTL
    proxy.heal()
    await agent.says(CONNECTED, 2)


async def test_an_agent_that_is_stopped(system: System) -> None:
    await system.coordinator()
    agent = await system.agent("agent-1")
    began = now()
    agent.send(signal.SIGSTOP)
    assert await lost_at(system) - began < TTL
    agent.send(signal.SIGCONT)
    await agent.says(CONNECTED, 2)
    await back(system)


async def test_a_coordinator_that_is_stopped(system: System) -> None:
    coordinator = await system.coordinator()
    agent = await system.agent("agent-1")
    began = now()
    coordinator.send(signal.SIGSTOP)
    await agent.says('"event": "stream_')
    assert now() - began < TTL
    coordinator.send(signal.SIGCONT)
    await agent.says(CONNECTED, 2)
    await back(system)


async def test_an_agent_whose_loop_hangs(system: System) -> None:
    """Its transport goes on answering pings: heartbeats alone tell."""
    await system.coordinator()
    agent = await system.agent("agent-1", code=HANG)
    began = now()
    agent.send(signal.SIGUSR1)
    assert await lost_at(system) - began < TTL


async def test_a_coordinator_whose_loop_hangs(system: System) -> None:
    coordinator = await system.coordinator(code=HANG)
    agent = await system.agent("agent-1")
    began = now()
    coordinator.send(signal.SIGUSR1)
    await agent.says('"event": "stream_closed", "reason": "silent"')
    assert now() - began < TTL


async def test_idle_connections_with_fast_pings_are_kept(system: System) -> None:
    """Each side pings every second, ten times as often as is usual: an idle stream is not taken for a flood of pings.
    An answer has half of that time, so they cannot be much faster: the machine's own pauses would end the stream."""
    system.settings = {"PENSTOCK_KEEPALIVE_INTERVAL": "1s"}
    await system.coordinator()
    agent = await system.agent("agent-1", PENSTOCK_AGENT_KEEPALIVE_INTERVAL="1")
    await instant(now() + 6.5)
    assert not [line for line in agent.lines if line["event"].startswith("stream_")]


@pytest.mark.parametrize("frozen", ["agent", "coordinator"])
async def test_pings_find_a_stopped_peer_where_heartbeats_are_rare(system: System, frozen: str) -> None:
    system.settings = {
        "PENSTOCK_KEEPALIVE_INTERVAL": "1s",
        "PENSTOCK_HEARTBEAT_INTERVAL": "60s",
        "PENSTOCK_LEASE_TTL": "180s",
    }
    coordinator = await system.coordinator()
    agent = await system.agent("agent-1", PENSTOCK_AGENT_KEEPALIVE_INTERVAL="1")
    began = now()
    if frozen == "agent":
        agent.send(signal.SIGSTOP)
        assert await lost_at(system) - began < 10.0, "without ping_timeout it would be a minute"
    else:
        coordinator.send(signal.SIGSTOP)
        await agent.says('"event": "stream_ended"')
        assert now() - began < 10.0
        coordinator.send(signal.SIGCONT)
