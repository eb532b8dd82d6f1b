"""How the processes load gRPC: without its threads, without a trace in what their children inherit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MODULES = ["penstock_coordinator.__main__", "penstock_agent.__main__"]
SPEAKS = """
import asyncio, os
from {module} import load_grpc
load_grpc()
print(os.environ.get("GRPC_EXPERIMENTS"))
import grpc.aio
async def main():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(None)
asyncio.run(main())
"""


def _loaded(module: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    argv = [sys.executable, "-c", SPEAKS.format(module=module)]
    return subprocess.run(argv, env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.parametrize("module", MODULES)
def test_grpc_knows_what_it_is_told_and_nobody_inherits_it(module: str) -> None:
    done = _loaded(module)
    assert done.stdout == "None\n"
    assert "nknown experiment" not in done.stderr, (
        "this release of gRPC has no such threads any more: say nothing of them"
    )


@pytest.mark.parametrize("module", MODULES)
def test_what_the_operator_says_wins(module: str) -> None:
    assert _loaded(module, GRPC_EXPERIMENTS="-event_engine_listener").stdout == "-event_engine_listener\n"
