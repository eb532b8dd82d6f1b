"""The asynchronous client against the wire."""

from __future__ import annotations

import asyncio
import socket
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.sdk import peer as wire
from tests.integration.sdk.peer import Fault, Peer
from tests.tcp_proxy import TcpProxy

from penstock import errors
from penstock.cli.loading import load_pipeline
from penstock.client.client import Client
from penstock.dev.ports import take_port
from penstock.v1 import agent_admin_service_pb2, pipeline_pb2, run_pb2

EXAMPLES = Path(__file__).parents[3] / "examples"
SLOW_HANDSHAKE = 0.5
"""Seconds that a connection takes to come about."""


def spec(name: str = "demo", *steps: str) -> pipeline_pb2.PipelineSpec:
    return pipeline_pb2.PipelineSpec(
        name=name,
        steps=[
            pipeline_pb2.StepSpec(name=step, command=pipeline_pb2.CommandAction(argv=["true"]))
            for step in steps or ("a",)
        ],
    )


async def test_a_python_pipeline_is_bundled_uploaded_once_created_and_started(peer: Peer, client: Client) -> None:
    from penstock.cli.loading import import_file

    chain = import_file(EXAMPLES / "chain.py").chain
    first = await client.start(chain, {"n": 7}, labels={"who": "test"}, priority=-5, weight=0.5)
    second = await client.start(chain, {"n": 8})

    (digest,) = peer.bundles
    assert peer.pipelines["chain"][0].spec.bundle_digest == digest
    assert len(peer.called("Upload")) == 1
    assert len(peer.pipelines["chain"]) == 1
    assert (first.id, second.id) == ("run-1", "run-2")
    assert peer.runs["run-1"].parameters["n"].number_value == 7
    assert dict(peer.runs["run-1"].labels) == {"who": "test"}
    assert (peer.runs["run-1"].priority, peer.runs["run-1"].weight) == (-5, 0.5)
    with tarfile.open(fileobj=BytesIO(peer.bundles[digest])) as archive:
        assert "chain.py" in archive.getnames()


async def test_what_a_pipeline_calls_is_created_before_it(peer: Peer, client: Client) -> None:
    from penstock.cli.loading import import_file

    regions = import_file(EXAMPLES / "regions.py").regions
    version = await client.create_pipeline(regions, request_id="mine")
    assert (version.pipeline, version.number) == ("regions", 1)
    called, own = peer.called("Create")
    assert (called.spec.name, own.spec.name, own.request_id) == ("region", "regions", "mine")
    assert called.request_id not in ("", "mine")
    assert called.spec.bundle_digest == own.spec.bundle_digest
    assert len(peer.called("Upload")) == 1
    peer.problems = [("steps", "at least one step is needed")]
    found = await client.validate(regions)
    assert [field for field, _ in found] == ["region: steps", "steps"]


async def test_the_output_of_a_run(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    assert await handle.output() is None
    peer.runs[handle.id].output_json = '{"n": [1, 2.5, null]}'
    assert await client.output(handle.id, 60) == {"n": [1, 2.5, None]}


async def test_a_large_bundle_travels_in_chunks_of_a_mebibyte(peer: Peer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text(
        "from penstock import pipeline, step\n@step\ndef a(): ...\n@pipeline\ndef p(): a()\n"
    )
    (tmp_path / "data.bin").write_bytes(bytes(3 * 2**20))
    loaded = load_pipeline(str(tmp_path / "step.py"))
    assert loaded.bundle is not None
    assert await client.upload_bundle(loaded.bundle)
    assert not await client.upload_bundle(loaded.bundle)
    (messages,) = peer.called("Upload")
    assert max(len(message.chunk) for message in messages) == 2**20
    assert [bool(message.digest) for message in messages] == [True, False, False, False]


async def test_an_answer_that_is_lost_starts_no_second_run(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    peer.fail("Start", Fault(grpc.StatusCode.UNAVAILABLE, after=True), Fault(grpc.StatusCode.UNAVAILABLE))
    handle = await client.start("demo")
    assert handle.id == "run-1"
    assert list(peer.runs) == ["run-1"]
    tries = peer.called("Start")
    assert len(tries) == 3
    assert len({request.request_id for request in tries}) == 1


async def test_a_retry_delay_of_the_coordinator_is_kept(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    peer.fail("Start", Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (wire.retry_info(0.3),)))
    loop = asyncio.get_running_loop()
    before = loop.time()
    await client.start("demo")
    assert loop.time() - before >= 0.3


async def test_a_limit_without_a_delay_is_an_error_at_once(peer: Peer, client: Client) -> None:
    peer.fail("Create", Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many pipelines"))
    with pytest.raises(errors.ResourceExhaustedError, match="too many pipelines") as caught:
        await client.create_pipeline(spec())
    assert caught.value.retry_after is None
    assert len(peer.called("Create")) == 1


async def test_a_retry_delay_past_the_deadline_is_reported(peer: Peer) -> None:
    peer.fail("GetRun", Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (wire.retry_info(60),)))
    async with Client(peer.address, deadline=1) as client:
        with pytest.raises(errors.ResourceExhaustedError) as caught:
            await client.get_run("run-1")
    assert caught.value.retry_after == 60


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, errors.NotFoundError),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgumentError),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExistsError),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPreconditionError),
        (grpc.StatusCode.OUT_OF_RANGE, errors.OutOfRangeError),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDeniedError),
        (grpc.StatusCode.UNAUTHENTICATED, errors.UnauthenticatedError),
        (grpc.StatusCode.UNIMPLEMENTED, errors.UnimplementedError),
        (grpc.StatusCode.INTERNAL, errors.InternalError),
        (grpc.StatusCode.DATA_LOSS, errors.ServiceError),
    ],
)
async def test_each_code_is_an_error_of_its_own(
    peer: Peer, client: Client, code: grpc.StatusCode, kind: type[errors.ServiceError]
) -> None:
    peer.fail("GetRun", Fault(code, "no", (wire.error_info("WHY", run="x"), wire.bad_request("run_id", "mend it"))))
    with pytest.raises(errors.ServiceError) as caught:
        await client.get_run("x")
    assert type(caught.value) is kind
    assert caught.value.code == code.name
    assert caught.value.reason == "WHY"
    assert caught.value.metadata == {"run": "x"}
    assert caught.value.violations == [("run_id", "mend it")]
    assert "run_id: mend it" in str(caught.value)


async def test_nobody_at_the_address_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and it does not listen: nobody else will, either
        async with Client(f"127.0.0.1:{taken.getsockname()[1]}", retry_for=0.5) as client:
            with pytest.raises(errors.UnavailableError, match="PENSTOCK_ADDRESS"):
                await client.get_run("x")


async def test_a_coordinator_that_comes_back_within_the_deadline_is_not_noticed() -> None:
    peer, port = Peer(), take_port(0, "")
    async with Client(f"127.0.0.1:{port}", deadline=60) as client:
        creating = asyncio.create_task(client.create_pipeline(spec()))
        async with wire.serving(peer, port):
            version = await creating
    assert version.number == 1


async def test_the_api_key_is_sent_with_calls_and_streams(peer: Peer) -> None:
    async with Client(peer.address, api_key="k-1") as client:
        await client.create_pipeline(spec())
        handle = await client.start("demo")
        await handle.wait()
    assert {sent.get("authorization") for sent in peer.metadata} == {"Bearer k-1"}


async def test_watch_gives_every_event_once_over_broken_connections(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec("demo", "a", "b", "c"))
    handle = await client.start("demo")
    peer.breaks.extend([2, 0, 3, -1])
    numbers = [event.number async for event in handle.watch()]
    assert numbers == list(range(1, 9))
    assert [request.from_event for request in peer.called("Watch")] == [1, 3, 3, 6, 7]


async def test_watch_resumes_from_an_event_and_ends_for_a_run_at_rest(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    assert [event.number async for event in handle.watch(3)] == [3, 4]
    assert [event.number async for event in handle.watch(4)] == [4]


async def test_watch_of_an_unknown_run_is_an_error(client: Client) -> None:
    with pytest.raises(errors.NotFoundError):
        _ = [event async for event in client.watch("nope")]


async def test_wait_returns_the_run_at_rest(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    run = await handle.wait(raise_on_failure=True)
    assert run.state == run_pb2.RUN_STATE_COMPLETED
    assert (await handle.wait()).state == run_pb2.RUN_STATE_COMPLETED
    assert await handle.result("a") == "a"


async def test_wait_past_its_timeout_leaves_the_run_alone(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    peer.gate = asyncio.Event()
    with pytest.raises(errors.WaitTimeoutError, match="run-1"):
        await handle.wait(0.2)
    peer.gate.set()
    assert (await handle.wait()).state == run_pb2.RUN_STATE_COMPLETED


async def test_waits_that_begin_together_share_a_call(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handles = await client.start_many("demo", [{}] * 5)
    runs = await asyncio.gather(*(handle.wait() for handle in (*handles, handles[0])))
    assert [run.id for run in runs] == [handle.id for handle in (*handles, handles[0])]
    (request,) = peer.called("WaitMany")
    assert list(request.run_ids) == [handle.id for handle in handles]


async def test_a_shared_wait_goes_on_over_broken_connections_with_those_that_are_left(
    peer: Peer, client: Client
) -> None:
    await client.create_pipeline(spec())
    handles = await client.start_many("demo", [{}] * 3)
    peer.breaks.extend([None, 0, None, -1])
    runs = await asyncio.gather(*(handle.wait() for handle in handles))
    assert [run.id for run in runs] == ["run-1", "run-2", "run-3"]
    asked = [list(request.run_ids) for request in peer.called("WaitMany")]
    assert asked == [["run-1", "run-2", "run-3"], ["run-2", "run-3"], ["run-3"]]


async def test_an_unknown_run_does_not_end_the_waits_beside_it(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    run, error = await asyncio.gather(handle.wait(), client.wait("nope"), return_exceptions=True)
    assert isinstance(run, run_pb2.Run)
    assert run.state == run_pb2.RUN_STATE_COMPLETED
    assert isinstance(error, errors.NotFoundError)


async def test_waits_that_are_given_up_end_their_call(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handles = await client.start_many("demo", [{}] * 2)
    peer.gate = asyncio.Event()
    waits = [asyncio.create_task(handle.wait()) for handle in handles]
    await peer.gated.wait()
    (call,) = client._waits._tasks
    for wait in waits:
        wait.cancel()
    await asyncio.wait({call, *waits})
    assert call.cancelled()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (run_pb2.RUN_STATE_FAILED, errors.RunFailedError),
        (run_pb2.RUN_STATE_CANCELLED, errors.RunCancelledError),
    ],
)
async def test_wait_can_raise(
    peer: Peer, client: Client, state: run_pb2.RunState.ValueType, kind: type[errors.RunFailedError]
) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    peer.events["run-1"] = [wire.event(1, state=state, reason="step a failed")]
    with pytest.raises(errors.RunFailedError, match="step a failed") as caught:
        await handle.wait(raise_on_failure=True)
    assert type(caught.value) is kind
    assert caught.value.run.id == "run-1"


async def test_a_result_that_is_not_there_yet_names_the_state(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    step_run = peer.step_runs["run-1"][0]
    step_run.state = run_pb2.STEP_RUN_STATE_FAILED
    step_run.failure.reason, step_run.failure.message = "UserError", "division by zero"
    with pytest.raises(errors.StepNotCompletedError, match="FAILED: division by zero") as caught:
        await handle.result("a")
    assert caught.value.state == "FAILED"
    assert caught.value.failure is not None
    assert caught.value.failure.reason == "UserError"


async def test_outputs_keep_all_digits(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    peer.step_runs["run-1"][0].output_json = '{"id": 123456789012345678901}'
    assert await handle.result("a") == {"id": 123456789012345678901}


@pytest.mark.parametrize("value", [2**53 + 1, float("nan"), {1, 2}, {1: "a"}, "\ud800"])
async def test_a_value_that_cannot_be_sent_is_refused_before_the_call(
    peer: Peer, client: Client, value: object
) -> None:
    with pytest.raises(errors.ParameterError, match=r"parameters\.n"):
        await client.start("demo", {"n": value})
    assert not peer.calls


@pytest.mark.parametrize(("field", "value"), [("priority", 1_001), ("weight", 0.0), ("weight", float("nan"))])
async def test_an_order_out_of_bounds_is_refused_before_the_call(
    peer: Peer, client: Client, field: str, value: Any
) -> None:
    with pytest.raises(errors.ParameterError, match=f"^{field}: .* is out of bounds"):
        await client.start("demo", **{field: value})
    assert not peer.calls


async def test_many_runs_start_in_one_call(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    sets = [{"n": 1}, {"n": 2}, {"n": 3}]
    handles = await client.start_many("demo", sets, labels={"batch": "x"}, priority=9, weight=2)
    assert {(run.priority, run.weight) for run in peer.runs.values()} == {(9, 2.0)}
    assert [handle.id for handle in handles] == ["run-1", "run-2", "run-3"]
    (request,) = peer.called("StartMany")
    assert len({each.request_id for each in request.requests}) == 3
    with pytest.raises(errors.ParameterError, match="request_ids"):
        await client.start_many("demo", [{}], request_ids=["a", "b"])


async def test_lists_go_over_their_pages(peer: Peer, client: Client) -> None:
    peer.page_size = 2
    for name in ("a", "b", "c", "d", "e"):
        await client.create_pipeline(spec(name))
        await client.start(name)
    assert [pipeline.name async for pipeline in client.list_pipelines()] == ["a", "b", "c", "d", "e"]
    assert [run.pipeline async for run in client.list_runs()] == ["e", "d", "c", "b", "a"]
    assert [run.pipeline async for run in client.list_runs(limit=3)] == ["e", "d", "c"]
    assert [version.number async for version in client.list_versions("a")] == [1]


async def test_logs_resume_without_doubled_lines(peer: Peer, client: Client) -> None:
    peer.lines = [wire.line("a", number, f"line {number}") for number in range(1, 7)]
    peer.breaks.extend([2, 4])
    texts = [line.text async for line in client.logs("run-1", follow=True)]
    assert texts == [f"line {number}" for number in range(1, 7)]
    assert len(peer.called("TailLogs")) == 3


async def test_a_tail_that_breaks_brings_no_older_lines(peer: Peer, client: Client) -> None:
    peer.lines = [wire.line("b", 1, "old"), *[wire.line("a", number, f"line {number}") for number in range(2, 7)]]
    peer.breaks.append(1)
    texts = [line.text async for line in client.logs("run-1", follow=True, tail=3)]
    assert texts == ["line 4", "line 5", "line 6"]
    assert [request.tail_lines for request in peer.called("TailLogs")] == [3, 0]


async def test_cancel_delete_and_validate(peer: Peer, client: Client) -> None:
    await client.create_pipeline(spec())
    handle = await client.start("demo")
    run = await handle.cancel(now=True, reason="enough")
    assert run.state == run_pb2.RUN_STATE_CANCELLED
    (request,) = peer.called("Cancel")
    assert (request.reason, bool(request.request_id)) == ("enough", True)
    await client.delete_pipeline("demo")
    assert not peer.pipelines
    peer.problems = [("steps", "at least one step is needed")]
    assert await client.validate(spec()) == peer.problems


async def test_agents(peer: Peer, client: Client) -> None:
    peer.agents = [agent_admin_service_pb2.Agent(id="one"), agent_admin_service_pb2.Agent(id="two")]
    assert [agent.id async for agent in client.list_agents()] == ["one", "two"]
    assert (await client.get_agent("two")).id == "two"
    drained = await client.drain_agent("one", 1.5)
    assert drained.state == agent_admin_service_pb2.AGENT_STATE_DRAINING
    assert peer.called("Drain")[0].deadline.ToMilliseconds() == 1_500


async def test_a_closed_client_can_be_used_again(peer: Peer) -> None:
    client = Client(peer.address)
    await client.create_pipeline(spec())
    await client.close()
    assert (await client.get_pipeline("demo")).version.number == 1
    await client.close()


async def test_what_is_warned_of_is_logged_once(peer: Peer, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    peer.warnings = ["a", "b"]
    await client.create_pipeline(spec())
    await client.start("demo")
    await client.start_many("demo", [{}, {}])
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [("WARNING", "a"), ("WARNING", "b")]
    peer.warnings = ["c"]
    await client.start_many("demo", [{}])
    assert [each.getMessage() for each in caplog.records][2:] == ["c"]


async def test_a_connection_that_is_slow_to_come_about_fails_no_call(peer: Peer) -> None:
    host, port = peer.address.split(":")
    async with TcpProxy(host, int(port)) as proxy:
        proxy.hold_connections()
        async with Client(f"{host}:{proxy.port}", deadline=60, retry_for=0) as client:
            created = asyncio.create_task(client.create_pipeline(spec()))
            let_go = await asyncio.wait_for(proxy.held.get(), 60)
            done, _ = await asyncio.wait({created}, timeout=SLOW_HANDSHAKE)
            assert not done, "it waits"
            let_go.set()
            assert (await asyncio.wait_for(created, 60)).pipeline == "demo"
