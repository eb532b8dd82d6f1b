"""References in outputs: rows with the result, notes before the grant, and reading what was spilled."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from tests.integration.runtime.test_runs import spec

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import ArtifactFilter, Unavailable

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.adapters.memory.artifact_store import MemoryArtifactStore


def reference(content: bytes, **about: Any) -> dict[str, Any]:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    known = {"digest": digest, "size": len(content), "media_type": "application/json", "kind": "value", "codec": "json"}
    return {"$artifact": {**known, **about}}


def made(content: bytes, name: str = "output", **about: Any) -> wire.OutputArtifact:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    known = {"name": name, "digest": digest, "size_bytes": len(content), "kind": "value", "codec": "json"}
    return wire.OutputArtifact(**{**known, **about})


async def give(
    agent: ScriptedAgent, grant: wire.LeaseGrant, output: Any, *artifacts: wire.OutputArtifact
) -> wire.ResultAck:
    result = wire.StepResult(status=wire.RESULT_STATUS_OK, output=json.dumps(output).encode(), artifacts=artifacts)
    return await agent.acked(await agent._result(grant, result))


def shown(coordinator: Coordinator, grant: wire.LeaseGrant, artifact: wire.OutputArtifact) -> wire.OutputArtifact:
    """With the receipt that the upload of it was answered with."""
    artifact.receipt = coordinator.supervisor.possession.receipt(grant.lease.run_id, artifact.digest)
    return artifact


async def spill(coordinator: Coordinator, agent: ScriptedAgent, grant: wire.LeaseGrant, value: Any) -> str:
    """The attempt's output is a value that was spilled; its digest."""
    content = json.dumps(value).encode()
    digest = await coordinator.stores.objects.put(content)
    await give(agent, grant, reference(content), shown(coordinator, grant, made(content)))
    return digest


async def begun(world: World, pipeline: PipelineSpec, parameters: bytes = b"{}") -> tuple[Any, ScriptedAgent, bytes]:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=20)
    return coordinator, agent, await coordinator.start(pipeline, parameters)


PASSED = spec({"name": "a"}, {"name": "b", "inputs": {"x": {"step": {"step": "a"}}}})


async def test_artifacts_are_committed_with_the_result_and_noted_before_the_grant(world: World) -> None:
    coordinator, agent, run_id = await begun(world, PASSED)
    grant = await agent.grant()
    content = b"1,2,3"
    digest = await coordinator.stores.objects.put(content)
    file = made(content, "data.csv", kind="file", codec="", media_type="text/csv", metadata=b'{"rows":3}')
    value = {"file": reference(content, kind="file", codec=None), "n": 3}
    assert (await give(agent, grant, value, shown(coordinator, grant, file))).status == wire.RESULT_ACK_STATUS_COMMITTED
    (found,) = await coordinator.stores.artifacts.list_artifacts(ArtifactFilter(run_id=run_id), 10)
    assert (found.row.name, found.row.digest, found.row.size, found.row.kind) == ("data.csv", digest, 5, "file")
    assert (found.row.metadata, found.row.work.step_name, found.row.work.attempt) == (b'{"rows":3}', "a", 1)
    assert (found.row.work.token, found.version_number) == (grant.lease.token, 1)
    grant = await agent.grant()
    assert json.loads(grant.inputs["x"]) == value
    (use,) = await coordinator.stores.artifacts.uses_of(run_id, 1, -1, grant.lease.token)
    assert (use.row.input, use.row.digest, use.row.work.display_name) == ("x", digest, "b")
    await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


WRONG = {
    "a name outside": (made(b"x", "../x"), "leads out of its folder"),
    "a name with a folder": (made(b"x", "a/b"), "leads out of its folder"),
    "a name with a backslash": (made(b"x", "a\\b"), "leads out of its folder"),
    "no name": (made(b"x", ""), "needs a name"),
    "dots": (made(b"x", ".."), "leads out of its folder"),
    "a control character": (made(b"x", "a\nb"), "control characters"),
    "a long name": (made(b"x", "é" * 200), "255 bytes"),
    "no digest": (made(b"x", digest="abc"), "64 hex digits"),
    "a digest in upper case": (made(b"x", digest="sha256:" + "A" * 64), "64 hex digits"),
    "a negative size": (made(b"x", size_bytes=-1), "0 or more"),
    "another size": (made(b"x", size_bytes=7), "has 1 bytes"),
    "another kind": (made(b"x", kind="socket"), "value, file or dir"),
    "a codec that is none": (made(b"x", codec="a b"), "codec"),
    "a media type that is none": (made(b"x", media_type="text\n"), "media_type"),
    "metadata that is no object": (made(b"x", metadata=b"[]"), "JSON object"),
    "much metadata": (made(b"x", metadata=b'{"a":"%s"}' % (b"x" * 20_000)), "16,384"),
    "bytes that nobody sent": (made(b"absent"), "is not in the store"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_artifacts_that_are_none_fail_the_attempt(world: World, case: str) -> None:
    coordinator, agent, run_id = await begun(world, spec({"name": "a"}))
    await coordinator.stores.objects.put(b"x")
    artifact, says = WRONG[case]
    grant = await agent.grant()
    await give(agent, grant, reference(b"x"), shown(coordinator, grant, artifact))
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert says in view.row.reason
    assert await coordinator.stores.artifacts.list_artifacts(ArtifactFilter(), 10) == []


async def test_who_knows_a_digest_may_not_name_it_as_made(world: World) -> None:
    """Nor with the receipt of another run, of another digest, or with none that was ever signed."""
    coordinator, agent, _ = await begun(world, spec({"name": "a"}))
    theirs = await agent.grant()
    await coordinator.stores.objects.put(b"another run's")
    secret = shown(coordinator, theirs, made(b"another run's")).receipt
    for receipt in ("", secret, secret[:-1], "1." + "0" * 64, "99." + "0" * 64, "x"):
        run_id = await coordinator.start(spec({"name": "a"}))
        grant = await agent.grant()
        await give(agent, grant, reference(b"another run's"), made(b"another run's", receipt=receipt))
        view = await coordinator.ended(run_id)
        assert view.row.state == RunState.FAILED
        assert "no receipt shows that this run has had its bytes" in view.row.reason
    assert await coordinator.stores.artifacts.list_artifacts(ArtifactFilter(), 10) == []


BAD_REFERENCES = {
    "beside other members": ({**reference(b"x"), "other": 1}, "for references to artifacts alone"),
    "no object": ({"$artifact": 1}, "for references to artifacts alone"),
    "no digest": ({"a": [{"$artifact": {"size": 1, "kind": "file"}}]}, "digest of a reference"),
    "no size": (reference(b"x", size=True), "size of a reference"),
    "no kind": (reference(b"x", kind="link"), "kind of a reference"),
    "another run's": (reference(b"another run's"), "did not make"),
}


@pytest.mark.parametrize("case", BAD_REFERENCES)
async def test_references_that_are_none_fail_the_attempt(world: World, case: str) -> None:
    coordinator, agent, run_id = await begun(world, spec({"name": "a"}))
    await coordinator.stores.objects.put(b"another run's")
    output, says = BAD_REFERENCES[case]
    await give(agent, await agent.grant(), output)
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert says in view.row.reason


async def test_the_key_written_otherwise_is_the_key(world: World) -> None:
    coordinator, agent, run_id = await begun(world, spec({"name": "a"}))
    result = wire.StepResult(status=wire.RESULT_STATUS_OK, output=b'{"\\u0024artifac\\u0074": 1}')
    await agent.acked(await agent._result(await agent.grant(), result))
    assert "for references to artifacts alone" in (await coordinator.ended(run_id)).row.reason


async def test_what_was_taken_may_be_passed_on(world: World) -> None:
    coordinator, agent, run_id = await begun(world, PASSED)
    content = b"taken"
    await coordinator.stores.objects.put(content)
    grant = await agent.grant()
    await give(agent, grant, reference(content), shown(coordinator, grant, made(content)))
    await give(agent, await agent.grant(), [reference(content)])
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_map_a_condition_and_a_path_read_what_was_spilled(world: World) -> None:
    pipeline = spec(
        {"name": "a"},
        {"name": "m", "map": {"step": {"step": "a", "path": ["rows"]}}, "inputs": {"x": {"item": {}}}},
        {"name": "c", "depends_on": ["a"], "when": "steps.a.output.n == 2"},
        {"name": "s", "depends_on": ["a"], "when": "steps.a.output.n == 3"},
        {"name": "p", "inputs": {"x": {"step": {"step": "a", "path": ["rows", "1", "v"]}}}},
        {"name": "w", "inputs": {"x": {"step": {"step": "a"}}}},
        outputs={"whole": {"step": "a"}},
    )
    coordinator, agent, run_id = await begun(world, pipeline)
    value = {"rows": [{"v": "one"}, {"v": "two"}], "n": 2}
    digest = await spill(coordinator, agent, await agent.grant(), value)
    seen: dict[str, Any] = {}
    for _ in range(5):
        grant = await agent.grant()
        seen[grant.display_name] = json.loads(grant.inputs["x"]) if grant.inputs else None
        await agent.succeed(grant)
    assert seen.pop("w")["$artifact"]["digest"] == digest
    assert seen == {"m[0]": {"v": "one"}, "m[1]": {"v": "two"}, "c": None, "p": "two"}
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.COMPLETED


async def test_members_of_a_joined_list_may_be_references(world: World) -> None:
    pipeline = spec(
        {"name": "m", "map": {"values": [0, 1]}},
        {"name": "j", "inputs": {"all": {"step": {"step": "m"}}, "one": {"step": {"step": "m", "path": ["1", "v"]}}}},
    )
    coordinator, agent, run_id = await begun(world, pipeline)
    for _ in range(2):
        grant = await agent.grant()
        await spill(coordinator, agent, grant, {"v": grant.display_name})
    grant = await agent.grant()
    assert all("$artifact" in each for each in json.loads(grant.inputs["all"]))
    assert json.loads(grant.inputs["one"]) == "m[1]"
    assert len(await coordinator.stores.artifacts.uses_of(run_id, 1, -1, grant.lease.token)) == 2
    await agent.succeed(grant)
    await coordinator.ended(run_id)


async def test_a_nested_map_goes_through_lists_that_were_spilled(world: World) -> None:
    pipeline = spec(
        {"name": "m", "map": {"values": [0, 1]}},
        {"name": "n", "map": {"step": {"step": "m"}, "nested": {}}, "inputs": {"x": {"item": {}}}},
    )
    coordinator, agent, run_id = await begun(world, pipeline)
    for _ in range(2):
        await spill(coordinator, agent, await agent.grant(), ["a", "b"])
    names = {}
    for _ in range(4):
        grant = await agent.grant()
        names[grant.display_name] = json.loads(grant.inputs["x"])
        await agent.succeed(grant)
    assert names == {"n[0][0]": "a", "n[0][1]": "b", "n[1][0]": "a", "n[1][1]": "b"}
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_what_is_read_and_not_there_fails_the_attempt(world: World) -> None:
    pipeline = spec({"name": "a"}, {"name": "p", "inputs": {"x": {"step": {"step": "a", "path": ["v"]}}}})
    coordinator, agent, run_id = await begun(world, pipeline)
    digest = await spill(coordinator, agent, await agent.grant(), {"v": 1})
    grant = await agent.grant()
    assert json.loads(grant.inputs["x"]) == 1
    await agent.hand_back(grant)
    coordinator.supervisor.spilled._values.clear()
    await coordinator.stores.objects.delete(digest)
    view = await coordinator.ended(run_id) if not agent.grants else None
    assert view is None or "was removed" in view.row.reason


async def test_a_store_that_is_away_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator, agent, run_id = await begun(world, spec({"name": "a"}))
    store: MemoryArtifactStore = coordinator.stores.objects
    asked, there, find = asyncio.Event(), asyncio.Event(), store.find

    async def away(digest: str) -> object:
        asked.set()
        if not there.is_set():
            raise Unavailable("away")
        return await find(digest)

    monkeypatch.setattr(store, "find", away)
    content = b"[1]"
    await store.put(content)
    grant = await agent.grant()
    receipted = shown(coordinator, grant, made(content))
    result = wire.StepResult(
        status=wire.RESULT_STATUS_OK, output=json.dumps(reference(content)).encode(), artifacts=[receipted]
    )
    result_id = await agent._result(grant, result)
    await asked.wait()
    await agent.say(results=wire.Results(results=[agent.results[result_id]]))  # once more, as agents do
    there.set()
    await agent.acked(result_id)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert len(await coordinator.stores.artifacts.list_artifacts(ArtifactFilter(), 10)) == 1


async def test_a_sub_pipeline_gets_values_and_gives_references(world: World) -> None:
    child = json_format.ParseDict(
        {
            "name": "child",
            "parameters": [{"name": "rows", "type": "PARAMETER_TYPE_LIST"}],
            "steps": [{"name": "c", "command": {"argv": ["true"]}, "map": {"parameter": "rows"}}],
            "outputs": {"": {"step": "c"}},
        },
        PipelineSpec(),
    )
    pipeline = spec({"name": "a"})
    pipeline.steps.append(
        json_format.ParseDict(
            {
                "name": "sub",
                "pipeline": {"name": "child"},
                "inputs": {"rows": {"step": {"step": "a"}}},
            },
            type(pipeline.steps[0])(),
        )
    )
    pipeline.steps.append(
        json_format.ParseDict(
            {
                "name": "b",
                "command": {"argv": ["true"]},
                "inputs": {"x": {"step": {"step": "sub"}}, "y": {"step": {"step": "sub", "path": ["1", "v"]}}},
            },
            type(pipeline.steps[0])(),
        )
    )
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=20)
    await coordinator.create(child)
    run_id = await coordinator.start(pipeline)
    await spill(coordinator, agent, await agent.grant(), [1, 2])
    for _ in range(2):
        grant = await agent.grant()
        await spill(coordinator, agent, grant, {"v": grant.display_name})
    grant = await agent.grant()
    assert grant.display_name == "b"
    assert json.loads(grant.inputs["y"]) == "c[1]"
    uses = await coordinator.stores.artifacts.uses_of(run_id, 2, -1, grant.lease.token)
    assert len(uses) == 2
    await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
