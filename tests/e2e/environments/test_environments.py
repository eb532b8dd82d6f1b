"""Steps with requirements, on a whole system with one agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tests.clusters import prepared
from tests.e2e.environments.building import environment_flows as flows
from tests.packages import make_gated_source, make_wheel, without_index
from tests.waiting import until

from penstock import Client
from penstock.dev.cluster import DevCluster
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from penstock.client.handles import RunHandle

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 120.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gate: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    folder = tmp_path_factory.mktemp("packages")
    for version in ("1.0", "2.0"):
        make_wheel(folder / "wheels", "tiny", version)
    make_gated_source(folder / "wheels", "gated", "1.0")
    given = {**without_index(folder, folder / "wheels"), "BUILD_GATE": str(gate)}
    home = tmp_path_factory.mktemp("dev")
    prepared(home / "postgres")
    async with (
        DevCluster(home, agents=1, slots=4, environment=given) as cluster,
        Client(cluster.address) as made,
    ):
        yield made


async def ended(run: RunHandle) -> run_pb2.Run:
    async with asyncio.timeout(PATIENCE):
        return await run.wait()


async def lines(client: Client, run: RunHandle, text: str) -> list[str]:
    """Of the log of a run at rest, those that have the text. They may come after the end of the run: it is followed."""
    return [line.text async for line in client.logs(run.id, follow=True) if text in line.text]


async def test_conflicting_versions_in_one_run_and_nothing_is_built_twice(client: Client) -> None:
    for built in (2, 0):
        run = await client.start(flows.conflicting)
        assert (await ended(run)).state == run_pb2.RUN_STATE_COMPLETED
        assert await run.output() == "1.0 2.0 1.0"
        assert len(await lines(client, run, "the environment is ready")) == (3 if built else 0)


async def test_a_build_is_explained_while_it_goes_on_and_ten_items_wait_for_one(client: Client, gate: Path) -> None:
    run = await client.start(flows.gated)

    async def told() -> str:
        explained = await run.explain()
        return next((r.message for step in explained.steps for r in step.reasons if r.kind == "Preparing"), "")

    assert "its environment is being built" in await until(told, PATIENCE)
    (gate / "open").touch()
    assert (await ended(run)).state == run_pb2.RUN_STATE_COMPLETED
    assert await run.output() == ["1.0"] * 10
    assert len((gate / "began").read_text().splitlines()) == 1


async def test_a_failed_build_is_charged_to_the_steps_retries(client: Client) -> None:
    run = await client.start(flows.impossible)
    at_rest = await ended(run)
    assert at_rest.state == run_pb2.RUN_STATE_FAILED
    (step,) = [each async for each in client.list_step_runs(run.id)]
    assert (step.failure.reason, step.attempt_count) == ("Environment", 2)
    assert "nowhere" in step.failure.message


async def test_requirements_that_no_agent_can_have_are_refused(client: Client) -> None:
    from penstock import command, pipeline
    from penstock.errors import ServiceError

    @pipeline(name="refused", bundle=False)
    def refused() -> None:
        command(name="a", shell="true", requirements=["tiny", "./mine"])

    with pytest.raises(ServiceError, match="is a path, which agents do not have") as error:
        await client.start(refused)
    assert "steps[0].environment.python.requirements[1]" in str(error.value)
