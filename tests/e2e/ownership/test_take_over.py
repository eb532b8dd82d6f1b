"""One owner and one that follows, with work under way: the owner is killed, frozen, stopped and upgraded."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import datetime
from typing import Any

import asyncpg
import grpc
import pytest
from tests.e2e.outages.test_outages import last
from tests.e2e.ownership.conftest import LEASE, PATIENCE, Group
from tests.rig.parts import send, thaw, until

from penstock.client.status import refusal_of
from penstock.client.sync import SyncClient
from penstock.errors import UnavailableError
from penstock.v1 import coordinator_service_pb2 as pb
from penstock_coordinator.core.run.events import StepsLeased, decode


def query(url: str, text: str, *arguments: Any) -> list[Any]:
    async def ask() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(text, *arguments))
        finally:
            await connection.close()

    return asyncio.run(ask())


def first_lease_after(url: str, instant: float) -> float:
    """When the journal gained its first record after the instant in which a lease was granted; 0: not yet."""
    rows = query(url, "select at, payload from run_events where at > $1 order by at limit 500", int(instant * 1e6))
    granted = (row["at"] for row in rows if any(type(event) is StepsLeased for event in decode(row["payload"])))
    return next(granted, 0) / 1e6


def instant_of(group: Group, name: str, event: str) -> float:
    """When it last said so: seconds since 1970."""
    line = [each for each in group.said(name) if each["event"] == event][-1]
    return datetime.fromisoformat(line["time"]).timestamp()


def test_one_that_follows_refuses_and_names_the_owner(group: Group) -> None:
    follower = group.coordinators["c2"]
    with (
        SyncClient(follower.address, deadline=10.0, retry_for=0.0) as client,
        pytest.raises(UnavailableError, match="follows") as refused,
    ):
        list(client.list_agents())
    assert refused.value.reason == "NOT_THE_LEADER"
    assert refused.value.metadata["address"] == group.coordinators["c1"].address
    found = follower.readiness() or {}
    assert found["status"] == "not ready"
    assert "c1" in found["reasons"]["following"]  # type: ignore[index]
    with SyncClient(follower.address) as client:
        health = client.health()
        assert health.role == pb.COORDINATOR_ROLE_FOLLOWER
        assert health.owner_address == group.coordinators["c1"].address
        seen = {each.id: each for each in client.list_coordinators()}
        assert seen["c1"].role == pb.COORDINATOR_ROLE_OWNER
        assert seen["c1"].lease_state == pb.COORDINATOR_LEASE_STATE_CURRENT
        assert seen["c2"].answering
        assert len(list(client.list_agents())) == 2, "a client that is told where to go goes there"
    assert any(each["event"] == "coordinator_joined" and each["coordinator"] == "c2" for each in group.said("c1"))
    assert any(each["event"] == "following" and each["owner"] == "c1" for each in group.said("c2"))


def test_after_kill_9_of_the_owner_all_runs_complete_and_no_step_runs_twice(group: Group, database_url: str) -> None:
    runs = group.begin("killed", 200)
    with group.coordinators["c1"].down():
        killed_at = time.time()
        until(lambda: group.owner() == "c2", PATIENCE, "a take-over")
        until(lambda: first_lease_after(database_url, killed_at), PATIENCE, "a lease by the new owner")
    took = first_lease_after(database_url, killed_at) - killed_at
    print(f"from kill -9 to the first lease by the new owner: {took:.2f} s, with an ownership lease of {LEASE:g} s")
    assert took < LEASE + 2.0
    group.all_ran_once("killed", runs)
    until(lambda: group.follows("c1"), PATIENCE, "the former owner, which follows")
    assert group.owner() == "c2"


def test_an_owner_that_was_frozen_for_longer_than_its_lease_writes_nothing_and_follows(
    group: Group, database_url: str
) -> None:
    runs = group.begin("frozen", 100)
    pid = group.coordinators["c1"].pid
    send(pid, signal.SIGSTOP)
    try:
        until(lambda: group.owner() == "c2", PATIENCE, "a take-over")
        last(LEASE)
    finally:
        thaw(pid)
    until(lambda: group.follows("c1"), PATIENCE, "the former owner, which follows")
    assert group.coordinators["c1"].pid == pid, "in the same process"
    group.all_ran_once("frozen", runs)
    owners = {row["owner"] for row in query(database_url, "select distinct owner from runs")}
    assert owners == {"c2"}
    epochs = query(database_url, "select coordinator_id, max(epoch) as epoch from fences group by 1 order by 1")
    assert len({row["epoch"] for row in epochs}) == 1, "its fence is the new owner's"
    journal = "select count(*) from run_events e join runs r using (run_id)"
    assert query(database_url, journal)[0][0] > 0


def test_a_planned_stop_hands_over_without_waiting_and_charges_nothing(group: Group, database_url: str) -> None:
    runs = group.begin("planned", 100)
    stopped_at = time.time()
    group.coordinators["c1"].stop()
    until(lambda: group.owner() == "c2", PATIENCE, "a hand-over")
    group.all_ran_once("planned", runs)
    owned_at = instant_of(group, "c2", "recovered")
    gap = owned_at - instant_of(group, "c1", "ownership_released")
    leased = first_lease_after(database_url, owned_at - 0.001) - stopped_at
    print(
        f"planned: the new owner {owned_at - stopped_at:.2f} s after the signal, {gap:.2f} s after the release;"
        f" its first lease {leased:.2f} s after the signal"
    )
    assert gap < LEASE / 2, "nobody waited for the lease"
    assert query(database_url, "select count(*) from attempts where outcome <> 1")[0][0] == 0
    assert query(database_url, "select count(*) from attempts where number > 1")[0][0] == 0


def test_a_raw_call_to_a_follower_says_the_remedy(group: Group) -> None:
    async def ask() -> grpc.aio.AioRpcError:
        async with grpc.aio.insecure_channel(group.coordinators["c2"].address) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/penstock.v1.RunService/Get")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"")
            return refused.value

    error = asyncio.run(ask())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert group.coordinators["c1"].address in (error.details() or "")
    assert refusal_of(error) == ("NOT_THE_LEADER", group.coordinators["c1"].address)
