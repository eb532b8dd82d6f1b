"""What attempts may have of the machine: through the real agent, in real processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator
from tests.integration.agent.processes import gone, touch, written

from penstock.agent.v1 import agent_service_pb2 as wire

MIB = 1 << 20
STEPS = """
import os, pathlib, subprocess, sys, time

def eat(size):
    held = bytearray(b"x" * size)
    time.sleep(30)
    return len(held)

def small():
    return os.getpid()

def eat_below(started, size):
    child = subprocess.Popen([sys.executable, "-c", f"import time; held = b'x' * {size}; time.sleep(30)"])
    pathlib.Path(started).write_text(f"{child.pid}\\n")
    child.wait()

def keep(size):
    globals()["kept"] = bytearray(b"x" * size)
    return os.getpid()

def devices():
    return [os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()]

def hold_device(started, path):
    pathlib.Path(started).write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']}\\n")
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
"""


@pytest.fixture
async def digest(coordinator: Coordinator) -> str:
    return coordinator.add_bundle({"steps.py": STEPS})


def limited(coordinator: Coordinator, digest: str, name: str, limit: int) -> wire.TaskSpec:
    return coordinator.function(digest, f"steps:{name}", resources={"memory_bytes": limit})


async def test_an_attempt_over_its_limit_is_killed_and_says_so(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    await agents.start()
    (other,) = await coordinator.grant(coordinator.function(digest, "steps:small"))
    pid = (await coordinator.result(other)).output
    result = await coordinator.run(limited(coordinator, digest, "eat", 128 * MIB), inputs={"size": 200 * MIB})
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "OutOfMemory")
    assert "more than its resources.memory_bytes of 128 MiB" in result.error.message
    assert result.peak_memory_bytes > 128 * MIB
    again = await coordinator.run(coordinator.function(digest, "steps:small"))
    assert again.output == pid, "a warm process beside it goes on"


async def test_what_an_attempt_starts_counts_and_dies_with_it(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    await agents.start()
    started = tmp_path / "started"
    inputs = {"started": str(started), "size": 200 * MIB}
    result = await coordinator.run(limited(coordinator, digest, "eat_below", 128 * MIB), inputs=inputs)
    assert result.error.reason == "OutOfMemory"
    await gone(int(await written(started)))


async def test_a_commands_limit_is_of_what_it_starts(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    script = "import time; held = b'x' * (64 << 20); time.sleep(30)"
    spec = wire.TaskSpec(command=wire.CommandTask(argv=["python3", "-c", script]), resources={"memory_bytes": 32 * MIB})
    result = await coordinator.run(spec)
    assert result.error.reason == "OutOfMemory"
    fine = wire.TaskSpec(command=wire.CommandTask(shell="sleep 0.6"), resources={"memory_bytes": 8 * MIB})
    assert (await coordinator.run(fine)).status == wire.RESULT_STATUS_OK, "the agent's own process is not counted"


async def test_an_attempt_that_may_have_more_has_more(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start()
    spec = limited(coordinator, digest, "keep", 64 * MIB)
    result = await coordinator.run(spec, inputs={"size": 100 * MIB}, memory_bytes=512 * MIB)
    assert result.status == wire.RESULT_STATUS_OK, result.error


async def test_what_a_process_keeps_is_not_charged_to_the_next_attempt(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    await agents.start()
    spec = limited(coordinator, digest, "keep", 256 * MIB)
    first = await coordinator.run(spec, inputs={"size": 160 * MIB})
    second = await coordinator.run(spec, inputs={"size": 1})
    third = await coordinator.run(spec, inputs={"size": 1})
    assert first.output != second.output
    assert second.output == third.output


async def test_attempts_have_devices_of_their_own(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    await agents.start("--gpus", "3,7")
    assert coordinator.session.hello.resources["gpu"] == 2
    spec = coordinator.function(digest, "steps:hold_device", resources={"gpu": 1.0})
    paths = [{"started": str(tmp_path / f"started-{n}"), "path": str(tmp_path / f"go-{n}")} for n in range(3)]
    refs = [(await coordinator.grant(spec, inputs=each))[0] for each in paths[:2]]
    seen = [(await written(each["started"])).strip() for each in paths[:2]]
    assert sorted(seen) == ["3", "7"]
    touch(paths[1]["path"])
    await coordinator.result(refs[1])
    (third,) = await coordinator.grant(spec, inputs=paths[2])
    assert (await written(paths[2]["started"])).strip() == seen[1]
    for each in paths:
        touch(each["path"])
    for ref in (refs[0], third):
        await coordinator.result(ref)


async def test_a_device_is_not_given_twice_whatever_the_coordinator_says(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    await agents.start("--gpus", "0", slots=4)
    spec = coordinator.function(digest, "steps:hold_device", resources={"gpu": 1.0})
    first = {"started": str(tmp_path / "first"), "path": str(tmp_path / "go")}
    (one,) = await coordinator.grant(spec, inputs=first)
    await written(first["started"])
    second = {"started": str(tmp_path / "second"), "path": str(tmp_path / "go")}
    refs = [(await coordinator.grant(spec, inputs=second))[0] for _ in range(2)]
    await coordinator.until(lambda: all(ref in coordinator.accepted for ref in refs))
    await coordinator.cancel(refs[0], 0)
    cancelled = await coordinator.result(refs[0])
    assert cancelled.status == wire.RESULT_STATUS_CANCELLED
    await coordinator.run(coordinator.function(digest, "steps:small"))
    assert "second" not in os.listdir(tmp_path), "others may run, but not with that device"  # noqa: PTH208 - in a loop
    touch(first["path"])
    assert (await coordinator.result(one)).status == wire.RESULT_STATUS_OK
    assert (await coordinator.result(refs[1])).status == wire.RESULT_STATUS_OK


async def test_an_attempt_that_can_never_fit_is_refused(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start("--gpus", "none")
    await coordinator.grant(coordinator.function(digest, "steps:small", resources={"gpu": 1.0}))
    rejected = await coordinator.until(lambda: coordinator.rejected[0] if coordinator.rejected else None)
    assert (rejected.reason, rejected.message) == (
        "no_resources",
        "the attempt asks this agent for more than there is: gpu 1, of 0 that it has",
    )


async def test_another_kind_of_work_on_a_device_ends_the_process_that_used_it(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    await agents.start("--gpus", "5")
    one = coordinator.function(digest, "steps:devices", resources={"gpu": 1.0})
    other = coordinator.function(digest, "steps:devices", resources={"gpu": 0.5}, env={"A": "1"})
    device, pid = json.loads((await coordinator.run(one)).output)
    assert (device, pid) == ("5", json.loads((await coordinator.run(one)).output)[1]), "the process stays warm"
    await coordinator.run(other)
    await gone(pid)
