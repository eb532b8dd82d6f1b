"""The health check of the images."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from aiohttp import web
from tests.e2e.compose_without_docker.definition import ROOT

from penstock.dev.ports import take_port


async def probe(port: int, path: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "deploy/docker/probe.py"), "LISTEN", path),
        env={**os.environ, "LISTEN": f"0.0.0.0:{port}"},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, said.decode()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
async def test_it_says_what_the_port_says(status: int, code: int) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="because")

    app = web.Application()
    app.router.add_get("/readyz", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := take_port(0, "")).start()
        assert await probe(port, "/readyz") == (code, f"{status} because\n")
    finally:
        await runner.cleanup()


async def test_a_port_on_which_nobody_listens_is_no_health() -> None:
    port = take_port(0, "")
    code, said = await probe(port, "/readyz")
    assert code == 1
    assert f"port {port}" in said
