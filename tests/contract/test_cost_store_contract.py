"""What the store of costs promises, on PostgreSQL and in memory."""

from __future__ import annotations

import msgspec
from tests.contract.records import new_run, new_run_id, record, start

from penstock_coordinator.ports import (
    AttemptCost,
    AttemptRow,
    Committed,
    Cost,
    CostFilter,
    Costs,
    EndedRuns,
    RunChange,
    RunId,
    RunRows,
    StepCost,
    Stores,
    cost_in,
    costs_of,
    with_cost,
    without_cost,
)

COMMITTED = Committed()
DAY = 86_400 * 1_000_000
SECOND = 1_000_000


def attempt(step: int, number: int, outcome: int = 1, *, item: int = -1, cost: AttemptCost | None = None) -> AttemptRow:
    detail = b"\x90" if cost is None else with_cost(cost, b"\x90")
    return AttemptRow(step, item, number, number, outcome, "agent", 5 * SECOND, 7 * SECOND, detail)


async def ended(
    stores: Stores,
    *attempts: AttemptRow,
    pipeline: str = "etl",
    labels: tuple[tuple[str, str], ...] = (),
    create_time: int = DAY + 1,
) -> RunId:
    run_id = (create_time // 1_000).to_bytes(6, "big") + new_run_id()[6:]
    begin = start(run_id, new=new_run(pipeline, labels=labels, create_time=create_time))
    end = msgspec.structs.replace(record(run_id, 3), attempts=attempts, change=RunChange(6, end_time=create_time + 1))
    assert await stores.journal.commit(0, [begin, end]) == [COMMITTED, COMMITTED]
    return run_id


async def remove(stores: Stores, run_id: RunId, batch: int = 10) -> None:
    assert await stores.retention.remove_runs([run_id], EndedRuns(), 9 * DAY) == [run_id]
    while await stores.retention.remove_rows(RunRows.ATTEMPTS, [run_id], batch) == batch:
        pass
    await stores.retention.all_gone([run_id])


FIRST = AttemptCost(2 * SECOND, SECOND, 3_000_000_000, 10)
SECOND_ONE = AttemptCost(4 * SECOND, 500_000, 1_000_000_000, 5)
LOST = AttemptCost(SECOND, 0, 0, 0)


def test_a_cost_is_read_as_it_was_written() -> None:
    detail = with_cost(FIRST, b"\x93\x01")
    assert (cost_in(detail), without_cost(detail)) == (FIRST, b"\x93\x01")
    assert (cost_in(b"\x93\x01"), without_cost(b"\x93\x01")) == (None, b"\x93\x01")
    assert cost_in(with_cost(AttemptCost(-1, 1 << 70), b"")) == AttemptCost(0, (1 << 63) - 1)


async def test_the_steps_of_a_run_have_their_sums(stores: Stores) -> None:
    run_id = await ended(
        stores,
        attempt(1, 1, cost=FIRST),
        attempt(1, 1, cost=SECOND_ONE, item=4),
        attempt(0, 1, 5, cost=LOST),
        attempt(0, 2, cost=FIRST),
    )
    first = Cost(1, 2 * SECOND, SECOND, 3_000_000_000, 10, 6e9)
    assert await stores.costs.of_run(run_id) == [
        (0, Costs(Cost(2, 3 * SECOND, SECOND, 3_000_000_000, 10, 6e9), Cost(1, SECOND))),
        (1, Costs(first + Cost(1, 4 * SECOND, 500_000, 1_000_000_000, 5, 4e9))),
    ]
    assert await stores.costs.of_run(new_run_id()) == []


async def test_an_attempt_of_before_counts_its_lease(stores: Stores) -> None:
    run_id = await ended(stores, attempt(0, 1))
    assert await stores.costs.of_run(run_id) == [(0, Costs(Cost(1, 2 * SECOND)))]


async def test_runs_are_put_together_by_pipeline_label_and_day(stores: Stores) -> None:
    await ended(stores, attempt(0, 1, cost=FIRST), labels=(("team", "a=b"),))
    await ended(stores, attempt(0, 1, 2, cost=LOST), labels=(("team", "c"), ("x", "y")), create_time=2 * DAY)
    await ended(stores, attempt(0, 1, cost=SECOND_ONE), pipeline="ml", create_time=2 * DAY + 5)
    await ended(stores, pipeline="idle")

    async def slots(where: CostFilter, by: str, label: str = "") -> list[tuple[str, int]]:
        found = await stores.costs.of_runs(where, by, label)  # type: ignore[arg-type]  # one of its words
        return [(name, costs.total.slot_time // SECOND) for name, costs in found]

    assert await slots(CostFilter(), "pipeline") == [("ml", 4), ("etl", 3)]
    assert await slots(CostFilter(), "label", "team") == [("", 4), ("a=b", 2), ("c", 1)]
    assert await slots(CostFilter(), "day") == [("1970-01-03", 5), ("1970-01-02", 2)]
    assert await slots(CostFilter(), "") == [("", 7)]
    assert await slots(CostFilter(pipeline="etl"), "day") == [("1970-01-02", 2), ("1970-01-03", 1)]
    assert await slots(CostFilter(labels=(("x", "y"),)), "pipeline") == [("etl", 1)]
    assert await slots(CostFilter(since=2 * DAY), "pipeline") == [("ml", 4), ("etl", 1)]
    assert await slots(CostFilter(until=2 * DAY), "pipeline") == [("etl", 2)]
    assert await slots(CostFilter(pipeline="no\0ne"), "pipeline") == []
    assert await stores.costs.of_runs(CostFilter(), "pipeline", limit=1) == [
        ("ml", Costs(Cost(1, 4 * SECOND, 500_000, 1_000_000_000, 5, 4e9)))
    ]


async def test_the_steps_of_many_runs_have_their_sums(stores: Stores) -> None:
    """By version; runs of several generations one by one, since they may number their steps in another way."""
    await ended(stores, attempt(0, 1, cost=FIRST), attempt(1, 1, 2, cost=LOST))
    await ended(stores, attempt(0, 1, cost=SECOND_ONE), labels=(("team", "a"),), create_time=2 * DAY)
    await ended(stores, attempt(0, 1, cost=FIRST), pipeline="ml")
    retried = await ended(stores, attempt(0, 1, cost=LOST), create_time=3 * DAY)
    again = msgspec.structs.replace(record(retried, 4), change=RunChange(6, generation=2, version_digest="sha256:new"))
    assert await stores.journal.commit(0, [again]) == [COMMITTED]

    async def found(where: CostFilter) -> set[StepCost]:
        return set(await stores.costs.of_steps(where))

    first, second = (costs_of(cost, 1) for cost in (FIRST, SECOND_ONE))
    alone = StepCost("sha256:new", retried, 0, costs_of(LOST, 1))
    both, failed = StepCost("sha256:abc", None, 0, first + second), StepCost("sha256:abc", None, 1, costs_of(LOST, 2))
    assert await found(CostFilter("etl")) == {both, failed, alone}
    assert await found(CostFilter("etl", (("team", "a"),))) == {StepCost("sha256:abc", None, 0, second)}
    assert await found(CostFilter("etl", since=2 * DAY, until=3 * DAY)) == {StepCost("sha256:abc", None, 0, second)}
    await remove(stores, retried)
    assert await found(CostFilter("etl")) == {both, failed}
    assert await found(CostFilter("no\0ne")) == set()


async def test_what_removed_runs_cost_is_kept_by_day(stores: Stores) -> None:
    labels = (("team", "a"),)
    attempts = [attempt(0, number, 1 if number % 2 else 2, cost=FIRST) for number in range(1, 6)]
    one = await ended(stores, *attempts, labels=labels)
    two = await ended(stores, attempt(0, 1, cost=SECOND_ONE), labels=labels)
    await ended(stores, attempt(0, 1, cost=LOST))
    groupings = (("pipeline", ""), ("label", "team"), ("day", ""), ("", ""))
    before = [await stores.costs.of_runs(CostFilter(), by, label) for by, label in groupings]  # type: ignore[arg-type]
    assert await stores.retention.remove_runs([one], EndedRuns(), 9 * DAY) == [one]
    assert await stores.retention.remove_rows(RunRows.ATTEMPTS, [one], 2) == 2
    half = [await stores.costs.of_runs(CostFilter(), by, label) for by, label in groupings]  # type: ignore[arg-type]
    assert half == before, "some attempts are rows still"
    while await stores.retention.remove_rows(RunRows.ATTEMPTS, [one], 2) == 2:
        pass
    await stores.retention.all_gone([one])
    await remove(stores, two)
    after = [await stores.costs.of_runs(CostFilter(), by, label) for by, label in groupings]  # type: ignore[arg-type]
    assert after == before
    assert await stores.costs.of_run(one) == []
    (kept,) = await stores.costs.of_runs(
        CostFilter(pipeline="etl", labels=labels, since=DAY, until=DAY + 1), "pipeline"
    )
    assert (kept[1].total.attempts, kept[1].wasted.attempts) == (6, 2)
    assert await stores.costs.of_runs(CostFilter(labels=labels, since=DAY + 1), "pipeline") == []
