"""The coordinator as a process: how it starts, refuses to start, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENCE = 60.0


def environment(database_url: str, data_dir: Path, **settings: str) -> dict[str, str]:
    given = {
        "PENSTOCK_DATABASE_URL": database_url,
        "PENSTOCK_DATA_DIR": str(data_dir),
        "PENSTOCK_LISTEN": "127.0.0.1:0",
        "PENSTOCK_HTTP_LISTEN": "127.0.0.1:0",
        "PENSTOCK_LOG_FORMAT": "json",
        **settings,
    }
    return {**{key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}, **given}


@contextlib.asynccontextmanager
async def server(settings: dict[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "penstock_coordinator", *arguments, env=settings, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def listening(process: asyncio.subprocess.Process) -> dict[str, str]:
    """The log line that says where it listens."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        async for line in process.stderr:
            said: dict[str, str] = json.loads(line)
            if said["event"] == "listening":
                return said
    raise AssertionError("it ended before it listened")


async def refusal(settings: dict[str, str], *arguments: str) -> str:
    async with server(settings, *arguments) as process, asyncio.timeout(PATIENCE):
        _, said = await process.communicate()
        assert process.returncode == 2
        return said.decode()


async def test_it_becomes_ready_and_stops_with_code_0(database_url: str, tmp_path: Path) -> None:
    async with server(environment(database_url, tmp_path)) as process:
        where = await listening(process)
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                async with session.get(f"http://{where['http']}/readyz") as answer:
                    return answer.status == 200

            await until(ready)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0


async def test_it_makes_an_empty_database_its_own(empty_database_url: str, tmp_path: Path) -> None:
    async with server(environment(empty_database_url, tmp_path)) as process:
        await listening(process)


async def test_it_refuses_an_empty_database_if_told_not_to_migrate(empty_database_url: str, tmp_path: Path) -> None:
    said = await refusal(environment(empty_database_url, tmp_path), "server", "--no-migrate")
    assert "migrate" in said


async def test_a_second_one_on_its_data_folder_is_refused(database_url: str, tmp_path: Path) -> None:
    settings = environment(database_url, tmp_path)
    async with server(settings) as process:
        await listening(process)
        said = await refusal(settings)
    assert "another coordinator" in said
    assert "PENSTOCK_DATA_DIR" in said


async def test_a_port_in_use_is_named_with_its_setting(database_url: str, tmp_path: Path) -> None:
    async with server(environment(database_url, tmp_path / "one")) as process:
        where = await listening(process)
        said = await refusal(environment(database_url, tmp_path / "two", PENSTOCK_LISTEN=where["grpc"]))
    assert "PENSTOCK_LISTEN" in said


async def test_a_wrong_setting_is_named(database_url: str, tmp_path: Path) -> None:
    said = await refusal(environment(database_url, tmp_path, PENSTOCK_LEASE_TTL="soon"))
    assert "PENSTOCK_LEASE_TTL" in said


async def test_a_new_signing_key_is_the_newest_and_the_former_ones_get_an_end(
    database_url: str, tmp_path: Path
) -> None:
    settings = environment(database_url, tmp_path)
    connection = await asyncpg.connect(database_url)
    try:
        async with server(settings) as process:
            await listening(process)
            async with server(settings, "rotate-signing-key", "--expire-after", "2h") as rotating:
                assert await rotating.wait() == 0
        rows = await connection.fetch("select * from signing_keys order by number")
    finally:
        await connection.close()
    former, newest = rows
    assert newest["expire_time"] is None
    assert former["expire_time"] == newest["create_time"] + 7_200_000_000
    assert len({former["secret"], newest["secret"]}) == 2


async def test_a_wrong_span_for_the_former_keys_is_named(database_url: str, tmp_path: Path) -> None:
    said = await refusal(environment(database_url, tmp_path), "rotate-signing-key", "--expire-after", "soon")
    assert "30s" in said
