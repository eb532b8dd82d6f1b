"""Several owners: one head and two that join it, with work under way at all of them."""

from __future__ import annotations

import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.e2e.outages import outage_flows as flows
from tests.e2e.outages.conftest import entries
from tests.e2e.ownership.conftest import LEASE, PATIENCE, Group, running_group
from tests.e2e.ownership.test_take_over import query
from tests.rig.parts import send, until
from tests.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer

from penstock.client.sync import SyncClient, SyncRunHandle
from penstock.v1 import run_pb2

NOT_AT_REST = "select owner, count(*) as runs from runs where state < 6 group by owner"
CHARGED = "select count(*) from attempts where run_id = any($1) and (outcome <> 1 or number > 1)"


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedServer) -> Iterator[Group]:
    more = {
        "PENSTOCK_JOIN": "auto",
        # What is on a disk of one coordinator the others do not see: such a one never joins.
        "PENSTOCK_ARTIFACTS_URL": seaweed.url(),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with running_group(tmp_path_factory.mktemp("members"), 3, more) as made:
        made.client.create_pipeline(flows.five_steps)
        yield made


@pytest.fixture
def group(joined: Group) -> Group:
    """With a head and two members that runs are started at."""
    works_with(joined, 2)
    return joined


def works_with(group: Group, members: int) -> None:
    """Return when it has a head and so many members, agents have links to them, and starts go to all."""
    until(lambda: len(group.members()) >= members and group.owner(), PATIENCE, "members")
    until(lambda: links(group) >= members, PATIENCE, "links")
    owners: set[str] = set()

    def are_spread() -> bool:
        # One run at a time: what a member is not chosen for yet would be a backlog for all that follows.
        owners.update(started_at(group, one_by_one(group, "warm", 1, seconds=0.0)))
        return len(owners) > members

    until(are_spread, PATIENCE, "starts at all owners")


def links(group: Group) -> int:
    """That each of the two agents has, at least."""
    counts = [len(agent.links) for agent in group.client.list_agents()]
    return min(counts) if len(counts) == 2 else 0


def started_at(group: Group, runs: list[SyncRunHandle]) -> set[str]:
    """The owners of runs that have not moved."""
    ids = [uuid.UUID(run.id) for run in runs]
    return {row["owner"] for row in query(group.database_url, "select owner from runs where run_id = any($1)", ids)}


def owned(group: Group) -> Counter[str]:
    """Runs that are not at rest, by their owner."""
    return Counter({row["owner"]: row["runs"] for row in query(group.database_url, NOT_AT_REST)})


def one_by_one(group: Group, name: str, count: int, seconds: float) -> list[SyncRunHandle]:
    """Runs of five steps, each started by a call of its own."""
    given = {"ledger": str(group.ledger(name)), "seconds": seconds}
    return [group.client.start(flows.five_steps.name, given) for _ in range(count)]


def under_way(group: Group, name: str, seconds: float = 0.4) -> list[SyncRunHandle]:
    """As many such runs as keep all slots busy, when some of their steps have run."""
    runs = one_by_one(group, name, 24, seconds)
    until(lambda: sum(entries(group.ledger(name), "end").values()) >= 10, PATIENCE, "some work")
    return runs


def uncharged(group: Group, runs: list[SyncRunHandle]) -> bool:
    return bool(query(group.database_url, CHARGED, [uuid.UUID(run.id) for run in runs])[0][0] == 0)


def test_starts_are_shared_out_and_any_coordinator_answers_for_any_run(group: Group) -> None:
    runs = under_way(group, "shared")
    assert started_at(group, runs) == set(group.coordinators)
    for name, coordinator in group.coordinators.items():
        with SyncClient(coordinator.address) as client:
            found = [client.get_run(run.id) for run in runs]
            assert {each.id for each in found} == {run.id for run in runs}, name
            # Together, so that one call waits for runs of several owners.
            with ThreadPoolExecutor(len(runs)) as pool:
                ended = list(pool.map(lambda run, by=client: by.run(run.id).wait(PATIENCE), runs))
            assert {each.state for each in ended} == {run_pb2.RUN_STATE_COMPLETED}, name
    group.all_ran_once("shared", runs)
    assert uncharged(group, runs)


def test_the_head_hands_over_and_all_runs_go_with_it(group: Group) -> None:
    runs = under_way(group, "handed")
    head, successor = group.owner(), group.members()[0]
    group.client.hand_over(successor)
    until(lambda: group.owner() == successor, PATIENCE, "the other head")
    until(lambda: set(group.members()) == set(group.others(successor)), PATIENCE, f"{head} and the other as members")
    group.all_ran_once("handed", runs)
    assert all(run.wait(PATIENCE).state == run_pb2.RUN_STATE_COMPLETED for run in runs)
    assert uncharged(group, runs)


def test_a_member_that_stops_gives_its_runs_back_and_nothing_is_charged(group: Group) -> None:
    member = group.members()[0]
    before = releases(group, member)
    runs = under_way(group, "stopped")
    send(group.coordinators[member].pid, signal.SIGTERM)
    until(lambda: releases(group, member) > before, PATIENCE, "a release")
    group.all_ran_once("stopped", runs)
    assert uncharged(group, runs)


def releases(group: Group, name: str) -> int:
    return sum(each["event"] == "ownership_released" for each in group.said(name))


def test_after_kill_9_of_a_member_its_steps_go_on_and_none_runs_twice(joined: Group) -> None:
    """Beside one that may still be on its way back from its stop: for the last test it need not be waited for."""
    group = joined
    works_with(group, 1)
    runs = under_way(group, "killed", seconds=0.8)
    head, running = group.owner(), owned(group)
    member = next(name for name in group.members() if running[name])
    mine = [
        uuid.UUID(row["run_id"].hex)
        for row in query(group.database_url, "select run_id from runs where state < 6 and owner = $1", member)
    ]
    assert mine
    with group.coordinators[member].down():
        killed_at = time.time()
        until(lambda: not owned(group)[member], PATIENCE, "a burial")
        took = first_record_by(group, head, killed_at, mine) - killed_at
        print(
            f"from kill -9 of a member to the head's first record of one of its runs: {took:.2f} s, lease {LEASE:g} s"
        )
        assert group.owner() == head
        group.all_ran_once("killed", runs)
    assert uncharged(group, runs)


def first_record_by(group: Group, name: str, instant: float, run_ids: list[uuid.UUID]) -> float:
    """When the coordinator first wrote to one of the runs after the instant: seconds since 1970."""
    text = "select min(at) as at from chaos_writes where writer = $1 and at > $2 and run_id = any($3)"
    until(lambda: query(group.database_url, text, name, int(instant * 1e6), run_ids)[0]["at"], PATIENCE, "a record")
    return float(query(group.database_url, text, name, int(instant * 1e6), run_ids)[0]["at"]) / 1e6
