"""A whole cluster of real processes: everything starts, everything is kept, nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from examples.chain import chain
from tests.clusters import prepared
from tests.processes import is_alive, processes_of
from tests.waiting import until

from penstock import Client, command, pipeline
from penstock.dev.cluster import DevCluster
from penstock.dev.errors import ChildFailedError, DataFolderBusyError, DevClusterError
from penstock.v1 import coordinator_service_pb2


@pipeline
def patient(begun: str) -> None:
    """`begun`: a file that is there when the step is."""
    command("wait", shell='touch "$PENSTOCK_PARAM_BEGUN" && exec sleep 1000')


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[DevCluster]:
    prepared(tmp_path / "data" / "postgres")
    async with DevCluster(tmp_path / "data", agents=1, slots=1) as cluster:
        yield cluster


async def run_chain(cluster: DevCluster, n: int) -> object:
    async with Client(cluster.address) as client:
        run = await client.start(chain, {"n": n})
        await run.wait(150, raise_on_failure=True)
        return await run.result("subtract")


async def test_runs_survive_the_kill_of_every_process_and_a_second_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with DevCluster(folder, agents=1, slots=1) as cluster:
        assert await run_chain(cluster, 7) == 14
        former = cluster.pids
        assert set(former) == {"postgres", "coordinator", "agent-1"}
        for name in former:
            cluster.kill(name)

        async def all_run_again() -> bool:
            return all(cluster.pids.get(name, former[name]) != former[name] for name in former)

        await until(all_run_again)
        await cluster.ready()
        assert await run_chain(cluster, 1) == 2
    async with DevCluster(folder, agents=0) as cluster, Client(cluster.address) as client:
        assert [run.pipeline async for run in client.list_runs()] == ["chain", "chain"]
    assert processes_of(folder) == []


OWNERSHIP = {"PENSTOCK_OWNERSHIP_LEASE": "3s"}


def owners(found: list[coordinator_service_pb2.Coordinator]) -> list[coordinator_service_pb2.Coordinator]:
    return [each for each in found if each.role == coordinator_service_pb2.COORDINATOR_ROLE_OWNER]


async def the_owner(cluster: DevCluster) -> coordinator_service_pb2.Coordinator:
    async def only_one() -> coordinator_service_pb2.Coordinator | None:
        async with Client(cluster.address) as client:
            found = await client.list_coordinators()
        return owners(found)[0] if len(found) == 2 and len(owners(found)) == 1 else None

    owner = await until(only_one)
    assert owner is not None
    return owner


async def test_of_two_coordinators_one_owns_anew_after_the_owner_is_killed(tmp_path: Path) -> None:
    """It may be the same one: it is started again at once, and does not wait for a lease that was its own."""
    prepared(tmp_path / "data" / "postgres")
    async with DevCluster(tmp_path / "data", agents=1, slots=1, coordinators=2, environment=OWNERSHIP) as cluster:
        assert await run_chain(cluster, 7) == 14
        former = await the_owner(cluster)
        addresses = cluster.address.split(",")
        cluster.kill(cluster.coordinator_names[addresses.index(former.address)])

        async def is_owned_anew() -> bool:
            return (await the_owner(cluster)).epoch > former.epoch

        await until(is_owned_anew)
        await cluster.ready()
        assert await run_chain(cluster, 1) == 2


async def test_of_two_coordinators_the_other_takes_over_from_one_that_is_killed(tmp_path: Path) -> None:
    """It stands still first: one that ends is started again, and might be back before the other has waited."""
    prepared(tmp_path / "data" / "postgres")
    async with DevCluster(tmp_path / "data", agents=1, slots=1, coordinators=2, environment=OWNERSHIP) as cluster:
        assert await run_chain(cluster, 7) == 14
        former = (await the_owner(cluster)).address
        (taker,) = set(addresses := cluster.address.split(",")) - {former}
        name = cluster.coordinator_names[addresses.index(former)]
        cluster.kill(name, signal.SIGSTOP)
        async with Client(taker) as client:

            async def is_taken_over() -> bool:
                return [each.address for each in owners(await client.list_coordinators())] == [taker]

            async def is_followed() -> bool:
                found = await client.list_coordinators()
                return len(found) == 2 and [each.address for each in owners(found)] == [taker]

            await until(is_taken_over)
            cluster.kill(name)
            await until(is_followed)
        await cluster.ready()
        assert await run_chain(cluster, 1) == 2


async def test_others_find_the_cluster_by_its_folder(cluster: DevCluster) -> None:
    state = cluster.folder.read_state()
    assert state["address"] == cluster.address
    assert state["pids"] == cluster.pids
    assert state["pid"] == os.getpid()
    password = (cluster.folder.path / "postgres" / "password").read_text().strip()
    assert password in cluster.database_url
    assert password not in state["database_url"]
    with pytest.raises(DataFolderBusyError):
        await DevCluster(cluster.folder.path).start()


async def test_one_process_can_be_held_and_started_again(cluster: DevCluster) -> None:
    await cluster.stop_one("agent-1")
    assert "agent-1" not in cluster.pids
    await cluster.start_one("agent-1")
    await cluster.ready()
    assert await run_chain(cluster, 2) == 4
    with pytest.raises(DevClusterError, match="agent-1"):
        await cluster.stop_one("agent-2")


async def test_start_that_fails_shows_why_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    prepared(folder / "postgres")
    cluster = DevCluster(folder, environment={"PENSTOCK_LEASE_TTL": "soon"})
    with pytest.raises(ChildFailedError, match="coordinator does not become ready") as caught:
        await cluster.start()
    assert "PENSTOCK_LEASE_TTL" in str(caught.value)
    assert processes_of(folder) == []
    assert cluster.folder.read_state() == {}


async def test_a_start_that_is_given_up_while_postgresql_starts_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    cluster = DevCluster(folder)
    starting = asyncio.create_task(cluster.start())

    async def is_under_way() -> bool:
        return (folder / "postgres").exists()

    await until(is_under_way)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    # What a thread was about to start is there after this.
    await asyncio.get_running_loop().shutdown_default_executor()
    assert processes_of(folder) == []
    assert cluster.pids == {}


async def started_command(*options: str, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    typed = [sys.executable, "-m", "penstock", "dev", "--port", "0", "--http-port", "0", *options]
    process = await asyncio.create_subprocess_exec(
        *typed, stdout=asyncio.subprocess.PIPE, env={**os.environ, **(environment or {})}
    )
    assert process.stdout is not None
    async with asyncio.timeout(150):
        while b"is ready" not in (line := await process.stdout.readline()):
            assert line, "penstock dev ended before it was ready"
    return process


async def test_ctrl_c_ends_all_in_order_and_logs_are_of_the_level_asked_for(tmp_path: Path) -> None:
    levels = "error,penstock_agent.runtime=info"
    process = await started_command("--data", str(tmp_path / "data"), "--log-level", levels)
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 0
    assert output.rstrip().endswith(b"stopped")
    assert processes_of(tmp_path / "data") == []
    heard = [(tmp_path / "data" / "logs" / f"{name}.log").read_text() for name in ("coordinator", "agent-1")]
    assert [bool(text) for text in heard] == [False, True], "the level is that of all, but for one logger of the agent"


async def test_second_ctrl_c_does_not_wait_for_steps(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    prepared(folder / "postgres")
    process = await started_command("--data", str(folder))
    state = DevCluster(folder).folder.read_state()
    async with Client(state["address"]) as client:
        begun = tmp_path / "begun"
        await client.start(patient, {"begun": str(begun)})

        async def has_begun() -> bool:
            return begun.exists()

        await until(has_begun)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    async with asyncio.timeout(150):
        while b"stopping" not in await process.stdout.readline():
            assert process.returncode is None
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0

    async def none_left() -> bool:
        return processes_of(folder) == []

    # A step that was killed with its agent is ended by the agent's guardian, a moment later.
    await until(none_left)


async def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    prepared(folder / "postgres")
    process = await started_command("--data", str(folder))
    pids = DevCluster(folder).folder.read_state()["pids"]
    process.kill()
    await process.wait()

    async def all_are_gone() -> bool:
        return not any(is_alive(pid) for pid in pids.values()) and not processes_of(folder)

    await until(all_are_gone)
    async with DevCluster(folder, agents=0):
        pass


async def test_ephemeral_leaves_no_folder(tmp_path: Path) -> None:
    process = await started_command("--ephemeral", "--agents", "0", environment={"TMPDIR": str(tmp_path)})
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 0
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # pathlib's own is refused in async functions
