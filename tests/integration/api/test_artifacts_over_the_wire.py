"""Both services of artifacts through real clients, on a store on disk and its signed URLs."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec, start_edge, stop_edge
from tests.integration.runtime.scripted_agent import ScriptedAgent

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import artifact_service_pb2 as agents_pb
from penstock.agent.v1.artifact_service_pb2_grpc import ArtifactServiceStub as AgentArtifactServiceStub
from penstock.v1 import artifact_service_pb2 as pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from penstock_coordinator.adapters.artifacts.opening import open_store
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.runtime.janitor import Janitor
from penstock_coordinator.runtime.retention import Pace, Retention

PART = 5 << 20
MOST = 12 << 20
CHAIN = spec(
    {"name": "load"},
    {"name": "train", "inputs": {"data": {"step": {"step": "load"}}}},
    {"name": "predict", "inputs": {"model": {"step": {"step": "train"}}}},
    name="ml",
)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    opened = await open_store(f"file://{tmp_path}/artifacts", tmp_path, PART)
    stores = memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1, objects=opened.store)
    made = await start_edge(stores, artifacts=opened, max_artifact_bytes=MOST)
    yield made
    await stop_edge(made)


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def reference(content: bytes, **about: Any) -> dict[str, Any]:
    return {"$artifact": {"digest": digest_of(content), "size": len(content), "kind": "file", **about}}


class Bearer:
    """What the holder of a lease asks of the agents' service."""

    def __init__(self, edge: Edge, grant: wire.LeaseGrant) -> None:
        self.stub = AgentArtifactServiceStub(edge.channel)
        self.lease: dict[str, Any] = {"lease": grant.lease, "credential": grant.credential}

    async def begin(self, content: bytes, **fields: Any) -> agents_pb.BeginUploadResponse:
        known = {**self.lease, "digest": digest_of(content), "size_bytes": len(content)}
        return await self.stub.BeginUpload(agents_pb.BeginUploadRequest(**{**known, **fields}), timeout=PATIENCE)

    async def complete(self, content: bytes, upload_id: str, etag: str = "") -> agents_pb.CompleteUploadResponse:
        parts = [agents_pb.UploadedPart(number=1, etag=etag)]
        request = agents_pb.CompleteUploadRequest(
            **self.lease, digest=digest_of(content), upload_id=upload_id, parts=parts
        )
        return await self.stub.CompleteUpload(request, timeout=PATIENCE)

    async def upload(self, content: bytes, sent: bytes | None = None) -> str:
        """The receipt."""
        begun = await self.begin(content)
        if begun.present:
            return begun.receipt
        await self.send(begun, sent or content)
        return (await self.complete(content, begun.upload_id)).receipt

    async def send(self, begun: agents_pb.BeginUploadResponse, content: bytes) -> None:
        async with aiohttp.ClientSession() as http:
            for part in begun.missing_parts:
                body = content[part.offset : part.offset + part.size_bytes]
                async with http.put(part.url, data=body, headers=dict(part.headers)) as response:
                    assert response.status == 200

    async def downloads(self, *digests: str) -> list[agents_pb.Download]:
        request = agents_pb.GetDownloadsRequest(**self.lease, digests=digests)
        return list((await self.stub.GetDownloads(request, timeout=PATIENCE)).downloads)

    async def read(self, content: bytes) -> bytes:
        (download,) = await self.downloads(digest_of(content))
        async with aiohttp.ClientSession() as http, http.get(download.url, headers=dict(download.headers)) as response:
            assert response.status == 200
            return await response.read()


async def give(
    agent: ScriptedAgent, grant: wire.LeaseGrant, content: bytes, name: str, receipt: str, **about: Any
) -> None:
    made = wire.OutputArtifact(
        name=name,
        digest=digest_of(content),
        size_bytes=len(content),
        kind="file",
        media_type="text/csv",
        receipt=receipt,
    )
    output = json.dumps(reference(content, name=name, **about)).encode()
    result = wire.StepResult(status=wire.RESULT_STATUS_OK, output=output, artifacts=[made])
    assert (await agent.acked(await agent._result(grant, result))).status == wire.RESULT_ACK_STATUS_COMMITTED


DATA, MODEL = b"1,2,3\n", b"weights" * 1_000_000


async def trained(edge: Edge) -> tuple[str, ScriptedAgent]:
    """A run whose first two steps made what the next one takes; the last one waits. Its id."""
    agent = await edge.agent()
    run = await edge.start(CHAIN)
    grant = await agent.grant()
    await give(agent, grant, DATA, "data.csv", await Bearer(edge, grant).upload(DATA))
    grant = await agent.grant()
    assert await Bearer(edge, grant).read(DATA) == DATA
    await give(agent, grant, MODEL, "model.bin", await Bearer(edge, grant).upload(MODEL))
    return run.id, agent


def users(edge: Edge) -> ArtifactServiceStub:
    return ArtifactServiceStub(edge.channel)


async def listed(edge: Edge, **selection: str) -> list[str]:
    request = pb.ListArtifactsRequest(selection=pb.ArtifactSelection(**selection))
    return [each.name for each in (await users(edge).List(request, timeout=PATIENCE)).artifacts]


async def test_bytes_go_up_and_down_and_users_see_what_was_made(edge: Edge) -> None:
    run_id, _ = await trained(edge)
    assert await listed(edge) == ["model.bin", "data.csv"]
    assert await listed(edge, step="train", run_id=run_id, pipeline="ml") == ["model.bin"]
    assert await listed(edge, digest=digest_of(DATA)) == ["data.csv"]
    request = pb.ListArtifactsRequest(page_size=1)
    page = await users(edge).List(request, timeout=PATIENCE)
    request.page_token = page.next_page_token
    assert [each.name for each in (await users(edge).List(request, timeout=PATIENCE)).artifacts] == ["data.csv"]
    (model,) = page.artifacts
    for wanted in (model.id, model.digest):
        got = (await users(edge).Get(pb.GetArtifactRequest(id=wanted), timeout=PATIENCE)).artifact
        assert got == model
    assert (model.kind, model.size_bytes, model.pipeline_version) == (pb.ARTIFACT_KIND_FILE, len(MODEL), 1)
    assert (model.run_id, model.step, model.attempt, model.media_type) == (run_id, "train", 1, "text/csv")
    found = await users(edge).GetDownload(pb.GetDownloadRequest(id=model.id), timeout=PATIENCE)
    async with aiohttp.ClientSession() as http, http.get(found.url) as response:
        assert await response.read() == MODEL
    assert found.expire_time.ToSeconds() > found.artifact.create_time.ToSeconds()


async def test_lineage_up_and_down(edge: Edge) -> None:
    run_id, agent = await trained(edge)
    grant = await agent.grant()
    answer = await users(edge).GetLineage(pb.GetLineageRequest(id=digest_of(MODEL)), timeout=PATIENCE)
    assert [(each.depth, each.step) for each in answer.up] == [(1, "train"), (2, "load")]
    assert [(each.name, each.digest) for each in answer.up[0].inputs] == [("data", digest_of(DATA))]
    assert [made.name for made in answer.up[0].made] == ["model.bin"]
    assert [made.name for made in answer.up[1].made] == ["data.csv"]
    assert {(each.run_id, each.pipeline, each.pipeline_version) for each in answer.up} == {(run_id, "ml", 1)}
    assert [(each.depth, each.step) for each in answer.down] == [(1, "predict")]
    assert not answer.truncated
    down = pb.GetLineageRequest(id=digest_of(DATA), direction=pb.LINEAGE_DIRECTION_DOWN)
    answer = await users(edge).GetLineage(down, timeout=PATIENCE)
    assert not answer.up
    assert [(each.depth, each.step) for each in answer.down] == [(1, "train"), (2, "predict")]
    down.depth = 1
    answer = await users(edge).GetLineage(down, timeout=PATIENCE)
    assert ([each.step for each in answer.down], answer.truncated) == (["train"], True)
    await agent.succeed(grant)


async def test_an_artifact_as_a_parameter_of_another_run(edge: Edge) -> None:
    _, agent = await trained(edge)
    await agent.succeed(await agent.grant())
    predict = spec(
        {"name": "again", "inputs": {"model": {"parameter": "model"}}},
        name="batch",
        parameters=[{"name": "model", "type": "PARAMETER_TYPE_ANY"}],
    )
    await edge.create(predict)
    request = runs_pb.StartRunRequest(pipeline="batch")
    request.parameters["model"].struct_value.update(reference(b"absent"))
    answer = await refused(edge.runs.Start(request, timeout=PATIENCE))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ARTIFACT")
    assert "parameters.model" in answer.violations
    request.parameters["model"].struct_value.update(reference(MODEL))
    run = (await edge.runs.Start(request, timeout=PATIENCE)).run
    grant = await agent.grant()
    assert await Bearer(edge, grant).read(MODEL) == MODEL
    answer_down = await users(edge).GetLineage(pb.GetLineageRequest(id=digest_of(MODEL)), timeout=PATIENCE)
    assert {(each.step, each.run_id == run.id) for each in answer_down.down} == {("predict", False), ("again", True)}
    await agent.succeed(grant)


async def test_a_parameter_that_is_no_reference(edge: Edge) -> None:
    await edge.create(spec({"name": "a"}, parameters=[{"name": "x", "type": "PARAMETER_TYPE_ANY"}]))
    request = runs_pb.StartRunRequest(pipeline="p")
    request.parameters["x"].struct_value.update({"$artifact": "mine"})
    answer = await refused(edge.runs.Start(request, timeout=PATIENCE))
    assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "for references to artifacts alone" in answer.message


async def test_what_is_there_already_is_not_sent_again(edge: Edge) -> None:
    _, agent = await trained(edge)
    begun = await Bearer(edge, await agent.grant()).begin(MODEL)
    assert begun.present
    assert not begun.missing_parts


def proof_of(content: bytes, challenge: agents_pb.PossessionChallenge) -> str:
    ranges = (content[each.offset : each.offset + each.size_bytes] for each in challenge.ranges)
    return hashlib.sha256(challenge.nonce + b"".join(ranges)).hexdigest()


async def of_another_run(edge: Edge) -> Bearer:
    """The first run has brought DATA and MODEL, and this one nothing."""
    _, agent = await trained(edge)
    await agent.grant()
    await edge.start(spec({"name": "a"}, name="other"))
    return Bearer(edge, await agent.grant())


@pytest.mark.parametrize("content", [DATA, MODEL], ids=["small", "large"])
async def test_what_others_brought_is_not_sent_again_by_who_shows_that_he_has_it(edge: Edge, content: bytes) -> None:
    bearer = await of_another_run(edge)
    begun = await bearer.begin(content)
    assert not begun.present
    assert not begun.missing_parts
    assert not begun.receipt
    assert sum(each.size_bytes for each in begun.challenge.ranges) == min(len(content), 1 << 20)
    assert begun.challenge == (await bearer.begin(content)).challenge, "asking again gives no other places to guess"
    shown = await bearer.begin(content, proof=proof_of(content, begun.challenge))
    assert shown.present
    assert shown.receipt
    assert (await bearer.begin(content)).receipt == shown.receipt, "once is enough"


async def test_who_knows_a_digest_alone_gets_no_receipt(edge: Edge) -> None:
    bearer = await of_another_run(edge)
    challenge = (await bearer.begin(DATA)).challenge
    for proof in ("x", digest_of(DATA)[7:], proof_of(DATA[:-1] + b"!", challenge), proof_of(MODEL, challenge)):
        answer = await refused(bearer.begin(DATA, proof=proof))
        assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "WRONG_PROOF")
    for upload_id in ("0" * 32, "put", "nonsense"):
        answer = await refused(bearer.complete(DATA, upload_id))
        assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_THERE")


async def test_an_upload_that_another_one_overtook_is_still_looked_at(edge: Edge) -> None:
    """Begun before the bytes were there: to know the digest early is of no use either."""
    agent = await edge.agent(slots=3)
    bearers = []
    for name in ("one", "two", "three"):
        await edge.start(spec({"name": "a"}, name=name))
        bearers.append(Bearer(edge, await agent.grant()))
    honest, idle, wrong = bearers
    begun = await idle.begin(MODEL)
    spoiled = await wrong.begin(MODEL)
    await wrong.send(spoiled, MODEL[:-1] + b"!")
    assert await honest.upload(MODEL)
    answer = await refused(idle.complete(MODEL, begun.upload_id))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PARTS_MISSING")
    answer = await refused(wrong.complete(MODEL, spoiled.upload_id))
    assert (answer.code, answer.reason) == (grpc.StatusCode.DATA_LOSS, "WRONG_DIGEST")
    assert await edge.backend.stores.objects.get(digest_of(MODEL), len(MODEL)) == MODEL
    await idle.send(begun, MODEL)
    assert (await idle.complete(MODEL, begun.upload_id)).receipt


async def test_the_size_of_an_artifact(edge: Edge) -> None:
    agent = await edge.agent()
    await edge.start()
    bearer = Bearer(edge, await agent.grant())
    for size in (0, MOST):
        assert (await bearer.begin(b"", size_bytes=size, digest="sha256:" + "1" * 64)).missing_parts
    for size in (-1, MOST + 1):
        answer = await refused(bearer.begin(b"", size_bytes=size, digest="sha256:" + "1" * 64))
        assert (answer.code, list(answer.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["size_bytes"])
        assert "PENSTOCK_MAX_ARTIFACT_SIZE" in answer.message


async def test_another_runs_lease_and_artifacts(edge: Edge) -> None:
    _, agent = await trained(edge)
    theirs = await agent.grant()
    await edge.start(spec({"name": "a"}, name="other"))
    mine = await agent.grant()
    answer = await refused(Bearer(edge, mine).downloads(digest_of(MODEL)))
    assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ANOTHER_RUNS_ARTIFACT")
    crossed = Bearer(edge, theirs)
    crossed.lease["credential"] = mine.credential
    for call in (
        crossed.downloads(digest_of(MODEL)),
        crossed.begin(b"x"),
        crossed.complete(b"x", "0" * 32),
        crossed.stub.AbortUpload(
            agents_pb.AbortUploadRequest(**crossed.lease, digest=digest_of(b"x"), upload_id="0" * 32), timeout=PATIENCE
        ),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "WRONG_CREDENTIAL")
    over = Bearer(edge, mine)
    await agent.acked(await agent.succeed(mine))
    answer = await refused(over.begin(b"x"))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_OVER")
    await agent.succeed(theirs)


async def test_uploads_that_are_not_whole_or_not_what_they_say(edge: Edge, tmp_path: Path) -> None:
    agent = await edge.agent()
    await edge.start()
    bearer = Bearer(edge, await agent.grant())
    begun = await bearer.begin(MODEL)
    answer = await refused(bearer.complete(MODEL, begun.upload_id))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PARTS_MISSING")
    await bearer.stub.AbortUpload(
        agents_pb.AbortUploadRequest(**bearer.lease, digest=digest_of(MODEL), upload_id=begun.upload_id),
        timeout=PATIENCE,
    )
    answer = await refused(bearer.complete(MODEL, begun.upload_id))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_UPLOAD")
    answer = await refused(bearer.upload(MODEL, MODEL[:-1] + b"!"))
    assert (answer.code, answer.reason) == (grpc.StatusCode.DATA_LOSS, "WRONG_DIGEST")
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("bad", ["", "abc", "sha256:" + "G" * 64, "sha256:../../etc/passwd"])
async def test_digests_that_are_none(edge: Edge, bad: str) -> None:
    agent = await edge.agent()
    await edge.start()
    bearer = Bearer(edge, await agent.grant())
    for call in (bearer.begin(b"x", digest=bad), bearer.downloads(bad)):
        answer = await refused(call)
        assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
        assert "64 hex digits" in answer.message


@pytest.mark.parametrize("bad", ["", "abc", "a:1:2", f"{uuid.UUID(int=1)}:0:0", f"{uuid.UUID(int=1)}:1"])
async def test_ids_that_are_none(edge: Edge, bad: str) -> None:
    for call in (
        users(edge).Get(pb.GetArtifactRequest(id=bad), timeout=PATIENCE),
        users(edge).GetDownload(pb.GetDownloadRequest(id=bad), timeout=PATIENCE),
        users(edge).GetLineage(pb.GetLineageRequest(id=bad), timeout=PATIENCE),
    ):
        answer = await refused(call)
        assert (answer.code, list(answer.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["id"])


async def test_artifacts_that_are_not_there(edge: Edge) -> None:
    for absent in (digest_of(b"absent"), f"{uuid.UUID(int=1)}:1:0"):
        answer = await refused(users(edge).Get(pb.GetArtifactRequest(id=absent), timeout=PATIENCE))
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ARTIFACT")


async def test_the_janitor_removes_what_is_old_and_never_what_is_needed(edge: Edge) -> None:
    run_id, agent = await trained(edge)
    stores = edge.backend.stores
    stray = await stores.objects.put(b"nobody's")
    keen = Retention(artifacts=1, unpublished=-60_000_000, runs=0)
    janitor = Janitor(edge.backend.supervisor, keen, Pace(interval=0, pause=0))
    edge.backend.supervisor.confirmed._times.clear()
    foretold = await janitor.run_once(dry_run=True)
    report = await janitor.run_once()
    # The run is live: what it made and was given stays.
    assert (report.artifacts, report.objects, foretold.objects) == (0, 1, 1)
    assert await stores.objects.find(stray) is None
    await agent.succeed(await agent.grant())
    await edge.watch((await edge.runs.Get(runs_pb.GetRunRequest(run_id=run_id), timeout=PATIENCE)).run)
    assert (await janitor.run_once(dry_run=True)).artifacts == 2
    report = await janitor.run_once()
    assert (report.artifacts, report.objects) == (2, 2)
    assert await stores.objects.objects(None, 10) == []
    answer = await refused(users(edge).Get(pb.GetArtifactRequest(id=digest_of(MODEL)), timeout=PATIENCE))
    assert answer.reason == "UNKNOWN_ARTIFACT"


async def test_what_was_promised_is_not_removed(edge: Edge) -> None:
    agent = await edge.agent()
    await edge.start()
    bearer = Bearer(edge, await agent.grant())
    await bearer.upload(DATA)
    janitor = Janitor(edge.backend.supervisor, Retention(unpublished=-1_000_000), Pace(interval=0, pause=0))
    edge.backend.supervisor.confirmed.note(digest_of(DATA), edge.backend.clock.now() + 3_600_000_000)
    assert (await janitor.run_once()).objects == 0
    assert (await bearer.begin(DATA)).present
