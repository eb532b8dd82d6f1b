"""The limit of memory, held by looking and, where this machine lets the tests make control groups, by the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator
from tests.integration.agent.processes import gone, written

from penstock.agent.v1 import agent_service_pb2 as wire

MIB = 1 << 20
ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
STEPS = """
import os, pathlib, subprocess, sys, time

def eat_below(started, size):
    child = subprocess.Popen([sys.executable, "-c", f"import time; held = b'x' * {size}; time.sleep(60)"])
    pathlib.Path(started).write_text(f"{child.pid}\\n")
    time.sleep(60)

def eat(size):
    held = bytearray(b"x" * size)
    time.sleep(60)

def small():
    return os.getpid()
"""


def make_group(root: Path) -> Path | None:
    """None: it cannot be made, or limits no memory."""
    path = root / f"penstock-tests-{os.getpid()}"
    try:
        path.mkdir()
    except OSError:
        return None
    try:
        if (path / "memory.limit_in_bytes").exists() or "memory" in (path / "cgroup.controllers").read_text().split():
            return path
    except OSError:
        pass
    path.rmdir()
    return None


def can_make_groups() -> bool:
    made = next(filter(None, map(make_group, ROOTS)), None)
    if made is not None:
        made.rmdir()
    return made is not None


@pytest.fixture(params=["looking", "group"] if can_make_groups() else ["looking"])
def env(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "looking":
        yield {"PENSTOCK_AGENT_MEMORY_GROUP": "none"}
        return
    group = next(filter(None, map(make_group, ROOTS)))
    # Were it only looked at, nobody would see it in time.
    yield {"PENSTOCK_AGENT_MEMORY_GROUP": str(group), "PENSTOCK_AGENT_MEMORY_INTERVAL": "0.5"}
    assert [path for path in group.iterdir() if path.is_dir()] == [], "the agent leaves no groups behind"
    group.rmdir()


def words(env: dict[str, str]) -> str:
    return "the kernel killed it" if "MEMORY_INTERVAL" in str(env) else "was killed with everything"


async def test_a_command_over_its_limit_is_out_of_memory(
    coordinator: Coordinator, agents: Agents, env: dict[str, str]
) -> None:
    agent = await agents.start(env=env)
    script = "import time; held = b'x' * (96 << 20); time.sleep(60)"
    spec = wire.TaskSpec(command=wire.CommandTask(argv=["python3", "-c", script]), resources={"memory_bytes": 48 * MIB})
    result = await coordinator.run(spec)
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "OutOfMemory"), result.error
    assert "resources.memory_bytes of 48 MiB" in result.error.message
    assert words(env) in result.error.message
    fine = wire.TaskSpec(command=wire.CommandTask(shell="sleep 0.1"), resources={"memory_bytes": 48 * MIB})
    assert (await coordinator.run(fine)).status == wire.RESULT_STATUS_OK
    agent.terminate()
    await agent.wait()


async def test_what_a_function_starts_counts_and_dies_with_it(
    coordinator: Coordinator, agents: Agents, tmp_path: Path, env: dict[str, str]
) -> None:
    agent = await agents.start(env=env)
    digest = coordinator.add_bundle({"steps.py": STEPS})
    (other,) = await coordinator.grant(coordinator.function(digest, "steps:small"))
    pid = (await coordinator.result(other)).output
    started = tmp_path / "started"
    limited = coordinator.function(digest, "steps:eat_below", resources={"memory_bytes": 128 * MIB})
    result = await coordinator.run(limited, inputs={"started": str(started), "size": 200 * MIB})
    assert result.error.reason == "OutOfMemory", result.error
    await gone(int(await written(started)))
    alone = coordinator.function(digest, "steps:eat", resources={"memory_bytes": 128 * MIB})
    result = await coordinator.run(alone, inputs={"size": 200 * MIB})
    assert result.error.reason == "OutOfMemory", result.error
    again = await coordinator.run(coordinator.function(digest, "steps:small"))
    assert again.output == pid, "a warm process beside it goes on"
    agent.terminate()
    await agent.wait()
