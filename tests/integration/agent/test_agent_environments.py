"""Steps in Python environments of their own: through the real agent, uv, and real worker processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator, seconds
from tests.integration.agent.processes import gone, line_of, touch, written
from tests.packages import make_gated_source, make_wheel, without_index

from penstock.agent.v1 import agent_service_pb2 as wire

STEPS = """
import os, sys

def version(of="tiny"):
    return __import__(of).VERSION

def where():
    import penstock
    from penstock import step
    return {
        "prefix": sys.prefix,
        "sdk": penstock.__file__,
        "step": step(lambda: 1).__class__.__name__,
        "venv": os.environ["VIRTUAL_ENV"],
        "path": os.environ["PATH"].split(":")[0],
        "has": [name for name in ("msgspec", "grpc", "psutil") if __import__("importlib.util").util.find_spec(name)],
    }

def own_msgspec():
    import msgspec
    print("printed")
    return msgspec.VERSION

def fails():
    raise ValueError("as asked")
"""
SYSTEM = wire.LOG_SOURCE_SYSTEM


def name_of(text: str) -> str:
    return f"python:{hashlib.sha256(text.encode()).hexdigest()}"


def environment(*requirements: str, **fields: Any) -> dict[str, Any]:
    python = wire.TaskPythonEnvironment(requirements=requirements, **fields)
    return {
        "environment_digest": name_of(f"{requirements}{fields}"),
        "environment": wire.TaskEnvironment(python=python),
    }


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of wheels, and the agents' variables for uv."""
    folder, gate = tmp_path / "wheels", tmp_path / "gate"
    gate.mkdir()
    for version in ("1.0", "2.0"):
        make_wheel(folder, "tiny", version)
    make_gated_source(folder, "gated", "1.0")
    for name, value in {**without_index(tmp_path, folder), "BUILD_GATE": str(gate)}.items():
        monkeypatch.setenv(name, value)
    return folder


def builds(coordinator: Coordinator) -> list[str]:
    return [record.text for _, record in coordinator.logs if record.text.startswith("building the environment")]


def environments(agents: Agents, name: str = "agent") -> list[str]:
    return sorted(entry.name for entry in (agents.folder / name / "environments").iterdir())


async def test_conflicting_versions_run_beside_each_other_and_are_built_once(
    coordinator: Coordinator, agents: Agents, wheels: Path
) -> None:
    await agents.start()
    assert coordinator.session.hello.environments["python"] == ""
    digest = coordinator.add_bundle({"steps.py": STEPS})
    specs = [coordinator.function(digest, "steps:version", **environment(f"tiny=={each}")) for each in ("1.0", "2.0")]
    for _ in range(2):
        results = await asyncio.gather(*(coordinator.run(spec) for spec in specs))
        assert [json.loads(result.output) for result in results] == ["1.0", "2.0"]
    own = await coordinator.run(coordinator.function(digest, "steps:version"))
    assert own.error.error_class == "ModuleNotFoundError", own
    await coordinator.until(lambda: len(builds(coordinator)) == 2)
    assert sorted(builds(coordinator)) == [f"building the environment of this step: tiny=={v}" for v in ("1.0", "2.0")]
    assert len([name for name in environments(agents) if "." not in name]) == 2


async def test_a_step_finds_the_sdk_and_nothing_else_of_the_agent(
    coordinator: Coordinator, agents: Agents, wheels: Path
) -> None:
    await agents.start()
    digest = coordinator.add_bundle({"steps.py": STEPS})
    result = await coordinator.run(coordinator.function(digest, "steps:where", **environment("tiny")))
    found = json.loads(result.output)
    assert found["has"] == []
    assert found["step"] == "Step"
    assert found["prefix"] == found["venv"]
    assert found["path"] == f"{found['venv']}/bin"
    failed = await coordinator.run(coordinator.function(digest, "steps:fails", **environment("tiny")))
    assert (failed.error.error_class, failed.error.message) == ("ValueError", "as asked")
    assert "steps.py" in failed.error.traceback


async def test_packages_that_the_worker_has_too_are_the_environments_own(
    coordinator: Coordinator, agents: Agents, wheels: Path
) -> None:
    make_wheel(wheels, "msgspec", "0.0.1")
    trap = {"penstock/__init__.py": "VERSION = 'own'\n", "penstock_agent/__init__.py": "raise RuntimeError\n"}
    make_wheel(wheels, "penstock", "9.0", trap)
    await agents.start()
    digest = coordinator.add_bundle({"steps.py": STEPS})
    given = environment("msgspec", "penstock")
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:own_msgspec", **given))
    result = await coordinator.result(ref)
    assert json.loads(result.output) == "0.0.1", result
    spec = coordinator.function(digest, "steps:version", **given)
    assert json.loads((await coordinator.run(spec, inputs={"of": "penstock"})).output) == "own"
    lines = await coordinator.until(lambda: [r for _, r in coordinator.logs if r.text == "printed"])
    before = [record.number for _, record in coordinator.logs if record.source == SYSTEM]
    assert [record.number for record in lines] == [max(before) + 1]


async def test_a_command_runs_in_the_environment(coordinator: Coordinator, agents: Agents, wheels: Path) -> None:
    await agents.start()
    task = wire.CommandTask(
        shell="python -c 'import tiny; print(tiny.VERSION)'", outputs=[wire.CommandTaskOutput(name="v", stdout=True)]
    )
    result = await coordinator.run(wire.TaskSpec(command=task, **environment("tiny==1.0")))
    assert json.loads(result.output) == {"v": "1.0"}, result


async def test_ten_that_come_at_once_wait_for_one_build(
    coordinator: Coordinator, agents: Agents, wheels: Path, tmp_path: Path
) -> None:
    await agents.start(slots=10)
    digest = coordinator.add_bundle({"steps.py": STEPS})
    refs = await coordinator.grant(coordinator.function(digest, "steps:version", **environment("gated")), 10,
                                   inputs={"of": "gated"})  # fmt: skip
    await written(tmp_path / "gate" / "began")
    await coordinator.until(lambda: _notes(coordinator) == ["its environment is being built"] * 10)
    touch(tmp_path / "gate" / "open")
    results = await asyncio.gather(*(coordinator.result(ref) for ref in refs))
    assert [json.loads(result.output) for result in results] == ["1.0"] * 10
    assert len((tmp_path / "gate" / "began").read_text().splitlines()) == 1
    await coordinator.until(lambda: len(builds(coordinator)) == 10)


def _notes(coordinator: Coordinator) -> list[str]:
    beats = [word.heartbeat for word in coordinator.session.heard if word.HasField("heartbeat")]
    return [lease.note for lease in beats[-1].leases] if beats else []


async def test_agents_of_a_machine_may_share_what_is_built(
    coordinator: Coordinator, agents: Agents, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_ENVIRONMENTS_DIR", str(tmp_path / "shared"))
    digest = coordinator.add_bundle({"steps.py": STEPS})
    spec = coordinator.function(digest, "steps:version", **environment("gated"))
    refs: list[wire.LeaseRef] = []
    for name in ("one", "two"):
        await agents.start(name=name)
        refs += await coordinator.grant(spec, inputs={"of": "gated"})
    await coordinator.until(lambda: len(coordinator.accepted) == 2)
    await written(tmp_path / "gate" / "began")
    touch(tmp_path / "gate" / "open")
    for ref in refs:
        assert json.loads((await coordinator.result(ref)).output) == "1.0"
    assert len((tmp_path / "gate" / "began").read_text().splitlines()) == 1


async def test_an_agent_that_is_killed_in_a_build_leaves_nothing_that_counts(
    coordinator: Coordinator, agents: Agents, wheels: Path, tmp_path: Path
) -> None:
    digest = coordinator.add_bundle({"steps.py": STEPS})
    spec = coordinator.function(digest, "steps:version", **environment("gated"))
    agent = await agents.start()
    await coordinator.grant(spec, inputs={"of": "gated"})
    building = int(await written(tmp_path / "gate" / "began"))
    agent.send_signal(signal.SIGKILL)
    await agent.wait()
    await gone(building)
    assert [name for name in environments(agents) if name.endswith(".new")]
    await agents.start()
    assert not [name for name in environments(agents) if not name.endswith(".lock")]
    touch(tmp_path / "gate" / "open")
    assert json.loads((await coordinator.run(spec, inputs={"of": "gated"})).output) == "1.0"
    assert len((tmp_path / "gate" / "began").read_text().splitlines()) == 2


async def test_a_build_that_fails_is_the_attempts_failure(
    coordinator: Coordinator, agents: Agents, wheels: Path
) -> None:
    await agents.start(slots=1)
    digest = coordinator.add_bundle({"steps.py": STEPS})
    result = await coordinator.run(coordinator.function(digest, "steps:version", **environment("tiny==3.0")))
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "Environment")
    assert "`uv pip install` ended with exit code 1" in result.error.message
    assert "tiny==3.0" in result.error.message
    assert [name for name in environments(agents) if not name.endswith(".lock")] == []
    # Its slot is free, and what it was told is in its log.
    assert json.loads(
        (await coordinator.run(coordinator.function(digest, "steps:version", **environment("tiny")))).output
    )
    await coordinator.until(lambda: [r for _, r in coordinator.logs if "No solution found" in r.text])


async def test_a_lock_file_is_installed_exactly_or_not_at_all(
    coordinator: Coordinator, agents: Agents, wheels: Path
) -> None:
    await agents.start()
    digest = coordinator.add_bundle({"steps.py": STEPS})
    right = f"tiny==2.0 --hash=sha256:{make_wheel(wheels, 'tiny', '2.0')}\n"
    result = await coordinator.run(coordinator.function(digest, "steps:version", **environment(lock=right)))
    assert json.loads(result.output) == "2.0", result
    wrong = f"tiny==1.0 --hash=sha256:{'0' * 64}\n"
    result = await coordinator.run(coordinator.function(digest, "steps:version", **environment(lock=wrong)))
    assert result.error.reason == "Environment"
    assert "Hash mismatch" in result.error.message


async def test_a_pylock_is_installed(coordinator: Coordinator, agents: Agents, wheels: Path) -> None:
    await agents.start()
    digest = coordinator.add_bundle({"steps.py": STEPS})
    place = wheels / "tiny-1.0-py3-none-any.whl"
    sha256 = make_wheel(wheels, "tiny", "1.0")
    lock = (
        'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "tiny"\nversion = "1.0"\n'
        f'wheels = [{{ url = "{place.as_uri()}", hashes = {{ sha256 = "{sha256}" }} }}]\n'
    )
    spec = coordinator.function(digest, "steps:version", **environment(lock=lock, pylock=True))
    result = await coordinator.run(spec)
    assert json.loads(result.output) == "1.0", result


async def test_a_python_that_is_not_there_is_named(coordinator: Coordinator, agents: Agents, wheels: Path) -> None:
    await agents.start()
    digest = coordinator.add_bundle({"steps.py": STEPS})
    spec = coordinator.function(digest, "steps:version", **environment("tiny", python="==3.99.*"))
    result = await coordinator.run(spec)
    assert result.error.reason == "Environment"
    assert "no Python ==3.99.*" in result.error.message


async def test_a_stop_ends_a_build_that_nobody_else_waits_for(
    coordinator: Coordinator, agents: Agents, wheels: Path, tmp_path: Path
) -> None:
    await agents.start(slots=2)
    digest = coordinator.add_bundle({"steps.py": STEPS})
    spec = coordinator.function(digest, "steps:version", **environment("gated"))
    first, second = await coordinator.grant(spec, 2, inputs={"of": "gated"})
    building = int(await written(tmp_path / "gate" / "began"))
    await coordinator.until(lambda: len(_notes(coordinator)) == 2)
    await coordinator.cancel(first, 5.0)
    assert (await coordinator.result(first)).status == wire.RESULT_STATUS_CANCELLED
    await coordinator.cancel(second, 5.0)
    assert (await coordinator.result(second)).status == wire.RESULT_STATUS_CANCELLED
    await gone(building)
    touch(tmp_path / "gate" / "open")
    results = await asyncio.gather(*(coordinator.run(spec, inputs={"of": "gated"}) for _ in range(2)))
    assert [json.loads(result.output) for result in results] == ["1.0"] * 2
    assert len((tmp_path / "gate" / "began").read_text().splitlines()) == 2


async def test_a_build_has_its_own_time_and_the_attempts_does_not_run(
    coordinator: Coordinator, agents: Agents, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = coordinator.add_bundle({"steps.py": STEPS})
    more = {**environment("gated"), "attempt_timeout": seconds(1)}
    building = ""
    for within in (3, 15, 75):
        monkeypatch.setenv("PENSTOCK_AGENT_ENVIRONMENTS_BUILD_TIMEOUT", str(within))
        agent = await agents.start(name=f"agent-{within}")
        spec = coordinator.function(digest, "steps:version", **more)
        result = await coordinator.run(spec, within + 60, inputs={"of": "gated"})
        assert result.error.reason == "Environment"
        said = f"it took longer than {within} s (PENSTOCK_AGENT_ENVIRONMENTS_BUILD_TIMEOUT)"
        assert said in result.error.message
        if building := line_of(tmp_path / "gate" / "began"):
            break
        agent.kill()  # the machine is busy: the build had not come so far
        await agent.wait()
    await gone(int(building))


async def test_the_least_recently_used_goes_and_never_one_in_use(
    coordinator: Coordinator, agents: Agents, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_ENVIRONMENTS_COUNT", "1")
    await agents.start("--slots", "2")
    digest = coordinator.add_bundle({"steps.py": STEPS})
    for version in ("1.0", "2.0", "1.0"):
        spec = coordinator.function(digest, "steps:version", **environment(f"tiny=={version}"))
        assert json.loads((await coordinator.run(spec)).output) == version
    # Their warm processes live on, so both are in use.
    assert len(builds(coordinator)) == 2
    assert len([name for name in environments(agents) if "." not in name]) == 2
