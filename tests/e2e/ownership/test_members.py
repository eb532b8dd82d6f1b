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
    """With a head, two members, and agents that have links to both."""
    until(lambda: len(joined.members()) == 2 and joined.owner(), PATIENCE, "two members")
    until(lambda: spread_over(joined, 3), PATIENCE, "starts at all owners")
    return joined


def spread_over(group: Group, count: int) -> bool:
    """Whether short runs are started at so many owners."""
    given = {"ledger": str(group.ledger("warm")), "seconds": 0.0}
    ids = [uuid.UUID(group.client.start(flows.five_steps.name, given).id) for _ in range(6)]
    found = query(group.database_url, "select distinct owner from runs where run_id = any($1)", ids)
    return len(found) == count


def owned(group: Group) -> Counter[str]:
    """Runs that are not at rest, by their owner."""
    return Counter({row["owner"]: row["runs"] for row in query(group.database_url, NOT_AT_REST)})


def one_by_one(group: Group, name: str, count: int, seconds: float = 0.4) -> list[SyncRunHandle]:
    """Runs of five steps, each started by a call of its own, when some of their steps have run."""
    given = {"ledger": str(group.ledger(name)), "seconds": seconds}
    runs = [group.client.start(flows.five_steps.name, given) for _ in range(count)]
    until(lambda: sum(entries(group.ledger(name), "end").values()) >= 10, PATIENCE, "some work")
    return runs


def uncharged(group: Group, runs: list[SyncRunHandle]) -> bool:
    return bool(query(group.database_url, CHARGED, [uuid.UUID(run.id) for run in runs])[0][0] == 0)


def test_starts_are_shared_out_and_any_coordinator_answers_for_any_run(group: Group) -> None:
    runs = one_by_one(group, "shared", 24)
    share = owned(group)
    assert set(share) == set(group.coordinators)
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


def test_after_kill_9_of_a_member_its_steps_go_on_and_none_runs_twice(group: Group) -> None:
    runs = one_by_one(group, "killed", 36, seconds=0.8)
    member, head = group.members()[0], group.owner()
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


def test_a_member_that_stops_gives_its_runs_back_and_nothing_is_charged(group: Group) -> None:
    runs = one_by_one(group, "stopped", 24)
    member = group.members()[0]
    send(group.coordinators[member].pid, signal.SIGTERM)
    until(lambda: any(each["event"] == "ownership_released" for each in group.said(member)), PATIENCE, "a release")
    group.all_ran_once("stopped", runs)
    assert uncharged(group, runs)


def test_the_head_hands_over_and_all_runs_go_with_it(group: Group) -> None:
    runs = one_by_one(group, "handed", 24)
    head, successor = group.owner(), group.members()[0]
    group.client.hand_over(successor)
    until(lambda: group.owner() == successor, PATIENCE, "the other head")
    until(lambda: set(group.members()) == set(group.others(successor)), PATIENCE, f"{head} and the other as members")
    group.all_ran_once("handed", runs)
    assert all(run.wait(PATIENCE).state == run_pb2.RUN_STATE_COMPLETED for run in runs)
    assert uncharged(group, runs)
