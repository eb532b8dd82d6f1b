"""An agent of a head and a member: which stream its leases, results and lines belong to, and what is whose when one of
them is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator
from tests.integration.agent.test_agent_commands import shell

from penstock.agent.v1 import agent_service_pb2 as wire


@pytest.fixture
async def member() -> AsyncIterator[Coordinator]:
    member = Coordinator("member", first_session=1_000)
    member.epoch, member.head_epoch, member.run_id = 7, 1, b"m" * 16
    await member.start()
    try:
        yield member
    finally:
        await member.stop()


@pytest.fixture
async def head(coordinator: Coordinator, member: Coordinator, agents: Agents) -> Coordinator:
    """Which has said who its member is; the agent has read that it is welcome there."""
    await agents.start()
    await coordinator.name_peers(member)
    await member.until(lambda: member.sessions and member.session.grant_limit)
    return coordinator


def waiting_for(fifo: Path) -> wire.TaskSpec:
    os.mkfifo(fifo)
    return shell(f"echo before; read line < {fifo}; echo after")


async def go_on(fifo: Path) -> None:
    await asyncio.to_thread(fifo.write_text, "go\n")


def orphans(coordinator: Coordinator) -> list[wire.LeaseRef]:
    """As its last heartbeat names them."""
    beats = [each.heartbeat for each in coordinator.session.heard if each.HasField("heartbeat")]
    return [held.lease for held in beats[-1].elsewhere if not held.session] if beats else []


async def test_each_has_its_own_leases_results_and_lines(head: Coordinator, member: Coordinator) -> None:
    (ours,) = await head.grant(shell("echo of the head"))
    (theirs,) = await member.grant(shell("echo of the member"))
    assert (await head.result(ours)).status == wire.RESULT_STATUS_OK
    assert (await member.result(theirs)).status == wire.RESULT_STATUS_OK
    await head.logged("of the head")
    await member.logged("of the member")
    for each, ref in ((head, ours), (member, theirs)):
        assert [result.lease for result in each.results] == [ref]
        assert {lease for lease, _ in each.logs} == {ref.SerializeToString()}
    assert (head.session.link, set(head.log_links)) == ("", {""})
    assert (member.session.link, set(member.log_links)) == ("member@7", {"member@7"})
    hello = member.session.hello
    assert (hello.highest_coordinator_epoch_seen, hello.highest_head_epoch_seen, hello.stream) == (7, 1, 2)
    assert (list(hello.open_sessions), hello.newest_session_epoch) == ([1], 1)


async def test_what_a_dead_member_had_runs_on_and_is_its_heads(
    head: Coordinator, member: Coordinator, tmp_path: Path
) -> None:
    (ref,) = await member.grant(waiting_for(tmp_path / "fifo"))
    await member.logged("before")
    await member.stop()
    await head.until(lambda: ref in orphans(head))
    await head.adopt(ref)
    await go_on(tmp_path / "fifo")
    assert (await head.result(ref)).status == wire.RESULT_STATUS_OK
    await head.logged("after")
    assert "before" in head.text_of(), "nobody had said that it was durable"


async def test_a_result_that_nobody_speaks_for_is_kept_until_somebody_does(
    head: Coordinator, member: Coordinator, tmp_path: Path
) -> None:
    (ref,) = await member.grant(waiting_for(tmp_path / "fifo"))
    await member.logged("before")
    await member.session.say(moved=wire.Moved(run_ids=[ref.run_id]))
    await head.until(lambda: ref in orphans(head))
    await go_on(tmp_path / "fifo")
    beats = len(head.session.beats)
    await head.until(lambda: len(head.session.beats) > beats + 2)
    assert not head.results
    assert not member.results
    await head.adopt(ref, wire.VERDICT_SEND_RESULT)
    assert (await head.result(ref)).status == wire.RESULT_STATUS_OK
    await head.logged("after")


async def test_a_member_that_is_none_any_more_is_left(head: Coordinator, member: Coordinator) -> None:
    await head.name_peers()
    await member.until(lambda: member.session.ended)
    await head.until(
        lambda: head.session.heard[-1].HasField("heartbeat") and not head.session.heard[-1].heartbeat.links
    )
    assert (await head.run(shell("true"))).status == wire.RESULT_STATUS_OK
    assert len(member.sessions) == 1


async def test_who_is_stopped_takes_leave_of_both(head: Coordinator, member: Coordinator, agents: Agents) -> None:
    (process,) = agents.started
    process.send_signal(signal.SIGTERM)
    for each in (head, member):
        await each.until(lambda each=each: each.goodbyes)  # type: ignore[misc]  # mypy cannot tell its type
        assert any(message.HasField("draining") for message in each.session.heard)
    assert await process.wait() == 0
