"""What the store of budgets promises, on PostgreSQL and in memory."""

from __future__ import annotations

import msgspec
from tests.contract.records import new_run, new_run_id, record, start

from penstock_coordinator.core.plan.budget import Amounts
from penstock_coordinator.ports import ChargeRow, Committed, OldRows, OutOfSequence, Record, Stores, WindowUse

NONE = Amounts()


def charged(run_id: bytes, seq: int, at: int, row: ChargeRow) -> Record:
    return msgspec.structs.replace(record(run_id, seq), at=at, charge=row)


async def test_what_records_bring_counts_once_from_an_instant_on(stores: Stores) -> None:
    run_id, other = new_run_id(), new_run_id()
    first, second = ChargeRow("etl", 5, 6, 7), ChargeRow("etl", 1, 2, 0)
    records = [
        start(run_id),
        charged(run_id, 3, 100, first),
        charged(run_id, 4, 200, second),
        start(other, new=new_run("ml")),
        charged(other, 3, 150, ChargeRow("ml", 9, 9, 9)),
        record(other, 4),
    ]
    assert set(await stores.journal.commit(0, records)) == {Committed()}
    assert await stores.budgets.use("etl", 0) == WindowUse(Amounts(6, 8, 7), NONE)
    assert await stores.budgets.use("etl", 101) == WindowUse(Amounts(1, 2, 0), NONE)
    assert await stores.budgets.use("etl", 200) == WindowUse(Amounts(1, 2, 0), NONE)
    assert await stores.budgets.use("etl", 201) == WindowUse(NONE, NONE)
    assert await stores.budgets.use("no\0ne", 0) == WindowUse(NONE, NONE)
    # What is not stored for any reason counts for nothing.
    (again,) = await stores.journal.commit(0, [charged(run_id, 4, 200, first)])
    assert again == OutOfSequence()
    assert (await stores.budgets.use("etl", 0)).used == Amounts(6, 8, 7)


async def test_a_budget_is_raised_for_one_window(stores: Stores) -> None:
    await stores.budgets.raise_to("etl", 100, Amounts(5, 0, 0), "ann", 120)
    await stores.budgets.raise_to("etl", 100, Amounts(3, 4, 0), "bob\0", 130)
    await stores.budgets.raise_to("etl", 200, Amounts(0, 0, 9), "ann", 220)
    assert await stores.budgets.use("etl", 100) == WindowUse(NONE, Amounts(5, 4, 0))
    assert await stores.budgets.use("etl", 200) == WindowUse(NONE, Amounts(0, 0, 9))
    assert await stores.budgets.use("etl", 300) == WindowUse(NONE, NONE)
    assert await stores.budgets.use("ml", 100) == WindowUse(NONE, NONE)


async def test_what_is_old_goes(stores: Stores) -> None:
    run_id = new_run_id()
    rows = [charged(run_id, seq, 100 * seq, ChargeRow("etl", 1, 0, 0)) for seq in range(3, 7)]
    await stores.journal.commit(0, [start(run_id), *rows])
    await stores.budgets.raise_to("etl", 400, Amounts(5), "ann", 450)
    await stores.budgets.raise_to("etl", 500, Amounts(6), "ann", 550)
    assert await stores.retention.count_old(OldRows.CHARGES, 500) == 2
    assert await stores.retention.remove_old(OldRows.CHARGES, 500, 1) == 1
    assert await stores.retention.remove_old(OldRows.CHARGES, 500, 10) == 1
    assert (await stores.budgets.use("etl", 0)).used == Amounts(2)
    assert await stores.retention.count_old(OldRows.BUDGET_RAISES, 500) == 1
    assert await stores.retention.remove_old(OldRows.BUDGET_RAISES, 500, 10) == 1
    assert (await stores.budgets.use("etl", 400)).raised == NONE
    assert (await stores.budgets.use("etl", 500)).raised == Amounts(6)
