"""Both SecretServices through real clients: who gets what, and what everybody else is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec, start_edge, stop_edge

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import secret_service_pb2 as agent_pb
from penstock.agent.v1.secret_service_pb2_grpc import SecretServiceStub as AgentSecretServiceStub
from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1 import secret_service_pb2 as pb
from penstock.v1.secret_service_pb2_grpc import SecretServiceStub
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.adapters.secret_cipher import AesGcmCipher

VALUE = "canary-wörd"
NAMES_DB = spec({"name": "a", "secrets": [{"name": "db", "env": "DB"}]}, {"name": "b"})


@pytest.fixture
async def keeper() -> AsyncIterator[Edge]:
    """A coordinator that has a key."""
    stores = memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1)
    made = await start_edge(stores, cipher=AesGcmCipher([bytes(range(32))]))
    yield made
    await stop_edge(made)


async def put(edge: Edge, name: str, value: str = VALUE) -> pb.Secret:
    stub = SecretServiceStub(edge.channel)
    return (await stub.Set(pb.SetSecretRequest(name=name, value=value), timeout=PATIENCE)).secret


async def ask(edge: Edge, grant: wire.LeaseGrant, *names: str, credential: str | None = None) -> list[tuple[str, str]]:
    request = agent_pb.GetSecretsRequest(
        lease=grant.lease, credential=grant.credential if credential is None else credential, names=names
    )
    response = await AgentSecretServiceStub(edge.channel).Get(request, timeout=PATIENCE)
    return [(each.name, each.value) for each in response.secrets]


async def grants(edge: Edge) -> dict[str, wire.LeaseGrant]:
    agent = await edge.agent()
    await edge.start(NAMES_DB)
    both = [await agent.grant(), await agent.grant()]
    return {grant.step_name: grant for grant in both}


async def test_an_attempt_gets_what_its_step_names_while_its_lease_lives(keeper: Edge) -> None:
    await put(keeper, "db")
    await put(keeper, "other")
    granted = await grants(keeper)
    a, b = granted["a"], granted["b"]
    assert [(use.name, use.env) for use in a.task_spec.secrets] == [("db", "DB")]
    assert VALUE not in str(a)
    assert await ask(keeper, a, "db") == [("db", VALUE)]
    denied = [
        (ask(keeper, a, "db", "other"), "SECRET_NOT_NAMED"),
        (ask(keeper, b, "db"), "SECRET_NOT_NAMED"),
        (ask(keeper, a, "db", credential=b.credential), "WRONG_CREDENTIAL"),
        (ask(keeper, a, "db", credential=""), "WRONG_CREDENTIAL"),
    ]
    for call, reason in denied:
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, reason)
        assert VALUE not in answer.message
    agent = keeper.agents[0]
    await agent.acked(await agent.succeed(a))
    over = await refused(ask(keeper, a, "db"))
    assert (over.code, over.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_OVER")


async def test_what_the_coordinator_does_not_have_is_left_out(keeper: Edge) -> None:
    assert await ask(keeper, (await grants(keeper))["a"], "db") == []


async def test_names_and_times_are_listed_and_no_value_is_ever_answered(keeper: Edge) -> None:
    stub = SecretServiceStub(keeper.channel)
    for name in ("b", "a", "c"):
        made = await put(keeper, name)
        assert VALUE not in str(made)
    page = await stub.List(pb.ListSecretsRequest(page_size=2), timeout=PATIENCE)
    rest = await stub.List(pb.ListSecretsRequest(page_size=2, page_token=page.next_page_token), timeout=PATIENCE)
    assert [each.name for each in (*page.secrets, *rest.secrets)] == ["a", "b", "c"]
    assert rest.next_page_token == ""
    first = page.secrets[0].create_time.ToMicroseconds()
    changed = await put(keeper, "a", "another")
    assert changed.create_time.ToMicroseconds() == first < changed.update_time.ToMicroseconds()
    await stub.Delete(pb.DeleteSecretRequest(name="a"), timeout=PATIENCE)
    gone = await refused(stub.Delete(pb.DeleteSecretRequest(name="a"), timeout=PATIENCE))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SECRET")


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [("", VALUE, "name"), ("a b", VALUE, "name"), ("a", "", "value"), ("a", "abc", "value"), ("a", "ab\0cd", "value")],
)
async def test_what_cannot_be_kept_is_named(keeper: Edge, name: str, value: str, field: str) -> None:
    answer = await refused(put(keeper, name, value))
    assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(answer.violations) == [field]


async def test_a_value_that_is_too_large_is_refused_without_being_shown(keeper: Edge) -> None:
    answer = await refused(put(keeper, "a", VALUE * 2_000))
    assert "16,384" in answer.message
    assert VALUE not in answer.message


async def test_without_a_key_the_remedy_is_told(edge: Edge) -> None:
    for call in (put(edge, "db"), SecretServiceStub(edge.channel).Rotate(pb.RotateSecretsRequest(), timeout=PATIENCE)):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_SECRETS_KEY")
        assert "penstock secrets new-key" in answer.message
        assert "PENSTOCK_SECRETS_KEY" in answer.message


@pytest.mark.parametrize(
    ("secrets", "field"),
    [
        ([{"name": ""}], "steps[0].secrets[0].name"),
        ([{"name": "../x"}], "steps[0].secrets[0].name"),
        ([{"name": "a"}, {"name": "a"}], "steps[0].secrets[1].name"),
        ([{"name": "a", "env": "X"}, {"name": "b", "env": "X"}], "steps[0].secrets[1].env"),
        ([{"name": "a", "env": "1X"}], "steps[0].secrets[0].env"),
        ([{"name": "a", "env": "PENSTOCK_X"}], "steps[0].secrets[0].env"),
        ([{"name": "a", "env": "TAKEN"}], "steps[0].secrets[0].env"),
        ([{"name": "a", "file": "../../x"}], "steps[0].secrets[0].file"),
        ([{"name": "a", "file": ".."}], "steps[0].secrets[0].file"),
        ([{"name": f"s{number}"} for number in range(65)], "steps[0].secrets"),
    ],
)
async def test_a_wrong_use_is_named(edge: Edge, secrets: list[dict[str, str]], field: str) -> None:
    wrong = spec({"name": "a", "secrets": secrets, "env": {"TAKEN": "x"}})
    answer = await refused(edge.pipelines.Create(pipelines_pb.CreatePipelineRequest(spec=wrong), timeout=PATIENCE))
    assert list(answer.violations) == [field]


async def test_defaults_are_merged_by_name(keeper: Edge) -> None:
    made = spec(
        {"name": "a", "secrets": [{"name": "x", "env": "OWN"}]},
        defaults={"secrets": [{"name": "x", "env": "SHARED"}, {"name": "y"}]},
    )
    agent = await keeper.agent()
    await keeper.start(made)
    grant = await agent.grant()
    assert [(use.name, use.env) for use in grant.task_spec.secrets] == [("x", "OWN"), ("y", "")]


async def test_whoever_submits_is_warned_of_secrets_that_are_not_kept(keeper: Edge) -> None:
    await put(keeper, "kept")
    made = spec(
        {"name": "a", "secrets": [{"name": "kept"}, {"name": "lost"}]},
        {"name": "b", "secrets": [{"name": "lost"}]},
    )
    told = (
        'The steps "a" and "b" name the secret "lost", which the coordinator does not keep: their attempts fail unless'
        " the agent has it of its own (PENSTOCK_SECRET_LOST, or a file lost in PENSTOCK_AGENT_SECRETS_DIR)."
        " `penstock secrets set lost` gives it to the coordinator."
    )
    validate = pipelines_pb.ValidatePipelineRequest(spec=made)
    assert list((await keeper.pipelines.Validate(validate, timeout=PATIENCE)).warnings) == [told]
    assert list((await keeper.create(made)).warnings) == [told]
    request = runs_pb.StartRunRequest(pipeline="p", request_id="same")
    many = runs_pb.StartManyRunsRequest(requests=[runs_pb.StartRunRequest(pipeline="p")] * 2)
    for _ in range(2):
        assert list((await keeper.runs.Start(request, timeout=PATIENCE)).warnings) == [told]
    assert list((await keeper.runs.StartMany(many, timeout=PATIENCE)).warnings) == [told]
    await put(keeper, "lost")
    assert not (await keeper.pipelines.Validate(validate, timeout=PATIENCE)).warnings
    assert not (await keeper.create(made)).warnings
    assert not (await keeper.runs.Start(request, timeout=PATIENCE)).warnings
    assert not (await keeper.runs.StartMany(many, timeout=PATIENCE)).warnings


async def test_warnings_are_few_however_many_secrets_are_missing(keeper: Edge) -> None:
    made = spec({"name": "a", "secrets": [{"name": f"s{number:02}"} for number in range(23)]})
    *first, last = (await keeper.create(made)).warnings
    assert len(first) == 20
    assert 'the secret "s00"' in first[0]
    assert last == "So it is with 3 more secrets that steps name."
