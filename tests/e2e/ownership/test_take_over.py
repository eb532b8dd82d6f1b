"""One owner and one that follows, with work under way: the owner is killed, frozen, stopped and upgraded."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg
import grpc
import pytest
from tests.chaos.writers import Write, problems
from tests.e2e.outages import outage_flows as flows
from tests.e2e.outages.conftest import entries
from tests.e2e.ownership.conftest import LEASE, PATIENCE, Group
from tests.rig.parts import send, thaw, until

from penstock.client.status import refusal_of
from penstock.client.sync import SyncClient
from penstock.errors import InvalidArgumentError, NotFoundError, UnavailableError
from penstock.v1 import coordinator_service_pb2 as pb
from penstock.v1 import run_pb2
from penstock_coordinator.core.run.events import StepsLeased, decode

FROZEN_SECONDS = float(os.environ.get("PENSTOCK_FROZEN_SECONDS", 2 * LEASE))
ALL_WRITES = "select run_id, first_seq, writer, epoch, at from chaos_writes order by run_id, first_seq"


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


def test_one_that_follows_passes_calls_on_and_names_the_owner(group: Group) -> None:
    owning, following = group.roles()
    owner, follower = group.coordinators[owning], group.coordinators[following]
    assert follower.readiness() == {}, "it is of use to users"
    with SyncClient(follower.address) as client:
        health = client.health()
        assert health.role == pb.COORDINATOR_ROLE_FOLLOWER
        assert health.owner_address == owner.address
        seen = {each.id: each for each in client.list_coordinators()}
        assert seen[owning].role == pb.COORDINATOR_ROLE_OWNER
        assert seen[owning].lease_state == pb.COORDINATOR_LEASE_STATE_CURRENT
        assert seen[following].answering
        assert len(list(client.list_agents())) == 2, "the owner's answer"

    def tells_of_it() -> bool:
        joined = [each["coordinator"] for each in group.said(owning) if each["event"] == "coordinator_joined"]
        return following in joined

    until(tells_of_it, PATIENCE, "the owner's word of who follows")
    assert any(each["event"] == "following" and each["owner"] == owning for each in group.said(following))


def test_a_call_that_was_passed_on_already_is_refused_with_the_remedy(group: Group) -> None:
    owner, follower = (group.coordinators[name].address for name in group.roles())

    async def ask() -> grpc.aio.AioRpcError:
        async with grpc.aio.insecure_channel(follower) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/penstock.v1.RunService/Get")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"", metadata=(("penstock-forwarded-by", "another one"),))
            return refused.value

    error = asyncio.run(ask())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert owner in (error.details() or "")
    assert refusal_of(error) == ("NOT_THE_LEADER", owner)


def test_after_kill_9_of_the_owner_all_runs_complete_and_no_step_runs_twice(group: Group) -> None:
    owner, follower = group.roles()
    runs = group.begin("killed", 200)
    # Of a client that knows the one that follows alone, as behind a load balancer.
    behind = SyncClient(group.coordinators[follower].address)
    watched: list[int] = []
    follow = behind.run(runs[-1].id).watch()
    watching = threading.Thread(target=lambda: watched.extend(event.number for event in follow), daemon=True)
    watching.start()
    with group.coordinators[owner].down():
        killed_at = time.time()
        until(lambda: group.owner() == follower, PATIENCE, "a take-over")
        until(lambda: first_lease_after(group.database_url, killed_at), PATIENCE, "a lease by the new owner")
    took = first_lease_after(group.database_url, killed_at) - killed_at
    print(f"from kill -9 to the first lease by the new owner: {took:.2f} s, with an ownership lease of {LEASE:g} s")
    assert took < LEASE + 2.0
    group.all_ran_once("killed", runs)
    watching.join(PATIENCE)
    behind.__exit__(None, None, None)
    assert watched == list(range(1, len(watched) + 1)), "it went on where it broke off"
    assert len(watched) >= 10
    until(lambda: group.follows(owner), PATIENCE, "the former owner, which follows")
    assert group.owner() == follower


def test_an_owner_that_was_frozen_for_longer_than_its_lease_writes_nothing_and_follows(group: Group) -> None:
    """Frozen in the middle of its work, with more of it to do when it wakes up (`make chaos-ha`: after 60 s)."""
    url = group.database_url
    owner, follower = group.roles()
    runs = group.begin("frozen", 100)
    pid = group.coordinators[owner].pid
    send(pid, signal.SIGSTOP)
    frozen_at = time.time()
    try:
        until(lambda: group.owner() == follower, PATIENCE, "a take-over")
        until(lambda: first_lease_after(url, frozen_at), PATIENCE, "a lease by the new owner")
        print(
            f"from SIGSTOP to the first lease by the new owner: {first_lease_after(url, frozen_at) - frozen_at:.2f} s"
        )
        until(lambda: time.time() - frozen_at > FROZEN_SECONDS, FROZEN_SECONDS + PATIENCE, "the end of the freeze")
        runs += group.start("frozen", 40, seconds=0.4)
    finally:
        thawed_at = time.time()
        thaw(pid)
    until(lambda: group.follows(owner), PATIENCE, "the former owner, which follows")
    assert group.coordinators[owner].pid == pid, "in the same process"
    group.all_ran_once("frozen", runs)

    written = [Write(row["run_id"].hex, *row[1:]) for row in query(url, ALL_WRITES)]
    assert problems(written) == []
    new_epoch = max(write.epoch for write in written)
    taken_over_at = min(write.at for write in written if write.epoch == new_epoch)
    assert {write.writer for write in written if write.at >= taken_over_at} == {follower}
    assert any(write.at > thawed_at * 1e6 for write in written), "there was something left to write"
    assert any(write.writer == owner and write.epoch < new_epoch for write in written), "it had written before"
    epochs = query(url, "select coordinator_id, max(epoch) as epoch from fences group by 1 order by 1")
    by_id = {row["coordinator_id"]: row["epoch"] for row in epochs}
    assert by_id[follower] == new_epoch
    assert by_id[owner] >= new_epoch, "its fence was raised by the claim, and again when its runs were claimed"
    assert instant_of(group, owner, "ownership_ended") > thawed_at, "it has noticed by itself"


def test_an_owner_that_alone_is_cut_off_from_the_database_has_stopped_before_it_is_taken_over(group: Group) -> None:
    owner, follower = group.roles()
    runs = group.begin("cut-off", 50)
    pids = [each.pid for each in group.coordinators.values()]
    group.links[owner].drop(requests=True, answers=True)
    try:
        until(lambda: group.owner() == follower, PATIENCE, "a take-over")
        group.all_ran_once("cut-off", runs)
    finally:
        group.links[owner].heal()
    assert instant_of(group, owner, "ownership_ended") < instant_of(group, follower, "owning")
    until(lambda: group.follows(owner), PATIENCE, "the former owner, which follows")
    assert [each.pid for each in group.coordinators.values()] == pids


def test_when_the_database_is_away_for_all_for_longer_than_a_lease_one_owns_when_it_is_back(group: Group) -> None:
    owner, _ = group.roles()
    runs = group.begin("away", 50)
    for link in group.links.values():
        link.refuse()
    try:
        until(lambda: not group.owner(), PATIENCE, "an owner that stops")
        down = dict.fromkeys(group.coordinators, 0)
        until(lambda: {name: group.database_up(name) for name in down} == down, PATIENCE, "what wakes somebody")
    finally:
        for link in group.links.values():
            link.heal()
    until(group.owner, PATIENCE, f"an owner, after {owner}")
    group.all_ran_once("away", runs)


def test_a_planned_stop_hands_over_without_waiting_and_charges_nothing(group: Group) -> None:
    url = group.database_url
    owner, follower = group.roles()
    runs = group.begin("planned", 100)
    stopped_at = time.time()
    send(group.coordinators[owner].pid, signal.SIGTERM)
    until(lambda: group.owner() == follower, PATIENCE, "a hand-over")
    group.all_ran_once("planned", runs)
    owned_at = instant_of(group, follower, "recovered")
    gap = owned_at - instant_of(group, owner, "ownership_released")
    leased = first_lease_after(url, owned_at - 0.001) - stopped_at
    print(
        f"planned: the new owner {owned_at - stopped_at:.2f} s after the signal, {gap:.2f} s after the release;"
        f" its first lease {leased:.2f} s after the signal"
    )
    assert gap < LEASE / 2, "nobody waited for the lease"
    ids = [uuid.UUID(run.id) for run in runs]
    charged = "select count(*) from attempts where run_id = any($1) and (outcome <> 1 or number > 1)"
    assert query(url, charged, ids)[0][0] == 0
    until(lambda: group.follows(owner), PATIENCE, "the former owner, started again, which follows")


def test_runs_of_twenty_steps_do_not_notice_a_planned_hand_over(group: Group) -> None:
    ledger = group.ledger("twenty")
    runs = group.client.start_many(flows.twenty_steps, [{"ledger": str(ledger)}] * 16)
    until(lambda: sum(entries(ledger, "end").values()) >= 32, PATIENCE, "some work")
    owner, follower = group.roles()
    stopped_at = time.time()
    send(group.coordinators[owner].pid, signal.SIGTERM)
    until(lambda: group.owner() == follower, PATIENCE, "a hand-over")
    for run in runs:
        ended = run.wait(PATIENCE)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
    assert entries(ledger, "begin") == entries(ledger, "end")
    assert set(entries(ledger, "begin").values()) == {1}
    assert len(entries(ledger, "begin")) == 16 * 20
    ids = [uuid.UUID(run.id) for run in runs]
    (most,) = query(group.database_url, "select max(number) as attempt from attempts where run_id = any($1)", ids)
    assert most["attempt"] == 1
    said = {
        each["event"] for each in group.said(owner) if datetime.fromisoformat(each["time"]).timestamp() > stopped_at
    }
    # On a machine that is too busy for it nobody has read the runs in time, or the lease has run out.
    assert said & {"successor_prepared", "successor_not_prepared", "ownership_ended"}
    if "handed_over" in said:
        gap = instant_of(group, follower, "recovered") - instant_of(group, owner, "handed_over")
        print(f"nobody could append for {gap * 1e3:.0f} ms")
    until(lambda: group.follows(owner), PATIENCE, "the former owner, started again, which follows")


def test_runs_are_handed_over_on_demand_and_no_step_notices(group: Group) -> None:
    """Asked at the one that follows, which passes it on. Nobody stops."""
    ledger = group.ledger("demand")
    runs = group.client.start_many(flows.twenty_steps, [{"ledger": str(ledger)}] * 8)
    until(lambda: sum(entries(ledger, "end").values()) >= 16, PATIENCE, "some work")
    owner, follower = group.roles()
    pids = {name: each.pid for name, each in group.coordinators.items()}
    with SyncClient(group.coordinators[follower].address) as client:
        with pytest.raises(NotFoundError, match=f'Those that do: "{follower}"'):
            client.hand_over("nobody")
        with pytest.raises(InvalidArgumentError, match="coordinator_id"):
            client.hand_over("")
        assert group.owner() == owner, "nothing has changed"
        client.hand_over(follower)
    until(lambda: group.owner() == follower, PATIENCE, "the other owner")
    group.client.hand_over(follower)  # Again: it is so already.
    for run in runs:
        ended = run.wait(PATIENCE)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
    assert set(entries(ledger, "begin").values()) == {1}
    until(lambda: group.follows(owner), PATIENCE, "the former owner, which follows")
    assert {name: each.pid for name, each in group.coordinators.items()} == pids
    cli = [sys.executable, "-m", "penstock", "coordinators", "hand-over", "--address", group.addresses]
    said = subprocess.run(cli, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    assert said == f'The runs were handed over to "{owner}".\n'
    until(lambda: group.owner() == owner, PATIENCE, "the former owner again")


def queues_of(client: SyncClient) -> dict[str, tuple[int, int]]:
    """Ready and running steps by queue; none while the coordinator cannot tell."""
    try:
        return {each.queue: (each.ready_steps, each.running_steps) for each in client.list_queues()}
    except UnavailableError:
        return {}


def test_what_waits_is_seen_anywhere_with_redis_and_without(group: Group) -> None:
    """By whoever asks the one that follows, and with redis-cli. Without Redis nothing is lost and all goes on."""
    owner, follower = group.roles()
    names = [agent.name for agent in group.agents]
    for name in names:
        group.client.pause_agent(name)

    def in_redis(ready: int) -> bool:
        found = group.valkey.ask("HGETALL", f"penstock:{{penstock}}:queues:{owner}")
        return bool(found.get(b"ready:default") == str(ready).encode())

    with SyncClient(group.coordinators[follower].address, deadline=10.0, retry_for=0.0) as client:
        runs = group.start("seen", 20)
        until(lambda: queues_of(client) == {"default": (20, 0)}, PATIENCE, "demand, by the one that follows")
        until(lambda: in_redis(20), PATIENCE, "demand, in Redis")
        until(lambda: group.valkey.ask("HLEN", f"penstock:{{penstock}}:runs:{owner}"), PATIENCE, "runs, in Redis")

        group.valkey.kill()
        for name in (owner, follower):
            until(partial(group.is_on, name, "postgresql"), PATIENCE, f"{name} without Redis")
        runs += group.start("seen", 5)
        until(lambda: queues_of(client) == {"default": (25, 0)}, PATIENCE, "demand, by PostgreSQL")
        states = {each.name: each.state for each in client.health().dependencies}
        assert states["redis"] == pb.DEPENDENCY_STATE_OPEN

        group.valkey.start()
        for name in (owner, follower):
            until(partial(group.is_on, name, "redis"), PATIENCE, f"{name} with Redis")
        until(lambda: in_redis(25), PATIENCE, "demand, in Redis again")
    for name in names:
        group.client.resume_agent(name)
    group.all_ran_once("seen", runs)
    for name in (owner, follower):
        moved = [each["to"] for each in group.said(name) if each["event"] == "hot_state_moved"]
        assert moved[-2:] == ["postgresql", "redis"]
