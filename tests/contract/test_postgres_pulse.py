"""What readiness asks PostgreSQL: an answer within a bound, and that it takes writes."""

from __future__ import annotations

from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.tcp_proxy import TcpProxy

from penstock_coordinator.adapters.postgres.pulse import PostgresPulse
from penstock_coordinator.ports import Unavailable


async def test_a_server_that_answers_and_takes_writes_is_there(database_url: str) -> None:
    pulse = PostgresPulse(database_url, "c1")
    await pulse.ask()
    await pulse.ask()
    await pulse.aclose()


async def test_one_that_takes_no_writes_is_not_and_the_next_question_goes_elsewhere(database_url: str) -> None:
    name = urlsplit(database_url).path[1:]
    connection = await asyncpg.connect(database_url)
    pulse = PostgresPulse(database_url, "c1")
    try:
        await connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        with pytest.raises(Unavailable, match="takes no writes"):
            await pulse.ask()
        await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await pulse.ask()
    finally:
        await pulse.aclose()
        await connection.close()


async def test_one_that_swallows_questions_is_given_up_and_asked_again_on_a_new_connection(database_url: str) -> None:
    parts = urlsplit(database_url)
    async with TcpProxy(parts.hostname or "", parts.port or 5432) as proxy:
        through = parts._replace(netloc=parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}").geturl()
        pulse = PostgresPulse(through, "c1", seconds=1.0)
        await pulse.ask()
        proxy.swallow_requests()
        with pytest.raises(Unavailable):
            await pulse.ask()
        with pytest.raises(Unavailable):
            await pulse.ask()  # Also a new connection hangs.
        proxy.heal()
        await pulse.ask()
        await pulse.aclose()
