"""Steps in containers: through the real agent, with Podman where this machine has it, else with its stand-in."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engines.engines import BARE_IMAGE, IMAGE, KINDS, MISSING_IMAGE, PULLED_IMAGE, Engine, engine
from tests.integration.agent.artifact_store import ArtifactStore
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator, seconds
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire

SECRET = "s3cret-of-the-step"
STEPS = """
import os, sys, time
import penstock_step_runtime as now
from penstock import step

@step
def add(a, b):
    print("adding")
    print("on standard error", file=sys.stderr)
    now.report_metric("sum", a + b)
    return {"sum": a + b, "env": os.environ.get("OWN"), "cwd": os.getcwd(), "step": os.environ["PENSTOCK_STEP"]}

def fail(text):
    raise ValueError(text)

def large(size):
    return "x" * size

def leave():
    os._exit(7)

def wait():
    try:
        print("waiting")
        time.sleep(60)
    finally:
        print("cleaned up")

def secret():
    return len(now.secrets["key"]), os.environ["KEY"] == now.secrets["key"]
"""


@pytest.fixture(params=KINDS, scope="module")
def containers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(request.param, tmp_path_factory.mktemp("engine")) as made:
        yield made


@pytest.fixture
async def agent(agents: Agents, containers: Engine) -> asyncio.subprocess.Process:
    return await agents.start(prefix=containers.prefix, env={**containers.env, "PENSTOCK_SECRET_KEY": SECRET})


def contained(spec: wire.TaskSpec, image: str = IMAGE, pull: str = "missing") -> wire.TaskSpec:
    spec.environment.container.image = image
    spec.environment.container.pull = pull
    spec.environment_digest = f"container:{image}"
    return spec


def shell(script: str, *outputs: wire.CommandTaskOutput, image: str = IMAGE, **more: Any) -> wire.TaskSpec:
    task = {name: more.pop(name) for name in ("bundle_digest", "input_files") if name in more}
    return contained(wire.TaskSpec(command=wire.CommandTask(shell=script, outputs=outputs, **task), **more), image)


def out(name: str, *, file: str = "", as_json: bool = False, artifact: bool = False) -> wire.CommandTaskOutput:
    return wire.CommandTaskOutput(name=name, stdout=not file, file=file, json=as_json, artifact=artifact)


async def emptied(containers: Engine) -> None:
    async def condition() -> bool:
        return not await asyncio.to_thread(containers.containers)

    await until(condition, 60)


@pytest.mark.usefixtures("agent")
async def test_a_command_finds_all_that_it_finds_outside(coordinator: Coordinator, containers: Engine) -> None:
    digest = coordinator.add_bundle({"data.txt": "from the bundle\n"})
    script = """
        cat bundle/data.txt
        printf '{"n": %s, "given": "%s", "own": "%s"}' "$PENSTOCK_PARAM_N" "$PENSTOCK_INPUT_NAME" "$OWN" > values.json
        printf '%s' "$PENSTOCK_INPUT_LINES" > "$PENSTOCK_OUTPUT_PLAIN"
        test "$PWD" = "$PENSTOCK_WORK_DIR"
        test "$(cat given/input)" = "from a file"
        echo rows=12.5 >> "$PENSTOCK_METRICS_FILE"
        echo kind=test >> "$PENSTOCK_METADATA_FILE"
        echo "$PROXY_HOST" >&2
    """
    result = await coordinator.run(
        shell(
            script,
            out("text"),
            out("values", file="values.json", as_json=True),
            out("plain", file="sub"),
            bundle_digest=digest,
            input_files={"file": "given/input"},
            env={"OWN": "mine", "HTTP_PROXY": "http://proxy:1", "PROXY_HOST": "as it is"},
        ),
        inputs={"name": "Ada", "lines": "one\ntwo", "file": "from a file"},
        parameters=b'{"n": 3}',
    )
    assert result.status == wire.RESULT_STATUS_OK, result.error
    assert json.loads(result.output) == {
        "text": "from the bundle",
        "values": {"n": 3, "given": "Ada", "own": "mine"},
        "plain": "one\ntwo",
    }
    assert (dict(result.metrics), dict(result.metadata), result.exit_code) == ({"rows": 12.5}, {"kind": "test"}, 0)
    await coordinator.logged("from the bundle")
    await coordinator.logged("as it is")
    await emptied(containers)


@pytest.mark.usefixtures("agent")
async def test_exit_codes_are_the_commands_own(coordinator: Coordinator) -> None:
    result = await coordinator.run(shell("echo it went wrong >&2; exit 125"))
    assert (result.status, result.error.reason, result.exit_code) == (wire.RESULT_STATUS_FAILED, "ExitCode", 125)
    assert "it went wrong" in result.error.message
    missing = contained(wire.TaskSpec(command=wire.CommandTask(argv=["no-such-program", "x"])))
    result = await coordinator.run(missing)
    assert (result.error.reason, result.exit_code) == ("ExitCode", 127)
    assert "no-such-program" in result.error.message


@pytest.mark.usefixtures("agent")
async def test_an_image_that_cannot_be_pulled(coordinator: Coordinator) -> None:
    result = await coordinator.run(shell("true", image=MISSING_IMAGE))
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "Container")
    assert MISSING_IMAGE in result.error.message
    assert "connection refused" in result.error.message, "the engine's last words"
    never = contained(wire.TaskSpec(command=wire.CommandTask(shell="true")), MISSING_IMAGE, "never")
    result = await coordinator.run(never)
    assert "container.pull is never" in result.error.message


@pytest.mark.parametrize("containers", ["stand-in"], indirect=True)
@pytest.mark.usefixtures("agent")
async def test_an_image_is_pulled_when_it_is_missing_or_always(coordinator: Coordinator, containers: Engine) -> None:
    """With the stand-in alone: there is no registry here."""

    def pulls() -> int:
        calls = (containers.folder / "calls").read_text().splitlines()
        return sum(json.loads(call)[0] == "pull" and json.loads(call)[-1] == PULLED_IMAGE for call in calls)

    for expected in (1, 1):
        result = await coordinator.run(shell("true", image=PULLED_IMAGE))
        assert result.status == wire.RESULT_STATUS_OK, result.error
        assert pulls() == expected
    await coordinator.logged(f"the image {PULLED_IMAGE} is being pulled")
    always = contained(wire.TaskSpec(command=wire.CommandTask(shell="true")), PULLED_IMAGE, "always")
    assert (await coordinator.run(always)).status == wire.RESULT_STATUS_OK
    assert pulls() == 2


@pytest.mark.parametrize("containers", ["stand-in"], indirect=True)
@pytest.mark.usefixtures("agent")
async def test_what_the_engine_is_asked_for(coordinator: Coordinator, containers: Engine, tmp_path: Path) -> None:
    spec = shell("true", resources={"memory_bytes": 64 << 20, "cpu": 0.5})
    assert (await coordinator.run(spec)).status == wire.RESULT_STATUS_OK
    calls = [json.loads(call) for call in (containers.folder / "calls").read_text().splitlines()]
    options = next(call for call in reversed(calls) if call[0] == "create")
    asked = dict(itertools.pairwise(options))
    assert (asked["--memory"], asked["--memory-swap"], asked["--cpus"]) == (str(64 << 20), str(64 << 20), "0.5")
    assert asked["--user"] == f"{os.getuid()}:{os.getgid()}"
    assert f"penstock.folder={tmp_path / 'agent'}" in options


@pytest.mark.usefixtures("agent")
async def test_secrets_are_on_no_command_line(coordinator: Coordinator, containers: Engine) -> None:
    spec = shell('test "$KEY" = "$(cat "$PENSTOCK_SECRETS_DIR/key")"; echo "$KEY"', out("text"))
    spec.secrets.add(name="key", env="KEY", file="key")
    result = await coordinator.run(spec)
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "Secret"), result.error
    assert "s3cret" not in str(coordinator.text_of())
    if not containers.is_real:
        assert "s3cret" not in (containers.folder / "calls").read_text()


@pytest.mark.usefixtures("agent")
async def test_a_stop_comes_to_the_command_and_after_the_grace_it_is_killed(
    coordinator: Coordinator, containers: Engine
) -> None:
    script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    (ref,) = await coordinator.grant(shell(script))
    await coordinator.logged("ready")
    await coordinator.cancel(ref, grace=60)
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_CANCELLED
    await coordinator.logged("got it")
    (ref,) = await coordinator.grant(shell("trap '' TERM; echo deaf; while :; do sleep 0.05; done"))
    await coordinator.logged("deaf")
    await coordinator.cancel(ref, grace=0.2)
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_CANCELLED
    await emptied(containers)


@pytest.mark.usefixtures("agent")
async def test_a_timeout_kills_the_container_with_everything_in_it(
    coordinator: Coordinator, containers: Engine
) -> None:
    spec = shell("sleep 1000 & echo started; wait", attempt_timeout=seconds(4))
    (ref,) = await coordinator.grant(spec)
    result = await coordinator.result(ref)
    assert result.status == wire.RESULT_STATUS_TIMED_OUT
    await emptied(containers)


async def test_what_a_killed_agent_left_is_removed(
    coordinator: Coordinator, agents: Agents, containers: Engine
) -> None:
    first = await agents.start(prefix=containers.prefix, env=containers.env)
    await coordinator.grant(shell("echo running; sleep 1000"))
    await coordinator.logged("running")
    assert len(await asyncio.to_thread(containers.containers)) == 1
    first.kill()
    await first.wait()
    await emptied(containers)  # by the guardian
    left = ["create", "--name", "left", "--label", f"penstock.folder={agents.folder / 'agent'}", "--workdir", "/"]
    await asyncio.to_thread(containers.call, *left, "--entrypoint", "sleep", IMAGE, "1000")
    assert await asyncio.to_thread(containers.containers) == ["left"]
    await agents.start(prefix=containers.prefix, env=containers.env)
    assert await asyncio.to_thread(containers.containers) == []


@pytest.mark.usefixtures("agent")
async def test_a_container_that_holds_too_much_is_out_of_memory(coordinator: Coordinator) -> None:
    """By the engine's limit, or where it has none by looking."""
    script = "import time; held = b'x' * (96 << 20); time.sleep(60)"
    spec = wire.TaskSpec(command=wire.CommandTask(argv=["python3", "-c", script]), resources={"memory_bytes": 48 << 20})
    result = await coordinator.run(contained(spec))
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "OutOfMemory"), result.error
    assert "resources.memory_bytes of 48 MiB" in result.error.message
    # The engine's own processes, which hold more than that together, are not counted.
    fine = shell("sleep 1", resources={"memory_bytes": 16 << 20})
    assert (await coordinator.run(fine)).status == wire.RESULT_STATUS_OK


@pytest.mark.usefixtures("agent")
async def test_links_lead_nobody_out_of_the_container(coordinator: Coordinator, tmp_path: Path) -> None:
    secret = tmp_path / "of-the-agent"
    secret.write_text("not for steps")
    result = await coordinator.run(shell(f"ln -s {secret} out.txt", out("text", file="out.txt")))
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "OutputUnserialisable")
    assert "leads out of the working folder" in result.error.message
    result = await coordinator.run(shell(f"ln -s {secret.parent} sub", out("text", file="sub/of-the-agent")))
    assert "leads out of the working folder" in result.error.message


@pytest.mark.usefixtures("agent")
async def test_a_function_runs_with_the_images_python(coordinator: Coordinator, containers: Engine) -> None:
    digest = coordinator.add_bundle({"steps.py": STEPS})
    spec = contained(coordinator.function(digest, "steps:add", env={"OWN": "mine"}))
    result = await coordinator.run(spec, inputs={"a": 1, "b": 2})
    assert result.status == wire.RESULT_STATUS_OK, result.error
    output = json.loads(result.output)
    assert (output["sum"], output["env"], dict(result.metrics)) == (3, "mine", {"sum": 3.0})
    await coordinator.logged("adding")
    await coordinator.logged("on standard error")
    failed = await coordinator.run(contained(coordinator.function(digest, "steps:fail")), inputs={"text": "no ä"})
    assert (failed.error.reason, failed.error.error_class) == ("UserError", "ValueError")
    assert (failed.error.message, "steps.py" in failed.error.traceback) == ("no ä", True)
    crashed = await coordinator.run(contained(coordinator.function(digest, "steps:leave")))
    assert (crashed.error.reason, "exit code 7" in crashed.error.message) == ("Crash", True)
    none = await coordinator.run(contained(coordinator.function(digest, "steps:add"), BARE_IMAGE))
    assert none.error.reason == "Container"
    assert f"the image '{BARE_IMAGE}' has no python3" in none.error.message
    await emptied(containers)


async def test_a_functions_large_output_and_its_secrets(
    coordinator: Coordinator, agents: Agents, containers: Engine, store: ArtifactStore
) -> None:
    await agents.start(prefix=containers.prefix, env={**containers.env, "PENSTOCK_SECRET_KEY": SECRET})
    digest = coordinator.add_bundle({"steps.py": STEPS})
    spec = contained(coordinator.function(digest, "steps:large"))
    result = await coordinator.run(spec, inputs={"size": 100_000})
    assert result.status == wire.RESULT_STATUS_OK, result.error
    assert [made.kind for made in result.artifacts] == ["value"]
    spec = contained(coordinator.function(digest, "steps:secret"))
    spec.secrets.add(name="key", env="KEY")
    result = await coordinator.run(spec)
    assert (result.status, json.loads(result.output)) == (wire.RESULT_STATUS_OK, [18, True]), result.error


@pytest.mark.usefixtures("agent")
async def test_a_function_is_stopped_as_outside(coordinator: Coordinator, containers: Engine) -> None:
    digest = coordinator.add_bundle({"steps.py": STEPS})
    (ref,) = await coordinator.grant(contained(coordinator.function(digest, "steps:wait")))
    await coordinator.logged("waiting")
    await coordinator.cancel(ref, grace=60)
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_CANCELLED
    await coordinator.logged("cleaned up")
    await emptied(containers)
