"""The order of log rows on PostgreSQL, by each way in which it may join."""

from __future__ import annotations

import pytest
from tests.contract.backends import PostgresBackend
from tests.contract.records import new_run_id
from tests.contract.test_log_pack_store_contract import EVERYTHING, packed
from tests.contract.test_log_store_contract import _chunk

STEPS = range(20)
JOINS = ("hashjoin", "mergejoin", "nestloop")


@pytest.mark.parametrize("join", JOINS)
async def test_rows_are_in_the_order_of_their_lines_by_whatever_join(database_url: str, join: str) -> None:
    """Some joins give chunks in another order than they take them in: positions are drawn after them."""
    others = "&".join(f"enable_{other}=off" for other in JOINS if other != join)
    backend = PostgresBackend(f"{database_url}{'&' if '?' in database_url else '?'}{others}")
    try:
        stores = await backend.open()
        run = new_run_id()
        for first in (1, 501, 1_001):
            numbers = range(first, first + 500, 20)
            await stores.logs.append_logs([_chunk(run, n, f"{n}", step=step) for n in numbers for step in STEPS])
            rows = await stores.logs.read_logs(run, EVERYTHING, 0, 1_000)
            assert [(row.lines[0].number, row.step) for row in rows] == [(n, step) for n in numbers for step in STEPS]
            await packed(stores, run, 500, f"logs/{run.hex()}/{first}")
    finally:
        await backend.aclose()
